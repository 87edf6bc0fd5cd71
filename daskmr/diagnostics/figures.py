"""The pictures of a run, as Bokeh figures. Bokeh is imported when the first is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from daskmr.diagnostics.charts import COLOURS, Chart, Columns

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

__all__ = ["GROUPS", "Picture", "draw", "parts_of"]

_INK = "#333333"
_SOFT = "#767676"
_FAINT = "#e6e6e6"
_FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
_LEFT = 118  # pixels, the same for all, so that what happens at one time stands in one line
_RIGHT = 16
_FLAT = 128  # pixels of height
_LIMIT = "#d55e00"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with what stands above it.

    Attributes
    ----------
    name : str
        That of its chart.
    title : str
    hint : str
        How to read it, in a line; or ``""``.
    figure : bokeh.plotting.figure
    """

    name: str
    title: str
    hint: str
    figure: Figure


GROUPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Over time": (
        "wide",
        ("throughput", "records", "fetched", "progress", "timeline", "memory", "spill"),
    ),
    "By partition": ("halves", ("partition-bytes", "partition-seconds")),
    "Hottest keys": ("halves", ("key-values", "key-bytes")),
    "Bad records": ("wide", ("bad-records",)),
}
"""Which pictures stand together, and how."""


def draw(charts: dict[str, Chart | None]) -> dict[str, Picture]:
    """Make every picture, with what its chart holds; one without a chart stays empty."""
    from bokeh.models import Range1d

    time = Range1d(0.0, 1.0)
    makers: dict[str, tuple[str, str, Callable[[], Figure]]] = {
        "throughput": ("Bytes mapped, as stored", "", lambda: _bars(time, COLOURS["map"])),
        "records": ("Records mapped", "", lambda: _bars(time, COLOURS["map"])),
        "fetched": ("Fetched from the store", "", lambda: _bars(time, COLOURS["fetch"])),
        "progress": ("Progress", "", lambda: _progress(time)),
        "timeline": (
            "Tasks by worker",
            "A bar is a task; one in vermilion took more than three times the median of its phase.",
            lambda: _timeline(time),
        ),
        "partition-bytes": (
            "Size of each partition",
            "As stored. Dashed: the median.",
            lambda: _partitions(waited=False),
        ),
        "partition-seconds": (
            "Time of each partition",
            "Vermilion: stragglers. Pink: waiting for files. Dashed: the median.",
            lambda: _partitions(waited=True),
        ),
        "key-values": ("By values", "", _ranked),
        "key-bytes": ("By bytes", "", _ranked),
        "bad-records": ("By reason", "", _ranked),
        "memory": ("Memory of each worker", "", lambda: _by_worker(time)),
        "spill": ("Spilled by each worker, so far", "", lambda: _by_worker(time)),
    }
    pictures = {
        name: Picture(name, title, hint, make()) for name, (title, hint, make) in makers.items()
    }
    for name, picture in pictures.items():
        picture.figure.name = name
    for name, picture in pictures.items():
        chart = charts.get(name)
        if chart is not None:
            _fill(picture.figure, chart)
    return pictures


def parts_of(figure: Figure) -> dict[str, Any]:
    """Find what the settings of a chart are about, by their names there."""
    parts = {
        "figure": figure,
        "x": figure.x_range,
        "y": figure.y_range,
        "x-format": figure.below[0].formatter,
        "y-axis": figure.left[0],
        "y-ticks": figure.left[0].ticker,
    }
    return parts | dict(zip(["legend"], figure.legend, strict=False))


def _fill(figure: Figure, chart: Chart) -> None:
    for name, columns in chart.sources.items():
        source = next(r.data_source for r in figure.renderers if r.name == name)
        source.data = columns
    parts = parts_of(figure)
    for part, properties in chart.settings.items():
        if part in parts:
            parts[part].update(**properties)


# --- what they are made of ----------------------------------------------------------------------


def _figure(height: int, x_range: Any = None, *, tools: str = "", **options: Any) -> Figure:
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
        **options,
    )
    made.toolbar.logo = None
    made.toolbar_inner = True
    made.toolbar.autohide = True
    made.xgrid.grid_line_color = None
    made.ygrid.grid_line_color = _FAINT
    for axis in (made.xaxis[0], made.yaxis[0]):
        axis.axis_line_color = None
        axis.major_tick_line_color = None
        axis.minor_tick_line_color = None
        axis.major_label_text_color = _SOFT
        axis.major_label_text_font = _FONT
        axis.major_label_text_font_size = "12px"
    made.xaxis[0].axis_line_color = "#b0b0b0"
    made.yaxis[0].ticker.desired_num_ticks = 3
    made.yaxis[0].formatter.use_scientific = False  # a few milliseconds are 0.003 s
    return made


def _time_figure(height: int, time: Any) -> Figure:
    """Make a figure over time: drag to look closer, and all of them do."""
    from bokeh.models import PrintfTickFormatter

    made = _figure(height, time, tools="xbox_zoom,xpan,reset")
    made.xaxis[0].formatter = PrintfTickFormatter(format="%.5g s")
    made.xaxis[0].ticker.desired_num_ticks = 10
    return made


def _source(*names: str) -> Any:
    from bokeh.models import ColumnDataSource

    empty: Columns = {name: [] for name in names}
    return ColumnDataSource(empty)


def _hover(made: Figure, renderers: list[Any], *rows: tuple[str, str], **options: Any) -> None:
    from bokeh.models import HoverTool

    # Values of columns are escaped by Bokeh, unless they are marked {safe}.
    tool = HoverTool(renderers=renderers, tooltips=list(rows), visible=False, **options)
    made.add_tools(tool)


def _legend(made: Figure) -> None:
    legend = made.legend[0]
    legend.orientation = "horizontal"
    legend.border_line_color = None
    legend.background_fill_color = None
    legend.label_text_font = _FONT
    legend.label_text_font_size = "12px"
    legend.label_text_color = _INK
    legend.label_height = legend.glyph_height = 12
    legend.glyph_width = 18
    legend.spacing = 14
    legend.padding = 0
    legend.margin = 2
    made.add_layout(legend, "above")


# --- each picture -------------------------------------------------------------------------------


def _bars(time: Any, colour: str) -> Figure:
    made = _time_figure(_FLAT, time)
    source = _source("left", "right", "top", "text")
    bars = made.quad(
        left="left",
        right="right",
        bottom=0,
        top="top",
        source=source,
        name="bars",
        fill_color=colour,
        fill_alpha=0.55,
        line_color=None,
    )
    _hover(made, [bars], ("rate", "@text"), mode="vline")
    return made


def _progress(time: Any) -> Figure:
    made = _time_figure(_FLAT + 30, time)
    source = _source("xs", "ys", "phase", "colour", "text")
    lines = made.multi_line(
        xs="xs",
        ys="ys",
        source=source,
        name="lines",
        line_color="colour",
        line_width=2.5,
        line_join="round",
        legend_field="phase",
    )
    made.y_range.update(start=0, end=104)
    _legend(made)
    _hover(made, [lines], ("phase", "@phase"), ("done", "@text"), line_policy="nearest")
    return made


def _timeline(time: Any) -> Figure:
    from bokeh.models import FixedTicker

    made = _time_figure(200, time)
    made.ygrid.grid_line_color = None
    made.yaxis[0].ticker = FixedTicker(ticks=[])
    tasks = made.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        source=_source(
            *("left", "right", "bottom", "top", "colour", "alpha"),
            *("what", "worker", "seconds", "details"),
        ),
        name="tasks",
        fill_color="colour",
        fill_alpha="alpha",
        line_color="colour",
        line_width=0.5,
        line_alpha="alpha",
    )
    phases = _source(
        *("left", "right", "bottom", "top", "middle", "colour", "phase", "text", "label")
    )
    strip = made.quad(
        left="left",
        right="right",
        bottom="bottom",
        top="top",
        source=phases,
        name="phases",
        fill_color="colour",
        fill_alpha=0.25,
        line_color=None,
    )
    made.text(
        x="left",
        y="middle",
        text="label",
        source=phases,
        x_offset=6,
        text_baseline="middle",
        text_font={"value": _FONT},
        text_font_size="12px",
        text_color=_INK,
    )
    rows = (
        ("task", "@what"),
        ("worker", "@worker"),
        ("took", "@seconds"),
        ("with", "@details"),
    )
    _hover(made, [tasks], *rows)
    _hover(made, [strip], ("phase", "@text"))
    return made


def _partitions(waited: bool) -> Figure:
    from bokeh.models import BasicTicker

    made = _figure(170, tools="xbox_zoom,xpan,reset")
    made.xaxis[0].ticker = BasicTicker(min_interval=1, desired_num_ticks=8)
    names = (
        "partition",
        "width",
        "top",
        "waited",
        "colour",
        "bytes",
        "seconds",
        "records",
        "waiting",
    )
    source = _source(*names)
    bars = made.vbar(
        x="partition",
        top="top",
        width="width",
        source=source,
        name="bars",
        fill_color="colour",
        fill_alpha=0.8,
        line_color=None,
    )
    if waited:
        made.vbar(
            x="partition",
            top="waited",
            width="width",
            source=source,
            fill_color=COLOURS["fetch"],
            line_color=None,
        )
    made.hspan(
        y="y",
        source=_source("y"),
        name="median",
        line_color=_INK,
        line_dash=[4, 4],
        line_width=1,
    )
    rows = (
        ("partition", "@partition"),
        ("size", "@bytes"),
        ("records", "@records"),
        ("took", "@seconds"),
        ("waited", "@waiting"),
    )
    _hover(made, [bars], *rows, mode="vline")
    return made


def _ranked() -> Figure:
    made = _figure(200, tools="")
    made.update(min_border_left=8, min_border_bottom=4)
    made.xaxis.visible = made.yaxis.visible = False
    made.ygrid.grid_line_color = None
    source = _source("label", "full", "label_y", "y", "right", "text", "colour")
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
    words = {"text_baseline": "middle", "text_font_size": "12px", "source": source}
    made.text(x=0, y="label_y", text="label", text_color=_INK, text_font={"value": _FONT}, **words)
    made.text(
        x="right",
        y="y",
        text="text",
        x_offset=6,
        text_color=_SOFT,
        text_font={"value": _FONT},
        **words,
    )
    _hover(made, [bars], ("", "@full"), ("", "@text"))
    return made


def _by_worker(time: Any) -> Figure:
    made = _time_figure(_FLAT + 30, time)
    lines = made.multi_line(
        xs="xs",
        ys="ys",
        source=_source("xs", "ys", "worker", "colour", "alpha", "most"),
        name="lines",
        line_color="colour",
        line_alpha="alpha",
        line_width=1.8,
        line_join="round",
        legend_field="worker",
    )
    limit = _source("x0", "x1", "y", "text")
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
        text_font={"value": _FONT},
        text_font_size="12px",
    )
    _legend(made)
    _hover(made, [lines], ("worker", "@worker"), ("at most", "@most"), line_policy="nearest")
    return made
