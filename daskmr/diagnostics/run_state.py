"""Combine the reports of tasks into the state of a run, counting each partition once."""

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

__all__ = ["RunOutline", "RunState", "Thinning"]

_IDLE_SECONDS = 1.5  # after the end of a task until its process counts as idle


@dataclass(frozen=True, slots=True)
class RunOutline:
    """The outline of a run, known once the input is listed."""

    job: str  # name of the job
    phases: tuple[str, ...]  # the run's phases, of `daskmr.history.PHASES`
    files: int  # number of input files
    bytes: int  # bytes of input
    to_fetch: int  # input files that must be fetched first
    bytes_to_fetch: int  # bytes of these
    partitions: int  # number of map tasks
    merges: int  # number of merges of two partial results
    buckets: int  # number of buckets of keys
    inline: bool  # whether it runs in this process
    params: tuple[str, ...] = ()  # parameters of the script, each with its value
    step: str = ""  # such as ``"step 2 of 3 (totals)"``, if the job has several


class RunState:
    """The state of a run according to the reports of its tasks."""

    def __init__(self) -> None:
        self.phase = "list"
        self.outline: RunOutline | None = None
        self.step = 1  # number of the current step
        self.listed = Progress()
        self.written: Progress | None = None
        self.workers: Mapping[str, Any] = {}
        self.ended = False
        self.hot_keys: tuple[HotKey, ...] = ()
        self._done: dict[tuple[str, int], TaskSpan] = {}
        self._total = {"map": Counts(), "reduce": Counts()}
        self._tasks: Counter[str] = Counter()  # done, by phase
        self._running: dict[tuple[str, int], Report] = {}
        self._last: dict[str, tuple[Report, float]] = {}  # by process, with the time of receipt
        self._merges: dict[str, int] = {}
        self._spilled: Counter[str] = Counter()  # by worker
        self._earlier: tuple[TaskSpan, ...] = ()  # tasks of the steps before
        self._merged = 0  # merges of those

    def begin(self, outline: RunOutline) -> None:
        """Begin the run, or its next step, whose tasks have the same numbers."""
        if self.outline is not None:
            self._earlier, self._merged = self.spans, sum(self._merges.values())
            self._done, self._running = {}, {}
            self.step += 1
            self._total, self._tasks = {"map": Counts(), "reduce": Counts()}, Counter()
        self.outline = outline

    @property
    def inline(self) -> bool:
        """True if the run is in this process."""
        return self.outline is not None and self.outline.inline

    @property
    def spans(self) -> tuple[TaskSpan, ...]:
        """The tasks that are done, by step, phase and number."""
        done = sorted(self._done.values(), key=lambda span: (span.phase, span.number))
        return (*self._earlier, *done)

    def add(self, report: Report) -> None:
        """Add a report; if several say that the same task is done, the first counts."""
        last = self._last.get(report.process)
        if last is not None and last[0].at >= report.at:
            return  # an old report, read again
        self._last[report.process] = report, time.monotonic()
        self._merges[report.process] = report.merges
        if report.phase == "merge":
            return
        phase, counts = report.phase, report.counts
        task = phase, report.number
        if task in self._done:
            return
        if not report.done:
            self._running[task] = report
            return
        self._running.pop(task, None)
        self._done[task] = TaskSpan(
            *task, report.worker, report.start, report.at, counts, report.memory, self.step
        )
        self._total[phase] += counts
        self._tasks[phase] += 1
        self._spilled[report.worker] += counts.spilled
        self.hot_keys = merge_hot_keys(self.hot_keys, tuple(HotKey(*key) for key in report.hot))

    def snapshot(self) -> Look:
        """Return the current state of the run."""
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
        """Sum the counts of tasks that are done or running."""
        running = (report.counts for task, report in self._running.items() if task[0] == phase)
        return sum(running, self._total[phase])

    def _progress(self, mapped: Counts) -> dict[str, Progress]:
        plan = self.outline
        if plan is None:
            return {"list": self.listed}
        reduced = self._sum("reduce")
        partitions, buckets = self._tasks["map"], reduced.files
        merges = sum(self._merges.values()) - self._merged
        if self.written is not None:  # skipped files count as done, too
            partitions, buckets = plan.partitions, plan.buckets
            mapped = mapped._replace(files=plan.files, bytes=plan.bytes)
        if self._tasks["reduce"] or buckets or self.written is not None:
            merges = plan.merges  # reducing begins after the last merge
        fetched = (mapped.fetched, plan.to_fetch, mapped.fetched_bytes, plan.bytes_to_fetch)
        done = (
            min(mapped.files, plan.files),
            plan.files,
            min(mapped.bytes, plan.bytes),
            plan.bytes,
        )
        everything = {
            "list": Progress(1, 1, plan.files, plan.files, plan.bytes, plan.bytes),
            "fetch": Progress(0, 0, *fetched),
            "map": Progress(min(partitions, plan.partitions), plan.partitions, *done),
            "merge": Progress(min(merges, plan.merges), plan.merges),
            "reduce": Progress(min(buckets, plan.buckets), plan.buckets),
            "write": self.written or Progress(),
        }
        return {name: everything[name] for name in plan.phases}

    def _phase(self, progress: Mapping[str, Progress]) -> str:
        if self.outline is None:
            return "list"
        if self.written is not None:
            return "write"
        for name in ("map", "merge", "reduce"):
            if name in progress and progress[name].tasks < progress[name].tasks_total:
                return name
        return "reduce" if "reduce" in progress else "map"

    def _workers(self) -> tuple[WorkerLook, ...]:
        if self.inline:
            own = WorkerLook("inline", memory=resident(), spilled=self._spilled["inline"])
            return (_at_work(own, *next(iter(self._last.values()), (None, 0.0))),)
        latest = {report.address: (report, received) for report, received in self._last.values()}
        workers = []
        for address, worker in self.workers.items():  # as the scheduler describes it
            name = str(worker["name"])
            known = WorkerLook(
                name,
                memory=int(worker["metrics"].get("memory", 0)),
                limit=int(worker["memory_limit"] or 0),
                status=str(worker["status"]),
                spilled=self._spilled[name],
            )
            workers.append(_at_work(known, *latest.get(address, (None, 0.0))))
        return tuple(sorted(workers, key=lambda worker: (len(worker.name), worker.name)))


def _at_work(worker: WorkerLook, report: Report | None, received: float) -> WorkerLook:
    """Add the last report of a worker's process."""
    if report is None:
        return worker
    ended = report.done or report.phase == "merge"  # the next task has not reported yet
    if ended and time.monotonic() - received > _IDLE_SECONDS:
        return worker
    if report.done:
        return replace(worker, phase=report.phase)
    phase = "fetch" if report.fetching else report.phase
    spilled = worker.spilled + report.counts.spilled
    return replace(worker, phase=phase, file=report.file, spilled=spilled)


class Thinning:
    """A list of snapshots, evenly spread in time: every second one is dropped if there are too many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Look] = []
        self._last: Look | None = None
        self._step = 1
        self._count = 0

    def add(self, snapshot: Look) -> None:
        """Add a snapshot."""
        self._last = snapshot
        if self._count % self._step == 0:
            self._kept.append(snapshot)
        self._count += 1
        if len(self._kept) >= self._most:
            self._kept = self._kept[::2]
            self._step *= 2

    @property
    def kept(self) -> tuple[Look, ...]:
        """The snapshots that were kept, and the last one."""
        kept, last = self._kept, self._last
        return tuple(kept) if last is None or kept[-1] is last else (*kept, last)
