"""The lines at the bottom of a terminal: aligned, in place, and gone at the end."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from support.counts import with_counts
from support.terminal import Screen

from daskmr.diagnostics import terminal as module
from daskmr.diagnostics.pace import Pace
from daskmr.diagnostics.run_state import RunOutline
from daskmr.diagnostics.terminal import Display, Region, compose
from daskmr.history import Look, Progress, WorkerLook

PLAN = RunOutline(
    "job", ("list", "map", "merge", "reduce", "write"), 1234, 89_900_000, 0, 0, 32, 713, 22, False
)


def look(at: float = 10.0, share: float = 0.5, **changes: Any) -> Look:
    fields: dict[str, Any] = {
        "progress": {
            "list": Progress(1, 1, 1234, 1234, 89_900_000, 89_900_000),
            "map": Progress(
                int(32 * share), 32, int(1234 * share), 1234, int(89_900_000 * share), 89_900_000
            ),
            "merge": Progress(7, 713),
            "reduce": Progress(0, 22),
            "write": Progress(),
        },
        "records": int(100_000 * share),
        "workers": (
            WorkerLook("0", 1_500_000_000, 2_000_000_000, "running", "map", f"a/{'b' * 90}/c.gz"),
            WorkerLook("1", 100_000_000, 2_000_000_000, "paused"),
            WorkerLook("tcp://127.0.0.1:41234", 1_700_000_000, 2_000_000_000, "running", "reduce"),
        ),
    }
    return with_counts(Look, at, "map", **{**fields, **changes})


def composed(
    width: int = 79, height: int = 40, plan: RunOutline | None = PLAN, **changes: Any
) -> list[str]:
    pace = Pace()
    pace.add(look(0.0, 0.1))
    pace.add(look())
    unicode = changes.pop("unicode", True)
    address = changes.pop("address", "")
    rows = compose(look(**changes), plan, pace, 75.0, address, width, height, unicode)
    return [row.plain for row in rows]


# --- composing ----------------------------------------------------------------------------------


def test_a_page_of_80_columns() -> None:
    assert [line.rstrip() for line in composed()] == [
        " list      ━━━━━━━━━━━━━━━━━━━━━━ 100 %  1,234 files, 89.9 MB",
        " map       ━━━━━━━━━━━───────────  50 %    617 of 1,234 files, 45.0 of 89.9 MB",
        " merge     ──────────────────────   1 %    7 of 713 merges",
        " reduce    ──────────────────────         0 of 22 buckets",
        " write     ──────────────────────",
        " time      1:15    map ETA 0:12           4,000 records/s    3.6 MB/s",
        " bad       none so far",
        " worker 0  ━━━━━━━╸──   1.5 GB  map    a/bbbbbbbbbbbbbbbbbbbbbbbb…bbbbbbbb/c.gz",
        " worker 1  ╸───────── 100.0 MB  paused",
        " ….1:41234 ━━━━━━━━╸─   1.7 GB  reduce",
    ]


def test_a_page_of_120_columns_has_room_for_more() -> None:
    lines = composed(119, address="http://127.0.0.1:8787/status")
    assert lines[1].startswith(" map       ━━━━━━━━━━━━────────────  50 %    617 of")
    assert lines[5].endswith("4,000 records/s    3.6 MB/s         50,000 records")
    assert "   1.5 GB of 2.0 GB     map    a/bbb" in lines[7]
    assert lines[-1] == " dashboard http://127.0.0.1:8787/status"


@pytest.mark.parametrize("width", [20, 40, 59, 60, 79, 99, 100, 119])
def test_no_line_of_a_worker_is_too_wide(width: int) -> None:
    assert all(len(line) <= max(width, 41) for line in composed(width)[7:])


def test_columns_stay_where_they_are() -> None:
    for share in (0.0001, 0.01, 0.3, 0.999, 1.0):
        line = composed(share=share)[1]
        assert line.index(" of 1,234 files") == 46
        assert line.index(" of 89.9 MB") == 67


def test_what_there_is_not_takes_no_line() -> None:
    assert not any(line.startswith(" data") for line in composed())
    lines = composed(spilled=2_000_000, fetched_bytes=3_000)
    assert " data      3.0 kB fetched   2.0 MB spilled" in lines
    assert " data      2.0 MB spilled" in composed(spilled=2_000_000)


def test_bad_records_are_shown_by_reason() -> None:
    lines = composed(bad_records=1250, bad_reasons={"ValueError": 1000, "no tab": 250})
    assert lines[6] == " bad       1,250 records (2.5 %): 1,000 x ValueError, 250 x no tab"


def test_many_workers_and_few_lines() -> None:
    workers = tuple(
        WorkerLook(str(n), 10, 100, "paused" if n == 30 else "running", "map" if n % 2 else "")
        for n in range(40)
    )
    lines = composed(workers=workers)
    assert len(lines) == 7 + 8
    assert lines[-1].strip() == "and 33 more workers: 17 at work, 1 not running"
    lines = composed(height=10, workers=workers, address="http://x")
    assert len(lines) == 10
    assert lines[-2].strip() == "and 39 more workers: 20 at work, 1 not running"
    assert len(composed(height=3, workers=workers)) == 3


def test_while_the_input_is_listed() -> None:
    assert composed(plan=None, progress={"list": Progress(tasks=56, files=1234)}) == [
        " list      1,234 files in 56 prefixes   1:15"
    ]


def test_before_the_input_is_listed() -> None:
    assert composed(plan=None, progress={"list": Progress()}) == [" start     1:15"]


def test_phases_that_have_parts_or_keys() -> None:
    progress = {**look().progress, "write": Progress(3, 4)}
    assert composed(progress=progress)[4].endswith("  75 %  3 of 4 keys")
    plan = RunOutline("job", ("list", "map", "write"), 1234, 89_900_000, 0, 0, 32, 0, 0, False)
    assert composed(plan=plan, progress=progress)[2].endswith("  75 %  3 of 4 parts")


def test_without_unicode() -> None:
    lines = composed(unicode=False)
    assert all(line.isascii() for line in lines)
    assert "###########........... " in lines[1]


def test_names_that_are_no_text_are_shown() -> None:
    worker = WorkerLook(
        "0",
        1,
        0,
        "running",
        "map",
        "a\udcff\n/宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽宽",
    )
    (line,) = composed(workers=(worker,))[7:]
    line.encode()
    bad = {"E\x1b]0;": 3}
    *_, last = composed(workers=(replace(worker, file="a\n\x1b[31m.gz"),), bad_reasons=bad)
    assert last.endswith(r"a\n\x1b[31m.gz")
    assert all(line.isprintable() for line in composed(bad_records=3, bad_reasons=bad))


# --- drawing ------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal whose size can be set."""

    encoding = "utf-8"  # type: ignore[assignment]

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        super().__init__()
        self.size = columns, lines
        self.screen = Screen(columns)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.screen.feed(text)
        return len(text)

    def resize(self, columns: int) -> None:
        self.size = columns, self.size[1]
        self.screen.resize(columns)


def test_a_region_is_drawn_over() -> None:
    terminal = Terminal()
    region = Region(terminal, lambda: terminal.size)
    terminal.write("before\n")
    region.draw([("one", 3), ("two", 3), ("three", 5)])
    region.draw([("1", 1), ("2", 1)], above="said\n")
    assert terminal.screen.lines == ["before", "said", "1", "2"]
    region.draw([])
    terminal.write("after\n")
    assert terminal.screen.lines == ["before", "said", "after"]


@pytest.mark.parametrize("columns", [20, 30, 39, 40, 79, 120])
def test_a_region_survives_another_width(columns: int) -> None:
    terminal = Terminal(80)
    region = Region(terminal, lambda: terminal.size)
    terminal.write("before\n")
    region.draw([("x" * 79, 79), ("y" * 10, 10), ("", 0), ("z" * 40, 40)])
    terminal.resize(columns)
    region.draw([("one", 3)])
    assert terminal.screen.lines == ["before", "one"]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    terminal = Terminal(100)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(Display, "_size", lambda _: terminal.size)
    return terminal


def test_a_small_job_is_not_shown(terminal: Terminal) -> None:
    shown = Display(terminal)
    shown.begin(PLAN)
    shown.look(look())
    shown.write("said\n")
    shown.end()
    assert terminal.screen.lines == ["said"]


def test_a_run_is_shown_and_then_gone(terminal: Terminal) -> None:
    shown = Display(terminal, after=0)
    shown.look(Look(0.0, "list", {"list": Progress(files=7)}))
    assert terminal.screen.lines == [" list      7 files   0:00"]
    shown.begin(PLAN)
    shown.dashboard("http://x")
    shown.look(look())
    shown.write("said\n")
    assert terminal.screen.lines[0] == "said"
    assert terminal.screen.lines[1].startswith(" list")
    assert terminal.screen.lines[-1] == " dashboard http://x"
    assert (len(terminal.screen.lines), terminal.screen.colors) == (12, True)
    terminal.resize(60)
    shown.look(look())
    assert all(len(line) < 60 for line in terminal.screen.lines)
    assert len(terminal.screen.lines) == 12
    shown.end()
    shown.look(look())
    shown.write("after\n")
    assert terminal.screen.lines == ["said", "after"]
    assert not terminal.screen.hidden


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_start_is_shown_until_there_is_a_look(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.001)
    monkeypatch.delitem(sys.modules, "pdb", raising=False)
    shown = Display(terminal, after=0)
    shown.start()
    wait_for(lambda: terminal.screen.lines == [" start     0:00"])
    shown.write("said\n")
    assert terminal.screen.lines == ["said", " start     0:00"]
    shown.look(Look(0.0, "list", {"list": Progress(files=7)}))
    assert terminal.screen.lines == ["said", " list      7 files   0:00"]
    shown.end()
    assert terminal.screen.lines == ["said"]


def test_a_start_makes_room_for_a_debugger(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.001)
    monkeypatch.setattr(module, "_are_one", lambda stream, _: stream is terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delitem(sys.modules, "pdb", raising=False)
    shown = Display(terminal)
    shown.start()
    wait_for(lambda: sys.stderr is not terminal)
    prompted = sys.stderr
    print("(Pdb) ", end="", file=prompted)
    monkeypatch.setitem(sys.modules, "pdb", module)
    wait_for(lambda: sys.stderr is terminal)
    print("continue", file=prompted)
    wait_for(lambda: "continue" in "".join(terminal.screen.lines))
    assert "".join(terminal.screen.lines) in ("(Pdb) continue", "(Pdb)continue")
    shown.end()


def test_no_color_where_it_is_turned_off(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    shown = Display(terminal, after=0)
    shown.begin(PLAN)
    shown.look(look())
    assert len(terminal.screen.lines) == 10
    assert not terminal.screen.colors
    shown.end()


def test_what_this_process_writes_goes_above(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_are_one", lambda stream, _: stream is terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    before = sys.stdout
    shown = Display(terminal, after=0)
    shown.begin(PLAN)
    shown.look(look())
    print("half", end="", file=sys.stderr)
    assert len(terminal.screen.lines) == 10
    print(" and half", file=sys.stderr)
    assert terminal.screen.lines[0] == "half and half"
    assert sys.stdout is before
    kept = sys.stderr
    print("rest", end="", file=sys.stderr)
    shown.end()
    assert sys.stderr is terminal
    print("late", file=kept)
    assert terminal.screen.lines == ["half and half", "rest", "late"]
