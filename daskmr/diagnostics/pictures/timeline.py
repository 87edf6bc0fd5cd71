"""Draw the tasks of each worker over time, with the phases above them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from operator import attrgetter
from typing import Any

from cytoolz import groupby

from daskmr.diagnostics import plotting
from daskmr.diagnostics.bottlenecks import seconds_of, stragglers
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.history import History, TaskSpan
from daskmr.text import counted, format_bytes, format_seconds, printable

__all__ = ["PICTURES"]

_BAR = "bottom top alpha left right colour what worker seconds details"  # columns
_PHASE = "left right bottom top middle colour phase text label"
_MAX_LABELS = 32
_LABEL_SHARE = 0.1  # of the width; shorter phases have no label


def _chart(run: RunView) -> Chart | None:
    history, time = run.history, run.time
    unfinished = [] if run.ended and history.tasks else _observed(history)
    tasks = [*history.tasks, *unfinished]
    if not tasks:
        return None
    slow = {*stragglers(history.tasks)}
    by_worker = groupby(attrgetter("worker"), sorted(tasks, key=attrgetter("start")))
    workers = sorted(by_worker, key=plotting.natural)
    rows = []
    for row, worker in enumerate(workers):
        for n, (task, low, high) in enumerate(_in_lanes(by_worker[worker])):
            is_slow = task in slow
            bottom, top = row - 0.4 + 0.8 * low, row - 0.4 + 0.8 * high
            alpha = 0.95 if n % 2 or is_slow else 0.7
            rows.append((bottom, top, alpha, *_bar(task, time, is_slow, history.step)))
    count = sum(task.number >= 0 for task in tasks)
    on = f"{len(workers):,} workers" if len(workers) > 1 else "one worker"
    note = f"{count:,} tasks on {on}" if count else ""
    settings = time.settings | _rows(workers)
    phases = _phases(tasks, time, settings["y"]["end"])
    return Chart({"tasks": plotting.columns_of(_BAR, rows), "phases": phases}, settings, "", note)


def _bar(task: TaskSpan, time: plotting.TimeAxis, slow: bool, steps: int) -> tuple[Any, ...]:
    unit = "keys" if task.phase == "reduce" else "records"
    details = [
        counted(task.files, "file") if task.files else "",
        format_bytes(task.bytes) if task.bytes else "",
        f"{task.records:,} {unit}" if task.records else "",
        f"spilled {format_bytes(task.spilled)}" if task.spilled else "",
        f"waited {format_seconds(task.waited)}" if task.waited >= 0.01 else "",
        f"memory {format_bytes(task.memory)}" if task.memory else "",
    ]
    kind = "partition" if task.phase == "map" else "reducer, from bucket"
    what = f"{task.phase}: {kind} {task.number}" if task.number >= 0 else task.phase
    what += f" of step {task.step}" if steps > 1 else ""
    seconds = format_seconds(seconds_of(task))
    return (
        time(task.start),
        time(task.end),
        plotting.STRAGGLER if slow else plotting.COLOURS.get(task.phase, plotting.COLOURS["list"]),
        what,
        printable(task.worker),
        f"{seconds}, a straggler" if slow else seconds,
        ", ".join(filter(None, details)),
    )


def _in_lanes(tasks: Sequence[TaskSpan]) -> list[tuple[TaskSpan, float, float]]:
    """Divide the row of a worker among overlapping tasks, which are sorted by start."""
    ends: list[float] = []
    lanes = []
    for task in tasks:
        free = next(
            (n for n, end in enumerate(ends) if end <= task.start + plotting.INSTANT), len(ends)
        )
        ends[free : free + 1] = [task.end]
        lanes.append(free)
    count = len(ends)
    return [(t, n / count, (n + 1) / count) for t, n in zip(tasks, lanes, strict=True)]


def _phases(tasks: Iterable[TaskSpan], time: plotting.TimeAxis, top: float) -> plotting.Columns:
    """Return the start and end of each phase, for a strip above the rows of the workers."""
    spans = {
        at: (min(task.start for task in own), max(task.end for task in own))
        for at, own in groupby(attrgetter("step", "phase"), tasks).items()
    }
    for step in {step for step, _ in spans}:
        mapped, reduced = spans.get((step, "map")), spans.get((step, "reduce"))
        if mapped and reduced and mapped[1] < reduced[0]:
            spans[step, "merge"] = mapped[1], reduced[0]
    bottom, middle = (-0.5 + share * (top + 0.5) for share in (0.2, 0.6))
    rows = []
    for (_, phase), (start, end) in spans.items():
        if phase in plotting.COLOURS:
            text = f"{phase} {format_seconds(end - start)}"
            label = text if end - start > _LABEL_SHARE * time.seconds else ""
            left, right = time(start), time(end)
            rows.append(
                (left, right, bottom, top, middle, plotting.COLOURS[phase], phase, text, label)
            )
    return plotting.columns_of(_PHASE, rows)


def _rows(workers: Sequence[str]) -> plotting.Settings:
    count = len(workers)
    pixels = max(3.0, min(26.0, 620 / count))
    strip = 28 / pixels  # the strip of phases has a fixed height in pixels
    ticks = list(range(0, count, math.ceil(count / _MAX_LABELS)))
    return {
        "y": {"start": count - 0.5, "end": -0.5 - strip},
        "y-ticks": {"ticks": ticks},
        "y-axis": {"major_label_overrides": {n: plotting.worker_label(workers[n]) for n in ticks}},
        "figure": {"height": int(32 + pixels * (count + strip))},
    }


def _observed(history: History) -> list[TaskSpan]:
    """Return the observed activity of workers since their last finished task, by file or phase."""
    by_worker = groupby(attrgetter("worker"), history.tasks)
    finished = {worker: max(task.end for task in own) for worker, own in by_worker.items()}
    spans: list[TaskSpan] = []
    current: dict[str, tuple[int, str]] = {}  # by worker: the index of its span, and its file
    for look, after in zip_longest(history.looks, history.looks[1:]):
        until = after.at if after is not None else max(history.ended, look.at)
        for worker in look.workers:
            if not worker.phase or look.at <= finished.get(worker.name, 0.0):
                current.pop(worker.name, None)
                continue
            index, file = current.get(worker.name, (-1, ""))
            if index >= 0 and (spans[index].phase, file) == (worker.phase, worker.file):
                spans[index] = replace(spans[index], end=until)
                continue
            current[worker.name] = len(spans), worker.file
            spans.append(TaskSpan(worker.phase, -1, worker.name, look.at, until, step=history.step))
    return spans


def _figure(time: Range) -> Figure:
    from bokeh.models import FixedTicker

    made = plotting.time_figure(200, time)
    made.ygrid.grid_line_color = None
    made.yaxis[0].ticker = FixedTicker(ticks=[])
    box = {"left": "left", "right": "right", "bottom": "bottom", "top": "top"}
    bars = {"source": plotting.empty_source(_BAR), "fill_color": "colour", "fill_alpha": "alpha"}
    line = {"line_color": "colour", "line_width": 0.5, "line_alpha": "alpha"}
    tasks = made.quad(name="tasks", **box, **bars, **line)
    phases = plotting.empty_source(_PHASE)
    fill = {"fill_color": "colour", "fill_alpha": 0.25, "line_color": None}
    strip = made.quad(name="phases", source=phases, **box, **fill)
    label = {"text": "label", "x_offset": 6, "text_baseline": "middle"}
    made.text(x="left", y="middle", source=phases, text_color=plotting.INK, **label)
    rows = [("task", "@what"), ("worker", "@worker"), ("took", "@seconds"), ("with", "@details")]
    plotting.add_hover(made, tasks, *rows)
    plotting.add_hover(made, strip, ("phase", "@text"))
    return made


_HINT = "Each bar is a task; vermilion ones took more than three times the median of their phase."

PICTURES = (Picture("timeline", "Tasks by worker", 14, _chart, _figure, hint=_HINT),)
