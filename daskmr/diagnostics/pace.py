"""How fast a run is, and how long it may take yet: from looks at it. Pure."""

from __future__ import annotations

from collections import deque

from daskmr.history import Look, Progress

__all__ = ["Pace", "format_seconds"]

_RECENT_SECONDS = 10.0  # over which what is called the speed is measured
_LONG_SECONDS = 60.0  # over which what is left is estimated
_LEAST_SECONDS = 1.5  # of a phase, before anything is said of its end
_LEAST_SHARE = 0.02


class Pace:
    """Speed and time left, as of the last look.

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
        self._looks: deque[Look] = deque()

    def add(self, look: Look) -> None:
        """Take another look into account."""
        if self._looks and self._looks[-1].phase != look.phase:
            self._looks.clear()
        if not self._looks and not _done(look):
            return  # what comes before the first result is no part of the speed
        self._looks.append(look)
        while look.at - self._looks[0].at > _LONG_SECONDS:
            self._looks.popleft()

    @property
    def records(self) -> float | None:
        """Lines a second, lately; ``None`` while that is not known."""
        pair = self._recent(_RECENT_SECONDS)
        return None if pair is None else (pair[1].records - pair[0].records) / _seconds(*pair)

    @property
    def bytes(self) -> float | None:
        """Bytes a second, as stored, lately; ``None`` while that is not known."""
        pair = self._recent(_RECENT_SECONDS)
        if pair is None:
            return None
        first, last = (look.progress.get("map", Progress()).bytes for look in pair)
        return (last - first) / _seconds(*pair)

    @property
    def left(self) -> float | None:
        """Seconds that the phase may take yet; ``None`` while that is not known."""
        pair = self._recent(_LONG_SECONDS)
        if pair is None or _seconds(*pair) < _LEAST_SECONDS:
            return None
        first, last = map(_share, pair)
        if last < _LEAST_SHARE or last <= first:
            return None
        return (1 - last) * _seconds(*pair) / (last - first)

    def _recent(self, seconds: float) -> tuple[Look, Look] | None:
        """The last look, and the one so many seconds before it."""
        if len(self._looks) < 2:
            return None
        last = self._looks[-1]
        first = next(look for look in self._looks if last.at - look.at <= seconds)
        return None if first is last or last.at <= first.at else (first, last)


def _seconds(first: Look, last: Look) -> float:
    return last.at - first.at


def _done(look: Look) -> bool:
    progress = look.progress.get(look.phase, Progress())
    return bool(progress.bytes or progress.tasks)


def _share(look: Look) -> float:
    progress = look.progress.get(look.phase, Progress())
    if progress.bytes_total:
        return progress.bytes / progress.bytes_total
    return progress.tasks / progress.tasks_total if progress.tasks_total else 0.0


def format_seconds(seconds: float) -> str:
    """Write a time for people.

    >>> format_seconds(7.6), format_seconds(3725)
    ('0:08', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
