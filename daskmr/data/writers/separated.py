"""Rows of text with a separator, as in CSV: quoted by the standard library, with a header."""

from __future__ import annotations

import csv
import types
from collections.abc import Mapping, Sequence
from typing import Any

from daskmr.data.writers import Columns
from daskmr.data.writers.rows import fields_of, is_numbered, named, object_of
from daskmr.errors import JobError, TaskFailed
from daskmr.job.contexts import all_digits, refuse_address
from daskmr.job.json_text import RowError, is_missing, is_numpy, to_json
from daskmr.job.pickling import ATOMS

__all__ = ["OR_NAME_THEM", "SeparatedRows", "header_of"]

Names = tuple[str, ...] | None  # of a row; empty for a row of ``writecsv``, None for a line
_EXAMPLE = 100  # characters of a row that an error shows


class SeparatedRows:
    """Rows as lines of values.

    - `end`: the end of a line.
    An entry is the names of its columns, and the line.
    """

    def __init__(self, columns: Columns, separator: str, end: str) -> None:
        self._columns, self._separator, self._end = columns, separator, end
        self._lines: list[str] = []
        target = types.SimpleNamespace(write=self._lines.append)
        self._writer = csv.writer(target, delimiter=separator)
        self._shapes: dict[tuple[str, ...], str] = {}  # an example for each

    def pair(self, key: Any, value: Any) -> tuple[tuple[Names, str], int]:
        return self._entry(*named(key, value, self._columns))

    def fields(self, values: Sequence[Any]) -> tuple[tuple[Names, str], int]:
        names = () if self._columns is None else fields_of(values, self._columns)
        return self._entry(names, values)

    def line(self, text: str) -> tuple[tuple[Names, str], int]:
        return (None, f"{text}{self._end}"), len(text)

    def json(self, value: Any) -> tuple[tuple[Names, str], int]:
        return self._entry(*object_of(value, self._columns))

    def _entry(self, names: tuple[str, ...], cells: Sequence[Any]) -> tuple[tuple[Names, str], int]:
        if not cells:
            raise RowError("A row without parts would be a blank line. Write at least a key.")
        line = self.encode([c if type(c) is str or type(c) is int else _cell(c) for c in cells])
        return (names, line), len(line)

    def encode(self, cells: Sequence[Any]) -> str:
        """Return a line, quoted where needed."""
        lines = self._lines
        lines.clear()
        try:
            self._writer.writerow(cells)
        except ValueError:  # an integer of more digits than Python converts by default
            all_digits(self._writer.writerow, cells)
        line = lines[0]
        return line if self._end == "\r\n" else line[:-2] + self._end

    def pack(self, entries: Sequence[tuple[Names, str]]) -> str:
        shapes = self._shapes
        for names, line in entries:
            if names is not None and names not in shapes:
                shapes[names] = line[:_EXAMPLE]
        if len(shapes) > 1:
            raise TaskFailed(_differ(shapes))
        return "".join([line for _, line in entries])

    def report(self) -> dict[tuple[str, ...], str]:
        shapes, self._shapes = self._shapes, {}
        return shapes


def _cell(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "surrogateescape")
    if is_missing(value):
        return None
    if isinstance(value, Mapping | list | tuple) or (is_numpy(value) and value.ndim):
        return to_json(value)
    if isinstance(value, set | frozenset):
        raise RowError(
            f"A {type(value).__name__} cannot be written to the output, because its order differs "
            "from run to run. Write sorted(...) of it."
        )
    if type(value) not in ATOMS:
        refuse_address(value)
    return value


OR_NAME_THEM = (
    ", or name the columns in the script, where what a dict lacks stays empty:\noutput_columns = "
)
"""Advice for the main output."""


def _differ(shapes: Mapping[tuple[str, ...], str]) -> str:
    (first, one), (second, other) = list(shapes.items())[:2]
    advice = "Write the same parts in each."
    # Only what a dict lacks can stay empty, and its entries have names of their own.
    if not any(map(is_numbered, {*first} ^ {*second})):
        names = tuple(dict.fromkeys((*first, *second)))
        advice = f"Write the same parts in each{OR_NAME_THEM}{names}"
    return (
        f"Two rows of the output have different columns, but its header is the same for all: "
        f"{one.strip()!r} has {', '.join(first) or 'no names'}; {other.strip()!r} has "
        f"{', '.join(second) or 'no names'}. Nothing was written. {advice}"
    )


def header_of(
    header: Sequence[tuple[Names, str]],
    reports: Sequence[Mapping[tuple[str, ...], str]],
    columns: Columns,
    rows: SeparatedRows,
) -> str:
    """Return the header: what `setup_reduce` wrote, or else the names of the columns, if there are any."""
    if header:
        return "".join(line for _, line in header)
    shapes: dict[tuple[str, ...], str] = {}
    for report in reports:
        shapes |= {names: line for names, line in report.items() if names not in shapes}
    if len(shapes) > 1:
        raise JobError(_differ(shapes))
    names = next(iter(shapes), columns or ())
    return rows.encode(names) if names else ""
