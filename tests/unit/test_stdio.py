"""The standard streams, and what stands for them."""

from __future__ import annotations

import io
import sys

import pytest

from daskmr.stdio import LineStream, divert


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
