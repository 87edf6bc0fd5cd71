"""Number the lines of a part of a file: count those before it, once they are needed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from daskmr.data.input_file import InputFile
from daskmr.data.readers.decompression import read_chunks

if TYPE_CHECKING:
    from daskmr.data.local_file import LocalFile

__all__ = ["lines_before"]

_FILES = 8  # whose counts are kept in this process

_known: dict[InputFile, dict[int, int]] = {}  # lines before some offsets, by the entire file


def lines_before(file: InputFile, open_file: Callable[[InputFile], LocalFile]) -> int:
    """Return the number of lines before a part of a file; 0 for an entire file.

    - `open_file`: opens a part of the same file.
    Raises `CorruptFileError` or `TaskFailed` if what is before cannot be read.
    """
    start = file.part[0] if file.part is not None else 0
    if not start:
        return 0
    whole = replace(file, part=None)
    known = _known.pop(whole, {0: 0})
    _known[whole] = known  # the last one now
    if len(_known) > _FILES:
        del _known[next(iter(_known))]
    if start not in known:
        nearest = max(offset for offset in known if offset < start)
        with (
            open_file(replace(file, part=(nearest, start))) as opened,
            closing(read_chunks(opened)) as chunks,  # type: ignore[type-var]  # a generator
        ):
            known[start] = known[nearest] + sum(chunk.count(b"\n") for chunk in chunks)
    return known[start]
