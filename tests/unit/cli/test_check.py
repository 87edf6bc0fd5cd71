"""The command `check`, as a user calls it."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import daskmr


def test_check_warns_and_exits_with_0(place: Path) -> None:
    done = daskmr("check", "job.py", "-d", "data", cwd=place)
    assert done.returncode == 0
    assert "\nwarning     combine changes the result" in done.stdout
    assert "line 2     'a': 2\n" in done.stdout


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("def map(key, dims, value, context): value[99]", 1, "IndexError"),
        ('def map(key, dims, value, context):\n    print "x"', 2, "Python 2"),
        ("def mapp(key, dims, value, context): pass", 2, "does not define `map`"),
        ("def map(key, value): pass", 2, "cannot be called with 4 positional arguments"),
    ],
)
def test_check_of_a_script_with_mistakes(place: Path, script: str, code: int, said: str) -> None:
    (place / "job.py").write_text(script)
    done = daskmr("check", "job.py", "-d", "data", cwd=place)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "daskmr/" not in done.stderr


def test_check_stops_at_breakpoints(place: Path) -> None:
    (place / "job.py").write_text(
        (place / "job.py")
        .read_text()
        .replace("context.write(key, int(value))", "breakpoint()\n    key = value")
    )
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", "check", "job.py", "-d", "data"],
        cwd=place,
        input="print('value', value)\nq\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "value 1" in done.stderr
    assert "The debugger was quit" in done.stderr


def test_breakpoint_in_a_worker_hints_at_inline(place: Path) -> None:
    (place / "job.py").write_text("def map(key, dims, value, context): breakpoint(); value = 1")
    done = daskmr("run", "job.py", "-d", "data", "-m", "1", cwd=place)
    assert done.returncode == 1
    assert "run the job with --inline to stop at breakpoint()" in done.stderr


def test_check_of_one_file(place: Path) -> None:
    (path,) = [p for p in place.rglob("*.gz") if b"b\t3" in gzip.decompress(p.read_bytes())]
    only = str(path.relative_to(place / "data"))
    done = daskmr("check", "job.py", "-d", "data", "--only", only, cwd=place)
    assert done.returncode == 0
    assert "'b'" in done.stdout
    assert "'a'" not in done.stdout
