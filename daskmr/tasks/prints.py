"""Report lines that the user's functions print and log, with the current record or key.

While a task runs, ``sys.stdout`` and ``sys.stderr`` report the output of its thread only. The record
and the line of the script are looked up when a line is written (in `user_calls.current_call` and on
the stack), so this costs nothing for a job that prints nothing. A debugger writes to the terminal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from traceback import walk_stack
from types import FrameType
from typing import Any, TextIO

from daskmr.job.job import Job
from daskmr.job.tracebacks import elide
from daskmr.stdio import keep_alive
from daskmr.tasks.guard import shortened
from daskmr.tasks.progress import Printed, publish
from daskmr.tasks.user_calls import NO_KEY, Call, current_call
from daskmr.worker import worker_name

__all__ = ["Rate", "printing", "redirected"]

_LONGEST = 2_000  # maximum characters of a line
_BURST = 100  # lines that a process may report at once
_PER_SECOND = 10.0  # lines that a process may report on average
_SUMMARY_EVERY = 0.5  # minimum seconds between two reports that only count omitted lines
_DEBUGGERS = frozenset(("bdb", "code"))  # modules that are on the stack of any debugger


@contextlib.contextmanager
def printing(run_dir: str | None, job: Job) -> Iterator[None]:
    """Report the lines that this thread prints in the block; without a `run_dir`, do nothing."""
    thread = threading.get_ident()
    if run_dir is None or thread in _captures:
        yield
        return
    capture = _captures[thread] = _Capture(run_dir, job)
    try:
        with redirected():
            yield
    finally:
        capture.end()
        del _captures[thread]


@contextlib.contextmanager
def redirected() -> Iterator[None]:
    """Replace `sys.stdout` and `sys.stderr` with streams that `printing` can capture.

    If a handler of `logging`, for example, keeps one of them, its output is also captured in later
    tasks.
    """
    before = sys.stdout, sys.stderr
    streams = sys.stdout, sys.stderr = _proxy(before[0]), _proxy(before[1])
    try:
        yield
    finally:  # keep a stream that the script itself has set
        if sys.stdout is streams[0]:
            sys.stdout = before[0]
        if sys.stderr is streams[1]:
            sys.stderr = before[1]


def _proxy(stream: Any) -> Any:
    if stream is None or isinstance(stream, _Stream):
        return stream
    for proxy in _proxies:
        if proxy.stream is stream:
            return proxy
    proxy = keep_alive(_Stream(stream))
    _proxies.append(proxy)
    return proxy


class _Stream:
    """A proxy of ``sys.stdout`` or ``sys.stderr`` that captures the output of a task's thread.

    Other threads write to the stream, so code may keep it, as a handler of `logging` does.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        return self._write(text, sys._getframe(1))

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self._write(line, sys._getframe(1))

    def _write(self, text: str, frame: FrameType) -> int:
        capture = _captures.get(threading.get_ident())
        if capture is None or not capture.take(id(self.stream), text, frame):
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        capture = _captures.get(threading.get_ident())
        if capture is not None:
            capture.flush(id(self.stream))
        self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class Rate:
    """A token bucket, which allows a burst, and limits the average rate per second.

    Examples
    --------
    >>> rate = Rate(2, 0.001)
    >>> [rate.allows() for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = burst
        self._per_second = per_second
        self._room = float(burst)
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Check whether one more may pass now, and count it."""
        now = time.monotonic()
        self._room = min(self._burst, self._room + (now - self._at) * self._per_second)
        self._at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


class _Output:
    """The printed output of all tasks of this process."""

    def __init__(self) -> None:
        self.rate = Rate(_BURST, _PER_SECOND)
        self.omitted = 0  # lines since the last report
        self.reported = 0.0  # time of the last report, by the monotonic clock


_output = _Output()


class _Capture:
    """The printed output of one task."""

    def __init__(self, run_dir: str, job: Job) -> None:
        self._run_dir = run_dir
        self._job = job
        self._open: dict[int, tuple[str, Printed]] = {}  # lines that have not ended, by stream
        self._busy = False

    def take(self, stream: int, text: str, frame: FrameType) -> bool:
        """Take text that was written, or return ``False`` to write it to the stream."""
        if self._busy or not isinstance(text, str) or _is_debugging(frame):
            return False
        before, place = self._open.pop(stream, ("", None))
        *lines, rest = (before + text).split("\n")
        for line in lines:
            self._report_line(line, place, frame)
            place = None
        if rest:
            self._open[stream] = rest[: _LONGEST + 1], place or self._place(frame)
        return True

    def flush(self, stream: int) -> None:
        """Report a line without a newline."""
        if not self._busy and stream in self._open:
            text, place = self._open.pop(stream)
            self._report_line(text, place, None)

    def end(self) -> None:
        """Report all lines that were not yet reported."""
        for stream in list(self._open):
            self.flush(stream)
        if _output.omitted and time.monotonic() - _output.reported > _SUMMARY_EVERY:
            self._report("", Printed("", worker=worker_name(), at=time.time()))

    def _report_line(self, text: str, place: Printed | None, frame: FrameType | None) -> None:
        if _output.rate.allows():
            self._report(text, place or self._place(frame))
        else:
            _output.omitted += 1

    def _report(self, text: str, place: Printed) -> None:
        omitted, _output.omitted, _output.reported = _output.omitted, 0, time.monotonic()
        self._busy = True  # the listener may also print
        try:
            printed = place._replace(text=elide(text, _LONGEST), left_out=omitted)
            publish(self._run_dir, printed)
        finally:
            self._busy = False

    def _place(self, frame: FrameType | None) -> Printed:
        """Describe the call that writes a line, and find the line of the script on the stack."""
        call = current_call().call or Call("")
        script, script_line = self._script_line(frame)
        return Printed(
            "",
            call.function,
            call.file,
            call.line,
            "" if call.key is NO_KEY else shortened(call.key),
            script,
            script_line,
            worker_name(),
            time.time(),
        )

    def _script_line(self, frame: FrameType | None) -> tuple[str, int]:
        for each, line in walk_stack(frame):
            filename = each.f_code.co_filename
            if self._job.is_user_file(filename):
                return os.path.basename(filename), line
            if current_call().call and each.f_globals.get("__package__") == __package__:
                break  # this frame calls the user's function, whose frame would have come first
        return "", 0


_captures: dict[int, _Capture] = {}  # by thread
_proxies: deque[_Stream] = deque(maxlen=8)  # one for each stream, for all tasks


def _is_debugging(frame: FrameType) -> bool:
    """Check whether a debugger is on the stack, and so produced this text."""
    return any(f.f_globals.get("__name__") in _DEBUGGERS for f, _ in walk_stack(frame))
