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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress, pairwise, repeat
from operator import add, itemgetter
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import Part
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import (
    SEPARATORS,
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Reader,
    Reading,
    RecordFormat,
    Records,
    as_text,
    dicts_of,
    explain_columns,
    raw_bytes,
)
from daskmr.errors import TaskFailed, foreign
from daskmr.job.declared import distinct_names
from daskmr.text import format_bytes, shell_word

__all__ = ["CSV", "TSV", "with_marks"]

WRONG_NUMBER = "wrong number of fields"
NOT_CLOSED = "a quote is not closed"
NOT_VALID = "not valid CSV"

_SEPARATOR_LINE = re.compile(r'sep=([^\w\s"#]|\t)')
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

    def check_first(self, row: Any, path: str) -> None:
        """Raise TaskFailed if the first row of a file names another separator."""
        if mark := _SEPARATOR_LINE.fullmatch(_single(row)):
            raise self._refusal(mark[1], path, f"begins with the line {mark[0]!r} of Excel.")

    def check_header(self, header: tuple[str, ...], first: Any, path: str) -> None:
        """Raise TaskFailed if another separator splits a single column and the first record alike."""
        name, text = _single(header), _single(first)
        for separator in SEPARATORS:
            if separator != self.separator and 0 < name.count(separator) == text.count(separator):
                script = f"write input_columns = {header!r} in the script"
                problem = f"has the single column {name!r}. If this is its name, {script}."
                raise self._refusal(separator, path, problem)

    def _refusal(self, separator: str, path: str, problem: str) -> TaskFailed:
        described, name = SEPARATORS.get(separator, (separator, f"csv:{separator}"))
        name += (":" * (":" not in name) + "#") * self.has_comments
        return TaskFailed(
            f"The input file {path} {problem} To separate its columns by {described}: "
            f"--records {shell_word(name)}"
        )

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


@dataclass(slots=True)
class _LongRecord:
    """A record that is too long to keep, up to its last line so far."""

    start: str
    file: Reading
    lines: int = 0
    length: int = -1
    text_bytes: int = -1

    def is_closed_by(self, line: str, separator: str) -> bool:
        """Add a line, and check whether it is the last; raise TaskFailed if a quote is a stray one."""
        is_open = self.lines > 0
        self.lines += 1
        if isinstance(line, OversizedLine):
            self.length += line.length + 1
            self.text_bytes += line.text_bytes + 1
            return is_open is (line.quotes % 2 == 1)
        self.length += (length := len(raw_bytes(line)) + 1)
        self.text_bytes += length
        text = f'"{line}\n' if is_open else f"{line}\n"
        try:
            return bool(list(csv.reader([text], delimiter=separator, strict=True)))
        except csv.Error as error:
            if str(error) != _OPEN:
                raise self.failure() from None
            return False

    def failure(self) -> TaskFailed:
        """Return the error for a record of which it is not clear where it ends."""
        return TaskFailed(
            f"In the input file {self.file.path}, the record that begins with {self.start!r} has a quote "
            f"that is not closed within {format_bytes(self.file.max_record_bytes)}, nor as it should be "
            "after that, so it is not clear where the next record begins. Repair this line; or raise the "
            "longest record that is read, by daskmr.max-record-bytes and --memory-limit: where nothing "
            "closes a quote, only its line is a bad record."
        )


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
        self._form, self._file, self._dialect = form, file, dialect
        self._given = form.columns is not None and not header
        self.header, self._is_unsure = header, False  # whether its separator is the right one
        if header:
            self._take_header(header)
        self._first = 1  # the number of the first of the lines that are not parsed yet
        self._rest: list[str] = []  # the lines of a record that continues in the next batch
        self._parsed = 0  # the bytes in them when they were last parsed
        self._length = 0  # and now
        self._long: _LongRecord | None = None  # the one whose lines are dropped
        csv.field_size_limit(sys.maxsize)

    def add(self, lines: list[str], has_cr: bool) -> Iterator[Records]:
        """Add lines, and yield the records that they complete."""
        if self._rest:
            self._rest += lines
            self._length += _bytes_of(lines)
            # Parse the start of a long record again only when it has doubled.
            if self._length < 2 * self._parsed and self._length <= self._file.max_record_bytes:
                return
            lines, self._rest = self._rest, []
        ends = [line.removesuffix("\r") for line in lines] if has_cr else lines
        text = "".join(ends)
        is_special = self._dialect.has_comments or self._long is not None
        if is_special or '"' in text or "\r" in text:
            yield from self._parse(lines, at_end=False)
            return
        rows = list(csv.reader(ends, delimiter=self._dialect.separator))
        if not all(rows) or len(rows) != len(lines) or not self.header:  # blank lines, or a header
            yield from self._parse(lines, at_end=False)
            return
        numbers = range(self._first, self._first + len(lines))
        self._first += len(lines)
        spans = [(index, index + 1) for index in range(len(lines))]
        yield self._records(rows, numbers, spans, lines)

    def end(self) -> Iterator[Records]:
        """Yield the records that the end of the file completes."""
        lines, self._rest = self._rest, []
        yield from self._parse(lines, at_end=True)
        if self._long is not None:
            raise self._long.failure()

    def _parse(self, lines: list[str], at_end: bool) -> Iterator[Records]:
        """Parse lines of which some may be blank or bad, or belong to the same record.

        The result does not depend on where a batch of lines ends.
        """
        while lines:
            if self._long is None:
                lines = yield from self._take(lines, at_end)
            else:
                lines = yield from self._drop(lines, self._long)

    def _take(self, lines: list[str], at_end: bool) -> Generator[Records, None, list[str]]:
        """Yield the records up to one that is too long; return the lines from that on."""
        rows: list[Any] = []
        spans: list[tuple[int, int]] = []
        start, end = 0, len(lines)
        known = end
        if "" in lines:
            known = next((n for n, line in enumerate(lines) if type(line) is OversizedLine), end)
        while start < known:
            start, stop, error = self._take_good(lines, start, known, rows, spans)
            is_open, length = error == _OPEN, _bytes_of(lines[start:stop])
            if start == known or length > self._file.max_record_bytes or (is_open and known < end):
                break
            if is_open and not at_end:
                self._rest, self._parsed, self._length = lines[start:], length, length
                end = start
                break
            if is_open or stop - start > 1:  # a stray quote: only the first line is bad
                stop, reason, error = start + 1, NOT_CLOSED if is_open else NOT_VALID, ""
            else:
                reason = NOT_VALID
            rows.append(BadRecord(_raw(lines, start, stop), reason, error))
            spans.append((start, stop))
            start = stop
        yield from self._found(rows, spans, lines)
        self._first += start
        if start < end:
            line = lines[start]
            text = as_text(line.start) if isinstance(line, OversizedLine) else line[:80]
            if self._dialect.has_comments and text[:1] == "#":
                self._first, start = self._first + 1, start + 1
            else:
                self._long = _LongRecord(text, self._file)
        return lines[start:end]

    def _take_good(
        self,
        lines: list[str],
        start: int,
        end: int,
        rows: list[Any],
        spans: list[tuple[int, int]],
    ) -> tuple[int, int, str]:
        """Parse up to the first record that is not valid or not complete.

        Returns the index of its first line, that after its last line, and the message of ``csv``.
        """
        stops, error, before = [start], "", len(rows)
        text: Iterable[str] = map(add, lines[start:end], repeat("\n"))
        if self._dialect.has_comments:
            text = _without_comments(text, lambda: stops[-1] - start)
        reader = csv.reader(text, delimiter=self._dialect.separator, strict=True)
        try:
            for row in reader:
                rows.append(row)
                stops.append(start + reader.line_num)
        except csv.Error as failure:
            error = str(failure)
        spans += pairwise(stops)
        good, limit = stops[-1], self._file.max_record_bytes
        if len(stops) - 1 < good - start or not all(rows):
            if sum(map(len, lines)) * 4 > limit:
                for index, (first, after) in enumerate(spans[before:], before):
                    if after - first > 1 and (length := _bytes_of(lines[first:after])) > limit:
                        rows[index] = BadRecord(OversizedLine(length), TOO_LONG)
            spans[:] = compress(spans, rows)
            rows[:] = filter(None, rows)
        return good, start + reader.line_num, error

    def _drop(self, lines: list[str], record: _LongRecord) -> Generator[Records, None, list[str]]:
        """Drop the lines of a record that is too long, and yield it; return those after it."""
        for index, line in enumerate(lines, 1):
            if record.is_closed_by(line, self._dialect.separator):
                self._long, whole = None, OversizedLine(record.length, record.text_bytes)
                yield from self._found([BadRecord(whole, TOO_LONG)], [(0, 1)], [whole])
                self._first += record.lines
                return lines[index:]
        return []

    def _found(
        self, rows: list[Any], spans: list[tuple[int, int]], lines: list[str]
    ) -> Iterator[Records]:
        if rows and not self.header:
            rows, spans = self._without_header(rows, spans)
        if rows:
            yield self._records(rows, [self._first + first for first, _ in spans], spans, lines)

    def _without_header(self, rows: list[Any], spans: list[tuple[int, int]]) -> tuple[Any, Any]:
        if rows[0] == ["sep=", ""]:
            rows, spans = rows[1:], spans[1:]
            if not rows:
                return rows, spans
        first = rows[0]
        form, path = self._form, self._file.path
        self._dialect.check_first(first, path)
        if self._given:
            header = form.columns or ()
            is_header = isinstance(first, list) and header in (tuple(first), distinct_names(first))
        else:
            is_bad = isinstance(first, BadRecord)
            if problem := first.reason if is_bad else first[0].startswith("{") and "JSON":
                raise foreign(
                    TaskFailed(
                        f"The input file {path} has no header: its first line is "
                        f"{problem}. Name its columns with `input_columns = (...)` in the script, or "
                        "repair the file; if it is not CSV, name its format with --records."
                    )
                )
            header, is_header = tuple(first), True
            self._check_that_it_is_one(header)
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise TaskFailed(
                    f"The header of the input file {path} names a column twice: "
                    f"{', '.join(map(repr, twice))}. Give its columns other names, in the script: "
                    f"input_columns = {distinct_names(header)!r}"
                )
        self._take_header(header)
        self._is_unsure = {form.columns, form.fields, form.key} == {None}
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
            raise foreign(
                TaskFailed(
                    f"The input file {self._file.path} has no column {missing[0]!r}. "
                    f"{explain_columns(header, missing[0], is_text=True)}"
                )
            )

    def _records(
        self,
        rows: list[Any],
        numbers: Sequence[int],
        spans: list[tuple[int, int]],
        lines: list[str],
    ) -> Records:
        header, form, width = self.header, self._form, len(self.header)
        if self._is_unsure:
            self._is_unsure = False
            self._dialect.check_header(header, rows[0], self._file.path)

        def raw(index: int) -> bytes | OversizedLine:
            value = values[index]
            return value.raw if type(value) is BadRecord else _raw(lines, *spans[index])

        bad: dict[int, BadRecord] = {}
        if not _all_have(width, rows):
            for index, row in enumerate(rows):
                if row.__class__ is not list or len(row) != width:
                    bad[index], rows[index] = (
                        _bad(
                            row, _raw(lines, *spans[index]), header, self._form.columns is not None
                        ),
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


def _without_comments(lines: Iterable[str], parsed: Callable[[], int]) -> Iterator[str]:
    """Make lines blank that begin with ``#`` where a record begins: after `parsed` lines."""
    for number, line in enumerate(lines):
        yield "\n" if line[0] == "#" and number == parsed() else line


def _single(row: Any) -> str:
    """Return the only field of a row; ``""`` if it is bad, or has several."""
    return row[0] if isinstance(row, list | tuple) and len(row) == 1 else ""


def _all_have(width: int, rows: list[Any]) -> bool:
    try:
        return {*map(len, rows)} <= {width}
    except TypeError:  # a `BadRecord`
        return False


def _bad(
    row: Any, raw: bytes | OversizedLine, header: tuple[str, ...], is_named: bool
) -> BadRecord:
    if isinstance(row, BadRecord):
        return row
    detail = f"it has {len(row)}, and there are {len(header)} columns"
    if is_named:
        detail = (
            f"it has {len(row)}, and the script names {len(header)} columns: write output_columns = (...) "
            "if these are not the columns of the input"
        )
    elif len(header) == 1:
        detail = f"it has {len(row)}. {explain_columns(header, is_text=True)}"
    return BadRecord(raw, WRONG_NUMBER, detail)


def _bytes_of(lines: Sequence[str]) -> int:
    """Return the size of lines, and of the newlines between them."""
    return sum(map(len, map(raw_bytes, lines))) + len(lines) - 1


def _raw(lines: list[str], start: int, stop: int) -> bytes | OversizedLine:
    if stop - start == 1 and isinstance(lines[start], OversizedLine):
        return lines[start]  # type: ignore[return-value]
    return raw_bytes("\n".join(lines[start:stop]))
