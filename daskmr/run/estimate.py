"""Estimate the time and memory of a run, by mapping a sample of its input for a few seconds.

The sample is small, one process has the machine to itself, and fetching is not measured.
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
from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.sampling import KeyFilter
from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.job.map_context import MapContext
from daskmr.job.process_errors import no_children
from daskmr.memory import resident
from daskmr.run.trial import Trial, read_records
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.guard import TimeIsUp, alarm, no_exit
from daskmr.tasks.user_calls import combiner_of

__all__ = ["Estimate", "Sample", "estimate", "map_sample"]

_SLICES = 5  # files of the sample that share the time, if they are large
_PATIENCE = 4  # times the time of the sample: a record that takes longer is interrupted
_MOST_FILES = 2000
_NO_LIMIT = 1 << 60
_WORKER_BASE = 150_000_000  # bytes that a worker takes before it holds any data


@dataclass(frozen=True, slots=True)
class Sample(Counted):
    """The figures of the sample."""

    counts: Counts = NO_COUNTS  # of a file that was mapped in part, the bytes of that part
    pairs: int = 0  # what `map` has written: pairs, or for a map-only job lines
    keys: int = 0  # distinct keys among them
    text_bytes: int = 0  # bytes that a map-only job has written
    seconds: float = 0.0  # what it took
    # held, packed: bytes that its pairs take in memory, as estimated, and that they, or the lines
    # of a map-only job, take on disk, compressed.
    held: int = 0
    packed: int = 0
    growth: float = 1.0  # how the memory grows with the input: 1 is in proportion, 0 not at all
    beside: int = 0  # bytes by which the process has grown beside
    corrupt: tuple[str, ...] = ()  # what is wrong with files that are damaged
    # Why `map` failed, and the user's own traceback; "" when it did not
    failure: str = ""
    details: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated figures of a run."""

    # Lines, and what `map` writes for them
    records: int
    pairs: int
    # Time to map on all workers; ``None`` where their number is not known.
    map_seconds: float | None
    worker_seconds: float  # time that one worker would take to map
    memory: int  # bytes that a worker process holds while it maps
    spilled: int  # bytes that the mappers write to the work dir
    output: int | None = None  # bytes of the output, uncompressed, of a map-only job


def map_sample(
    job: Job,
    files: Sequence[tuple[InputFile, str]],
    seconds: float,
    *,
    buckets: int = 1,
    combine_size: int = 50,
    max_record_bytes: int = 1 << 30,
    keys: KeyFilter | None = None,
) -> Sample:
    """Map files from all over the input, or the beginnings of them, until the time is up.

    - `files`: the input as far as it is on this machine, each with its local path.
    - `seconds`: how long to map.
    - `buckets`: buckets of the run, by which pairs are cut before they are compressed.
    - `combine_size`, `max_record_bytes`: the settings of these names.
    - `keys`: which records the run is to read; ``None`` is all.
    """
    sampling = _Sampling(job, seconds, buckets, combine_size, max_record_bytes, keys)
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
    """A sample while it is mapped."""

    def __init__(
        self,
        job: Job,
        seconds: float,
        buckets: int,
        combine_size: int,
        max_record_bytes: int,
        keys: KeyFilter | None,
    ) -> None:
        self.place, self.line = "", 0
        self._seconds = seconds
        self._max_record_bytes = max_record_bytes
        self._keys = keys
        self._resident = self._most = resident()
        self._trial = Trial(job)
        self._fold = None
        if isinstance(self._trial.context, MapContext):
            spilling = Spilling("", _NO_LIMIT, buckets, 1)
            groups = self._trial.context.groups
            self._fold = Fold(groups, spilling, combiner_of(job), combine_size)
        self._files = self._bytes = self._records = self._pairs = self._text = self._packed = 0
        self._bad: Counter[str] = Counter()
        self._corrupt: list[str] = []
        self._started = time.perf_counter()
        self._half: tuple[int, int] | None = None  # bytes mapped, bytes held, half-way

    def run(self, files: Sequence[tuple[InputFile, str]]) -> None:
        # In random order, so that the first few are from all over the input
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
        dims, end = list(file.dims), self._elapsed() + self._seconds / _SLICES
        with open(path, "rb", buffering=0) as stream:
            for number, line in read_records(stream, self._max_record_bytes):
                self.line = number
                keys = self._keys
                # A record without a key is bad, and counts.
                if keys is None or "\t" not in line or keys.takes(line.partition("\t")[0]):
                    bad = self._trial.map(path, dims, number, line)
                    self._records += 1
                    if bad is not None:
                        self._bad[bad.reason] += 1
                if len(self._trial.pending) >= (self._fold.batch if self._fold else 1000):
                    self._flush()
                if self._elapsed() > end:
                    self._bytes += min(stream.tell(), file.size)
                    break
            else:
                self._bytes += file.size
        self._files += 1
        self._flush()
        self._most = max(self._most, resident())

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
            runs = self._fold.finish()
            held = self._fold.held()
            growth = _growth(self._half, (self._bytes, held))
            chunks = [chunk for run in runs for chunk in run.chunks]
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
    """Return how memory grows, as an exponent of the input.

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
    """Estimate a run from its sample; ``None`` where the sample is empty or failed.

    - `workers`: processes that map at the same time; ``None`` is not known.
    - `spill_bytes`: the setting of this name.
    - `grouped`: the job has a `reduce`.

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
    sizes = [sum(file.size for file in partition.files) for partition in plan]
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
        memory=int(_WORKER_BASE + min(max(held), spill_bytes) + sample.beside),
        spilled=int(spilled),
        output=output,
    )
