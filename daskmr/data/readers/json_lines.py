"""The format ``jsonl``: a JSON document a line, as ``json.loads`` reads it, but faster.

`msgspec` decodes the bytes. It refuses everything that it would decode differently from ``json``
(``NaN``, lone surrogates, bytes that are not UTF-8, numbers out of range), which ``json`` then decides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, BinaryIO, NamedTuple

import msgspec

from daskmr.data.readers.lines import read_raw_lines
from daskmr.data.readers.records import (
    MISSING,
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Reader,
    Reading,
    RecordFormat,
    Records,
    take_keys,
    with_keys,
)
from daskmr.job.pluck import Fields

__all__ = ["READER"]

NOT_JSON = "not JSON"

_UNDECIDED = (msgspec.MsgspecError, UnicodeError, RecursionError, TypeError)

Line = bytes | OversizedLine


class _JsonLines(Reader):
    name = "jsonl"
    extensions = ("json", "jsonl", "ndjson")
    options = frozenset({"key", "fields"})
    splits = "lines"

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        decode = _decoder(form)
        limit, first = file.max_record_bytes, 1
        for lines in read_raw_lines(source, limit, opened=file.opened):
            yield _records(lines, decode, first, form, file)
            first += len(lines)

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        return _records([raw], _decoder(form), 1, form, file)


READER = _JsonLines()


class _Decoder(NamedTuple):
    """Functions from the bytes of a line, and of many, to their values, which raise for any reason."""

    one: Callable[[Any], Any]
    many: Callable[[Any], list[Any]]


def _decoder(form: RecordFormat) -> _Decoder:
    if form.fields is None:
        decode = msgspec.json.Decoder().decode
        return _Decoder(decode, lambda lines: [*map(decode, lines)])
    # The last ones are the key: as a name first, like everywhere, then as a path.
    keys = () if form.key is None else ((form.key,), tuple(form.key.split(".")))
    fields = Fields((*form.fields, *keys), None if form.key is None else MISSING)
    return _Decoder(fields.of_bytes, fields.of_lines)


def _records(
    lines: Sequence[Line],
    decoder: _Decoder,
    first: int,
    form: RecordFormat,
    file: Reading,
) -> Records:
    numbers: Sequence[int] = range(first, first + len(lines))
    try:
        values = decoder.many(lines)
    except (ValueError, AttributeError, *_UNDECIDED):
        lines = [*map(_without_end, lines)]
        kept = [index for index, line in enumerate(lines) if _is_record(line)]
        numbers, lines = [first + index for index in kept], [lines[index] for index in kept]
        values = [_value(line, decoder.one, form.fields is not None) for line in lines]
    size = sum(map(len, lines[:1]))

    def raw(index: int) -> Line:
        return _without_end(lines[index])

    records = Records(numbers, repeat(file.path), values, raw, size)
    if form.key is None:
        return records
    if form.fields is None:
        return with_keys(records, form.key, file.path)
    return _with_plucked_keys(records, form.key)


def _without_end(line: Line) -> Line:
    return line if isinstance(line, OversizedLine) else line.removesuffix(b"\n")


def _is_record(line: Line) -> bool:
    return isinstance(line, OversizedLine) or (line != b"" and not line.isspace())


def _value(line: Line, decode: Callable[[Any], Any], plucks: bool) -> Any:
    if isinstance(line, OversizedLine):
        return BadRecord(line, TOO_LONG)
    try:
        try:
            return decode(line)
        except _UNDECIDED:
            if plucks:  # it has already asked ``json``
                raise
            return json.loads(line.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        return BadRecord(line, NOT_JSON, f"{NOT_JSON}: {error}")
    except RecursionError:
        return BadRecord(line, NOT_JSON, f"{NOT_JSON}: it is nested too deeply")


def _with_plucked_keys(records: Records, name: str) -> Records:
    """Separate the key, the first found of the last two plucked values, from the others."""
    rows = records.values
    keys: list[Any] = []
    for index, row in enumerate(rows):
        if type(row) is BadRecord:
            keys.append(None)
            continue
        *fields, key, nested = row
        keys.append(nested if key is MISSING else key)
        rows[index] = (
            (*[None if each is MISSING else each for each in fields],)
            if MISSING in fields
            else (*fields,)
        )
    return take_keys(records, keys, name)
