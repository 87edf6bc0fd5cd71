"""Curves as lists of (time, value) points, and values in between. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise

from daskmr.history import TaskSpan

__all__ = ["INSTANT", "Points", "increases", "monotonic", "spread", "thinned"]

Points = list[tuple[float, float]]

INSTANT = 1e-3  # seconds, to keep points apart
_MAX_POINTS = 480


def monotonic(points: Iterable[tuple[float, float]]) -> Points:
    """Sort points by time, and keep the highest value so far where a total fell back.

    >>> monotonic([(2, 5.0), (1, 3.0), (3, 4.0)])
    [(1, 3.0), (2, 5.0), (3, 5.0)]
    """
    ordered = sorted(points)
    values = accumulate((value for _, value in ordered), max)
    return [(at, value) for (at, _), value in zip(ordered, values, strict=True)]


def spread(tasks: Iterable[TaskSpan], measure: Callable[[TaskSpan], float]) -> Points:
    """Return the running total of what tasks did, each spread evenly over its time."""
    changes: dict[float, float] = defaultdict(float)
    for task in tasks:
        end = max(task.end, task.start + INSTANT)
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


def increases(points: Points, edges: Sequence[float]) -> list[float]:
    """Return how fast a running total grew between each two edges, per second."""
    grown = pairwise((edge, _value_at(points, edge)) for edge in edges)
    return [(after - before) / (end - start) for (start, before), (end, after) in grown]


def _value_at(points: Points, time: float) -> float:
    """Interpolate linearly; before the first and after the last point the curve is level."""
    index = bisect_right(points, time, key=lambda point: point[0])
    if index in (0, len(points)):
        return points[max(0, index - 1)][1]
    (t0, v0), (t1, v1) = points[index - 1], points[index]
    return v0 + (v1 - v0) * (time - t0) / (t1 - t0)


def thinned(points: Points) -> Points:
    """Keep evenly chosen points, and the last, where there are more than a picture can show."""
    step = math.ceil(len(points) / _MAX_POINTS)
    return [*points[:-1:step], points[-1]] if step > 1 else points
