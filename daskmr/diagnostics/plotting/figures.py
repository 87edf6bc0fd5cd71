"""Bokeh figures in the style of ``templates/theme.yaml``, and how a chart fills one.

Bokeh is imported when the first figure is made.
"""

from __future__ import annotations

import re
from typing import Any

from daskmr.diagnostics.plotting.base import Chart, Columns, Figure, Range, Settings
from daskmr.text import printable, shorten

HEIGHT, TALL = 128, 158  # pixels
INK = "#333333"
_HEADROOM = 1.08  # above the highest value
_WORKER_LABEL = 14  # characters


def new_figure(height: int, x_range: Range | None = None, tools: str = "") -> Figure:
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    made = figure(
        height=height,
        x_range=x_range or Range1d(0.0, 1.0),
        y_range=Range1d(0.0, 1.0),
        tools=tools,
        toolbar_location="right" if tools else None,
    )
    made.xgrid.grid_line_color = None
    made.xaxis.axis_line_color = "#b0b0b0"
    made.yaxis[0].ticker.desired_num_ticks = 3
    return made


def time_figure(height: int, time: Range) -> Figure:
    """Return a figure over time; zooming one of them zooms all."""
    from bokeh.models import PrintfTickFormatter

    made = new_figure(height, time, "xbox_zoom,xpan,reset")
    made.xaxis[0].formatter = PrintfTickFormatter(format="%.5g s")
    made.xaxis[0].ticker.desired_num_ticks = 10
    return made


def empty_source(names: str) -> Any:
    """Return a data source with empty columns, given their names with spaces between."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: [] for name in names.split()})


def add_hover(made: Figure, renderer: Any, *rows: tuple[str, str], **options: Any) -> None:
    from bokeh.models import HoverTool

    # Bokeh escapes values of columns, unless they are marked {safe}.
    made.add_tools(HoverTool(renderers=[renderer], tooltips=list(rows), **options))


def add_lines(made: Figure, names: str, label: str, hover: tuple[str, str], **style: Any) -> None:
    """Add lines with a legend above the figure; `names` and `label` are of columns."""
    fields = {"xs": "xs", "ys": "ys", "line_color": "colour", "legend_field": label}
    source = empty_source(f"xs ys colour {label} {names}")
    lines = made.multi_line(source=source, name="lines", line_join="round", **fields, **style)
    made.add_layout(made.legend[0], "above")
    add_hover(made, lines, (label, f"@{label}"), hover, line_policy="nearest")


def value_range(highest: float) -> Settings:
    """Return the settings of a value axis that begins at zero."""
    return {"y": {"start": 0.0, "end": highest * _HEADROOM if highest > 0 else 1.0}}


def columns_of(names: str, rows: list[tuple[Any, ...]]) -> Columns:
    """Turn rows into columns.

    >>> columns_of("a b", [(1, 2), (3, 4)])
    {'a': [1, 3], 'b': [2, 4]}
    """
    return {name: [row[n] for row in rows] for n, name in enumerate(names.split())}


def fill(made: Figure, chart: Chart) -> None:
    """Show a chart in a figure; `templates/live.js` does the same in a browser."""
    for name, columns in chart.sources.items():
        source = next(r.data_source for r in made.renderers if r.name == name)
        source.data = columns
    parts = {
        "figure": made,
        "x": made.x_range,
        "y": made.y_range,
        "x-format": made.below[0].formatter,
        "y-axis": made.left[0],
        "y-ticks": made.left[0].ticker,
    }
    parts |= dict(zip(["legend"], made.legend, strict=False))
    for part, properties in chart.settings.items():
        if part in parts:
            parts[part].update(**properties)


def worker_label(name: str, length: int = _WORKER_LABEL) -> str:
    label = f"worker {name}" if name.isdigit() else printable(name)
    # Bokeh would read these as a formula, and load MathJax from the network.
    return shorten(label, length).replace("$$", "$ $").replace("\\", "∖")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts worker-2 before worker-10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (0, p) for p in parts]
