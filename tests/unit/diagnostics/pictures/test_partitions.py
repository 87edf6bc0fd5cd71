"""Each partition has its bar, or one for several where there are many."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.histories import made_up

from daskmr.diagnostics.bottlenecks import stragglers
from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.plotting import STRAGGLER


def test_stragglers_are_marked_in_every_picture_of_tasks() -> None:
    history = made_up(straggler=17)
    assert [task.number for task in stragglers(history.tasks)] == [17]
    charts = draw_charts(history)
    for name in ("partition-bytes", "partition-seconds"):
        bars = charts[name].sources["bars"]  # type: ignore[union-attr]
        marked = [
            n for n, c in zip(bars["partition"], bars["colour"], strict=True) if c == STRAGGLER
        ]
        assert marked == [17]
    timeline = charts["timeline"].sources["tasks"]  # type: ignore[union-attr]
    assert timeline["colour"].count(STRAGGLER) == 1
    assert timeline["what"][timeline["colour"].index(STRAGGLER)] == "map: partition 17"


def test_the_partitions_of_a_step_are_right_of_those_before() -> None:
    first, second = made_up(5, 2, looks=False), made_up(3, 2, looks=False)
    later = (replace(task, step=2) for task in second.tasks)
    history = replace(first, tasks=(*first.tasks, *later), step=2)
    chart = draw_charts(history)["partition-bytes"]
    assert chart is not None
    bars = chart.sources["bars"]
    assert bars["partition"] == [*range(8)]
    assert bars["name"][4:6] == ["4 of step 1", "0 of step 2"]
    timeline = draw_charts(history)["timeline"]
    assert timeline is not None
    assert "map: partition 0 of step 2" in timeline.sources["tasks"]["what"]
    assert timeline.sources["phases"]["phase"].count("map") == 2


def test_of_many_partitions_the_longest_are_shown() -> None:
    history = made_up(4096, 8, looks=False, straggler=17)
    charts = draw_charts(history)
    chart = charts["partition-seconds"]
    assert chart is not None
    bars = chart.sources["bars"]
    assert len(bars["top"]) <= 240
    assert 17 in bars["partition"]
    longest = max(t.end - t.start for t in history.tasks if t.phase == "map")
    assert max(bars["top"]) == pytest.approx(longest)
    size = charts["partition-bytes"]
    assert size is not None
    assert max(size.sources["bars"]["top"]) == max(t.bytes for t in history.tasks) / 1e6
