"""Progress reports of running tasks, for the collector on the client.

They are infrequent and small, and nothing depends on them: exact counts come with the results. Each
process keeps two small files in the run's folder. One holds its current report, and is overwritten;
reports of finished tasks and printed lines are appended to the other. So the scheduler gets no extra
messages, and reports outlive their process. An inline job passes them to a function instead.
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
    "publish",
    "read_news",
    "report_merge",
]

FOLDER = "live"
"""Name of the folder of these files, in the run's folder."""

_EVERY = 0.4  # minimum seconds between two reports of a process
# Reports are named tuples, because defining a data class would delay each job by a millisecond.
_NOW = ".now"
_LOG = ".log"
_MOST_READ = 1 << 20  # bytes read from one file at a time, because a script may print a lot


class Report(NamedTuple):
    """A progress report of a task."""

    phase: str  # as in a `daskmr.tasks.crashes.Mark`
    number: int  # as in a `Mark`
    process: str  # as in a `Mark`
    worker: str  # the worker's name; ``"inline"`` without one
    address: str  # the worker's address on the cluster; ``""`` without one
    start: float  # when the task began, in seconds since the epoch
    at: float  # when the report was made, likewise
    done: bool = False  # the task is done
    file: str = ""  # the file that the task maps, relative to the data dir, or ``""``
    fetching: bool = False  # the task waits for that file
    counts: Counts = NO_COUNTS  # counts so far
    memory: int = 0  # bytes of memory that the process uses
    merges: int = 0  # number of merges that the process has done in this run
    hot: Sequence[Sequence[Any]] = ()  # the fields of each `HotKey` of a finished mapper


class Printed(NamedTuple):
    """A line that the script printed or logged."""

    text: str  # the line without its newline; shortened if it is long
    function: str = ""  # the user's function, as ``"map"``; ``""`` while the script is loaded
    file: str = ""  # the file of the record that was mapped, if any
    line: int = 0  # the line of that record
    key: str = ""  # the key that was reduced or combined, shortened
    script: str = ""  # the file of the user's code
    script_line: int = 0  # the line in that file
    worker: str = ""  # as in `Report`
    at: float = 0.0  # seconds since the epoch
    # Earlier lines of this process that were too many to report. If `text` and `script` are
    # ``""``, this is only a count of such lines.
    left_out: int = 0


Listener = Callable[[Report | Printed], object]
"""A function that receives the reports of an inline job."""


class _Process:
    """The state of reporting in this process."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.reported = 0.0  # time of the last report, by the monotonic clock
        self.run = ""  # end of the run folder's name, the same on the client and on this host
        self.merges = 0

    def merges_of(self, folder: str) -> int:
        """Return the number of merges that the process has done in the run of this folder."""
        run = folder.rpartition("-")[2]
        if run != self.run:
            self.run, self.merges = run, 0
        return self.merges


_process = _Process()


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass reports of tasks of this process to `listener` within the block."""
    before, _process.listener = _process.listener, listener
    try:
        yield
    finally:
        _process.listener = before


class Reporter:
    """Reporter of the progress of one task: at its beginning and end, and at most a few times a second.

    - `run_dir`: the run's folder; ``None`` reports nothing.
    - `phase`, `number`: as in a `Report`.
    - `counts`: a function that returns the task's `Counts` so far, except for the current file.
    - `hot_keys`: the hot keys of the task; to be set before it is done.
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
        self._has_reported = False
        self._file = ""
        self._fetching = False
        self._lines = 0
        self._stream: BinaryIO | None = None

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._stream = None
        if kind is None and self._run_dir is not None:
            _process.reported = time.monotonic()
            publish(self._run_dir, self._report(done=True))

    def begin(self, file: str, fetching: bool = False) -> None:
        """Report that a file, or the wait for it, begins."""
        self._file, self._fetching, self._lines, self._stream = file, fetching, 0, None
        self.step(0)

    def opened(self, stream: BinaryIO) -> None:
        """Set the stream that the file is read from, to report its position."""
        self._stream = stream

    def at_end(self) -> None:
        """Report that all files are read."""
        self.begin("")

    def step(self, lines: int) -> None:
        """Report that `lines` lines of the file have been read, if it is the first report or one is due."""
        self._lines = lines
        if self._run_dir is None:
            return
        now = time.monotonic()
        if not self._has_reported or now - _process.reported > _EVERY:
            self._has_reported, _process.reported = True, now
            publish(self._run_dir, self._report())

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
        """Return how many bytes of the file have been read."""
        with contextlib.suppress(OSError, ValueError):  # the stream may be closed at its end
            return self._stream.tell() if self._stream is not None else 0
        return 0


def report_merge(scratch: Scratch, bucket: int) -> None:
    """Count a merge of two Runs of `bucket`, and report it if a report is due."""
    merges = _process.merges = _process.merges_of(scratch.run_dir) + 1
    now = time.monotonic()
    if now - _process.reported > _EVERY:
        _process.reported = now
        at = clock.now()
        place = (process_name(), worker_name(), worker_address())
        report = Report("merge", bucket, *place, at, at, memory=resident(), merges=merges)
        publish(scratch.folder(), report)


def publish(run_dir: str, news: Report | Printed) -> None:
    """Write a report for the collector; that of a running task replaces its previous one."""
    if _process.listener is not None:
        _process.listener(news)
        return
    content = json.dumps({**news._asdict(), "kind": type(news).__name__}).encode() + b"\n"
    path, flags = os.path.join(run_dir, FOLDER, process_name()), os.O_CREAT | os.O_WRONLY
    if isinstance(news, Report) and not news.done:
        path += _NOW  # readers ignore the rest of a longer report, after the newline
    else:
        path, flags = path + _LOG, flags | os.O_APPEND
    with contextlib.suppress(OSError):  # a job does not fail because of a report
        # Opened each time, because an open file would prevent the removal of a shared folder.
        file = os.open(path, flags, 0o600)
        try:
            os.write(file, content)
        finally:
            os.close(file)


_KINDS: dict[str, type[Report] | type[Printed]] = {"Report": Report, "Printed": Printed}


# --- for the collector --------------------------------------------------------------------------


class News(NamedTuple):
    """New reports of one file."""

    name: str  # name of the file
    start: int  # offset at which reading started, in a file that is only appended to; else 0
    end: int  # offset at which reading ended, likewise
    said: tuple[Report | Printed, ...]  # the reports


def read_news(run_dir: str, offsets: Mapping[str, int]) -> list[News]:
    """Read the reports of all processes.

    - `offsets`: the offset up to which each file has been read, by name.
    """
    folder = os.path.join(run_dir, FOLDER)
    try:
        names = sorted(os.listdir(folder))  # the log of a process comes first
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
    except OSError:  # it was removed, or the process is another user's
        return [], start
    complete = content[: content.rfind(b"\n") + 1]
    return complete.splitlines(), start + len(complete)


def _decode(lines: list[bytes]) -> Iterator[Report | Printed]:
    for line in lines:
        with contextlib.suppress(ValueError):  # on a shared disk, half of a line may be visible
            fields: dict[str, Any] = json.loads(line)
            if "counts" in fields:
                fields["counts"] = Counts(*fields["counts"])
            yield _KINDS[fields.pop("kind")](**fields)
