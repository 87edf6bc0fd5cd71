"""The contract of output formats: rows for other tools, the same however they are made."""

from __future__ import annotations

import csv
import datetime
import decimal
import gc
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.jobs import daskmr, write_tree

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.job.json_text import RowError

LINES = [[f"k{n:02}\t{n}" for n in range(start, 40, 3)] for start in range(3)]


def emit(key, dims, value, context):
    context.write(key, int(value))


def summed(key, values, context):
    context.write(key, sum(values))


@pytest.fixture
def run(tmp_path):
    """Run a job, and return the path of its output."""

    def run(job, name, lines=LINES, **options):
        if isinstance(job, str):
            script = tmp_path / "job.py"
            script.write_text(textwrap.dedent(job))
            job = script
        data = tmp_path / "data"
        if not data.exists():
            write_tree(data, lines)
        output = tmp_path / name
        options = {"inline": True, "work_dir": tmp_path / "work", "output": output} | options
        mapreduce(job, data_dir=data, **options)
        return output

    return run


def job_of(write, columns=None):
    """A job that calls `write(key, number, context)` for each key."""

    def reduce(key, values, context):
        write(key, sum(values), context)

    return Job(map=emit, reduce=reduce, columns=columns)


def rows_of(path):
    """Read an output as its users do: one dict for each row."""
    opened = gzip.open if path.suffix == ".gz" else open
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        with opened(path, "rb") as file:
            return parquet.read_table(io.BytesIO(file.read())).to_pylist()
    with opened(path, "rt", newline="", encoding="utf-8") as file:
        if name.endswith(".jsonl"):
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file, delimiter="," if name.endswith(".csv") else "\t"))


NAMES = ["out.jsonl", "out.csv", "out.tsv", "out.parquet"]


@pytest.mark.parametrize("name", [*NAMES, "out.jsonl.gz", "out.csv.gz", "out.parquet.gz"])
def test_a_row_is_the_parts_of_the_key_and_of_the_value(run, name):
    def write(key, number, context):
        context.write((key[:1], int(key[1:])), [number, number / 2])

    rows = rows_of(run(job_of(write), name))
    expected = [{"key": "k", "key_2": n, "value": n, "value_2": n / 2} for n in range(40)]
    if "csv" in name or "tsv" in name:
        expected = [{name: str(value) for name, value in row.items()} for row in expected]
    assert rows == expected


@pytest.mark.parametrize("name", NAMES)
def test_columns_name_the_parts(run, name):
    script = """
        columns = ("id", "total")
        def map(key, dims, value, context):
            context.write(key, int(value))
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    rows = rows_of(run(script, name))
    assert [*rows[0]] == ["id", "total"]
    assert [(row["id"], int(row["total"])) for row in rows] == [(f"k{n:02}", n) for n in range(40)]


@pytest.mark.parametrize("name", NAMES)
def test_entries_of_a_dict_have_their_own_names(run, name):
    def write(key, number, context):
        context.write(key, {"n": number, "os": "linux"})

    rows = rows_of(run(job_of(write, columns=("id",)), name))
    assert [*rows[3]] == ["id", "n", "os"]
    assert (rows[3]["id"], int(rows[3]["n"]), rows[3]["os"]) == ("k03", 3, "linux")


@pytest.mark.parametrize("name", NAMES)
def test_columns_choose_entries_and_what_is_missing_is_empty(run, name):
    def write(key, number, context):
        context.write(key, {"n": number} if number % 2 else {"odd": False})

    rows = rows_of(run(job_of(write, columns=("id", "odd", "n")), name))
    assert [*rows[0]] == ["id", "odd", "n"]
    assert rows[0]["n"] in (None, "")
    assert rows[1]["odd"] in (None, "")
    assert int(rows[1]["n"]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_bytes_depend_on_the_input_alone(run, name, tmp_path):
    def write(key, number, context):
        context.write(key, {"b": number, "a": [number] * 3, "day": 'é\n\t,"'})

    job = job_of(write)
    contents = {
        run(job, f"{number}-{name}", num_reducers=reducers, inline=inline, **more).read_bytes()
        for number, (reducers, inline, more) in enumerate(
            (
                (1, True, {}),
                (7, True, {"partition_bytes": 1, "spill_bytes": "1 kB"}),
                (3, False, {"num_mappers": 2, "partition_bytes": 1}),
            )
        )
    }
    assert len(contents) == 1


@pytest.mark.parametrize("name", NAMES)
def test_a_job_without_reduce(run, name):
    def map(key, dims, value, context):
        context.write(key, int(value))

    rows = rows_of(run(Job(map=map), name, partition_bytes=1))
    expected = [line.split("\t") for lines in LINES for line in lines]
    assert [[row["key"], str(row["value"])] for row in rows] == expected


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_bad_record_do_not_count(run, name):
    def map(key, dims, value, context):
        context.write(key, "text" if value == "7" else int(value))
        if value == "7":
            raise ValueError("seven")

    rows = rows_of(run(Job(map=map), name))
    assert len(rows) == 39
    assert "k07" not in [row["key"] for row in rows]


@pytest.mark.parametrize("name", [*NAMES, "out.txt"])
def test_an_output_without_rows(run, name):
    path = run(Job(map=lambda key, dims, value, context: None, columns=("id", "n")), name)
    expected = {"out.csv": b"id,n\r\n", "out.tsv": b"id\tn\n"}
    if name == "out.parquet":
        table = parquet.read_table(path)
        assert (table.num_rows, table.column_names) == (0, ["id", "n"])
    else:
        assert path.read_bytes() == expected.get(name, b"")


# --- writejson, writecsv, writeline -----------------------------------------------------------------


def test_writejson_writes_the_object_as_it_is(run):
    def write(key, number, context):
        context.writejson([key, {"n": number}] if number else None)

    for name in ("out.jsonl", "out.txt"):
        lines = run(job_of(write, columns=("ignored",)), name).read_text().splitlines()
        assert lines[:2] == ["null", '["k01",{"n":1}]']


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.parquet"])
def test_writejson_writes_a_row_of_an_object(run, name):
    def write(key, number, context):
        context.writejson({"id": key, "n": number})

    rows = rows_of(run(job_of(write), name))
    assert [*rows[5].values()] in (["k05", 5], ["k05", "5"])


def test_writejson_needs_columns_in_a_table(run):
    with pytest.raises(JobError, match=r"was given a list, which has no columns.*\.jsonl"):
        run(job_of(lambda key, number, context: context.writejson([key])), "out.csv")


def test_writejson_in_map_of_a_job_with_reduce(run):
    def map(key, dims, value, context):
        context.writejson({})

    with pytest.raises(JobError, match=r"writejson writes to the output, so it belongs in reduce"):
        run(Job(map=map, reduce=summed), "out.jsonl")


def test_rows_of_writecsv_have_a_header_only_by_the_script(run):
    def write(key, number, context):
        context.writecsv([key, number, 'say "a, b"'])

    def header(context):
        context.writecsv(["id", "n", "text"])

    bare = run(job_of(write), "out.csv").read_bytes()
    assert bare.startswith(b'k00,0,"say ""a, b"""\r\nk01,1,')
    assert run(job_of(write), "out.txt").read_bytes() == bare, "as in text"
    named = job_of(write, columns=("id", "n", "text"))
    assert run(named, "named.csv").read_bytes() == b"id,n,text\r\n" + bare
    by_script = Job(map=emit, reduce=lambda k, v, c: write(k, sum(v), c), setup_reduce=header)
    assert run(by_script, "script.csv").read_bytes() == b"id,n,text\r\n" + bare


def test_lines_of_json_text_must_be_json(run):
    def write(key, number, context):
        context.writeline(json.dumps({"id": key}))

    assert rows_of(run(job_of(write), "out.jsonl"))[2] == {"id": "k02"}
    with pytest.raises(JobError, match=r"'k\d\d', which is not JSON"):
        run(job_of(lambda key, number, context: context.writeline(key)), "out.jsonl")


# --- what a format cannot hold ----------------------------------------------------------------------


def test_rows_of_different_columns_need_names(run):
    def write(key, number, context):
        context.write(key, {"n": number} if number < 20 else {"m": number})

    for options in ({"num_reducers": 1}, {"num_reducers": 9}):
        with pytest.raises(
            JobError,
            match=r"Two rows of the output have different columns.*k\d\d.*\noutput_columns = \('key', '[nm]', '[nm]'\)$",
        ) as failed:
            run(job_of(write), "out.csv", **options)
    names = {}
    exec(str(failed.value).splitlines()[-1], names)
    assert len(rows_of(run(job_of(write, names["output_columns"]), "out.csv"))) == 40
    rows = rows_of(run(job_of(write), "out.parquet"))
    assert rows[0] == {"key": "k00", "n": 0, "m": None} or rows[0]["m"] is None
    assert rows_of(run(job_of(write), "out.jsonl"))[20] == {"key": "k20", "m": 20}


def test_an_earlier_output_stays_when_a_column_has_mixed_types(run, tmp_path):
    (tmp_path / "out.parquet").write_text("earlier")

    def write(key, number, context):
        context.write(key, number if number < 30 else str(number))

    for reducers in (1, 9):
        with pytest.raises(
            JobError, match=r"The column 'value' has values of mixed types, .*'k\d\d'.*'k\d\d'"
        ):
            run(job_of(write), "out.parquet", num_reducers=reducers)
    assert (tmp_path / "out.parquet").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.parquet"]


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        ("out.jsonl", {1, 2}, r"write sorted\(...\) of it"),
        ("out.csv", {"x", "y"}, r"Write sorted\(...\) of it"),
        ("out.parquet", [{1}], r"The column 'value': .*Write sorted\(...\) of it"),
        ("out.jsonl", b"x", r"A value of type bytes cannot .* value.decode"),
        ("out.csv", object(), "its text is its address"),
        ("out.parquet", object(), "cannot hold a value of type object"),
        ("out.parquet", 1 << 64, "integers of 64 bits"),
        ("out.parquet", "\udcff", "is not UTF-8"),
        ("out.parquet", "\udcff\ud800", "half of a surrogate pair"),
        ("out.parquet", ([1, "x"],), "A list of mixed types"),
    ],
)
def test_values_that_a_format_does_not_have(run, name, value, match):
    with pytest.raises(JobError, match=match):
        run(job_of(lambda key, number, context: context.write(key, value)), name)


@pytest.mark.parametrize(
    "value", [(1, {"n": 2}), (1, [2, 3]), ({"n": 1}, [2]), ({"value": 1}, {"n": 1})]
)
def test_names_that_would_not_help_are_not_advised(run, value):
    """Columns may be missing only from dicts."""

    def write(key, number, context):
        context.write(key, value[number % 2])

    with pytest.raises(JobError, match=r"Write the same parts in each\.$"):
        run(job_of(write), "out.csv")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K\udcf6ln", [b"K\xf6ln", "K\u00f6ln"]),
        ("\ud800", [b"\xed\xa0\x80"]),
        ("\udcff\ud800", [b"\xed\xb3\xbf\xed\xa0\x80"]),
    ],
)
def test_text_that_is_not_unicode_can_be_written_to_parquet_as_advised(run, text, expected):
    with pytest.raises(JobError) as failed:
        run(job_of(lambda key, number, context: context.write(key, text)), "out.parquet")
    advice = re.findall(r'value\.encode\([^()]*\)(?:\.decode\("cp1252"\))?', failed.value.details)
    for code, found in zip(advice, expected, strict=True):
        value = eval(code, {"value": text})

        def write(key, number, context, value=value):
            context.write(key, value)

        assert rows_of(run(job_of(write), "out.parquet"))[0]["value"] == found


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ((1, True), "integers and bools"),
        ((1 << 60, 0.5), "integers and floats"),
        ((decimal.Decimal(1), 0.5), "decimals and floats"),
        ((b"x", 0.5), "bytes and floats"),
        ((b"x", "x"), "bytes and text"),
        (([{"n": 1}], 0.5), "dicts and floats"),
        ((datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1)), "dates and timestamps"),
        ((datetime.time(1), datetime.datetime(2024, 1, 1)), "times and timestamps"),
        (
            (datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)),
            "timestamps and timestamps in UTC",
        ),
        (([1], ["x"]), "integers and text"),
        ((datetime.date(2024, 1, 1), 1), "dates and integers"),
    ],
)
def test_values_of_mixed_types_can_be_written_as_advised(run, values, kinds):
    def job(convert):
        return job_of(lambda key, number, context: context.write(key, convert(values[number % 2])))

    with pytest.raises(JobError, match=f"mixed types, {kinds}, as in the rows") as failed:
        run(job(lambda value: value), "out.parquet")
    code = re.search(r"as with (.*)\.$", str(failed.value))[1]
    path = run(job(lambda value: eval(code, {"value": value})), "out.parquet")
    assert len(rows_of(path)) == 40


DAY = datetime.datetime(2024, 1, 2)


@pytest.mark.parametrize(
    ("value", "in_json", "in_csv", "in_parquet"),
    [
        (np.arange(2000), [*range(2000)], str([*range(2000)]).replace(" ", ""), [*range(2000)]),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]], "[[0,1],[2,3]]", [[0, 1], [2, 3]]),
        (np.datetime64("2024-01-02", "ns"), "2024-01-02T00:00:00", "2024-01-02T00:00:00.000000000", DAY),
        (np.array(["2024-01-02", "NaT"], "M8[ns]"), ["2024-01-02T00:00:00", None],
            '["2024-01-02T00:00:00",null]', [DAY, None]),
        (np.datetime64("2024-01-02", "D"), "2024-01-02", "2024-01-02", DAY.date()),
        (pd.NaT, None, "", None),
        (pd.NA, None, "", None),
        (np.datetime64("2024-01-02T00:00:00.000000001"), RowError, "2024-01-02T00:00:00.000000001", RowError),
        (np.datetime64("30000-01-01"), RowError, "30000-01-01", RowError),
        (np.array(["2024-01-02T00:00:00.000000001"], "M8[ns]"), RowError, RowError, RowError),
        (bytearray(b"\xc3\xa9"), RowError, "\u00e9", b"\xc3\xa9"),
    ],
)  # fmt: skip
def test_values_of_numpy_and_pandas(run, value, in_json, in_csv, in_parquet):
    job = job_of(lambda key, number, context: context.write(key, value))
    for name, expected in zip(NAMES, (in_json, in_csv, in_csv, in_parquet), strict=True):
        if expected is RowError:
            with pytest.raises(JobError, match=r"RowError: .*Write "):
                run(job, name)
        else:
            assert rows_of(run(job, name))[0]["value"] == expected


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    "write",
    [
        lambda context, huge: context.write("k", huge),
        lambda context, huge: context.write("k", {"n": [{huge: 1}]}),
        lambda context, huge: context.write("k", (1, huge)),
        lambda context, huge: context.writecsv({"n": huge}),
        lambda context, huge: context.writejson({"n": huge}),
    ],
)
@pytest.mark.parametrize("columns", [None, ("a", "b")])
def test_a_number_that_is_too_long_makes_no_record_bad(tmp_path, name, write, columns):
    """It is the job that fails, because a bad record may be accepted."""
    job = Job(map=lambda key, dims, value, context: write(context, 10**5000), columns=columns)
    options = {"inline": True, "work_dir": tmp_path / "work", "output": f"{tmp_path}/{name}"}
    with pytest.raises(JobError, match="RowError: "):
        mapreduce(
            job, data_dir=write_tree(tmp_path / "data", LINES), max_bad_records="100%", **options
        )


@pytest.mark.parametrize("name", ["out.csv", "out.tsv", "out.parquet"])
def test_a_row_without_parts_is_not_lost(run, name):
    with pytest.raises(JobError, match=r"without (parts|columns).* Write at least a key"):
        run(job_of(lambda key, number, context: context.write((), ())), name)
    rows = rows_of(run(job_of(lambda key, number, context: context.writejson({})), "out.jsonl"))
    assert rows == [{}] * 40


def test_a_failed_parquet_file_says_nothing_else(run, monkeypatch):
    """pyarrow would write the rest to the output, which is closed by then."""
    monkeypatch.setattr(sys, "unraisablehook", unraisable := [].append)
    unraised = unraisable.__self__
    with pytest.raises(JobError, match="Parquet cannot hold the output"):
        run(
            job_of(lambda key, number, context: context.write(key, datetime.timedelta.max)),
            "o.parquet",
        )
    gc.collect()
    assert unraised == []


@pytest.mark.parametrize("name", NAMES)
def test_columns_that_do_not_fit(run, name):
    with pytest.raises(
        JobError, match="has 2 parts, but the script names 3 columns of the output: a, b, c"
    ):
        run(Job(map=emit, reduce=summed, columns=("a", "b", "c")), name)
    with pytest.raises(JobError, match="but not 'n', an entry of the value"):
        write = job_of(lambda key, number, context: context.write(key, {"n": 1}), ("id", "m"))
        run(write, name)
    for columns, match in (
        ("ab", "must be a tuple"),
        (("a", "a"), "twice"),
        ((1,), "not the name"),
    ):
        with pytest.raises(InputError, match=match):
            run(Job(map=emit, columns=columns), name)
    run(Job(map=emit, reduce=summed, columns=5), "text.txt")  # not used


def test_json_has_no_nan_and_escapes_what_is_not_utf8(run):
    def write(key, number, context):
        context.write(key, (float("nan"), float("inf"), "\udcff é", decimal.Decimal("1.50")))

    path = run(job_of(write), "out.jsonl", lines=[["k\t1"]])
    assert path.read_bytes() == (
        b'{"key":"k","value":null,"value_2":null,"value_3":"\\udcff \\u00e9","value_4":"1.50"}\n'
    )


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl/", "out.csv"])
@pytest.mark.parametrize("text", ["K\xf6ln", "K\xf6ln \U0001f480 \\udcf6", "K\U0001f480"])
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", None])
def test_json_lines_of_another_encoding_are_noted(tmp_path, name, text, encoding):
    if encoding is None:
        text, encoding = "\\ud800 of JSON is no byte", "utf-8"
    data = text.encode(encoding, "replace")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.log").write_bytes(b"k\t1\n")
    path = tmp_path / "data" / "b.log.gz"
    path.write_bytes(gzip.compress(b"k\t" + data + b"\n"))

    def write(key, dims, value, context):
        context.write(key, value.replace("\\ud800", "\ud800"))

    result = mapreduce(
        map=write, data_dir=tmp_path / "data", layout="flat", inline=True,
        work_dir=tmp_path / "work", output=f"{tmp_path}/{name}",
    )  # fmt: skip
    notes = [note for note in result.notes if "not UTF-8" in note]
    if encoding == "utf-8" or "jsonl" not in name or b"\xf6" not in data:
        assert notes == []
        return
    (note,) = notes
    command = note.partition("output of: ")[2]
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    recoded = gzip.decompress((tmp_path / "b.log.gz.new").read_bytes())
    assert recoded.decode() == f"k\t{data.decode(encoding)}\n"


@pytest.mark.parametrize("name", ["out.json", "out.xlsx.gz", "out.csv.zip", "out.parq", "o.json/"])
def test_text_under_another_suffix_is_noted(tmp_path, name):
    data = write_tree(tmp_path / "data", LINES)
    options = {"data_dir": data, "inline": True, "work_dir": tmp_path / "work"}
    result = mapreduce(map=emit, output=f"{tmp_path}/{name}", **options)
    suffix = re.search(r"\.(json|xlsx|zip|parq)", name)[0]
    (note,) = result.notes
    assert (
        f"no output format for {suffix}: let its name end in .csv, .jsonl, .parquet or .tsv" in note
    )
    options |= {"output": f"{tmp_path}/{name}", "output_format": "text"}
    assert mapreduce(map=emit, **options).notes == ()
    for plain in ("out", "out.txt", "out.log", "out.2024", "out.jsonl", "out.gz"):
        assert (
            mapreduce(
                map=emit, **(options | {"output": f"{tmp_path}/{plain}", "output_format": None})
            ).notes
            == ()
        )


# --- Parquet ----------------------------------------------------------------------------------------


def test_parquet_has_types(run):
    day = datetime.date(2013, 11, 4)
    moment = datetime.datetime(2013, 11, 4, 1, 2, 3, 4, datetime.UTC)

    def write(key, number, context):
        struct = {"n": number} if number else {"n": None, "m": "x"}
        value = (
            number if number % 2 else number / 4, number > 3, None, day, moment, b"\xff",
            decimal.Decimal(number) / 8, [number], struct, (1 << 63) + number,
        )  # fmt: skip
        context.write(key, value)

    table = parquet.read_table(run(job_of(write), "out.parquet", num_reducers=5))
    struct = pa.struct([("m", pa.string()), ("n", pa.int64())])
    assert table.schema.types == [
        pa.string(), pa.float64(), pa.bool_(), pa.null(), pa.date32(), pa.timestamp("us", "UTC"),
        pa.binary(), pa.decimal128(4, 3), pa.list_(pa.int64()), struct, pa.uint64(),
    ]  # fmt: skip
    assert [*table.to_pylist()[3].values()] == [
        "k03", 3.0, False, None, day, moment, b"\xff", decimal.Decimal("0.375"), [3],
        {"m": None, "n": 3}, (1 << 63) + 3,
    ]  # fmt: skip


def test_parquet_is_written_in_groups_of_rows(run, monkeypatch):
    monkeypatch.setattr("daskmr.data.writers.parquet._ROWS", 9)
    path = run(Job(map=emit, reduce=summed), "out.parquet", num_reducers=4)
    file = parquet.ParquetFile(path)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [9] * 4 + [
        4
    ]
    monkeypatch.setattr("daskmr.data.writers.parquet._BYTES", 100)
    small = run(Job(map=emit, reduce=summed), "small.parquet", num_reducers=4)
    assert parquet.ParquetFile(small).num_row_groups > 10


def test_parquet_without_pyarrow(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"needs pyarrow.*pip install 'daskmr\[parquet\]'"):
        run(Job(map=emit, reduce=summed), "out.parquet")


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path):
    write_tree(tmp_path / "data", LINES)
    path = tmp_path / "count.py"
    path.write_text(
        "columns = ('id', 'n')\n"
        "def map(key, dims, value, context):\n    context.write(key, int(value))\n"
        "def reduce(key, values, context):\n    context.write(key, sum(values))\n"
    )
    return path


def test_output_format_by_option_and_on_standard_output(script, tmp_path):
    folder = ["-d", tmp_path / "data", "-w", tmp_path / "work", "--inline", "-q"]
    run = daskmr("run", script, *folder, "--output-format", "csv")
    assert run.stdout.splitlines()[:2] == ["id,n", "k00,0"]
    daskmr("run", script, *folder, "--output-format", "jsonl", "-o", tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().startswith('{"id":"k00","n":0}\n')
    daskmr("run", script, *folder, "--output-format", "text", "-o", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_text().startswith("k00\t0\n")
    refused = daskmr("run", script, *folder, "--output-format", "xml")
    assert refused.returncode == 2
    assert "no output format 'xml'" in refused.stderr
    assert "text, csv, jsonl, parquet, tsv" in refused.stderr


def test_side_cars_and_a_repeated_run(script, tmp_path):
    folder = ["-d", tmp_path / "data", "-w", tmp_path / "work", "--inline", "-q"]
    output = tmp_path / "out.parquet"
    daskmr("run", script, *folder, "-o", output)
    meta = json.loads((tmp_path / "out.parquet.meta.json").read_text())
    assert meta["output"]["format"] == "parquet"
    assert meta["output"]["lines"] == 40
    assert meta["output"]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    before = output.read_bytes()
    output.unlink()
    daskmr("run", "--from", tmp_path / "out.parquet.meta.json", "-w", tmp_path / "work", "-q")
    assert output.read_bytes() == before


def test_parquet_is_refused_on_a_terminal(script, tmp_path):
    class Terminal(io.BytesIO):
        def isatty(self):
            return True

    with pytest.raises(InputError, match="parquet is binary, which a terminal cannot show"):
        mapreduce(
            script, data_dir=tmp_path / "data", output="-", output_format="parquet",
            stdout=Terminal(), work_dir=tmp_path / "work", inline=True,
        )  # fmt: skip


@pytest.mark.parametrize("name", ["out.parquet", "out.csv.gz"])
def test_an_object_in_a_store_has_the_bytes_of_a_file(run, bucket, name):
    job = Job(map=emit, reduce=summed)
    expected = run(job, name).read_bytes()
    run(job, name, output=f"s3://{bucket.name}/{name}")
    assert bucket.objects()[name] == expected
    assert json.loads(bucket.objects()[f"{name}.meta.json"])["output"]["format"] in name


@pytest.mark.parametrize("name", NAMES)
def test_the_stream_has_the_bytes_of_the_file(run, name):
    job, stream = Job(map=emit, reduce=summed), io.BytesIO()
    run(job, name, output="-", output_format=name.removeprefix("out."), stdout=stream)
    assert stream.getvalue() == run(job, name).read_bytes()
