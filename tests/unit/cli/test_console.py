"""How commands end, and what they show on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import DIRECTORY, file_name

from daskmr.cli.console import exit_codes


@pytest.mark.parametrize("arguments", ["check job.py -d data", "replay bad --script job.py"])
def test_standard_output_that_cannot_be_written(place: Path, arguments: str) -> None:
    bad = {
        "file": f"{DIRECTORY}/{file_name(0)}",
        "line": 1,
        "reason": "",
        "exception": "",
        "raw": "",
    }
    (place / "bad").write_text(json.dumps(bad))
    command = f"{sys.executable} -m daskmr {arguments} > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("Standard output cannot be written: No space left on device.\n")


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_and_obey_no_color(
    place: Path, variable: str, coloured: bool
) -> None:
    control, terminal = pty.openpty()
    command = [sys.executable, "-m", "daskmr", "plan", "job.py", "-d", "data", "--no-estimate"]
    environment = {**os.environ, "NO_COLOR": variable, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(control, 1 << 16):
                shown += data
        except OSError:
            pass  # Linux says so when the other end is closed
        os.close(control)
        assert process.wait(60) == 0
    assert (b"\x1b[" in shown) is coloured


SIGNALLED = """
from daskmr.cli.console import exit_codes
from daskmr.errors import Interrupted
class Signalled:
    def __set_name__(self, owner, name):
        raise Interrupted(15)
with exit_codes():
    type("Made", (), {"field": Signalled()})
"""


def test_a_signal_while_a_class_is_made_is_an_interruption() -> None:
    """Python 3.11 wraps whatever ``__set_name__`` meets in a `RuntimeError`."""
    done = subprocess.run([sys.executable, "-c", SIGNALLED], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, b"daskmr: Interrupted; nothing was written.\n")


def test_other_runtime_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="other"), exit_codes():
        raise RuntimeError("other")
