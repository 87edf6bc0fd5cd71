"""Progress grows to 100 %."""

from __future__ import annotations

import pytest
from support.histories import made_up

from daskmr.diagnostics.pictures import draw_charts


def test_progress_never_falls_and_ends_whole() -> None:
    for history in (made_up(), made_up(looks=False)):
        chart = draw_charts(history)["progress"]
        assert chart is not None
        for phase, xs, ys in zip(
            *(chart.sources["lines"][n] for n in ("phase", "xs", "ys")), strict=True
        ):
            assert xs == sorted(xs)
            assert ys == sorted(ys)
            assert ys[-1] == pytest.approx(100), phase
