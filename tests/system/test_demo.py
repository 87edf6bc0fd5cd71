"""The demo runs from a checkout, and the line with which it ends works as it is printed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_the_next_line_works_as_printed(tmp_path: Path, again: bool) -> None:
    checkout = tmp_path / "check out"
    shutil.copytree(ROOT / "scripts", checkout / "scripts")
    (checkout / "examples").symlink_to(ROOT / "examples")
    command = checkout / ".venv" / "bin" / "daskmr"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m daskmr "$@"\n', "utf-8"
    )
    command.chmod(0o755)

    def shell(line: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
        return subprocess.run(
            ["sh", "-c", line], cwd=checkout, env=environment, capture_output=True, text=True
        )

    first = shell("scripts/demo")
    assert first.returncode == 0, first.stderr
    shown = [line.removeprefix("$ ") for line in first.stdout.splitlines() if line[:2] == "$ "]
    assert first.stdout.endswith(f"$ {shown[-1]}\n")
    assert [line.split()[:2] for line in shown] == [
        [".venv/bin/daskmr", "sample-data"],
        [".venv/bin/daskmr", "run"],
        [".venv/bin/daskmr", "new"],
    ]
    for line in shown[1:]:
        done = shell(line)
        assert done.returncode == 0, done.stderr
    assert (checkout / "demo" / "job.txt").read_text("utf-8").count("\n") > 3

    if again:
        second = shell("scripts/demo")
        assert second.returncode == 0, second.stderr
        next_line = second.stdout.splitlines()[-1].removeprefix("$ ")
        assert " new " not in next_line
        assert shell(next_line).returncode == 0
