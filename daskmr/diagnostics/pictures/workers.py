"""Draw a line per worker over time: its memory, with the limit, and the bytes that it has spilled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from daskmr.diagnostics import plotting
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.history import History
from daskmr.text import byte_unit, format_bytes

__all__ = ["PICTURES", "lines_chart"]

_SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#4d4d4d")  # if this many suffice
_LIMIT = "#d55e00"
_LABEL = 28  # characters
_FAR = 5.0  # times the highest value; a limit beyond that would flatten the lines


def lines_chart(
    lines: Mapping[str, plotting.Points],
    time: plotting.TimeAxis,
    note: str,
    limits: Sequence[int] = (),
) -> Chart:
    """Chart bytes by worker, and limits as dashed lines."""
    top = max([_highest(lines), *map(float, limits)])
    scale, unit = byte_unit(top)
    few = len(lines) <= len(_SERIES)
    rows = []
    for n, worker in enumerate(sorted(lines, key=plotting.natural)):
        points = lines[worker]
        most = format_bytes(max(value for _, value in points))
        if len(points) == 1:  # draw a horizontal line
            points = [*points, (time.started + time.seconds, points[0][1])]
        drawn = plotting.thinned(points)
        xs, ys = [time(at) for at, _ in drawn], [value / scale for _, value in drawn]
        colour, alpha = (_SERIES[n], 0.9) if few else (_SERIES[0], 0.45)
        rows.append((xs, ys, plotting.worker_label(worker, _LABEL), colour, alpha, most))
    end = time.seconds / time.scale
    dashed = [(0.0, end, limit / scale, f"limit {format_bytes(limit)}") for limit in limits]
    sources = {
        "lines": plotting.columns_of("xs ys worker colour alpha most", rows),
        "limit": plotting.columns_of("x0 x1 y text", dashed),
    }
    settings = time.settings | plotting.value_range(top / scale) | {"legend": {"visible": few}}
    return Chart(sources, settings, unit, note)


def _figure(time: Range) -> Figure:
    made = plotting.time_figure(plotting.TALL, time)
    hover = ("at most", "@most")
    plotting.add_lines(made, "alpha most", "worker", hover, line_alpha="alpha", line_width=1.8)
    limit = plotting.empty_source("x0 x1 y text")
    ends = {"x0": "x0", "x1": "x1", "y0": "y", "y1": "y", "source": limit, "name": "limit"}
    made.segment(line_color=_LIMIT, line_dash=[6, 4], line_width=1.5, **ends)
    place = {"y_offset": 4, "text_align": "right", "text_baseline": "top"}
    made.text(x="x1", y="y", text="text", source=limit, text_color=_LIMIT, **place)
    return made


def _highest(lines: Mapping[str, plotting.Points]) -> float:
    return max((value for points in lines.values() for _, value in points), default=0.0)


def _seen(history: History, measure: str) -> dict[str, plotting.Points]:
    lines: dict[str, plotting.Points] = defaultdict(list)
    for look in history.looks:
        for worker in look.workers:
            lines[worker.name].append((look.at, float(getattr(worker, measure))))
    return lines


def _memory(run: RunView) -> Chart | None:
    lines = _seen(run.history, "memory")
    if not _highest(lines):
        lines = defaultdict(list)
        for task in sorted(run.history.tasks, key=lambda task: task.start):
            if task.memory:
                held = float(task.memory)
                lines[task.worker] += [(task.start, held), (task.end, held)]
    most = _highest(lines)
    if not most:
        return None
    note = f"at most {format_bytes(most)}"
    limits = {worker.limit for look in run.history.looks for worker in look.workers}
    limit = min(limits - {0}, default=0)
    near = 0 < limit <= _FAR * most
    if limit:
        share = f"{100 * most / limit:.0f}%" if most >= limit / 100 else "less than 1%"
        note += f", {share} of the limit of {format_bytes(limit)}"
        note += "" if near else ", which is off the chart"
    return lines_chart(lines, run.time, note, [limit] if near else [])


def _spilled(run: RunView) -> Chart | None:
    lines = _seen(run.history, "spilled")
    if not _highest(lines):
        lines = defaultdict(list)
        for task in sorted(run.history.tasks, key=lambda task: task.end):
            points = lines[task.worker]
            so_far = points[-1][1] if points else 0.0
            points += [(task.start, so_far), (task.end, so_far + task.spilled)]
    seen = sum(max(value for _, value in points) for points in lines.values())
    if not seen:
        return None
    total = max(seen, float(sum(task.spilled for task in run.history.tasks)))
    return lines_chart(lines, run.time, f"{format_bytes(total)} in total")


PICTURES = (
    Picture("memory", "Memory of each worker", 15, _memory, _figure),
    Picture("spill", "Spilled by each worker, so far", 16, _spilled, _figure),
)
