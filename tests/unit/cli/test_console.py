"""How commands end, and what they show on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support.jobs import DIRECTORY, file_name

from daskmr import stdio
from daskmr.cli.console import announced, exit_codes, listing_line, progress_line


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
from daskmr import stdio
from daskmr.cli.console import announced, exit_codes, listing_line, progress_line
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


def test_an_interruption_says_what_was_written_before() -> None:
    code = f"{SIGNALLED.split('class')[0]}\nwith exit_codes():\n"
    code += "    error = Interrupted(2)\n    error.add_note('kept/1-a.csv')\n    raise error\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    said = b"daskmr: Interrupted; nothing was written but kept/1-a.csv.\n"
    assert (done.returncode, done.stderr) == (130, said)


def test_other_runtime_errors_are_left_alone() -> None:
    with pytest.raises(RuntimeError, match="other"), exit_codes():
        raise RuntimeError("other")


class Terminal(io.StringIO):
    """Standard error of a terminal, which notes when something is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def isatty(self) -> bool:
        return True

    def flush(self) -> None:
        self.written.set()


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def test_a_command_that_takes_long_says_what_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stderr = use_terminal(monkeypatch)
    monkeypatch.setattr(stdio, "_TICK", 0.001)
    monkeypatch.delitem(sys.modules, "pdb", raising=False)
    with announced("reading"):
        for _ in range(2):
            assert stderr.written.wait(30)
            stderr.written.clear()
    shown = stderr.getvalue()
    assert shown.startswith("\r\x1b[Kdaskmr: reading\n\rdaskmr: 0:00 \x1b[K\r")
    assert shown.endswith("\r\x1b[K")


def test_a_command_that_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = use_terminal(monkeypatch)
    with announced("reading"):
        assert "daskmr-ticker" in [thread.name for thread in threading.enumerate()]
    with pytest.raises(KeyError), announced("reading"):
        raise KeyError
    assert stderr.getvalue() == ""


def test_nothing_is_announced_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdio, "_TICK", 0.0)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    before = {*threading.enumerate()}
    with announced("reading"), progress_line() as show, listing_line() as on_listing:
        assert (show, on_listing) == (None, None)
        assert {*threading.enumerate()} <= before
    assert sys.stderr.getvalue() == ""


def test_progress_is_replaced_and_cleared(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = use_terminal(monkeypatch)
    with listing_line() as show:
        assert show is not None
        show(2, 1_000)
    assert stderr.getvalue() == "\rlisting: 1,000 files in 2 prefixes\x1b[K\r\x1b[K"
