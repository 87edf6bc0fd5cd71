"""Speed and time left, from looks."""

from __future__ import annotations

import pytest

from daskmr.counts import Counts
from daskmr.diagnostics.pace import Pace
from daskmr.history import Look, Progress


def mapping(at: float, done: int, total: int = 1000, records: int = 0) -> Look:
    return Look(
        at, "map", {"map": Progress(bytes=done, bytes_total=total)}, Counts(records=records)
    )


def test_nothing_is_known_at_first() -> None:
    pace = Pace()
    assert (pace.records, pace.bytes, pace.left) == (None, None, None)
    pace.add(mapping(0, 100))
    assert (pace.records, pace.bytes, pace.left) == (None, None, None)


def test_the_speed_is_that_of_the_last_seconds() -> None:
    pace = Pace()
    for second in range(60):
        pace.add(mapping(second, 1 + second * (1 if second < 40 else 10), 10_000, second * 7))
    assert pace.bytes == pytest.approx(10)
    assert pace.records == pytest.approx(7)


def test_time_before_the_first_result_does_not_count() -> None:
    pace = Pace()
    for second in range(30):
        pace.add(mapping(second, 0))
    for second in range(30, 35):
        pace.add(mapping(second, (second - 29) * 100))
    assert pace.bytes == pytest.approx(100)
    assert pace.left == pytest.approx(5)


def test_nothing_is_said_of_the_end_too_early() -> None:
    pace = Pace()
    pace.add(mapping(0, 1))
    pace.add(mapping(1, 500))
    assert pace.left is None
    pace = Pace()
    pace.add(mapping(0, 1, 10**6))
    pace.add(mapping(10, 2, 10**6))
    assert pace.left is None


def test_a_phase_that_stands_still_has_no_end() -> None:
    pace = Pace()
    for second in range(10):
        pace.add(mapping(second, 500))
    assert (pace.bytes, pace.left) == (0, None)


def test_another_phase_starts_over_and_may_count_tasks() -> None:
    pace = Pace()
    for second in range(10):
        pace.add(mapping(second, second * 100))
    for second in range(10, 15):
        progress = {"reduce": Progress(tasks=second - 9, tasks_total=10)}
        pace.add(Look(second, "reduce", progress))
    assert pace.left == pytest.approx(5)


def test_the_same_phase_of_the_next_step_begins_anew() -> None:
    pace = Pace()
    for at, records in enumerate((10, 5000, 9000, 30, 60)):
        done = Progress(tasks=at, tasks_total=9)
        pace.add(Look(100.0 + at, "map", {"map": done}, Counts(records=records)))
    assert pace.records == 30.0
