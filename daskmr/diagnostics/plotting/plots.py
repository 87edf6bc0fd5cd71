"""The kinds of plot that pictures have: charts of each kind, and empty Bokeh figures in one style.

Bokeh is imported when the first figure is made.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from daskmr.diagnostics.plotting.base import Chart, Columns, Figure, Range, Settings, TimeAxis
from daskmr.diagnostics.plotting.curves import Points, increases, thinned
from daskmr.text import byte_unit, count_unit, format_bytes, printable, shorten

HEIGHT = 128  # pixels
TALL = 158
INK = "#333333"
_SOFT = "#767676"
_FAINT = "#e6e6e6"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_LEFT = 118  # pixels, the same for all figures, so that their time axes line up
_RIGHT = 16
_HEADROOM = 1.08  # above the highest value

TEXT = {"text_font": {"value": _FONT}, "text_font_size": "12px"}
"""Properties of text glyphs."""


def new_figure(height: int, x_range: Range | None = None, *, tools: str = "") -> Figure:
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    made = figure(
        height=height,
        sizing_mode="stretch_width",
        x_range=x_range or Range1d(0.0, 1.0),
        y_range=Range1d(0.0, 1.0),
        tools=tools,
        toolbar_location="right" if tools else None,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        min_border_top=4,
        min_border_bottom=24,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",
    )
    made.toolbar.logo = None
    made.toolbar_inner = True
    made.toolbar.autohide = True
    made.xgrid.grid_line_color = None
    made.ygrid.grid_line_color = _FAINT
    for axis in (made.xaxis[0], made.yaxis[0]):
        axis.update(
            axis_line_color=None,
            major_tick_line_color=None,
            minor_tick_line_color=None,
            major_label_text_color=_SOFT,
            major_label_text_font=_FONT,
            major_label_text_font_size="12px",
        )
    made.xaxis[0].axis_line_color = "#b0b0b0"
    made.yaxis[0].ticker.desired_num_ticks = 3
    made.yaxis[0].formatter.use_scientific = False  # a few milliseconds are 0.003 s
    return made


def time_figure(height: int, time: Range) -> Figure:
    """Return a figure over time; zooming one of them zooms all."""
    from bokeh.models import PrintfTickFormatter

    made = new_figure(height, time, tools="xbox_zoom,xpan,reset")
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
    made.add_tools(HoverTool(renderers=[renderer], tooltips=list(rows), visible=False, **options))


def add_legend(made: Figure) -> None:
    """Move the legend above the figure."""
    legend = made.legend[0]
    legend.update(
        orientation="horizontal",
        border_line_color=None,
        background_fill_color=None,
        label_text_font=_FONT,
        label_text_font_size="12px",
        label_text_color=INK,
        label_height=12,
        glyph_height=12,
        glyph_width=18,
        spacing=14,
        padding=0,
        margin=2,
    )
    made.add_layout(legend, "above")


def value_range(highest: float) -> Settings:
    """Return the settings of a value axis that begins at zero."""
    return {"y": {"start": 0.0, "end": highest * _HEADROOM if highest > 0 else 1.0}}


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


# --- bars of a rate over time ----------------------------------------------------------------


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


def rate_figure(time: Range, colour: str) -> Figure:
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


# --- horizontal bars, largest first ----------------------------------------------------------

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


def ranking_figure(time: Range) -> Figure:
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
    made.text(x="right", y="y", text="text", x_offset=6, text_color=_SOFT, **words)
    add_hover(made, bars, ("", "@full"), ("", "@text"))
    return made


# --- one line of bytes per worker over time --------------------------------------------------

_SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#4d4d4d")  # if there are so few
_LIMIT = "#d55e00"
_WORKER_LABEL = 14  # characters


def worker_label(name: str, length: int = _WORKER_LABEL) -> str:
    label = f"worker {name}" if name.isdigit() else printable(name)
    # Bokeh would read these as a formula, and load MathJax from the network.
    return shorten(label, length).replace("$$", "$ $").replace("\\", "∖")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts worker-2 before worker-10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (0, p) for p in parts]


def highest(lines: Mapping[str, Points]) -> float:
    return max((value for points in lines.values() for _, value in points), default=0.0)


def lines_chart(
    lines: Mapping[str, Points], time: TimeAxis, note: str, limits: Sequence[int] = ()
) -> Chart:
    """Chart bytes by worker, and limits as dashed lines."""
    top = max([highest(lines), *map(float, limits)])
    scale, unit = byte_unit(top)
    workers = sorted(lines, key=natural)
    end = time.seconds / time.scale
    curves = [thinned(_extended(lines[worker], time)) for worker in workers]
    few = len(workers) <= len(_SERIES)
    columns: Columns = {
        "xs": [[time(at) for at, _ in points] for points in curves],
        "ys": [[value / scale for _, value in points] for points in curves],
        "worker": [worker_label(worker, 2 * _WORKER_LABEL) for worker in workers],
        "colour": [_SERIES[n] if few else _SERIES[0] for n in range(len(workers))],
        "alpha": [0.9 if few else 0.45 for _ in workers],
        "most": [format_bytes(max(value for _, value in lines[worker])) for worker in workers],
    }
    limit_columns: Columns = {
        "x0": [0.0 for _ in limits],
        "x1": [end for _ in limits],
        "y": [limit / scale for limit in limits],
        "text": [f"limit {format_bytes(limit)}" for limit in limits],
    }
    settings = time.settings | value_range(top / scale) | {"legend": {"visible": few}}
    return Chart({"lines": columns, "limit": limit_columns}, settings, unit, note)


def _extended(points: Points, time: TimeAxis) -> Points:
    """Draw a single sample as a level line to the end."""
    return points if len(points) > 1 else [*points, (time.started + time.seconds, points[0][1])]


def lines_figure(time: Range) -> Figure:
    made = time_figure(TALL, time)
    lines = made.multi_line(
        xs="xs",
        ys="ys",
        source=empty_source("xs ys worker colour alpha most"),
        name="lines",
        line_color="colour",
        line_alpha="alpha",
        line_width=1.8,
        line_join="round",
        legend_field="worker",
    )
    limit = empty_source("x0 x1 y text")
    made.segment(
        x0="x0",
        x1="x1",
        y0="y",
        y1="y",
        source=limit,
        name="limit",
        line_color=_LIMIT,
        line_dash=[6, 4],
        line_width=1.5,
    )
    made.text(
        x="x1",
        y="y",
        text="text",
        source=limit,
        y_offset=4,
        text_align="right",
        text_baseline="top",
        text_color=_LIMIT,
        **TEXT,
    )
    add_legend(made)
    add_hover(made, lines, ("worker", "@worker"), ("at most", "@most"), line_policy="nearest")
    return made
