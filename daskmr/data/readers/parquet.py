"""The format ``parquet``, read by pyarrow (extra ``[parquet]``): a dict of Python values a row.

Only the columns that are asked for are read, a part of a row group at a time.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from datetime import date, datetime, time
from importlib.util import find_spec
from itertools import accumulate, repeat
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import Part
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import (
    MISSING,
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
    take_keys,
)
from daskmr.errors import InputError, TaskFailed

__all__ = ["READER", "readable", "row_groups"]

_INSTALL = "Parquet needs pyarrow: pip install 'daskmr[parquet]'"
_BATCH_BYTES = 1 << 20  # bytes of the rows of a batch, according to the file's own figures
_MOST_ROWS = 4096
_COPY_BYTES = 1 << 20
_NO_VALUE = "a value that Python does not have"
_PACKED = as_text(b"\xff\xff\xff\xff")  # what a packed row begins with


class _Parquet(Reader):
    name = "parquet"
    extensions = ("parquet",)
    unit = "row"
    options = frozenset({"key", "fields"})
    splits = "row groups"

    def check(self, form: RecordFormat) -> None:
        super().check(form)
        if find_spec("pyarrow") is None:
            raise InputError(f"{_INSTALL}.")

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        path = source if isinstance(source, str) else str(source.name)
        with _seekable(source) as opened:
            yield from _read(opened, path, form, file, getattr(source, "part", None))

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        pa = _pyarrow()
        with pa.ipc.open_stream(raw) as reader:
            (batch,) = reader
        return _records(batch, 1, form, file)


READER = _Parquet()


def readable(text: str) -> Any:
    """Return the text of a record for messages: a row of Parquet as the dict that `map` gets."""
    if not text.startswith(_PACKED):
        return text
    pa = _pyarrow()
    try:
        with pa.ipc.open_stream(raw_bytes(text)) as reader:
            return reader.read_all().to_pylist()[0]
    except Exception:  # it is of another format, or has values that Python does not have
        return text


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise TaskFailed(f"{_INSTALL}, on every machine that runs workers.") from None
    return pyarrow


def _seekable(source: str | BinaryIO) -> BinaryIO:
    """Return a file with random access; a stream from a store is copied to a temporary file."""
    if isinstance(source, str):
        return open(source, "rb")
    if isinstance(source, io.FileIO):
        return open(source.name, "rb")  # a `LocalFile`, which counts only reads in order
    copy: Any = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    while data := source.read(_COPY_BYTES):
        copy.write(data)
    copy.seek(0)
    opened: BinaryIO = copy
    return opened


def _read(
    opened: BinaryIO, path: str, form: RecordFormat, file: Reading, part: Part | None
) -> Iterator[Records]:
    pa = _pyarrow()
    if not opened.read(1):  # as in every format, an empty file holds no records
        return
    opened.seek(0)
    try:
        parquet = pa.parquet.ParquetFile(
            opened,
            pre_buffer=False,
            buffer_size=_COPY_BYTES,
            coerce_int96_timestamp_unit="us",
        )
        columns = _columns(parquet.schema_arrow.names, path, form)
        size = os.fstat(opened.fileno()).st_size
        first, groups = _groups_of(parquet.metadata, part, size)
        batches = parquet.iter_batches(
            _rows_of(parquet.metadata), row_groups=groups, columns=columns, use_threads=False
        )
        while True:
            batch = next(batches, None)
            if batch is None:
                return
            yield _records(batch, first, form, file)
            first += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _explain(error, path) from None


def _groups_of(metadata: Any, part: Part | None, size: int) -> tuple[int, list[int] | None]:
    """Return the number of the first row to read, and the row groups; ``None``: all."""
    if part is None:
        return 1, None
    starts, end = _starts(metadata, size), part.end
    groups = [n for n, at in enumerate(starts) if at >= part.start and (end is None or at < end)]
    before = range(groups[0] if groups else 0)
    return 1 + sum(metadata.row_group(n).num_rows for n in before), groups


def _starts(metadata: Any, size: int) -> list[int]:
    """Return where each row group of a file of `size` bytes begins, in proportion to the data.

    The true offsets are in the columns of the metadata, but to look at one that is encrypted ends
    the process (pyarrow 26).
    """
    sizes = [metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)]
    before = [0, *accumulate(sizes)]
    return [size * each // max(1, before[-1]) for each in before[:-1]]


def row_groups(path: str) -> list[tuple[int, int]]:
    """Return where each row group of a file begins, and the size of its data.

    It is empty if the file cannot be read, or a row group is empty.
    """
    pa = _pyarrow()
    try:
        metadata = pa.parquet.read_metadata(path)
        starts = _starts(metadata, os.path.getsize(path))
        sizes = [metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        return []
    return list(zip(starts, sizes, strict=True)) if starts == sorted({*starts}) else []


def _explain(error: Exception, path: str) -> Exception:
    reason = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, OSError) and error.errno is not None:
        error.filename = path
        return error
    if "crypt" in reason or "PARE" in reason:
        return TaskFailed(
            f"The input file {path} is encrypted, and cannot be read without its keys. Replace it "
            "with a decrypted copy, or exclude it with the filter."
        )
    if "magic bytes" in reason:
        reason = (
            "it does not end as such files do; if it has another format, name that with --records"
        )
    if isinstance(error, MemoryError):
        return error
    return CorruptFileError(path, 0, f"the Parquet data is not valid ({reason})")


def _columns(names: list[str], path: str, form: RecordFormat) -> list[str] | None:
    """Return the columns to read; ``None`` for all."""
    if form.fields is None:
        asked = [] if form.key is None else [_top(names, tuple(form.key.split(".")))]
    else:
        paths = [*form.fields, *([] if form.key is None else [tuple(form.key.split("."))])]
        asked = [_top(names, each) for each in paths]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TaskFailed(
            f"The input file {path} has two columns of one name: {', '.join(map(repr, twice))}. Rename "
            "one of them, or exclude the file with the filter."
        )
    for name in asked:
        if name not in names:
            raise TaskFailed(
                f"The input file {path} has no column {name!r}. {explain_columns(names, name)}"
            )
    return None if form.fields is None else list(dict.fromkeys(asked))


def _top(names: list[str], path: tuple[str, ...]) -> str:
    whole = ".".join(path)
    return whole if whole in names else path[0]


def _rows_of(metadata: Any) -> int:
    """Return the number of rows of a batch, so that its memory is bounded."""
    groups = [metadata.row_group(n) for n in range(min(metadata.num_row_groups, 100))]
    most = max((g.total_byte_size // max(1, g.num_rows) for g in groups), default=0)
    return max(1, min(_MOST_ROWS, _BATCH_BYTES // max(1, most)))


def _records(batch: Any, first: int, form: RecordFormat, file: Reading) -> Records:
    names, count = batch.schema.names, batch.num_rows
    bad: dict[int, str] = {}
    columns = {n: _python(c, n, bad) for n, c in zip(names, batch.columns, strict=True)}
    if form.fields is None:
        rows = zip(*columns.values(), strict=True) if names else repeat((), count)
        values: list[Any] = [*dicts_of(tuple(columns))(rows)]
    else:
        found = [_field(columns, path, None) for path in form.fields]
        values = [*zip(*found, strict=True)] if found else [()] * count

    def raw(index: int) -> bytes | OversizedLine:
        value = values[index]
        if isinstance(value, BadRecord) and isinstance(value.raw, OversizedLine):
            return value.raw
        return _packed(batch.slice(index, 1))

    for index, detail in bad.items():
        values[index] = BadRecord(raw(index), _NO_VALUE, detail)
    if batch.nbytes > file.max_record_bytes:
        for index in range(count):
            size = batch.slice(index, 1).nbytes
            if size > file.max_record_bytes:
                values[index] = BadRecord(OversizedLine(size), TOO_LONG)
    numbers, header = range(first, first + count), tuple(names)
    records = Records(numbers, repeat(file.path), values, raw, batch.nbytes, header)
    if form.key is None:
        return records
    return take_keys(records, _field(columns, tuple(form.key.split(".")), MISSING), form.key)


def _field(columns: dict[str, list[Any]], path: tuple[str, ...], default: Any) -> list[Any]:
    """Return the values of a column, or of a field in one."""
    whole = ".".join(path)
    if whole in columns:
        return columns[whole]
    values = columns[path[0]]
    for name in path[1:]:
        values = [v.get(name, default) if type(v) is dict else default for v in values]
    return values


def _python(column: Any, name: str, bad: dict[int, str]) -> list[Any]:
    """Return the values of a column; add an explanation to `bad` for each that Python does not have."""
    pa = _pyarrow()
    try:
        return _to_list(column)
    except (pa.ArrowException, UnicodeDecodeError):
        raise
    except (OverflowError, ValueError):
        values = []
        for index, scalar in enumerate(column):
            try:
                values.append(scalar.as_py())
            except (OverflowError, ValueError) as error:
                values.append(None)
                bad[index] = f"the column {name} has {_NO_VALUE}: {error}"
        return values


def _to_list(column: Any) -> list[Any]:
    """Return what ``to_pylist`` does; by way of NumPy where that is many times as fast."""
    from pyarrow import types

    if types.is_dictionary(column.type):
        return _to_list(column.dictionary_decode())
    kind = _in_microseconds(column.type)
    if kind != column.type:
        column = column.cast(kind, safe=False)
    if column.null_count == 0 and (types.is_integer(kind) or types.is_float64(kind)):
        values: list[Any] = column.to_numpy().tolist()
        return values
    zone = kind.tz if types.is_timestamp(kind) else None
    is_moment = types.is_timestamp(kind) or types.is_time(kind)
    if types.is_date32(kind) or (is_moment and zone in (None, "UTC")):
        values = column.to_numpy(zero_copy_only=False).tolist()
        # Years that Python does not have are numbers here.
        if {*map(type, values)} <= {datetime, date, time, type(None)}:
            if zone:
                utc = _pyarrow().lib.string_to_tzinfo(zone)
                values = [value and value.replace(tzinfo=utc) for value in values]
            return values
    pylist: list[Any] = column.to_pylist()
    return pylist


def _in_microseconds(kind: Any) -> Any:
    """Return a type without nanoseconds, which Python's times do not have.

    For times with nanoseconds, pyarrow returns objects of pandas, where that is installed.
    """
    pa = _pyarrow()
    types = pa.types
    if getattr(kind, "unit", "") == "ns":
        if types.is_timestamp(kind):
            return pa.timestamp("us", kind.tz)
        return pa.time64("us") if types.is_time(kind) else pa.duration("us")
    if not types.is_nested(kind):
        return kind
    fields = [kind.field(n) for n in range(kind.num_fields)]
    inner = [field.with_type(_in_microseconds(field.type)) for field in fields]
    if types.is_struct(kind):
        return pa.struct(inner)
    if types.is_map(kind):
        return pa.map_(kind.key_type, _in_microseconds(kind.item_type))
    for is_list, make in ((types.is_list, pa.list_), (types.is_large_list, pa.large_list)):
        if is_list(kind):
            return make(*inner)
    return kind


def _packed(row: Any) -> bytes:
    """Return a row in the streaming format of Arrow, which keeps the types of its values."""
    pa = _pyarrow()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, row.schema) as writer:
        writer.write_batch(row)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed
