"""The command `plan`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

from support.jobs import daskmr


def test_json_is_all_that_standard_output_gets(place: Path) -> None:
    done = daskmr("plan", "job.py", "-d", "data", "--json", "-m", "2", "-X", "-p", "-q", cwd=place)
    assert done.returncode == 0
    content = json.loads(done.stdout)
    assert content["files"]["files"] == 2
    assert content["estimate"]["records"] == 4
    assert content["workers"] == 2
    assert done.stderr == "loaded\n"
    assert sorted(path.name for path in place.iterdir()) == ["data", "job.py", "none.json"]


def test_a_plan_for_people_goes_to_standard_output(place: Path) -> None:
    done = daskmr("plan", "job.py", "-d", "data", "--no-estimate", cwd=place)
    assert done.stdout.startswith("plan        job.py over data\n")
    assert "\x1b" not in done.stdout
    assert done.stderr == "loaded\n"


def test_nothing_matches(place: Path) -> None:
    for command in ("plan", "check"):
        done = daskmr(command, "job.py", "-d", "data", "-f", "none.json", cwd=place)
        assert done.returncode == 3
        assert "dimension 1 (reason) allows 'other'" in done.stderr


def test_a_plan_of_a_run_that_was(place: Path) -> None:
    options = ["-d", "data", "-o", "out", "--inline", "--limit-files", "1"]
    assert daskmr("run", "job.py", *options, cwd=place).returncode == 0
    done = daskmr("plan", "--from", "out.meta.json", "--json", "--no-estimate", cwd=place)
    content = json.loads(done.stdout)
    assert content["files"]["files"] == 1
    assert content["script"] == str(place / "job.py")
    assert content["workers"] == 1
    assert daskmr("plan", "-d", "data", cwd=place).returncode == 2
