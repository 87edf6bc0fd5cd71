"""Parquet: columns with a type each, in row groups; needs pyarrow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat, Sink
from daskmr.data.writers.arrow_types import Kind, MixedTypes, advice_on, arrow_type, kind_of, unite
from daskmr.data.writers.rows import fields_of, named, object_of
from daskmr.errors import JobError, TaskFailed
from daskmr.job.json_text import RowError, from_numpy, is_missing, is_numpy
from daskmr.job.pickling import ATOMS, measured

__all__ = ["FORMAT", "Column", "TypedRows", "order_of", "schema_of", "unite_columns"]

_ROWS = 1 << 17  # of a row group
_BYTES = 64 << 20  # of a row group, estimated: it is held in memory
_VALUE = 16  # bytes of a value besides its text
_EXAMPLE = 100  # characters of a row that an error shows
_SHAPES = 10_000  # shapes of rows that are remembered as known

# The kind of a column, the row that it is from, and the last place of the column in a row.
Column = tuple[Kind, str, int]
Entry = tuple[int, dict[str, Any], tuple[Kind, ...]]  # its size, its values, and their kinds


class TypedRows:
    """Rows as dicts of values, with the kinds of their columns."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._known: set[tuple[tuple[str, ...], tuple[Kind, ...]]] = set()
        self._found: dict[str, Column] = {}

    def pair(self, key: Any, value: Any) -> tuple[Entry, int]:
        return self._entry(*named(key, value, self._columns))

    def fields(self, values: Sequence[Any]) -> tuple[Entry, int]:
        return self._entry(fields_of(values, self._columns), values)

    def line(self, text: str) -> tuple[Entry, int]:
        return self.fields([text])

    def json(self, value: Any) -> tuple[Entry, int]:
        return self._entry(*object_of(value, self._columns))

    def _entry(self, names: tuple[str, ...], cells: Sequence[Any]) -> tuple[Entry, int]:
        row: dict[str, Any] = {}
        kinds = []
        size = _VALUE * len(names)
        for name, cell in zip(names, cells, strict=True):
            kind = type(cell)
            try:
                if kind is str or kind is bytes:
                    size += len(cell)
                elif kind not in ATOMS:
                    cell = (
                        from_numpy(cell) if is_numpy(cell) else None if is_missing(cell) else cell
                    )
                    cell, more = measured(cell)
                    size += more
                kinds.append(kind_of(cell))
            except RowError as error:
                raise RowError(f"The column {name!r}: {error}") from None
            row[name] = cell
        return (size, row, (*kinds,)), size

    def pack(self, entries: Sequence[Entry]) -> list[tuple[int, dict[str, Any]]]:
        known = self._known
        for _, row, kinds in entries:
            shape = (*row,), kinds
            if shape not in known:
                if len(known) > _SHAPES:
                    known.clear()
                columns = zip(row, kinds, range(len(row)), strict=True)
                example = repr(row)[:_EXAMPLE]
                new = {name: (kind, example, place) for name, kind, place in columns}
                try:
                    self._found = unite_columns(self._found, new)
                except MixedTypes as error:
                    raise TaskFailed(str(error)) from None
                known.add(shape)
        return [(size, row) for size, row, _ in entries]

    def report(self) -> dict[str, Column]:
        found, self._found = self._found, {}
        self._known.clear()
        return found


def unite_columns(one: Mapping[str, Column], other: Mapping[str, Column]) -> dict[str, Column]:
    """Return the columns of both; raise `MixedTypes`, which names the two rows, if types differ."""
    both = dict(one)
    for name, (kind, example, place) in other.items():
        if name not in both:
            both[name] = kind, example, place
            continue
        before, first, last = both[name]
        try:
            united = unite(before, kind)
        except MixedTypes as error:
            raise MixedTypes(
                f"The column {name!r} has values of mixed types, {error}, as in the rows {first} and "
                f"{example}. Write one type in all rows, as with {advice_on(before, kind)}."
            ) from None
        both[name] = united, first if united == before else example, max(last, place)
    return both


def order_of(found: Mapping[str, Column], columns: Columns) -> list[str]:
    """Return the names of columns in an order that all rows together decide."""
    places = {name: place for place, name in enumerate(columns or ())}
    return sorted(found, key=lambda name: (places.get(name, found[name][2]), name))


def schema_of(found: Mapping[str, Column], columns: Columns) -> Any:
    """Return the schema of pyarrow for columns; those that no row has are empty."""
    import pyarrow as pa

    order = order_of(found, columns)
    missing = [pa.field(name, pa.null()) for name in columns or () if name not in found]
    fields = []
    for name in order:
        try:
            fields.append(pa.field(name, arrow_type(found[name][0])))
        except (ValueError, pa.ArrowException) as error:
            raise JobError(f"Parquet cannot hold the column {name!r}: {error}.") from None
    return pa.schema(fields + missing)


class _File:
    """The sink as a file that pyarrow can write to."""

    closed = False
    is_abandoned = False  # then what pyarrow writes when it deletes its writer goes nowhere

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._position = 0

    def write(self, data: Any) -> int:
        content = bytes(data)
        if not self.is_abandoned:
            self._sink.write_bytes(content)
        self._position += len(content)
        return len(content)

    def tell(self) -> int:
        return self._position

    def flush(self) -> None:
        """Do nothing, because the output is flushed when it is closed."""

    def close(self) -> None:
        """Do nothing, because the output is closed by its owner."""


class ParquetFile:
    """Writes row groups, whose limits depend on the rows alone."""

    def __init__(self, sink: Sink, schema: Any) -> None:
        from pyarrow import parquet

        self._schema = schema
        self._file = _File(sink)
        self._writer = parquet.ParquetWriter(self._file, schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def write(self, batch: Sequence[Sequence[tuple[int, dict[str, Any]]]]) -> None:
        for rows in batch:
            for size, row in rows:
                self._rows.append(row)
                self._size += size
                if len(self._rows) >= _ROWS or self._size >= _BYTES:
                    self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        if not self._schema.names:
            raise JobError("Parquet cannot hold rows without columns. Write at least a key.")
        try:
            table = pa.Table.from_pylist(self._rows, schema=self._schema)
            self._writer.write_table(table)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise JobError(
                f"Parquet cannot hold the output: {error}. Nothing was written."
            ) from None
        self._rows, self._size = [], 0

    def close(self) -> None:
        if self._rows:
            self._write_group()
        self._writer.close()

    def __del__(self) -> None:
        self._file.is_abandoned = True


def _prepare(
    header: Sequence[Entry], reports: Sequence[Mapping[str, Column]], columns: Columns
) -> tuple[Any, list[Any]]:
    """Return the schema, and the rows of the header."""
    before = TypedRows(columns)
    first = before.pack(header)
    found: Mapping[str, Column] = before.report()
    try:
        for report in reports:
            found = unite_columns(found, report)
    except MixedTypes as error:
        raise JobError(str(error)) from None
    return schema_of(found, columns), first


def _open(sink: Sink, prepared: tuple[Any, list[Any]], first: bool) -> ParquetFile:
    schema, rows = prepared
    writer = ParquetFile(sink, schema)
    if first:
        writer.write([rows])
    return writer


FORMAT = OutputFormat(
    "parquet", (".parquet",), TypedRows, _prepare, _open, True, ("pyarrow", "parquet")
)
