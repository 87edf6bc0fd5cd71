"""Horizontal bars with their labels above them, largest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskmr.diagnostics.plotting.base import Chart, Columns, Settings
from daskmr.diagnostics.plotting.figures import (
    INK,
    SOFT,
    TEXT,
    add_hover,
    empty_source,
    new_figure,
)
from daskmr.text import printable, shorten

if TYPE_CHECKING:
    from bokeh.models import Range1d
    from bokeh.plotting import figure as Figure

__all__ = ["MAX_ROWS", "ranking_chart", "ranking_figure"]

MAX_ROWS = 12
_ROW_PIXELS = 36
_LABEL = 64  # characters


def ranking_chart(
    labels: list[str], amounts: list[float], texts: list[str], colour: str, note: str = ""
) -> Chart:
    """Chart `amounts`, each with a label above its bar and a text after it."""
    rows = range(len(labels))
    columns: Columns = {
        "label": [shorten(printable(label), _LABEL) for label in labels],
        "full": [printable(label) for label in labels],
        "label_y": [row - 0.22 for row in rows],
        "y": [row + 0.2 for row in rows],
        "right": amounts,
        "text": texts,
        "colour": [colour for _ in rows],
    }
    settings: Settings = {
        "x": {"start": 0.0, "end": 1.3 * max(amounts)},  # leaves room for the text after a bar
        "y": {"start": len(labels) - 0.4, "end": -0.6},
        "figure": {"height": _ROW_PIXELS * len(labels) + 12},
    }
    return Chart({"bars": columns}, settings, "", note)


def ranking_figure(time: Range1d) -> Figure:
    made = new_figure(200)
    made.update(min_border_left=8, min_border_bottom=4)
    made.xaxis.visible = made.yaxis.visible = False
    made.ygrid.grid_line_color = None
    source = empty_source("label full label_y y right text colour")
    bars = made.hbar(
        y="y",
        right="right",
        left=0,
        height=0.3,
        source=source,
        name="bars",
        fill_color="colour",
        fill_alpha=0.8,
        line_color=None,
    )
    words = {"source": source, "text_baseline": "middle", **TEXT}
    made.text(x=0, y="label_y", text="label", text_color=INK, **words)
    made.text(x="right", y="y", text="text", x_offset=6, text_color=SOFT, **words)
    add_hover(made, bars, ("", "@full"), ("", "@text"))
    return made
