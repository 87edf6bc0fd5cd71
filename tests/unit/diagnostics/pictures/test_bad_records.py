"""Every bad record is counted."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from daskmr.diagnostics.pictures import draw_charts
from daskmr.history import History


@given(st.dictionaries(st.text(max_size=30), st.integers(1, 10**9), max_size=40))
def test_no_bad_record_is_left_out(reasons: dict[str, int]) -> None:
    chart = draw_charts(History(0.0, 1.0), reasons)["bad-records"]
    if not reasons:
        assert chart is None
    else:
        assert chart is not None
        assert math.fsum(chart.sources["bars"]["right"]) == sum(reasons.values())
        assert len(chart.sources["bars"]["y"]) <= 12
