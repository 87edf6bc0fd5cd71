"""What the user's functions print and log: told line by line, with the record or key it is about.

While a task runs, ``sys.stdout`` and ``sys.stderr`` pass on what its thread writes, and only that.
Where a line comes from is read from the stack when it is written, so that a job that prints nothing
pays nothing. What a debugger writes goes straight to the terminal, and so does its prompt.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from daskmr.job.job import Job
from daskmr.job.tracebacks import elide
from daskmr.stdio import keep_alive
from daskmr.tasks.guard import shortened
from daskmr.tasks.progress import Printed, tell
from daskmr.tasks.user_calls import NO_KEY, Call, call_of
from daskmr.worker import worker_name

__all__ = ["Rate", "listened", "printing"]

_LONGEST = 2_000  # characters of a line
_BURST = 100  # lines that a process may tell at once
_A_SECOND = 10.0  # and on the whole
_TELL_EVERY = 0.5  # seconds at least between two times that nothing is told but what was left out
_DEBUGGERS = frozenset(("bdb", "code"))  # modules that are on the stack of whatever debugs


@contextlib.contextmanager
def printing(run_dir: str | None, job: Job) -> Iterator[None]:
    """Tell what this thread prints in the block.

    - `run_dir`: the run's folder, as this process sees it; ``None`` leaves everything as it is.
    - `job`: knows which code is the user's.
    """
    thread = threading.get_ident()
    if run_dir is None or thread in _captures:
        yield
        return
    capture = _captures[thread] = _Capture(run_dir, job)
    try:
        with listened():
            yield
    finally:
        capture.end()
        del _captures[thread]


@contextlib.contextmanager
def listened() -> Iterator[None]:
    """Have `sys.stdout` and `sys.stderr` be streams that can be listened to.

    What keeps one of them, as a handler of `logging` does, is listened to in later tasks too.
    """
    before = sys.stdout, sys.stderr
    streams = sys.stdout, sys.stderr = _proxy(before[0]), _proxy(before[1])
    try:
        yield
    finally:  # what the script has put there itself stays
        if sys.stdout is streams[0]:
            sys.stdout = before[0]
        if sys.stderr is streams[1]:
            sys.stderr = before[1]


def _proxy(stream: Any) -> Any:
    if stream is None or isinstance(stream, _Stream):
        return stream
    for proxy in _proxies:
        if proxy.stands_for(stream):
            return proxy
    proxy = keep_alive(_Stream(stream))
    _proxies.append(proxy)
    return proxy


class _Stream:
    """Stands for ``sys.stdout`` or ``sys.stderr``. In all but writing it is that stream.

    It may be kept, as a handler of `logging` does: for threads that run no task it is the stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def stands_for(self, stream: TextIO) -> bool:
        return self._stream is stream

    def write(self, text: str) -> int:
        capture = _captures.get(threading.get_ident())
        if capture is None or not capture.take(id(self._stream), text, sys._getframe(1)):
            return self._stream.write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        capture = _captures.get(threading.get_ident())
        if capture is not None:
            capture.flush(id(self._stream))
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Rate:
    """Lets so many things pass at once, and so many a second on the whole.

    Examples
    --------
    >>> rate = Rate(2, 0.001)
    >>> [rate.allows() for _ in range(3)]
    [True, True, False]
    """

    def __init__(self, burst: int, a_second: float) -> None:
        self._burst = burst
        self._a_second = a_second
        self._room = float(burst)
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Whether one more may pass now."""
        now = time.monotonic()
        self._room = min(self._burst, self._room + (now - self._at) * self._a_second)
        self._at = now
        if self._room < 1:
            return False
        self._room -= 1
        return True


class _Tasks:
    """What all tasks of this process have printed."""

    def __init__(self) -> None:
        self.rate = Rate(_BURST, _A_SECOND)
        self.left_out = 0
        self.told = 0.0  # when it was last told how many were left out, by the monotonic clock


_all = _Tasks()


class _Capture:
    """What one task prints."""

    def __init__(self, run_dir: str, job: Job) -> None:
        self._run_dir = run_dir
        self._job = job
        self._open: dict[int, tuple[str, Printed]] = {}  # lines that have not ended, by stream
        self._busy = False

    def take(self, stream: int, text: str, frame: FrameType) -> bool:
        """Take what was written; ``False`` leaves it to the stream."""
        if self._busy or not isinstance(text, str) or _is_debugging(frame):
            return False
        before, place = self._open.pop(stream, ("", None))
        *lines, rest = (before + text).split("\n")
        for line in lines:
            self._tell(line, place, frame)
            place = None
        if rest:
            self._open[stream] = rest[: _LONGEST + 1], place or self._place(frame)
        return True

    def flush(self, stream: int) -> None:
        """Tell a line that has not ended."""
        if not self._busy and stream in self._open:
            text, place = self._open.pop(stream)
            self._tell(text, place, None)

    def end(self) -> None:
        """Tell what there is left to tell."""
        for stream in list(self._open):
            self.flush(stream)
        if _all.left_out and time.monotonic() - _all.told > _TELL_EVERY:
            self._say(Printed("", worker=worker_name(), at=time.time()))

    def _tell(self, text: str, place: Printed | None, frame: FrameType | None) -> None:
        """Tell a line, if there have not been too many."""
        if not _all.rate.allows():
            _all.left_out += 1
            return
        self._say((place or self._place(frame))._replace(text=elide(text, _LONGEST)))

    def _say(self, printed: Printed) -> None:
        left_out, _all.left_out, _all.told = _all.left_out, 0, time.monotonic()
        self._busy = True  # whoever is told may print too
        try:
            tell(self._run_dir, printed._replace(left_out=left_out))
        finally:
            self._busy = False

    def _place(self, frame: FrameType | None) -> Printed:
        """Find the line of the script, and what it was called for, on the stack."""
        script, script_line, call = "", 0, None
        while frame is not None and call is None:
            code = frame.f_code
            if not script and self._job.is_user_file(code.co_filename):
                script, script_line = os.path.basename(code.co_filename), frame.f_lineno
            call = call_of(frame)
            frame = frame.f_back
        call = call or Call("")
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


_captures: dict[int, _Capture] = {}  # by thread
_proxies: deque[_Stream] = deque(maxlen=8)  # one for a stream, however many tasks there are


def _is_debugging(frame: FrameType | None) -> bool:
    """Whether a debugger has stopped the user's code, and writes this, or what it is told to."""
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False
