"""How much of each phase was done over time."""

from __future__ import annotations

from daskmr.diagnostics.pace import share
from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import (
    COLOURS,
    Chart,
    Columns,
    Figure,
    Picture,
    Range,
    RunView,
)
from daskmr.diagnostics.plotting.curves import Points, monotonic, thinned
from daskmr.history import PHASES, History

__all__ = ["PICTURES"]


def _chart(run: RunView) -> Chart | None:
    lines = {phase: _progress_of(run.history, phase) for phase in PHASES}
    drawn = {phase: points for phase, points in lines.items() if len(points) > 1}
    if not drawn:
        return None
    columns: Columns = {
        "xs": [[run.time(at) for at, _ in points] for points in drawn.values()],
        "ys": [[100 * done for _, done in points] for points in drawn.values()],
        "phase": list(drawn),
        "colour": [COLOURS[phase] for phase in drawn],
        "text": [f"{100 * points[-1][1]:.0f}%" for points in drawn.values()],
    }
    return Chart({"lines": columns}, run.time.settings, "% of each phase")


def _progress_of(history: History, phase: str) -> Points:
    seen = [
        (look.at, share(look.progress[phase])) for look in history.looks if phase in look.progress
    ]
    points = monotonic((at, done) for at, done in seen if done is not None)
    tasks = [task for task in history.tasks if task.phase == phase]
    if len(points) < 2 and tasks:
        ends = sorted(task.end for task in tasks)
        first = min(task.start for task in tasks)
        points = [(first, 0.0), *((end, (i + 1) / len(ends)) for i, end in enumerate(ends))]
    return thinned(points)


def _figure(time: Range) -> Figure:
    made = plots.time_figure(plots.TALL, time)
    lines = made.multi_line(
        xs="xs",
        ys="ys",
        source=plots.empty_source("xs ys phase colour text"),
        name="lines",
        line_color="colour",
        line_width=2.5,
        line_join="round",
        legend_field="phase",
    )
    made.y_range.update(start=0, end=104)
    plots.add_legend(made)
    plots.add_hover(made, lines, ("phase", "@phase"), ("done", "@text"), line_policy="nearest")
    return made


PICTURES = (Picture("progress", "Progress", "Over time", 13, _chart, _figure),)
