"""Progress reports of tasks that run, for the collector on the client.

They are rare and small, and nothing depends on them: what counts comes with the results. Each process
keeps two small files in the run's folder. One holds its current report, and is overwritten; reports of
finished tasks and lines that the script printed are appended to the other. So nothing is sent to a
scheduler, and reports outlive their process. An inline job passes them to a function instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import astuple
from typing import Any, BinaryIO, NamedTuple

from daskmr import clock
from daskmr.counts import NO_COUNTS, Counts
from daskmr.data.spill_dir import Scratch
from daskmr.history import HotKey
from daskmr.memory import resident
from daskmr.tasks.crashes import process_name
from daskmr.worker import worker_address, worker_name

__all__ = [
    "FOLDER",
    "Listener",
    "News",
    "Printed",
    "Report",
    "Reporter",
    "listening",
    "read_news",
    "report_merge",
    "tell",
]

FOLDER = "live"
"""The folder of these files, in the run's."""

_EVERY = 0.4  # seconds at least between two reports of a process
# Reports are named tuples: to define a data class takes a millisecond, before each job.
_NOW = ".now"
_LOG = ".log"
_MOST_READ = 1 << 20  # bytes of one file at a time, as a script may print much


class Report(NamedTuple):
    """A progress report of a task."""

    # As those of a `daskmr.tasks.crashes.Mark`
    phase: str
    number: int
    process: str  # a name that no other process ever has
    # The worker's name, and its address on the cluster; ``"inline"`` and ``""`` without one
    worker: str
    address: str
    # When the task began, and when the report was made, in seconds of the epoch
    start: float
    at: float
    done: bool = False  # whether the task is done
    file: str = ""  # the file that it maps, relative to the data dir, or ``""``
    fetching: bool = False  # it waits for that file
    counts: Counts = NO_COUNTS  # what it has done so far
    memory: int = 0  # bytes that the process holds
    merges: int = 0  # how many merges of two the process has done in this run
    hot: Sequence[Sequence[Any]] = ()  # of a mapper that is done, what its `HotKey` are made of


class Printed(NamedTuple):
    """A line that the script printed or logged."""

    text: str  # without its newline; shortened where it is long
    # The user's function that was called: ``"map"``, ``"reduce"``, ...; ``""`` is the script
    # itself, as it is loaded.
    function: str = ""
    # The record that was mapped; ``""`` and 0 elsewhere
    file: str = ""
    line: int = 0
    key: str = ""  # the key that was reduced or combined, shortened
    # The line of the user's code
    script: str = ""
    script_line: int = 0
    worker: str = ""  # as in `Report`
    at: float = 0.0  # seconds of the epoch
    # Lines of this process before it that were left out, since they were too many. Where `text` and
    # `script` are ``""``, that is all.
    left_out: int = 0


Listener = Callable[[Report | Printed], object]
"""Receives the reports of an inline job."""


class _Process:
    """What this process remembers of its reports."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.said = 0.0  # time of the last report, by the monotonic clock
        self.run = ""  # the end of the name of its folder, on the client or on this host
        self.merges = 0

    def merges_of(self, folder: str) -> int:
        """Return how many merges it has done in the run of this folder."""
        run = folder.rpartition("-")[2]
        if run != self.run:
            self.run, self.merges = run, 0
        return self.merges


_process = _Process()


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass reports of tasks of this process to `listener` while the block lasts."""
    before, _process.listener = _process.listener, listener
    try:
        yield
    finally:
        _process.listener = before


class Reporter:
    """Reports the progress of one task: at its end, and a few times a second at most before.

    - `run_dir`: the run's folder; ``None`` reports nothing.
    - `phase`: ``"map"`` or ``"reduce"``.
    - `number`: the partition, or the first bucket of the reducer.
    - `counts`: returns the `Counts` of the task so far, without the file that is being read.
    - `hot_keys`: those of the task; to be set before it is done.
    """

    def __init__(
        self, run_dir: str | None, phase: str, number: int, counts: Callable[[], Counts]
    ) -> None:
        self._run_dir = run_dir
        self._phase = phase
        self._number = number
        self._counts = counts
        self.hot_keys: tuple[HotKey, ...] = ()
        self._start = clock.now()
        self._file = ""
        self._fetching = False
        self._lines = 0
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stream = None
        if kind is None and self._run_dir is not None:
            _process.said = time.monotonic()
            tell(self._run_dir, self._report(done=True))

    def begin(self, file: str, fetching: bool = False) -> None:
        """Begin with a file, or with waiting for it."""
        self._file, self._fetching, self._lines, self._stream = file, fetching, 0, None
        self.step(0)

    def opened(self, stream: BinaryIO) -> None:
        """Take the stream that the file is read from, whose position is reported."""
        self._stream = stream

    def at_end(self) -> None:
        """Note that all files are read."""
        self.begin("")

    def step(self, lines: int) -> None:
        """Report, if it is time, that so many lines of the file are read."""
        self._lines = lines
        if self._run_dir is not None and time.monotonic() - _process.said > _EVERY:
            _process.said = time.monotonic()
            tell(self._run_dir, self._report())

    def _report(self, done: bool = False) -> Report:
        current = Counts(bytes=self._read(), records=0 if done else self._lines)
        return Report(
            self._phase,
            self._number,
            process_name(),
            worker_name(),
            worker_address(),
            self._start,
            clock.now(),
            done,
            file="" if done else self._file,
            fetching=self._fetching and not done,
            counts=self._counts() + current,
            memory=resident(),
            merges=_process.merges_of(self._run_dir or ""),
            hot=[astuple(key) for key in self.hot_keys] if done else (),
        )

    def _read(self) -> int:
        """Bytes of the file that have been read."""
        with contextlib.suppress(OSError, ValueError):  # it may be at its end, and closed
            return self._stream.tell() if self._stream is not None else 0
        return 0


def report_merge(scratch: Scratch, bucket: int) -> None:
    """Count a merge of two, and report it if it is time.

    - `scratch`: of the run.
    - `bucket`: the bucket that is merged.
    """
    merges = _process.merges = _process.merges_of(scratch.run_dir) + 1
    now = time.monotonic()
    if now - _process.said > _EVERY:
        _process.said = now
        at = clock.now()
        place = (process_name(), worker_name(), worker_address())
        tell(
            scratch.folder(),
            Report("merge", bucket, *place, at, at, memory=resident(), merges=merges),
        )


def tell(run_dir: str, news: Report | Printed) -> None:
    """Write a report where the collector finds it.

    - `run_dir`: the run's folder, as this process sees it.
    - `news`: a report of a task that is not done replaces the one before.
    """
    if _process.listener is not None:
        _process.listener(news)
        return
    kind = _kind(news)
    content = json.dumps({**news._asdict(), "kind": kind}).encode()
    path = os.path.join(run_dir, FOLDER, process_name())
    with contextlib.suppress(OSError):  # a job does not fail for a report
        if isinstance(news, Report) and not news.done:
            # The rest of a longer report stands behind the newline, and is not read.
            _write(path + _NOW, os.O_CREAT | os.O_WRONLY, content + b"\n")
        else:
            _write(path + _LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND, content + b"\n")


def _write(path: str, flags: int, content: bytes) -> None:
    # Opened each time: a file that is held open keeps a shared folder from being removed.
    file = os.open(path, flags, 0o600)
    try:
        os.write(file, content)
    finally:
        os.close(file)


_TYPES: dict[str, type[Report] | type[Printed]] = {"report": Report, "printed": Printed}


def _kind(news: Report | Printed) -> str:
    return "report" if isinstance(news, Report) else "printed"


# --- for the collector --------------------------------------------------------------------------


class News(NamedTuple):
    """New reports of one file."""

    name: str  # the file's
    # From where to where it was read, if it is one that is only appended to; 0 otherwise
    start: int
    end: int
    said: tuple[Report | Printed, ...]  # what stands there


def read_news(run_dir: str, offsets: Mapping[str, int]) -> list[News]:
    """Read the reports of all processes.

    - `run_dir`: the run's folder.
    - `offsets`: how far each file has been read before.
    """
    folder = os.path.join(run_dir, FOLDER)
    try:
        names = sorted(os.listdir(folder))  # of each process the log comes first
    except FileNotFoundError:  # there is no report yet, or the run is over
        return []
    found = []
    for name in names:
        path, start = os.path.join(folder, name), offsets.get(name, 0)
        if name.endswith(_LOG):
            lines, end = _read_lines(path, start)
        else:
            lines, start, end = _read_lines(path, 0)[0][:1], 0, 0
        if lines:
            found.append(News(name, start, end, tuple(_decode(lines))))
    return found


def _read_lines(path: str, start: int) -> tuple[list[bytes], int]:
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(start)
            content = file.read(_MOST_READ)
    except OSError:  # it is gone, or the process is another user's
        return [], start
    whole = content[: content.rfind(b"\n") + 1]
    return whole.splitlines(), start + len(whole)


def _decode(lines: list[bytes]) -> Iterator[Report | Printed]:
    for line in lines:
        with contextlib.suppress(ValueError):  # on a shared disk it may be seen in halves
            told: dict[str, Any] = json.loads(line)
            if "counts" in told:
                told["counts"] = Counts(*told["counts"])
            yield _TYPES[told.pop("kind")](**told)
