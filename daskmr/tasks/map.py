"""A partition's records through the user's `map`."""

from __future__ import annotations

import gc
import math
import os
import pickle
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from daskmr import clock
from daskmr.counts import Counts
from daskmr.data.bad_records import BadRecord
from daskmr.data.inputs import Remote
from daskmr.data.listing import InputFile
from daskmr.data.local_file import LocalFile
from daskmr.data.partition import Partition
from daskmr.data.parts import Part, PartWriter
from daskmr.data.records import CorruptFileError, OversizedLine, raw_bytes, read_chunks, read_lines
from daskmr.data.sampling import KeyFilter
from daskmr.data.spill_dir import Scratch
from daskmr.errors import DaskMRError, TaskFailed
from daskmr.history import HotKey, TaskSpan
from daskmr.job.contexts import COUNTED, ItemContext, MapContext, TextContext
from daskmr.job.job import Job
from daskmr.job.tracebacks import describe_exception, explain_process_error
from daskmr.memory import (
    OutOfMemory,
    describe_size,
    held_by_task,
    limit,
    limit_for_line,
    longest_line,
)
from daskmr.store.source import StoreError
from daskmr.tasks.callers import Call, calls_user
from daskmr.tasks.crashes import Marker, describe_line, describe_reading
from daskmr.tasks.deaths import refuse_poison, refuse_third_try
from daskmr.tasks.guard import Returned, guarded, is_interruption, shortened, user_failure
from daskmr.tasks.prints import printing
from daskmr.tasks.progress import Reporter
from daskmr.tasks.runs import Fold, Run, Spilling, estimate_size
from daskmr.tasks.tally import (
    EXAMPLES,
    OPENING_LINES,
    Opening,
    Span,
    Tallies,
    Tally,
    explain_untabbed,
)
from daskmr.tasks.user_calls import (
    Held,
    Profiling,
    activated,
    combiner_of,
    join_threads,
    refuse_late_writes,
    set_up,
)
from daskmr.worker import describe_worker, until_cancelled, worker_name

if TYPE_CHECKING:
    from daskmr.data.cache.prefetch import Prefetcher

__all__ = [
    "TALLY",
    "MapTask",
    "explain_timeout",
    "map_packed",
    "map_partition",
]

TALLY = -1  # the bucket that holds what was counted
_NO_TAB = "no tab in the line"
_TOO_LONG = "longer than max-record-bytes"
_BATCH = 1024  # lines that are written before they go to the part
_BATCH_CHARACTERS = 4 << 20  # and fewer of them when they are long
_FIRST_BATCH = 16  # before anything is known of their length
_CHUNKS = 16  # chunks of input (1 MiB) after which it is, however few they are
_SAVED_AT_MOST = 10_000  # bad records that one partition saves
_RECORD = 200  # characters of a record that a failure shows
_LOOK_SECONDS = 0.05  # between two looks at the memory that the process holds
NOTHING: Mapping[str, str] = {}
_ONLY_COUNTED = [COUNTED]
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
    remote : Remote or None
        How to come by what a store has listed.
    scratch : Scratch
        Where to write.
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
    on_cluster : bool
        The workers are not this machine's: what goes wrong with a file names its worker.
    skip_poison : bool
        Say which file has killed two processes, for a job that goes on without.
    keys : KeyFilter or None
        Which records are mapped; ``None`` is all.
    watched : bool
        Somebody looks at how far it is.
    needs_tabs : bool
        Fail at once where the input begins with lines that are no records.
    origin : Origin
        Where the time of the run begins.
    """

    job: Job
    root: str
    remote: Remote | None
    scratch: Scratch
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
    on_cluster: bool = False
    skip_poison: bool = False
    keys: KeyFilter | None = None
    watched: bool = False
    needs_tabs: bool = False
    origin: clock.Origin = field(default_factory=clock.origin)


class _DamagedCopy(Exception):
    """A file in the cache is not what was fetched, though it looked like it."""


@guarded
def map_partition(
    partition: Partition, *, task: MapTask, poison: Mapping[str, str] = NOTHING
) -> list[tuple[int, Any]]:
    """Map a partition.

    Parameters
    ----------
    partition : Partition
    task : MapTask
    poison : mapping of str to str
        Files to be left out whole, and why.

    Returns
    -------
    list of (int, Run or Part or Tally)
        A Run for each bucket (for a map-only job one Part, as bucket 0), and the Tally.

    Raises
    ------
    TaskFailed
        With strings only, whatever went wrong.
    """
    clock.adopt(task.origin)
    attempt = None
    run_dir = task.scratch.folder()
    with (
        printing(run_dir if task.watched else None, task.job),
        activated(task.job, run_dir, partition.index),
        _few_collections(),
    ):
        while True:
            attempt = _Attempt(partition, task, run_dir, attempt, poison)
            try:
                return attempt.run()
            except _DamagedCopy:
                attempt.discard()  # and again, from the store
            except CorruptFileError as error:
                attempt.discard()
                attempt.corrupt[attempt.file.path] = str(error)
                attempt.find_corrupt()
            except StoreError as error:
                attempt.discard()
                if task.remote is None or not task.remote.skip_missing:
                    raise
                attempt.missing[attempt.file.path] = str(error)
            except BaseException:
                attempt.discard()
                raise


def map_packed(
    packed: bytes, poison: Mapping[str, str] = NOTHING, *, task: MapTask
) -> list[tuple[int, Any]]:
    """Map a pickled partition: in the graph, a million files are a few thousand byte strings."""
    *results, (bucket, tally) = map_partition(pickle.loads(packed), task=task, poison=poison)
    return [*results, (bucket, Tallies.of(tally))]


@contextmanager
def _alarm(task: MapTask, source: str | BinaryIO) -> Iterator[None]:
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
        raise TaskFailed(explain_timeout(_name(source), seconds))


def _name(source: str | BinaryIO) -> str:
    """The path of a file, or the address of a stream."""
    return source if isinstance(source, str) else source.name


def _read_to_end(chunks: Iterable[bytes]) -> None:
    """Have what is read raise what is wrong with it."""
    for _ in chunks:
        pass


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
    """One pass over a partition. Where a file is to be left out whole there is another."""

    def __init__(
        self,
        partition: Partition,
        task: MapTask,
        run_dir: str,
        before: _Attempt | None,
        poison: Mapping[str, str],
    ) -> None:
        self.task = task
        self.partition = partition
        self.run_dir = run_dir
        self.poison = {f.path: poison[f.path] for f in partition.files if f.path in poison}
        self.is_again = before is not None
        self.corrupt: dict[str, str] = before.corrupt if before else {}
        self.missing: dict[str, str] = before.missing if before else {}
        self.fetched: int = before.fetched if before else 0
        self.fetched_bytes: int = before.fetched_bytes if before else 0
        self.notes: dict[str, None] = before.notes if before else {}
        self.waited: float = before.waited if before else 0.0
        self.file: InputFile = partition.files[0] if partition.files else InputFile("", 0, ())
        self.place = ""
        self.line = 0
        self.chunks = 0
        self.looked = -math.inf
        self.longest: int | None = None
        self.records = 0
        self.bad: Counter[str] = Counter()
        self.bad_files: Counter[str] = Counter()
        self.saved: list[BadRecord] = []
        self.saved_bytes = 0
        self.unsaved: set[str] = set()
        self.truncated = False
        self.grown: list[tuple[str, int]] = []
        self.last_bad = ""
        self.examples: dict[str, tuple[str, ...]] = {}
        self.lines = 0  # of the files before this one
        self.opening = Opening()
        self.sampled = _Sampled(task.job.map, task.keys) if task.keys is not None else None
        self.files_done = self.bytes_done = 0
        self.ahead: Prefetcher | None = None
        self.reporter = Reporter(
            run_dir if task.watched else None, "map", partition.index, self.counts
        )
        self.sink = _GroupSink(task) if task.job.reduce else _OutputSink(task)

    def run(self) -> list[tuple[int, Any]]:
        started = clock.now()
        with Profiling(self.task.profile) as profiling:
            results = self._map_all()
        ended, counts = clock.now(), self.counts()
        span = TaskSpan(
            "map",
            self.partition.index,
            worker_name(),
            started,
            ended,
            counts,
            memory=held_by_task(),
        )
        tally = Tally(
            counts,
            bad_files=dict(self.bad_files),
            saved=tuple(self.saved),
            save_limit=self.task.save_limit,
            unsaved_files=frozenset(self.unsaved),
            truncated=self.truncated,
            corrupt=tuple(self.corrupt.items()),
            missing=tuple(self.missing.items()),
            notes=tuple(self.notes),
            poisoned=tuple(self.poison.items()),
            mapping=Span(started, ended),
            profile=profiling.profile,
            tasks=(span,),
            hot_keys=self.sink.hot_keys,
            counters=self.sink.context.counters,
            grown=tuple(self.grown),
            opening=replace(self.opening, tabbed=self.lines > self.opening.untabbed),
            examples=self.examples,
        )
        return [*results, (TALLY, tally)]

    def discard(self) -> None:
        self.close()
        self.sink.discard()

    def close(self) -> None:
        """Refuse what the script writes from now on: this attempt is over."""
        self.sink.context.close(self.run_dir)

    def counts(self) -> Counts:
        """How far it is, but for the file that is read."""
        ahead = self.ahead
        return Counts(
            files=self.files_done,
            bytes=self.bytes_done,
            records=self.records,
            bad_reasons=dict(self.bad),
            fetched=self.fetched + (ahead.fetched if ahead else 0),
            fetched_bytes=self.fetched_bytes + (ahead.fetched_bytes if ahead else 0),
            spilled=self.sink.spilled,
            waited=self.waited,
            values=self.sink.values,
        )

    def find_corrupt(self) -> None:
        """Look for other corrupt files: to find each by mapping again would take a pass for each."""
        after = self.partition.files.index(self.file) + 1
        rest = [
            file
            for file in self.partition.files[after:]
            if not file.is_remote and file.path not in self.poison
        ]
        with Marker(self.run_dir, "map", self.partition.index) as marker:
            for file in rest:
                path = os.path.join(self.task.root, file.path)
                marker.begin(path, file.path)
                with _alarm(self.task, path):
                    self._look_through(file, path)

    def _look_through(self, file: InputFile, path: str) -> None:
        try:
            with self._opened_local(file, path) as local:
                try:
                    _read_to_end(read_chunks(local))
                except CorruptFileError as error:
                    local.check()
                    self.corrupt[file.path] = str(error)
        except OSError:
            return  # it is told when the file is mapped

    def _map_all(self) -> list[tuple[int, Any]]:
        with Marker(self.run_dir, "map", self.partition.index) as marker, self.reporter:
            if self.task.skip_poison:
                refuse_poison(marker, self.poison)
            else:
                refuse_third_try(marker, self.run_dir, "")
            self._map_files(marker)
            marker.at_end()
            self.reporter.at_end()
            note = join_threads(self.task.job, "map", self.sink.held)
            if note:
                self.notes[note] = None
            self.sink.flush()
            results = self.sink.finish()
            self.reporter.hot_keys = self.sink.hot_keys
            self.close()
            refuse_late_writes(self.run_dir)
            return results

    def _map_files(self, marker: Marker) -> None:
        with closing(self._opened(marker)) as opened:  # what it has under way ends here too
            for file, source in opened:
                self.file, self.place, self.line = file, _name(source), 0
                marker.begin(self.place, file.path)
                self.reporter.begin(file.path)
                try:
                    with _alarm(self.task, source):
                        self._map_file(file, source, marker)
                except TaskFailed as error:
                    error.file = file.path
                    raise
                self.files_done += 1
                self.bytes_done += file.size

    def _wanted(self) -> list[InputFile]:
        """The files that are not left out."""
        left_out = self.corrupt.keys() | self.missing.keys() | self.poison.keys()
        return [file for file in self.partition.files if file.path not in left_out]

    def _opened(self, marker: Marker) -> Generator[tuple[InputFile, str | BinaryIO], None, None]:
        """Give each file with its local path, or a stream where it has none."""
        remote, root, wanted = self.task.remote, self.task.root, self._wanted()
        there = [file for file in wanted if file.is_remote]
        if remote is None or not there:
            for file in wanted:
                yield file, os.path.join(root, file.path)
            return
        from daskmr.data.cache.prefetch import Prefetcher

        with ExitStack() as stack:
            cache = remote.open_cache()
            if cache is not None:
                stack.enter_context(cache)
            fetcher = remote.open_fetcher()
            ahead = Prefetcher(
                cache,
                remote.open_store,
                there,
                remote.prefetch_bytes,
                fetcher,
                ahead=self.partition.ahead,
                began=None if self.is_again else remote.began,  # what was counted stays so
            )
            self.ahead = ahead
            stack.callback(self._count_fetched, ahead)
            stack.enter_context(ahead)
            for file in wanted:
                if not file.is_remote:
                    yield file, os.path.join(root, file.path)
                    continue
                marker.fetch(remote.locate(file.path))
                self.reporter.begin(file.path, fetching=True)
                before = time.monotonic()
                try:
                    source = ahead.take(file)
                except StoreError as error:
                    if not remote.skip_missing:
                        raise
                    self.missing[file.path] = str(error)
                else:
                    self.waited += time.monotonic() - before
                    yield file, source

    def _count_fetched(self, ahead: Prefetcher) -> None:
        self.ahead = None
        self.fetched += ahead.fetched
        self.fetched_bytes += ahead.fetched_bytes
        self.notes.update(dict.fromkeys(ahead.notes))

    def _map_file(self, file: InputFile, source: str | BinaryIO, marker: Marker) -> None:
        path = _name(source)
        try:
            if file.is_remote:
                if isinstance(source, str):
                    self._check_size(source)
                self._map_lines(source, list(file.dims), marker)
            else:
                self._map_local(file, path, marker)
        except CorruptFileError as error:
            if not isinstance(source, str):  # its data may have been damaged on the way here
                _read_to_end(iter(partial(source.read, 1 << 20), b""))
            elif self._distrust(file):
                raise _DamagedCopy from None
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
                f"The input file {path} cannot be read{self._where()}: {error.strerror}. "
                "Nothing was written, since the result would be short."
            )
        else:
            self.lines += self.line
            self.records += self.line if self.sampled is None else self.sampled.count()
            self._check_opening()
            self._check_bad()
            return
        raise failure

    def _map_local(self, file: InputFile, path: str, marker: Marker) -> None:
        with self._opened_local(file, path) as local:
            self.reporter.opened(local)
            try:
                self._map_lines(local, list(file.dims), marker)
            except CorruptFileError:
                local.check()  # what was cut off may be on its way
                raise
            local.check()
            if local.grown is not None:
                self.grown.append((file.path, local.grown))

    def _opened_local(self, file: InputFile, path: str) -> LocalFile:
        return LocalFile(file, path, self._where(), elsewhere=self.task.on_cluster)

    def _distrust(self, file: InputFile) -> bool:
        """Whether it is the local copy alone that is damaged, which is not used again then."""
        cache = self.task.remote.open_cache() if file.is_remote and self.task.remote else None
        if cache is None:
            return False
        with cache:
            return cache.distrust(file)

    def _check_size(self, path: str) -> None:
        size = os.stat(path).st_size
        if size != self.file.size:
            raise TaskFailed(
                f"The input file {path} has {size:,} bytes{self._where()} and had "
                f"{self.file.size:,} when it was listed: it changed while the job ran. Run the job "
                "again when it is complete."
            )

    def _where(self) -> str:
        return f" on {describe_worker()}" if self.task.on_cluster else ""

    @calls_user(lambda local: Call("map", local["self"].file.path, local["number"]))
    def _map_lines(self, source: str | BinaryIO, dims: list[str], marker: Marker) -> None:
        path = _name(source)
        user_map = self.task.job.map if self.sampled is None else self.sampled.map
        sink = self.sink
        context, pending, hurry, flush = sink.context.user, sink.pending, sink.hurry, sink.flush
        hasten = sink.hasten
        number = 0
        line, reading = "", True
        failure: BaseException | None = None
        try:
            fits = self._longest_text()
            longest = min(self.task.max_record_bytes, fits or self.task.max_record_bytes)
            step = self.reporter.step
            read = read_lines(source, longest, max_text_bytes=fits, opened=self.reporter.opened)
            batches = until_cancelled(read)
            for lines, has_cr in marker.lines(batches):
                reading = False
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
                        returned = user_map(key, dims, value, context)
                        if returned is not None:
                            raise Returned(returned)
                    except ValueError as error:
                        if explain_process_error(error):
                            raise
                        sink.take_back(mark)
                        self._bad(number, line, type(error).__name__, describe_exception(error))
                    if mark >= sink.batch:
                        flush()
                    elif hurry:
                        hasten()
                reading = True
                step(number)
                # Over all files: to settle for each small one would cost much. Only the first line
                # of a batch can be longer than a chunk, and stands for as many.
                self.chunks += 1 + (len(lines[0]) >> 16)
                if self.chunks >= _CHUNKS:
                    self.chunks = 0
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
            place = describe_line(number, line) if not reading else describe_reading(number + 1)
            told = user_failure(self.task.job, "map", f"at {path}, {place}", failure)
            if not reading:
                told.record = shortened(line, _RECORD)
            if isinstance(failure, OutOfMemory):
                told.files = (self.file.path,)
            raise told

    def _longest_text(self) -> int | None:
        """Bytes that the text of a line may take within the memory limit; ``None`` without one."""
        now = time.monotonic()
        if now - self.looked > _LOOK_SECONDS:  # not for each of many small files
            self.looked, self.longest = now, longest_line()
        return self.longest

    def _bad(self, number: int, line: str, reason: str, detail: str) -> None:
        if isinstance(line, OversizedLine):
            if line.length <= self.task.max_record_bytes:
                raise TaskFailed(self._explain_length(number, line))
            reason, detail = _TOO_LONG, f"the line has {line.length:,} bytes"
        elif reason is _NO_TAB and self.opening.untabbed == self.lines + number - 1:
            self.opening = self.opening.with_line(self.place, line)
            if not self.task.skip_corrupt:
                self._check_opening()
        if self.sampled is not None and not self._is_sampled(number, line):
            return
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
        if len(self.examples.setdefault(reason, ())) < EXAMPLES:
            self.examples[reason] += (self.last_bad,)
        if not self.task.skip_corrupt:  # else the file may yet turn out to be corrupt
            self._check_bad()

    def _is_sampled(self, number: int, line: str) -> bool:
        """Tell whether a bad record is in the sample; one that `map` was given certainly is."""
        assert self.sampled is not None
        if isinstance(line, OversizedLine):
            return self.sampled.takes(f"{self.file.path} {number}")
        return "\t" in line or self.sampled.takes(line)

    def _explain_length(self, number: int, line: OversizedLine) -> str:
        as_text = ""
        if line.text_bytes > line.length:
            as_text = f" ({describe_size(line.text_bytes)} as text, for its wide characters)"
        return (
            f"map failed at {self.place}, line {number}: the line has {line.length:,} bytes{as_text}, "
            f"more than fit in the memory of a worker, whose limit is {describe_size(limit() or 0)}. "
            f"Raise --memory-limit to {describe_size(limit_for_line(line.text_bytes))} or more, with fewer "
            "--num-mappers if the machine has no more; or lower daskmr.max-record-bytes, beyond "
            "which a line is a bad record."
        )

    def _check_opening(self) -> None:
        """Fail in the first partition; how others begin says nothing of the whole by itself."""
        is_first = self.task.needs_tabs and self.partition.index == 0
        if is_first and self.opening.untabbed >= OPENING_LINES:
            raise TaskFailed(explain_untabbed(self.opening))

    def _check_bad(self) -> None:
        limit = self.task.max_bad
        if limit is not None and self.bad.total() > limit:
            raise TaskFailed(
                f"There are more bad records than --max-bad-records allows ({limit:,}). "
                f"The last one: {self.last_bad}. Nothing was written."
            )


class _Sampled:
    """The user's `map`, called for a sample of the records by their key."""

    def __init__(self, user_map: Callable[..., Any], keys: KeyFilter) -> None:
        self._map = user_map
        self._keys = keys
        self._taken = 0

    def map(self, key: str, dims: list[str], value: str, context: Any) -> Any:
        return self._map(key, dims, value, context) if self.takes(key) else None

    def takes(self, key: str) -> bool:
        """Tell whether a record of this key is in the sample, and count it."""
        taken = self._keys.takes(key)
        self._taken += taken
        return taken

    def count(self) -> int:
        """How many records were taken since the last time."""
        taken, self._taken = self._taken, 0
        return taken


class _Sink:
    """Where goes what `map` writes and counts.

    Attributes
    ----------
    context : MapContext, TextContext or ItemContext
        What `map` writes to.
    held : Held
        Whether the script holds it.
    pending, hurry : list
        What it has written that is still to be taken, and whether that must not wait.
    batch : int
        As many may wait.
    spilled : int
        Bytes written to segments.
    hot_keys : tuple of HotKey
        Keys with many values.
    values : int
        Values that are to be reduced.
    """

    context: MapContext | TextContext | ItemContext
    held: Held
    pending: list[Any]
    hurry: list[Any]
    batch: int
    hot_keys: tuple[HotKey, ...] = ()

    @property
    def spilled(self) -> int:
        return 0

    @property
    def values(self) -> int:
        return 0

    def hasten(self) -> None:
        """Do after a record what it says cannot wait."""
        if self.hurry == _ONLY_COUNTED:
            self.context.keep_counts()
            self.hurry.clear()
        else:
            self.flush()

    def flush(self) -> None:
        """Take what is pending."""
        raise NotImplementedError


class _GroupSink(_Sink):
    """Where pairs go when the job reduces: into a Fold."""

    def __init__(self, task: MapTask) -> None:
        self.context: MapContext = MapContext()
        self.held = Held(self.context)
        self.pending: list[Any] = self.context.keys
        self.take_back = self.context.take_back
        self.hurry = self.context.hurry
        self._fold = Fold(
            self.context.groups, task.spilling, combiner_of(task.job), task.combine_size
        )
        self.batch = self._fold.batch

    @property
    def spilled(self) -> int:
        return self._fold.spilled

    @property
    def values(self) -> int:
        return self._fold.values

    def hasten(self) -> None:
        context, hurry = self.context, self.hurry
        context.commit()
        if None in hurry:
            self._settle()
            return
        if context.counted:
            context.keep_counts()
        hurry.clear()

    def flush(self) -> None:
        self.context.commit()
        # What one value was written for is cheaper the more there is of it.
        if self.pending or self.context.is_full:
            self._settle()
        else:
            self.context.keep_counts()
            self.hurry.clear()

    def _settle(self) -> None:
        context = self.context
        context.keep_counts()
        context.place()
        self._fold.settle(self.pending, context.large)
        context.clear()
        self.hurry.clear()
        self.batch, context.most_later = self._fold.batch, self._fold.room

    def finish(self) -> list[tuple[int, Any]]:
        self._settle()
        runs: list[Run] = self._fold.finish()
        self.hot_keys = self._fold.hot_keys
        return list(enumerate(runs))

    def discard(self) -> None:
        self._fold.discard()


class _OutputSink(_Sink):
    """Where lines go when the job has no reduce: into a Part."""

    def __init__(self, task: MapTask) -> None:
        self.context: TextContext | ItemContext = ItemContext() if task.items else TextContext()
        self.held = Held(self.context)
        header = set_up(task.job, self.context)
        self.pending: list[Any] = self.context.written
        self.hurry = self.context.hurry
        self._part = PartWriter(task.scratch.parts(), task.part_bytes, header)
        self._items = task.items
        self.batch = _FIRST_BATCH
        self.context.keep_counts()  # those of `setup_reduce`, which no bad record takes back

    def take_back(self, mark: int) -> None:
        self.context.counted.clear()
        del self.pending[mark:]

    def flush(self) -> None:
        self.context.keep_counts()
        pending = self.pending
        if pending:
            count = len(pending)  # a thread of the script may add more meanwhile
            written = pending[:count] if self._items else ["".join(pending[:count])]
            self._part.add(None, written, count)
            characters = sum(map(estimate_size, written))
            self.batch = max(1, min(_BATCH, _BATCH_CHARACTERS * count // characters))
            del pending[:count]
        self.hurry.clear()

    def finish(self) -> list[tuple[int, Part]]:
        return [(0, self._part.finish())]

    def discard(self) -> None:
        self._part.discard()
