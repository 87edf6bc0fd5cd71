"""Write files to the cache atomically: to a locked file in a folder next to the cache, then rename.

The name of a temporary file depends only on its final path, so that its lock is a claim on that
path: no two processes fetch the same object, and an unlocked file was left behind by a dead process.
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
_ATTEMPTS = 100  # for steps that another process may undo at the same time


class Staging:
    """The folder of a cache, and the folder in which its files are written first.

    - `root`: the folder of the cache, created on first use. It may be a link.
    - `folder`: the folder for incomplete files, next to the root, on the same disk.
    - `case_blind`: whether the file system ignores the case of names.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        real = os.path.realpath(root)
        self.folder = real + "-partial"
        self.case_blind = is_case_blind(os.path.dirname(real))

    def claim(self, path: str) -> Staged | None:
        """Claim `path` below the root, and create an empty file to write.

        Returns ``None`` if the path is already claimed.
        Raises `Unplaceable` if there can be no file at `path`.
        Raises `JobError` if the disk is full or fails.
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
                    os.unlink(where)  # not created by daskmr
                os.close(descriptor)  # another process has renamed or removed it
            except OSError as error:
                os.close(descriptor)
                raise disk_error(error, where, "the cache") from None
        raise JobError(
            f"{where} is not a regular file, or has hard links, so nothing can be fetched. Remove "
            "it: daskmr does not create such files."
        )

    def _open(self, where: str) -> int:
        """Open or create a file in the folder; neither may be a link."""
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
                continue  # another process has removed the folder
            except OSError as error:
                if os.path.islink(self.folder):
                    reason = f"{self.folder} is a link, which is not followed. Remove it."
                    raise JobError(reason) from None
                if error.errno != errno.ELOOP:
                    raise disk_error(error, where, "the cache") from None
                with suppress(FileNotFoundError):
                    os.unlink(where)  # a link that daskmr did not create
        raise JobError(f"{self.folder} is removed repeatedly, so nothing can be fetched.")

    def _staged_path(self, path: str) -> str:
        place = encode_path(fold(path) if self.case_blind else path)
        return os.path.join(self.folder, blake2b(place, digest_size=20).hexdigest())

    def progress(self, path: str) -> tuple[int, int] | None:
        """Return a value that changes while another process writes the file for `path`."""
        try:
            found = os.lstat(self._staged_path(path))
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def sweep(self) -> int:
        """Remove the files of dead processes, and return their number."""
        paths = glob.glob(os.path.join(glob.escape(self.folder), "[0-9a-f]" * 40))
        return sum(sweep(path, partial(os.unlink, path)) for path in paths)

    def found(self, path: str) -> os.stat_result | None:
        """Return the status of `path`, without following links; ``None`` if it does not exist."""
        try:
            return os.lstat(os.path.join(self.root, path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
                return None
            raise disk_error(error, os.path.join(self.root, path), "the cache") from None

    def check(self, path: str) -> None:
        """Raise Unplaceable if there can be no file at `path`."""
        *_, name = split_path(path)
        with self._refusals(path), self._parent(path, make=False) as parent:
            if _is_directory(name, parent):
                raise Unplaceable(self._explain(path, _DIRECTORY_THERE))

    def remove(self, path: str) -> None:
        """Remove the file or link at `path`; raise Unplaceable for a directory."""
        *_, name = split_path(path)
        with self._refusals(path), self._parent(path, make=False) as parent:
            try:
                os.unlink(name, dir_fd=parent)
            except (IsADirectoryError, PermissionError):  # depending on the system
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
        """Remove the empty parent directories of `path`, up to the root."""
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
        """Open the parent directory of `path`, without following links below the root."""
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
                    reason = f"its parent {os.fsdecode(name)!r} is a link or a file; remove it"
                    raise Unplaceable(self._explain(path, reason)) from None
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)

    def _explain(self, path: str, reason: str) -> str:
        return f"{path!r} has no place in the cache {self.root}: {reason}."


class Staged:
    """A claimed path and its locked temporary file, to which a fetch writes.

    - `path`: the claimed path, relative to the root.
    - `where`: the path of the temporary file.
    - `descriptor`: the descriptor of that file, open and locked.
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
        """Flush the data to disk, and return the final status of the file."""
        try:
            # Without this, the size could reach the disk before the data, and after a system crash
            # an incomplete file would have the right size.
            os.fsync(self._descriptor)
            now = time.time_ns()  # set explicitly: a file server may report another time later
            os.utime(self._descriptor, ns=(now, now))
            return os.fstat(self._descriptor)
        except OSError as error:
            raise disk_error(error, self._where, "the cache") from None

    def place(self) -> None:
        """Rename the file to its final path, replacing an earlier one.

        Raises `Unplaceable` if a parent of the path is a link or a file, the path itself is a
        directory, or the file system does not allow the name.
        """
        *_, name = split_path(self.path)
        reason = ""
        for attempt in range(_ATTEMPTS):
            try:
                with self._staging._parent(self.path, make=True) as parent:
                    os.rename(self._where, name, dst_dir_fd=parent)
            except FileNotFoundError as error:
                # `prune` in another process may have removed the empty directory.
                if attempt < _ATTEMPTS - 1 and os.path.lexists(self._where):
                    continue
                raise disk_error(error, self._where, "the cache") from None
            except IsADirectoryError:
                reason = _DIRECTORY_THERE
            except OSError as error:
                if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
                    raise disk_error(error, self._where, "the cache") from None
                reason = f"the file system does not allow the name ({error.strerror})"
            else:
                self._placed = True
                return
            break
        raise Unplaceable(self._staging._explain(self.path, reason))

    def release(self) -> None:
        """Release the claim, and remove the file unless `place` has renamed it; idempotent."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        try:
            if not self._placed and is_at(descriptor, self._where):
                os.unlink(self._where)
            flock(descriptor, LOCK_UN)  # a forked process may also have it open
        finally:
            _held.discard(descriptor)
            os.close(descriptor)


def _is_alone(descriptor: int) -> bool:
    """Check that an open file is a regular file without other hard links, which would change too."""
    found = os.fstat(descriptor)
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _is_directory(name: bytes, parent: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)


# A forked child would keep its parent's locks after the parent has died.
_held: set[int] = set()


def _after_fork_in_child() -> None:
    for descriptor in _held:
        os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
