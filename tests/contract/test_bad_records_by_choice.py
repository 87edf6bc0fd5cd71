"""The contract of bad records by choice: ``BadRecord``, ``--on-error``, and their groups."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import DaskCluster
from support.jobs import daskmr
from support.store_server import Bucket

from daskmr import BadRecord, Job, JobError, mapreduce

SCRIPT = """
from daskmr import BadRecord

class TooLong(BadRecord):
    pass

def map(key, dims, value, context):
    context.write(key, 1)
    context.counter("records", "seen")
    if value == "robot":
        raise BadRecord("a robot", f"it is {key}")
    if value == "empty":
        raise BadRecord
    if value == "long":
        raise TooLong("longer than\\n  ten")
    if value == "missing":
        {}[value]
    if value == "none":
        None.size
    int(value)

def reduce(key, values, context):
    context.write(key, sum(values))
"""
VALUES = ["robot", "empty", "long", "1", "2", "3", "4"]
SKIPPED = ["missing", "none", "missing"]


def place(root: Path, values: list[str], script: str = SCRIPT) -> Path:
    (root / "data").mkdir()
    for name in "ab":
        lines = [f"k{n}\t{value}\n" for n, value in enumerate(values)]
        (root / f"data/{name}.log").write_text("".join(lines))
    (root / "job.py").write_text(script)
    return root


def run(root: Path, *options: str, code: int = 0) -> str:
    given = ("job.py", "-d", "data", "--layout", "flat", "-o", "out", "--max-bad-records", "99%")
    done = daskmr("run", *given, *options, cwd=root)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("how", [["--inline"], pytest.param(["-m", "2"], marks=pytest.mark.slow)])
def test_groups_by_reason(tmp_path: Path, how: list[str]) -> None:
    root = place(tmp_path, VALUES + 4 * ["robot"])
    said = run(root, *how, "--report", "report.html")
    assert (root / "out").read_text() == "k3\t2\nk4\t2\nk5\t2\nk6\t2\n"
    meta = json.loads((root / "out.meta.json").read_text())
    assert meta["counters"] == {"records": {"seen": 8}}
    assert meta["bad_records"]["reasons"] == {"a robot": 10, "BadRecord": 2, "longer than ten": 2}
    group = """\
  10 x a robot
    a.log, line 1: a robot: it is k0; it begins with 'k0\\trobot'
    a.log, line 8: a robot: it is k7; it begins with 'k7\\trobot'
    a.log, line 9: a robot: it is k8; it begins with 'k8\\trobot'
  2 x """
    assert group in said
    report = (root / "report.html").read_text()
    assert "Bad records: 10 x a robot" in report
    assert "a.log, line 9: a robot: it is k8" in report
    assert "and 7 more" in report
    first, *_ = map(json.loads, (root / "out.bad.jsonl").read_text().splitlines())
    assert (first["reason"], first["exception"]) == ("a robot", "a robot: it is k0")


def test_reasons_of_classes_with_faults_of_their_own(tmp_path: Path) -> None:
    faulty = """
class Own(BadRecord):
    def __init__(self, field, size):
        self.field = field

class Plain(BadRecord):
    pass

class Mute:
    def __str__(self):
        raise RuntimeError

def map(key, dims, value, context):
    if value == "own":
        raise Own(key, 5)
    if value == "mute":
        raise BadRecord(Mute())
    if value == "plain":
        raise Plain
    context.write(key, 1)
"""
    script = SCRIPT.partition("def map")[0] + faulty
    said = run(place(tmp_path, ["own", "mute", "own", "plain", "1"], script), "--inline")
    assert "2 x Plain\n    a.log, line 4: Plain; it begins" in said
    assert "4 x Own\n    a.log, line 1: Own; it begins" in said
    assert "2 x (its text cannot be shown: __str__ raised RuntimeError)" in said


def test_an_error_fails_the_job_unless_it_is_skipped(
    tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    root = place(tmp_path, VALUES + SKIPPED)
    said = run(root, "--inline", code=1)
    assert "KeyError: 'missing' (job.py, line 17, in map). To count such records as bad" in said
    for how in (["--inline"], ["-m", "2"], ["--scheduler", dask_cluster.address]):
        said = run(root, *how, "--on-error", "skip")
        assert "4 x KeyError: 'missing'\n    a.log, line 8: KeyError: 'missing'; it begins" in said
        assert "2 x AttributeError: 'NoneType' object has no attribute 'size'" in said
        assert (root / "out").read_text() == "k3\t2\nk4\t2\nk5\t2\nk6\t2\n"
    again = daskmr("run", "--from", "out.meta.json", "-o", "again", "--inline", cwd=root)
    assert again.returncode == 0, "the setting is part of what is repeated"
    checked = daskmr(
        "check", "job.py", "-d", "data", "--layout", "flat", "--on-error", "skip", cwd=root
    )
    assert "4 x KeyError: 'missing'" in checked.stdout


def _write_beside(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write_to("errors", key, value)


REDUCE = "def reduce(key, values, context): pass"


def test_the_script_itself_is_never_skipped(tmp_path: Path) -> None:
    """What `map` returns, and wrong counters, are no fault of a record; nor is any other error."""
    root = place(tmp_path, ["1"])
    options: dict[str, Any] = {"data_dir": root / "data", "layout": "flat", "on_error": "skip"}
    for body, found in (
        ("return 1", "it returned 1"),
        ("context.counter('a', 'b', 1.5)", "adds whole numbers"),
        ("context.write_to('a b', 1, 2)", "cannot name an output"),
        ("1 / 0", "ZeroDivisionError"),
        ("context.wrte(key, 1)", "the context has no attribute 'wrte'"),
        ("hasattr(context, 'x'); context.x += 1", "the context has no attribute 'x'"),
        ("context.write_to('a', 1, 2)\n" + REDUCE, "belongs in reduce"),
        ("context.writeline('a')\n" + REDUCE, "belongs in reduce"),
    ):
        (root / "job.py").write_text(f"def map(key, dims, value, context):\n    {body}\n")
        with pytest.raises(JobError, match=found) as failed:
            mapreduce(root / "job.py", inline=True, **options)
        assert "--on-error" not in str(failed.value)
    steps = [Job(map=_write_beside), Job(map=_write_beside)]
    with pytest.raises(JobError, match=r"context\.write_to belongs to the output, but step 1 of 2"):
        mapreduce(steps, inline=True, **options)
    said = run(root, "--inline", "--on-error", "ignore", code=2)
    assert "it must be skip or fail" in said


def test_too_many_that_are_skipped_fail_the_job(tmp_path: Path) -> None:
    root = place(tmp_path, ["missing"])
    said = run(root, "--inline", "--on-error", "skip", code=1)
    assert "2 of 2 records are bad (2 x KeyError: 'missing')" in said


def test_records_of_another_format(tmp_path: Path) -> None:
    script = "def map(key, dims, value, context):\n    context.write(value['id'], 1)\n"
    root = place(tmp_path, [], script)
    (root / "data/c.jsonl").write_text('{"id": 1}\n{"no": 2}\n[3]\n')
    options = ("--records", "jsonl", "--inline", "--on-error", "skip")
    said = run(root, *options)
    assert (root / "out").read_text() == "1\t1\n"
    assert "1 x KeyError: 'id'\n    c.jsonl, line 2: KeyError: 'id'" in said
    assert "1 x TypeError: list indices must be integers or slices, not str" in said


def test_replay_has_the_same_groups(tmp_path: Path) -> None:
    root = place(tmp_path, VALUES + SKIPPED)
    run(root, "--inline", "--on-error", "skip")
    (root / "job.py").write_text(SCRIPT.replace('value == "long"', "False"))
    done = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert done.returncode == 1
    assert [line for line in done.stdout.splitlines() if line[0] != " "] == [
        "4 x still bad: KeyError: 'missing'",
        "2 x still bad: a robot",
        "2 x still bad: BadRecord",
        "2 x still bad: ValueError",
        "2 x still bad: AttributeError: 'NoneType' object has no attribute 'size'",
    ]
    assert (
        "  a.log, line 8: still bad: KeyError: 'missing' (job.py, line 17, in map)" in done.stdout
    )
    assert "  a.log, line 1: still bad: a robot: it is k0 (job.py, line 11, in map)" in done.stdout
    assert done.stdout.count("KeyError: 'missing' (job.py") == 3
    (root / "job.py").write_text("def map(key, dims, value, context):\n    context.write(key, 1)\n")
    done = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "12 x passes now")


def test_replay_calls_setup_map_once(tmp_path: Path) -> None:
    script = """
def setup_map(context):
    context.limit = 5
    print("setup")
def map(key, dims, value, context):
    if int(value) < context.limit:
        raise ValueError(value)
    context.write(key, context.source)
"""
    root = place(tmp_path, ["1", "2", "7"], script)
    run(root, "--inline")
    assert (root / "out").read_text() == 2 * "k2\tdata\n"
    (root / "job.py").write_text(script.replace("= 5", "= 2"))
    done = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert done.stdout.splitlines()[0] == "2 x still bad: ValueError"
    assert "k1" not in done.stdout
    assert (done.stdout + done.stderr).count("setup\n") == 1
    (root / "job.py").write_text(script.replace("context.limit = 5", "1 / 0"))
    done = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert done.returncode == 1
    assert "setup_map failed before the first record: ZeroDivisionError" in done.stderr


def test_a_reason_for_each_record_is_bounded(tmp_path: Path) -> None:
    def map_(key: str, dims: Any, value: str, context: Any) -> None:
        if key != "k0":
            raise BadRecord(f"{value} {'x' * 999}")

    root = place(tmp_path, [f"{n}" for n in range(300)])
    options: dict[str, Any] = {"layout": "flat", "max_bad_records": "100%"}
    result = mapreduce(Job(map_), data_dir=root / "data", inline=True, **options)
    assert (len(result.bad_reasons), result.bad_records) == (100, 598)
    assert next(iter(result.bad_reasons)) == "other reasons"
    assert max(map(len, result.bad_reasons)) <= 200
    assert len(result.saved_bad_records) == 598


def test_where_a_record_is_from(tmp_path: Path) -> None:
    script = """
def map(key, dims, value, context):
    if value == "bad":
        raise ValueError(context.source)
    context.write((context.source, context.path, context.line), value)
def reduce(key, values, context):
    context.write("\\t".join([str(part) for part in key]), values[0])
"""
    root = place(tmp_path, ["1", "bad"], script)
    (root / "more").mkdir()
    (root / "more/c.log").write_text("k\t3\n")
    expected = "data\tdata/a.log\t1\t1\ndata\tdata/b.log\t1\t1\n./more\tmore/c.log\t1\t3\n"
    command = ("job.py", "-d", "data/", "-d", "./more/", "--layout", "flat")
    for how in ("--inline", "-m2"):
        done = daskmr("run", *command, "-o", "out", how, cwd=root)
        assert sorted((root / "out").read_text().splitlines()) == sorted(expected.splitlines())
    assert "a.log, line 2: ValueError: data" in done.stderr
    (root / "elsewhere").mkdir()
    again = daskmr(
        "run", "--from", "../out.meta.json", "-o", "again", "--inline", cwd=root / "elsewhere"
    )
    assert (root / "elsewhere/again").read_bytes() == (root / "out").read_bytes(), again.stderr
    replayed = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert "still bad: ValueError: data (job.py" in replayed.stdout
    checked = daskmr("check", *command, cwd=root)
    assert "('./more', 'more/c.log', 1): '3'" in checked.stdout
    given = ("-d", "data/*.log", "-d", "more/c.log", "--layout", "flat", "--inline", "-q")
    found = daskmr("run", "job.py", *given, cwd=root).stdout
    assert {line.split("\t")[0] for line in found.splitlines()} == {"data/*.log", "more/c.log"}
    found = daskmr("run", "job.py", "-d", "-", "--inline", "-q", cwd=root, data=b"k\t1\n").stdout
    assert found == "-\tstdin\t1\t1\n"


def test_a_store_is_a_source(tmp_path: Path, bucket: Bucket) -> None:
    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write((context.source, context.line), value)

    bucket.put({"p/b.log": b"k\t1\nk\t2\n"})
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.log").write_text("k\t0\n")
    (tmp_path / "c.log").write_text("k\t3\n")
    url = f"s3://{bucket.name}/p/"
    options: dict[str, Any] = {"layout": "flat", "inline": True, "work_dir": tmp_path / "work"}
    local, named = f"{tmp_path}/data", f"{tmp_path}/c.log"
    stored = [((url[:-1], 1), "1"), ((url[:-1], 2), "2")]
    for sources, expected in (
        ([url], stored),
        ([local + "/", url], [((local, 1), "0"), *stored]),
        ([url, named, local], [((local, 1), "0"), *stored, ((named, 1), "3")]),
    ):
        assert sorted(mapreduce(map=map_, data_dir=sources, **options)) == sorted(expected)
    result = mapreduce(map=map_, bucket=f"{bucket.name}/p", **options)
    assert [source for (source, _), _ in result] == [f"{bucket.name}/p"] * 2
