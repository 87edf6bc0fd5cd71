"""Files that can be split: compressed in blocks, and read part by part."""

from __future__ import annotations

import bz2
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from daskmr.data.dims import Dims
from daskmr.data.input_file import InputFile
from daskmr.data.local_file import LocalFile
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import KEYED, Reading, RecordFormat
from daskmr.data.readers.registry import reader_of
from daskmr.data.splits import files as splitting
from daskmr.data.splits.files import Splitting, split_files
from daskmr.data.splits.line_numbers import lines_before

EOF_BLOCK = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def bgzf_block(data: bytes) -> bytes:
    deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = deflate.compress(data) + deflate.flush()
    header = b"\x1f\x8b\x08\x04" + bytes(4) + b"\x00\xff\x06\x00BC\x02\x00"
    length = struct.pack("<H", len(header) + 2 + len(packed) + 8 - 1)
    return header + length + packed + struct.pack("<II", zlib.crc32(data), len(data))


def to_bgzf(data: bytes, size: int) -> bytes:
    return b"".join(map(bgzf_block, pieces(data, size))) + EOF_BLOCK


def to_frames(data: bytes, size: int) -> bytes:
    compressor = zstandard.ZstdCompressor(write_checksum=True)
    return b"".join(map(compressor.compress, pieces(data, size)))


def to_skippable_frames(data: bytes, size: int) -> bytes:
    """As pzstd writes them, each with its length before it."""
    frames = map(zstandard.ZstdCompressor().compress, pieces(data, size))
    head = b"\x50\x2a\x4d\x18\x04\x00\x00\x00"
    return b"".join(head + struct.pack("<I", len(frame)) + frame for frame in frames)


def to_streams(data: bytes, size: int) -> bytes:
    return b"".join(map(bz2.compress, pieces(data, size)))


BLOCKS: dict[str, Callable[[bytes, int], bytes]] = {
    "log": lambda data, size: data,
    "gz": to_bgzf,
    "zst": to_frames,
    "skip.zst": to_skippable_frames,
    "bz2": to_streams,
}


def to_parquet(rows: list[dict[str, Any]], size: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink, row_group_size=size)
    return sink.getvalue()


@contextmanager
def small_parts(least: int = 1) -> Iterator[None]:
    """Split files into parts of `least` bytes of data, with ``partition_bytes=1``."""
    with patch.object(splitting, "LEAST_BYTES", least):
        yield


def listed(path: Path) -> InputFile:
    found = path.stat()
    return InputFile(path.name, found.st_size, (), mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def split(path: Path, least: int, kind: str = "lines") -> list[InputFile]:
    with small_parts(least):
        return [*split_files([listed(path)], Splitting(str(path.parent), kind, 1))[0]]


def read(file: InputFile, path: Path, form: RecordFormat = KEYED, **limits: Any) -> list[Any]:
    """Read the records of a file or a part: the number, key, value and bytes of each."""
    reader = reader_of(form)
    found: list[Any] = []

    def opened(part: InputFile) -> LocalFile:
        return LocalFile(part, str(path))

    with opened(file) as local:
        if reader is None:
            lines = [line for batch, _ in read_lines(local, **limits) for line in batch]
            found = [(number, line) for number, line in enumerate(lines, 1)]
        else:
            about = Reading(path.name, Dims(()), **limits)
            for batch in reader.read(local, form, about):
                keys = islice(batch.keys, len(batch.values))
                raws = [batch.raw(index) for index in range(len(batch.values))]
                found += zip(batch.numbers, keys, batch.values, raws, strict=True)
        local.check()
    if reader is not None and reader.splits == "row groups":
        return [row[:3] for row in found]  # the bytes depend on the batch
    before = lines_before(file, opened)
    return [(number + before, *rest) for number, *rest in found]
