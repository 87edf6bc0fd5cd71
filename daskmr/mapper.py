"""A partition's records through the user's `map`."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from daskmr.calls import Profiling, combiner_of, set_up
from daskmr.contexts import ItemContext, MapContext, TextContext
from daskmr.errors import DaskMRError, TaskFailed
from daskmr.failures import guarded, is_interruption, shortened, user_failure
from daskmr.job import Job
from daskmr.listing import InputFile
from daskmr.partition import Partition
from daskmr.parts import Part, PartWriter
from daskmr.records import CorruptFileError, OversizedLine, raw_bytes, read_lines
from daskmr.runs import Fold, Run, Spilling
from daskmr.tally import BadRecord, Span, Tally
from daskmr.tracebacks import describe_exception

__all__ = [
    "TALLY",
    "MapTask",
    "Mark",
    "explain_timeout",
    "map_packed",
    "map_partition",
    "read_mark",
]

TALLY = -1  # the bucket that holds what was counted
_NO_TAB = "no tab in the line"
_TOO_LONG = "longer than max-record-bytes"
_BATCH = 1024  # pairs that are written before the fold is settled
_CHUNKS = 16  # chunks of input (1 MiB) after which it is, however few they are
_SAVED_AT_MOST = 10_000  # bad records that one partition saves
_GC_THRESHOLD = 100_000  # new containers between collections: a fold makes millions that stay


@dataclass(frozen=True, slots=True)
class MapTask:
    """What a mapper needs to know beside its partition; the same for all.

    Attributes
    ----------
    job : Job
        The user's functions.
    root : str
        The data dir.
    run_dir : str
        The run's folder.
    spilling : Spilling
        Budget and buckets.
    combine_size : int
        See ``daskmr.combine-size``.
    items : bool
        The result is iterated over, so a map-only job gives pairs rather than text.
    skip_corrupt : bool
        Leave corrupt files out whole.
    max_bad : int or None
        Bad records beyond which the job fails.
    save_limit : int
        Raw bytes of bad records that are saved.
    profile : bool
        Collect a profile.
    max_record_bytes : int
        Length beyond which a line is a bad record.
    part_bytes : int
        Bytes of a map-only job's output that travel in memory, a partition.
    file_timeout : float or None
        Seconds that one file may take.
    """

    job: Job
    root: str
    run_dir: str
    spilling: Spilling
    combine_size: int
    items: bool
    skip_corrupt: bool
    max_bad: int | None
    save_limit: int
    profile: bool
    max_record_bytes: int
    part_bytes: int
    file_timeout: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a mapper says of itself, where it outlives its process.

    Attributes
    ----------
    pid : int
        The process that maps the partition.
    path : str
        The file that it reads, relative to the data dir.
    since : float
        When it began with it, in seconds of the epoch.
    """

    pid: int
    path: str
    since: float


def _mark_path(run_dir: str, index: int) -> str:
    return os.path.join(run_dir, "marks", str(index))


def read_mark(run_dir: str, index: int) -> Mark | None:
    """Return what partition `index` is reading just now, or was when its worker died."""
    try:
        with open(_mark_path(run_dir, index), "rb") as file:
            content = file.read()
            since = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    pid, _, path = content.partition(b" ")
    return Mark(int(pid), os.fsdecode(path), since) if path else None


@guarded
def map_partition(partition: Partition, *, task: MapTask) -> list[tuple[int, Any]]:
    """Map a partition.

    Returns
    -------
    list of (int, Run or Part or Tally)
        A Run for each bucket (for a map-only job one Part, as bucket 0), and the Tally.

    Raises
    ------
    TaskFailed
        With strings only, whatever went wrong.
    """
    corrupt: dict[str, str] = {}
    with task.job.activate(), _few_collections():
        while True:
            attempt = _Attempt(partition, task, corrupt)
            try:
                return attempt.run()
            except CorruptFileError as error:
                attempt.discard()
                corrupt[attempt.file.path] = str(error)
            except BaseException:
                attempt.discard()
                raise


def map_packed(packed: bytes, *, task: MapTask) -> list[tuple[int, Any]]:
    """Map a pickled partition: in the graph, a million files are a few thousand byte strings."""
    return map_partition(pickle.loads(packed), task=task)


@contextmanager
def _alarm(task: MapTask, file: InputFile) -> Iterator[None]:
    """Interrupt a file that takes too long, where the job runs in the main thread.

    On a cluster the client does so from outside: a worker may hold the GIL, or be stuck in C.
    """
    seconds = task.file_timeout
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: object) -> None:
        raise _FileTimeout

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again, should the script swallow it
    try:
        yield
    except _FileTimeout:
        late = True
    else:
        late = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if late:
        raise TaskFailed(explain_timeout(os.path.join(task.root, file.path), seconds))


class _FileTimeout(BaseException):
    """The alarm; not an ``Exception``, which a script may catch."""


def explain_timeout(path: str, seconds: float) -> str:
    """Say that a file took too long."""
    return (
        f"Mapping {path} took longer than --file-timeout allows ({seconds:g} s). Nothing was "
        "written. Run that file alone with --inline to see where it stays, or raise the limit."
    )


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage less often while millions of lists come to stay."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _GC_THRESHOLD), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class _Attempt:
    """One pass over a partition. Where a corrupt file is to be left out whole there is another."""

    def __init__(self, partition: Partition, task: MapTask, corrupt: dict[str, str]) -> None:
        self.task = task
        self.partition = partition
        self.corrupt = corrupt
        self.file: InputFile = partition.files[0] if partition.files else InputFile("", 0, ())
        self.line = 0
        self.records = 0
        self.bad: Counter[str] = Counter()
        self.bad_files: Counter[str] = Counter()
        self.saved: list[BadRecord] = []
        self.saved_bytes = 0
        self.unsaved: set[str] = set()
        self.truncated = False
        self.last_bad = ""
        self.sink = _GroupSink(task) if task.job.reduce else _OutputSink(task)

    def run(self) -> list[tuple[int, Any]]:
        started = time.time()
        with Profiling(self.task.profile) as profiling:
            self._map_files()
            results = self.sink.finish()
        mapped = [f for f in self.partition.files if f.path not in self.corrupt]
        tally = Tally(
            files=len(mapped),
            bytes=sum(f.size for f in mapped),
            records=self.records,
            bad=dict(self.bad),
            bad_files=dict(self.bad_files),
            saved=tuple(self.saved),
            save_limit=self.task.save_limit,
            unsaved_files=frozenset(self.unsaved),
            truncated=self.truncated,
            corrupt=tuple(self.corrupt.items()),
            spilled=self.sink.spilled,
            mapping=Span(started, time.time()),
            profile=profiling.profile,
        )
        return [*results, (TALLY, tally)]

    def discard(self) -> None:
        self.sink.discard()

    def _map_files(self) -> None:
        path = _mark_path(self.task.run_dir, self.partition.index)
        mark = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            for file in self.partition.files:
                if file.path not in self.corrupt:
                    os.ftruncate(mark, 0)
                    os.pwrite(mark, b"%d %b" % (os.getpid(), os.fsencode(file.path)), 0)
                    with _alarm(self.task, file):
                        self._map_file(file)
            os.ftruncate(mark, 0)
        finally:
            os.close(mark)

    def _map_file(self, file: InputFile) -> None:
        self.file, self.line = file, 0
        path = os.path.join(self.task.root, file.path)
        try:
            self._check_size(path)
            self._map_lines(path, list(file.dims))
        except CorruptFileError as error:
            if self.task.skip_corrupt:
                raise
            failure = TaskFailed(
                f"{error} Nothing was written, since the result would be short. Mend or remove "
                "the file, or leave such files out whole with --skip-corrupt-files."
            )
        except OSError as error:
            if error.filename != path:
                raise
            failure = TaskFailed(
                f"The input file {path} cannot be read: {error.strerror}. "
                "Nothing was written, since the result would be short."
            )
        else:
            self.records += self.line
            self._check_bad()
            return
        raise failure

    def _check_size(self, path: str) -> None:
        size = os.stat(path).st_size
        if size != self.file.size:
            raise TaskFailed(
                f"The input file {path} has {size:,} bytes and had {self.file.size:,} when it was "
                "listed: it changed while the job ran. Run the job again when it is complete."
            )

    def _map_lines(self, path: str, dims: list[str]) -> None:
        user_map = self.task.job.map
        sink = self.sink
        context, pending, flush = sink.context, sink.pending, sink.flush
        number = chunks = 0
        failure: BaseException | None = None
        try:
            for lines, has_cr in read_lines(path, self.task.max_record_bytes):
                for line in lines:
                    number += 1
                    key, tab, value = line.partition("\t")
                    if not tab:
                        self._bad(number, line, _NO_TAB, "")
                        continue
                    if has_cr:
                        value = value.rstrip("\r")
                    mark = len(pending)
                    try:
                        user_map(key, dims, value, context)
                    except ValueError as error:
                        sink.take_back(mark)
                        self._bad(number, line, type(error).__name__, describe_exception(error))
                    if mark > _BATCH:
                        flush()
                chunks += 1
                if not chunks % _CHUNKS:
                    flush()
            flush()
        except (CorruptFileError, DaskMRError, TaskFailed, _FileTimeout):
            raise
        except OSError as error:
            if error.filename == path:
                raise
            failure = error
        except BaseException as error:
            if is_interruption(error):
                raise
            failure = error
        finally:
            self.line = number
        if failure is not None:
            where = f"at {path}, line {number}"
            raise user_failure(self.task.job, "map", where, failure)

    def _bad(self, number: int, line: str, reason: str, detail: str) -> None:
        if isinstance(line, OversizedLine):
            reason, detail = _TOO_LONG, f"the line has {line.length:,} bytes"
        path = self.file.path
        self.bad[reason] += 1
        self.bad_files[path] += 1
        raw = raw_bytes(line)
        self.saved_bytes += len(raw)
        if self.saved_bytes > self.task.save_limit or len(self.saved) >= _SAVED_AT_MOST:
            self.truncated = True
        if self.truncated or isinstance(line, OversizedLine):
            self.unsaved.add(path)
        else:
            self.saved.append(BadRecord(path, number, reason, detail, raw))
        self.last_bad = (
            f"{path}, line {number}: {detail or reason}; it begins with {shortened(line, 80)}"
        )
        if not self.task.skip_corrupt:  # else the file may yet turn out to be corrupt
            self._check_bad()

    def _check_bad(self) -> None:
        limit = self.task.max_bad
        if limit is not None and self.bad.total() > limit:
            raise TaskFailed(
                f"There are more than {limit} bad records, which --max-bad-records does not allow. "
                f"The last one: {self.last_bad}. Nothing was written."
            )


class _GroupSink:
    """Where pairs go when the job reduces: into a Fold."""

    def __init__(self, task: MapTask) -> None:
        self.context = MapContext()
        self.pending: list[Any] = self.context.keys
        self.take_back = self.context.take_back
        self._fold = Fold(
            self.context.groups, task.spilling, combiner_of(task.job), task.combine_size
        )
        self.spilled = 0

    def flush(self) -> None:
        self._fold.settle(self.pending)
        self.pending.clear()

    def finish(self) -> list[tuple[int, Any]]:
        runs: list[Run] = self._fold.finish()
        self.spilled = self._fold.spilled
        return list(enumerate(runs))

    def discard(self) -> None:
        self._fold.discard()


class _OutputSink:
    """Where lines go when the job has no reduce: into a Part."""

    def __init__(self, task: MapTask) -> None:
        self.context = ItemContext() if task.items else TextContext()
        header = set_up(task.job, self.context)
        self.pending: list[Any] = self.context.written
        self._part = PartWriter(os.path.join(task.run_dir, "parts"), task.part_bytes, header)
        self._items = task.items
        self.spilled = 0

    def take_back(self, mark: int) -> None:
        del self.pending[mark:]

    def flush(self) -> None:
        pending = self.pending
        if pending:
            written = list(pending) if self._items else ["".join(pending)]
            self._part.add(None, written, len(pending))
            pending.clear()

    def finish(self) -> list[tuple[int, Part]]:
        return [(0, self._part.finish())]

    def discard(self) -> None:
        self._part.discard()
