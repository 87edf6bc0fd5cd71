"""The standard streams, and what stands for them."""

from __future__ import annotations

import io
import sys

import pytest
from support.terminal import Screen

from daskmr import stdio
from daskmr.stdio import LineStream, Ticker, divert


def test_a_proxythat_stands_for_another_is_like_it() -> None:
    stream = io.StringIO()
    proxy = LineStream(stream, lambda text: None)
    proxy.flush()
    assert proxy.getvalue() == ""
    assert not proxy.isatty()


def test_whole_lines_are_diverted_and_the_rest_when_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    lines: list[str] = []
    restore = divert(["stderr"], lines.append)
    kept = sys.stderr
    print("one\ntwo\nha", end="", file=sys.stderr)
    assert lines == ["one\ntwo\n"]
    restore()
    assert lines == ["one\ntwo\n", "ha\n"]
    assert sys.stderr is stream
    print("late", file=kept)
    assert stream.getvalue() == "late\n"


def test_a_stream_that_was_replaced_meanwhile_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    restore = divert(["stdout"], lambda text: None)
    own = sys.stdout = io.StringIO()
    restore()
    assert sys.stdout is own


def test_a_ticker_shows_the_time_below_what_is_written() -> None:
    screen, said = Screen(), ["", "x" * 200, None]
    ticker = Ticker(screen.feed, "reading", lambda: said[0])
    ticker._tick()
    ticker._tick()
    assert screen.lines == ["reading", "daskmr: 0:00"]
    said.pop(0)
    ticker._tick()
    assert screen.lines[1] == f"daskmr: 0:00 {'x' * 66}"
    with ticker.cleared():
        screen.feed("output\n")
    assert screen.lines == ["reading", "output"]
    said.pop(0)  # something else is shown
    ticker._tick()
    ticker.stop()
    assert screen.lines == ["reading", "output"]


def test_a_ticker_does_not_write_over_the_prompt_of_a_debugger(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stdio, "_TICK", 0.0)
    monkeypatch.setitem(sys.modules, "pdb", sys)
    written: list[str] = []
    Ticker(written.append, "reading", lambda: "")._run()
    assert written == []
