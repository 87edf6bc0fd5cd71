"""The contract of layouts and filters by name, from the command line and from Python."""

from __future__ import annotations

import gzip
import json
import shlex
import shutil
import textwrap
from contextlib import suppress

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
    ) as caught:
        found(root, layout="hive")
    assert found(root, layout=str(caught.value).rpartition("--layout ")[2]) == {(): 3}


def test_hive_skips_a_name_without_a_value(place):
    root = place("dt=/a.txt", "dt=0/_SUCCESS", "dt=1/a.txt", "dt=1/x=1/a.txt")
    with pytest.raises(InputError, match="do not have the same names"):
        found(root, layout="hive")
    shutil.rmtree(root / "data" / "dt=1" / "x=1")
    result = mapreduce(JOB, data_dir=root / "data", layout="hive", inline=True)
    assert dict(result) == {("1",): 1}
    assert result.skipped_reasons[0] == "'dt=' is not of the form dt={dt}"


@pytest.mark.parametrize("folders", [["dt=1"], ["dt=1", "dt=2"]])
def test_a_partition_of_hive_as_the_data_dir(place, folders):
    root = place("dt=1/a.txt", "dt=2/a.txt")
    given = [str(root / "data" / folder) for folder in folders]
    line = rf"dt=1 is a partition.*: -d {root}/data --layout hive --where dt=1$"
    with pytest.raises(InputError, match=line):
        mapreduce(JOB, data_dir=given, layout="hive", inline=True)


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
    with pytest.raises(InputError, match="use --layout hive"):
        found(root)


NOTHING = [
    ("{day}/{host}/{_}", [], 2),  # nothing fits the layout
    ("{day}/{_}.txt", ["day=2023..2025"], 2),
    ("hive", ["day=x"], 2),
    ("{day}/{_}", ["day=2025.."], 3),
]


@pytest.mark.parametrize("in_bucket", [False, True])
@pytest.mark.parametrize(("layout", "where", "code"), NOTHING)
def test_nothing_to_read(place, bucket, layout, where, code, in_bucket):
    root = place("2024-01-01/a.log")
    options = {"data_dir": root / "data"}
    if in_bucket:
        bucket.put({"2024-01-01/a.log": b"k\tv\n"})
        options = {"data_dir": None, "bucket": bucket.name}
    with pytest.raises((InputError, NothingMatchedError)) as caught:
        mapreduce(JOB, layout=layout, where=where, work_dir=root / "work", inline=True, **options)
    assert caught.value.exit_code == code


@pytest.mark.parametrize("command", ["run", "plan", "check"])
@pytest.mark.parametrize(("layout", "where", "code"), NOTHING[-2:])
def test_exit_codes_of_nothing_to_read(place, command, layout, where, code):
    root = place("2024-01-01/a.log")
    source = ("-d", root / "data", "--layout", layout, "--where", *where)
    assert daskmr(command, root / "job.py", *source, cwd=root).returncode == code


def test_allow_empty_is_for_both(place):
    root = place("2024-01-01/a.log")
    for layout in ("{day}/{host}/{_}", "{day}/{_}"):
        assert found(root, layout=layout, allow_empty=True, where={"day": "2023"}) == {}


@pytest.mark.parametrize("form", ["2024-01-{:02}", "202401{:02}"])
@pytest.mark.parametrize(
    ("spec", "days"),
    [
        ("yesterday", [2]),
        ("..yesterday", [1, 2]),
        ("-1d..", [2, 3]),
        ("-7d..-1d", [1, 2]),
        ("!today", [1, 2]),
        ("!-1d..today", [1]),
        ("today,-2d", [1, 3]),
        ("2024-01-02..today", [2, 3]),
        ("20240102..today", [2, 3]),
        ("2024-01-01..20240102", [1, 2]),
    ],
)
def test_relative_dates_of_a_text_compare_in_its_own_form(place, form, spec, days):
    texts = [form.format(day) for day in (1, 2, 3)]
    root = place(*(f"dt={text}/a.log" for text in texts))
    kept = found(root, layout="hive", where={"dt": spec}, date="2024-01-03")
    assert [*kept] == [(texts[day - 1],) for day in days]


def test_relative_dates_of_mixed_forms(place):
    root = place("dt=2024-01-01/a.log", "dt=20240102/a.log", "dt=__HIVE_DEFAULT_PARTITION__/a.log")
    place("dt=latest/a.log")
    options = {"layout": "hive", "date": "2024-01-02"}
    assert [*found(root, where=["dt=yesterday.."], **options)] == [("2024-01-01",), ("20240102",)]
    assert {*found(root, where=["dt=!today"], **options)} == {("2024-01-01",), ("",), ("latest",)}


@pytest.mark.parametrize(
    ("path", "layout", "where", "advice"),
    [
        ("d=2024-01/a.log", "hive", "d=..today", "--where d=2024-01.."),
        ("d=2024010203/a.log", "hive", "d=!today", "--layout 'd={d:%Y%m%d%H}/{_}'"),
        ("2024_01_02.log", "{d}.log", "d=yesterday", "--layout '{d:%Y_%m_%d}.log'"),
        ("year=2024/day=2/a.log", "hive", "day=-1d..", "--where day=2.."),
        ("d=20240102/a.log", "hive", "d=2024-01-01..", "--layout 'd={d:date}/{_}'"),
        ("d=2024-01-02/a.log", "hive", "d=!20240102", "--layout 'd={d:date}/{_}'"),
        ("2024/20240102030405.1.log", "{y}/{b}.{n}.{_}", "b=-1d..", "{b:%Y%m%d%H%M%S}.{n}.{_}'"),
        ("d=2024-01-02/a.log", "hive", "d=20240102,2024-02-01..", "--layout 'd={d:date}/{_}'"),
        ("d=2024-01-02/a.log", "hive", "d=2024-01-01..2024-01-3", "--where d=2024-01-02.."),
        ("d=2024-01-02/a.log", "hive", "d=2024-1-2..", "--where d=2024-01-02.."),
        ("d=2024-01-02/a.log", "hive", "d=!..2024-01", "--where d=2024-01-02.."),
        ("d=20240102/a.log", "hive", "d=2024-1-1..", "--where d=20240102.."),
        ("d=20240102/a.log", "hive", "d=2024-01..", "--where d=20240102.."),
        ("month=11/a.log", "hive", "month=1..9", "--layout 'month={month:int}/{_}'"),
        ("m=07/h=2/a.log", "hive", "m=!..9", "--layout 'm={m:int}/h={h}/{_}'"),
    ],
)
def test_dates_of_a_text_in_another_form_are_refused_with_a_line_that_works(
    place, path, layout, where, advice
):
    root = place(path)
    with pytest.raises(InputError, match=f"^--where '{where}': ") as caught:
        found(root, layout=layout, where=[where], date="2024-01-02")
    assert str(caught.value).endswith(advice)
    option, value = shlex.split(str(caught.value))[-2:]
    if option == "--layout":
        with suppress(NothingMatchedError):
            found(root, layout=value, where=[where], date="2024-01-02")
    else:
        assert option == "--where"
        assert found(root, layout=layout, where=[value])


@pytest.mark.parametrize(
    ("where", "days"),
    [
        (["dt=2024-01-01..2024-12-31", "dt=yesterday"], [6]),
        (["dt=!2024-01-05", "dt=-2d,-1d"], [6]),
        (["dt=!20240105", "dt=/2024-.*/", "dt=-2d..", "dt=latest"], []),
        (["dt=2024-01-01..2024-01-02,2024-01-05"], [1, 2, 5]),
        (["dt=!2024-01-01 , 2024-01-03 .. "], [2]),
        (["dt=yesterday,..2024-01-01"], [1, 6]),
        (["dt=2024-01..", "dt=2024.."], [1, 2, 3, 4, 5, 6, 7]),
        (["dt=..2024-01-31"], [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_only_values_that_are_there_and_not_excluded_are_refused(place, where, days):
    root = place(*(f"dt={day}/a.log" for day in DAYS))
    kept = found(root, layout="hive", where=where, date="2024-01-07", allow_empty=True)
    assert [*kept] == [(DAYS[day - 1],) for day in days]


def test_a_filter_of_both_forms_is_narrowed_by_one(place):
    root = place(*(f"dt={day}/a.log" for day in DAYS))
    both = {"dimensions": [{"field_name": "dt", "allowed_values": ["20240103", "2024-01-03"]}]}
    options = {"layout": "hive", "input_filter": both, "where": {"dt": "2024-01-02.."}}
    assert [*found(root, **options)] == [("2024-01-03",)]
    place("dt=20240103/a.log")
    with pytest.raises(InputError, match="dt '20240103' is a date in another form"):
        found(root, **options)


def test_starts_of_long_numbers_are_bounds(place):
    root = place("b=20131001120000/a.log", "b=20131101120000/a.log", "b=24.0/a.log")
    for spec in ("20131002..", "201311..", "2014..,20131101..2013110112zz"):
        kept = {b for (b,) in found(root, layout="hive", where={"b": spec})}
        assert kept - {"24.0"} == {"20131101120000"}


def test_a_time_without_a_day_is_not_compared_with_a_date(place):
    root = place("2024-01/a.log")
    with pytest.raises(InputError, match=r"own form, such as 2023-12"):
        found(root, layout="{m:%Y-%m}/{_}", where={"m": "-7d.."}, date="2024-01-05")
    assert found(root, layout="{m:%Y-%m}/{_}", where={"m": "2023-12.."}) == {("2024-01",): 1}


def test_what_nothing_matched_names(place):
    root = place("dt=2024-01-01/host=web1/a.log")
    with pytest.raises(NothingMatchedError, match=r"allows 'yesterday' \(2024-02-01\)"):
        found(root, layout="hive", where={"dt": "yesterday"}, date="2024-02-02")
    with pytest.raises(NothingMatchedError, match=r"a pattern: --where 'host=/web\.\*/'$"):
        found(root, layout="hive", where={"host": "web*"})
    allowed = {"dimensions": [{"field_name": "host", "allowed_values": ["web?"]}]}
    with pytest.raises(NothingMatchedError, match=r'a pattern: {"regex": "web\."}$'):
        found(root, layout="hive", input_filter=allowed)


def test_a_glob_that_excludes_nothing_is_noted(place):
    root = place("host=web1/a.log", "host=a*b/a.log")
    options = {"data_dir": root / "data", "inline": True, "layout": "hive"}
    result = mapreduce(JOB, where={"host": "!web*"}, work_dir=root / "work", **options)
    assert any("'web*': it is compared as text, not as a glob" in note for note in result.notes)
    result = mapreduce(JOB, where={"host": "a*b"}, work_dir=root / "work", **options)
    assert (dict(result), result.notes) == ({("a*b",): 1}, ())


def test_a_misspelt_data_dir(place):
    root = place("a.log")
    with pytest.raises(InputError, match=f"Did you mean '{root}/data'"):
        mapreduce(JOB, data_dir=f"{root}/dta", layout="flat", inline=True)
