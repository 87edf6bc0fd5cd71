"""Bytes fetched from the store per second."""

from __future__ import annotations

from functools import partial

from daskmr.diagnostics.plotting.base import COLOURS, Chart, Picture, RunView
from daskmr.diagnostics.plotting.curves import INSTANT, monotonic
from daskmr.diagnostics.plotting.rates import rate_chart, rate_figure
from daskmr.text import format_bytes

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    points = monotonic((look.at, float(look.fetched_bytes)) for look in run.history.looks)
    if not points or points[-1][1] <= 0:
        return None
    points.insert(0, (min(run.history.started, points[0][0] - INSTANT), 0.0))
    return rate_chart(run.time, points, "bytes", f"{format_bytes(points[-1][1])} in all")


PICTURES = (
    Picture(
        name="fetched",
        title="Fetched from the store",
        section="Over time",
        position=12,
        chart=_chart,
        figure=partial(rate_figure, colour=COLOURS["fetch"]),
    ),
)
