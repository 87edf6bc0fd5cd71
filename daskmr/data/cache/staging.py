"""Files that appear whole: written beside a folder under a lock, then renamed into their place.

A file on its way lies in a folder of its own, under a name that stands for its place, and locked.
The lock goes with the process that holds it. So nobody writes what another is writing, and what
is not locked is what a dead process has left.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b

from daskmr.data.paths import Unplaceable, encode_path, fold, split_path
from daskmr.errors import JobError
from daskmr.workdir import disk_error

__all__ = ["Staged", "Staging"]

_NAME = re.compile(r"[0-9a-f]{40}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_THERE = "a directory is in its place; remove it"
_ATTEMPTS = 100  # at what another process undoes in the same moment


class Staging:
    """The way into one folder.

    Parameters
    ----------
    root : str
        The folder; made when it is first needed. It may be a link itself.

    Attributes
    ----------
    folder : str
        Where files lie until they are whole: beside the root, on the same disk.
    case_blind : bool
        Whether names that differ only in case are one name to the file system.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        real = os.path.realpath(root)
        self.folder = real + "-partial"
        self.case_blind = is_case_blind(os.path.dirname(real))

    def claim(self, path: str) -> Staged | None:
        """Claim the place `path` below the root, with an empty file to write.

        Returns
        -------
        Staged or None
            ``None`` while another has the claim.

        Raises
        ------
        Unplaceable
            When nothing can lie at `path`.
        JobError
            When the disk refuses.
        """
        split_path(path)
        name = self._name_of(path)
        where = os.path.join(self.folder, name)
        for _ in range(_ATTEMPTS):
            descriptor = self._open(where)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, where):
                    if _is_alone(descriptor):
                        os.ftruncate(descriptor, 0)
                        return Staged(self, path, where, descriptor)
                    os.unlink(where)  # somebody planted it
                os.close(descriptor)  # it has gone its way
            except BlockingIOError:
                os.close(descriptor)
                return None
            except OSError as error:
                os.close(descriptor)
                raise disk_error(error, where, "the cache") from None
        raise JobError(
            f"{where} is no file of its own, so nothing can be fetched. Remove it: it is none of "
            "what daskmr makes."
        )

    def _open(self, where: str) -> int:
        """Open, or make, a file in the folder, neither of which may be a link."""
        for _ in range(_ATTEMPTS):
            try:
                folder = os.open(self.folder, _DIRECTORY | os.O_NOFOLLOW)
                try:
                    name = os.path.basename(where)
                    return os.open(name, _FILE | os.O_CREAT, 0o666, dir_fd=folder)
                finally:
                    os.close(folder)
            except FileNotFoundError:
                self._make_folder()
            except OSError as error:
                if os.path.islink(self.folder):
                    reason = f"{self.folder} is a link, which is not followed. Remove it."
                    raise JobError(reason) from None
                if error.errno != errno.ELOOP:
                    raise disk_error(error, where, "the cache") from None
                with suppress(FileNotFoundError):
                    os.unlink(where)  # a link that somebody planted
        raise JobError(f"{self.folder} is removed all the time, so nothing can be fetched.")

    def _make_folder(self) -> None:
        try:
            os.makedirs(self.folder, exist_ok=True)
        except OSError as error:
            raise disk_error(error, self.folder, "the cache") from None

    def _name_of(self, path: str) -> str:
        if self.case_blind:
            path = fold(path)
        return blake2b(encode_path(path), digest_size=20).hexdigest()

    def progress(self, path: str) -> tuple[int, int] | None:
        """What changes while another process writes the file that goes to `path`."""
        try:
            found = os.lstat(os.path.join(self.folder, self._name_of(path)))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def sweep(self) -> int:
        """Remove what dead processes have left, and return how many files that were."""
        swept = 0
        with suppress(FileNotFoundError):
            for name in filter(_NAME.fullmatch, os.listdir(self.folder)):
                swept += self._sweep(os.path.join(self.folder, name))
        return swept

    def _sweep(self, where: str) -> bool:
        try:
            descriptor = os.open(where, _FILE)
        except OSError:
            return False  # gone, a link, or another user's
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(descriptor, where):
                os.unlink(where)
                return True
        except OSError:
            pass  # its owner lives
        finally:
            os.close(descriptor)
        return False

    def found(self, path: str) -> os.stat_result | None:
        """What lies at `path`, itself and not what it links to; ``None`` for nothing."""
        try:
            return os.lstat(os.path.join(self.root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise disk_error(error, os.path.join(self.root, path), "the cache") from None

    def check(self, path: str) -> None:
        """See that what is there leaves a place for a file at `path`.

        Raises
        ------
        Unplaceable
            If it does not.
        """
        *_, name = split_path(path)
        with self._refusals(path), self._parent(path, make=False) as parent:
            if _is_directory(name, parent):
                raise Unplaceable(self._explain(path, _DIRECTORY_THERE))

    def remove(self, path: str) -> None:
        """Remove the file at `path`, whatever it is but a directory, and no file behind a link."""
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
        """Turn what the disk refuses into a JobError, except that there is nothing."""
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
                return  # not empty, or not ours to remove
            above, _, _ = above.rpartition("/")

    @contextmanager
    def _parent(self, path: str, make: bool) -> Iterator[int]:
        """The directory above `path`, opened without following a link below the root."""
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
    """A claimed place, and the file that is to go there. It takes the bytes of a fetch.

    Parameters
    ----------
    staging : Staging
    path : str
        The place, relative to the root.
    where : str
        The file on its way.
    descriptor : int
        Of that file, open and locked.
    """

    def __init__(self, staging: Staging, path: str, where: str, descriptor: int) -> None:
        self.path = path
        self._staging = staging
        self._where = where
        self._descriptor = descriptor
        self._placed = False
        _held.add(descriptor)

    def write(self, data: bytes | memoryview) -> None:
        """Append all of `data`."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise disk_error(error, self._where, "the cache") from None

    def restart(self) -> None:
        """Forget what was written."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def seal(self) -> os.stat_result:
        """Have the bytes on the disk, and say what the file looks like from now on."""
        try:
            # After a crash of the system the size tells a half file, but only if it is not on the
            # disk before the bytes are.
            os.fsync(self._descriptor)
            now = time.time_ns()  # set, not left to a file server that tells later
            os.utime(self._descriptor, ns=(now, now))
            return os.fstat(self._descriptor)
        except OSError as error:
            raise disk_error(error, self._where, "the cache") from None

    def place(self) -> None:
        """Rename the file into its place, over what is there.

        Raises
        ------
        Unplaceable
            When a link or a file is where a directory of the path has to be, or the other way
            round, or the file system does not take the name.
        """
        *_, name = split_path(self.path)
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                with self._staging._parent(self.path, make=True) as parent:
                    os.rename(self._where, name, dst_dir_fd=parent)
            except FileNotFoundError as error:
                # `prune` of another process took the directory meanwhile: it was empty
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
        """Give up the claim, and the file if it is not in its place; idempotent."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if not self._placed and _is_at(descriptor, self._where):
                os.unlink(self._where)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked process may hold it open too
        finally:
            _held.discard(descriptor)
            os.close(descriptor)


def is_case_blind(folder: str) -> bool:
    """Whether the file system of `folder` takes names for one that differ only in case."""
    while folder != "/":
        parent, name = os.path.split(folder)
        if name.swapcase() != name:
            with suppress(OSError):
                return os.path.samefile(folder, os.path.join(parent, name.swapcase()))
            return False
        folder = parent
    return False


def _is_at(descriptor: int, where: str) -> bool:
    """Whether what is open is what is at `where`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(where))
    except FileNotFoundError:
        return False


def _is_alone(descriptor: int) -> bool:
    """Whether what is open is a file, and has no other name, by which it would be changed too."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _is_directory(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


# A child would keep the locks of its parent beyond its death.
_held: set[int] = set()


def _after_fork_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
