"""Adding up what tasks have said, so that each partition counts once; and which looks are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from daskmr import clock
from daskmr.counts import Counts, most_frequent_first
from daskmr.history import HotKey, Look, Progress, TaskSpan, WorkerLook
from daskmr.memory import resident
from daskmr.tasks.hot_keys import merge_hot_keys
from daskmr.tasks.progress import Report

__all__ = ["Plan", "RunState", "Thinned"]

_IDLE_SECONDS = 1.5  # after the end of a task, when a process is taken for idle


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is about to do.

    Attributes
    ----------
    job : str
        Name of the job.
    phases : tuple of str
        Those of `daskmr.history.PHASES` that it has.
    files, bytes : int
        What is read.
    to_fetch, bytes_to_fetch : int
        What of that has to be fetched first.
    partitions, merges, buckets : int
        How many tasks map, how often two partial results meet, and in how many buckets the keys are.
    inline : bool
        It runs in this process.
    """

    job: str
    phases: tuple[str, ...]
    files: int
    bytes: int
    to_fetch: int
    bytes_to_fetch: int
    partitions: int
    merges: int
    buckets: int
    inline: bool


class RunState:
    """What tasks have said, added up so that each partition counts once."""

    def __init__(self) -> None:
        self.phase = "list"
        self.plan: Plan | None = None
        self.listed = Progress()
        self.written: Progress | None = None
        self.workers: Mapping[str, Any] | None = {}
        self.ended = False
        self.hot_keys: tuple[HotKey, ...] = ()
        self._done: dict[tuple[str, int], TaskSpan] = {}
        self._total = {"map": Counts(), "reduce": Counts()}
        self._tasks: Counter[str] = Counter()  # done, by phase
        self._running: dict[tuple[str, int], Report] = {}
        self._last: dict[str, tuple[Report, float]] = {}  # by process, with when it was heard
        self._merges: dict[str, int] = {}
        self._spilled: Counter[str] = Counter()  # by worker

    @property
    def inline(self) -> bool:
        return self.plan is not None and self.plan.inline

    @property
    def spans(self) -> tuple[TaskSpan, ...]:
        return tuple(sorted(self._done.values(), key=lambda span: (span.phase, span.number)))

    def take(self, report: Report) -> None:
        """Take a report; of a task that is done, the first counts."""
        last = self._last.get(report.process)
        if last is not None and last[0].at >= report.at:
            return  # it was read again, or stands there since before the task was done
        self._last[report.process] = report, time.monotonic()
        self._merges[report.process] = report.merges
        if report.phase == "merge":
            return
        task = report.phase, report.number
        if task in self._done:
            return
        if not report.done:
            self._running[task] = report
            return
        self._running.pop(task, None)
        self._done[task] = _span(report)
        self._total[report.phase] += report.counts
        self._tasks[report.phase] += 1
        self._spilled[report.worker] += report.counts.spilled
        self.hot_keys = merge_hot_keys(self.hot_keys, tuple(HotKey(*key) for key in report.hot))

    def look(self) -> Look:
        """What all of this means now."""
        mapped = self._sum("map")
        progress = self._progress(mapped)
        return Look(
            clock.now(),
            self._phase(progress),
            progress,
            counts=mapped._replace(bad_reasons=most_frequent_first(mapped.bad_reasons)),
            workers=self._workers(),
        )

    def _sum(self, phase: str) -> Counts:
        """What is done, and what is known of that which is being done."""
        running = (report.counts for task, report in self._running.items() if task[0] == phase)
        return sum(running, self._total[phase])

    def _progress(self, mapped: Counts) -> dict[str, Progress]:
        plan = self.plan
        if plan is None:
            return {"list": self.listed}
        reduced = self._sum("reduce")
        merges = min(sum(self._merges.values()), plan.merges)
        if self._tasks["reduce"] or reduced.files or self.written is not None:
            merges = plan.merges  # there is no reducing before all have met
        buckets = plan.buckets if self.written is not None else reduced.files
        everything = {
            "list": Progress(1, 1, plan.files, plan.files, plan.bytes, plan.bytes),
            "fetch": Progress(
                files=mapped.fetched,
                files_total=plan.to_fetch,
                bytes=mapped.fetched_bytes,
                bytes_total=plan.bytes_to_fetch,
            ),
            "map": self._mapping(mapped, plan),
            "merge": Progress(merges, plan.merges),
            "reduce": Progress(min(buckets, plan.buckets), plan.buckets),
            "write": self.written or Progress(),
        }
        return {name: everything[name] for name in plan.phases}

    def _mapping(self, mapped: Counts, plan: Plan) -> Progress:
        tasks = self._tasks["map"]
        if self.written is not None:  # what was left out is done with, too
            tasks, mapped = plan.partitions, Counts(files=plan.files, bytes=plan.bytes)
        return Progress(
            min(tasks, plan.partitions),
            plan.partitions,
            min(mapped.files, plan.files),
            plan.files,
            min(mapped.bytes, plan.bytes),
            plan.bytes,
        )

    def _phase(self, progress: Mapping[str, Progress]) -> str:
        if self.plan is None:
            return "list"
        if self.written is not None:
            return "write"
        for name in ("map", "merge", "reduce"):
            if name in progress and progress[name].tasks < progress[name].tasks_total:
                return name
        return "reduce" if "reduce" in progress else "map"

    def _workers(self) -> tuple[WorkerLook, ...]:
        if self.inline:
            last = next(iter(self._last.values()), (None, 0.0))
            own = WorkerLook("inline", memory=resident(), spilled=self._spilled["inline"])
            return (_at_work(own, *last),)
        latest = {report.address: (report, heard) for report, heard in self._last.values()}
        looks = [
            _at_work(_worker_look(worker, self._spilled), *latest.get(address, (None, 0.0)))
            for address, worker in (self.workers or {}).items()
        ]
        return tuple(sorted(looks, key=lambda look: (len(look.name), look.name)))


def _span(report: Report) -> TaskSpan:
    return TaskSpan(
        report.phase,
        report.number,
        report.worker,
        report.start,
        report.at,
        report.counts,
        report.memory,
    )


def _worker_look(worker: Mapping[str, Any], spilled: Mapping[str, int]) -> WorkerLook:
    """What the scheduler knows of a worker."""
    name = str(worker["name"])
    return WorkerLook(
        name,
        memory=int(worker["metrics"].get("memory", 0)),
        limit=int(worker["memory_limit"] or 0),
        status=str(worker["status"]),
        spilled=spilled.get(name, 0),
    )


def _at_work(look: WorkerLook, report: Report | None, heard: float) -> WorkerLook:
    """Add what the worker's process has said last."""
    if report is None:
        return look
    ended = report.done or report.phase == "merge"  # and the next task has not said anything yet
    if ended and time.monotonic() - heard > _IDLE_SECONDS:
        return look
    if report.done:
        return replace(look, phase=report.phase)
    phase = "fetch" if report.fetching else report.phase
    spilled = look.spilled + report.counts.spilled
    return replace(look, phase=phase, file=report.file, spilled=spilled)


class Thinned:
    """Looks that are spread evenly: when there are too many, every second one goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._looks: list[Look] = []
        self._last: Look | None = None
        self._step = 1
        self._count = 0

    def add(self, look: Look) -> None:
        self._last = look
        if self._count % self._step == 0:
            self._looks.append(look)
        self._count += 1
        if len(self._looks) >= self._most:
            self._looks = self._looks[::2]
            self._step *= 2

    @property
    def kept(self) -> tuple[Look, ...]:
        """Those that are kept, and the last."""
        looks, last = self._looks, self._last
        return tuple(looks) if last is None or looks[-1] is last else (*looks, last)
