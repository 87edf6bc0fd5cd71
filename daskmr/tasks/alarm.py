"""An alarm that interrupts what takes too long, where it runs in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["TimeIsUp", "alarm"]


class TimeIsUp(BaseException):
    """The alarm; not an ``Exception``, which a script may catch."""


@contextmanager
def alarm(seconds: float | None) -> Iterator[list[None]]:
    """Raise TimeIsUp in the block after so many seconds, where this thread can get a signal.

    - `seconds`: ``None`` sets no alarm.
    Yields not empty once the alarm has rung, though the script may have swallowed what it raised.

    Examples
    --------
    >>> try:
    ...     with alarm(0.01) as rung:
    ...         while True:
    ...             pass
    ... except TimeIsUp:
    ...     bool(rung)
    True
    """
    rung: list[None] = []
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield rung
        return

    def ring(signum: int, frame: object) -> None:
        rung.append(None)
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again, should the script swallow it
    try:
        yield rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
