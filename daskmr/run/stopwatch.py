"""Time the phases of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daskmr import clock

if TYPE_CHECKING:
    from daskmr.run.execution import Outcome

__all__ = ["Stopwatch"]


class Stopwatch:
    """A stopwatch for the phases of a run, by the run's own clock.

    - `started`: start of the run, in seconds since the epoch.
    - `seconds`: duration of each phase, in the order in which they began.
    """

    def __init__(self) -> None:
        clock.restart()
        self.started = self._since = clock.now()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str | None = None) -> None:
        """Add the time since the last lap to a phase; discard it if there is none."""
        now = clock.now()
        if phase is not None:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def add_tasks(self, outcome: Outcome) -> None:
        """Add the phases that the workers timed, in each step of the job."""
        mapping, reducing = outcome.tally.mapping, outcome.reducing
        if mapping is not None:
            self._add("map", mapping.end - mapping.start)
            if reducing is not None:
                self._add("merge", max(0.0, reducing.start - mapping.end))
                self._add("reduce", reducing.end - reducing.start)

    def _add(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
