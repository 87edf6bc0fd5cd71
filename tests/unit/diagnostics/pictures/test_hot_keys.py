"""Keys are ranked by each measure."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.histories import NASTY

from daskmr.diagnostics.pictures import draw_charts
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
