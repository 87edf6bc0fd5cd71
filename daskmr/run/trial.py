"""Call the user's functions on a few records in this process, before a run."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, BinaryIO, TypeAlias, cast

from daskmr.config import Config
from daskmr.data.dims import Dims
from daskmr.data.inputs import Inputs
from daskmr.data.listing import InputFile
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.parquet import readable
from daskmr.data.readers.records import KEYED, Reader, Reading, RecordFormat, Records
from daskmr.data.readers.registry import reader_of
from daskmr.data.steps.pairs import PAIRS, batched
from daskmr.errors import JobError
from daskmr.job.contexts import ItemContext, PairContext, TextContext
from daskmr.job.job import Job
from daskmr.job.keys import sorted_keys
from daskmr.job.map_context import MapContext
from daskmr.tasks.crashes import describe_line
from daskmr.tasks.guard import Returned, is_interruption, shortened, user_failure
from daskmr.tasks.map_output import MapOutput
from daskmr.tasks.record_rule import RecordMapper, Why, advice_to_skip, detail_of, skipped_errors
from daskmr.tasks.user_calls import AT_RECORDS, call_hook, combiner_of, set_up, sorter_of

__all__ = [
    "PAIRS",
    "Bad",
    "Combined",
    "Record",
    "Trial",
    "TrialOutput",
    "first_records",
    "pair_records",
    "read_records",
    "text_of",
]


@dataclass(frozen=True, slots=True)
class Bad:
    """The reason why a record is bad."""

    reason: str  # short; bad records are counted by it
    detail: str = ""  # the exception of `map`, or ""


@dataclass(frozen=True, slots=True)
class Combined:
    """The values of one key, before and after `combine`."""

    key: Any
    values: Sequence[Any]
    combined: Sequence[Any]


Record: TypeAlias = str | Records
"""A line of keyed records, or a batch of one record of another format."""


def read_records(
    source: str | BinaryIO,
    max_record_bytes: int,
    reader: Reader | None = None,
    form: RecordFormat = KEYED,
    file: Reading | None = None,
) -> Iterator[tuple[int, Record]]:
    """Yield the records of a file as `map` gets them, each with its number.

    - `reader`, `form`, `file`: for records that are not keyed.

    >>> import io
    >>> list(read_records(io.BytesIO(b"k\\tv\\r\\nno tab"), 100))
    [(1, 'k\\tv'), (2, 'no tab')]
    """
    if reader is not None:
        for records in reader.read(source, form, file or Reading("", (), max_record_bytes)):
            for one in records.singly():
                yield one.numbers[0], one
        return
    number = 0
    for lines, has_cr in read_lines(source, max_record_bytes):
        for line in lines:
            number += 1
            yield number, line.rstrip("\r") if has_cr and type(line) is str else line


def text_of(record: Record) -> Any:
    """Return the text of a record, as it is in its file; or a dict, as that of a row is not readable."""
    return record if isinstance(record, str) else readable(record.text(0))


class TrialOutput(MapOutput):
    """Keeps what `map` writes in the order in which it was written, to be shown to the user.

    - `header`: the lines that `setup_reduce` wrote for a map-only job.
    """

    def __init__(self, job: Job, step: str = "") -> None:
        self.header: tuple[str, ...] = ()
        self.context: MapContext | TextContext | PairContext
        if job.reduce is not None:
            self.context = MapContext()
            self.pending: list[Any] = self.context.keys
        else:
            self.context = PairContext(step) if step else TextContext()
            self.header = set_up(job, self.context)
            self.pending = self.context.written
            context = self.context
            context.on_named = lambda name, other: context.mark_named()
        self.hurry = self.context.hurry
        self.batch = 0  # flush after each record

    def call_hook(self, job: Job, name: str) -> None:
        """Call ``setup_map`` or ``finish_map``, if the job has it."""
        if getattr(job, name) is not None:
            call_hook(job, name, self.context, AT_RECORDS[name])
            self.flush()

    def flush(self) -> None:
        """Process what was written for a record."""
        self.context.keep_counts()
        if isinstance(self.context, MapContext):
            self.context.place_in_order()
        else:
            self.context.keep_named()
        self.hurry.clear()

    hasten = flush

    def take_back(self, mark: int) -> None:
        """Undo everything written and counted since `pending` had the length `mark`."""
        if isinstance(self.context, MapContext):
            self.context.take_back(mark)
        else:
            super().take_back(mark)
            self.context.undo_named()


class Trial:
    """A trial of a job, one record at a time. Enter `Job.activate` first.

    - `form`, `reader`, `unit`: the format of the records, its reader, and what its numbers count.
    - `on_error`: the setting of this name.
    - `step`: what messages call the job, if it is a step before the last one.
    - `context`: the context that `map` writes to.
    - `pending`: keys, or lines of a map-only job, written since it was last cleared.
    - `header`: the lines that `setup_reduce` wrote for a map-only job.
    - `ending`: the number of lines that `finish_reduce` wrote, once `reduced` was called.

    Examples
    --------
    >>> job = Job(
    ...     map=lambda key, dims, value, context: context.write(key, int(value)),
    ...     reduce=lambda key, values, context: context.write(key, sum(values)),
    ... )
    >>> trial = Trial(job)
    >>> trial.map("a.gz", [], 1, "k\\t1"), trial.map("a.gz", [], 2, "k\\tx").reason
    (None, 'ValueError')
    >>> trial.written_since(0), trial.outputs(trial.groups)
    ([('k', 1)], {'': ['k\\t1\\n']})
    """

    def __init__(
        self, job: Job, form: RecordFormat = KEYED, on_error: str = "fail", step: str = ""
    ) -> None:
        self.job, self._step = job, step
        self._output = TrialOutput(job, step)
        self.header, self.context = self._output.header, self._output.context
        self.pending = self._output.pending
        skipped = skipped_errors(on_error)
        self._mapper = RecordMapper(job.map, self._output, self._note_bad, skipped)
        self._bad: Bad | None = None
        self.ending = 0
        self.form, self.reader = form, reader_of(form, job.read)
        self.unit = self.reader.unit if self.reader else "line"
        self._combiner = combiner_of(job)

    @property
    def groups(self) -> defaultdict[Any, list[Any]]:
        """The values written so far, by key; empty for a map-only job."""
        return self.context.groups if isinstance(self.context, MapContext) else defaultdict(list)

    def map(
        self,
        place: str,
        dims: list[str],
        number: int,
        record: Record,
        path: str = "",
        source: str = "",
    ) -> Bad | None:
        """Map one record; discard what a bad record has written.

        - `place`: the file, for messages.
        - `number`: the number of the record.
        - `path`, `source`: the path of the file in the data dir, and the value of ``--data-dir``.
        Raises `TaskFailed` for any exception that does not make the record bad.
        """
        self._bad = None
        try:
            self._mapper.begin(path, number - 1, None, source)
            if isinstance(record, str):
                self._mapper.map([record], False, dims)
            else:
                self._mapper.map_records(record, dims)
            return self._bad
        except BaseException as error:
            if is_interruption(error):
                raise
            cause = error
        where = describe_line(number, text_of(record)).replace("line", self.unit, 1)
        failure = user_failure(self.job, "map", f"at {place}, {where}", cause)
        failure.message += advice_to_skip(cause)
        raise failure

    def call_hook(self, name: str) -> None:
        """Call ``setup_map`` or ``finish_map``, if the job has it."""
        self._output.call_hook(self.job, name)

    def _note_bad(self, number: int, line: str, reason: str, error: Why) -> None:
        detail = detail_of(error) if isinstance(error, Exception) else error
        self._bad = Bad(reason, detail or "")

    def written_since(self, mark: int) -> list[Any]:
        """Return the pairs or lines written since `pending` had the length `mark`."""
        written = self.pending[mark:]
        if not isinstance(self.context, MapContext):
            return written
        groups, counts = self.context.groups, Counter(written)
        values = {key: iter(groups[key][-count:]) for key, count in counts.items()}
        return [(key, next(values[key])) for key in written]

    def combine(self, key: Any, values: Sequence[Any]) -> Sequence[Any]:
        """Call `combine`, and return the values that replace `values`."""
        if self._combiner is None or len(values) < 2:
            return values
        return cast(Sequence[Any], self._combiner(key, values))

    def in_order(self, key: Any, values: Sequence[Any]) -> list[Any]:
        """Return a list of the values as `reduce` gets them: sorted, if the job has `sort_values`."""
        sorter = sorter_of(self.job)
        return list(values) if sorter is None else sorter.sorted(key, values)

    def combined(self) -> list[Combined]:
        """Call `combine` for each key that has several values, in key order."""
        groups = self.groups
        return [
            Combined(key, groups[key], self.combine(key, groups[key]))
            for key in sorted_keys(groups)
            if len(groups[key]) > 1
        ]

    def outputs(self, groups: Mapping[Any, Sequence[Any]]) -> dict[str, list[str]]:
        """Reduce `groups` in key order, and return the lines of each output, its header first.

        That of `reduce` is ``""``, others are called as `write_to` calls them. Of a map-only job, there are
        only those that `map` has written to others.
        """
        if isinstance(self.context, TextContext):
            return _named_lines(self.context)
        context = TextContext()
        lines = [*self._reduce(groups, context), *context.written]
        return {"": lines, **_named_lines(context)}

    def items(self, groups: Mapping[Any, Sequence[Any]]) -> list[Any]:
        """Reduce `groups` in key order, and return the pairs and lines, without the header."""
        context = PairContext(self._step) if self._step else ItemContext()
        self._reduce(groups, context)
        return [*context.written, *sorted((n, c.written) for n, c in context.named.items())]

    def pairs(self) -> list[Any]:
        """Return the pairs that the step has written so far."""
        return self.pending if self.job.reduce is None else self.items(self.groups)

    def _reduce(
        self, groups: Mapping[Any, Sequence[Any]], context: TextContext | ItemContext
    ) -> tuple[Any, ...]:
        """Reduce to `context`, and return the header."""
        header, reduce = set_up(self.job, context), self.job.reduce
        if reduce is None:
            return header
        for key in sorted_keys(groups):
            values = groups[key]
            if type(values) is list:
                # A copy: `reduce` may change its list, but the values are needed again.
                values = self.in_order(key, values)
            before = len(context.written)
            try:
                returned = reduce(key, values, context.user)
                if returned is not None and len(context.written) == before:
                    raise Returned(returned)
                continue
            except BaseException as error:
                if is_interruption(error):
                    raise
                failure = error
            raise user_failure(self.job, "reduce", f"for the key {shortened(key)}", failure)
        before = len(context.written)
        if self.job.finish_reduce is not None:
            call_hook(self.job, "finish_reduce", context, "after the last key")
        self.ending = len(context.written) - before
        return header


def _named_lines(context: TextContext) -> dict[str, list[str]]:
    named = sorted(context.named.items())
    return {name: [*each.header, *each.written] for name, each in named}


# --- the first records of the input ------------------------------------------------------------


def pair_records(
    pairs: Sequence[tuple[Any, Any]], name: str, trial: Trial
) -> Iterator[tuple[InputFile, str, int, Record]]:
    """Yield the pairs of a step as the records of the next one, which `trial` is of."""
    file = InputFile(name, 0, ())
    for records in batched(pairs):
        for one in records.singly():
            yield file, name, one.numbers[0], one


def first_records(
    inputs: Inputs, config: Config, count: int, trial: Trial
) -> Iterator[tuple[InputFile, str, int, Record]]:
    """Yield the first `count` records, each with its file, the file's location, and its number.

    If the input has several sources, each gives an equal share, as a job may treat them differently.
    """
    names = inputs.listing.layout.field_names
    origins = {file.source for file in inputs.listing.files}
    left = dict.fromkeys(origins, -(-count // max(1, len(origins))))
    for file, origin, source in _sources(inputs, left):
        place = source if isinstance(source, str) else source.name
        try:
            limit = config.max_record_bytes
            about = Reading(file.path, Dims(file.dims, names), limit)
            records = read_records(source, limit, trial.reader, trial.form, about)
            for number, record in islice(records, left[origin]):
                left[origin] -= 1
                yield file, place, number, record
        except OSError as error:
            reason = error.strerror or error
            raise JobError(f"The input file {place} cannot be read: {reason}.") from None


def _sources(
    inputs: Inputs, left: Mapping[str, int]
) -> Iterator[tuple[InputFile, str, str | BinaryIO]]:
    """Yield the files in order, each with its source and its local path, or a stream from the store.

    - `left`: the number of records that are still to be read, by source.
    """
    with inputs.open_cache() or nullcontext() as cache:
        for listed in inputs.listing.files:
            if not left[listed.source]:
                continue
            file = replace(listed, source=inputs.sources.of(listed))
            if not file.is_remote or inputs.remote is None:
                yield file, listed.source, os.path.join(inputs.root, file.path)
                continue
            path = cache.present(file) if cache is not None else None
            stored = path or inputs.remote.open_store().open(file.path, file.etag, file.size)
            yield file, listed.source, stored
