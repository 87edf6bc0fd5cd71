"""Memory of each worker over time, and its limit."""

from __future__ import annotations

from collections import defaultdict

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import Chart, Picture, RunView
from daskmr.diagnostics.plotting.curves import Points
from daskmr.text import format_bytes

__all__ = ["PICTURES"]

_FAR = 5.0  # times what is held: a limit beyond that would flatten the lines


def _chart(run: RunView) -> Chart | None:
    lines: dict[str, Points] = defaultdict(list)
    limits: set[int] = set()
    for look in run.history.looks:
        for worker in look.workers:
            lines[worker.name].append((look.at, float(worker.memory)))
            limits.add(worker.limit)
    if not plots.highest(lines):
        lines = defaultdict(list)
        for task in sorted(run.history.tasks, key=lambda task: task.start):
            if task.memory:
                held = float(task.memory)
                lines[task.worker] += [(task.start, held), (task.end, held)]
    most = plots.highest(lines)
    if not most:
        return None
    note = f"at most {format_bytes(most)}"
    limit = min(limits - {0}, default=0)
    near = 0 < limit <= _FAR * most
    if limit:
        share = f"{100 * most / limit:.0f}%" if most >= limit / 100 else "less than 1%"
        note += f", {share} of the limit of {format_bytes(limit)}"
        note += "" if near else ", which is beyond this picture"
    return plots.lines_chart(lines, run.time, note, [limit] if near else [])


PICTURES = (
    Picture("memory", "Memory of each worker", "Over time", 15, _chart, plots.lines_figure),
)
