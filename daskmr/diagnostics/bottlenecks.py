"""Where a run has lost time, in words, and what to do about it. Pure."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from daskmr.history import History, TaskSpan
from daskmr.text import format_bytes, format_count, format_seconds, shorten

__all__ = ["Loss", "find_losses", "stragglers"]

_SHARE = 0.1  # of the whole, before something is worth a word
_LEAST = 1.0  # second
_HOT = 0.2  # of the values, in one key
_LARGE = 3.0  # times the median
_STRAGGLER_TIMES = 3.0  # times the median
_STRAGGLER_SECONDS = 1.0  # and this much longer
_FEWEST = 4  # tasks, for a median to mean something
_SHORT = 0.1  # seconds
_FULL = 0.8  # of the memory limit
_MUCH = 100_000_000  # bytes that are spilled
_NAMED = 3
_FILE = 64  # characters of a name


@dataclass(frozen=True, slots=True)
class Loss:
    """One way in which time was lost.

    Attributes
    ----------
    title : str
        What it is called, in a word or two.
    text : str
        What was seen.
    advice : str
        What to do about it.
    seconds : float
        How much longer the run took, roughly; 0 where that cannot be said.
    """

    title: str
    text: str
    advice: str
    seconds: float = 0.0


def find_losses(
    history: History, timings: Mapping[str, float], *, combines: bool = False, values: int = 0
) -> tuple[Loss, ...]:
    """Return where time was lost, the most of it first.

    Parameters
    ----------
    history : History
        Of a run that has ended.
    timings : mapping of str to float
        Seconds by phase; ``"total"`` is all of it.
    combines : bool
        Whether the job has a `combine`.
    values : int
        Values that `map` wrote; 0 where that is not known.

    Examples
    --------
    >>> for loss in find_losses(History(0, 10), {"list": 0.5, "start": 6.0, "total": 10}):
    ...     print(loss.title, loss.seconds)
    starting 6.0
    """
    run = _Run(history, timings, combines, values)
    found = [
        *run.phases(),
        *run.straggling(),
        *run.idling(),
        *run.skew(),
        *run.hot_keys(),
        *run.waiting(),
        *run.spill(),
        *run.memory(),
    ]
    return tuple(sorted(found, key=lambda loss: -loss.seconds))


def stragglers(tasks: Iterable[TaskSpan]) -> tuple[TaskSpan, ...]:
    """Return the tasks of a phase that took far longer than its median, the longest first.

    Examples
    --------
    >>> tasks = [TaskSpan("map", n, "0", 0, 9 if n == 3 else 1) for n in range(6)]
    >>> [task.number for task in stragglers(tasks)]
    [3]
    """
    all_tasks = list(tasks)
    found = []
    for phase in {task.phase for task in all_tasks}:
        spans = [task for task in all_tasks if task.phase == phase]
        if len(spans) >= _FEWEST:
            median = statistics.median(task.end - task.start for task in spans)
            least = max(_STRAGGLER_TIMES * median, median + _STRAGGLER_SECONDS)
            found += [task for task in spans if task.end - task.start > least]
    return tuple(sorted(found, key=lambda task: task.start - task.end))


@dataclass(frozen=True, slots=True)
class _Run:
    history: History
    timings: Mapping[str, float]
    combines: bool
    values: int

    @property
    def total(self) -> float:
        return max(self.timings.get("total", 0.0), self.history.ended - self.history.started, 1e-3)

    def tasks(self, phase: str) -> list[TaskSpan]:
        return [task for task in self.history.tasks if task.phase == phase]

    def _counts(self, seconds: float) -> bool:
        return seconds >= max(_LEAST, _SHARE * self.total)

    def _of_all(self, seconds: float) -> str:
        return f"{format_seconds(seconds)}, {100 * seconds / self.total:.0f}% of the whole"

    def phases(self) -> Iterable[Loss]:
        """What one process does, while the workers wait."""
        for phase, (title, what, advice) in _SERIAL.items():
            seconds = self.timings.get(phase, 0.0)
            if self._counts(seconds):
                yield Loss(title, f"{what} took {self._of_all(seconds)}.", advice, seconds)

    def straggling(self) -> Iterable[Loss]:
        """Partitions that took far longer than the others."""
        mapped = self.tasks("map")
        slow = [task for task in stragglers(mapped) if task.phase == "map"]
        if not slow:
            return
        median = statistics.median(_seconds(task) for task in mapped)
        typical = statistics.median(task.bytes for task in mapped)
        told = [self._describe(task, median, typical) for task in slow[:_NAMED]]
        if len(slow) > _NAMED:
            told.append(f"{len(slow) - _NAMED:,} more partitions took over three times as long")
        large = slow[0].bytes > _LARGE * typical
        advice = (
            "A file is never split: write smaller files, so that "
            "none is much larger than the others."
            if large
            else "Its size does not explain it: look at what its records hold (--inline on that file "
            "alone, or --profile), or whether something else kept that worker busy."
        )
        yield Loss("stragglers", "; ".join(told) + ".", advice, self._tail("map"))

    def _describe(self, task: TaskSpan, median: float, typical: float) -> str:
        file = self._file_of(task)
        where = f", mostly in {shorten(file, _FILE)}" if file else ""
        ratio = task.bytes / typical if typical else 1.0
        size = f"{ratio:.1f} times the median size" if ratio > 1.5 else "of usual size"
        return (
            f"partition {task.number} took {format_seconds(_seconds(task))}, "
            f"{_seconds(task) / max(median, 1e-3):.0f} times the median ({size}{where})"
        )

    def _file_of(self, task: TaskSpan) -> str:
        """The file that its worker was seen at most often while it ran."""
        seen = Counter(
            worker.file
            for look in self.history.looks
            if task.start <= look.at <= task.end
            for worker in look.workers
            if worker.name == task.worker and worker.file
        )
        return seen.most_common(1)[0][0] if seen else ""

    def _tail(self, phase: str) -> float:
        """How long the last worker of a phase had to itself."""
        last: dict[str, float] = {}
        for task in self.tasks(phase):
            last[task.worker] = max(last.get(task.worker, task.end), task.end)
        ends = sorted(last.values())
        return ends[-1] - ends[-2] if len(ends) > 1 else 0.0

    def idling(self) -> Iterable[Loss]:
        """Workers that had nothing to map while others did."""
        mapped = self.tasks("map")
        workers = {task.worker for task in self.history.tasks}
        if len(workers) < 2 or not mapped:
            return
        begin, end = min(task.start for task in mapped), max(task.end for task in mapped)
        capacity = len(workers) * (end - begin)
        idle = max(0.0, capacity - _busy(mapped))
        lost = idle / len(workers)
        if not self._counts(lost):
            return
        yield Loss(
            "idle workers",
            f"While files were mapped, workers had nothing to do for {100 * idle / capacity:.0f}% of "
            f"the time ({len(mapped):,} partitions on {len(workers):,} workers).",
            _advise_idle(mapped, len(workers)),
            lost,
        )

    def skew(self) -> Iterable[Loss]:
        """A reducer that took far longer than the others."""
        reduced = sorted(self.tasks("reduce"), key=_seconds)
        if len(reduced) < 2:
            return
        longest, median = reduced[-1], statistics.median(_seconds(task) for task in reduced)
        tail = self._tail("reduce")
        if _seconds(longest) < _LARGE * median or not self._counts(tail):
            return
        yield Loss(
            "skew",
            f"The reducer from bucket {longest.number} took {format_seconds(_seconds(longest))}, "
            f"{_seconds(longest) / max(median, 1e-3):.0f} times the median, and the others waited.",
            "Its keys have most of the values, and all values of a key go to one reducer: define "
            "combine, or spread such a key over several (add a number to it, and add up later).",
            tail,
        )

    def hot_keys(self) -> Iterable[Loss]:
        """A key that takes a large share of all."""
        whole = self.values or sum(task.records for task in self.tasks("map"))
        if not self.history.hot_keys or not whole:
            return
        key = max(self.history.hot_keys, key=lambda hot: hot.values)
        share = key.values / whole
        reducing = self.timings.get("reduce", 0.0) + self.timings.get("merge", 0.0)
        if share < _HOT or self.combines or not self._counts(reducing):
            return
        about = "" if key.exact else "about "
        amount = f"{100 * share:.0f}% of all"
        if not self.values:
            amount = f"as many as {100 * share:.0f}% of the records"
        yield Loss(
            "one hot key",
            f"The key {key.key} holds {about}{format_count(key.values)} values, {amount}.",
            "All of them go to one reducer. With a combine, that writes one value for fifty, it would "
            "get a fraction of them.",
        )

    def waiting(self) -> Iterable[Loss]:
        """Mappers that waited for files."""
        mapped = self.tasks("map")
        waited, busy = sum(task.waited for task in mapped), _busy(mapped)
        lost = waited / max(1, len({task.worker for task in mapped}))
        if not self._counts(lost):
            return
        yield Loss(
            "waiting for files",
            f"Mappers waited for files from the store for {100 * waited / max(busy, 1e-3):.0f}% of "
            f"their time, {format_seconds(lost)} each.",
            "Another run finds them in the cache. Else run nearer to the bucket, fetch further ahead "
            "(daskmr.prefetch-bytes), or take more mappers than cores.",
            lost,
        )

    def spill(self) -> Iterable[Loss]:
        """What did not fit in memory."""
        spilled = sum(task.spilled for task in self.history.tasks)
        stored = sum(task.bytes for task in self.tasks("map"))
        if spilled < max(_MUCH, _SHARE * stored):
            return
        yield Loss(
            "spilling",
            f"{format_bytes(spilled)} were written to disk between map and reduce, and read again.",
            "Write smaller values, or raise daskmr.spill-bytes, with memory to match."
            if self.combines
            else "A combine makes them fewer before they are written; or raise daskmr.spill-bytes, "
            "with memory to match.",
        )

    def memory(self) -> Iterable[Loss]:
        """Workers near their limit."""
        near: dict[str, float] = defaultdict(float)
        paused = set()
        for look in self.history.looks:
            for worker in look.workers:
                if worker.limit:
                    near[worker.name] = max(near[worker.name], worker.memory / worker.limit)
                if worker.status == "paused":
                    paused.add(worker.name)
        most = max(near.values(), default=0.0)
        if paused or most >= _FULL:
            text = f"A worker held up to {100 * most:.0f}% of its memory limit"
            text += f", and some ({len(paused):,}) were paused for it." if paused else "."
            yield Loss(
                "memory",
                text,
                "Raise --memory-limit, take fewer mappers (-m), or lower daskmr.spill-bytes.",
            )


def _advise_idle(mapped: list[TaskSpan], workers: int) -> str:
    typical = statistics.median(map(_seconds, mapped))
    if typical < _SHORT:
        return (
            f"A partition takes {format_seconds(typical)}, and to hand out the next takes as long: raise "
            "daskmr.partition-bytes, or run small data with --inline."
        )
    if len(mapped) < 4 * workers:
        return (
            "There are too few partitions to go round: lower daskmr.partition-bytes, or take fewer "
            "workers."
        )
    return (
        "The last partitions end at different times: smaller ones (daskmr.partition-bytes) end closer "
        "together."
    )


_SERIAL = {
    "list": (
        "listing",
        "Finding the input files",
        "Narrow the filter on the first dimensions: what they exclude is never listed.",
    ),
    "start": (
        "starting",
        "Starting the workers",
        "For small data, --inline starts none; for many jobs in a row, give one client to mapreduce.",
    ),
    "merge": (
        "merging",
        "Merging what was mapped, before the first reducer began,",
        "Fewer and smaller values help: combine more, or map to less.",
    ),
    "write": (
        "writing",
        "Writing the output, which one process does,",
        "Write less, or choose a faster compression: .zst rather than .xz or .bz2.",
    ),
}


def _seconds(task: TaskSpan) -> float:
    return task.end - task.start


def _busy(tasks: Iterable[TaskSpan]) -> float:
    return sum(map(_seconds, tasks))
