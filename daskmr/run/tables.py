"""A result in memory as a table of another library, with a column for each part of key and value."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from daskmr.data.writers.parquet import Column, TypedRows, order_of, schema_of
from daskmr.data.writers.rows import check_columns
from daskmr.errors import DaskMRError, InputError, TaskFailed
from daskmr.job.job import Job
from daskmr.tasks.guard import shortened

__all__ = ["columns_of", "to_arrow", "to_dict", "to_pandas", "to_polars"]

Columns = tuple[str, ...] | None


def to_dict(rows: Iterable[Any]) -> dict[Any, Any]:
    """Return the value of each key; raise ValueError if a key has several, or a row has no key."""
    found: dict[Any, Any] = {}
    for row in rows:
        if not isinstance(row, tuple) or len(row) != 2:
            raise ValueError(
                f"The row {shortened(row)} is not a pair of key and value. Use list(result), or write "
                "the result with context.write(key, value)."
            )
        key, value = row
        if key in found:
            raise ValueError(
                f"The key {shortened(key)} was written more than once, but a dict has one value for it. "
                "Use list(result) or result.to_pandas()."
            )
        found[key] = value
    return found


def to_pandas(rows: Iterable[Any], columns: Columns) -> Any:
    """Return a DataFrame of pandas."""
    pandas = _library("pandas", "pandas")
    return pandas.DataFrame(_as_lists(*_typed(rows, columns), columns))


def to_polars(rows: Iterable[Any], columns: Columns) -> Any:
    """Return a DataFrame of polars."""
    polars = _library("polars", "polars")
    return polars.DataFrame(_as_lists(*_typed(rows, columns), columns), infer_schema_length=None)


def to_arrow(rows: Iterable[Any], columns: Columns) -> Any:
    """Return a Table of pyarrow, with the types that a Parquet output would have."""
    arrow = _library("pyarrow", "parquet")
    typed, found = _typed(rows, columns)
    return arrow.Table.from_pylist(typed, schema=schema_of(found, columns))


def _library(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DaskMRError(
            f"{name} cannot be imported ({error}). Install it: pip install 'daskmr[{extra}]'"
        ) from None


def _typed(
    rows: Iterable[Any], columns: Columns
) -> tuple[list[dict[str, Any]], Mapping[str, Column]]:
    """Return the rows by the names of their columns, and the columns."""
    typed = TypedRows(columns)
    made = []
    for row in rows:
        if isinstance(row, tuple) and len(row) == 2:
            made.append(typed.pair(*row)[0])
        elif isinstance(row, Mapping):
            made.append(typed.json(row)[0])
        else:
            made.append(typed.fields([row])[0])
    try:
        return [row for _, row in typed.pack(made)], typed.report()
    except TaskFailed as error:
        raise DaskMRError(error.message) from None


def _as_lists(
    rows: list[dict[str, Any]], found: Mapping[str, Column], columns: Columns
) -> dict[str, list[Any]]:
    """Return the values of each column; ``None`` where a row has none."""
    lists = {name: [row.get(name) for row in rows] for name in order_of(found, columns)}
    for name, values in lists.items():
        if found[name][0] == "double":
            lists[name] = [None if value is None else float(value) for value in values]
    return lists


def columns_of(job: Job) -> tuple[str, ...] | None:
    """Return the names of the columns of the output that the script gives."""
    try:
        return check_columns(job.output_names)
    except ValueError as error:
        raise InputError(
            f"The columns of {job.path or 'the job'} cannot be used: {error}."
        ) from None
