"""Bytes fetched from the store per second."""

from __future__ import annotations

from functools import partial

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import COLOURS, Chart, Picture, RunView
from daskmr.diagnostics.plotting.curves import INSTANT, monotonic
from daskmr.text import format_bytes

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    points = monotonic((look.at, float(look.fetched_bytes)) for look in run.history.looks)
    if not points or points[-1][1] <= 0:
        return None
    points.insert(0, (min(run.history.started, points[0][0] - INSTANT), 0.0))
    return plots.rate_chart(run.time, points, "bytes", f"{format_bytes(points[-1][1])} in all")


PICTURES = (
    Picture(
        "fetched",
        "Fetched from the store",
        "Over time",
        12,
        _chart,
        partial(plots.rate_figure, colour=COLOURS["fetch"]),
    ),
)
