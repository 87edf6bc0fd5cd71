"""Dates on the command line: one run, and one a day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.jobs import daskmr_in as daskmr

SCRIPT = """
from daskmr import param
DAY = param("day", "")
def map(key, dims, value, context):
    context.write(key + DAY, int(value))
def reduce(key, values, context):
    context.write(key, sum(values))
"""
INPUT = ("run", "job.py", "-d", "logs/{date}", "--layout", "flat", "--inline")
EACH = (*INPUT, "-o", "out-{date:%Y%m%d}.txt")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for day in (1, 2, 3):
        folder = tmp_path / "logs" / f"2024-03-0{day}"
        folder.mkdir(parents=True)
        (folder / "x.txt").write_text(f"a\t{day}\n")
    (tmp_path / "job.py").write_text(SCRIPT)
    return tmp_path


def test_a_date_is_filled_in_and_repeated(place: Path) -> None:
    daskmr(place, *EACH, "--param", "day=-{date-1d}", "--date", "2024-03-02")
    assert (place / "out-20240302.txt").read_text() == "a-2024-03-01\t2\n"
    meta = json.loads((place / "out-20240302.txt.meta.json").read_text())
    assert meta["date"] == "2024-03-02"
    (place / "out-20240302.txt").unlink()
    daskmr(place, "run", "--from", "out-20240302.txt.meta.json")
    assert (place / "out-20240302.txt").read_text() == "a-2024-03-01\t2\n"
    daskmr(place, "run", "--from", "out-20240302.txt.meta.json", "--date", "2024-03-03")
    assert (place / "out-20240303.txt").read_text() == "a-2024-03-02\t3\n"


def test_relative_dates_in_a_filter(place: Path) -> None:
    days = {"field_name": "day", "allowed_values": {"min": "-1d", "max": "{date}"}}
    (place / "filter.json").write_text(json.dumps({"version": 1, "dimensions": [days]}))
    run = ("run", "job.py", "-d", "logs", "--inline", "-f", "filter.json", "--date", "2024-03-03")
    assert daskmr(place, *run, "--layout", "{day:date}/{_}").stdout == "a\t5\n"
    done = daskmr(place, *run, "--layout", "{day}/{_}", code=2)
    assert "as {day:date}" in done.stderr


def test_other_commands_take_a_date(place: Path) -> None:
    for command in ("plan", "check"):
        done = daskmr(place, command, *INPUT[1:-1], "--date", "2024-03-02")
        assert "logs/2024-03-02" in done.stdout
        done = daskmr(place, command, "job.py", "-d", "logs/{dates}", code=2)
        assert "--data-dir: {dates} is not a date. Write {date}" in done.stderr


def test_each_day_once(place: Path) -> None:
    done = daskmr(place, *EACH, "--for-each-day", "2024-03-01..2024-03-02")
    assert (place / "out-20240302.txt").read_text() == "a\t2\n"
    assert "2024-03-01  done: 1 record, 1 line to out-20240301.txt" in done.stderr
    (place / "logs" / "2024-03-02" / "x.txt").write_text("a\t22\n")
    done = daskmr(place, *EACH, "--date", "2024-03-04", "--for-each-day", "-3d..yesterday")
    assert "2024-03-01  up to date" in done.stderr
    assert "3 days: 1 up to date, 2 done" in done.stderr
    texts = [(place / f"out-2024030{day}.txt").read_text() for day in (1, 2, 3)]
    assert texts == ["a\t1\n", "a\t22\n", "a\t3\n"]


def test_a_day_that_fails_does_not_stop_the_others(place: Path) -> None:
    (place / "logs" / "2024-03-01" / "x.txt").write_text("no tab\n")
    done = daskmr(place, *EACH, "--for-each-day", "2024-02-29..2024-03-02", code=2)
    assert (place / "out-20240302.txt").read_text() == "a\t2\n"
    assert not (place / "out-20240301.txt").exists()
    assert "3 days: 2 failed, 1 done" in done.stderr
    assert "  2024-02-29 (exit code 2): " in done.stderr
    assert "  2024-03-01 (exit code 1): " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("-o", "out.txt", "--for-each-day", "-2d..today"), "--output 'result-{date}.txt'"),
        (
            ("-o", "{date}", "--report", "r.html", "--for-each-day", "-2d..today"),
            "result-{date}.html",
        ),
        (("-o", "{date}", "--for-each-day", "soon"), "is not a range of days"),
        (("-o", "{date:date}"), "has the format 'date'"),
    ],
)
def test_mistakes_before_any_work(place: Path, arguments: tuple[str, ...], advice: str) -> None:
    done = daskmr(place, *INPUT, *arguments, code=2)
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


def test_days_without_a_difference_are_noted(place: Path) -> None:
    run = ("run", "job.py", "-d", "logs", "--layout", "flat", "--inline", "-o", "out-{date}.txt")
    done = daskmr(place, *run, "--for-each-day", "2024-03-01..2024-03-01")
    assert "note: neither the input nor a parameter depends on the day" in done.stderr


def test_up_to_date_in_one_line(place: Path) -> None:
    run = (*EACH, "--date", "2024-03-01", "--if-changed")
    done = daskmr(place, *run, "--report", "r-{date}.html")
    assert "ran, because out-20240301.txt does not exist" in done.stderr
    (place / "r-2024-03-01.html").unlink()
    done = daskmr(place, *run, "--report", "r-{date}.html")
    assert done.stderr == "up to date: out-20240301.txt (the same job over the same 1 file, 4 B)\n"
    assert not (place / "r-2024-03-01.html").exists()
