"""Bytes that each worker has spilled so far."""

from __future__ import annotations

from collections import defaultdict

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import Chart, Picture, RunView
from daskmr.diagnostics.plotting.curves import Points
from daskmr.text import format_bytes

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    lines: dict[str, Points] = defaultdict(list)
    for look in run.history.looks:
        for worker in look.workers:
            lines[worker.name].append((look.at, float(worker.spilled)))
    if not plots.highest(lines):
        lines = defaultdict(list)
        for task in sorted(run.history.tasks, key=lambda task: task.end):
            points = lines[task.worker]
            so_far = points[-1][1] if points else 0.0
            points += [(task.start, so_far), (task.end, so_far + task.spilled)]
    seen = sum(max(value for _, value in points) for points in lines.values())
    if not seen:
        return None
    total = max(seen, float(sum(task.spilled for task in run.history.tasks)))
    return plots.lines_chart(lines, run.time, f"{format_bytes(total)} in all")


PICTURES = (
    Picture("spill", "Spilled by each worker, so far", "Over time", 16, _chart, plots.lines_figure),
)
