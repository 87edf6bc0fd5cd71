"""Processes that the user's code may not start: pools of them, which may hang."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

from daskmr.job.tracebacks import NO_CHILDREN

__all__ = ["no_children"]

_refusing: set[int] = set()  # threads


@contextmanager
def no_children() -> Iterator[None]:
    """Refuse, in this thread and to a job's script in any, to start processes by ``multiprocessing`` and what is built on it.

    A pool that a task starts may wait for ever: its processes are forks of one that has threads, or
    cannot import the script. Dask's workers refuse that unless ``distributed.worker.daemon`` is
    false; this does so everywhere alike. ``subprocess`` is not concerned.

    Examples
    --------
    >>> import multiprocessing
    >>> with no_children():
    ...     multiprocessing.Process(target=print).start()
    Traceback (most recent call last):
    AssertionError: daemonic processes are not allowed to have children
    """
    thread = threading.get_ident()
    if thread in _refusing:
        yield
        return
    _watch_starts()
    _refusing.add(thread)
    try:
        yield
    finally:
        _refusing.discard(thread)


@functools.cache
def _watch_starts() -> None:
    """Look at every start of a process from now on; other threads may start some."""
    start = BaseProcess.start

    def start_or_refuse(process: BaseProcess) -> None:
        if threading.get_ident() in _refusing or _is_called_by_script():
            raise AssertionError(NO_CHILDREN)
        start(process)

    BaseProcess.start = start_or_refuse  # type: ignore[assignment, method-assign]


def _is_called_by_script() -> bool:
    """Look for a function of a job's script on the stack: it may run in a thread of its own."""
    frame = sys._getframe(1).f_back
    while frame is not None:
        if getattr(frame.f_globals.get("__loader__"), "is_job", False):
            return True
        frame = frame.f_back
    return False
