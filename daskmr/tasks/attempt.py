"""One attempt to map a partition, which is repeated without a file that must be skipped."""

from __future__ import annotations

import cProfile
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from daskmr import clock
from daskmr.counts import Counts
from daskmr.data.listing import InputFile
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import Reading
from daskmr.data.readers.registry import reader_of
from daskmr.errors import DaskMRError, TaskFailed
from daskmr.history import TaskSpan
from daskmr.memory import OutOfMemory, held_by_task, longest_line
from daskmr.tasks.crashes import Marker, describe_line, describe_reading
from daskmr.tasks.deaths import refuse_poison, refuse_third_try
from daskmr.tasks.guard import TimeIsUp, is_interruption, shortened, user_failure
from daskmr.tasks.map_output import FoldedOutput, MapOutput, PartOutput
from daskmr.tasks.partition_files import PartitionFiles, source_name, time_limit
from daskmr.tasks.progress import Reporter
from daskmr.tasks.record_rule import BadRecords, RecordMapper, SampledMap, advice_to_skip
from daskmr.tasks.tally import Span, Tally
from daskmr.tasks.user_calls import (
    AT_RECORDS,
    call_hook,
    join_threads,
    read_profile,
    refuse_late_writes,
)
from daskmr.worker import until_cancelled, worker_name

if TYPE_CHECKING:
    from daskmr.tasks.map import MapTask

__all__ = ["TALLY", "Attempt", "DamagedCopy"]

TALLY = -1
"""Number of the bucket that holds the tallies."""

_CHUNKS = 16  # chunks of input (1 MiB) after which pairs are folded, even if there are few
_RECORD = 200  # characters of the record that a failure shows
_PAIR = 80  # characters of a pair of the step before, in place of its number
_MEASURE_SECONDS = 0.05  # between two measurements of the process's memory


class DamagedCopy(Exception):
    """A copy in the cache is damaged, though its size and time are right."""


class Attempt:
    """One pass over a partition."""

    def __init__(self, files: PartitionFiles, task: MapTask, run_dir: str) -> None:
        self.task = task
        self.files = files
        self.number = files.partition.index
        self.run_dir = run_dir
        self.file = InputFile("", 0, ())
        self.chunks = 0
        self.measured = -math.inf
        self.longest: int | None = None
        self.files_done = self.bytes_done = self.records = 0
        self.grown: list[tuple[str, int]] = []
        self.lines = 0  # lines in the files before the current one
        self.before: Callable[[], int] | None = None  # counts those before a part of that
        self.file_records = 0  # records of the current file, if a reader reads it
        self.sampled = SampledMap(task.job.map, task.keys) if task.keys is not None else None
        self.bad = BadRecords(
            save_limit=task.save_limit,
            most=task.max_bad,
            max_record_bytes=task.max_record_bytes,
            may_be_corrupt=task.skip_corrupt,
            # check only the start of the input
            needs_tabs=task.needs_tabs and self.number == 0 and task.records.is_keyed,
            sampled=self.sampled,
        )
        self.reporter = Reporter(run_dir if task.watched else None, "map", self.number, self.counts)
        self.output: MapOutput
        if task.job.reduce:
            self.output = FoldedOutput(task.job, task.spilling, task.combine_size)
        else:
            place = task.scratch.parts()
            self.output = PartOutput(task.job, place, task.part_bytes, task.kind, task.indexed)
        user_map = task.job.map if self.sampled is None else self.sampled.map
        self.mapper = RecordMapper(user_map, self.output, self.bad.add, task.skipped)
        self.reader = reader_of(task.records, task.job.read)
        if self.reader is not None:
            self.bad.unit = self.reader.unit

    def run(self) -> list[tuple[int, Any]]:
        """Map all files; return the output by bucket, and the tally."""
        started = clock.now()
        with cProfile.Profile() if self.task.profile else nullcontext() as profiler:
            results = self._map_all()
        ended, counts, worker = clock.now(), self.counts(), worker_name()
        span = TaskSpan("map", self.number, worker, started, ended, counts, memory=held_by_task())
        tally = Tally(
            counts,
            bad_files=dict(self.bad.files),
            saved=tuple(self.bad.saved),
            save_limit=self.task.save_limit,
            unsaved_files=frozenset(self.bad.unsaved),
            truncated=self.bad.truncated,
            corrupt=tuple(self.files.corrupt.items()),
            missing=tuple(self.files.missing.items()),
            notes=tuple(self.files.notes),
            poisoned=tuple(self.files.poison.items()),
            mapping=Span(started, ended),
            profile=read_profile(profiler),
            tasks=(span,),
            hot_keys=self.output.hot_keys,
            counters=self.output.context.counters,
            grown=tuple(self.grown),
            opening=replace(self.bad.opening, tabbed=self.lines > self.bad.opening.untabbed),
            examples=self.bad.examples,
        )
        return [*results, (TALLY, tally)]

    def discard(self) -> None:
        """Remove spilled data, and refuse later writes of the script."""
        self.output.context.close(self.run_dir)
        self.output.discard()

    def counts(self) -> Counts:
        """Return the counts so far, except for the current file."""
        return self.files.counts() + Counts(
            files=self.files_done,
            bytes=self.bytes_done,
            records=self.records,
            bad_reasons=dict(self.bad.reasons),
            spilled=self.output.spilled,
            values=self.output.values,
        )

    def _map_all(self) -> list[tuple[int, Any]]:
        with Marker(self.run_dir, "map", self.number) as marker, self.reporter:
            if self.task.skip_poison:
                refuse_poison(marker, self.files.poison)
            else:
                refuse_third_try(marker, self.run_dir)
            self._call_hook("setup_map", marker)
            self._map_files(marker)
            self._call_hook("finish_map", marker)
            marker.at_end()
            self.reporter.at_end()
            if note := join_threads(self.task.job, "map", self.output.references):
                self.files.notes[note] = None
            self.output.flush()
            results = self.output.finish()
            self.reporter.hot_keys = self.output.hot_keys
            self.output.context.close(self.run_dir)
            refuse_late_writes(self.run_dir)
            return results

    def _call_hook(self, name: str, marker: Marker) -> None:
        """Call a hook, if the job has it, and keep what it writes, which no bad record undoes."""
        if getattr(self.task.job, name) is None:
            return
        marker.at_end(f"{name}, {(where := AT_RECORDS[name])}")
        call_hook(self.task.job, name, self.output.context, f"{where}{self.files.at_end(name)}")
        self.output.flush()

    def _map_files(self, marker: Marker) -> None:
        with closing(self.files.open(marker, self.reporter)) as opened:  # ends pending fetches
            for file, source in opened:
                self.file, place = file, source_name(source)
                has_rows = self.reader is not None and self.reader.splits == "row groups"
                self.before = None if has_rows else self.files.counter(file, place)
                self.bad.begin(file.path, place, self.lines, self.before, file.source)
                marker.begin(place, file.path)
                self.reporter.begin(file.path)
                try:
                    with time_limit(self.task.file_timeout, place):
                        self._map_file(file, source, marker)
                except TaskFailed as error:
                    error.file = file.path
                    raise
                self.files_done += file.is_start
                self.bytes_done += file.bytes

    def _map_file(self, file: InputFile, source: str | BinaryIO, marker: Marker) -> None:
        path = source_name(source)
        try:
            if file.is_remote:
                if isinstance(source, str):
                    self.files.check_size(file, source)
                self._map_lines(source, self.task.dims_of(file), marker)
            else:
                self._map_local(file, path, marker)
        except CorruptFileError as error:
            if not isinstance(source, str):  # the checksum at its end shows damage in transit
                deque(iter(partial(source.read, 1 << 20), b""), maxlen=0)
            elif self.files.distrust(file):
                raise DamagedCopy from None
            if self.task.skip_corrupt:
                raise
            failure = TaskFailed(
                f"{error} Nothing was written, since the result would be incomplete. Repair or "
                "remove it, or pass --skip-corrupt-files."
            )
        except OSError as error:
            if error.filename != path:
                raise
            failure = TaskFailed(
                f"The input file {path} cannot be read{self.files.where}: {error.strerror}. "
                "Nothing was written, since the result would be incomplete."
            )
        else:
            number = self.mapper.count if self.reader is None else self.file_records
            self.lines += number
            self.records += number if self.sampled is None else self.sampled.count()
            self.bad.check()
            return
        raise failure

    def _map_local(self, file: InputFile, path: str, marker: Marker) -> None:
        with self.files.open_local(file, path) as local:
            self.reporter.opened(local)
            try:
                self._map_lines(local, self.task.dims_of(file), marker)
            except CorruptFileError:
                local.check()  # a file that is still being written is also truncated
                raise
            local.check()
            if local.grown is not None:
                self.grown.append((file.path, local.grown))

    def _map_lines(self, source: str | BinaryIO, dims: list[str], marker: Marker) -> None:
        path, mapper = source_name(source), self.mapper
        mapper.begin(self.file.path, 0, self.before, self.task.sources.of(self.file))
        self.file_records = 0
        reading = True
        try:
            fits = self._longest_text()
            longest = min(self.task.max_record_bytes, fits or self.task.max_record_bytes)
            if self.reader is None:
                read = read_lines(source, longest, max_text_bytes=fits, opened=self.reporter.opened)
                for lines, has_cr in marker.lines(until_cancelled(read), self.before):
                    reading = False
                    mapper.map(lines, has_cr, dims)
                    reading = True
                    # Only the first line of a batch can be longer than a chunk.
                    self._step(len(lines[0]))
                return
            file = Reading(self.file.path, dims, longest, fits, self.reporter.opened)
            batches = self.reader.read(source, self.task.records, file)
            for records in marker.records(until_cancelled(batches), self.before):
                reading, self.bad.header = False, records.header
                mapper.map_records(records, dims)
                self.file_records += len(records.values)
                reading = True
                self._step(records.size)
        except (CorruptFileError, DaskMRError, TaskFailed, TimeIsUp):
            raise
        except OSError as error:
            if error.filename == path:
                raise
            failure: BaseException = error
        except BaseException as error:
            if is_interruption(error):
                raise
            failure = error
        else:
            return
        raise self._user_failure(path, failure, reading)

    def _step(self, size: int) -> None:
        """Report the progress after a batch whose first, or all, records have `size` bytes."""
        self.reporter.step(self.mapper.count)
        # Count over all files, because settling after each small one would be slow. A long record
        # counts as several chunks.
        self.chunks += 1 + (size >> 16)
        if self.chunks >= _CHUNKS:
            self.chunks = 0
            self.output.flush()

    def _user_failure(self, path: str, error: BaseException, reading: bool) -> TaskFailed:
        number, line = self.mapper.number, self.mapper.line
        place = describe_reading(number + 1) if reading else describe_line(number, line)
        function = "map"
        if self.files.partition.pairs is not None:  # its number in the partition says nothing
            place = place if reading else f"the pair {shortened(line, _PAIR)}"
        if self.reader is not None:
            place = place.replace("line", self.reader.unit, 1)
            function = "read" if reading and self.reader.unit == "record" else "map"
        failure = user_failure(self.task.job, function, f"at {path}, {place}", error)
        if not reading:
            failure.record = shortened(line, _RECORD)
            failure.message += advice_to_skip(error)
        if isinstance(error, OutOfMemory):
            failure.files, failure.skip_reason = (self.file.path,), failure.message
        return failure

    def _longest_text(self) -> int | None:
        """Return how many bytes a line's text may take within the memory limit, if there is one."""
        now = time.monotonic()
        if now - self.measured > _MEASURE_SECONDS:  # not for each of many small files
            self.measured, self.longest = now, longest_line()
        return self.longest
