"""All record formats, and one that the tests install, keep the same promises."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import BadRecord, Reading, RecordFormat, Records, as_text
from daskmr.data.readers.registry import FORMATS, reader_of
from daskmr.errors import InputError

PLUGIN = '''
from daskmr import BadRecord

def read(stream, dims):
    """Blocks of two bytes: a letter and a digit."""
    while block := stream.read(2):
        if block[1:].isdigit():
            yield block[:1].decode(), int(block[1:])
        else:
            yield BadRecord(block, "no digit")

read.extensions = ("pairs",)
'''


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install a package with a format, by the files that pip would write."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "daskmr_pairs.py").write_text(PLUGIN)
    info = folder / "daskmr_pairs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: daskmr-pairs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[daskmr.records]\npairs = daskmr_pairs:read\n")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def parquet_of(values: list[Any]) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(pa.Table.from_pylist(values), sink)
    return sink.getvalue()


@dataclass(frozen=True)
class Case:
    """Values, and the bytes of a file that holds them."""

    form: RecordFormat
    values: list[Any]
    encode: Callable[[list[Any]], bytes]
    bad: bytes = b""  # appended, it is one bad record


ROWS = [{"a": str(n), "b": f"\u00e9 {n}"} for n in range(3000)]
CASES = {
    "lines": Case(RecordFormat("lines"), [f"line {n}" for n in range(3000)],
                  lambda values: "".join(f"{v}\n" for v in values).encode()),
    "jsonl": Case(RecordFormat("jsonl"), [{"a": n, "b": [None, 1.5, "\u00e9"]} for n in range(3000)],
                  lambda values: "".join(json.dumps(v) + "\n" for v in values).encode(), b"{\n"),
    "csv": Case(RecordFormat("csv"), ROWS,
                lambda values: b"a,b\n" + "".join(f"{v['a']},{v['b']}\n" for v in values).encode(), b"1\n"),
    "tsv": Case(RecordFormat("tsv"), ROWS,
                lambda values: b"a\tb\n" + "".join(f"{v['a']}\t{v['b']}\n" for v in values).encode(), b"1\n"),
    "parquet": Case(RecordFormat("parquet"), [{"a": n, "b": f"x{n}", "c": [n, None]} for n in range(9000)],
                    parquet_of),
    "pairs": Case(RecordFormat("pairs"), [n % 10 for n in range(3000)],
                  lambda values: b"".join(b"k%d" % v for v in values), b"kk"),
}  # fmt: skip


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def read(form: RecordFormat, data: bytes | str, **limits: Any) -> list[Records]:
    if isinstance(data, bytes):
        stream = io.BytesIO(data)
        stream.name = "f"  # type: ignore[attr-defined]
        source: Any = stream
    else:
        source = data
    reader = reader_of(form)
    assert reader is not None
    return list(reader.read(source, form, Reading("dir/f", ["d"], **limits)))


def values_of(batches: list[Records]) -> list[Any]:
    return [value for batch in batches for value in batch.values]


def test_all_formats_have_a_case() -> None:
    assert {"keyed", *CASES} == {*FORMATS, "pairs"}


def test_what_was_written_is_read(case: Case, tmp_path: Path) -> None:
    data = case.encode(case.values)
    (tmp_path / "f").write_bytes(data)
    assert values_of(read(case.form, data)) == case.values
    assert values_of(read(case.form, str(tmp_path / "f"))) == case.values


def test_records_have_keys_numbers_and_bytes(case: Case) -> None:
    batches = read(case.form, case.encode(case.values))
    assert len(batches) > 1 or case.form.name in ("tsv", "csv", "pairs", "lines")
    numbers = [number for batch in batches for number in batch.numbers]
    first = 2 if case.form.name in ("csv", "tsv") else 1
    assert numbers == [*range(first, first + len(case.values))]
    for batch in batches:
        keys = list(islice(batch.keys, len(batch.values)))
        assert set(keys) == ({"k"} if case.form.name == "pairs" else {"dir/f"})
        assert all(isinstance(batch.raw(n), bytes) for n in range(len(batch.values)))


def test_the_bytes_of_a_record_give_it_again(case: Case) -> None:
    reader = reader_of(case.form)
    assert reader is not None
    for batch in read(case.form, case.encode(case.values)):
        for index in range(0, len(batch.values), 97):
            raw = batch.raw(index)
            assert isinstance(raw, bytes)
            again = reader.reread(raw, case.form, Reading("dir/f"), batch.header)
            assert again.values == [batch.values[index]]
            assert [*islice(again.keys, 1)] == [*islice(batch.keys, index, index + 1)]


def test_one_at_a_time_they_are_the_same(case: Case) -> None:
    (first, *_) = read(case.form, case.encode(case.values[:50]))
    singly = list(first.singly())
    assert [one.values for one in singly] == [[value] for value in first.values]
    assert [one.raw(0) for one in singly] == [first.raw(n) for n in range(len(singly))]
    assert [one.numbers[0] for one in singly] == [*first.numbers]


def test_an_empty_file_has_no_records(case: Case) -> None:
    assert values_of(read(case.form, b"")) == []


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.bad])
def test_a_bad_record_takes_nothing_with_it(name: str) -> None:
    case = CASES[name]
    some = case.values[:5]
    found = values_of(read(case.form, case.encode(some) + case.bad))
    assert found[:5] == some
    assert isinstance(found[5], BadRecord)
    assert found[5].raw == case.bad.rstrip(b"\n")
    assert found[5].reason


def test_a_truncated_file_is_damaged(case: Case) -> None:
    data = case.encode(case.values)
    if case.form.name != "parquet":
        data = gzip.compress(data)
    with pytest.raises(CorruptFileError):
        read(case.form, data[: len(data) - 20])


@pytest.mark.parametrize("name", ["lines", "jsonl", "csv", "parquet"])
def test_long_records_are_cut(name: str) -> None:
    case = CASES[name]
    long: Any = {"a": "x" * 100_000, "b": "y"}
    short: Any = {"a": "1", "b": "2"}
    if name == "lines":
        long, short = "x" * 100_000, "1"
    found = values_of(read(case.form, case.encode([short, long, short]), max_record_bytes=5000))
    assert [found[0], found[2]] == [short, short]
    assert found[1].reason == "longer than max-record-bytes"
    assert as_text(found[1].raw) == ""
    assert found[1].raw.length >= 100_000


def test_names_of_formats() -> None:
    with pytest.raises(InputError, match="Did you mean --records jsonl"):
        reader_of(RecordFormat("json"))
    with pytest.raises(InputError, match="does not define `read"):
        reader_of(RecordFormat("read"))
    with pytest.raises(InputError, match="'key' does not apply"):
        reader_of(RecordFormat("lines", "a"))
    assert reader_of(RecordFormat()) is None


@pytest.mark.parametrize(
    "name", ["csv:", "csv:ab", 'csv:"', "csv:##", "tsv:;;", "jsonl:;", "csv:x"]
)
def test_marks_that_no_format_has(name: str) -> None:
    with pytest.raises(InputError, match="There is no record format"):
        reader_of(RecordFormat(name))
