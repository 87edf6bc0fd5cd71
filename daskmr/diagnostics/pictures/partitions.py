"""Draw the size and time of each partition."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from functools import partial
from operator import attrgetter

from daskmr.diagnostics import plotting
from daskmr.diagnostics.bottlenecks import seconds_of, stragglers
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.text import byte_unit, format_bytes, format_seconds, time_unit

__all__ = ["PICTURES"]

_MAX_BARS = 240
_SIZE_HINT = "As stored. Dashed: the median."
_TIME_HINT = "Vermilion: stragglers. Pink: waiting for files. Dashed: the median."
_COLUMNS = "partition width top waited colour bytes seconds records waiting name"


def _chart(run: RunView, by_size: bool) -> Chart | None:
    measure = attrgetter("bytes") if by_size else seconds_of
    tasks = sorted(
        (task for task in run.history.tasks if task.phase == "map"),
        key=attrgetter("step", "number"),
    )
    if not any(map(measure, tasks)):
        return None
    slow = {*stragglers(tasks)}
    count = Counter(task.step for task in tasks)
    # Partitions of each step are at the right of those of the steps before.
    places = {step: sum(n for other, n in count.items() if other < step) for step in count}
    median = statistics.median(map(measure, tasks))
    each = math.ceil(len(tasks) / _MAX_BARS)
    shown = [max(tasks[n : n + each], key=measure) for n in range(0, len(tasks), each)]
    most = max(map(measure, shown))
    scale, unit = (byte_unit if by_size else time_unit)(most)
    rows = [
        (
            places[task.step] + task.number,
            0.86 * each,
            measure(task) / scale,
            min(task.waited, seconds_of(task)) / scale,
            plotting.STRAGGLER if task in slow else plotting.COLOURS["map"],
            format_bytes(task.bytes),
            format_seconds(seconds_of(task)),
            f"{task.records:,}",
            format_seconds(task.waited),
            f"{task.number}" + (f" of step {task.step}" if len(count) > 1 else ""),
        )
        for task in shown
    ]
    note = f"median {(format_bytes if by_size else format_seconds)(median)}"
    if slow and not by_size:
        note += f", {len(slow):,} stragglers" if len(slow) > 1 else ", one straggler"
    if each > 1:
        note += f"; each bar is the {'largest' if by_size else 'longest'} of {each:,}"
    ends = {"start": rows[0][0] - 0.6 * each, "end": rows[-1][0] + 0.6 * each}
    settings = plotting.value_range(most / scale) | {"x": ends}
    sources = {"bars": plotting.columns_of(_COLUMNS, rows), "median": {"y": [median / scale]}}
    return Chart(sources, settings, unit, note)


def _figure(time: Range, by_size: bool) -> Figure:
    from bokeh.models import BasicTicker

    made = plotting.new_figure(170, tools="xbox_zoom,xpan,reset")
    made.xaxis[0].ticker = BasicTicker(min_interval=1, desired_num_ticks=8)
    source = plotting.empty_source(_COLUMNS)
    bar = {"x": "partition", "width": "width", "source": source, "line_color": None}
    bars = made.vbar(top="top", name="bars", fill_color="colour", fill_alpha=0.8, **bar)
    if not by_size:
        made.vbar(top="waited", fill_color=plotting.COLOURS["fetch"], **bar)
    dashed = {"line_color": plotting.INK, "line_dash": [4, 4], "line_width": 1}
    made.hspan(y="y", source=plotting.empty_source("y"), name="median", **dashed)
    rows = [
        ("partition", "@name"),
        ("size", "@bytes"),
        ("records", "@records"),
        ("took", "@seconds"),
        ("waited", "@waiting"),
    ]
    plotting.add_hover(made, bars, *rows, mode="vline")
    return made


PICTURES = tuple(
    Picture(
        name,
        title,
        position,
        partial(_chart, by_size=by_size),
        partial(_figure, by_size=by_size),
        "By partition",
        hint,
        half_width=True,
    )
    for position, name, title, by_size, hint in (
        (20, "partition-bytes", "Size of each partition", True, _SIZE_HINT),
        (21, "partition-seconds", "Time of each partition", False, _TIME_HINT),
    )
)
