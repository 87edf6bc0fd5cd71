"""Building blocks of `daskmr.diagnostics.pictures`: charts, curves, and Bokeh figures in one style.

A chart is plain data (columns and settings), so that the report can draw it once and the live page
can send it to browsers repeatedly. Bokeh is imported when the first figure is made.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

from daskmr.history import History, TaskSpan
from daskmr.text import printable, shorten, time_unit

Figure: TypeAlias = Any  # bokeh.plotting.figure
Range: TypeAlias = Any  # bokeh.models.Range1d
Columns = dict[str, list[Any]]
Settings = dict[str, dict[str, Any]]
Points = list[tuple[float, float]]

# The palette of Okabe and Ito, which people with colour blindness can distinguish.
COLOURS = {
    "list": "#8a8a8a",
    "fetch": "#cc79a7",
    "map": "#0072b2",
    "merge": "#009e73",
    "reduce": "#e69f00",
    "write": "#4d4d4d",
}
"""The colour of each phase."""
STRAGGLER = "#d55e00"

HEIGHT, TALL = 128, 158  # pixels
INK = "#333333"
INSTANT = 1e-3  # seconds, to keep points apart
_SHORT = {"seconds": "s", "minutes": "min", "hours": "h"}
_SHORTEST = 1e-3  # seconds of a time axis
_MAX_POINTS = 480
_HEADROOM = 1.08  # above the highest value
_WORKER_LABEL = 14  # characters


@dataclass(frozen=True, slots=True)
class Chart:
    """The current content of a picture.

    The parts of a figure that have settings are ``"figure"``, its ranges ``"x"`` and ``"y"``, the axis
    ``"y-axis"`` and its ticker ``"y-ticks"``, the formatter ``"x-format"``, and the ``"legend"``.
    """

    sources: Mapping[str, Columns]  # by name of the data source
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by part of the figure
    unit: str = ""  # of the value axis
    note: str = ""  # a one-line summary of the picture


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report and the live page.

    `chart` returns ``None`` if it would be empty. `figure` returns an empty Bokeh figure; its argument
    is the time range that all figures over time share.
    """

    name: str  # its identifier on the page
    title: str
    position: int  # sorts the pictures, and thereby their sections
    chart: Callable[[RunView], Chart | None]
    figure: Callable[[Range], Figure]
    section: str = "Over time"  # the heading of its section
    hint: str = ""  # how to read it
    half_width: bool = False  # place it beside the next picture of the section


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis that most pictures share."""

    started: float
    seconds: float
    scale: float
    unit: str

    @classmethod
    def of(cls, history: History) -> TimeAxis:
        seconds = max(history.ended - history.started, _SHORTEST)
        return cls(history.started, seconds, *time_unit(seconds))

    def __call__(self, at: float) -> float:
        return (at - self.started) / self.scale

    @property
    def settings(self) -> Settings:
        end, unit = self.seconds / self.scale, _SHORT[self.unit]
        return {"x": {"start": 0.0, "end": end}, "x-format": {"format": f"%.5g {unit}"}}


@dataclass(frozen=True, slots=True)
class RunView:
    """The data from which charts are made."""

    history: History
    bad_reasons: Mapping[str, int]  # bad records by reason
    ended: bool  # all tasks are in the history; if not, charts add what workers were last seen at
    time: TimeAxis


# --- curves: lists of (time, value) points -------------------------------------------------------


def monotonic(points: Iterable[tuple[float, float]]) -> Points:
    """Sort points by time, and replace each value by the highest so far.

    >>> monotonic([(2, 5.0), (1, 3.0), (3, 4.0)])
    [(1, 3.0), (2, 5.0), (3, 5.0)]
    """
    ordered = sorted(points)
    values = accumulate((value for _, value in ordered), max)
    return [(at, value) for (at, _), value in zip(ordered, values, strict=True)]


def spread(tasks: Iterable[TaskSpan], measure: Callable[[TaskSpan], float]) -> Points:
    """Return the running total of a measure of tasks, each spread evenly over its duration."""
    changes: dict[float, float] = defaultdict(float)
    for task in tasks:
        end = max(task.end, task.start + INSTANT)
        rate = measure(task) / (end - task.start)
        changes[task.start] += rate
        changes[end] -= rate
    points: Points = []
    total, rate, before = 0.0, 0.0, 0.0
    for at in sorted(changes):
        total += rate * (at - before) if points else 0.0
        points.append((at, total))
        rate, before = rate + changes[at], at
    return points


def increases(points: Points, edges: Sequence[float]) -> list[float]:
    """Return the growth per second of a running total between each two edges."""
    grown = pairwise((edge, _value_at(points, edge)) for edge in edges)
    return [(after - before) / (end - start) for (start, before), (end, after) in grown]


def _value_at(points: Points, time: float) -> float:
    """Interpolate linearly; the curve is constant before the first and after the last point."""
    index = bisect_right(points, time, key=lambda point: point[0])
    if index in (0, len(points)):
        return points[max(0, index - 1)][1]
    (t0, v0), (t1, v1) = points[index - 1], points[index]
    return v0 + (v1 - v0) * (time - t0) / (t1 - t0)


def thinned(points: Points) -> Points:
    """Keep evenly spaced points and the last one if there are more than a picture can show."""
    step = math.ceil(len(points) / _MAX_POINTS)
    return [*points[:-1:step], points[-1]] if step > 1 else points


# --- figures in the style of templates/theme.yaml -----------------------------------------------


def new_figure(height: int, x_range: Range | None = None, tools: str = "") -> Figure:
    """Return an empty figure; `height` is in pixels."""
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
    """Return an empty figure over time; zooming into one of them zooms all."""
    from bokeh.models import PrintfTickFormatter

    made = new_figure(height, time, "xbox_zoom,xpan,reset")
    made.xaxis[0].formatter = PrintfTickFormatter(format="%.5g s")
    made.xaxis[0].ticker.desired_num_ticks = 10
    return made


def empty_source(names: str) -> Any:
    """Return a data source with empty columns, given their names separated by spaces."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: [] for name in names.split()})


def add_hover(made: Figure, renderer: Any, *rows: tuple[str, str], **options: Any) -> None:
    """Add a tooltip of rows, each a label and a template."""
    from bokeh.models import HoverTool

    # Bokeh escapes the values of columns unless they are marked {safe}.
    made.add_tools(HoverTool(renderers=[renderer], tooltips=list(rows), **options))


def add_lines(made: Figure, names: str, label: str, hover: tuple[str, str], **style: Any) -> None:
    """Add lines with a legend above the figure; `names` and `label` are names of columns."""
    fields = {"xs": "xs", "ys": "ys", "line_color": "colour", "legend_field": label}
    source = empty_source(f"xs ys colour {label} {names}")
    lines = made.multi_line(source=source, name="lines", line_join="round", **fields, **style)
    made.add_layout(made.legend[0], "above")
    add_hover(made, lines, (label, f"@{label}"), hover, line_policy="nearest")


def value_range(highest: float) -> Settings:
    """Return the settings of a value axis that starts at zero."""
    return {"y": {"start": 0.0, "end": highest * _HEADROOM if highest > 0 else 1.0}}


def columns_of(names: str, rows: list[tuple[Any, ...]]) -> Columns:
    """Convert rows to columns.

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
    """Return the label of a worker, shortened to `length` characters."""
    label = f"worker {name}" if name.isdigit() else printable(name)
    # Bokeh would interpret these as a formula, and load MathJax from the network.
    return shorten(label, length).replace("$$", "$ $").replace("\\", "∖")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts worker-2 before worker-10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (0, p) for p in parts]
