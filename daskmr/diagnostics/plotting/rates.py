"""Bars of a rate over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskmr.diagnostics.plotting.base import Chart, Columns, TimeAxis
from daskmr.diagnostics.plotting.curves import Points, increases
from daskmr.diagnostics.plotting.figures import (
    add_hover,
    empty_source,
    time_figure,
    value_range,
)
from daskmr.text import byte_unit, count_unit

if TYPE_CHECKING:
    from bokeh.models import Range1d
    from bokeh.plotting import figure as Figure

__all__ = ["HEIGHT", "rate_chart", "rate_figure"]

HEIGHT = 128  # pixels


def rate_chart(time: TimeAxis, points: Points, measure: str, note: str) -> Chart:
    """Chart how fast a running total of ``"bytes"`` or ``"records"`` grew."""
    edges = time.edges()
    rates = increases(points, edges)
    if measure == "bytes":
        scale, unit = byte_unit(max(rates))
    else:
        scale, unit = count_unit(max(rates))
        unit += measure
    at = [time(edge) for edge in edges]
    scaled = [rate / scale for rate in rates]
    columns: Columns = {
        "left": at[:-1],
        "right": at[1:],
        "top": scaled,
        "text": [f"{rate:,.4g} {unit}/s" for rate in scaled],
    }
    return Chart({"bars": columns}, time.settings | value_range(max(scaled)), f"{unit}/s", note)


def rate_figure(time: Range1d, colour: str) -> Figure:
    made = time_figure(HEIGHT, time)
    bars = made.quad(
        left="left",
        right="right",
        bottom=0,
        top="top",
        source=empty_source("left right top text"),
        name="bars",
        fill_color=colour,
        fill_alpha=0.55,
        line_color=None,
    )
    add_hover(made, bars, ("rate", "@text"), mode="vline")
    return made
