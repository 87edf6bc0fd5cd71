"""Files that appear complete: written and locked in a folder beside the cache, then renamed.

The name of a file that is being written depends on its place alone, so that its lock is the claim
on that place: no two processes fetch the same object, and what is not locked was left by a dead one.
"""

from __future__ import annotations

import errno
import glob
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_UN, flock
from functools import partial
from hashlib import blake2b

from daskmr.data.paths import Unplaceable, encode_path, fold, split_path
from daskmr.errors import JobError
from daskmr.files import is_at, is_case_blind, sweep, try_lock
from daskmr.workdir import disk_error

__all__ = ["Staged", "Staging"]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_THERE = "a directory is in its place; remove it"
_ATTEMPTS = 100  # at steps that other processes undo at the same moment


class Staging:
    """The way of files into one folder.

    - `root`: the folder, created at its first use. It may be a link itself.
    - `folder`: where files are until they are complete: beside the root, on the same disk.
    - `case_blind`: whether the file system ignores the case of names.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        real = os.path.realpath(root)
        self.folder = real + "-partial"
        self.case_blind = is_case_blind(os.path.dirname(real))

    def claim(self, path: str) -> Staged | None:
        """Claim the place `path` below the root, with an empty file to write.

        Returns ``None`` while another has the claim.
        Raises `Unplaceable` when no file can be at `path`.
        Raises `JobError` when the disk refuses.
        """
        split_path(path)
        where = self._staged_path(path)
        for _ in range(_ATTEMPTS):
            descriptor = self._open(where)
            try:
                if not try_lock(descriptor):
                    os.close(descriptor)
                    return None
                if is_at(descriptor, where):
                    if _is_alone(descriptor):
                        os.ftruncate(descriptor, 0)
                        return Staged(self, path, where, descriptor)
                    os.unlink(where)  # it was planted
                os.close(descriptor)  # it was put in place or removed meanwhile
            except OSError as error:
                os.close(descriptor)
                raise disk_error(error, where, "the cache") from None
        raise JobError(
            f"{where} is no file of its own, so nothing can be fetched. Remove it: daskmr does not "
            "make such files."
        )

    def _open(self, where: str) -> int:
        """Open, or make, a file in the folder, neither of which may be a link."""
        for _ in range(_ATTEMPTS):
            try:
                os.makedirs(self.folder, exist_ok=True)
                folder = os.open(self.folder, _DIRECTORY | os.O_NOFOLLOW)
                try:
                    name = os.path.basename(where)
                    return os.open(name, _FILE | os.O_CREAT, 0o666, dir_fd=folder)
                finally:
                    os.close(folder)
            except FileNotFoundError:
                continue  # the folder was removed meanwhile
            except OSError as error:
                if os.path.islink(self.folder):
                    reason = f"{self.folder} is a link, which is not followed. Remove it."
                    raise JobError(reason) from None
                if error.errno != errno.ELOOP:
                    raise disk_error(error, where, "the cache") from None
                with suppress(FileNotFoundError):
                    os.unlink(where)  # a planted link
        raise JobError(f"{self.folder} is removed all the time, so nothing can be fetched.")

    def _staged_path(self, path: str) -> str:
        place = encode_path(fold(path) if self.case_blind else path)
        return os.path.join(self.folder, blake2b(place, digest_size=20).hexdigest())

    def progress(self, path: str) -> tuple[int, int] | None:
        """Return what changes while another process writes the file that goes to `path`."""
        try:
            found = os.lstat(self._staged_path(path))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def sweep(self) -> int:
        """Remove the files of dead processes, and return how many there were."""
        paths = glob.glob(os.path.join(glob.escape(self.folder), "[0-9a-f]" * 40))
        return sum(sweep(path, partial(os.unlink, path)) for path in paths)

    def found(self, path: str) -> os.stat_result | None:
        """Return the status of `path`, not of what it links to; ``None`` for nothing."""
        try:
            return os.lstat(os.path.join(self.root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise disk_error(error, os.path.join(self.root, path), "the cache") from None

    def check(self, path: str) -> None:
        """Raise Unplaceable if no file can be put at `path`."""
        *_, name = split_path(path)
        with self._refusals(path), self._parent(path, make=False) as parent:
            if _is_directory(name, parent):
                raise Unplaceable(self._explain(path, _DIRECTORY_THERE))

    def remove(self, path: str) -> None:
        """Remove whatever is at `path`, except a directory, without following links."""
        *_, name = split_path(path)
        with self._refusals(path), self._parent(path, make=False) as parent:
            try:
                os.unlink(name, dir_fd=parent)
            except (IsADirectoryError, PermissionError):  # which, depends on the system
                if not _is_directory(name, parent):
                    raise
                raise Unplaceable(self._explain(path, _DIRECTORY_THERE)) from None

    @contextmanager
    def _refusals(self, path: str) -> Iterator[None]:
        """Turn an OSError into a JobError, except for a missing file."""
        try:
            yield
        except FileNotFoundError:
            pass
        except OSError as error:
            raise disk_error(error, os.path.join(self.root, path), "the cache") from None

    def prune(self, path: str) -> None:
        """Remove the directories above `path` that are empty, up to the root."""
        above, _, _ = path.rpartition("/")
        while above:
            try:
                with self._parent(above, make=False) as parent:
                    os.rmdir(split_path(above)[-1], dir_fd=parent)
            except (OSError, Unplaceable):
                return  # not empty, or not permitted
            above, _, _ = above.rpartition("/")

    @contextmanager
    def _parent(self, path: str, make: bool) -> Iterator[int]:
        """Open the directory above `path` without following a link below the root."""
        *above, _ = split_path(path)
        if make:
            os.makedirs(self.root, exist_ok=True)
        directory = os.open(self.root, _DIRECTORY)
        try:
            for name in above:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, dir_fd=directory)
                try:
                    below = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    reason = f"{os.fsdecode(name)!r} there is a link or a file; remove it"
                    raise Unplaceable(self._explain(path, reason)) from None
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)

    def _explain(self, path: str, reason: str) -> str:
        return f"{path!r} has no place in the cache {self.root}: {reason}."


class Staged:
    """A claimed place, and the locked file that is to go there: the target of a fetch.

    - `path`: the place, relative to the root.
    - `where`: the file, until it is put in place.
    - `descriptor`: of that file, open and locked.
    """

    def __init__(self, staging: Staging, path: str, where: str, descriptor: int) -> None:
        self.path = path
        self._staging = staging
        self._where = where
        self._descriptor = descriptor
        self._placed = False
        _held.add(descriptor)

    def write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise disk_error(error, self._where, "the cache") from None

    def restart(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def seal(self) -> os.stat_result:
        """Bring the bytes to the disk, and return the status that the file has from now on."""
        try:
            # After a crash of the system an incomplete file has another size, but only if the size
            # does not reach the disk before the bytes.
            os.fsync(self._descriptor)
            now = time.time_ns()  # set here: a file server may report another time later
            os.utime(self._descriptor, ns=(now, now))
            return os.fstat(self._descriptor)
        except OSError as error:
            raise disk_error(error, self._where, "the cache") from None

    def place(self) -> None:
        """Rename the file into its place, over an earlier one.

        Raises `Unplaceable` when a link or a file is where a directory of the path has to be, or
        the other way round, or the file system does not take the name.
        """
        *_, name = split_path(self.path)
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                with self._staging._parent(self.path, make=True) as parent:
                    os.rename(self._where, name, dst_dir_fd=parent)
            except FileNotFoundError as error:
                # `prune` of another process removed the empty directory meanwhile
                if attempt < _ATTEMPTS - 1 and os.path.lexists(self._where):
                    continue
                raise disk_error(error, self._where, "the cache") from None
            except IsADirectoryError:
                reason = _DIRECTORY_THERE
            except OSError as error:
                if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
                    raise disk_error(error, self._where, "the cache") from None
                reason = f"the file system does not take the name ({error.strerror})"
            else:
                self._placed = True
                return
            break
        raise Unplaceable(self._staging._explain(self.path, reason))

    def release(self) -> None:
        """Give up the claim, and remove the file unless it is in its place; idempotent."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if not self._placed and is_at(descriptor, self._where):
                os.unlink(self._where)
            flock(descriptor, LOCK_UN)  # a forked process may hold it open too
        finally:
            _held.discard(descriptor)
            os.close(descriptor)


def _is_alone(descriptor: int) -> bool:
    """Check that an open file is a regular one without another name, which would change too."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _is_directory(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


# A forked child would hold the locks of its parent beyond its death.
_held: set[int] = set()


def _after_fork_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
