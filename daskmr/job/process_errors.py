"""Errors that are caused by the process that runs the script, not by its data."""

from __future__ import annotations

import dis
import functools
import io
import multiprocessing
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import TracebackType

from daskmr.job.tracebacks import message_of

__all__ = ["explain_process_error", "no_children"]

_SIGNALS = (
    "Signal handlers can only be set in the main thread, and a worker process runs the script in "
    "another: remove that code, or run with --inline."
)
_CHILDREN = (
    "A job cannot start processes with multiprocessing, ProcessPoolExecutor or joblib: daskmr already "
    "runs it in one process per core. Call the function directly, or use threads "
    "(ThreadPoolExecutor) or subprocess."
)
_CLOSED = (
    "The script used a file or similar object that it had closed or detached before: open it where "
    "it is used. No record is skipped for this."
)
_UNSUPPORTED = (
    "The script used a file that does not support this: in a task, standard input, output and "
    "error are not real files. No record is skipped for this."
)
_IMPORT = (
    "A module failed while it was imported, which is not the record's fault. Repair its "
    "installation, and import it at the top of the script to notice such errors at once."
)
_PROCESS = (
    "This is caused by how the script is run, not by the data, so no record is skipped for it."
)

# C code raises these as a plain ValueError, with the script's own frame as the innermost one. The
# patterns match whole messages without data, so a message that quotes a record never matches.
_BY_MESSAGE = {
    r"[\w.() ]+ only works in (the )?main thread[\w ]*\.?": _SIGNALS,
    r"(I/O|invalid) operation on (closed|uninitialized) [\w ]+\.?"
    r"|(flush|peek|read|seek|tell|truncate|write)\w*(\(\))? (of|to|on) closed (file|\w+ object)\.?"
    r"|Attempt to (use|write to) ZIP archive that was already closed|mmap closed or invalid"
    r"|underlying buffer has been detached|raw stream has been detached"
    r"|operation forbidden on released memoryview object": _CLOSED,
    r"generator already executing": _PROCESS,
}
_PROCESS_MODULES = frozenset(("concurrent", "daskmr", "multiprocessing", "selectors", "threading"))
_STANDARD_ERRORS = frozenset(("io", "ssl"))
_CHAIN_SHOWN = 10


class ProcessStartRefused(AssertionError):
    """Raised like the error of multiprocessing in a daemon: libraries expect its type and text."""

    def __init__(self) -> None:
        super().__init__("daemonic processes are not allowed to have children")


_refusing: set[int] = set()  # ids of threads


@contextmanager
def no_children() -> Iterator[None]:
    """Refuse processes started by ``multiprocessing``, in this thread and from a job's script.

    A pool that a task starts may wait forever: its processes are forks of one that has threads, or
    cannot import the script. Dask workers refuse this unless ``distributed.worker.daemon`` is false;
    this function refuses it everywhere. ``subprocess`` is not affected.
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
    """Check every start of a process from now on."""
    start = BaseProcess.start

    def start_or_refuse(process: BaseProcess) -> None:
        # The script may call this in its own thread.
        by_script = any(
            getattr(frame.f_globals.get("__loader__"), "is_job", False)
            for frame, _ in traceback.walk_stack(sys._getframe())
        )
        if by_script or threading.get_ident() in _refusing:
            raise ProcessStartRefused
        start(process)

    BaseProcess.start = start_or_refuse  # type: ignore[assignment, method-assign]


def explain_process_error(exc: BaseException, *, loading: bool = False) -> str:
    """Explain an error of the process that runs the script; return ``""`` for any other.

    A ``ValueError`` makes its record a bad one, but Python raises some that are unrelated to the
    record, and that all records of a process would cause.

    - `loading`: whether the script was being loaded, so that its modules were being imported.

    >>> explain_process_error(ValueError("I/O operation on closed file."))[:22]
    'The script used a file'
    >>> explain_process_error(ValueError("invalid literal: 'I/O operation on closed file.'"))
    ''
    """
    current: BaseException | None = exc
    for _ in range(_CHAIN_SHOWN):
        if current is None:
            break
        if explanation := _explain_one(current, loading):
            return explanation
        current = _translated(current)
    return ""


def _explain_one(exc: BaseException, loading: bool) -> str:
    inner = _innermost(exc)
    module = str(inner.tb_frame.f_globals.get("__name__", "")) if inner else ""
    if isinstance(exc, AssertionError):
        by_python = module == BaseProcess.__module__ and multiprocessing.current_process().daemon
        return _CHILDREN if by_python or isinstance(exc, ProcessStartRefused) else ""
    message = message_of(exc)
    for pattern, explanation in _BY_MESSAGE.items():
        if re.fullmatch(pattern, message):
            return explanation
    if not isinstance(exc, ValueError):
        return ""
    if isinstance(exc, io.UnsupportedOperation):
        return _UNSUPPORTED
    if isinstance(exc, OSError) and type(exc).__module__ in _STANDARD_ERRORS:
        return _PROCESS
    frames = [frame for frame, _ in traceback.walk_tb(exc.__traceback__)]
    modules = [each for each in frames if each.f_code.co_name == "<module>"]
    if not loading and any(m.f_globals.get("__file__") == m.f_code.co_filename for m in modules):
        return _IMPORT
    if module == "signal":
        return _SIGNALS
    # C code that these modules call (`int` in a `map` that they iterate over) raises errors of data.
    # An error from another process is raised again here, and its cause is a text of its traceback.
    own = module.partition(".")[0] in _PROCESS_MODULES and exc.__cause__ is None
    return _PROCESS if own and inner and _is_raise(inner) and not loading else ""


def _innermost(exc: BaseException) -> TracebackType | None:
    trace = exc.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace


def _is_raise(trace: TracebackType) -> bool:
    """Check whether a frame is at a ``raise`` statement, not at a call of C code that raises."""
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _translated(exc: BaseException) -> BaseException | None:
    """Return the error that a function caught, and replaced by raising `exc`."""
    context, inner = exc.__context__, _innermost(exc)
    if exc.__cause__ is not None:
        return exc.__cause__
    if context is None or context.__traceback__ is None or inner is None or not _is_raise(inner):
        return None
    return context if context.__traceback__.tb_frame is inner.tb_frame else None
