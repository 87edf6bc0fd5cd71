"""Bad records are mapped again as they were, and it is told which pass now."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.jobs import DIRECTORY, daskmr, file_name, write_tree

from daskmr import mapreduce
from daskmr.data.bad_records import read_bad_records
from daskmr.data.layout import Layout
from daskmr.errors import InputError
from daskmr.run.replay import dims_of, open_replay

SCRIPT = """
def map(key, dims, value, context):
    print("noise")
    number = int(value)
    context.write((key, *dims), number)
    context.write(key, 1)
"""
REDUCE = """
def reduce(key, values, context):
    context.write(key, sum(values))
"""
LENIENT = """
def map(key, dims, value, context):
    assert dims == {dims!r}
    if value == "worse":
        raise KeyError(value)
    context.counter("group", "name")
    context.write(repr(value), 1)
"""
DIMS = [*DIRECTORY.split("/"), "20131029030201", "20131102"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "b\tx\udcff\r", "no tab"], ["c\t2", "d\tworse"]])
    (tmp_path / "job.py").write_text(SCRIPT + REDUCE)
    mapreduce(
        tmp_path / "job.py", data_dir=tmp_path / "data", output=tmp_path / "out.txt", inline=True,
        work_dir=tmp_path / "work", max_bad_records="100%",
    )  # fmt: skip
    return tmp_path


def replay(
    place: Path, *options: str, code: int, text: str = ""
) -> subprocess.CompletedProcess[str]:
    done = daskmr("replay", "out.txt.bad.jsonl", *options, cwd=place, data=text.encode())
    assert done.returncode == code, done.stderr
    return done


def test_records_that_are_still_bad(place: Path) -> None:
    done = replay(place, code=1)
    first, second = (f"{DIRECTORY}/{file_name(n)}" for n in (0, 1))
    assert done.stdout.splitlines() == [
        "2 x still bad: ValueError",
        f"  {first}, line 2: still bad: ValueError: invalid literal for int() with base 10: "
        r"'x\udcff' (job.py, line 4, in map)",
        f"  {second}, line 2: still bad: ValueError: invalid literal for int() with base 10: "
        "'worse' (job.py, line 4, in map)",
        "1 x still no tab in the line",
        f"  {first}, line 3: still no tab in the line; it begins with 'no tab'",
    ]
    assert "noise" in done.stderr, "standard output is for the outcomes"
    assert "daskmr: 3 of 3 records do not pass." in done.stderr


def test_what_is_no_fault_of_the_record_would_fail_the_job(place: Path) -> None:
    script = "import io\nfile = io.StringIO()\nfile.close()\n" + LENIENT.format(dims=DIMS)
    (place / "job.py").write_text(script + "    file.read()\n")
    _, first, *_ = replay(place, code=1).stdout.splitlines()
    assert "line 2: would fail the job now: ValueError: I/O operation on closed file" in first
    assert "(job.py, line 11, in map). The script used a file" in first


@pytest.mark.parametrize("reduce", ["", REDUCE])
def test_a_script_that_is_mended(place: Path, reduce: str) -> None:
    script = LENIENT.format(dims=DIMS) + reduce
    (place / "job.py").write_text(script)
    lines = replay(place, code=1).stdout.splitlines()
    what = "value" if reduce else "line"
    assert lines[1].endswith(f"line 2: passes now, and writes 1 {what}")
    assert "would fail the job now: KeyError: 'worse'" in lines[-1]
    (place / "other.py").write_text(script.replace("worse", "none"))
    bad = (place / "out.txt.bad.jsonl").read_text().splitlines(keepends=True)
    (place / "out.txt.bad.jsonl").write_text(bad[0] + bad[2])
    done = replay(place, "--script", "other.py", code=0)
    assert "all 2 records pass now" in done.stderr


def test_the_debugger_stands_where_the_script_failed(place: Path) -> None:
    done = replay(place, "--pdb", code=1, text="p dims[0], value\np number\nq\n")
    assert len(done.stdout.splitlines()) == 1
    assert r"('saved_session', 'x\udcff')" in done.stderr
    assert "NameError" in done.stderr, "the line that failed has not given it a value"
    assert "Stopped at the first record that failed" in done.stderr


def test_where_nothing_tells_of_the_run(place: Path) -> None:
    (place / "out.txt.meta.json").unlink()
    assert "Give it with --script" in replay(place, code=2).stderr
    assert len(replay(place, "--script", "job.py", code=1).stdout.splitlines()) == 5
    (place / "schema.json").write_text('{"dimensions": [{"field_name": "a"}, {"field_name": "b"}]}')
    done = replay(place, "--script", "job.py", "--schema", "schema.json", code=2)
    assert "is not in the layout {a}.{b}.{_}, because" in done.stderr


def test_what_holds_no_bad_records(place: Path) -> None:
    path = place / "out.txt.bad.jsonl"
    for text in ("nonsense\n", "[]\n", "3\n", '{"file": "a"}\n', '{"file": 1, "raw": "%"}\n'):
        path.write_text(text)
        with pytest.raises(InputError, match="line 1: this is not a bad record"):
            open_replay(str(path), None, None)
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="is not text"):
        list(read_bad_records(str(path)))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_bad_records(str(place / "absent")))
    path.write_text("")
    assert replay(place, code=0).stdout == ""


def test_dims_are_those_of_the_path() -> None:
    layout = Layout.of_names(("reason", "buildID", "date"))
    assert dims_of("a b/1.2.x.y.gz", layout) == ["a b", "1", "2"]
    for path in ("1.2.x.gz", "a/b/1.2.x.gz", "a/1.gz"):
        with pytest.raises(InputError, match="not in the layout"):
            dims_of(path, layout)


def test_a_record_for_which_map_returns_something_would_fail_the_job(place: Path) -> None:
    (place / "job.py").write_text(SCRIPT.replace("context.write(key, 1)", "return key, 1"))
    (place / "job.py").write_text((place / "job.py").read_text().replace("int(value)", "1"))
    done = replay(place, code=1)
    assert "would fail the job now: it returned ('b', 1)" in done.stdout


def test_a_reason_is_said_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a"\n')
    (tmp_path / "job.py").write_text(
        'records = "jsonl"\ndef map(key, dims, value, context):\n    pass\n'
    )
    options = {"inline": True, "max_bad_records": "100%", "work_dir": tmp_path / "work"}
    data, output = tmp_path / "a.jsonl", tmp_path / "out.txt"
    mapreduce(tmp_path / "job.py", data_dir=data, output=output, **options)
    assert "line 2: still not JSON: Expecting" in replay(tmp_path, code=1).stdout
