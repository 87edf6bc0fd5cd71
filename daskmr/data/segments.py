"""Segment files: frames of bytes on disk, compressed (zstd level 1) and checksummed.

A segment's name is unique to the attempt that wrote it, and only segments that a task's result
refers to are used, so a retried task cannot count twice. Segments are in the run's folder and are
removed with it; if the workers do not share that folder, they are in a `SpillStore`.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import zstandard
from isal.isal_zlib import crc32

from daskmr.errors import JobError
from daskmr.workdir import disk_error

if TYPE_CHECKING:
    from daskmr.data.spill_dir import SpillStore

__all__ = ["Extent", "SegmentWriter", "read_frames"]

_HEADER = struct.Struct("<II")  # length of the frame, and a checksum of the length and the frame
_READ_BYTES = 1 << 20  # bytes per request for a segment in a store


@dataclass(frozen=True, slots=True)
class Extent:
    """A section of a segment file: one bucket's frames, sorted by key."""

    path: str  # the segment file
    offset: int  # start of the frames, in bytes
    length: int  # size of the frames on disk, in bytes
    size: int  # estimated size of the pairs in memory, in bytes
    largest: int = 0  # estimated size of the largest frame in memory
    store: SpillStore | None = None  # the store of the segment, if it is not a local file

    @property
    def held(self) -> int:
        """The maximum memory of a reader in bytes: one frame, and the data fetched with it."""
        return self.largest + (_READ_BYTES if self.store is not None else 0)

    def remove(self) -> None:
        """Remove the entire segment, including other extents."""
        if self.store is not None:
            self.store.remove(self.path)
        else:
            with contextlib.suppress(OSError):  # it is removed with the run's folder at the latest
                os.unlink(self.path)


class SegmentWriter:
    """Writes frames to one new segment file.

    - `folder`: the folder in which to create the file, under a unique name.
    """

    def __init__(self, folder: str | SpillStore) -> None:
        self._store = None if isinstance(folder, str) else folder
        if not isinstance(folder, str):
            folder = folder.folder()
        self.path = os.path.join(folder, f"{uuid.uuid4().hex}.seg")
        self._compress = zstandard.ZstdCompressor(level=1).compress
        self._offset = 0
        try:
            self._file = open(self.path, "xb")  # noqa: SIM115 - closed by `close` and `remove`
        except OSError as error:
            raise disk_error(error, self.path, "what did not fit in memory") from None

    def write(self, frames: Iterable[tuple[bytes, int]]) -> Extent:
        """Append `frames`, each with its estimated size in memory, and return their extent."""
        start, size, largest = self._offset, 0, 0
        try:
            for frame, estimated in frames:
                data = self._compress(frame)
                self._file.write(_HEADER.pack(len(data), _checksum(data)))
                self._file.write(data)
                self._offset += _HEADER.size + len(data)
                size += estimated
                largest = max(largest, estimated)
        except OSError as error:
            raise disk_error(error, self.path, "what did not fit in memory") from None
        return Extent(self.path, start, self._offset - start, size, largest, self._store)

    def close(self) -> None:
        """Flush the segment, so that it can be read, also from other hosts."""
        try:
            self._file.close()
        except OSError as error:
            raise disk_error(error, self.path, "what did not fit in memory") from None
        if self._store is not None:
            self._store.upload(self.path)

    def remove(self) -> None:
        """Close and remove the local file."""
        with contextlib.suppress(OSError):  # closing flushes the buffer, maybe to a full disk
            self._file.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _checksum(data: bytes) -> int:
    return crc32(data, len(data) & 0xFFFFFFFF)


def read_frames(extent: Extent) -> Iterator[bytes]:
    """Read an extent's frames one at a time.

    Raises `JobError` if the segment is missing or damaged.
    """
    if not extent.length:
        return
    offset, end = extent.offset, extent.offset + extent.length
    read = _read_frame if extent.store is None else _ReadAhead(extent, extent.store).read_frame
    try:
        while offset < end:
            data = read(extent.path, offset)
            offset += _HEADER.size + len(data)
            if offset > end:
                raise ValueError("a frame ends after its extent")
            frame = [_per_thread.decompress(data, allow_extra_data=False)]
            del data  # while suspended, hold no reference to the data or the frame
            yield frame.pop()
    except (OSError, ValueError, struct.error, zstandard.ZstdError) as error:
        raise JobError(
            f"A segment of this run cannot be read back ({extent.path}: {type(error).__name__}: "
            f"{error}). Check the disk of the work dir and run the job again."
        ) from None


def _read_frame(path: str, offset: int) -> bytes:
    # Open the file for each frame: merging a thousand streams would exceed the limit of open files.
    with open(path, "rb", buffering=0) as file:
        length, checksum = _HEADER.unpack(os.pread(file.fileno(), _HEADER.size, offset))
        data = os.pread(file.fileno(), length, offset + _HEADER.size)
    if len(data) != length or _checksum(data) != checksum:
        raise ValueError("the checksum of a frame is wrong")
    return data


class _ReadAhead:
    """Reads the frames of an extent in a store, many frames per request."""

    def __init__(self, extent: Extent, store: SpillStore) -> None:
        self._store = store
        self._end = extent.offset + extent.length
        self._start = extent.offset
        self._held = b""

    def read_frame(self, path: str, offset: int) -> bytes:
        length, checksum = _HEADER.unpack(self._take(path, offset, _HEADER.size))
        data = self._take(path, offset + _HEADER.size, length)
        if _checksum(data) != checksum:
            raise ValueError("the checksum of a frame is wrong")
        return data

    def _take(self, path: str, offset: int, length: int) -> bytes:
        if offset + length > self._end:
            raise ValueError("a frame ends after its extent")
        start = offset - self._start
        if start + length > len(self._held):
            more = min(max(length, _READ_BYTES), self._end - offset)
            self._held = self._store.read(path, offset, more)
            self._start, start = offset, 0
        return self._held[start : start + length]


class _PerThread(threading.local):
    """One decompressor per thread: each takes about 100 kB, and a merge may read 1,000 streams."""

    def __init__(self) -> None:
        self.decompress = zstandard.ZstdDecompressor().decompress


_per_thread = _PerThread()
