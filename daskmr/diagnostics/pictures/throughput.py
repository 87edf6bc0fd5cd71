"""Bytes and records mapped per second."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import COLOURS, Chart, Picture, RunView
from daskmr.diagnostics.plotting.curves import INSTANT, Points, monotonic, spread
from daskmr.history import History, Look, Progress
from daskmr.text import format_bytes

__all__ = ["PICTURES"]

_FEWEST = 4  # different totals, below which tasks are more precise than snapshots


def _chart(run: RunView, measure: str) -> Chart | None:
    points = _mapped(run.history, measure)
    if not points or points[-1][1] <= 0:
        return None
    total = points[-1][1] - points[0][1]
    average = total / max(points[-1][0] - _first_growth(points), INSTANT)
    text = format_bytes(average) if measure == "bytes" else f"{average:,.0f} records"
    return plots.rate_chart(run.time, points, measure, f"{text}/s on average")


def _mapped(history: History, measure: str) -> Points:
    """Return the total mapped over time, from snapshots where there are enough, else from tasks."""
    mapped = [task for task in history.tasks if task.phase == "map"]
    seen = monotonic((look.at, float(_mapped_by(look, measure))) for look in history.looks)
    if len({value for _, value in seen}) < _FEWEST:
        return spread(mapped, lambda task: getattr(task, measure))
    total = float(sum(getattr(task, measure) for task in mapped))
    if total > seen[-1][1]:  # the last snapshot was taken before the end
        seen.append((max(seen[-1][0] + INSTANT, max(task.end for task in mapped)), total))
    if seen[0][1]:
        seen.insert(0, (min(seen[0][0] - INSTANT, history.started), 0.0))
    return seen


def _mapped_by(look: Look, measure: str) -> int:
    return look.records if measure == "records" else look.progress.get("map", Progress()).bytes


def _first_growth(points: Points) -> float:
    """Return when the total began to grow."""
    for (at, value), (_, later) in pairwise(points):
        if later > value:
            return at
    return points[0][0]


PICTURES = tuple(
    Picture(
        name=name,
        title=title,
        section="Over time",
        position=position,
        chart=partial(_chart, measure=measure),
        figure=partial(plots.rate_figure, colour=COLOURS["map"]),
    )
    for position, name, title, measure in (
        (10, "throughput", "Bytes mapped, as stored", "bytes"),
        (11, "records", "Records mapped", "records"),
    )
)
