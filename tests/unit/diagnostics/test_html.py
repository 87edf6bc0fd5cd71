"""The report shows what the run did, is written atomically, and holds no secret."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.histories import NASTY
from support.jobs import daskmr
from support.pages import Page
from support.results import result, result_with_history

from daskmr import InputError, JobError, mapreduce
from daskmr.diagnostics.collector import Watcher
from daskmr.diagnostics.html import (
    describe_command,
    render_failure,
    render_report,
    write_report,
)
from daskmr.diagnostics.report_file import ReportFile
from daskmr.history import History
from daskmr.job.job import Job

SECRET = "hunter2-hunter2"
JOB = """
def map(key, dims, value, context):
    context.counter("seen", dims[2])
    if value == "bad":
        raise ValueError(value)
    if value == "worse":
        raise RuntimeError("the <b>worst</b>")
    context.write(dims[2], 1)
def reduce(key, values, context):
    context.write(key, len(values))
"""


def words_of(page: str) -> str:
    return " ".join(" ".join(Page(page).words).split())


def test_it_holds_the_figures_of_the_run() -> None:
    page = render_report(
        result_with_history(
            counters={"pings": {"beta": 1234, "nightly": 5}},
            bad_records=3,
            bad_reasons={"no tab in the line": 3},
            bad_files={"a/b.gz": 3},
            corrupt=(("c.gz", "c.gz is truncated"),),
            notes=("take note",),
            settings={"num_mappers": 4, "region": None, "anon": False, "read_timeout": 60.0},
        ),
        command="daskmr run job.py",
    )
    words = words_of(page)
    for expected in (
        "daskmr run job.py",
        "200,000",
        "1,234 files",
        "3,001",
        "pings beta 1,234",
        "a/b.gz: 3",
        "c.gz is truncated",
        "take note",
        "num-mappers 4",
        "read-timeout 60",
        "partition 17 took",
        "read 200,000 records in 1,234 files",
    ):
        assert expected in words, expected
    assert "region" not in words
    assert "anon" not in words


def test_nothing_of_the_data_becomes_part_of_the_page() -> None:
    nasty = result_with_history(
        nasty=True,
        output=NASTY,
        counters={NASTY: {NASTY: 1}},
        bad_records=1,
        bad_reasons={NASTY: 1},
        bad_files={NASTY: 1},
        corrupt=((NASTY, NASTY),),
        skipped=(NASTY,),
        skipped_count=1,
        notes=(NASTY,),
        settings={"bucket": NASTY},
    )
    page = render_report(nasty, command=NASTY)
    assert page.count("</script") == 3
    assert not [tag for tag, _ in Page(page).elements if tag in ("img", "x^2")]
    page.encode("utf-8")
    failed = render_failure(JobError(NASTY), NASTY, command=NASTY)
    assert "<img" not in failed
    Page(failed)


def test_it_can_be_made_of_a_run_without_a_watcher() -> None:
    page = render_report(result(timings={"total": 1.0}, history=History(0.0, 0.0)))
    assert "Nothing stands out as lost time." in words_of(page)
    assert "<figure" not in page


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-k", SECRET, "-s", SECRET], "-k *** -s ***"),
        ([f"--aws-key={SECRET}", "--aws-secret-key", SECRET], "--aws-key=*** --aws-secret-key ***"),
        (["--aws-s", SECRET, f"-s{SECRET}"], "--aws-s *** -s***"),
        (["-b", f"https://me:{SECRET}@host/b"], "-b 'https://***@host/b'"),
        (["-b", f"https://host/b?X-Amz-Signature={SECRET}"], "-b 'https://host/b?***'"),
        (["-o", "a file", "--aws-profile", "mine"], "-o 'a file' --aws-profile mine"),
    ],
)
def test_a_command_is_shown_without_its_secrets(arguments: list[str], shown: str) -> None:
    assert describe_command(["daskmr", "run", *arguments]) == f"daskmr run {shown}"


def test_settings_are_shown_without_what_is_secret_in_them() -> None:
    settings = {"endpoint_url": f"https://me:{SECRET}@host", "clusters": {"a": {"token": SECRET}}}
    assert SECRET not in render_report(result(settings=settings))


# --- the file -----------------------------------------------------------------------------------


def test_it_replaces_an_older_one_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("<!DOCTYPE html>old")
    path.chmod(0o600)
    inode = path.stat().st_ino
    write_report(result(), path)
    assert path.stat().st_ino != inode
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert os.listdir(tmp_path) == ["report.html"]


def test_a_disk_that_refuses_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("<!DOCTYPE html>old")

    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(JobError, match="No space left on device"):
        write_report(result(), path)
    assert path.read_text() == "<!DOCTYPE html>old"
    assert os.listdir(tmp_path) == ["report.html"]


def test_what_cannot_be_a_report_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "out.txt").touch()
    (tmp_path / "data.gz").write_bytes(b"\x1f\x8b")
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        ("-", "cannot be written to standard output"),
        (tmp_path / "data.gz", "would replace a file that is not a report"),
        (tmp_path / "pipe", "would replace a file that is not a report"),
        ("/dev/null", "would replace a file that is not a report"),
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "report.html", "does not exist"),
        (tmp_path / "out.txt", "would replace a file of the job"),
    ):
        with pytest.raises(InputError, match=words):
            ReportFile(path, str(tmp_path / "out.txt"))


def test_no_output_of_the_run_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "page.html").touch()
    report = ReportFile(tmp_path / "page.html")
    with pytest.raises(
        JobError, match=r"was not written, because the job has written an output to"
    ):
        report.put("page", [None, "other", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").read_text() == ""


# --- of real runs -------------------------------------------------------------------------------


@pytest.mark.slow
def test_pictures_hold_what_a_run_did(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree([["a\t1", "b\t2", "no tab"], ["c\t3"]])
    work = str(tmp_path / "work")

    def map_(key: str, dims: list[str], value: str, context: Any) -> None:
        context.counter("seen", key)
        context.write(dims[2], value)

    def reduce(key: str, values: Any, context: Any) -> None:
        context.write(key, len(values))

    done = mapreduce(
        Job(map=map_, reduce=reduce), data_dir=root, inline=True, watcher=Watcher(), work_dir=work
    )
    assert done.plan is not None
    assert done.plan.partitions == len([t for t in done.history.tasks if t.phase == "map"]) == 2
    words = words_of(render_report(done))
    assert "seen a 1" in words
    assert "partitions 2" in words
    assert "By reason 1 in total" in words


def test_the_command_writes_it_and_says_so(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree([["a\t1", "b\tbad"], ["c\t3"]])
    (tmp_path / "job.py").write_text(JOB)
    done = run(tmp_path, root, "--report", "report.html")
    assert done.returncode == 0, done.stderr
    assert "report   report.html" in done.stderr
    words = words_of((tmp_path / "report.html").read_text("utf-8"))
    assert "daskmr run job.py" in words
    assert "seen nightly 2" in words  # a bad record counts for nothing
    assert "bad records: 1" in words
    assert "context.write" not in words  # nor any line of the script


@pytest.mark.slow
def test_a_job_that_fails_is_reported_too(tree: Callable[..., Path], tmp_path: Path) -> None:
    root = tree([["a\t1"], ["c\tworse"]])
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "report.html").write_text("<!DOCTYPE html>stale")
    done = run(tmp_path, root, "--report", "report.html")
    assert done.returncode == 1
    assert not (tmp_path / "out.txt").exists()
    page = (tmp_path / "report.html").read_text("utf-8")
    words = words_of(page)
    assert "job: failed" in words
    assert "RuntimeError: the <b>worst</b>" in words
    assert "raise RuntimeError" not in words  # it shows no line of the script
    assert re.search("<b>worst", page) is None
    done = run(tmp_path, root, "--report", "report.html", "--log-format", "json")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert "report   report.html" in [event.get("text") for event in events]


def test_a_report_without_a_place_is_an_error_before_any_work(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = tree([["a\t1"]])
    (tmp_path / "job.py").write_text(JOB)
    for path in ("out.txt", "job.py", "no/report.html"):
        done = run(tmp_path, root, "--report", path)
        assert done.returncode == 2, done.stderr
        assert "report" in done.stderr
        assert not (tmp_path / "out.txt").exists()
    assert (tmp_path / "job.py").read_text() == JOB


def run(folder: Path, root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return daskmr(
        "run", "job.py", "-d", str(root), "-o", "out.txt", "--inline", *options, cwd=folder
    )
