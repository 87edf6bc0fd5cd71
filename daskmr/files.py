"""Files that appear complete or not at all, and locks that end with the process that holds them.

A file is locked while it is written. The lock ends with its process, so an unlocked temporary file was
left by a dead process, and the next one may remove it.
"""

from __future__ import annotations

import fcntl
import os
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from typing import IO, NamedTuple
from zlib import crc32

__all__ = [
    "AtomicFile", "Digest", "free_name", "is_at", "is_case_blind", "is_on_network", "locked", "read_digest",
    "sweep", "sync_folder", "take_access", "try_lock",
]  # fmt: skip

_LONGEST_NAME = 200  # maximum bytes of a name in a temporary name
# File systems without shared memory between machines, which SQLite's write-ahead log needs.
_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|fuse[.].*|glusterfs|gpfs|lustre|nfs4?|ocfs2|panfs|smb.*|virtiofs"
)


class AtomicFile:
    """A file that is written under a temporary name in the same folder, and then renamed.

    A ``with`` block discards the file unless it was committed.

    - `path`: the final path, in an existing folder.
    - `token`: 12 hex digits that make the temporary name unique.
    - `mode`: permissions of the new file, before the umask.
    - `sweep_dead`: remove temporary files that killed processes left for this path.
    - `temporary`: the temporary path, where `file` is open and locked.
    All methods may raise `OSError`.
    """

    def __init__(
        self, path: str, token: str | None = None, mode: int = 0o666, sweep_dead: bool = True
    ) -> None:
        folder, name = os.path.split(path)
        raw = os.fsencode(name)
        if len(raw) > _LONGEST_NAME:  # append a checksum to keep names unique
            name = f"{os.fsdecode(raw[: _LONGEST_NAME - 8])}{crc32(raw):08x}"
        if sweep_dead:
            _sweep_temporary_files(folder or ".", name)
        self.path = path
        self.temporary = os.path.join(folder, f".{name}.{token or uuid.uuid4().hex[:12]}.tmp")
        self.file = _open_locked(self.temporary, mode)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.discard()

    def sync(self) -> None:
        """Flush the file to disk."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self) -> None:
        """Move the file to its path, atomically replacing an earlier one; call `sync` first."""
        os.replace(self.temporary, self.path)
        self.file.close()
        sync_folder(os.path.dirname(self.path) or ".")

    def discard(self) -> None:
        """Remove the file unless it was committed; idempotent."""
        if not self.file.closed:
            with suppress(FileNotFoundError):
                os.unlink(self.temporary)
            with suppress(OSError):
                self.file.close()


def sync_folder(path: str) -> None:
    """Make renames in a folder survive a power failure, if the file system can."""
    with suppress(OSError), ExitStack() as stack:
        folder = os.open(path, os.O_RDONLY)
        stack.callback(os.close, folder)
        os.fsync(folder)


def _open_locked(path: str, mode: int) -> IO[bytes]:
    while True:
        file = open(path, "xb", opener=partial(os.open, mode=mode))  # noqa: SIM115
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another process removed it before it was locked


def _sweep_temporary_files(folder: str, name: str) -> None:
    pattern = re.compile(re.escape(f".{name}.") + r"[0-9a-f]{12}\.tmp")
    for entry in os.scandir(folder):
        if pattern.fullmatch(entry.name):
            sweep(entry.path, partial(os.unlink, entry.path))


def take_access(descriptor: int, patterns: Sequence[os.stat_result]) -> None:
    """Give a file the group of the `patterns`, if any, and the permissions that they have in common."""
    mode = 0o777
    for pattern in patterns:
        mode &= pattern.st_mode
        if os.fstat(descriptor).st_gid != pattern.st_gid:
            try:
                os.fchown(descriptor, -1, pattern.st_gid)
            except OSError:  # the file keeps another group, which must not gain access
                mode &= ~0o070
    if patterns:
        with suppress(PermissionError):  # the file system has no permissions
            os.fchmod(descriptor, mode)


# --- locks ----------------------------------------------------------------------------------------


def try_lock(descriptor: int) -> bool:
    """Try to lock an open file; return false if another process holds the lock."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Wait for the lock of a file or folder and hold it; continue if it cannot be locked."""
    with ExitStack() as stack:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


def is_at(descriptor: int, path: str | os.PathLike[str]) -> bool:
    """Check whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def sweep(lock: str | os.PathLike[str], remove: Callable[[], object]) -> bool:
    """Call `remove` if the process that held the lock file `lock` has died.

    Returns false if it is alive, or if the file cannot be opened, locked or removed.
    """
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    with suppress(OSError), ExitStack() as stack:
        try:
            descriptor = os.open(lock, os.O_RDWR | flags)  # NFS requires write access for a lock
        except PermissionError:
            descriptor = os.open(lock, os.O_RDONLY | flags)
        stack.callback(os.close, descriptor)
        if try_lock(descriptor) and is_at(descriptor, lock):
            remove()
            return True
    return False


# --- file systems ---------------------------------------------------------------------------------


def is_case_blind(folder: str) -> bool:
    """Check whether the file system of `folder` ignores the case of names."""
    while folder != "/":
        parent, name = os.path.split(folder)
        if name.swapcase() != name:
            with suppress(OSError):
                return os.path.samefile(folder, os.path.join(parent, name.swapcase()))
            return False
        folder = parent
    return False


def is_on_network(path: str) -> bool:
    """Check whether `path` is on a file system that several machines may share."""
    import psutil

    real, mounts = os.path.realpath(path), []
    with suppress(OSError):  # a sandbox without /proc
        mounts = psutil.disk_partitions(all=True)
    mounts = [each for each in mounts if real.startswith(os.path.join(each.mountpoint, ""))]
    mounts.sort(key=lambda mount: len(mount.mountpoint))  # the last mount at a place counts
    return bool(mounts and _NETWORK.fullmatch(mounts[-1].fstype))


class Digest(NamedTuple):
    """The MD5 digest of a file, and its modification time when it was read."""

    digest: str
    mtime_ns: int


def read_digest(path: str) -> Digest | None:
    """Read a file without following a link; ``None`` if it cannot be read."""
    import hashlib

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            mtime_ns = os.fstat(descriptor).st_mtime_ns
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    except OSError:
        return None
    return Digest(md5.hexdigest(), mtime_ns)


def free_name(stem: str, suffix: str = "") -> str:
    """Return the first of the names ``stem``, ``stem2``, ... that does not exist here."""
    names = (f"{stem}{'' if number == 1 else number}{suffix}" for number in count(1))
    return next(name for name in names if not os.path.lexists(name))
