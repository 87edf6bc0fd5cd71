"""The standard streams: reserve standard output for the result, and divert printed text."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, TextIO, TypeVar

from daskmr.errors import JobError
from daskmr.text import format_clock

__all__ = [
    "LineStream",
    "Ticker",
    "divert",
    "keep_alive",
    "keep_standard_output",
    "say",
    "standard_output",
]

_T = TypeVar("_T")
_TICK = 1.0  # seconds between two updates of a `Ticker`

_kept: int | None = None
_alive: deque[object] = deque(maxlen=64)


def keep_alive(stream: _T) -> _T:
    """Keep a replacement of ``sys.stdout`` or ``sys.stderr`` from being deleted, and return it.

    ``print`` holds no reference to the stream that it writes to. The process would crash if the
    stream were deleted while another thread is in the middle of a ``print`` to it.
    """
    _alive.append(stream)
    return stream


class Ticker:
    """Shows on a terminal that a command is running: a line after a second, then the time in place.

    - `write`: writes text to the terminal.
    - `first`: the line.
    - `describe`: returns text to show with the time; ``None`` if something else is shown now.
    """

    def __init__(
        self, write: Callable[[str], object], first: str, describe: Callable[[], str | None]
    ) -> None:
        self._write, self._first, self._describe = write, first, describe
        self._started = time.monotonic()
        self._drawn = False
        self._lock = threading.RLock()
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="daskmr-ticker", daemon=True).start()

    @contextmanager
    def cleared(self) -> Iterator[None]:
        """Remove the time while something else is written, after which the line is not needed."""
        with self._lock:
            self._first = ""
            if self._drawn:
                self._put("\r\x1b[K")
            self._drawn = False
            yield

    def stop(self) -> None:
        self._ended.set()
        with self.cleared():
            pass

    def _run(self) -> None:
        while not self._ended.wait(_TICK) and "pdb" not in sys.modules:  # its prompt may be there
            with self._lock:
                if not self._ended.is_set():
                    self._tick()

    def _tick(self) -> None:
        if self._first:
            self._put(f"\r\x1b[K{self._first}\n")
            self._first = ""
        elif (text := self._describe()) is not None:
            time_taken = format_clock(time.monotonic() - self._started)
            line = f"daskmr: {time_taken} {text}"[: shutil.get_terminal_size().columns - 1]
            self._put(f"\r{line}\x1b[K\r")  # printed text may replace it
            self._drawn = True

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):  # the terminal may be gone
            self._write(text)


class LineStream:
    """A proxy of a stream that passes complete lines to `write`; all else is as in the stream."""

    def __init__(self, stream: TextIO, write: Callable[[str], object]) -> None:
        self.stream = stream
        self._write = write
        self._open = ""
        self._released = False

    def write(self, text: str) -> int:
        if self._released:
            return self.stream.write(text)
        lines, newline, self._open = (self._open + text).rpartition("\n")
        if newline:
            self._write(lines + newline)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def release(self) -> None:
        """Pass on an unfinished line; later writes go to the stream, if other code keeps the proxy."""
        self._released = True
        if self._open:
            self._write(f"{self._open}\n")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def divert(names: Iterable[str], write: Callable[[str], object]) -> Callable[[], None]:
    """Pass complete lines that are written to streams in `sys` to `write` instead.

    - `names`: ``"stdout"``, ``"stderr"``, or both.
    - `write`: a function of text that ends with a newline.
    Returns a function that restores the streams, except those replaced in the meantime.
    """
    diverted = {name: keep_alive(LineStream(getattr(sys, name), write)) for name in names}
    vars(sys).update(diverted)

    def restore() -> None:
        for name, stream in diverted.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream.stream)
            stream.release()

    return restore


def keep_standard_output() -> None:
    """Send later output, also that of C code and new processes, to standard error.

    Idempotent; call it before the first process is started.
    """
    global _kept
    if _kept is not None:
        return
    if sys.stderr is None:  # also closed
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        _kept = os.dup(1)
    except OSError:  # closed, as by some supervisors, so the result has no destination
        os.dup2(2, 1)  # first: the number 1 must not be given to another file
        _kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(_kept, False)
    os.dup2(2, 1)
    if sys.stdout is None:
        sys.stdout = sys.stderr


@contextmanager
def standard_output() -> Iterator[IO[bytes]]:
    """Yield the stream for the result, to which nothing else is written."""
    global _kept
    keep_standard_output()
    assert _kept is not None
    kept, _kept = _kept, None
    with os.fdopen(kept, "wb") as stdout:
        yield stdout


def say(stdout: IO[bytes], text: str) -> None:
    """Write text to standard output, and flush it.

    Raises `JobError` if it cannot be written, but BrokenPipeError for a closed pipe.
    """
    try:
        stdout.write(text.encode("utf-8", "backslashreplace"))
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise JobError(f"Standard output cannot be written: {error.strerror}.") from None
