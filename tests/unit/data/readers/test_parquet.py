"""Parquet files: columns, types, and files that cannot be read."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.compressed import NamedBytes
from support.records import pairs_in

from daskmr.data.readers import parquet
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import BadRecord, Reading, RecordFormat
from daskmr.errors import InputError, TaskFailed

PARQUET = RecordFormat("parquet")


def file_of(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def test_types_are_those_of_python() -> None:
    row = {
        "i": 7, "f": 0.5, "n": None, "s": "\u00e9", "b": b"\xff", "t": True,
        "d": datetime.date(2024, 1, 2), "m": Decimal("1.50"), "l": [1, None], "x": {"y": 1},
    }  # fmt: skip
    ((number, key, value),) = pairs_in(file_of(pa.Table.from_pylist([row])), PARQUET)
    assert (number, key, value) == (1, "f", row)


DATES = [datetime.date(2024, 1, 2), None, datetime.date(1, 1, 1), datetime.date(9999, 12, 31)]
MOMENTS = [
    datetime.datetime(2024, 1, 2, 3, 4, 5), None, datetime.datetime(1, 1, 1),
    datetime.datetime(1969, 12, 31), datetime.datetime(9999, 12, 31, 23, 59, 59),
]  # fmt: skip
TIMES = [datetime.time(3, 4, 5), None, datetime.time(23, 59, 59)]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (DATES, pa.date32()),
        (DATES, pa.date64()),
        *((MOMENTS, pa.timestamp(unit)) for unit in ("s", "ms", "us")),
        *((MOMENTS[:2], pa.timestamp("us", zone)) for zone in ("UTC", "Europe/Berlin", "+02:00")),
        *((TIMES, kind) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"))),
        ([datetime.timedelta(1, 2, 3), None], pa.duration("us")),
        ([1, None, 2**62], pa.int64()),
        ([0.5, None, float("inf")], pa.float64()),
    ],
)
def test_columns_are_those_of_pyarrow(values: list[Any], kind: pa.DataType) -> None:
    for given in (values, [v for v in values if v is not None], [None], []):
        plain = pa.array(given, kind)
        for column in (plain, plain.slice(1), plain.dictionary_encode()):
            found, expected = parquet._python(column, "a", {}), column.to_pylist()
            assert found == expected
            assert [*map(repr, found)] == [*map(repr, expected)]


FAR = [
    pa.array([1, 10**7, 2], pa.date32()),
    pa.array([1, 2**62, 2], pa.timestamp("us", "UTC")),
    pa.array([1, 2**62, 2], pa.duration("s")),
    pa.array([1, 2**62, 2], pa.time64("us")),
    pa.array([[1], [2, 10**7], []], pa.list_(pa.date32())),
    pa.array([{"t": 1}, {"t": 10**7}, {"t": None}], pa.struct([("t", pa.date32())])),
]


@pytest.mark.parametrize("column", FAR, ids=str)
@pytest.mark.parametrize("fields", [None, (("id",), ("t",)), (("id",),)])
@pytest.mark.parametrize("key", [None, "t", "id"])
def test_a_value_that_python_does_not_have_makes_its_row_bad(
    column: pa.Array, fields: Any, key: str | None
) -> None:
    data = file_of(pa.table({"id": [1, 2, 3], "t": column}))
    form = RecordFormat("parquet", key, None, fields)
    first, second, third = pairs_in(data, form)
    assert [first[0], second[0], third[0]] == [1, 2, 3]
    bad = second[2]
    if "t" not in (key, *(name for (name,) in fields or [("t",)])):
        assert bad == (2,)
        return
    assert isinstance(bad, BadRecord)
    assert bad.reason == "a value that Python does not have"
    assert bad.detail.startswith(f"the column t has {bad.reason}: ")
    assert not isinstance(first[2], BadRecord) or (key == "t" and column.type.num_fields)
    (again,) = parquet.READER.reread(bad.raw, form, Reading("f"), ()).values
    assert again == bad


def test_only_columns_that_are_asked_for_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [{"d": 3}, {"d": None}]})
    form = RecordFormat("parquet", "b", None, (("a",), ("c", "d")))
    asked: list[Any] = []
    plain = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *args, columns, **options: (
            asked.append(columns) or plain(self, *args, columns=columns, **options)
        ),
    )
    assert pairs_in(file_of(table), form) == [(1, "x", (1, 3)), (2, "y", (2, None))]
    assert asked == [["a", "c", "b"]]


def test_batches_are_bounded() -> None:
    table = pa.table({"a": ["x" * 100_000] * 50})
    assert (
        parquet._rows_of(pq.ParquetFile(io.BytesIO(file_of(table, use_dictionary=False))).metadata)
        <= 10
    )
    assert len(pairs_in(file_of(table, row_group_size=7), PARQUET)) == 50


def test_without_rows_or_columns() -> None:
    assert pairs_in(file_of(pa.table({"a": pa.array([], pa.int64())})), PARQUET) == []
    assert pairs_in(file_of(pa.table({"a": pa.array([], pa.int64())}).slice(0, 0)), PARQUET) == []


def test_a_key_that_is_no_scalar_is_bad() -> None:
    found = pairs_in(file_of(pa.table({"a": [[1], [2]]})), RecordFormat("parquet", "a"))
    assert all(isinstance(value, BadRecord) for _, _, value in found)


def test_another_schema_names_the_columns_there_are() -> None:
    with pytest.raises(TaskFailed) as caught:
        pairs_in(file_of(pa.table({"a": [1], "b": [2]})), RecordFormat("parquet", "id"))
    assert "has no column 'id'. The columns are 'a', 'b'." in caught.value.message


@pytest.mark.parametrize("form", [PARQUET, RecordFormat("parquet", "b", None, (("b",),))], ids=str)
def test_two_columns_of_one_name_are_refused(form: RecordFormat) -> None:
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])
    with pytest.raises(TaskFailed, match="has two columns of one name: 'a'"):
        pairs_in(file_of(table), form)


def test_a_row_is_readable_in_messages() -> None:
    (batch,) = parquet.READER.read(NamedBytes(file_of(pa.table({"a": [1]}))), PARQUET, Reading("f"))
    assert (batch.header, parquet.readable(batch.text(0))) == (("a",), {"a": 1})
    for text in ("a,b", batch.text(0)[:9], ""):
        assert parquet.readable(text) is text


def test_damaged_and_encrypted_files() -> None:
    data = file_of(pa.table({"a": [*range(1000)]}))
    with pytest.raises(CorruptFileError, match="not valid"):
        pairs_in(data[:-9], PARQUET)
    with pytest.raises(CorruptFileError, match="not valid"):
        pairs_in(b"hello, world", PARQUET)
    with pytest.raises(TaskFailed, match="is encrypted"):
        pairs_in(data[:-4] + b"PARE", PARQUET)


def test_without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'daskmr\[parquet\]'"):
        parquet.READER.check(PARQUET)


def test_where_row_groups_begin(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(file_of(pa.table({"a": [*range(100)]}), row_group_size=30))
    groups = parquet.row_groups(str(path))
    assert groups[0][0] == 0
    assert len(groups) == 4
    assert groups == sorted(groups)
    assert min(size for _, size in groups) > 0
    for bad in (b"", b"PAR1", path.read_bytes()[:-9]):
        path.write_bytes(bad)
        assert parquet.row_groups(str(path)) == []
    assert parquet.row_groups(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.timestamp("ns"), datetime.datetime(1970, 1, 1, 0, 0, 0, 1)),
        (pa.duration("ns"), datetime.timedelta(microseconds=1)),
        (pa.time64("ns"), datetime.time(0, 0, 0, 1)),
    ],
)
def test_times_are_those_of_python_at_any_depth(kind: pa.DataType, expected: object) -> None:
    """Where pandas is installed, pyarrow returns its objects for nanoseconds."""
    struct = pa.struct([("x", kind), ("n", pa.int64())])
    depths = {"a": kind, "b": pa.list_(kind), "c": struct, "d": pa.large_list(struct)}
    one = pa.array([1001], kind)[0]
    item = {"x": one, "n": 1}
    values = {"a": [one], "b": [[one]], "c": [item], "d": [[item]]}
    table = pa.table({n: pa.array(values[n], depths[n]) for n in depths})
    ((_, _, value),) = pairs_in(file_of(table), PARQUET)
    found = {"x": expected, "n": 1}
    assert value == {"a": expected, "b": [expected], "c": found, "d": [found]}
    assert type(value["a"]) is type(value["b"][0]) is type(value["d"][0]["x"]) is type(expected)


def test_times_of_spark_reach_beyond_those_of_nanoseconds() -> None:
    moment = datetime.datetime(3000, 1, 1)
    table = pa.table({"t": pa.array([moment], pa.timestamp("us"))})
    data = file_of(table, use_deprecated_int96_timestamps=True)
    assert [value for _, _, value in pairs_in(data, PARQUET)] == [{"t": moment}]
