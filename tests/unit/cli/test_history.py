"""Runs are kept, shown and compared; ``--summary-json`` is written whatever the outcome."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def daskmr(place: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "daskmr", *words]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


RUN = ("run", "job.py", "-d", "data", "-o", "out.txt", "--inline", "-q")


def summary(place: Path) -> Any:
    return json.loads((place / "s.json").read_text())


def test_runs_are_kept_and_compared(place: Path) -> None:
    daskmr(place, *RUN, "--report", "r.html")
    with (place / "job.py").open("a") as script:
        script.write("# changed\n")
    daskmr(place, *RUN)
    (place / "bad.py").write_text("def map(k, d, v, c): 1 / 0\n")
    daskmr(place, "run", "bad.py", *RUN[2:], code=1)
    newest, _, oldest = json.loads(daskmr(place, "history", "--json").stdout)
    assert (newest["outcome"], newest["exit_code"]) == ("failed", 1)
    assert "division by zero" in newest["error"]
    assert oldest["counts"]["records"] == 4
    assert "list" not in oldest["input"]
    lines = daskmr(place, "history", "out.txt").stdout.splitlines()
    assert lines[3].endswith(oldest["output"]["sha256"][:8] + "  script")
    assert "reused" not in lines[0]
    daskmr(place, "history", "--html", "h.html")
    page = (place / "h.html").read_text()
    assert 'href="r.html"' in page
    assert "division by zero" in page
    said = daskmr(place, "history", "other.txt", code=2).stderr
    assert "Those that are kept wrote out.txt" in said


def test_nothing_is_kept_without_the_provenance_or_of_a_mistake(place: Path) -> None:
    daskmr(place, *RUN, "--no-meta")
    daskmr(place, *RUN, "--where", "none=1", code=2)
    assert not (place / ".daskmr").exists()
    assert "No run is kept" in daskmr(place, "history", code=2).stderr


def test_a_history_that_cannot_be_written_is_a_note(place: Path) -> None:
    (place / ".daskmr").mkdir()
    (place / ".daskmr" / "history").touch()
    done = daskmr(place, *RUN[:-1])
    assert "note: the run is not in the history" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "outcome", "error"),
    [
        ((), 0, "done", None),
        (("--unknown",), 2, "bad usage", "No such option"),
        (("-m", "x"), 2, "bad usage", "--num-mappers"),
        (("-f", "none.json"), 3, "nothing matched", "matches the filter"),
        (("--param", "x=1"), 2, "bad usage", "x"),
    ],
)
def test_a_summary_is_written_whatever_the_outcome(
    place: Path, words: tuple[str, ...], code: int, outcome: str, error: str | None
) -> None:
    daskmr(place, *RUN, "--summary-json", "s.json", *words, code=code)
    found = summary(place)
    assert (found["version"], found["outcome"], found["exit_code"]) == (1, outcome, code)
    assert found["script"] == str(place / "job.py")
    assert found["output"]["path"] == str(place / "out.txt")
    assert error is None if found["error"] is None else error in found["error"]
    assert ("counts" in found) is (code == 0)


@pytest.mark.parametrize("name", ["job.py", "out.txt", "out.txt.meta.json", "data", "no/s.json"])
def test_a_summary_replaces_no_other_file(place: Path, name: str) -> None:
    before = (place / "job.py").read_bytes()
    daskmr(place, *RUN, "--summary-json", name, code=2)
    assert (place / "job.py").read_bytes() == before
    assert not (place / "out.txt").exists()
    assert not (place / "out.txt.meta.json").exists()
