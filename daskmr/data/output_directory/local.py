"""An output directory on a file system: written beside the target, and swapped with it."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from daskmr.data.output_directory.base import OutputDirectory
from daskmr.data.output_directory.names import BAD, META, SUCCESS, explain_foreign
from daskmr.errors import InputError, JobError
from daskmr.files import locked, sync_folder, take_access, try_lock
from daskmr.job.contexts import is_output_name
from daskmr.normal_forms import hint
from daskmr.workdir import NOTHING_REPLACED, disk_error

__all__ = ["LocalDirectory", "check_target"]

_ADVICE = "Name another one with --output."
_LONGEST_NAME = 200  # bytes of the name of the target in that of the staging directory
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # of Linux
_CANNOT_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
_TRIES_TO_REMOVE = 20


class LocalDirectory(OutputDirectory):
    """A directory beside `target`, which `commit` puts in its place; see `OutputDirectory`.

    It is locked until then; the next run to the same target removes it if this process dies.
    Raises `InputError` if `target` cannot be replaced, or holds files of others.
    """

    place: str

    def __init__(self, target: str, suffix: str, run_id: str) -> None:
        super().__init__(target, os.path.realpath(target), suffix)
        self.there = check_target(target)
        self._parent, name = os.path.split(self.path)
        short = os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])
        self.place = os.path.join(self._parent, f".{short}.{run_id}.tmp")
        first = min((each for each in self.there if each.startswith("part-")), default=None)
        try:
            if first is not None:
                self.like = os.stat(os.path.join(self.path, first))
            with locked(self._parent):
                _sweep(self._parent, short, self.path)
                os.mkdir(self.place, 0o700 if os.path.isdir(self.path) else 0o777)
                self._lock = os.open(self.place, os.O_RDONLY)
        except OSError as error:
            raise InputError(
                f"The output cannot be written to {self._parent!r} ({error.strerror}). {_ADVICE}"
            ) from None
        with suppress(OSError):  # not all file systems have locks of directories
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def publish(self) -> None:
        """Mark the directory as complete, under its temporary name."""
        kept = {META, BAD, *(part.name for part in self.all_parts)}
        folders = [*self.named, ""]
        with self._failing():
            for folder in folders:
                place = os.path.join(self.place, folder)
                for name in os.listdir(place):
                    if os.path.join(folder, name) not in {*kept, *folders}:
                        os.unlink(os.path.join(place, name))  # of a worker that was killed
                with open(os.path.join(place, SUCCESS), "xb") as file:
                    os.fsync(file.fileno())
                if folder:
                    sync_folder(place)
            if os.path.isdir(self.path):
                take_access(self._lock, [os.stat(self.path)])
            sync_folder(self.place)

    def commit(self) -> None:
        problem = _explain_foreign(self.name, self.path)
        if problem:
            raise JobError(f"{problem} Nothing was written.")
        with self._failing():
            if not os.path.lexists(self.path):
                os.rename(self.place, self.path)
            elif not os.path.isdir(self.path):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)
            elif not _exchange(self.place, self.path):
                self._replace()
            sync_folder(self._parent)
        # The earlier one, which has the temporary name now, is removed by `discard`.

    def _replace(self) -> None:
        """Replace the earlier directory by two renames, between which there is none."""
        aside = self.place.removesuffix(".tmp") + ".old"
        os.rename(self.path, aside)
        try:
            os.rename(self.place, self.path)
        except BaseException:
            os.rename(aside, self.path)
            raise
        os.rename(aside, self.place)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, self.path, "the output", NOTHING_REPLACED) from None

    def discard(self) -> None:
        for _ in range(_TRIES_TO_REMOVE):  # a task that ends just now may write one more file
            shutil.rmtree(self.place, ignore_errors=True)
            if not os.path.lexists(self.place):
                break
        with suppress(OSError):
            os.close(self._lock)
        self._lock = -1


def check_target(name: str) -> tuple[str, ...]:
    """Return the files of the earlier output; raise InputError if it cannot be replaced."""
    path = os.path.realpath(name)
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        raise InputError(
            f"The output's directory {parent!r} does not exist. Create it first.{hint(parent)}"
        )
    if not os.path.lexists(path):
        return ()
    if not os.path.isdir(path):
        raise InputError(
            f"The output {name!r} is a file, not a directory. Remove it, or name it without the / at "
            "its end."
        )
    try:
        there = tuple(os.listdir(path))
        is_fixed = os.path.ismount(path) or os.path.samefile(path, ".")
    except OSError as error:
        raise InputError(
            f"The output {name!r} cannot be read ({error.strerror}). {_ADVICE}"
        ) from None
    problem = _explain_foreign(name, path)
    if not problem and is_fixed:
        problem = (
            f"The output directory {name!r} is a mount point, or the current directory, which cannot "
            f"be replaced. Name one below it, as {name}result/."
        )
    if problem:
        raise InputError(problem)
    return there


def _explain_foreign(name: str, path: str) -> str:
    return explain_foreign(name, _files_in(path) if os.path.isdir(path) else ())


def _files_in(path: str) -> Iterator[str]:
    for entry in os.scandir(path):
        if entry.is_dir(follow_symlinks=False) and is_output_name(entry.name):
            within = [*os.scandir(entry.path)]
            for each in within:
                yield f"{entry.name}/{each.name}" + "/" * (not each.is_file(follow_symlinks=False))
            if not within:
                yield f"{entry.name}/"
        else:  # another directory, or a link, is never one of the parts
            yield entry.name + "/" * (not entry.is_file(follow_symlinks=False))


def _sweep(parent: str, name: str, target: str) -> None:
    """Remove what dead runs have left; call it with the parent locked."""
    pattern = re.compile(re.escape(f".{name}.") + r"[0-9a-f]{12}\.(tmp|old)")
    for entry in os.scandir(parent):
        if not pattern.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
            continue
        with suppress(OSError), ExitStack() as stack:
            descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            stack.callback(os.close, descriptor)
            if not try_lock(descriptor):
                continue
            if entry.name.endswith(".old") and not os.path.lexists(target):
                os.rename(entry.path, target)  # the run died while it replaced the directory
            else:
                shutil.rmtree(entry.path)


def _exchange(one: str, other: str) -> bool:
    """Swap two directories atomically; return False where the system cannot."""
    import ctypes  # deferred: few jobs need it

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if not rename(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE):
        return True
    code = ctypes.get_errno()
    if code in _CANNOT_EXCHANGE:
        return False
    raise OSError(code, os.strerror(code), other)
