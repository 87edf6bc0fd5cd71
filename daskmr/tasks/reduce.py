"""Merge Runs, and reduce a bucket's groups in key order."""

from __future__ import annotations

import cProfile
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from functools import reduce as fold_left
from heapq import nlargest
from operator import add, attrgetter
from typing import Any

from daskmr import clock
from daskmr.counts import Counts
from daskmr.data.parts import Part, PartWriter
from daskmr.data.spill_dir import Scratch
from daskmr.data.writers.contexts import OutputKind, WritingContext, packed, report_of
from daskmr.data.writers.named import NamedParts
from daskmr.history import HotKey, TaskSpan
from daskmr.job.job import Job
from daskmr.job.keys import Ending, name_key
from daskmr.memory import OutOfMemory, held_by_task
from daskmr.tasks.crashes import Marker
from daskmr.tasks.deaths import activated, load, refuse_third_try
from daskmr.tasks.guard import Returned, guarded, is_interruption, shortened, user_failure
from daskmr.tasks.prints import printing
from daskmr.tasks.progress import Reporter, report_merge
from daskmr.tasks.runs import Run, merge_runs, read_groups, unites
from daskmr.tasks.spilled_values import SpilledValues
from daskmr.tasks.tally import Span, Tallies, Tally
from daskmr.tasks.user_calls import (
    NO_KEY,
    Call,
    ContextReferences,
    call_hook,
    combiner_of,
    current_call,
    join_threads,
    read_profile,
    refuse_late_writes,
    set_up,
    sorter_of,
)
from daskmr.worker import worker_name

__all__ = ["Merge", "ReduceTask", "Reduced", "never_met", "reduce_buckets"]

_BLOCK_BYTES = 1 << 20  # maximum size of a block: the merge holds one block of every part
_STEP_BYTES = 1 << 18  # the same for the pairs of a step
_HOT_KEYS = 64  # hot keys that a task reports
_LINE_COST = 150  # bytes that a key and its output take in addition to their characters


@dataclass(frozen=True, slots=True)
class ReduceTask:
    """The arguments that all reducers share."""

    job: Job  # the user's functions
    scratch: Scratch  # destination of temporary files
    budget: int  # estimated bytes that may be held (``spill-bytes``)
    kind: OutputKind  # the form of the output
    profile: bool  # collect a profile
    part_bytes: int  # maximum bytes of output per bucket that travel in memory
    watched: bool = False  # progress is reported
    indexed: bool = False  # workers write the output, from segments
    origin: clock.Origin = field(default_factory=clock.origin)  # the clock of the run


@dataclass(frozen=True, slots=True)
class Reduced:
    """The result of one reduce task."""

    parts: tuple[Part, ...]  # one for each bucket, sorted by key
    keys: int  # number of keys
    tallies: Tallies  # those of all mappers in one of the tasks, none in the others
    reducing: Span  # when the task ran
    counted: Tally  # the counts of the reduce phase, and the profile


@dataclass(frozen=True, slots=True)
class Merge:
    """The binary operator of ``foldby``, which merges ``(bucket, Run)`` or ``(bucket, Tallies)``."""

    job: Job
    scratch: Scratch  # destination of temporary files
    watched: bool = False  # progress is reported

    @guarded("merge")
    def __call__(self, first: tuple[int, Any], second: tuple[int, Any]) -> tuple[int, Any]:
        """Merge `second` into a copy of `first`, which precedes it in input order."""
        (bucket, content), (_, other) = first, second
        if self.watched:
            report_merge(self.scratch, bucket)
        if isinstance(content, Tallies):
            return bucket, content + other
        if not self.job.is_loaded:  # this process is new
            load(self.job, self.scratch.folder(), bucket)
        if self.job.combine is None or not unites(content, other):
            return bucket, merge_runs(content, other, None)
        run_dir = self.scratch.folder()
        with (
            printing(run_dir if self.watched else None, self.job),
            self.job.activate(),
            Marker(run_dir, "merge", bucket) as marker,
        ):
            refuse_third_try(marker, run_dir)
            return bucket, merge_runs(content, other, combiner_of(self.job, marker.key))


def never_met(first: Any, second: Any) -> Any:
    """Replace ``foldby``'s operator within a partition, which has one Run for each bucket."""
    raise AssertionError("a partition returned two Runs of one bucket")


@guarded("reduce")
def reduce_buckets(
    pairs: Iterable[tuple[int, tuple[int, Run | Tallies]]], *, task: ReduceTask
) -> list[Reduced]:
    """Reduce the buckets that ``foldby`` assigned to one reducer, one after the other."""
    clock.adopt(task.origin)
    started = clock.now()
    run_dir = task.scratch.folder()
    watched_dir = run_dir if task.watched else None
    contents = {bucket: content for bucket, (_, content) in pairs}
    tallies = fold_left(add, (c for c in contents.values() if isinstance(c, Tallies)), Tallies())
    runs = {bucket: c for bucket, c in contents.items() if isinstance(c, Run)}
    first = min(runs, default=0)
    with (
        printing(watched_dir, task.job),
        activated(task.job, run_dir, first),
        cProfile.Profile() if task.profile else nullcontext() as profiler,
        Marker(run_dir, "reduce", first) as marker,
    ):
        refuse_third_try(marker, run_dir)
        reducer = _Reducer(task, run_dir, marker)
        with Reporter(watched_dir, "reduce", first, reducer.counts) as reporter:
            try:
                parts = tuple(reducer.reduce(run, reporter) for run in runs.values())
                if task.job.finish_reduce is not None:
                    parts += reducer.finish(min(runs, default=sys.maxsize))
                reducer.context.keep_counts()
            finally:
                reducer.context.close(run_dir)
        refuse_late_writes(run_dir)
    ended, counts, worker = clock.now(), reducer.counts(), worker_name()
    span = TaskSpan("reduce", first, worker, started, ended, counts, memory=held_by_task())
    counted = Tally(
        profile=read_profile(profiler),
        tasks=(span,),
        hot_keys=tuple(reducer.hot_keys),
        counters=reducer.context.counters,
    )
    return [Reduced(parts, reducer.keys, tallies, Span(started, ended), counted)]


class _Reducer:
    """A reducer, which calls `setup_reduce` once, reduces its buckets, and calls `finish_reduce`."""

    def __init__(self, task: ReduceTask, run_dir: str, marker: Marker) -> None:
        self.task = task
        self.segments = os.path.join(run_dir, "segments")
        self.marker = marker
        self.context = task.kind.context()
        self.references = ContextReferences(self.context)
        self.header = set_up(task.job, self.context)
        self.keys = 0
        self.hot_keys: list[HotKey] = []
        self.buckets_done = 0

    def counts(self) -> Counts:
        """Return the counts so far."""
        return Counts(files=self.buckets_done, records=self.keys)

    def reduce(self, run: Run, reporter: Reporter) -> Part:
        """Reduce one bucket."""
        reporter.step(0)
        with self._writing(call := Call("reduce")) as (part, named):
            with current_call().making(call):
                self._reduce_into(part, run, call)
            self.buckets_done += 1
            return part.finish(report_of(self.context), named.finish())

    @contextmanager
    def _writing(self, call: Call) -> Iterator[tuple[PartWriter, NamedParts]]:
        """Yield what collects a part of the output, and of the named ones, during a call."""
        task = self.task
        place, is_step = task.scratch.parts(), bool(task.kind.step)
        part = PartWriter(place, task.part_bytes, self.header, task.indexed, is_step)
        named = NamedParts(self.context, place, task.part_bytes, task.indexed, call)
        try:
            yield part, named
        except BaseException:
            part.discard()
            named.discard()
            raise

    def finish(self, number: int) -> tuple[Part, ...]:
        """Call `finish_reduce`, and return what it writes, if anything, as a part after all keys.

        - `number`: determines the order among the reducers.
        """
        job, context, key = self.task.job, self.context, Ending(number)
        self.marker.at_end("finish_reduce, after the last key")
        with self._writing(Call("finish_reduce", key=key)) as (part, named):
            call_hook(job, "finish_reduce", context, "after the last key")
            join_threads(job, "finish_reduce", self.references)
            block = _Block(part, context, _BLOCK_BYTES)
            block.take(key)
            block.end()
            finished = part.finish(report_of(context), named.finish())
            return (finished,) if finished.lines or finished.named else ()

    def _reduce_into(self, part: PartWriter, run: Run, call: Call) -> None:
        task, context = self.task, self.context
        user_reduce, written, user = task.job.reduce, context.written, context.user
        assert user_reduce is not None
        most = _STEP_BYTES if task.kind.step else _BLOCK_BYTES
        block = _Block(part, context, min(most, task.part_bytes // 2))
        failure: BaseException | None = None
        where = ""
        try:
            # No variable refers to the generator, so it closes and removes its files after the loop.
            for key, values in self.marker.groups(
                read_groups(
                    run, combiner_of(task.job), task.budget, self.segments, sorter_of(task.job)
                )
            ):
                self.keys += 1
                if type(values) is SpilledValues:  # the output may be as large
                    values.on_page = partial(block.take, key)
                    self._note_hot(key, values)
                call.key = key
                try:
                    returned = user_reduce(key, values, user)
                    if returned is not None and not written and block.taken is not key:
                        raise Returned(returned)
                except BaseException as error:
                    if is_interruption(error):
                        raise
                    failure, where = error, f"for the key {shortened(key)}"
                    break
                if written:
                    block.take(key)
        except OutOfMemory as error:  # can be raised anywhere, also outside of `user_reduce`
            failure, where = error, "before its first key"
            if call.key is not NO_KEY:
                where = f"after the key {shortened(call.key)}"
        if failure is not None:
            raise user_failure(task.job, "reduce", where, failure)
        del user  # only the script may hold it now
        join_threads(task.job, "reduce", self.references)
        if written:
            block.take(call.key)
        block.end()

    def _note_hot(self, key: Any, values: SpilledValues) -> None:
        """Record a key that is certainly hot, if its values are those that `map` wrote."""
        if self.task.job.combine is None:
            size = sum(extent.length for extent, _ in values.pages)
            self.hot_keys.append(HotKey(name_key(key), len(values), size, exact=True))
            if len(self.hot_keys) > 2 * _HOT_KEYS:
                self.hot_keys = nlargest(_HOT_KEYS, self.hot_keys, attrgetter("values"))


class _Block:
    """Collector of the output of the latest keys, until it fills a block of the part."""

    def __init__(self, part: PartWriter, context: WritingContext, most: int) -> None:
        self._part = part
        self._context = context
        self._is_text = context.is_text
        self._most = most
        self._keys: list[Any] = []
        self._outputs: list[Any] = []
        self._sizes: list[int] = []  # of outputs that are not text
        self._size = self._lines = 0
        self.taken: Any = NO_KEY  # the last key for which something was written

    def take(self, key: Any) -> None:
        """Take the pending output of the context, all written for `key`; may be called repeatedly."""
        context = self._context
        written = context.written
        if not written:
            return
        self._lines += len(written)
        if self._is_text:  # without a call for each key
            output: Any = "".join(written)
            size = len(output)
        else:
            output, size = packed(context, written)
            self._sizes.append(size)
        self._size += size
        written.clear()
        context.hurry.clear()
        self.taken = key
        self._keys.append(key)
        self._outputs.append(output)
        self._size += _LINE_COST
        if type(key) is str or type(key) is bytes:
            self._size += len(key)
        if self._size > self._most:
            self.end()

    def end(self) -> None:
        """Add a block to the part."""
        self._part.add(self._keys, self._outputs, self._lines, self._sizes)
        self._keys, self._outputs, self._sizes, self._size, self._lines = [], [], [], 0, 0
