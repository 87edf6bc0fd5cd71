"""Size and time of each partition."""

from __future__ import annotations

import math
import statistics
from functools import partial

from daskmr.diagnostics.bottlenecks import stragglers
from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import (
    COLOURS,
    STRAGGLER,
    Chart,
    Columns,
    Figure,
    Picture,
    Range,
    RunView,
)
from daskmr.history import TaskSpan
from daskmr.text import byte_unit, format_bytes, format_seconds, time_unit

__all__ = ["PICTURES"]

_MAX_BARS = 240


def _chart(run: RunView, by_size: bool) -> Chart | None:
    tasks = [task for task in run.history.tasks if task.phase == "map"]
    if not tasks:
        return None
    tasks.sort(key=lambda task: task.number)
    slow = {task.number for task in stragglers(tasks)}
    measure = _size if by_size else _seconds
    median = statistics.median(map(measure, tasks))
    each = math.ceil(len(tasks) / _MAX_BARS)
    shown = [max(tasks[n : n + each], key=measure) for n in range(0, len(tasks), each)]
    values = list(map(measure, shown))
    if not any(values):
        return None
    scale, unit = (byte_unit if by_size else time_unit)(max(values))
    columns: Columns = {
        "partition": [task.number for task in shown],
        "width": [0.86 * each for _ in shown],
        "top": [value / scale for value in values],
        "waited": [min(task.waited, _seconds(task)) / scale for task in shown],
        "colour": [STRAGGLER if task.number in slow else COLOURS["map"] for task in shown],
        "bytes": [format_bytes(task.bytes) for task in shown],
        "seconds": [format_seconds(_seconds(task)) for task in shown],
        "records": [f"{task.records:,}" for task in shown],
        "waiting": [format_seconds(task.waited) for task in shown],
    }
    note = f"median {(format_bytes if by_size else format_seconds)(median)}"
    if slow and not by_size:
        note += f", {len(slow):,} stragglers" if len(slow) > 1 else ", one straggler"
    if each > 1:
        note += f"; a bar is the {'largest' if by_size else 'longest'} of {each:,}"
    ends = {"start": shown[0].number - 0.6 * each, "end": shown[-1].number + 0.6 * each}
    settings = plots.value_range(max(values) / scale) | {"x": ends}
    return Chart({"bars": columns, "median": {"y": [median / scale]}}, settings, unit, note)


def _size(task: TaskSpan) -> float:
    return float(task.bytes)


def _seconds(task: TaskSpan) -> float:
    return task.end - task.start


def _figure(time: Range, by_size: bool) -> Figure:
    from bokeh.models import BasicTicker

    made = plots.new_figure(170, tools="xbox_zoom,xpan,reset")
    made.xaxis[0].ticker = BasicTicker(min_interval=1, desired_num_ticks=8)
    source = plots.empty_source("partition width top waited colour bytes seconds records waiting")
    bar = {"x": "partition", "width": "width", "source": source, "line_color": None}
    bars = made.vbar(top="top", name="bars", fill_color="colour", fill_alpha=0.8, **bar)
    if not by_size:
        made.vbar(top="waited", fill_color=COLOURS["fetch"], **bar)
    made.hspan(
        y="y",
        source=plots.empty_source("y"),
        name="median",
        line_color=plots.INK,
        line_dash=[4, 4],
        line_width=1,
    )
    rows = [
        ("partition", "@partition"),
        ("size", "@bytes"),
        ("records", "@records"),
        ("took", "@seconds"),
        ("waited", "@waiting"),
    ]
    plots.add_hover(made, bars, *rows, mode="vline")
    return made


PICTURES = (
    Picture(
        "partition-bytes",
        "Size of each partition",
        "By partition",
        20,
        partial(_chart, by_size=True),
        partial(_figure, by_size=True),
        "As stored. Dashed: the median.",
        half_width=True,
    ),
    Picture(
        "partition-seconds",
        "Time of each partition",
        "By partition",
        21,
        partial(_chart, by_size=False),
        partial(_figure, by_size=False),
        "Vermilion: stragglers. Pink: waiting for files. Dashed: the median.",
        half_width=True,
    ),
)
