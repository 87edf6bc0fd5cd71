"""Standard error for people at a terminal, for a log, and for a program."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.counts import with_counts
from support.jobs import daskmr, write_tree
from support.terminal import Screen

from daskmr.diagnostics import log
from daskmr.diagnostics.log import InlineTerminal, JsonLog, Terminal, TextLog, View, choose
from daskmr.diagnostics.run_state import RunOutline
from daskmr.history import Look, Progress
from daskmr.tasks.progress import Printed

JOB = """
import time
print("loading")
def map(key, dims, value, context):
    if value == "print":
        print("seen", key)
    if value == "sleep":
        time.sleep({seconds})
    if value == "bad":
        raise ValueError("bad")
    if value == "break":
        breakpoint()
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""
LINE = Printed("text", "map", "a/b.gz", 7, "", "job.py", 5, "0", 1000.0)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\tprint", "b\tbad"], ["c\tsleep", "d\tprint"]])
    (tmp_path / "job.py").write_text(JOB.format(seconds=0))
    return tmp_path


# --- lines --------------------------------------------------------------------------------------


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(log.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def look(at: float = 0.0, **changes: Any) -> Look:
    progress = {"map": Progress(3, 8, 3, 12, 1_500_000, 6_000_000)}
    return with_counts(Look, at, "map", **{"progress": progress, "records": 900, **changes})


def test_a_log_has_a_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    log = TextLog(stream)
    for _ in range(400):
        log.look(look(clock.now))
        clock.now += 0.5
    times = re.findall(r"^daskmr: (\d+):(\d\d) map 25 %, ", stream.getvalue(), re.MULTILINE)
    seconds = [60 * int(minute) + int(second) for minute, second in times]
    assert seconds == [5, 10, 15, 25, 35, 55, 85, 115, 145, 175]


def test_a_log_is_silent_until_something_is_listed(clock: Clock) -> None:
    stream = io.StringIO()
    log = TextLog(stream)
    clock.now += 10
    log.look(Look(0.0, "list", {"list": Progress()}))
    assert stream.getvalue() == ""
    log.look(Look(0.0, "list", {"list": Progress(tasks=1)}))
    assert stream.getvalue() == "daskmr: 0:10 list, 0 files\n"


def test_a_line_holds_speed_eta_and_bad_records(clock: Clock) -> None:
    stream = io.StringIO()
    log = TextLog(stream)
    log.look(look(0.0, progress={"map": Progress(1, 8, 1, 12, 500_000, 6_000_000)}, records=300))
    log.dashboard("http://x")
    clock.now += 6
    log.look(look(5.0, bad_records=5, spilled=2_000_000))
    clock.now += 20
    assert stream.getvalue() == (
        "daskmr: the dashboard is at http://x\n"
        "daskmr: 0:06 map 25 %, 3 of 12 files, 1.5 MB of 6.0 MB, 900 records, 120 records/s, "
        "200.0 kB/s, ETA 0:22, 5 bad records, 2.0 MB spilled\n"
    )


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (LINE, "[a/b.gz:7 job.py:5] text"),
        (Printed("", "map", "a/b.gz", 7, "", "job.py", 5), "[a/b.gz:7 job.py:5] "),
        (
            Printed("t", "reduce", key="'k'", script="job.py", script_line=9),
            "[reduce 'k' job.py:9] t",
        ),
        (Printed("t", "setup_reduce", script="job.py", script_line=9), "[setup_reduce job.py:9] t"),
        (Printed("t", script="job.py", script_line=2), "[job.py:2] t"),
        (Printed("t"), "t"),
        (Printed("a\u202eb\u2028c"), "a\\u202eb\\u2028c"),
        (Printed("\x1b[2J\udcff\té\x00"), "\\x1b[2J\\udcff\té\\x00"),
    ],
)
def test_a_printed_line_is_marked(line: Printed, shown: str) -> None:
    stream = io.StringIO()
    View(stream, quiet=True).printed(line)
    assert stream.getvalue() == f"{shown}\n"


def test_what_each_worker_prints_as_it_loads_the_script_is_shown_once() -> None:
    stream = io.StringIO()
    show = View(stream)
    for worker in "01":
        show.printed(Printed("loading", script="job.py", script_line=2, worker=worker))
    assert stream.getvalue().count("loading") == 1


def test_too_many_lines_are_counted(clock: Clock) -> None:
    stream = io.StringIO()
    show = View(stream)
    for _ in range(1000):
        show.printed(LINE)
    show.printed(Printed("", left_out=5000))
    show.end(None)
    show.end(None)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 201
    assert lines[-1].startswith("daskmr: skipped 5,800 more lines that the script printed")


def test_a_closed_stream_is_no_failure() -> None:
    tried: list[str] = []

    class Full(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise OSError("full")

    View(Full()).printed(LINE)
    assert tried


# --- JSON ---------------------------------------------------------------------------------------


def test_json_has_the_same_events(clock: Clock) -> None:
    stream = io.StringIO()
    log = JsonLog(stream)
    log.phase("map")
    log.look(look())
    clock.now += 5
    log.look(look(5.0, bad_reasons={"x": 1}))
    log.printed(LINE)
    log.dashboard("http://x")
    log.note("one\ntwo")
    events_read = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [each["event"] for each in events_read] == (
        ["phase", "progress", "print", "dashboard", "note", "note"]
    )
    assert all(each["time"] > 0 for each in events_read)
    assert events_read[1]["progress"]["map"]["bytes_total"] == 6_000_000
    assert events_read[1]["bad_reasons"] == {"x": 1}
    assert events_read[1]["records_per_second"] == 0
    line = {
        k: events_read[2][k] for k in ("text", "function", "file", "line", "script", "script_line")
    }
    assert line == {
        "text": "text",
        "function": "map",
        "file": "a/b.gz",
        "line": 7,
        "script": "job.py",
        "script_line": 5,
    }


def events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_command_for_a_program(place: Path) -> None:
    done = daskmr("run", "job.py", "-d", "data", "--log-format", "json", "-m", "1", cwd=place)
    assert (done.returncode, done.stdout) == (0, "a\t1\nc\t1\nd\t1\n")
    events_read = events(done)
    kinds = [each["event"] for each in events_read]
    assert kinds[0] == "note"  # what the script prints as it is loaded
    assert kinds[-1] == "summary"
    assert {"phase", "plan", "print"} < set(kinds)
    assert [each["phase"] for each in events_read if each["event"] == "phase"][-1] == "write"
    summary = events_read[-1]
    assert (summary["records"], summary["bad_records"], summary["files"]) == (4, 1, 2)
    assert summary["bad_reasons"] == {"ValueError": 1}
    assert {each["text"] for each in events_read if each["event"] == "print"} == {
        "loading",
        "seen a",
        "seen d",
    }


@pytest.mark.parametrize("options", [[], ["--verbose"], ["--quiet"]])
def test_a_failure_for_a_program(place: Path, options: list[str]) -> None:
    (place / "job.py").write_text("def map(key, dims, value, context): raise KeyError(key)")
    arguments = ["run", "job.py", "-d", "data", "--log-format", "json", "--inline", *options]
    done = daskmr(*arguments, cwd=place)
    assert done.returncode == 1
    error = events(done)[-1]
    assert (error["event"], error["exit_code"]) == ("error", 1)
    assert "map failed at" in error["message"]
    assert "raise KeyError(key)" in error["details"]
    assert len(events(done)) == 1 or "--quiet" not in options


# --- which one ----------------------------------------------------------------------------------


class Stream(io.StringIO):
    def __init__(self, terminal: bool = True) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize(
    ("options", "term", "chosen"),
    [
        ({}, "xterm", Terminal),
        ({}, "dumb", TextLog),
        ({}, None, TextLog),
        ({"inline": True}, "xterm", InlineTerminal),
        ({"inline": True}, "dumb", TextLog),
        ({"quiet": True}, "xterm", View),
        ({"as_json": True}, "xterm", JsonLog),
        ({"as_json": True, "quiet": True}, "xterm", JsonLog),
        ({"stream": Stream(terminal=False)}, "xterm", TextLog),
    ],
)
def test_what_is_chosen(
    options: Mapping[str, Any], term: str | None, chosen: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    given = {"quiet": False, "as_json": False, "inline": False, "output": None, **options}
    stream = given.pop("stream", Stream())
    assert type(choose(stream, **given)) is chosen


def test_an_inline_job_shows_its_listing_in_place_and_the_rest_in_lines(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen()
    stream = Stream()
    monkeypatch.setattr(stream, "write", screen.feed)
    show = InlineTerminal(stream)
    clock.now += 2
    show.look(Look(0.0, "list", {"list": Progress(tasks=3, files=7)}))
    first = show._ticker._first
    show.write("said")
    assert screen.lines == ["said", " list      7 files in 3 prefixes   0:02"]
    show.begin(RunOutline("job", ("list", "map"), 7, 70, 0, 0, 7, 0, 0, True))
    assert screen.lines == ["said"]
    clock.now += 5
    show.look(look())
    show._ticker._first = first
    show._ticker._tick()
    show._ticker._tick()
    assert screen.lines[2].startswith("daskmr: 0:07 map 25 %")
    show.write("more")
    assert screen.lines == ["said", "daskmr: running in this process", "more"]
    show.begin(RunOutline("job", ("map",), 0, 0, 0, 0, 1, 0, 0, True, step="step 2 of 2"))
    show.look(look())
    show._ticker._tick()
    assert screen.lines[-1].startswith("daskmr: 0:07 step 2 of 2: map 25 %")
    show.end(None)


def test_an_inline_job_that_writes_is_not_announced(clock: Clock) -> None:
    stream = Stream()
    show = InlineTerminal(stream)
    show.write("said")
    show._ticker._tick()
    assert stream.getvalue() == "said\n"


def test_quiet_shows_what_the_script_prints_and_nothing_else(place: Path) -> None:
    done = daskmr("run", "job.py", "-d", "data", "-q", "-m", "1", cwd=place)
    assert done.stdout == "a\t1\nc\t1\nd\t1\n"
    lines = done.stderr.splitlines()
    assert lines[:2] == ["loading", "[job.py:3] loading"]
    assert sorted(line.rpartition("] ")[2] for line in lines[2:]) == ["seen a", "seen d"]
    assert lines[2].startswith("[saved_session/Firefox/nightly/28.0a1/2013")


# --- terminals ----------------------------------------------------------------------------------


class Session:
    """A command at a terminal, of which standard output may be a pipe."""

    def __init__(
        self, place: Path, *arguments: str, piped: bool = True, columns: int = 80, **env: str
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "daskmr", "run", *arguments],
            cwd=place,
            env={**os.environ, "TERM": "xterm-256color", **env},
            stdin=slave,
            stdout=subprocess.PIPE if piped else slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._read = b""
        self._reader = threading.Thread(target=self._follow, daemon=True)
        self._reader.start()

    def _follow(self) -> None:
        while True:
            try:
                some = os.read(self._master, 1 << 16)
            except OSError:  # the other end is closed
                return
            self._read += some

    @property
    def text(self) -> str:
        return self._read.decode()

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + 60
        while text not in self.text:
            assert time.monotonic() < until, self.text
            assert self.process.poll() is None, self.text
            time.sleep(0.02)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> tuple[int, str, Screen]:
        """Wait for the end: the exit code, standard output, and what the terminal shows."""
        output = b"" if self.process.stdout is None else self.process.stdout.read()
        code = self.process.wait(60)
        self._reader.join(10)
        os.close(self._master)
        if self.process.stdout is not None:
            self.process.stdout.close()
        screen = Screen(200)
        screen.feed(self.text)
        return code, output.decode(), screen


def test_a_small_job_at_a_terminal_shows_its_summary_alone(place: Path) -> None:
    (place / "job.py").write_text("def map(key, dims, value, context): context.writeline(key)")
    code, output, screen = Session(place, "job.py", "-d", "data", "-m", "1", "--inline").end()
    assert (code, output) == (0, "a\nb\nc\nd\n")
    # On a slow machine, a line before it says that the job is running.
    lines = [line for line in screen.lines if line != "daskmr: running in this process"]
    assert lines[0].startswith("read     4 records in 2 files")


def test_a_job_at_a_terminal_is_shown_while_it_runs(place: Path) -> None:
    (place / "job.py").write_text(JOB.format(seconds=4))
    session = Session(place, "job.py", "-d", "data", "-m", "1")
    session.wait_for(" of 2 files")
    code, output, screen = session.end()
    assert (code, output) == (0, "a\t1\nc\t1\nd\t1\n")
    assert "\x1b[2m[job.py:3]\x1b[22m loading" in session.text
    assert screen.colors
    assert screen.lines[0] == "loading"
    assert screen.lines[1] == "[job.py:3] loading"
    assert sorted(line.rpartition("] ")[2] for line in screen.lines[2:4]) == ["seen a", "seen d"]
    assert screen.lines[4].startswith("read     4 records in 2 files")
    assert not any("━" in line or "─" in line for line in screen.lines)


@pytest.mark.slow
def test_without_colors(place: Path) -> None:
    (place / "job.py").write_text(JOB.format(seconds=4))
    session = Session(place, "job.py", "-d", "data", "-m", "1", NO_COLOR="1")
    session.wait_for(" of 2 files")
    code, _, screen = session.end()
    assert code == 0
    assert not screen.colors
    assert "[job.py:3] loading" in session.text


def test_a_dumb_terminal_gets_lines(place: Path) -> None:
    session = Session(place, "job.py", "-d", "data", "-m", "1", TERM="dumb")
    code, output, _ = session.end()
    assert (code, output) == (0, "a\t1\nc\t1\nd\t1\n")
    assert "\x1b" not in session.text


@pytest.mark.slow
def test_the_result_on_the_same_terminal_stands_by_itself(place: Path) -> None:
    (place / "job.py").write_text(JOB.format(seconds=4))
    session = Session(place, "job.py", "-d", "data", "-m", "1", piped=False)
    session.wait_for(" of 2 files")
    code, _, screen = session.end()
    assert code == 0
    first = screen.lines.index("a\t1")
    assert screen.lines[first : first + 3][1:] == ["c\t1", "d\t1"]
    assert screen.lines[first + 3].startswith("read ")


def test_an_interruption_leaves_the_terminal_as_it_was(place: Path) -> None:
    (place / "job.py").write_text(JOB.format(seconds=60))
    session = Session(place, "job.py", "-d", "data", "-m", "1")
    session.wait_for(" of 2 files")
    session.process.send_signal(signal.SIGINT)
    code, output, screen = session.end()
    assert (code, output) == (130, "")
    assert screen.lines[-1] == "daskmr: Interrupted; nothing was written."
    assert not any("━" in line or "─" in line for line in screen.lines)
    assert not screen.hidden


def test_a_debugger_works_as_ever_in_an_inline_job(place: Path) -> None:
    write_tree(place / "data", [["a\tbreak", "b\tprint"]])
    session = Session(place, "job.py", "-d", "data", "--inline", "-o", "out", piped=False)
    session.wait_for("(Pdb) ")
    session.type("p 'value', key\n")
    session.wait_for("('value', 'a')")
    session.type("print('from', key)\n")
    session.wait_for("\nfrom a")
    session.type("c\n")
    code, _, screen = session.end()
    assert code == 0
    assert not any(line.startswith("[") and "(Pdb)" in line for line in screen.lines)
    assert any(re.fullmatch(r"\[saved.*:2 job\.py:6\] seen b", line) for line in screen.lines)
    assert "from a" in screen.lines
