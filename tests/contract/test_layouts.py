"""The contract of layouts and filters by name, from the command line and from Python."""

from __future__ import annotations

import gzip
import json
import textwrap

import pytest
from support.jobs import daskmr

from daskmr import InputError, Job, NothingMatchedError, mapreduce
from daskmr.job.declared import Declared

SCRIPT = """
    def map(key, dims, value, context):
        context.write(" ".join(dims), 1)
    def reduce(key, values, context):
        context.write(key, sum(values))
"""


def echo(key, dims, value, context):
    context.write(tuple(dims), 1)


def total(key, values, context):
    context.write(key, sum(values))


JOB = Job(map=echo, reduce=total)


@pytest.fixture
def place(tmp_path):
    (tmp_path / "job.py").write_text(textwrap.dedent(SCRIPT))

    def put(*paths):
        for path in paths:
            target = tmp_path / "data" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("k\tv\n")
        return tmp_path

    return put


def found(root, **options):
    options = {"inline": True, "work_dir": root / "work"} | options
    return dict(mapreduce(JOB, data_dir=root / "data", **options))


DAYS = [f"2024-01-{day:02}" for day in range(1, 8)]
LOGS = [f"{day}/{host}/access.log" for day in DAYS for host in ("web1", "web2")]


def test_template_with_typed_names(place):
    root = place(*LOGS, "2024-01-01/web1/error.log", "soon/web1/access.log")
    layout = "{day:date}/{host}/access.log"
    where = {"day": "-1d..", "host": "!web2"}
    result = mapreduce(
        JOB, data_dir=root / "data", layout=layout, where=where, date="20240107", inline=True
    )
    assert dict(result) == {("2024-01-06", "web1"): 1, ("2024-01-07", "web1"): 1}
    assert result.skipped == ("soon/",)
    assert result.skipped_reasons == ("day 'soon' is not a date",)


def test_numbers_compare_as_numbers(place):
    root = place(*(f"{hour}/a.log" for hour in ("7", "08", "12", "100")))
    layout = "{hour:int}/{_}"
    assert {*found(root, layout=layout, where=["hour=8..12"])} == {("08",), ("12",)}
    allowed = {"field_name": "hour", "allowed_values": {"min": 8, "max": 12}}
    assert {*found(root, layout=layout, input_filter={"dimensions": [allowed]})} == {
        ("08",),
        ("12",),
    }


def test_hive(place):
    root = place(
        "dt=2024-01-01/city=S%C3%A3o%20Paulo/a.txt",
        "dt=2024-01-02/city=__HIVE_DEFAULT_PARTITION__/a.txt",
        "_SUCCESS",
    )
    assert found(root, layout="hive") == {("2024-01-01", "S\xe3o Paulo"): 1, ("2024-01-02", ""): 1}
    assert {*found(root, layout="hive", where={"city": "S\xe3o Paulo"})} == {
        ("2024-01-01", "S\xe3o Paulo")
    }
    with pytest.raises(InputError, match="no dimension 'town', only dt, city"):
        found(root, layout="hive", where={"town": "x"})
    place("city=x/dt=2024-01-01/a.txt")
    with pytest.raises(
        InputError, match=r"city=x/dt=2024-01-01 and dt=2024-01-0\d do not have the same names"
    ):
        found(root, layout="hive")


def test_flat(place):
    root = place("a.txt", "deep/er/b.log", "deep/.hidden/c.log", "notes.md")
    assert found(root, layout="flat") == {(): 2}


@pytest.mark.parametrize(
    ("layout", "dims"),
    [
        ("flat", {(): 3}),
        ("{day}/{_...}", {("2024-01-01",): 2, ("2024-01-02",): 1}),
        (
            "{rest...}",
            {("2024-01-01/a.txt",): 1, ("2024-01-01/b/c.log",): 1, ("2024-01-02/d/e/f.log",): 1},
        ),
    ],
)
def test_any_depth_is_the_same_in_a_bucket(place, bucket, layout, dims):
    paths = ("2024-01-01/a.txt", "2024-01-01/b/c.log", "2024-01-02/d/e/f.log", "2024-01-01/n.md")
    root = place(*paths)
    assert found(root, layout=layout) == dims
    bucket.put(dict.fromkeys(paths, b"k\tv\n"))
    options = {"inline": True, "work_dir": root / "work", "cache": False}
    assert dict(mapreduce(JOB, bucket=bucket.name, layout=layout, **options)) == dims


@pytest.mark.parametrize("records", ["keyed", "lines", "jsonl"])
def test_a_format_of_text_that_is_named_reads_the_files_of_all(place, records):
    root = place("a.csv", "b.ndjson", "c.log", "d.txt.gz", "e.parquet")
    (root / "data" / "d.txt.gz").write_bytes(gzip.compress(b"k\tv\n"))
    options = {"records": records, "layout": "flat", "max_bad_records": "100%"}
    result = mapreduce(JOB, data_dir=root / "data", inline=True, work_dir=root / "work", **options)
    known = {"keyed": 2}.get(records, 4)
    assert result.files == known
    assert result.skipped_count == 5 - known


def test_text_at_the_end_decides_instead_of_the_extension(place):
    root = place("1/app.out", "1/app.log")
    assert found(root, layout="{n}/app.out") == {("1",): 1}
    assert found(root, layout="{n}/{file}") == {("1", "app.log"): 1}


def test_script_declares_the_layout(place):
    class Declaring(Job):
        declared = Declared(layout="flat")

    root = place("a.txt")
    options = {"data_dir": root / "data", "inline": True, "work_dir": root / "work"}
    job = Declaring(map=echo, reduce=total)
    assert dict(mapreduce(job, **options)) == {(): 1}
    assert dict(mapreduce(job, layout="{file}", **options)) == {("a.txt",): 1}


def test_dimensions_by_name(place):
    def by_name(key, dims, value, context):
        assert isinstance(dims, list)
        day, host = dims
        assert (dims.day, dims["host"]) == (day, host)
        context.write(dims.day, 1)

    root = place(*LOGS)
    job = Job(map=by_name, reduce=total)
    options = {"data_dir": root / "data", "work_dir": root / "work"}
    result = mapreduce(job, layout="{day}/{host}/{_}", inline=True, **options)
    assert dict(result) == dict.fromkeys(DAYS, 2)


def test_from_repeats_layout_filters_and_date(place):
    root = place(*LOGS)
    output, again = root / "out.txt", root / "again.txt"
    common = ("--inline", "-w", root / "work")
    layout = ("--layout", "{day:date}/{host}/{_}")
    where = ("--where", "day=yesterday..", "--where", "host=web1", "--date", "2024-01-06")
    run = daskmr(
        "run", root / "job.py", "-d", root / "data", "-o", output, *layout, *where, *common
    )
    assert run.returncode == 0, run.stderr
    assert output.read_text() == "".join(f"{day} web1\t1\n" for day in DAYS[4:])
    meta_path = root / "out.txt.meta.json"
    meta = json.loads(meta_path.read_text())
    assert meta["layout"] == ["day", "host"]
    assert meta["template"] == layout[1]
    assert (meta["where"], meta["date"]) == (["day=yesterday..", "host=web1"], "2024-01-06")
    assert daskmr("run", "--from", meta_path, "-o", again, *common).returncode == 0
    assert again.read_bytes() == output.read_bytes()
    later = daskmr("run", "--from", meta_path, "-o", again, "--date", "2024-01-08", *common)
    assert later.returncode == 0, later.stderr
    assert again.read_text() == "2024-01-07 web1\t1\n"


@pytest.mark.parametrize("command", ["plan", "check"])
def test_other_commands_take_the_options(place, command):
    root = place(*LOGS)
    shown = daskmr(
        *(command, root / "job.py", "-d", root / "data"),
        *("--layout", "{day}/{host}/{_}", "--where", "day=2024-01-03", "--where", "host=/.*2/"),
    )
    assert shown.returncode == 0, shown.stderr
    assert "2024-01-03" in shown.stdout
    assert "web1" not in shown.stdout


@pytest.mark.parametrize(
    ("options", "mistake"),
    [
        ({"layout": "{a}{b}"}, "adjacent; put text between them, as in {a}-{b}"),
        ({"layout": "{a}/{a}"}, "'a' occurs twice"),
        ({"layout": "{a:float}"}, "write {name}, {name:int}"),
        ({"layout": "../{a}"}, "'..' is one of its parts"),
        ({"layout": "/data/{a}"}, 'begins or ends with "/"'),
        ({"layout": "hyve"}, "--layout flat"),
        ({"layout": "hive", "schema": "x.json"}, "Use only --layout"),
        ({"layout": "flat", "where": ["a=1"]}, "the layout has no dimensions"),
        ({"layout": "{day}/{_}", "where": ["dya=1"]}, "Did you mean 'day'?"),
        ({"layout": "{day}/{_}", "where": ["day"]}, "write NAME=a"),
        ({"layout": "{n:int}/{_}", "where": ["n=x"]}, "'x' is not an integer; write one such as 7"),
        ({"date": "soon"}, "write one such as 2024-01-31"),
    ],
)
def test_mistakes(place, options, mistake):
    root = place("1/a.log")
    with pytest.raises(InputError) as caught:
        found(root, **options)
    assert mistake in str(caught.value)


def test_data_in_another_layout(place):
    root = place("dt=1/a.log")
    with pytest.raises(NothingMatchedError, match="use --layout hive"):
        found(root)
