"""What the pictures of a run show, as columns of numbers and text. Pure.

A chart is all that a picture needs beside its looks: the columns of its data sources, and what its
axes and ranges are set to. The report draws each once, the live page sets the same again and again.
"""

from __future__ import annotations

import math
import re
import statistics
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, zip_longest
from typing import Any

from daskmr.history import PHASES, History, HotKey, Look, Progress, TaskSpan
from daskmr.text import (
    byte_unit,
    count_unit,
    format_bytes,
    format_seconds,
    printable,
    shorten,
    time_unit,
)

__all__ = ["COLOURS", "SERIES", "STRAGGLER", "Chart", "Columns", "draw_up", "stragglers"]

Columns = dict[str, list[Any]]
Points = list[tuple[float, float]]

# After Okabe and Ito: told apart by the colour-blind too.
COLOURS = {
    "list": "#8a8a8a",
    "fetch": "#cc79a7",
    "map": "#0072b2",
    "merge": "#009e73",
    "reduce": "#e69f00",
    "write": "#4d4d4d",
}
"""Colour by phase."""
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#4d4d4d")
"""Colours of workers, while there are no more workers than that."""
STRAGGLER = "#d55e00"

_SHORT = {"seconds": "s", "minutes": "min", "hours": "h"}
_BINS = 120
_BIN_SECONDS = 0.25  # the client looks five times a second
_ROWS = 12  # keys, or reasons
_ROW_PIXELS = 36
_LABEL = 64  # characters of a key, above its bar
_WORKER_LABEL = 14
_MOST_LABELS = 32
_MOST_BARS = 240
_ROOM_FOR_TEXT = 0.1  # of the width
_ROOM = 1.08  # above the highest of what is drawn
_STRAGGLES = 3.0  # times the median
_STRAGGLES_SECONDS = 1.0  # and this much longer
_FEWEST = 4  # tasks, for a median to mean something
_INSTANT = 1e-3
_FAR = 5.0  # times what is held: a limit that would leave the picture empty


@dataclass(frozen=True, slots=True)
class Chart:
    """What one picture shows.

    Attributes
    ----------
    sources : Mapping[str, Columns]
        The columns of each data source.
    settings : Mapping[str, Mapping[str, object]]
        Properties by the part of the figure that has them: ``"y"`` is the range, ``"y-axis"`` the
        axis, ``"y-ticks"`` where its labels are, ``"figure"`` all of it.
    unit : str
        What the axis of values counts.
    note : str
        One line on what is seen.
    """

    sources: Mapping[str, Columns]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unit: str = ""
    note: str = ""


def draw_up(
    history: History, bad_reasons: Mapping[str, int] | None = None, *, ended: bool = True
) -> dict[str, Chart | None]:
    """Return what there is to show of a run, by the name of the picture.

    Parameters
    ----------
    history : History
        Of a run that has ended, or as far as it is.
    bad_reasons : mapping of str to int, optional
        Bad records by reason, where that is known better than from the last look.
    ended : bool
        All tasks are told of; else what workers were seen to do last is shown too.

    Returns
    -------
    dict of str to (Chart or None)
        ``None`` for a picture that would be empty.
    """
    last = history.looks[-1] if history.looks else None
    reasons = bad_reasons if bad_reasons is not None else last.bad_reasons if last else {}
    time = _Time.of(history)
    return {
        "throughput": _throughput(history, time, "bytes"),
        "records": _throughput(history, time, "records"),
        "fetched": _fetched(history, time),
        "progress": _progress(history, time),
        "timeline": _timeline(history, time, ended),
        "partition-bytes": _partitions(history, "bytes"),
        "partition-seconds": _partitions(history, "seconds"),
        "key-values": _keys(history.hot_keys, "values"),
        "key-bytes": _keys(history.hot_keys, "bytes"),
        "bad-records": _bad_records(reasons),
        "memory": _memory(history, time),
        "spill": _spill(history, time),
    }


# --- time ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Time:
    """The axis that most pictures have in common."""

    started: float
    seconds: float
    scale: float
    unit: str

    @classmethod
    def of(cls, history: History) -> _Time:
        seconds = max(history.ended - history.started, _INSTANT)
        return cls(history.started, seconds, *time_unit(seconds))

    def __call__(self, at: float) -> float:
        return (at - self.started) / self.scale

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        return {
            "x": {"start": 0.0, "end": self.seconds / self.scale},
            "x-format": {"format": f"%.5g {_SHORT[self.unit]}"},
        }

    def edges(self) -> list[float]:
        count = max(1, min(_BINS, int(self.seconds / _BIN_SECONDS)))
        return [self.started + self.seconds * i / count for i in range(count + 1)]


def _values(most: float) -> dict[str, dict[str, Any]]:
    return {"y": {"start": 0.0, "end": most * _ROOM if most > 0 else 1.0}}


def _at(points: Points, time: float) -> float:
    """Read a line that is given by points, and level before and after them."""
    index = bisect_right(points, time, key=lambda point: point[0])
    if index == 0:
        return points[0][1]
    if index == len(points):
        return points[-1][1]
    (t0, v0), (t1, v1) = points[index - 1], points[index]
    return v0 + (v1 - v0) * (time - t0) / (t1 - t0)


def _growing(points: Iterable[tuple[float, float]]) -> Points:
    """Order what was seen of a sum in time; one that fell back is as it was before."""
    grown: Points = []
    for at, value in sorted(points):
        grown.append((at, max(value, grown[-1][1] if grown else 0.0)))
    return grown


def _spread(tasks: Iterable[TaskSpan], measure: Callable[[TaskSpan], float]) -> Points:
    """Sum up what tasks have done, each evenly over its time."""
    changes: dict[float, float] = defaultdict(float)
    for task in tasks:
        end = max(task.end, task.start + _INSTANT)
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


# --- throughput ---------------------------------------------------------------------------------


def _throughput(history: History, time: _Time, measure: str) -> Chart | None:
    points = _mapped(history, measure)
    if not points or points[-1][1] <= 0:
        return None
    edges = time.edges()
    rates = _increases(points, edges)
    total = points[-1][1] - points[0][1]
    busy = max(points[-1][0] - _first_growth(points), _INSTANT)
    if measure == "bytes":
        scale, unit = byte_unit(max(rates))
        label, note = f"{unit}/s", f"{format_bytes(total / busy)}/s on average"
    else:
        scale, unit = count_unit(max(rates))
        label, note = f"{unit}records/s", f"{total / busy:,.0f} records/s on average"
    return _rates(time, edges, [rate / scale for rate in rates], label, note)


def _increases(points: Points, edges: Sequence[float]) -> list[float]:
    """How fast a sum grew between one edge and the next, a second."""
    at = [_at(points, edge) for edge in edges]
    return [(at[i + 1] - at[i]) / (edges[i + 1] - edges[i]) for i in range(len(edges) - 1)]


def _rates(time: _Time, edges: Sequence[float], rates: list[float], label: str, note: str) -> Chart:
    at = [time(edge) for edge in edges]
    text = [f"{rate:,.4g} {label}" for rate in rates]
    columns: Columns = {"left": at[:-1], "right": at[1:], "top": rates, "text": text}
    return Chart({"bars": columns}, time.settings | _values(max(rates)), label, note)


def _mapped(history: History, measure: str) -> Points:
    """Sum up what was mapped by time: as it was seen to grow, or else as the tasks tell."""
    mapped = [task for task in history.tasks if task.phase == "map"]
    seen = _growing((look.at, float(_mapped_so_far(look, measure))) for look in history.looks)
    if len({value for _, value in seen}) < _FEWEST:
        return _spread(mapped, lambda task: getattr(task, measure))
    total = float(sum(getattr(task, measure) for task in mapped))
    if total > seen[-1][1]:  # the last was not looked at
        seen.append((max(seen[-1][0] + _INSTANT, max(task.end for task in mapped)), total))
    if seen[0][1]:
        seen.insert(0, (min(seen[0][0] - _INSTANT, history.started), 0.0))
    return seen


def _mapped_so_far(look: Look, measure: str) -> int:
    return look.records if measure == "records" else look.progress.get("map", Progress()).bytes


def _first_growth(points: Points) -> float:
    """When the first of it was on its way."""
    for (at, value), (_, later) in pairwise(points):
        if later > value:
            return at
    return points[0][0]


def _fetched(history: History, time: _Time) -> Chart | None:
    points = _growing((look.at, float(look.fetched_bytes)) for look in history.looks)
    if not points or points[-1][1] <= 0:
        return None
    points.insert(0, (min(history.started, points[0][0] - _INSTANT), 0.0))
    edges = time.edges()
    rates = _increases(points, edges)
    scale, unit = byte_unit(max(rates))
    note = f"{format_bytes(points[-1][1])} in all"
    return _rates(time, edges, [rate / scale for rate in rates], f"{unit}/s", note)


# --- progress -----------------------------------------------------------------------------------


def _progress(history: History, time: _Time) -> Chart | None:
    lines = {phase: _progress_of(history, phase) for phase in PHASES}
    drawn = {phase: points for phase, points in lines.items() if len(points) > 1}
    if not drawn:
        return None
    columns: Columns = {
        "xs": [[time(at) for at, _ in points] for points in drawn.values()],
        "ys": [[100 * share for _, share in points] for points in drawn.values()],
        "phase": list(drawn),
        "colour": [COLOURS[phase] for phase in drawn],
        "text": [f"{100 * points[-1][1]:.0f}%" for points in drawn.values()],
    }
    return Chart({"lines": columns}, time.settings, "% of each phase")


def _progress_of(history: History, phase: str) -> Points:
    seen = [
        (look.at, _share(look.progress[phase])) for look in history.looks if phase in look.progress
    ]
    points = _growing((at, share) for at, share in seen if share is not None)
    tasks = sorted(task.end for task in history.tasks if task.phase == phase)
    if len(points) < 2 and tasks:
        first = min(task.start for task in history.tasks if task.phase == phase)
        done = [(end, (i + 1) / len(tasks)) for i, end in enumerate(tasks)]
        return _thinned([(first, 0.0), *done])
    return _thinned(points)


def _share(progress: Progress) -> float | None:
    for done, total in (
        (progress.bytes, progress.bytes_total),
        (progress.tasks, progress.tasks_total),
        (progress.files, progress.files_total),
    ):
        if total > 0:
            return min(1.0, done / total)
    return None


def _thinned(points: Points, most: int = 4 * _BINS) -> Points:
    if len(points) <= most:
        return points
    step = math.ceil(len(points) / most)
    return [*points[:-1:step], points[-1]]


# --- tasks --------------------------------------------------------------------------------------


def stragglers(tasks: Iterable[TaskSpan]) -> tuple[TaskSpan, ...]:
    """Return the tasks of a phase that took far longer than its median, the longest first.

    Examples
    --------
    >>> tasks = [TaskSpan("map", n, "0", 0, 9 if n == 3 else 1) for n in range(6)]
    >>> [task.number for task in stragglers(tasks)]
    [3]
    """
    all_tasks = list(tasks)
    found = []
    for phase in {task.phase for task in all_tasks}:
        spans = [task for task in all_tasks if task.phase == phase]
        if len(spans) >= _FEWEST:
            median = statistics.median(task.end - task.start for task in spans)
            least = max(_STRAGGLES * median, median + _STRAGGLES_SECONDS)
            found += [task for task in spans if task.end - task.start > least]
    return tuple(sorted(found, key=lambda task: task.start - task.end))


def _timeline(history: History, time: _Time, ended: bool) -> Chart | None:
    tasks = [*history.tasks, *([] if ended and history.tasks else _observed(history))]
    if not tasks:
        return None
    slow = {(task.phase, task.number) for task in stragglers(history.tasks)}
    workers = sorted({task.worker for task in tasks}, key=_natural)
    columns: Columns = defaultdict(list)
    for row, worker in enumerate(workers):
        own = sorted((t for t in tasks if t.worker == worker), key=lambda task: task.start)
        for n, (task, low, high) in enumerate(_in_lanes(own)):
            is_slow = (task.phase, task.number) in slow
            columns["bottom"].append(row - 0.4 + 0.8 * low)
            columns["top"].append(row - 0.4 + 0.8 * high)
            columns["alpha"].append(0.95 if n % 2 or is_slow else 0.7)
            _add_task(columns, task, time, is_slow)
    phases = _phases_of(tasks, time, -0.5 - _strip(len(workers)))
    settings = time.settings | _rows_of(workers)
    count = sum(task.number >= 0 for task in tasks)
    on = f"{len(workers):,} workers" if len(workers) > 1 else "one worker"
    note = f"{count:,} tasks on {on}" if count else ""
    return Chart({"tasks": dict(columns), "phases": phases}, settings, "", note)


def _add_task(columns: Columns, task: TaskSpan, time: _Time, slow: bool) -> None:
    seconds = task.end - task.start
    details = [
        f"{task.files:,} files" if task.files else "",
        format_bytes(task.bytes) if task.bytes else "",
        f"{task.records:,} {'keys' if task.phase == 'reduce' else 'records'}"
        if task.records
        else "",
        f"spilled {format_bytes(task.spilled)}" if task.spilled else "",
        f"waited {format_seconds(task.waited)}" if task.waited >= 0.01 else "",
        f"memory {format_bytes(task.memory)}" if task.memory else "",
    ]
    what = "partition" if task.phase == "map" else "reducer, from bucket"
    columns["left"].append(time(task.start))
    columns["right"].append(time(task.end))
    columns["colour"].append(STRAGGLER if slow else COLOURS.get(task.phase, COLOURS["list"]))
    columns["what"].append(
        f"{task.phase}: {what} {task.number}" if task.number >= 0 else task.phase
    )
    columns["worker"].append(printable(task.worker))
    columns["seconds"].append(format_seconds(seconds) + (", a straggler" if slow else ""))
    columns["details"].append(", ".join(filter(None, details)))


def _phases_of(tasks: Iterable[TaskSpan], time: _Time, top: float) -> Columns:
    """Where each phase began and ended, above the rows of the workers."""
    spans: dict[str, tuple[float, float]] = {}
    for task in tasks:
        start, end = spans.get(task.phase, (task.start, task.end))
        spans[task.phase] = (min(start, task.start), max(end, task.end))
    if "map" in spans and "reduce" in spans and spans["map"][1] < spans["reduce"][0]:
        spans["merge"] = spans["map"][1], spans["reduce"][0]
    shown = {phase: span for phase, span in spans.items() if phase in COLOURS}
    texts = [f"{phase} {format_seconds(end - start)}" for phase, (start, end) in shown.items()]
    pairs = zip(texts, shown.values(), strict=True)
    least = _ROOM_FOR_TEXT * time.seconds
    return {
        "left": [time(start) for start, _ in shown.values()],
        "right": [time(end) for _, end in shown.values()],
        "bottom": [-0.5 + 0.2 * (top + 0.5) for _ in shown],
        "top": [top for _ in shown],
        "middle": [-0.5 + 0.6 * (top + 0.5) for _ in shown],
        "colour": [COLOURS[phase] for phase in shown],
        "phase": list(shown),
        "text": texts,
        "label": [text if end - start > least else "" for text, (start, end) in pairs],
    }


def _in_lanes(tasks: Sequence[TaskSpan]) -> list[tuple[TaskSpan, float, float]]:
    """Give tasks of one worker that overlap a part of its row each; they come sorted by start."""
    ends: list[float] = []
    lanes = []
    for task in tasks:
        free = next((n for n, end in enumerate(ends) if end <= task.start + _INSTANT), len(ends))
        ends[free : free + 1] = [task.end]
        lanes.append(free)
    count = len(ends)
    return [(t, n / count, (n + 1) / count) for t, n in zip(tasks, lanes, strict=True)]


def _rows_of(workers: Sequence[str]) -> dict[str, dict[str, Any]]:
    count = len(workers)
    step = math.ceil(count / _MOST_LABELS)
    ticks = list(range(0, count, step))
    names = {n: _worker_label(workers[n]) for n in ticks}
    return {
        "y": {"start": count - 0.5, "end": -0.5 - _strip(count)},
        "y-ticks": {"ticks": ticks},
        "y-axis": {"major_label_overrides": names},
        "figure": {"height": int(32 + _row_pixels(count) * (count + _strip(count)))},
    }


def _row_pixels(rows: int) -> float:
    return max(3.0, min(26.0, 620 / rows))


def _strip(rows: int) -> float:
    """How many rows the strip of phases takes, whatever the height of a row."""
    return 28 / _row_pixels(rows)


def _worker_label(name: str, length: int = _WORKER_LABEL) -> str:
    label = f"worker {name}" if name.isdigit() else printable(name)
    # Else it may be read as a formula, for which Bokeh would ask the network.
    return shorten(label, length).replace("$$", "$ $").replace("\\", "∖")


def _natural(name: str) -> list[tuple[int, str]]:
    """Order names as people do: worker-2 before worker-10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (0, p) for p in parts]


def _observed(history: History) -> list[TaskSpan]:
    """What workers were seen to do that no task tells of yet: one span for each file, or phase."""
    told: dict[str, float] = {}
    for task in history.tasks:
        told[task.worker] = max(told.get(task.worker, 0.0), task.end)
    spans: list[TaskSpan] = []
    going_on: dict[str, tuple[int, str]] = {}  # the index of its span, and the file
    for look, after in zip_longest(history.looks, history.looks[1:]):
        until = after.at if after is not None else max(history.ended, look.at)
        for worker in look.workers:
            if not worker.phase or look.at <= told.get(worker.name, 0.0):
                going_on.pop(worker.name, None)
                continue
            index, file = going_on.get(worker.name, (-1, ""))
            if index >= 0 and (spans[index].phase, file) == (worker.phase, worker.file):
                spans[index] = replace(spans[index], end=until)
                continue
            going_on[worker.name] = len(spans), worker.file
            spans.append(TaskSpan(worker.phase, -1, worker.name, look.at, until))
    return spans


def _measure_of(task: TaskSpan, measure: str) -> float:
    return float(task.bytes) if measure == "bytes" else task.end - task.start


def _partitions(history: History, measure: str) -> Chart | None:
    tasks = sorted((t for t in history.tasks if t.phase == "map"), key=lambda task: task.number)
    if not tasks:
        return None
    slow = {task.number for task in stragglers(tasks)}
    median = statistics.median(_measure_of(task, measure) for task in tasks)
    each = math.ceil(len(tasks) / _MOST_BARS)
    tasks = [
        max(tasks[n : n + each], key=lambda task: _measure_of(task, measure))
        for n in range(0, len(tasks), each)
    ]
    values = [_measure_of(task, measure) for task in tasks]
    if not any(values):
        return None
    scale, unit = byte_unit(max(values)) if measure == "bytes" else time_unit(max(values))
    columns: Columns = {
        "partition": [task.number for task in tasks],
        "width": [0.86 * each for _ in tasks],
        "top": [value / scale for value in values],
        "waited": [min(task.waited, task.end - task.start) / scale for task in tasks],
        "colour": [STRAGGLER if task.number in slow else COLOURS["map"] for task in tasks],
        "bytes": [format_bytes(task.bytes) for task in tasks],
        "seconds": [format_seconds(task.end - task.start) for task in tasks],
        "records": [f"{task.records:,}" for task in tasks],
        "waiting": [format_seconds(task.waited) for task in tasks],
    }
    sources = {"bars": columns, "median": {"y": [median / scale]}}
    text = format_bytes(median) if measure == "bytes" else format_seconds(median)
    note = f"median {text}"
    if measure == "seconds" and slow:
        note += f", {len(slow):,} stragglers" if len(slow) > 1 else ", one straggler"
    if each > 1:
        note += f"; a bar is the {'largest' if measure == 'bytes' else 'longest'} of {each:,}"
    ends = {"start": tasks[0].number - 0.6 * each, "end": tasks[-1].number + 0.6 * each}
    settings = _values(max(values) / scale) | {"x": ends}
    return Chart(sources, settings, unit, note)


# --- keys and bad records -----------------------------------------------------------------------


def _keys(keys: Iterable[HotKey], measure: str) -> Chart | None:
    ranked = sorted(keys, key=lambda key: -getattr(key, measure))[:_ROWS]
    if not ranked or not getattr(ranked[0], measure):
        return None
    amounts = [float(getattr(key, measure)) for key in ranked]
    if measure == "bytes":
        texts = [f"about {format_bytes(key.bytes)}" for key in ranked]
    else:
        texts = [
            f"{key.values:,}" if key.exact else f"about {float(f'{key.values:.2g}'):,.0f}"
            for key in ranked
        ]
    return _ranked([key.key for key in ranked], amounts, texts, COLOURS["map"])


def _bad_records(reasons: Mapping[str, int]) -> Chart | None:
    ranked = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    if not ranked:
        return None
    shown = ranked[:_ROWS]
    if len(ranked) > _ROWS:
        others = ranked[_ROWS - 1 :]
        shown = [
            *ranked[: _ROWS - 1],
            (f"{len(others):,} other reasons", sum(n for _, n in others)),
        ]
    amounts = [float(count) for _, count in shown]
    texts = [f"{count:,}" for _, count in shown]
    note = f"{sum(reasons.values()):,} in all"
    return _ranked([reason for reason, _ in shown], amounts, texts, STRAGGLER, note)


def _ranked(
    labels: list[str], amounts: list[float], texts: list[str], colour: str, note: str = ""
) -> Chart:
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
    settings: dict[str, dict[str, Any]] = {
        "x": {"start": 0.0, "end": 1.3 * max(amounts)},  # with room for the text after a bar
        "y": {"start": len(labels) - 0.4, "end": -0.6},
        "figure": {"height": _ROW_PIXELS * len(labels) + 12},
    }
    return Chart({"bars": columns}, settings, "", note)


# --- memory and spill ---------------------------------------------------------------------------


def _memory(history: History, time: _Time) -> Chart | None:
    lines: dict[str, Points] = defaultdict(list)
    limits: set[int] = set()
    for look in history.looks:
        for worker in look.workers:
            lines[worker.name].append((look.at, float(worker.memory)))
            limits.add(worker.limit)
    if not any(value for points in lines.values() for _, value in points):
        lines = defaultdict(list)
        measured = [task for task in history.tasks if task.memory]
        for task in sorted(measured, key=lambda task: task.start):
            lines[task.worker] += [(task.start, float(task.memory)), (task.end, float(task.memory))]
    most = max((value for points in lines.values() for _, value in points), default=0.0)
    if not most:
        return None
    note = f"at most {format_bytes(most)}"
    limit = min(limits - {0}, default=0)
    near = 0 < limit <= _FAR * most
    if limit:
        share = f"{100 * most / limit:.0f}%" if most >= limit / 100 else "less than 1%"
        note += f", {share} of the limit of {format_bytes(limit)}"
        note += "" if near else ", which is beyond this picture"
    drawn = [limit] if near else []
    return _by_worker(lines, time, max([most, *map(float, drawn)]), note, drawn)


def _spill(history: History, time: _Time) -> Chart | None:
    lines: dict[str, Points] = defaultdict(list)
    for look in history.looks:
        for worker in look.workers:
            lines[worker.name].append((look.at, float(worker.spilled)))
    if not any(value for points in lines.values() for _, value in points):
        lines = _spilled_by_task(history)
    total = sum(max(value for _, value in points) for points in lines.values())
    if not total:
        return None
    most = max(value for points in lines.values() for _, value in points)
    told = max([total, float(sum(t.spilled for t in history.tasks))])
    return _by_worker(lines, time, most, f"{format_bytes(told)} in all")


def _spilled_by_task(history: History) -> dict[str, Points]:
    lines: dict[str, Points] = defaultdict(list)
    for task in sorted(history.tasks, key=lambda task: task.end):
        points = lines[task.worker]
        so_far = points[-1][1] if points else 0.0
        points += [(task.start, so_far), (task.end, so_far + task.spilled)]
    return lines


def _line(points: Points, time: _Time) -> Points:
    """Make a line of what was looked at only once: it lasts to the end."""
    return points if len(points) > 1 else [*points, (time.started + time.seconds, points[0][1])]


def _by_worker(
    lines: Mapping[str, Points], time: _Time, most: float, note: str, limits: Sequence[int] = ()
) -> Chart:
    scale, unit = byte_unit(most)
    workers = sorted(lines, key=_natural)
    end = time.seconds / time.scale
    thin = {worker: _thinned(_line(lines[worker], time)) for worker in workers}
    few = len(workers) <= len(SERIES)
    columns: Columns = {
        "xs": [[time(at) for at, _ in thin[worker]] for worker in workers],
        "ys": [[value / scale for _, value in thin[worker]] for worker in workers],
        "worker": [_worker_label(worker, 2 * _WORKER_LABEL) for worker in workers],
        "colour": [SERIES[n] if few else SERIES[0] for n in range(len(workers))],
        "alpha": [0.9 if few else 0.45 for _ in workers],
        "most": [format_bytes(max(value for _, value in lines[worker])) for worker in workers],
    }
    limit_columns: Columns = {
        "x0": [0.0 for _ in limits],
        "x1": [end for _ in limits],
        "y": [limit / scale for limit in limits],
        "text": [f"limit {format_bytes(limit)}" for limit in limits],
    }
    settings = time.settings | _values(most / scale) | {"legend": {"visible": few}}
    return Chart({"lines": columns, "limit": limit_columns}, settings, unit, note)
