"""Compute speed and remaining time of a run from snapshots."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from daskmr.history import Look, Progress

__all__ = ["Pace", "share"]

_RECENT_SECONDS = 10.0  # over which speed is measured
_LONG_SECONDS = 60.0  # over which the remaining time is estimated
_LEAST_SECONDS = 1.5  # of a phase that must pass before its end is estimated
_LEAST_SHARE = 0.02
_NOTHING = Look(0.0, "")


class Pace:
    """The speed and remaining time as of the last snapshot.

    Examples
    --------
    >>> from daskmr.counts import Counts
    >>> pace = Pace()
    >>> for at in range(11):
    ...     done = Progress(bytes=at * 10, bytes_total=200)
    ...     pace.add(Look(1000.0 + at, "map", {"map": done}, Counts(records=at * 5)))
    >>> pace.records, pace.bytes, pace.left
    (5.0, 10.0, 10.0)
    """

    def __init__(self) -> None:
        self._snapshots: deque[Look] = deque()

    def add(self, look: Look) -> None:
        """Add a snapshot."""
        last = self._snapshots[-1] if self._snapshots else look
        if last.phase != look.phase or last.records > look.records:  # or the same of the next step
            self._snapshots.clear()
        progress = _progress(look)
        if not self._snapshots and not (progress.bytes or progress.tasks):
            return  # the time before the first result does not count
        self._snapshots.append(look)
        while look.at - self._snapshots[0].at > _LONG_SECONDS:
            self._snapshots.popleft()

    @property
    def records(self) -> float | None:
        """Recent records per second; ``None`` while unknown."""
        return self._rate(lambda look: look.records)

    @property
    def bytes(self) -> float | None:
        """Recent bytes per second, as stored; ``None`` while unknown."""
        return self._rate(lambda look: look.progress.get("map", Progress()).bytes)

    @property
    def left(self) -> float | None:
        """Estimated seconds to the end of the phase; ``None`` while unknown."""
        first, last, seconds = self._recent(_LONG_SECONDS)
        if seconds < _LEAST_SECONDS:
            return None
        before, done = (share(_progress(look)) or 0.0 for look in (first, last))
        if done < _LEAST_SHARE or done <= before:
            return None
        return (1 - done) * seconds / (done - before)

    def _rate(self, measure: Callable[[Look], int]) -> float | None:
        first, last, seconds = self._recent(_RECENT_SECONDS)
        return (measure(last) - measure(first)) / seconds if seconds > 0 else None

    def _recent(self, seconds: float) -> tuple[Look, Look, float]:
        """Return the first snapshot of the last `seconds`, the last, and the time between them."""
        last = self._snapshots[-1] if self._snapshots else _NOTHING
        first = next((look for look in self._snapshots if last.at - look.at <= seconds), last)
        return first, last, last.at - first.at


def _progress(look: Look) -> Progress:
    return look.progress.get(look.phase, Progress())


def share(progress: Progress) -> float | None:
    """Return the share of a phase that is done; ``None`` if its total is unknown.

    >>> share(Progress(tasks=1, tasks_total=2, bytes=3, bytes_total=4)), share(Progress(tasks=5))
    (0.75, None)
    """
    for done, total in (
        (progress.bytes, progress.bytes_total),
        (progress.tasks, progress.tasks_total),
        (progress.files, progress.files_total),
    ):
        if total > 0:
            return min(1.0, done / total)
    return None
