"""Rates add up to what was fetched."""

from __future__ import annotations

import pytest
from support.charts import bytes_of
from support.histories import made_up

from daskmr.diagnostics.pictures import draw_charts


def test_what_was_fetched_adds_up() -> None:
    history = made_up()
    chart = draw_charts(history)["fetched"]
    assert chart is not None
    assert bytes_of(chart) == pytest.approx(history.looks[-1].fetched_bytes, rel=1e-3)
