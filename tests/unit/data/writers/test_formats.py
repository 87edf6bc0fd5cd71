"""Each format of rows, as a worker and the client use it."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from daskmr.data.writers import format_called
from daskmr.data.writers.encoding import encode
from daskmr.errors import JobError, TaskFailed
from daskmr.job.json_text import RowError

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
CELLS = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | TEXT


class Memory:
    """A sink that keeps what is written."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, text: str) -> None:
        self.write_bytes(encode(text))

    def write_bytes(self, data: bytes) -> None:
        self.data += data


def write(name: str, *parts: list[tuple[Any, Any]], columns: Any = None) -> bytes:
    """Write pairs that some tasks have written."""
    found = format_called(name)
    assert found.rows is not None
    packed, reports = [], []
    for pairs in parts:
        rows = found.rows(columns)
        packed.append(rows.pack([rows.pair(*pair)[0] for pair in pairs]))
        reports.append(rows.report())
    sink = Memory()
    writer = found.open(sink, found.prepare([], reports, columns), True)
    writer.write(packed)
    writer.close()
    return sink.data


@settings(deadline=None)
@given(st.lists(st.tuples(TEXT, CELLS), min_size=1))
def test_json_lines_can_be_read_again(pairs: list[Any]) -> None:
    lines = write("jsonl", pairs).decode().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [{"key": k, "value": v} for k, v in pairs]


@pytest.mark.parametrize(("name", "separator"), [("csv", ","), ("tsv", "\t")])
@settings(deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1))
def test_csv_can_be_read_again(name: str, separator: str, pairs: list[Any]) -> None:
    text = io.StringIO(write(name, pairs).decode(), newline="")
    assert [*csv.reader(text, delimiter=separator)] == [["key", "value"], *map(list, pairs)]


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, st.none() | st.integers(-(1 << 63), (1 << 63) - 1))))
def test_parquet_can_be_read_again(pairs: list[Any]) -> None:
    data = write("parquet", pairs[::2], pairs[1::2])
    rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    expected = [*pairs[::2], *pairs[1::2]]
    assert [tuple(row.values()) for row in rows] == expected


def test_nested_values_in_csv_are_json() -> None:
    data = write("csv", [("a", ({"n": [1]}, b"\xff", None, True, 2.5))])
    assert data.splitlines()[1] == b'a,"{""n"":[1]}",\xff,,True,2.5'
    assert write("csv", [("a", 10**5000)]).endswith(b"000\r\n"), "of any number of digits"


def test_parts_with_different_columns() -> None:
    pairs: list[Any] = [("a", {"x": 1}), ("b", {"y": 2})]
    with pytest.raises(TaskFailed, match="'a,1' has key, x; 'b,2' has key, y"):
        write("csv", pairs)
    with pytest.raises(JobError, match="'a,1' has key, x; 'b,2' has key, y"):
        write("csv", pairs[:1], pairs[1:])
    one = write("parquet", pairs)
    assert parquet.read_table(io.BytesIO(one)).to_pylist() == [
        {"key": "a", "x": 1, "y": None},
        {"key": "b", "x": None, "y": 2},
    ]
    assert write("parquet", pairs[:1], pairs[1:]) == one


def test_parts_with_mixed_types() -> None:
    pairs: list[Any] = [("a", 1), ("b", "2")]
    match = "'value' has values of mixed types, integers and text, .*'a'.*'b'"
    with pytest.raises(TaskFailed, match=match):
        write("parquet", pairs)
    with pytest.raises(JobError, match=match):
        write("parquet", pairs[:1], pairs[1:])


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_a_row_is_as_it_was_when_it_was_written(name: str) -> None:
    rows: Any = format_called(name).rows
    made, value = rows(None), [1, [2]]
    entry, size = made.pair("a", value)
    before = repr(entry)
    value[1].append(3)  # type: ignore[attr-defined]
    assert repr(entry) == before
    assert size > 0


def test_a_line_is_a_row() -> None:
    rows: Any = format_called("jsonl").rows
    assert rows(None).line(' {"a": 1.0}')[0] == '{"a":1.0}\n'
    with pytest.raises(RowError, match="not JSON"):
        rows(None).line("a\tb")
    rows = format_called("parquet").rows
    assert rows(None).line("a")[0][1] == {"value": "a"}
