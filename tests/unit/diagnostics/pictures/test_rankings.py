"""Keys are ranked by each measure, and every bad record is counted."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from support.histories import NASTY

from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.pictures.rankings import ranking_chart, ranking_figure
from daskmr.diagnostics.plotting import fill
from daskmr.history import History, HotKey


@given(
    st.lists(
        st.builds(HotKey, st.text(max_size=100), st.integers(0, 10**12), st.integers(0, 10**12)),
        max_size=30,
    )
)
def test_keys_stand_hottest_first_by_each_measure(keys: list[HotKey]) -> None:
    charts = draw_charts(History(0.0, 1.0, hot_keys=tuple(keys)))
    for name, measure in (("key-values", "values"), ("key-bytes", "bytes")):
        expected = sorted((getattr(key, measure) for key in keys), reverse=True)[:12]
        chart = charts[name]
        if not expected or not expected[0]:
            assert chart is None
        else:
            assert chart is not None
            assert chart.sources["bars"]["right"] == expected


def test_a_nasty_key_keeps_its_text() -> None:
    chart = draw_charts(History(0.0, 1.0, hot_keys=(HotKey(NASTY, 1, 1),)))["key-values"]
    assert chart is not None
    assert "</script>" in chart.sources["bars"]["full"][0]  # it is escaped where it is written


@given(st.dictionaries(st.text(max_size=30), st.integers(1, 10**9), max_size=40))
def test_no_bad_record_is_left_out(reasons: dict[str, int]) -> None:
    chart = draw_charts(History(0.0, 1.0), reasons)["bad-records"]
    if not reasons:
        assert chart is None
    else:
        assert chart is not None
        assert math.fsum(chart.sources["bars"]["right"]) == sum(reasons.values())
        assert len(chart.sources["bars"]["y"]) <= 12


def test_a_figure_is_as_high_as_its_rows() -> None:
    figure = ranking_figure(None)
    fill(figure, ranking_chart([("a", 2.0, "2"), ("b", 1.0, "1")], "#000000"))
    assert figure.height == 84
    assert figure.x_range.end == 2.6
