"""The content of files that are sent with a job: describe, stream and unpack it, verified by digest.

A directory is sent as the files in it, except those in folders ``__pycache__``. Links are followed, so
that the copy does not depend on others.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, NamedTuple

from daskmr.errors import InputError, JobError
from daskmr.text import counted, format_bytes

__all__ = [
    "CHUNK",
    "Entry",
    "Sent",
    "Unpacker",
    "check_unchanged",
    "describe",
    "entries_of",
    "stream",
]

CHUNK = 1 << 20
"""Bytes of a stream that are in memory at a time."""


class Entry(NamedTuple):
    """A file to write: its name in the folder, or that of an empty directory, which ends in "/"."""

    name: str
    size: int
    digest: str  # SHA-256, in hex
    is_executable: bool


class Sent(NamedTuple):
    """A file or directory that is sent with a job."""

    name: str  # as in ``daskmr.file(name)``
    path: str  # where the client has it
    digest: str  # SHA-256, in hex: of the content, or of the names and digests of all files
    size: int  # bytes
    files: int | None  # number of files in a directory; ``None`` for a file
    stamp: str  # changes whenever the content does, and sometimes else
    folder: str  # the same for the same content, of which the same files are executable
    entries: tuple[Entry, ...] = ()  # on the client only; named as in its path

    @property
    def shown(self) -> str:
        """Describe it in a line, such as ``"geo: /data/geo (12 files, 2.00 MB)"``."""
        files = "" if self.files is None else f"{counted(self.files, 'file')}, "
        return f"{self.name}: {self.path} ({files}{format_bytes(self.size)})"

    @property
    def place(self) -> str:
        """Its path in what a run sends."""
        return os.path.join(self.folder, self.name)


def describe(name: str, path: str) -> Sent:
    """Read a file or directory.

    Raises `InputError` if a file is missing, is not readable, or changes in the meantime.

    >>> describe("null", "/dev/null")
    Traceback (most recent call last):
    daskmr.errors.InputError: /dev/null, to be sent as null, is neither a file nor a directory.
    """
    found, entries = [*_walk(name, path)], []
    for relative, place, status in found:
        is_file = stat.S_ISREG(status.st_mode)
        digest = _digest(name, place, status) if is_file else ""
        size = status.st_size if is_file else 0
        entries.append(Entry(relative, size, digest, bool(is_file and status.st_mode & 0o100)))
    is_folder = os.path.isdir(path)
    whole = entries[0].digest if not is_folder else _hash(f"{e.name}\0{e.digest}" for e in entries)
    size, count = sum(e.size for e in entries), sum(e.name[-1:] != "/" for e in entries)
    stamp = _stamp(found)
    folder = _hash([whole, *(e.name for e in entries if e.is_executable)])
    return Sent(name, path, whole, size, count if is_folder else None, stamp, folder, (*entries,))


def check_unchanged(sent: Sent) -> None:
    """Raise JobError if a file is not as it was described; reads it only if it may have changed."""
    try:
        if _stamp([*_walk(sent.name, sent.path)]) == sent.stamp:
            return
        if describe(sent.name, sent.path).digest == sent.digest:
            return
        problem = "has changed"
    except InputError as error:
        problem = f"has changed: {str(error).removesuffix('.')}"
    raise JobError(
        f"{sent.path}, which the job reads as daskmr.file({sent.name!r}), {problem} since the run began. "
        "Nothing was written. Start the job again, and do not change its files while it runs."
    )


_Found = tuple[str, str, os.stat_result]
"""The name of a file relative to its directory, its path, and its status."""


def _walk(name: str, path: str) -> Iterator[_Found]:
    """Yield a file, or the files and empty directories below a directory, in the order of their names."""
    yield from _walk_below(name, path, "", ())


def _walk_below(
    name: str, path: str, relative: str, above: tuple[tuple[int, int], ...]
) -> Iterator[_Found]:
    try:
        status = os.stat(path)
        names = sorted(os.listdir(path), key=os.fsencode) if stat.S_ISDIR(status.st_mode) else None
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error})"
        if os.path.islink(path) and not os.path.exists(path):
            reason = f"is a link to {os.readlink(path)}, which does not exist"
        raise InputError(f"{path}, to be sent as {name}, {reason}.") from None
    if names is None:
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}, to be sent as {name}, is neither a file nor a directory.")
        yield relative, path, status
        return
    if (here := (status.st_dev, status.st_ino)) in above:
        raise InputError(f"{path}, to be sent as {name}, is a link to a directory that it is in.")
    if not names:
        yield os.path.join(relative, "") or "./", path, status
    for each in names:
        if each == "__pycache__":  # Python writes there when the script imports from the directory
            continue
        place = os.path.join(path, each)
        yield from _walk_below(name, place, os.path.join(relative, each), (*above, here))


def _digest(name: str, path: str, status: os.stat_result) -> str:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path}, to be sent as {name}, cannot be read ({reason}).") from None
    if _identity(after) != _identity(status):
        raise InputError(f"{path}, to be sent as {name}, has changed while it was read.")
    return digest


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _stamp(found: Iterable[_Found]) -> str:
    return _hash(f"{relative}\0{_identity(status)}" for relative, _, status in found)


def _hash(lines: Iterable[str]) -> str:
    sha = hashlib.sha256()
    for line in lines:
        sha.update(os.fsencode(line) + b"\n")
    return sha.hexdigest()


# --- the stream -----------------------------------------------------------------------------------


def entries_of(sent: Iterable[Sent]) -> list[Entry]:
    """Return the files to write for all of these, in the order of `stream`; each folder once."""
    return [
        entry._replace(name=os.path.join(one.place, entry.name).removesuffix("/") + slash)
        for one in _distinct(sent)
        for entry in one.entries
        for slash in ["/" * entry.name.endswith("/")]
    ]


def _distinct(sent: Iterable[Sent]) -> list[Sent]:
    return [*{each.folder: each for each in sent}.values()]


def stream(sent: Iterable[Sent]) -> Iterator[bytes]:
    """Yield the content of the files, one after the other.

    Raises `JobError` if one has changed since it was described.
    """
    for one in _distinct(sent):
        for entry in one.entries:
            if not entry.name.endswith("/"):
                path = os.path.join(one.path, entry.name) if entry.name else one.path
                yield from _content(one, entry, path)


def _content(sent: Sent, entry: Entry, path: str) -> Iterator[bytes]:
    sha, left, chunk = hashlib.sha256(), entry.size, b""
    with suppress(OSError), open(path, "rb") as file:
        while left:
            if chunk:
                yield chunk
            if not (chunk := file.read(min(CHUNK, left))):
                break
            sha.update(chunk)
            left -= len(chunk)
    if sha.hexdigest() != entry.digest:  # found before the last chunk is sent
        check_unchanged(sent)
        raise JobError(
            f"{path}, which the job reads as daskmr.file({sent.name!r}), cannot be read."
        )
    yield chunk


class Unpacker:
    """Writes a stream of files into a new folder, and verifies each.

    - `entries`: the files; their names are relative to `folder`.
    Its methods raise `OSError`, and `JobError` if the stream is not what it should be.
    """

    def __init__(self, entries: Sequence[Entry], folder: str) -> None:
        self._entries = iter(entries)
        self._folder = folder
        self._entry: Entry | None = None
        self._file: IO[bytes] | None = None
        self._begin()

    def feed(self, data: bytes) -> None:
        """Write the next part of the stream."""
        view = memoryview(data)
        while view:
            if self._file is None:
                raise self._damaged()
            part = view[: self._left]
            self._file.write(part)
            self._sha.update(part)
            self._left -= len(part)
            view = view[len(part) :]
            if not self._left:
                self._end()
                self._begin()

    def finish(self, sent: Iterable[Sent]) -> None:
        """Check that all files are complete; link those of equal content."""
        if self._entry is not None:
            raise self._damaged()
        for one in sent:
            path = os.path.join(self._folder, one.place)
            if not os.path.lexists(path):
                first = min(os.listdir(os.path.dirname(path)))
                os.symlink(first, path)

    def close(self) -> None:
        """Close a file that is incomplete."""
        if self._file is not None:
            self._file.close()

    def _begin(self) -> None:
        """Open the next file that has any content; write those before it that have none."""
        for entry in self._entries:
            self._entry, path = entry, os.path.join(self._folder, entry.name)
            if path.endswith("/"):
                os.makedirs(path)
                continue
            os.makedirs(os.path.dirname(path), exist_ok=True)
            # Not writable, since several processes share it.
            mode = 0o555 if entry.is_executable else 0o444
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            self._file, self._sha = os.fdopen(descriptor, "wb"), hashlib.sha256()
            self._left = entry.size
            if self._left:
                return
            self._end()
        self._entry = self._file = None

    def _end(self) -> None:
        assert self._file is not None
        assert self._entry is not None
        self._file.close()
        if self._sha.hexdigest() != self._entry.digest:
            raise self._damaged()

    def _damaged(self) -> JobError:
        what = os.path.basename(self._entry.name) if self._entry is not None else "the last file"
        return JobError(f"The files of the job arrived damaged (at {what}). Start the job again.")
