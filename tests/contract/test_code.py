"""``--code``: a script on the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.jobs import daskmr, write_tree

COUNT = """
    def map(key, dims, value, context):
        context.write(key, int(value))

    def reduce(key, values, context):
        context.write(key, sum(values))
"""
MAP = "def map(key, dims, value, context): context.write(key, 1)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "b\t2"], ["a\t3", "c\tx"]])
    return tmp_path


def run(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = daskmr(*arguments, cwd=place)
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.parametrize("how", [["--inline"], ["-m", "2"]])
def test_a_run(place: Path, how: list[str]) -> None:
    """Its text may be indented."""
    assert run(place, "run", "-c", COUNT, "-d", "data", *how).stdout == "a\t4\nb\t2\n"


def test_a_line(place: Path) -> None:
    text = "map = lambda key, dims, value, context: context.write(dims.reason, key)"
    done = run(place, "run", "--code", text, "-d", "data", "--inline", "-q")
    assert done.stdout.splitlines()[0] == "saved_session\ta"


def test_what_it_imports_is_beside_it(place: Path) -> None:
    (place / "mine.py").write_text("def name_of(key):\n    return f'<{key}>'\n")
    text = "import mine\ndef map(key, dims, value, context): context.write(mine.name_of(key), 1)"
    assert "<a>\t1\n" in run(place, "run", "-c", text, "-d", "data", "-m", "1").stdout


def test_it_is_repeated_and_replayed(place: Path) -> None:
    run(place, "run", "-c", COUNT, "-d", "data", "-o", "out", "--inline")
    meta = json.loads((place / "out.meta.json").read_text())
    assert meta["script"]["path"] is None
    assert meta["script"]["text"].startswith("\ndef map(")
    again = run(place, "run", "--from", "out.meta.json", "-o", "again", "--inline")
    assert "note" not in again.stderr
    assert (place / "again").read_bytes() == (place / "out").read_bytes()
    assert "still bad: ValueError" in run(place, "replay", "out.bad.jsonl", code=1).stdout
    other = run(place, "run", "--from", "out.meta.json", "-c", MAP, "-o", "again", "--inline")
    assert "the script (--code) has changed since the earlier run" in other.stderr


def test_commands_before_a_run(place: Path) -> None:
    assert "4 records gave 3 pairs" in run(place, "check", "-c", COUNT, "-d", "data").stdout
    assert "plan        code over data" in run(place, "plan", "-c", COUNT, "-d", "data").stdout


def test_failures_name_the_line_and_how_to_run_it_again(place: Path) -> None:
    text = "def map(key, dims, value, context):\n    1 / (key != 'b')\n"
    said = run(place, "run", "-c", text, "-d", "data", "--inline", code=1).stderr
    assert "<code>, line 2, in map" in said
    again = next(line for line in said.splitlines() if "--code" in line)
    assert "$'def map(key, dims, value, context):\\x0a" in again
    told = run(place, "run", "-c", "def map(", "-d", "data", code=2).stderr
    assert "<code>, line 1: syntax error" in told
    assert (
        "<code>, line 1: it fails while"
        in run(place, "run", "-c", "1 / 0", "-d", "data", code=2).stderr
    )
    assert "does not define `map`" in run(place, "run", "-c", "x = 1", "-d", "data", code=2).stderr


def test_a_script_as_well(place: Path) -> None:
    said = run(place, "run", "-c", MAP, "data", code=2).stderr
    assert "The input is an option: " in said
    assert said.endswith(" -d data\n")
    said = run(place, "run", "-c", MAP, "job.py", "-d", "data", code=2).stderr
    assert said.endswith("argument (job.py). --code is the script: omit it, or omit job.py.\n")
    assert "Missing argument 'SCRIPT'" in run(place, "check", "-d", "data", code=2).stderr


@pytest.mark.slow
def test_a_report_hides_nothing_that_it_needs(place: Path) -> None:
    run(place, "run", "-c", COUNT, "-d", "data", "-o", "out", "--report", "r.html", "--inline")
    assert "def map(key" in (place / "r.html").read_text()
    text = "def map(key, dims, value, context): 1 / 0"
    run(place, "run", "-c", text, "-d", "data", "--report", "r.html", "--inline", code=1)
    assert "ZeroDivisionError" in (place / "r.html").read_text()
