"""Each task is drawn where and when it ran."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.charts import history_of, spans
from support.histories import STARTED

from daskmr.counts import Counts
from daskmr.diagnostics.pictures import draw_charts
from daskmr.history import History, Look, TaskSpan, WorkerLook


@given(st.lists(spans, min_size=1, max_size=40))
@settings(max_examples=50)
def test_the_timeline_holds_each_task_where_it_ran(tasks: list[TaskSpan]) -> None:
    history = history_of(tasks)
    chart = draw_charts(history)["timeline"]
    assert chart is not None
    bars = chart.sources["tasks"]
    scale = (history.ended - STARTED) / chart.settings["x"]["end"]
    drawn = sorted(
        (worker, round(left * scale, 3), round(right * scale, 3))
        for worker, left, right in zip(bars["worker"], bars["left"], bars["right"], strict=True)
    )
    expected = sorted(
        (t.worker, round(t.start - STARTED, 3), round(t.end - STARTED, 3)) for t in tasks
    )
    for (worker, left, right), (name, start, end) in zip(drawn, expected, strict=True):
        assert worker == name
        assert (left, right) == pytest.approx((start, end), abs=2e-3)
    sides = zip(bars["left"], bars["right"], bars["bottom"], bars["top"], strict=True)
    assert not any(_overlap(a, b, scale) for a, b in combinations(sides, 2))


def _overlap(a: tuple[float, ...], b: tuple[float, ...], scale: float) -> bool:
    sideways = min(a[1], b[1]) - max(a[0], b[0]) > 2e-3 / scale
    return sideways and min(a[3], b[3]) - max(a[2], b[2]) > 1e-9


def test_workers_stand_in_the_order_that_people_use() -> None:
    tasks = [TaskSpan("map", n, f"worker-{n}", STARTED, STARTED + 1) for n in (10, 2, 1)]
    chart = draw_charts(history_of(tasks))["timeline"]
    assert chart is not None
    labels = chart.settings["y-axis"]["major_label_overrides"]
    assert [labels[n] for n in range(3)] == ["worker-1", "worker-2", "worker-10"]


def test_tasks_that_run_are_shown_by_what_was_seen() -> None:
    at_work = WorkerLook("a", 1, 0, "running", "map", "x.gz")
    looks = tuple(Look(STARTED + n / 2, "map", workers=(at_work,)) for n in range(2, 8))
    done = TaskSpan("map", 0, "a", STARTED + 0.5, STARTED + 2, Counts(1, 1, 1))
    history = History(STARTED, STARTED + 4, (done,), looks)
    running = draw_charts(history, ended=False)["timeline"]
    assert running is not None
    bars = running.sources["tasks"]
    assert bars["what"] == ["map: partition 0", "map"]
    assert bars["left"] == [0.5, 2.5]
    assert bars["right"] == [2.0, 4.0]
    ended = draw_charts(history)["timeline"]
    assert ended is not None
    assert ended.sources["tasks"]["what"] == ["map: partition 0"]
