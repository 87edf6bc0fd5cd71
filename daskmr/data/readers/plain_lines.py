"""The format ``lines``: the key is the path of the file, and each line is a value."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from typing import Any, BinaryIO

from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import (
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Reader,
    Reading,
    RecordFormat,
    Records,
    raw_bytes,
)

__all__ = ["READER"]


class _Lines(Reader):
    name = "lines"
    extensions = ("log", "txt")
    splits = "lines"

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        first = 1
        for lines, has_cr in read_lines(
            source, file.max_record_bytes, max_text_bytes=file.max_text_bytes, opened=file.opened
        ):
            yield _records(lines, has_cr, first, file)
            first += len(lines)

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        return _records([raw.decode("utf-8", "surrogateescape")], True, 1, file)


def _records(lines: list[str], has_cr: bool, first: int, file: Reading) -> Records:
    values: list[Any] = [line.rstrip("\r") for line in lines] if has_cr else lines[:]
    if not all(lines):  # an `OversizedLine` is empty
        for index, line in enumerate(lines):
            if isinstance(line, OversizedLine):
                values[index] = BadRecord(line, TOO_LONG)

    def raw(index: int) -> bytes | OversizedLine:
        line = lines[index]
        return line if isinstance(line, OversizedLine) else raw_bytes(line)

    numbers = range(first, first + len(lines))
    return Records(numbers, repeat(file.path), values, raw, len(lines[0]))


READER = _Lines()
