"""Decide which files are cut, and where: from the input and ``partition-bytes`` alone.

The same input is always cut at the same places, because they determine how partial results combine.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from shlex import quote

from daskmr.data.input_file import InputFile
from daskmr.data.partition import MAX_PARTITIONS, PARTITION_BYTES, estimate_bytes
from daskmr.data.readers.decompression import codec_of, is_compressed, read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.sniffing import form_of
from daskmr.data.readers.suffixes import COMPRESSIONS
from daskmr.data.splits.blocks import find_block, has_blocks
from daskmr.errors import TaskFailed
from daskmr.text import format_bytes

__all__ = ["Splitting", "split_files"]

LEAST_BYTES = 1 << 20
"""Bytes of data of the smallest part of a file."""

_GZIP = COMPRESSIONS["gzip"].expansion
_EXPANSION = max(row.expansion for row in COMPRESSIONS.values())
_PARQUET_EXPANSION = 4
_PARTS = 4  # parts of a partition
_BLOCK_BYTES = 1 << 16
_SCAN_BYTES = 1 << 20
_HEAD_BYTES = 64
_NO_HEADER = re.compile(rb"[\xef\xbb\xbf\r]*($|#|sep=)")
_SEARCHED_BYTES = 1 << 22  # of compressed data, for the next block


@dataclass(frozen=True, slots=True)
class Splitting:
    """How files may be split.

    - `root`: the data dir.
    - `kind`: the attribute `splits` of the reader.
    - `partition_bytes`: the target size of a partition, as bytes of gzip.
    - `only_plain`: leave files whole that may be corrupt, because those are skipped whole.
    """

    root: str
    kind: str = "lines"
    partition_bytes: int = PARTITION_BYTES
    only_plain: bool = False


@dataclass(frozen=True, slots=True)
class _Whole:
    """A large file that cannot be split, with the reason, and advice."""

    file: InputFile
    data_bytes: int
    reason: str
    advice: str = ""


def split_files(
    files: Sequence[InputFile], how: Splitting, workers: int = 1
) -> tuple[Sequence[InputFile], tuple[str, ...]]:
    """Replace each large local file by its parts, as far as its format allows.

    Parts have about 32 MiB of data, or more if `partition_bytes` or the input is larger. A file with
    less than twice as much stays whole.

    - `workers`: the number of processes that map.
    Returns the files and parts in the same order, and a note on the largest file that keeps other
    workers waiting, if there is one.

    >>> files = [InputFile("a.log", 100, ()), InputFile("b.gz", 1000, ())]
    >>> split_files(files, Splitting("/data"))[0] is files
    True
    """
    least = max(LEAST_BYTES, how.partition_bytes * _GZIP // _PARTS)
    smallest = 2 * least // _EXPANSION
    if not [file for file in files if file.size >= smallest]:
        return files, ()
    total = estimate_bytes(files)
    part_bytes = max(least, total // (2 * MAX_PARTITIONS))
    found: list[InputFile] = []
    wholes: list[_Whole] = []
    for file in files:
        if file.size < smallest:
            found.append(file)
            continue
        cuts = _cuts_of(file, how, part_bytes)
        if isinstance(cuts, _Whole):
            wholes.append(cuts)
            cuts = []
        ends = [0, *cuts, file.size]
        found += [replace(file, part=part) for part in pairwise(ends)] if cuts else [file]
    return found, _note(wholes, total, how, workers)


def _note(wholes: Sequence[_Whole], total: int, how: Splitting, workers: int) -> tuple[str, ...]:
    whole = max(wholes, key=lambda each: each.data_bytes, default=None)
    if whole is None or whole.data_bytes <= max(
        2 * how.partition_bytes * _GZIP, total // max(1, workers)
    ):
        return ()
    return (
        f"{whole.file.path} ({format_bytes(whole.file.size)}) is read by one worker, for which others "
        f"may wait, because {whole.reason}{whole.advice}",
    )


def _cuts_of(file: InputFile, how: Splitting, part_bytes: int) -> list[int] | _Whole:
    """Return where to cut a file: offsets in it, in order; none if it is not large."""
    if file.is_remote:
        reason = "objects in a store are not split. Store it as several"
        return _Whole(file, estimate_bytes([file]), reason)
    path = os.path.join(how.root, file.path)
    try:
        if how.kind == "row groups":
            return _row_groups(file, path, how, part_bytes)
        with open(path, "rb", buffering=0) as opened:
            head = os.pread(opened.fileno(), _HEAD_BYTES, 0)
            if not is_compressed(head, path):
                return _plain_cuts(opened.fileno(), file, path, how, part_bytes)
            return _compressed_cuts(opened.fileno(), file, path, head, how, part_bytes)
    except OSError:  # the task that maps the file reports it
        return []


def _plain_cuts(
    opened: int, file: InputFile, path: str, how: Splitting, part_bytes: int
) -> list[int] | _Whole:
    count = file.size // part_bytes
    if count < 2:
        return []
    if not how.kind:
        return _Whole(file, file.size, "records of this format are not split")
    if not _is_text(path):
        return []
    stop = file.size
    if how.kind == "unquoted lines":
        # The header must be before the first cut.
        start = os.pread(opened, min(_SCAN_BYTES, file.size // count), 0).split(b"\n")[:-1]
        if all(_NO_HEADER.match(line) for line in start):
            reason = (
                "no header ends within its first MiB. Remove comments and blank lines before it"
            )
            return _Whole(file, file.size, reason)
        stop = _first_quote(opened, file.size)
    cuts = list(_line_ends(opened, file.size, count, stop))
    if not cuts and stop < file.size:
        reason = "fields in quotes may hold newlines. Write it without quotes, or as Parquet"
        return _Whole(file, file.size, reason)
    return cuts


def _compressed_cuts(
    opened: int, file: InputFile, path: str, head: bytes, how: Splitting, part_bytes: int
) -> list[int] | _Whole:
    codec = codec_of(head)
    if not codec:  # the old lzma
        codec = "lzma"
    data_bytes = file.size * COMPRESSIONS[codec].expansion
    count = data_bytes // part_bytes
    if count < 2:
        return []
    if how.only_plain:
        return _Whole(file, data_bytes, "corrupt files are skipped whole (--skip-corrupt-files)")
    if how.kind != "lines":
        return _Whole(file, data_bytes, "compressed records of this format are not split")
    if has_blocks(codec, head):
        if not _is_text(path):
            return []
        cuts = list(_blocks(opened, codec, file.size, count))
        if cuts:
            return cuts
    advice = (
        f". To have it split, store it as plain text, or in blocks: {COMPRESSIONS[codec].unpack} < "
        f"{quote(path)} | bgzip > {quote(os.path.basename(path).rpartition('.')[0] + '.gz.new')}"
    )
    return _Whole(file, data_bytes, f"such {codec} data can only be read from its start", advice)


def _is_text(path: str) -> bool:
    """Check that a file does not begin like one that cannot be read as lines."""
    with suppress(CorruptFileError, TaskFailed), closing(read_chunks(path)) as chunks:  # type: ignore[type-var]
        return form_of(next(chunks, b"")) is None
    return False


def _line_ends(opened: int, size: int, count: int, stop: int) -> Iterator[int]:
    """Yield the first line end from each multiple of a part on, up to `stop`."""
    last = 0
    for number in range(1, count):
        at = max(last, size * number // count)
        while (found := (block := os.pread(opened, _BLOCK_BYTES, at)).find(b"\n")) < 0 and block:
            at += len(block)
        at += found + 1
        if found < 0 or at >= size or at > stop:
            return
        if at > last:
            yield at
            last = at


def _first_quote(opened: int, size: int) -> int:
    """Return the offset of the first double quote, or `size`."""
    at = 0
    while block := os.pread(opened, _SCAN_BYTES, at):
        found = block.find(b'"')
        if found >= 0:
            return at + found
        at += len(block)
    return size


def _blocks(opened: int, codec: str, size: int, count: int) -> Iterator[int]:
    """Yield the first block from each multiple of a part on; stop where none is near."""
    last = 0
    for number in range(1, count):
        start = size * number // count
        if start <= last:
            continue
        at = find_block(opened, codec, start, min(start + _SEARCHED_BYTES, size), size)
        if at is None:
            return
        yield at
        last = at


def _row_groups(file: InputFile, path: str, how: Splitting, part_bytes: int) -> list[int] | _Whole:
    data_bytes = file.size * _PARQUET_EXPANSION
    if data_bytes < 2 * part_bytes:
        return []
    if how.only_plain:
        return _Whole(file, data_bytes, "corrupt files are skipped whole (--skip-corrupt-files)")
    from daskmr.data.readers.parquet import row_groups  # deferred: it imports pyarrow

    groups = row_groups(path)
    total = sum(size for _, size in groups)
    count = max(1, total // part_bytes)
    cuts, before, reached = [], 0, 0
    for start, size in groups:
        if before * count // max(1, total) > reached and start:
            reached = before * count // total
            cuts.append(start)
        before += size
    if count > 1 and len(groups) == 1:
        reason = "it has a single row group. Write it with several (row_group_size)"
        return _Whole(file, total, reason)
    return cuts
