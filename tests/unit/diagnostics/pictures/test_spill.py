"""Lines end at what was spilled."""

from __future__ import annotations

import pytest
from support.charts import BYTE_UNITS
from support.histories import made_up

from daskmr.diagnostics.pictures import draw_charts


@pytest.mark.parametrize("looks", [True, False])
def test_spill_ends_at_what_was_spilled(looks: bool) -> None:
    history = made_up(looks=looks)
    chart = draw_charts(history)["spill"]
    assert chart is not None
    last = sum(ys[-1] for ys in chart.sources["lines"]["ys"]) * BYTE_UNITS[chart.unit]
    assert last == pytest.approx(sum(task.spilled for task in history.tasks))
