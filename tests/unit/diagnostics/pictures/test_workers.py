"""Lines of memory with the limit where it fits, and of what was spilled."""

from __future__ import annotations

import pytest
from support.charts import BYTE_UNITS
from support.histories import STARTED, made_up

from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.pictures.workers import lines_chart
from daskmr.diagnostics.plotting import TimeAxis
from daskmr.history import History, Look, WorkerLook


def test_memory_shows_the_limit_where_it_is_near() -> None:
    near = draw_charts(made_up())["memory"]
    assert near is not None
    assert near.sources["limit"]["text"] == ["limit 1.0 GB"]
    assert near.settings["y"]["end"] > near.sources["limit"]["y"][0]
    look = Look(STARTED, "map", workers=(WorkerLook("0", 10**8, 10**10),))
    far = draw_charts(History(STARTED, STARTED + 1, (), (look,)))["memory"]
    assert far is not None
    assert far.sources["limit"]["y"] == []
    assert "1% of the limit of 10.0 GB" in far.note
    assert far.sources["lines"]["xs"] == [[0.0, 1.0]]


@pytest.mark.parametrize("looks", [True, False])
def test_spill_ends_at_what_was_spilled(looks: bool) -> None:
    history = made_up(looks=looks)
    chart = draw_charts(history)["spill"]
    assert chart is not None
    last = sum(ys[-1] for ys in chart.sources["lines"]["ys"]) * BYTE_UNITS[chart.unit]
    assert last == pytest.approx(sum(task.spilled for task in history.tasks))


def test_many_workers_share_a_colour_and_have_no_legend() -> None:
    lines = {str(n): [(100.0, 1e6), (110.0, 2e6)] for n in range(7)}
    chart = lines_chart(lines, TimeAxis.of(History(100.0, 110.0)), "")
    assert len(set(chart.sources["lines"]["colour"])) == 1
    assert chart.settings["legend"] == {"visible": False}
