"""Laps add up by phase, and the phases of tasks are those that workers timed."""

from __future__ import annotations

import pytest

from daskmr import clock
from daskmr.run.execution import Outcome
from daskmr.run.stopwatch import Stopwatch
from daskmr.tasks.tally import Span, Tally


def test_laps_of_one_phase_add_up_and_others_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 101.0, 103.0, 107.0, 115.0])
    monkeypatch.setattr(clock, "now", lambda: next(times))
    stopwatch = Stopwatch()
    stopwatch.lap("list")
    stopwatch.lap("start")
    stopwatch.lap()
    stopwatch.lap("list")
    assert (stopwatch.started, stopwatch.seconds) == (100.0, {"list": 9.0, "start": 2.0})


@pytest.mark.parametrize(
    ("mapping", "reducing", "seconds"),
    [
        (None, None, {}),
        (Span(1.0, 3.0), None, {"map": 2.0}),
        (Span(1.0, 3.0), Span(4.0, 9.0), {"map": 2.0, "merge": 1.0, "reduce": 5.0}),
        (Span(1.0, 3.0), Span(2.0, 9.0), {"map": 2.0, "merge": 0.0, "reduce": 7.0}),
    ],
)
def test_phases_of_tasks(mapping: Span, reducing: Span, seconds: dict[str, float]) -> None:
    stopwatch = Stopwatch()
    stopwatch.add_tasks(Outcome((), Tally(mapping=mapping), 0, reducing))
    assert stopwatch.seconds == seconds
