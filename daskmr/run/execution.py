"""Build and compute the graph of a run: a task per partition, a tree of merges, a task per reducer."""

from __future__ import annotations

import pickle
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from daskmr.cluster.connect import existing_scheduler, security_of
from daskmr.cluster.session import Session, WorkerDied
from daskmr.cluster.versions import Pinned
from daskmr.data.inputs import Inputs
from daskmr.data.partition import Partition, nominal_partitions, run_order, with_ahead
from daskmr.data.parts import Part
from daskmr.diagnostics.run_state import RunOutline
from daskmr.errors import JobError
from daskmr.history import PHASES, StepFigures
from daskmr.job.job import describe_params
from daskmr.tasks.crashes import Mark, by_task, is_alive, read_marks
from daskmr.tasks.deaths import explain_death, explain_kills, file_of_death
from daskmr.tasks.fold import Spilling
from daskmr.tasks.hot_keys import with_counted
from daskmr.tasks.map import TALLY, MapTask, map_packed
from daskmr.tasks.partition_files import explain_timeout
from daskmr.tasks.record_rule import skipped_errors
from daskmr.tasks.reduce import Merge, Reduced, ReduceTask, never_met, reduce_buckets
from daskmr.tasks.tally import Span, Tallies, Tally

if TYPE_CHECKING:
    from daskmr.config import Config
    from daskmr.diagnostics.collector import Collector
    from daskmr.run.request import Request
    from daskmr.run.workspace import Placement

__all__ = [
    "Execution",
    "Outcome",
    "live_page_of",
    "outline_of",
    "with_deployment",
    "with_scheduler",
]

_SPLIT_EVERY = 8  # inputs of one merge
_MANY_FILES = 200  # files to fetch per worker from which on a process beside it pays off
_MANY_BYTES = 256 << 20  # bytes to fetch per worker from which on it pays off


@dataclass(frozen=True, slots=True)
class Outcome:
    """The combined results of the tasks."""

    # The parts of the output: one per bucket, or for a map-only job one per partition.
    parts: tuple[Part, ...]
    tally: Tally  # the counts of all tasks
    keys: int  # number of keys that were reduced
    reducing: Span | None  # the time in which the reducers ran
    notes: tuple[str, ...] = ()
    steps: tuple[StepFigures, ...] = ()  # of a job that has several

    @property
    def lines(self) -> int:
        """The number of lines of the output."""
        return sum(part.lines for part in self.parts)


def with_scheduler(request: Request, clusters: ExitStack) -> Request:
    """Connect to the configured scheduler. Do this before the input is listed, to fail fast."""
    address = request.config.scheduler
    if address is None:
        return request
    client = clusters.enter_context(existing_scheduler(address, request.config))
    return replace(request, client=client)


def with_deployment(request: Request, clusters: ExitStack) -> Request:
    """Create the configured cluster. Do this after the input is listed, because it may cost money."""
    if request.deployment is None:
        return request
    started = request.deployment.started(security_of(request.config))
    return replace(request, client=clusters.enter_context(started))


def outline_of(request: Request, inputs: Inputs, plan: Sequence[Partition]) -> RunOutline:
    """Return an outline of the run for its watchers."""
    files = inputs.listing.files
    remote = [file.size for file in files if file.is_remote]
    to_fetch = len(remote) - inputs.cached
    reduces = request.job.reduce is not None
    buckets = request.count_buckets(files)[0] if reduces else 0
    has_phase = {
        "fetch": to_fetch > 0,
        "merge": reduces,
        "reduce": reduces,
        "write": request.output is not None and not request.step,
    }
    return RunOutline(
        job=request.job.name,
        phases=tuple(name for name in PHASES if has_phase.get(name, True)),
        files=len(files),
        bytes=sum(file.size for file in files),
        to_fetch=to_fetch,
        bytes_to_fetch=sum(remote) - inputs.cached_bytes,
        partitions=len(plan),
        merges=(len(plan) - 1) * (buckets + 1) if reduces else 0,
        buckets=buckets,
        inline=request.inline or not files,
        params=describe_params(request.job),
    )


@contextmanager
def live_page_of(session: Session, collector: Collector, request: Request) -> Iterator[None]:
    """Show the run on a page of the scheduler's dashboard, unless it is inline or not watched."""
    if session.client is None or not collector.watched:
        yield
        return
    from daskmr.diagnostics.live.page import live_page

    with live_page(session, collector.history, request.job.name):
        yield


class Execution:
    """The computation of a plan in a session.

    - `placement`: the places where tasks read and write.
    - `run_id`: unique to the run.
    - `watched`: whether tasks report their progress.
    """

    def __init__(
        self,
        request: Request,
        session: Session,
        placement: Placement,
        run_id: str,
        plan: list[Partition],
        watched: bool,
    ) -> None:
        self.request, self.config, self.session = request, request.config, session
        self.placement, self.plan, self.watched = placement, plan, watched
        self._map_name = f"map-{run_id}"
        self._skips_poison = self.config.skip_poison_files and session.client is not None

    def outcome(self) -> Outcome:
        """Map, merge and reduce.

        Raises `JobError` if a task fails, or its worker dies repeatedly.
        """
        results = self._compute()
        notes = self.session.notes + self.placement.notes
        if self.request.job.reduce is None:
            parts = tuple(part for bucket, part in results if bucket != TALLY)
            tally = sum((t for bucket, t in results if bucket == TALLY), Tallies()).total()
            return Outcome(parts, tally, 0, None, notes)
        reduced: list[Reduced] = results
        tally = sum((r.tallies for r in reduced), Tallies()).total()
        counted = sum((r.counted for r in reduced), Tally())
        hot_keys = with_counted(tally.hot_keys, counted.hot_keys)
        spans = [r.reducing for r in reduced]
        return Outcome(
            tuple(part for r in reduced for part in r.parts),
            replace(tally + counted, hot_keys=hot_keys),
            sum(r.keys for r in reduced),
            Span(min(s.start for s in spans), max(s.end for s in spans)),
            notes,
        )

    # --- the graph ------------------------------------------------------------------------------

    def _mapper(self, inputs: Inputs) -> Pinned:
        config, placement, files = self.config, self.placement, inputs.listing.files
        buckets, _ = self.request.count_buckets(files)
        if any(partition.pairs is not None for partition in self.plan):
            partitions = len(self.plan)
        else:  # not their exact number, by which a new file would change the results of all others
            partitions = nominal_partitions(files, config.partition_bytes)
        task = MapTask(
            job=self.request.job,
            root=inputs.root,
            remote=inputs.remote,
            scratch=placement.scratch,
            spilling=Spilling(
                placement.scratch.segments(), config.spill_bytes, buckets, partitions
            ),
            combine_size=config.combine_size,
            kind=self.request.output_kind,
            skip_corrupt=config.skip_corrupt_files,
            max_bad=config.max_bad_records if type(config.max_bad_records) is int else None,
            save_limit=config.bad_records_saved,
            profile=self.request.profile,
            max_record_bytes=config.max_record_bytes,
            part_bytes=_part_bytes(config, partitions),
            file_timeout=config.file_timeout,
            on_cluster=self.session.is_elsewhere,
            skip_poison=config.skip_poison_files,
            needs_tabs=config.limits_bad_records,
            keys=self.request.choice.keys,
            watched=self.watched,
            records=self.request.records,
            dim_names=inputs.listing.layout.field_names,
            indexed=self.request.is_indexed,
            skipped=skipped_errors(config.on_error),
            sources=inputs.sources,
        )
        return Pinned(partial(map_packed, task=task))

    def _mapped(self, mapper: Pinned, plan: Sequence[Partition]) -> Any:
        """Build a Bag with one element per partition."""
        from dask.bag import Bag  # imported only after a cluster has been started

        # Partitions are literals in their tasks. In a collection, each would be one more task, which
        # its worker would report before it gets the task to map it. The name is unique to the run,
        # because clients of the same scheduler share keys of the same name.
        graph = {(self._map_name, p.index): (mapper, pickle.dumps(p, 5)) for p in plan}
        return Bag(graph, self._map_name, len(graph))

    def _reduced(self, runs: Any) -> Any:
        """Add a tree of merges to the mapping, and one task per reducer."""
        request, placement = self.request, self.placement
        if request.job.reduce is None:
            return runs
        buckets, reducers = request.count_buckets(placement.inputs.listing.files)
        merge = Pinned(Merge(request.job, placement.scratch, self.watched))
        folded = runs.foldby(itemgetter(0), never_met, combine=merge, split_every=_SPLIT_EVERY)
        task = ReduceTask(
            job=request.job,
            scratch=placement.scratch,
            budget=self.config.spill_bytes,
            kind=request.output_kind,
            profile=request.profile,
            part_bytes=_part_bytes(self.config, buckets),
            watched=self.watched,
            indexed=request.is_indexed,
        )
        if reducers > 1:
            folded = folded.repartition(npartitions=reducers)
        return folded.map_partitions(Pinned(partial(reduce_buckets, task=task)))

    # --- its computation ------------------------------------------------------------------------

    def _compute(self) -> list[Any]:
        session = self.session
        if self.config.file_timeout is not None:
            watchdog = FileTimeout(self.placement.run_dir.path, self.config.file_timeout)
            session.watch(watchdog.check)
        if session.is_elsewhere and self.placement.store is None and not self._skips_poison:
            session.watch(self._check_kills)
        order, plan, inputs = run_order(self.plan), self.plan, self.placement.inputs
        if self._fetches_beside(inputs):
            assert inputs.remote is not None
            # The wall clock, since the cache uses it to record when an object was fetched.
            remote = replace(inputs.remote, beside=True, began=time.time())
            inputs = replace(inputs, remote=remote)
            if not self._skips_poison:  # when skipping poison files, tasks have no fixed order
                plan = with_ahead(plan, order, session.workers)
        mapper = self._mapper(inputs)
        try:
            if self._skips_poison:
                return self._compute_around_poison(mapper, plan)
            bag = self._reduced(self._mapped(mapper, plan))
            if session.client is None:
                return list(session.compute(bag))
            positions = {index: -position for position, index in enumerate(order)}
            if session.is_elsewhere:
                # Map the first partition first, since it shows whether the input is records at all.
                positions = {index: int(index == 0) for index in positions}
            bag = _prioritised(bag, positions, 0 if session.is_elsewhere else 1)
            return list(session.compute(bag, is_optimized=True))
        except WorkerDied as error:
            key, partition = error.key, error.partition
        marks, killed = self.placement.marks(), session.killed_for_memory()
        text = explain_death(key, partition, killed, marks, "", session.memory_limit)
        raise _failure_at(file_of_death(partition, marks), text)

    def _fetches_beside(self, inputs: Inputs) -> bool:
        """Decide whether a process beside each worker fetches, which costs a second and memory."""
        remote, session, chosen = inputs.remote, self.session, self.config.fetch_processes
        if remote is None or remote.cache_root is None or remote.source.protocol != "s3":
            return False
        if remote.offline or session.client is None or session.is_elsewhere:
            return False
        if chosen != "auto":
            return bool(chosen)
        sizes = [file.size for file in inputs.listing.files if file.is_remote]
        absent, absent_bytes = len(sizes) - inputs.cached, sum(sizes) - inputs.cached_bytes
        workers = session.workers
        return absent >= _MANY_FILES * workers or absent_bytes >= _MANY_BYTES * workers

    def _compute_around_poison(self, mapper: Pinned, plan: list[Partition]) -> list[Any]:
        from daskmr.run.poison import Detour

        session = self.session
        detour = Detour(session, plan, mapper, self._map_name, self._marks_of_the_dead)
        while True:
            bag = self._reduced(detour.bag())
            try:
                return list(session.compute(bag))
            except JobError as error:
                if not detour.take_up(error):
                    raise

    def _marks_of_the_dead(self, failed: int) -> list[Mark]:
        marks = self.placement.marks()
        if self.placement.store is not None:
            return marks
        # It is unknown whether processes on other hosts are alive, but the failed task's is dead.
        return [m for m in marks if m.number == failed or (m.is_local and not is_alive(m.pid))]

    def _check_kills(self) -> None:
        """Fail if a task was killed for memory twice, because the cluster would go on trying."""
        for marks in by_task(read_marks(self.placement.run_dir.path)):
            if len(marks) > 1:
                text = explain_kills(marks, self.session.killed_for_memory(), "")
                if text is not None:
                    raise _failure_at(marks[-1].file, text)


def _failure_at(file: str, text: str) -> JobError:
    failure = JobError(text)
    failure.file, failure.is_death = file, True
    return failure


@dataclass(slots=True)
class FileTimeout:
    """A watchdog that fails the run when a live mapper reads one file for too long."""

    run_dir: str  # the folder with the marks of tasks
    seconds: float  # the time that a file may take
    _seen: dict[Hashable, float] = field(default_factory=dict)  # when marks were first seen

    def check(self) -> None:
        """Raise JobError if a file takes too long."""
        # Use this process's clock, since those of other hosts may differ.
        marks, now = read_marks(self.run_dir), time.monotonic()
        self._seen = {key: self._seen.get(key, now) for key in map(_reading_of, marks)}
        marks.sort(key=lambda mark: self._seen[_reading_of(mark)])
        # It is unknown whether processes on other hosts are alive; only a task's latest process can be.
        last = {(mark.phase, mark.number): mark for mark in marks}
        for mark in marks:
            is_late = now - self._seen[_reading_of(mark)] > self.seconds
            lives = is_alive(mark.pid) if mark.is_local else last[mark.phase, mark.number] is mark
            if mark.file and is_late and lives:
                raise _failure_at(mark.file, explain_timeout(mark.path, self.seconds))


def _reading_of(mark: Mark) -> Hashable:
    """Identify the reading of one file, regardless of the position in it."""
    return mark.process, mark.phase, mark.number, mark.since, mark.path


def _prioritised(bag: Any, of_partition: dict[int, int], of_others: int) -> Any:
    """Set the priority of each partition's task, and one priority for all other tasks.

    Dask would choose an order by the shape of the graph. On a local cluster, merges come first, so
    that results are merged as soon as they exist.
    """
    from dask import annotate, optimize
    from dask.bag import Bag
    from dask.core import get_deps

    (optimized,) = optimize(bag)  # optimize first, because that drops annotations
    graph = dict(optimized.__dask_graph__())
    dependencies, _ = get_deps(graph)

    def priority(key: Any) -> int:
        return of_others if dependencies[key] else of_partition[key[1]]

    with annotate(priority=priority):
        return Bag(graph, optimized.name, optimized.npartitions)


def _part_bytes(config: Config, parts: int) -> int:
    """Return the bytes that a part may hold in memory so that all parts stay below ``spill-bytes``."""
    return max(4096, config.spill_bytes // parts)
