"""The contract of ``--data-dir``: what a command line reads, wherever it is."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.jobs import DIRECTORY, counting_job, daskmr, file_name, write_tree
from support.store_server import Bucket

from daskmr import InputError, mapreduce

SCRIPT = """
def map(key, dims, value, context):
    context.write((key, len(dims)), int(value))

def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "logs/01").mkdir(parents=True)
    (tmp_path / "logs/02").mkdir()
    (tmp_path / "logs/01/a.log").write_text("a\t1\nb\t2\n")
    (tmp_path / "logs/02/b.log.gz").write_bytes(gzip.compress(b"a\t3\n"))
    (tmp_path / "job.py").write_text(SCRIPT)
    return tmp_path


def run(place: Path, *arguments: str, data: bytes | None = None, code: int = 0) -> str:
    """Run a command, and return what it writes: its output, or its error."""
    done = daskmr(*arguments, cwd=place, data=data or b"")
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def test_each_form_gives_the_same(place: Path) -> None:
    (place / "list").write_text("logs/01/a.log\nlogs/02/b.log.gz\n")
    expected = "('a', 0)\t4\n('b', 0)\t2\n"
    forms: list[tuple[list[str], bytes]] = [
        (["logs/01/a.log", "logs/02/b.log.gz"], b""),
        (["logs/*/*"], b""),
        (["logs/**"], b""),
        (["@list"], b""),
        (["@-"], (place / "list").read_bytes()),
        (["-"], b"a\t1\nb\t2\na\t3\n"),
        (["-"], gzip.compress(b"a\t1\nb\t2\na\t3\n")),
    ]
    for values, data in forms:
        given = [word for value in values for word in ("-d", value)]
        assert run(place, "run", "job.py", *given, "--inline", "-q", data=data) == expected


def test_standard_input_reaches_the_workers(place: Path) -> None:
    options = ("-d", "-", "-m", "1", "-o", "out.txt")
    run(place, "run", "job.py", *options, data=b"a\t1\n")
    assert (place / "out.txt").read_text().endswith("\t1\n")
    assert not (place / ".daskmr").exists()  # the copy is removed with the folder of the run
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert (meta["input"]["data_dir"], meta["layout"]) == ("-", [])
    error = run(place, "run", "--from", "out.txt.meta.json", code=2)
    assert "read standard input, which cannot be repeated" in error
    again = ("run", "--from", "out.txt.meta.json", "-d", "-", "-o", "again.txt")
    run(place, *again, data=b"a\t1\n")
    assert (place / "again.txt").read_bytes() == (place / "out.txt").read_bytes()


def test_standard_input_that_is_none(place: Path) -> None:
    assert "was empty" in run(place, "run", "job.py", "-d", "-", code=3)
    assert run(place, "run", "job.py", "-d", "-", "--allow-empty", "--inline", "-q") == ""
    assert "cannot be deleted" in run(place, "run", "job.py", "-d", "-", "-X", "-o", "x", code=2)
    main, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", "run", "job.py", "-d", "-"],
        cwd=place,
        stdin=terminal,
        capture_output=True,
        timeout=60,
        check=False,
    )
    os.close(main)
    os.close(terminal)
    assert done.returncode == 2
    assert b"which is a terminal or closed. Pipe it" in done.stderr


def test_commands_before_a_run_read_standard_input(place: Path) -> None:
    assert "1 record gave 1 pair" in run(place, "check", "job.py", "-d", "-", data=b"a\t1\n")
    plan = run(place, "plan", "job.py", "-d", "-", "--json", data=b"a\t1\n")
    assert json.loads(plan)["files"] == {"files": 1, "bytes": 4}
    assert "values" not in run(place, "plan", "job.py", "-d", "logs/**")


def test_a_run_is_repeated(place: Path) -> None:
    run(place, "run", "job.py", "-d", "logs/*/*.log", "-d", "logs/02/b.log.gz", "-o", "out.txt")
    meta = json.loads((place / "out.txt.meta.json").read_text())
    root = str(place.resolve())
    assert meta["input"]["data_dir"] == [f"{root}/logs/*/*.log", f"{root}/logs/02/b.log.gz"]
    assert [file["path"] for file in meta["input"]["list"]] == ["01/a.log", "02/b.log.gz"]
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    run(elsewhere, "run", "--from", "../out.txt.meta.json", "-o", "again.txt")
    assert (elsewhere / "again.txt").read_bytes() == (place / "out.txt").read_bytes()


def test_bad_records_of_named_files_are_replayed(place: Path) -> None:
    (place / "logs/01/a.log").write_text("a\t1\nb\tx\n")
    run(place, "run", "job.py", "-d", "logs/01/a.log", "-o", "out.txt")
    assert "still bad" in daskmr("replay", "out.txt.bad.jsonl", cwd=place).stdout


def test_an_argument_that_is_no_option(place: Path) -> None:
    error = run(place, "run", "job.py", "logs", code=2)
    assert "The input is an option: daskmr run job.py -d logs" in error.replace("__main__.py", "")
    expanded = ("-d", "logs/01/a.log", "logs/02/b.log.gz")
    assert "If the shell has expanded a glob, repeat -d" in run(
        place, "run", "job.py", *expanded, code=2
    )
    error = run(place, "new", "a.py", *expanded, code=2)
    assert "If the shell has expanded a glob, " in error


def test_a_failed_record_is_run_again(place: Path) -> None:
    (place / "job.py").write_text("def map(key, dims, value, context):\n    1 / (key != 'b')\n")
    given = ("-d", "logs/01/a.log", "-d", "logs/02/b.log.gz", "--inline")
    error = run(place, "run", "job.py", *given, code=1)
    again = "--data-dir logs/01/a.log --data-dir logs/02/b.log.gz --inline -o - --only 01/a.log"
    assert f"run job.py {again}\n" in error
    error = run(place, "run", "job.py", "-d", "-", data=b"b\t1\n", code=1)
    assert " --data-dir input.saved --inline -o -\n" in error
    assert "To run it without workers, with the input first saved as input.saved, so that" in error


def test_what_daskmr_wrote_is_no_input(tmp_path: Path) -> None:
    folder = write_tree(tmp_path / "data", [["k\t1"]]) / DIRECTORY
    for name in ("1.2.json.meta.json", "1.2.bad.jsonl", "_1.2.log"):
        (folder / name).write_text("k\t1\n")
    (tmp_path / "data" / "_x").mkdir()
    work = folder.parent / "work"
    (work / "run").mkdir(parents=True)
    options: dict[str, Any] = {"inline": True, "work_dir": work}
    result = mapreduce(counting_job(), data_dir=tmp_path / "data", **options)
    assert list(result) == [("k", 1)]
    assert dict(zip(result.skipped, result.skipped_reasons, strict=True)) == {
        "_x/": "its name begins with _",
        f"{DIRECTORY}/1.2.bad.jsonl": "it was written by daskmr",
        f"{DIRECTORY}/1.2.json.meta.json": "it was written by daskmr",
        f"{DIRECTORY}/_1.2.log": "its name begins with _",
    }


def test_an_earlier_output_is_no_input_of_the_same_data(place: Path) -> None:
    """Nor are a temporary file of a run, and a work dir, which are not even mentioned."""
    data = place / "logs"
    options: dict[str, Any] = {"inline": True, "work_dir": data / ".daskmr", "layout": "flat"}
    job = str(place / "job.py")
    first = mapreduce(job, data_dir=data, output=str(data / "02/a.log"), **options)
    again = mapreduce(job, data_dir=data, output=f"{data}/out/", **options)
    for source in (data, f"{data}/**", [data, place / "logs/01/a.log"]):
        result = mapreduce(job, data_dir=source, **options)
        assert result.to_dict() == {("a", 0): 4, ("b", 0): 2}
    third = mapreduce(job, data_dir=data, **options)
    assert dict(zip(first.skipped, first.skipped_reasons, strict=True)) == {}
    assert again.skipped == ("02/a.log", "02/a.log.meta.json")
    assert (third.skipped[0], third.skipped[2]) == ("02/a.log", "out/")
    assert third.skipped_reasons[0] == "daskmr wrote it, from the same input"
    # Another job may read it: by its name, as a folder, and when it is no longer that output.
    for source in (data / "02/a.log", data / "out"):
        assert mapreduce(job, data_dir=source, **options).records == 2
    (data / "02/a.log").write_text("a\t1\n")
    assert mapreduce(job, data_dir=data, **options).to_dict() == {("a", 0): 5, ("b", 0): 2}


def test_an_output_from_other_data_is_input(place: Path) -> None:
    """Wherever it lies; a repeated run does not count its own, in a folder of any name."""
    work = place / "year[1]"
    work.mkdir()
    (place / "list").write_text("logs/01/a.log\n")
    options = ("--layout", "flat", "--inline", "-q", "-o")
    run(work, "run", "../job.py", "-d", "-", *options, "1.txt", data=b"a\t1\n")
    run(work, "run", "../job.py", "-d", "@../list", *options, "2.txt")
    for source in ("*.txt", "."):
        for _ in range(2):
            run(work, "run", "../job.py", "-d", source, *options, "out.txt")
            lines = (work / "out.txt").read_text().splitlines()
            assert [line.split("\t")[1] for line in lines] == ["2", "2"]
        (work / "out.txt").unlink()


def test_an_output_never_replaces_a_list(place: Path) -> None:
    (place / "list").write_text("logs/01/a.log\n")
    error = run(place, "run", "job.py", "-d", "@list", "-o", "list", code=2)
    assert "would replace a file that the job needs" in error


def test_a_url_is_a_bucket(tmp_path: Path, bucket: Bucket) -> None:
    key = f"p/{DIRECTORY}/{file_name(0)}"
    bucket.put({key: gzip.compress(b"k\t1\n")})
    (tmp_path / "more.log").write_text("k\t1\n")
    url, work = f"s3://{bucket.name}/p", tmp_path / "work"
    options: dict[str, Any] = {"inline": True, "work_dir": work, "output": tmp_path / "out.txt"}
    mapreduce(counting_job(), data_dir=[url, tmp_path / "more.log"], **options)
    assert (tmp_path / "out.txt").read_text() == "k\t2\n"
    meta = json.loads((tmp_path / "out.txt.meta.json").read_text())
    assert meta["input"]["data_dir"] == [url, str(tmp_path / "more.log")]
    assert (meta["input"]["bucket"], meta["options"]["bucket"]) == (url, None)
    (tmp_path / DIRECTORY).mkdir(parents=True)
    same = tmp_path / DIRECTORY / file_name(0)
    same.write_bytes(gzip.compress(b"k\t1\n"))
    with pytest.raises(InputError, match="is both in"):
        mapreduce(counting_job(), data_dir=[url, same, tmp_path / "more.log"], **options)
