"""Count the types and values of the fields of some records."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from daskmr.data.inspection.contents import kind_of_text

__all__ = ["FieldFigures", "best_field", "fields_of"]

_DEEPEST = 3  # levels of objects
_MOST = 200  # fields
_MOST_VALUES = 1000
_LONGEST_VALUE = 40  # characters of a value that records are counted by
_CATEGORIES = range(2, 51)  # numbers of values that records are counted by
_TELLING = (
    "status", "event", "type", "kind", "level", "severity", "action", "method", "country", "os",
    "channel", "category", "name", "host", "state", "code",
)  # fmt: skip


@dataclass(slots=True)
class FieldFigures:
    """One field of the records.

    - `path`: the names that lead to it.
    - `in_all`: all records have it, even if it is empty.
    - `share`: of the records, in which it is not the empty text of a table.
    - `types`: the number of values of each type, by its name in Python; in a table, ``"date"`` too.
    - `values`: the number of records with each short scalar value, as text.
    """

    path: tuple[str, ...]
    in_all: bool = False
    share: float = 0.0
    types: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def type(self) -> str:
        """Its types, the most frequent first."""
        return " or ".join(kind for kind, _ in self.types.most_common(3))

    @property
    def is_scalar(self) -> bool:
        return not {"dict", "list"} & self.types.keys()


def fields_of(records: Sequence[Any], as_text: bool = False) -> list[FieldFigures]:
    """Return the fields of some records, in the order in which they occur first.

    - `as_text`: the values are text, of which the types are guessed.

    >>> [(f.name, f.type, f.share) for f in fields_of([{"user": {"id": 1}}, {"user": {}, "n": 0.5}])]
    [('user.id', 'int', 0.5), ('n', 'float', 0.5)]
    """
    found: dict[tuple[str, ...], FieldFigures] = {}
    present: Counter[tuple[str, ...]] = Counter()
    for record in records:
        if not isinstance(record, dict):
            continue
        for path, value in _leaves(record, ()):
            if path not in found and len(found) == _MOST:
                continue
            one = found.setdefault(path, FieldFigures(path))
            present[path] += 1
            if as_text and value == "":
                continue
            kind = "None" if value is None else type(value).__name__
            one.types[kind_of_text(value) if as_text else kind] += 1
            text = str(value)
            room = text in one.values or len(one.values) < _MOST_VALUES
            if room and isinstance(value, str | int | bool) and len(text) <= _LONGEST_VALUE:
                one.values[text] += 1
    for one in found.values():
        one.share = one.types.total() / len(records)
        one.in_all = present[one.path] == len(records)
    return [*found.values()]


def _leaves(
    record: dict[str, Any], above: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in record.items():
        path = (*above, str(name))
        if isinstance(value, dict) and value and len(path) < _DEEPEST:
            yield from _leaves(value, path)
        elif value != {}:
            yield path, value


def best_field(
    fields: Sequence[FieldFigures], records: int, as_columns: bool = False
) -> FieldFigures | None:
    """Return the field whose values are the most useful to count, or ``None``.

    - `as_columns`: the fields are columns, which every file must have to be read.
    """

    def rank(one: FieldFigures) -> tuple[bool, bool, bool, float, int]:
        words = set(re.split(r"[^a-z]+", one.name.lower()))
        telling = bool(words & set(_TELLING))
        return (
            one.in_all,
            telling,
            "str" in one.types or "bool" in one.types,
            one.share,
            -len(one.values),
        )

    above = {one.path[:length] for one in fields for length in range(1, len(one.path))}

    def is_category(one: FieldFigures) -> bool:
        counted = sum(one.values.values())
        distinct = len(one.values)
        few = distinct in _CATEGORIES and (2 * distinct <= counted or records < 10)
        is_read = all(one.path) and (one.in_all or not as_columns)
        return (
            is_read and one.is_scalar and one.path not in above and 2 * counted >= records and few
        )

    return max(filter(is_category, fields), key=rank, default=None)
