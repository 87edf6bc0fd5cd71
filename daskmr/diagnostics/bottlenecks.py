"""Find out where a run lost time, and what to do about it."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter

from cytoolz import groupby

from daskmr.history import History, TaskSpan
from daskmr.text import format_bytes, format_count, format_seconds, shorten

__all__ = ["Loss", "find_losses", "seconds_of", "stragglers"]

_SHARE = 0.1  # of the run's time; smaller losses are not reported
_LEAST_SECONDS = 1.0  # shorter losses are not reported either
_HOT_SHARE = 0.2  # share of the values from which on a key is hot
_LARGE = 3.0  # times the median
_STRAGGLER_SECONDS = 1.0  # more than the median
_FEWEST = 4  # tasks needed for a median
_SHORT_SECONDS = 0.1
_FULL = 0.8  # of the memory limit
_MUCH_SPILL = 100_000_000  # bytes
_NAMED = 3
_FILE = 64  # characters of a name

_SERIAL = {  # phases of one process while the workers wait: title, activity, advice
    "list": (
        "listing",
        "Finding the input files",
        "Narrow the filter on the first dimensions: directories that they exclude are never listed.",
    ),
    "start": (
        "starting",
        "Starting the workers",
        "For small data, use --inline; for many jobs in a row, pass the same client to mapreduce.",
    ),
    "merge": (
        "merging",
        "Merging mapped values before the first reducer began",
        "Reduce the number and size of values: combine more, or write less in map.",
    ),
    "write": (
        "writing",
        "Writing the output in a single process",
        "Write less, or choose a faster compression: .zst rather than .xz or .bz2.",
    ),
}


@dataclass(frozen=True, slots=True)
class Loss:
    """One way in which time was lost."""

    title: str
    text: str  # the observation
    advice: str  # what to do about it
    seconds: float = 0.0  # rough time lost by the run; 0 if unknown


def find_losses(
    history: History, timings: Mapping[str, float], *, combines: bool = False, values: int = 0
) -> tuple[Loss, ...]:
    """Return the ways in which a completed run lost time, the largest loss first.

    - `timings`: seconds by phase, and ``"total"``.
    - `combines`: whether the job has a `combine`.
    - `values`: number of values that `map` wrote; 0 if unknown.

    Examples
    --------
    >>> for loss in find_losses(History(0, 10), {"list": 0.5, "start": 6.0, "total": 10}):
    ...     print(loss.title, loss.seconds)
    starting 6.0
    """
    run = _Run(history, timings, combines, values)
    found = [loss for detect in _DETECTORS for loss in detect(run)]
    steps = groupby(attrgetter("step"), history.tasks)
    for number, tasks in steps.items():
        of_step = replace(run, history=replace(history, tasks=tuple(tasks)))
        where = f"In step {number}: " if len(steps) > 1 else ""
        for detect in _DETECTORS_OF_STEPS:
            found += [replace(loss, text=f"{where}{loss.text}") for loss in detect(of_step)]
    return tuple(sorted(found, key=lambda loss: -loss.seconds))


def stragglers(tasks: Iterable[TaskSpan]) -> tuple[TaskSpan, ...]:
    """Return the tasks that took much longer than the median of their phase and step, the longest first.

    Examples
    --------
    >>> tasks = [TaskSpan("map", n, "0", 0, 9 if n == 3 else 1) for n in range(6)]
    >>> [task.number for task in stragglers(tasks)]
    [3]
    """
    found: list[TaskSpan] = []
    for spans in groupby(attrgetter("step", "phase"), tasks).values():
        if len(spans) >= _FEWEST:
            median = _median(spans)
            least = max(_LARGE * median, median + _STRAGGLER_SECONDS)
            found += [task for task in spans if seconds_of(task) > least]
    return tuple(sorted(found, key=seconds_of, reverse=True))


def seconds_of(task: TaskSpan) -> float:
    """Return the duration of a task."""
    return task.end - task.start


def _median(tasks: Iterable[TaskSpan]) -> float:
    return statistics.median(map(seconds_of, tasks))


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

    def matters(self, seconds: float) -> bool:
        return seconds >= max(_LEAST_SECONDS, _SHARE * self.total)

    def tail(self, phase: str) -> float:
        """Return the seconds for which only one worker was still busy with a phase."""
        by_worker = groupby(attrgetter("worker"), self.tasks(phase))
        ends = sorted(max(task.end for task in tasks) for tasks in by_worker.values())
        return float(ends[-1] - ends[-2]) if len(ends) > 1 else 0.0

    def file_of(self, task: TaskSpan) -> str:
        """Return the file that the worker was most often seen mapping while the task ran."""
        seen = Counter(
            worker.file
            for look in self.history.looks
            if task.start <= look.at <= task.end
            for worker in look.workers
            if worker.name == task.worker and worker.file
        )
        return seen.most_common(1)[0][0] if seen else ""


def _percent(part: float) -> str:
    return f"{100 * part:.0f}%"


def _serial_phases(run: _Run) -> Iterable[Loss]:
    for phase, (title, work, advice) in _SERIAL.items():
        seconds = run.timings.get(phase, 0.0)
        if run.matters(seconds):
            share = _percent(seconds / run.total)
            text = f"{work} took {format_seconds(seconds)}, {share} of the run."
            yield Loss(title, text, advice, seconds)


def _stragglers(run: _Run) -> Iterable[Loss]:
    mapped = run.tasks("map")
    slow = stragglers(mapped)
    if not slow:
        return
    median, typical = _median(mapped), statistics.median(task.bytes for task in mapped)
    described = [_describe(run, task, median, typical) for task in slow[:_NAMED]]
    if len(slow) > _NAMED:
        described.append(f"{len(slow) - _NAMED:,} more partitions took over three times as long")
    if slow[0].bytes > _LARGE * typical:
        advice = "Its files cannot be split: write smaller ones, or in a form that can (see docs/records.md)."
    else:
        advice = (
            "Size does not explain it: check the records (--inline with only that file, or "
            "--profile), and whether something else kept that worker busy."
        )
    yield Loss("stragglers", f"{'; '.join(described)}.", advice, run.tail("map"))


def _describe(run: _Run, task: TaskSpan, median: float, typical: float) -> str:
    file = run.file_of(task)
    where = f", mostly in {shorten(file, _FILE)}" if file else ""
    ratio = task.bytes / typical if typical else 1.0
    size = f"{ratio:.1f} times the median size" if ratio > 1.5 else "of usual size"
    return (
        f"partition {task.number} took {format_seconds(seconds_of(task))}, "
        f"{seconds_of(task) / max(median, 1e-3):.0f} times the median ({size}{where})"
    )


def _idle_workers(run: _Run) -> Iterable[Loss]:
    """Find workers that had nothing to map while others did."""
    mapped = run.tasks("map")
    workers = len({task.worker for task in run.history.tasks})
    if workers < 2 or not mapped:
        return
    begin, end = min(task.start for task in mapped), max(task.end for task in mapped)
    capacity = workers * (end - begin)
    idle = max(0.0, capacity - sum(map(seconds_of, mapped)))
    if not run.matters(idle / workers):
        return
    typical = _median(mapped)
    if typical < _SHORT_SECONDS:
        advice = (
            f"A partition takes only {format_seconds(typical)}, as long as scheduling the next one: "
            "raise daskmr.partition-bytes, or run small data with --inline."
        )
    elif len(mapped) < 4 * workers:
        advice = (
            "There are too few partitions for the workers: lower daskmr.partition-bytes, or use "
            "fewer workers."
        )
    else:
        advice = (
            "The last partitions ended at different times: make partitions smaller "
            "(daskmr.partition-bytes), so that they end closer together."
        )
    text = (
        f"During mapping, workers were idle for {_percent(idle / capacity)} of the time "
        f"({len(mapped):,} partitions on {workers:,} workers)."
    )
    yield Loss("idle workers", text, advice, idle / workers)


def _skew(run: _Run) -> Iterable[Loss]:
    """Find a reducer that the others waited for."""
    reduced = sorted(run.tasks("reduce"), key=seconds_of)
    if len(reduced) < 2:
        return
    seconds, median, tail = seconds_of(reduced[-1]), _median(reduced), run.tail("reduce")
    if seconds >= _LARGE * median and run.matters(tail):
        text = (
            f"The reducer from bucket {reduced[-1].number} took {format_seconds(seconds)}, "
            f"{seconds / max(median, 1e-3):.0f} times the median, and the others waited."
        )
        advice = (
            "Its keys have most of the values, and all values of a key go to one reducer: define "
            "combine, or split such a key into several (append a number to it, and merge them later)."
        )
        yield Loss("skew", text, advice, tail)


def _hot_key(run: _Run) -> Iterable[Loss]:
    """Find a key with a large share of all values."""
    total = run.values or sum(task.records for task in run.tasks("map"))
    if not run.history.hot_keys or not total:
        return
    key = max(run.history.hot_keys, key=lambda hot: hot.values)
    reducing = run.timings.get("reduce", 0.0) + run.timings.get("merge", 0.0)
    if key.values / total < _HOT_SHARE or run.combines or not run.matters(reducing):
        return
    percent = _percent(key.values / total)
    amount = f"{percent} of all" if run.values else f"as many as {percent} of the records"
    values = f"{'' if key.exact else 'about '}{format_count(key.values)} values"
    advice = (
        "All of them go to one reducer. Define combine, which replaces many values by one, to send "
        "only a fraction of them."
    )
    yield Loss("one hot key", f"The key {key.key} has {values}, {amount}.", advice)


def _waiting(run: _Run) -> Iterable[Loss]:
    """Find mappers that waited for files."""
    mapped = run.tasks("map")
    waited, busy = sum(task.waited for task in mapped), sum(map(seconds_of, mapped))
    lost = waited / max(1, len({task.worker for task in mapped}))
    if run.matters(lost):
        text = (
            f"Mappers waited for files from the store for {_percent(waited / max(busy, 1e-3))} of "
            f"their time, {format_seconds(lost)} each."
        )
        advice = (
            "The next run will find the files in the cache. To speed up fetching, run closer to the "
            "bucket, fetch further ahead (daskmr.prefetch-bytes), or use more mappers than cores."
        )
        yield Loss("waiting for files", text, advice, lost)


def _spill(run: _Run) -> Iterable[Loss]:
    spilled = sum(task.spilled for task in run.history.tasks)
    stored = sum(task.bytes for task in run.tasks("map"))
    if spilled >= max(_MUCH_SPILL, _SHARE * stored):
        text = f"{format_bytes(spilled)} were written to disk between map and reduce and read back."
        advice = (
            "Write smaller values, or raise daskmr.spill-bytes if there is enough memory."
            if run.combines
            else "Define combine to write fewer values, or raise daskmr.spill-bytes if there is "
            "enough memory."
        )
        yield Loss("spilling", text, advice)


def _memory(run: _Run) -> Iterable[Loss]:
    """Find workers near their memory limit."""
    seen = [worker for look in run.history.looks for worker in look.workers]
    paused = {worker.name for worker in seen if worker.status == "paused"}
    most = max((worker.memory / worker.limit for worker in seen if worker.limit), default=0.0)
    if paused or most >= _FULL:
        also = f", and some workers ({len(paused):,}) were paused because of it" if paused else ""
        text = f"A worker used up to {_percent(most)} of its memory limit{also}."
        advice = "Raise --memory-limit, use fewer mappers (-m), or lower daskmr.spill-bytes."
        yield Loss("memory", text, advice)


_DETECTORS = (
    _serial_phases,
    _hot_key,
    _waiting,
    _spill,
    _memory,
)
_DETECTORS_OF_STEPS = (_stragglers, _idle_workers, _skew)
