"""The formats ``csv`` and ``tsv``, by RFC 4180: fields in quotes may hold separators and newlines.

A stray quote would take in the lines up to the next one, or the rest of the file. Where this gives no
valid record, only the first of these lines is a bad record, and reading goes on with the next one.

Marks after a colon change the format: ``csv:;`` has semicolons as separators; with ``#``, as in ``csv:#`` and
``csv:;#``, lines that begin with it are comments. A first line ``sep=;``, of Excel, is no record.
"""

from __future__ import annotations

import csv
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, pairwise, repeat
from operator import add, itemgetter
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import Part
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import (
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Reader,
    Reading,
    RecordFormat,
    Records,
    dicts_of,
    raw_bytes,
)
from daskmr.errors import TaskFailed
from daskmr.job.declared import distinct_names
from daskmr.text import did_you_mean

__all__ = ["CSV", "TSV", "with_marks"]

WRONG_NUMBER = "wrong number of fields"
NOT_CLOSED = "a quote is not closed"
NOT_VALID = "not valid CSV"

_OPEN = "unexpected end of data"  # the message of ``csv`` for a record that continues


class _Delimited(Reader):
    options = frozenset({"key", "columns", "fields"})
    splits = "unquoted lines"

    def __init__(self, name: str, separator: str, marks: str = "") -> None:
        self.name, self.extensions = f"{name}:{marks}" if marks else name, (name,)
        self.separator = marks.replace("#", "") or separator
        self.has_comments = "#" in marks

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        table = _Table(form, file, self, self._header_before(source, form, file))
        for lines, has_cr in read_lines(
            source, file.max_record_bytes, max_text_bytes=file.max_text_bytes, opened=file.opened
        ):
            yield from table.add(lines, has_cr)
        yield from table.end()

    def _header_before(
        self, source: str | BinaryIO, form: RecordFormat, file: Reading
    ) -> tuple[str, ...]:
        """Return the columns of a file whose header is before the part to read; else empty."""
        part: Part | None = getattr(source, "part", None)
        if isinstance(source, str) or part is None or not part.start:
            return ()
        table = _Table(form, file, self)
        for lines, has_cr in read_lines(
            source.name, file.max_record_bytes, max_text_bytes=file.max_text_bytes
        ):
            deque(table.add(lines, has_cr), maxlen=0)
            if table.header:
                break
        return table.header

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        table = _Table(form, file, self, header)
        text = raw.decode("utf-8", "surrogateescape")
        records = [*table.add(text.split("\n"), True), *table.end()]
        return records[0] if records else Records((), (), [], lambda index: b"", 0, header)


CSV = _Delimited("csv", ",")
TSV = _Delimited("tsv", "\t")


def with_marks(name: str) -> Reader | None:
    """Return the format of a name with marks, such as ``csv:;``; ``None`` if it is none."""
    base, _, marks = name.partition(":")
    known = {"csv": ",", "tsv": "\t"}
    if base not in known or not re.fullmatch(r"(?=.)[^\w\s\"#]?#?", marks):
        return None
    return _Delimited(base, known[base], marks)


class _Table:
    """The rows of a file, of which lines arrive in batches.

    - `header`: the columns, once they are known.
    """

    def __init__(
        self,
        form: RecordFormat,
        file: Reading,
        dialect: _Delimited,
        header: tuple[str, ...] = (),
    ) -> None:
        self._form, self._file, self._separator = form, file, dialect.separator
        self._has_comments, self._in_quotes = dialect.has_comments, False
        self._given = form.columns is not None and not header
        self.header = header
        if header:
            self._take_header(header)
        self._first = 1  # the number of the first of the lines that are not parsed yet
        self._rest: list[str] = []  # the lines of a record that continues in the next batch
        self._parsed = 0  # the characters in them when they were last parsed
        self._length = 0  # and now
        csv.field_size_limit(sys.maxsize)

    def add(self, lines: list[str], has_cr: bool) -> Iterator[Records]:
        """Add lines, and yield the records that they complete."""
        if self._has_comments:
            lines = self._without_comments(lines)
        if self._rest:
            self._rest += lines
            self._length += sum(map(len, lines)) + len(lines)
            # Parse the start of a long record again only when it has doubled.
            if self._length < 2 * self._parsed and self._length <= self._file.max_record_bytes:
                return
            lines, self._rest = self._rest, []
        ends = [line.removesuffix("\r") for line in lines] if has_cr else lines
        text = "".join(ends)
        if '"' in text or "\r" in text:
            yield from self._parse(lines, at_end=False)
            return
        rows = list(csv.reader(ends, delimiter=self._separator))
        if not all(rows) or len(rows) != len(lines) or not self.header:  # blank lines, or a header
            yield from self._parse(lines, at_end=False)
            return
        numbers = range(self._first, self._first + len(lines))
        self._first += len(lines)
        spans = [(index, index + 1) for index in range(len(lines))]
        yield self._records(rows, numbers, spans, lines)

    def _without_comments(self, lines: list[str]) -> list[str]:
        """Make lines blank that begin with ``#``, except in quotes."""
        self._in_quotes = self._in_quotes and bool(self._rest)  # False after a stray quote
        found = []
        for line in lines:
            is_comment = line[:1] == "#" and not self._in_quotes
            found.append("" if is_comment else line)
            self._in_quotes ^= found[-1].count('"') % 2 == 1
        return found

    def end(self) -> Iterator[Records]:
        """Yield the records that the end of the file completes."""
        if self._rest:
            lines, self._rest = self._rest, []
            yield from self._parse(lines, at_end=True)

    def _parse(self, lines: list[str], at_end: bool) -> Iterator[Records]:
        """Parse lines of which some may be blank or bad, or belong to the same record."""
        rows: list[Any] = []
        spans: list[tuple[int, int]] = []
        limit, end = self._file.max_record_bytes, len(lines)
        start = self._take_good(lines, rows, spans)
        while start < end:
            for row, stop in self._rows(lines, start):
                if row is None and not at_end:  # it may continue
                    length = sum(len(line) + 1 for line in lines[start:])
                    if length <= limit:
                        self._rest, self._parsed, self._length = lines[start:], length, length
                        end = start
                        break
                again = row is None or (stop - start > 1 and isinstance(row, BadRecord))
                if again:  # a stray quote: only the first line is bad
                    reason = NOT_CLOSED if row is None else NOT_VALID
                    stop = start + 1
                    row = BadRecord(_raw(lines, start, stop), reason)
                elif stop - start > 1 or not row:
                    row = _checked(row, lines[start:stop], limit)
                if row:
                    rows.append(row)
                    spans.append((start, stop))
                start = stop
                if again:
                    if self._has_comments:
                        lines[start:] = self._without_comments(lines[start:])
                    break
        if rows and not self.header:
            rows, spans = self._without_header(rows, spans)
        numbers = [self._first + first for first, _ in spans]
        self._first += end
        if rows:
            yield self._records(rows, numbers, spans, lines)

    def _take_good(self, lines: list[str], rows: list[Any], spans: list[tuple[int, int]]) -> int:
        """Parse up to the first record that is not valid or complete; return the index of its line."""
        reader = csv.reader(map(add, lines, repeat("\n")), delimiter=self._separator, strict=True)
        stops = [0]
        try:
            for row in reader:
                rows.append(row)
                stops.append(reader.line_num)
        except csv.Error:
            pass
        spans += pairwise(stops)
        if len(rows) < stops[-1] or not all(rows):
            for index, (start, stop) in enumerate(spans):
                if stop - start > 1 or not rows[index]:
                    rows[index] = _checked(
                        rows[index], lines[start:stop], self._file.max_record_bytes
                    )
            spans[:] = compress(spans, rows)
            rows[:] = filter(None, rows)
        return stops[-1]

    def _rows(self, lines: list[str], start: int) -> Iterator[tuple[Any, int]]:
        """Yield rows, each with the index after its last line; ``None`` for one that is open."""
        ends = (f"{lines[index]}\n" for index in range(start, len(lines)))
        reader = csv.reader(ends, delimiter=self._separator, strict=True)
        before = start
        while True:
            try:
                row: Any = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                stop = start + reader.line_num
                if str(error) == _OPEN:
                    yield None, stop
                    return
                row = BadRecord(_raw(lines, before, stop), NOT_VALID, str(error))
            before = start + reader.line_num
            yield row, before

    def _without_header(self, rows: list[Any], spans: list[tuple[int, int]]) -> tuple[Any, Any]:
        if rows[0] == ["sep=", ""]:
            rows, spans = rows[1:], spans[1:]
            if not rows:
                return rows, spans
        first = rows[0]
        if self._given:
            header = self._form.columns or ()
            is_header = isinstance(first, list) and header in (tuple(first), distinct_names(first))
        else:
            is_bad = isinstance(first, BadRecord)
            if problem := first.reason if is_bad else first[0].startswith("{") and "JSON":
                raise TaskFailed(
                    f"The input file {self._file.path} has no header: its first line is "
                    f"{problem}. Name its columns with `input_columns = (...)` in the script, or "
                    "repair the file; if it is not CSV, name its format with --records."
                )
            header, is_header = tuple(first), True
            self._check_that_it_is_one(header)
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise TaskFailed(
                    f"The header of the input file {self._file.path} names a column twice: "
                    f"{', '.join(map(repr, twice))}. Give its columns other names, in the script: "
                    f"input_columns = {distinct_names(header)!r}"
                )
        self._take_header(header)
        return rows[is_header:], spans[is_header:]

    def _check_that_it_is_one(self, header: tuple[str, ...]) -> None:
        names = self._form.maybe_columns
        if names is not None and len(names) == len(header) and names != header:
            raise TaskFailed(
                f"The first row of the input file {self._file.path}, {header!r:.120}, has as many fields as "
                "`columns` in the script has names, so it is not clear what those name. If this row is "
                f"a record, since the file has no header, write input_columns = {names!r}. If it is the "
                f"header, write output_columns = {names!r}."
            )

    def _take_header(self, header: tuple[str, ...]) -> None:
        self.header, form = header, self._form
        self._places = {name: place for place, name in enumerate(header)}
        wanted = [".".join(path) for path in form.fields or ()]
        missing = [n for n in [*wanted, *([form.key] if form.key else [])] if n not in header]
        if missing:
            raise TaskFailed(
                f"The input file {self._file.path} has no column {missing[0]!r}. It has "
                f"{', '.join(header)}.{did_you_mean(missing[0], header)} If it has no header, name its "
                "columns with `input_columns = (...)` in the script; daskmr inspect shows them."
            )

    def _records(
        self,
        rows: list[Any],
        numbers: Sequence[int],
        spans: list[tuple[int, int]],
        lines: list[str],
    ) -> Records:
        header, form, width = self.header, self._form, len(self.header)

        def raw(index: int) -> bytes | OversizedLine:
            return _raw(lines, *spans[index])

        bad: dict[int, BadRecord] = {}
        if not _all_have(width, rows):
            for index, row in enumerate(rows):
                if row.__class__ is not list or len(row) != width:
                    bad[index], rows[index] = (
                        _bad(row, raw(index), width, self._form.columns is not None),
                        header,
                    )
        if form.fields is None:
            values: list[Any] = [*dicts_of(header)(rows)]
        else:
            wanted = [map(itemgetter(self._places[".".join(path)]), rows) for path in form.fields]
            values = [*zip(*wanted, strict=True)] if wanted else [()] * len(rows)
        for index, each in bad.items():
            values[index] = each
        keys: Iterable[Any] = repeat(self._file.path)
        if form.key is not None:
            keys = [*map(itemgetter(self._places[form.key]), rows)]
        return Records(numbers, keys, values, raw, sum(map(len, lines[:1])), header)


def _all_have(width: int, rows: list[Any]) -> bool:
    try:
        return {*map(len, rows)} <= {width}
    except TypeError:  # a `BadRecord`
        return False


def _bad(row: Any, raw: bytes | OversizedLine, width: int, is_named: bool) -> BadRecord:
    if isinstance(row, BadRecord):
        return row
    detail = f"it has {len(row)}, and there are {width} columns"
    if is_named:
        detail = (
            f"it has {len(row)}, and the script names {width} columns: write output_columns = (...) "
            "if these are not the columns of the input"
        )
    return BadRecord(raw, WRONG_NUMBER, detail)


def _checked(row: Any, lines: list[str], limit: int) -> Any:
    """Return a row, or a `BadRecord` if its lines are too long; empty for a blank line."""
    for line in lines:
        if isinstance(line, OversizedLine):
            return BadRecord(line, TOO_LONG)
    if len(lines) > 1 and sum(map(len, lines)) * 4 > limit:
        length = sum(len(raw_bytes(line)) + 1 for line in lines) - 1
        if length > limit:
            return BadRecord(OversizedLine(length), TOO_LONG)
    return row


def _raw(lines: list[str], start: int, stop: int) -> bytes | OversizedLine:
    if stop - start == 1 and isinstance(lines[start], OversizedLine):
        return lines[start]  # type: ignore[return-value]
    return raw_bytes("\n".join(lines[start:stop]))
