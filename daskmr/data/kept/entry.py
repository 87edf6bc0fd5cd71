"""A kept result of a partition, as one file: its segments, its other objects, and a checksum.

The file begins with segments, as they are on disk. The pickle of the result follows, in which
extents refer to the segments in the same file. The footer has a checksum of all before it. A run uses
the file by a link in its own folder, so that the entry can be removed in the meantime.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
import struct
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import zstandard
from isal.isal_zlib import crc32

from daskmr.data.segments import Extent

__all__ = ["DamagedEntryError", "read_entry", "write_entry"]

_MAGIC = b"daskmr-1"
_FOOTER = struct.Struct("<QI8s")  # where the pickle begins, the checksum of all before, the magic
_COPIED = 1 << 20  # bytes at a time


class DamagedEntryError(Exception):
    """An entry is not as it was written."""


def write_entry(path: str, result: Any) -> int:
    """Write a result with its local segments to the file `path`, whole or not at all; return its size.

    A single segment is shared with the entry by a link where the file system allows, and gets what
    follows it at its end.
    """
    pickled = io.BytesIO()
    pickler = _Pickler(pickled)
    pickler.dump(result)
    temporary = f"{path}.{uuid.uuid4().hex}.new"
    try:
        sources = [*pickler.starts]
        if len(sources) == 1 and _link(sources[0], temporary):
            file = open(temporary, "r+b")  # noqa: SIM115 - closed below
        else:
            file = open(temporary, "x+b")  # noqa: SIM115
            for source in sources:
                with open(source, "rb") as segment:
                    shutil.copyfileobj(segment, file, _COPIED)
        with file:
            start = file.seek(0, os.SEEK_END)
            file.write(zstandard.ZstdCompressor(level=1).compress(pickled.getvalue()))
            file.flush()
            file.seek(0)
            checksum = 0
            for block in iter(lambda: file.read(_COPIED), b""):
                checksum = crc32(block, checksum)
            file.write(_FOOTER.pack(start, checksum, _MAGIC))
            size = file.tell()
        os.rename(temporary, path)
        return size
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def read_entry(path: str, folder: str) -> Any:
    """Return the result of an entry, with its segments as a file in `folder`.

    Raises `DamagedEntryError` if it is not as it was written, and `FileNotFoundError` if there is none.
    """
    own = os.path.join(folder, f"{uuid.uuid4().hex}.seg")
    if not _link(path, own):
        shutil.copyfile(path, own)
    try:
        with open(own, "rb") as file:
            end = file.seek(0, os.SEEK_END) - _FOOTER.size
            if end < 0:
                raise DamagedEntryError("it is too short")
            file.seek(end)
            start, expected, magic = _FOOTER.unpack(file.read())
            if magic != _MAGIC or start > end:
                raise DamagedEntryError("its end is not that of an entry")
            file.seek(0)
            checksum, left = 0, end
            while left and (block := file.read(min(left, _COPIED))):
                checksum, left = crc32(block, checksum), left - len(block)
            if checksum != expected:
                raise DamagedEntryError("its checksum is wrong")
            file.seek(start)
            packed = file.read(end - start)
        pickled = zstandard.ZstdDecompressor().decompress(packed)
        result = _Unpickler(io.BytesIO(pickled), own).load()
    except BaseException:
        os.unlink(own)
        raise
    if not start:
        os.unlink(own)
    return result


def _link(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


class _Pickler(pickle.Pickler):
    """Replaces extents by their places in the entry."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, 5)
        self.starts: dict[str, int] = {}  # where each segment begins in the entry
        self._end = 0

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, Extent):
            return None
        if value.path not in self.starts:
            self.starts[value.path] = self._end
            self._end += os.path.getsize(value.path) if value.length else 0
        offset = self.starts[value.path] + value.offset
        return offset, value.length, value.size, value.largest


class _Unpickler(pickle.Unpickler):
    """Restores extents, in another file."""

    def __init__(self, file: io.BytesIO, path: str) -> None:
        super().__init__(file)
        self._path = path

    def persistent_load(self, pid: Any) -> Extent:
        return Extent(self._path, *pid)
