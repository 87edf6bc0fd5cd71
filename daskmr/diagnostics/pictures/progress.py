"""Draw the progress of each phase over time."""

from __future__ import annotations

from daskmr.diagnostics import plotting
from daskmr.diagnostics.pace import share
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.history import PHASES, History

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    rows = []
    for phase in PHASES:
        points = _progress_of(run.history, phase)
        if len(points) > 1:
            xs, ys = [run.time(at) for at, _ in points], [100 * done for _, done in points]
            rows.append((xs, ys, plotting.COLOURS[phase], phase, f"{ys[-1]:.0f}%"))
    if not rows:
        return None
    columns = plotting.columns_of("xs ys colour phase text", rows)
    return Chart({"lines": columns}, run.time.settings, "% of each phase")


def _progress_of(history: History, phase: str) -> plotting.Points:
    seen = [
        (look.at, share(look.progress[phase])) for look in history.looks if phase in look.progress
    ]
    points = plotting.monotonic((at, done) for at, done in seen if done is not None)
    tasks = [task for task in history.tasks if task.phase == phase]
    if len(points) < 2 and tasks:
        ends = sorted(task.end for task in tasks)
        first = min(task.start for task in tasks)
        points = [(first, 0.0), *((end, (i + 1) / len(ends)) for i, end in enumerate(ends))]
    return plotting.thinned(points)


def _figure(time: Range) -> Figure:
    made = plotting.time_figure(plotting.TALL, time)
    made.y_range.update(start=0, end=104)
    plotting.add_lines(made, "text", "phase", ("done", "@text"), line_width=2.5)
    return made


PICTURES = (Picture("progress", "Progress", 13, _chart, _figure),)
