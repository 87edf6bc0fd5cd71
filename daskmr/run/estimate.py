"""Estimate the time and memory of a run, by mapping a sample of its input for a few seconds.

The estimate is rough: the sample is small, a single process maps it, and fetching is not measured.
"""

from __future__ import annotations

import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import zstandard

from daskmr.counts import NO_COUNTS, Counted, Counts
from daskmr.data.dims import Dims
from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import KEYED, Reading, RecordFormat
from daskmr.data.sampling import KeyFilter
from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.job.map_context import MapContext
from daskmr.job.process_errors import no_children
from daskmr.memory import WORKER_BASE, resident
from daskmr.run.trial import Record, Trial, read_records
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.frames import Run
from daskmr.tasks.guard import TimeIsUp, alarm, no_exit
from daskmr.tasks.user_calls import combiner_of

__all__ = ["Estimate", "Sample", "estimate", "map_sample"]

_SLICES = 5  # each file gets at most a fifth of the time
_PATIENCE = 4  # times the time of the sample; the sample is interrupted after that
_MOST_FILES = 2000
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Sample(Counted):
    """The figures of the sample."""

    counts: Counts = NO_COUNTS  # for partly mapped files, bytes of the mapped part
    pairs: int = 0  # pairs, or lines of a map-only job, written by `map`
    keys: int = 0  # distinct keys of the pairs
    text_bytes: int = 0  # bytes written by a map-only job
    seconds: float = 0.0  # time to map the sample
    held: int = 0  # estimated bytes of the pairs in memory
    packed: int = 0  # bytes of the pairs, or of a map-only job's lines, compressed on disk
    growth: float = 1.0  # growth of memory with the input: 1 is proportional, 0 is none
    beside: int = 0  # bytes by which the process has grown in addition to `held`
    corrupt: tuple[str, ...] = ()  # the problems of corrupt files
    failure: str = ""  # why `map` failed; "" if it did not
    details: str = ""  # the traceback of the user's own code


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated figures of a run."""

    records: int
    pairs: int  # pairs, or lines of a map-only job, written by `map`
    # Time to map on all workers; ``None`` if their number is not known.
    map_seconds: float | None
    worker_seconds: float  # time that one worker would take to map
    memory: int  # bytes that a worker process holds while it maps
    spilled: int  # bytes that the mappers write to the work dir
    output: int | None = None  # uncompressed bytes of a map-only job's output


def map_sample(
    job: Job,
    files: Sequence[tuple[InputFile, str]],
    seconds: float,
    *,
    buckets: int = 1,
    combine_size: int = 50,
    max_record_bytes: int = 1 << 30,
    keys: KeyFilter | None = None,
    form: RecordFormat = KEYED,
    names: tuple[str, ...] = (),
    on_error: str = "fail",
) -> Sample:
    """Map files from all over the input, or the beginnings of them, until the time is up.

    - `files`: the input files on this machine, each with its local path.
    - `seconds`: the time to map for.
    - `buckets`: buckets of the run, into which pairs are divided before they are compressed.
    - `combine_size`, `max_record_bytes`, `on_error`: the settings of these names.
    - `keys`: the filter of the records by key; ``None`` for all records.
    - `form`: the format of the records.
    - `names`: the names of the dimensions.
    """
    trial = Trial(job, form, on_error)
    sampling = _Sampling(trial, seconds, buckets, combine_size, max_record_bytes, keys, names)
    failure, details, patience = "", "", _PATIENCE * seconds
    with job.activate(), no_exit(), no_children(), alarm(patience) as rung:
        try:
            sampling.run(files)
        except (TaskFailed, OSError, TimeIsUp) as error:
            if rung or isinstance(error, TimeIsUp):
                where = f"{sampling.place}, line {sampling.line}"
                failure = f"map took more than {patience:g} s at {where}, and was stopped there."
            elif isinstance(error, TaskFailed):
                failure, details = error.message, error.details
            else:
                reason = error.strerror or error
                failure = f"The input file {sampling.place} cannot be read: {reason}."
    return sampling.sample(failure, details)


class _Sampling:
    """The mapping of a sample."""

    def __init__(
        self,
        trial: Trial,
        seconds: float,
        buckets: int,
        combine_size: int,
        max_record_bytes: int,
        keys: KeyFilter | None,
        names: tuple[str, ...],
    ) -> None:
        self.place, self.line = "", 0
        self._seconds = seconds
        self._max_record_bytes = max_record_bytes
        self._keys = keys
        self._names = names
        self._resident = self._most = resident()
        self._trial = trial
        self._form, self._reader = trial.form, trial.reader
        self._fold = None
        if isinstance(self._trial.context, MapContext):
            spilling = Spilling("", _NO_LIMIT, buckets, 1)
            groups = self._trial.context.groups
            self._fold = Fold(groups, spilling, combiner_of(trial.job), combine_size)
        self._files = self._bytes = self._records = self._pairs = self._text = self._packed = 0
        self._bad: Counter[str] = Counter()
        self._corrupt: list[str] = []
        self._runs: list[Run] = []
        self._started = time.perf_counter()
        self._half: tuple[int, int] | None = None  # bytes mapped and bytes held at half-time

    def run(self, files: Sequence[tuple[InputFile, str]]) -> None:
        self._trial.call_hook("setup_map")
        self._map_files(files)
        self._trial.call_hook("finish_map")
        self._flush()
        if self._fold is not None:
            self._runs = self._fold.finish()

    def _map_files(self, files: Sequence[tuple[InputFile, str]]) -> None:
        # In random order, so that the first few files are from all over the input
        for file, path in random.Random(0).sample(files, min(len(files), _MOST_FILES)):
            if self._elapsed() > self._seconds:
                return
            try:
                self._map_file(file, path)
            except CorruptFileError as error:
                self._corrupt.append(str(error))
            if self._fold and self._half is None and self._elapsed() > self._seconds / 2:
                self._half = self._bytes, self._fold.held()

    def _elapsed(self) -> float:
        return time.perf_counter() - self._started

    def _map_file(self, file: InputFile, path: str) -> None:
        self.place = path
        taken = 0  # bytes of the records of a reader
        dims, end = Dims(file.dims, self._names), math.inf
        with open(path, "rb", buffering=0) as stream:
            about = Reading(file.path, dims, self._max_record_bytes)
            records = read_records(stream, self._max_record_bytes, self._reader, self._form, about)
            for number, record in records:
                if end == math.inf:  # begin to count when the reader is imported and the file open
                    end = self._elapsed() + self._seconds / _SLICES
                self.line = number
                taken += 0 if isinstance(record, str) else record.size
                if self._is_sampled(record):
                    bad = self._trial.map(path, dims, number, record, file.path, file.source)
                    self._records += 1
                    if bad is not None:
                        self._bad[bad.reason] += 1
                if len(self._trial.pending) >= (self._fold.batch if self._fold else 1000):
                    self._flush()
                if self._elapsed() > end:
                    # A reader that opens the file again, to read parts of it, leaves this at 0.
                    self._bytes += min(stream.tell() or taken, file.size)
                    break
            else:
                self._bytes += file.size
        self._files += 1
        self._flush()
        self._most = max(self._most, resident())

    def _is_sampled(self, record: Record) -> bool:
        keys = self._keys
        if keys is None:
            return True
        if isinstance(record, str):
            key, tab, _ = record.partition("\t")
            return not tab or keys.takes(key)  # a record without a key is mapped too, as it is bad
        (key,) = record.keys
        return keys.takes(key if isinstance(key, str) else repr(key))

    def _flush(self) -> None:
        pending, context = self._trial.pending, self._trial.context
        self._pairs += len(pending)
        if self._fold is not None and isinstance(context, MapContext):
            self._fold.settle(pending, context.large)
            context.clear()
        elif pending:
            text = "".join(pending).encode("utf-8", "surrogatepass")
            self._text += len(text)
            self._packed += _compressed(text)
            pending.clear()
        context.hurry.clear()

    def sample(self, failure: str, details: str) -> Sample:
        seconds = self._elapsed()
        held, packed, keys, growth = 0, self._packed, 0, 1.0
        if self._fold is not None and not failure:
            keys = len(self._trial.groups)
            held = self._fold.held()
            growth = _growth(self._half, (self._bytes, held))
            chunks = [chunk for run in self._runs for chunk in run.chunks]
            packed = sum(_compressed(chunk) for chunk in chunks if isinstance(chunk, bytes))
        return Sample(
            Counts(self._files, self._bytes, self._records, dict(self._bad)),
            pairs=self._pairs,
            keys=keys,
            text_bytes=self._text,
            seconds=seconds,
            held=held,
            packed=packed,
            growth=growth,
            beside=max(0, self._most - self._resident - held),
            corrupt=tuple(self._corrupt),
            failure=failure,
            details=details,
        )


def _compressed(data: bytes) -> int:
    return len(zstandard.ZstdCompressor(level=1).compress(data))


def _growth(half: tuple[int, int] | None, end: tuple[int, int]) -> float:
    """Return the exponent with which memory grows with the input.

    >>> _growth((100, 50), (200, 100)), _growth((100, 50), (200, 50)), _growth(None, (1, 1))
    (1.0, 0.0, 1.0)
    """
    if half is None or not 0 < half[0] < end[0] or half[1] <= 0 or end[1] <= 0:
        return 1.0
    exponent = math.log(end[1] / half[1]) / math.log(end[0] / half[0])
    return min(1.0, max(0.0, exponent))


def estimate(
    sample: Sample,
    plan: Sequence[Partition],
    *,
    workers: int | None,
    spill_bytes: int,
    grouped: bool,
) -> Estimate | None:
    """Estimate a run from its sample; ``None`` if the sample is empty or failed.

    - `workers`: processes that map at the same time; ``None`` if not known.
    - `spill_bytes`: the setting of this name.
    - `grouped`: whether the job has a `reduce`.

    Examples
    --------
    >>> files = tuple(InputFile(f"{n}.gz", 1_000_000, ()) for n in range(4))
    >>> sample = Sample(Counts(1, 1_000_000, 500), pairs=500, seconds=2.0)
    >>> plan = [Partition(0, files, 4_000_000)]
    >>> estimate(sample, plan, workers=2, spill_bytes=64 << 20, grouped=True).map_seconds
    8.0
    """
    if not sample.bytes or sample.failure:
        return None
    sizes = [sum(file.bytes for file in partition.files) for partition in plan]
    times = [sample.seconds * size / sample.bytes for size in sizes]
    share = sum(sizes) / sample.bytes
    shared = None if workers is None else max(sum(times) / workers, max(times))
    held = [sample.held * math.pow(size / sample.bytes, sample.growth) for size in sizes]
    allowance = Spilling("", spill_bytes, 1, max(1, len(plan))).allowance
    spilled = sum(size for size in held if size > allowance) * sample.packed / (sample.held or 1)
    output = None if grouped else int(sample.text_bytes * share)
    if output is not None and output > spill_bytes:
        spilled = sample.packed * share
    return Estimate(
        records=round(sample.records * share),
        pairs=round(sample.pairs * share),
        map_seconds=shared,
        worker_seconds=sum(times),
        memory=int(WORKER_BASE + min(max(held), spill_bytes) + sample.beside),
        spilled=int(spilled),
        output=output,
    )
