"""Name the parts of a key and a value: the columns of a row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count, islice
from typing import Any

from daskmr.job.json_text import Cell, RowError
from daskmr.job.tracebacks import short_repr
from daskmr.text import counted, did_you_mean

__all__ = ["check_columns", "fields_of", "is_numbered", "named", "object_of"]

Columns = tuple[str, ...] | None


def named(key: Any, value: Any, columns: Columns) -> tuple[tuple[str, ...], Sequence[Any]]:
    """Return the names and the values of the row of a pair.

    The parts of a key are the elements of a tuple, those of a value the elements of a tuple or list,
    or the entries of a dict, which have their own names. The others are named by `columns` in order,
    or else ``key``, ``key_2`` and so on, ``value``, ``value_2`` and so on.
    Where `columns` names more than the parts of the key, it also chooses the entries of a dict.

    Raises `RowError` if `columns` does not fit.

    >>> named(("linux", 3), 7, None)
    (('key', 'key_2', 'value'), ('linux', 3, 7))
    >>> named("linux", {"mean": 2.5}, ("os",))
    (('os', 'mean'), ('linux', 2.5))
    """
    parts = key if isinstance(key, tuple) else (key,)
    if isinstance(value, Mapping):
        return _with_entries(parts, value, columns)
    values = value if isinstance(value, tuple | list) else (value,)
    if isinstance(value, Cell):
        values = ([*value],)
    cells = (*parts, *values)
    if columns is None:
        return _numbered(len(parts), len(values)), cells
    return _fitting(cells, columns), cells


@lru_cache(1024)
def _numbered(keys: int, values: int) -> tuple[str, ...]:
    names = [("key", count) for count in range(keys)] + [("value", n) for n in range(values)]
    return tuple(name if place == 0 else f"{name}_{place + 1}" for name, place in names)


def _fitting(cells: Sequence[Any], columns: tuple[str, ...]) -> tuple[str, ...]:
    if len(cells) != len(columns):
        raise RowError(
            f"The row {short_repr(cells)} has {counted(len(cells), 'part')}, but the script names "
            f"{counted(len(columns), 'column')} of the output: {', '.join(columns)}. Name each part, or "
            "write as many. Names of columns of the input are input_columns."
        )
    return columns


def is_numbered(name: str) -> bool:
    """Check for a name that a part without one gets.

    >>> is_numbered("value_2"), is_numbered("values")
    (True, False)
    """
    return re.fullmatch(r"(key|value)(_\d+)?", name) is not None


def _with_entries(
    parts: tuple[Any, ...], value: Mapping[Any, Any], columns: Columns
) -> tuple[tuple[str, ...], Sequence[Any]]:
    entries = {str(name): each for name, each in value.items()}
    if columns is not None and len(columns) < len(parts):
        _fitting(parts, columns)
    before = _numbered(len(parts), 0) if columns is None else columns[: len(parts)]
    chosen = () if columns is None else columns[len(parts) :]
    if columns is None or not chosen:
        both = entries.keys() & set(before)
        if both or len(entries) != len(value):
            advice = "Rename the entry"
            if both:
                names = (f"id_{place}" for place in count(1))
                free = tuple(islice((name for name in names if name not in entries), len(parts)))
                advice += f", or name the parts of the key: output_columns = {free}"
            raise RowError(
                f"Two parts of a row are called {', '.join(sorted(both)) or 'the same'}: an entry of "
                f"the value and another. {advice}"
            )
        return (*before, *entries), (*parts, *entries.values())
    unknown = entries.keys() - set(chosen)
    if unknown:
        raise RowError(
            f"The script names the columns of the output {', '.join(columns)}, but not "
            f"{', '.join(map(repr, sorted(unknown)))}, an entry of the value. Add the name, or leave "
            f"the entry out.{did_you_mean(min(unknown), chosen)}"
        )
    return columns, (*parts, *map(entries.get, chosen))


def fields_of(values: Sequence[Any], columns: Columns) -> tuple[str, ...]:
    """Return the names of the values of a row without a key.

    >>> fields_of(["linux", 7], None)
    ('value', 'value_2')
    """
    return _numbered(0, len(values)) if columns is None else _fitting(values, columns)


def object_of(value: Any, columns: Columns) -> tuple[tuple[str, ...], Sequence[Any]]:
    """Return the names and the values of the row of an object, which must be a dict."""
    if not isinstance(value, Mapping):
        raise RowError(
            f"context.writejson was given a {type(value).__name__}, which has no columns. Give it a "
            "dict, or write an output that ends in .jsonl."
        )
    return _with_entries((), value, columns)


def check_columns(columns: Any) -> Columns:
    """Return the names of columns as a tuple; raise ValueError if they are not names.

    >>> check_columns(["os", "documents"])
    ('os', 'documents')
    """
    if columns is None:
        return None
    if isinstance(columns, str) or not isinstance(columns, tuple | list):
        raise ValueError(
            f'it must be a tuple of names, such as ("os", "count"), not {columns!r:.80}'
        )
    for name in columns:
        if not isinstance(name, str) or not name:
            raise ValueError(f"{name!r:.80} is not the name of a column")
    if len({*columns}) < len(columns):
        raise ValueError(f"it names {max(columns, key=columns.count)!r} twice")
    return tuple(columns) or None
