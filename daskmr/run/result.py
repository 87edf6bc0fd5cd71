"""The result of a run: its counts and times, and its rows if it has no output file."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from daskmr.counts import Counted, Counts
from daskmr.data.bad_records import SavedRecord
from daskmr.data.parts import Part, merge_parts, named_parts
from daskmr.diagnostics.run_state import RunOutline
from daskmr.history import History, StepFigures
from daskmr.job.job import Job
from daskmr.run import tables
from daskmr.run.outputs.side_cars import NamedOutput
from daskmr.tasks.tally import Profile

__all__ = ["Result"]


@dataclass(slots=True, weakref_slot=True)
class Result(Counted):
    """The result of a run.

    Without an output file, iterate over it to get its rows in key order (for a map-only job, in input
    order): ``(key, value)`` pairs for ``write``, lines as ``str`` for ``writeline`` and ``writecsv``,
    objects for ``writejson``. ``len(result)``, ``result[0]`` and slices work as those of a list.

    Attributes
    ----------
    output : str or None
        The output file, or the directory of its parts, which ends in "/".
    counts : Counts
        Counts of the mapping. Each is also an attribute of the result: ``files``, ``bytes``,
        ``records``, ``bad_records``, ``bad_reasons``, ``fetched``, ``fetched_bytes``,
        ``spilled``, ``waited``, ``values``.
    bad_files : mapping of str to int
        The number of bad records by file.
    saved_bad_records : tuple of SavedRecord
        The first bad records; also written to `bad_records_path` if there is an output.
    skipped : tuple of str
        Paths that are not in the layout (the first thousand of `skipped_count`).
    skipped_reasons : tuple of str
        The reason for each of `skipped`.
    corrupt : tuple of (str, str)
        Corrupt files that were skipped, and why.
    key_count, lines : int
        Number of keys reduced, and of lines (or rows) written.
    output_bytes : int
        Size of the output.
    output_parts : int
        Number of files in an output directory; 0 for a single file.
    timings : dict of str to float
        Seconds by phase: list, start, map, merge, reduce, write, total.
    deleted : int
        Number of input files that were deleted.
    poisoned : tuple of (str, str)
        Poison files that were skipped because they crashed their worker, and how.
    bad_examples : mapping of str to tuple of str
        The first bad records for each reason: file, line, why, and how the record begins.
    missing : tuple of (str, str)
        Objects that could not be fetched and were skipped, and why.
    cached, cached_bytes : int
        Number of objects that had a local copy, and their size.
    notes : tuple of str
        Notes on the script, the input and the run.
    counters : dict of str to dict of str to int
        The counters of the script (``context.counter(group, name)``), by group and name.
    history : History
        When each task ran, and which keys got the most values.
    sample : str
        A description of the part of the input that was read; ``""`` if all of it was.
    meta_path : str or None
        The provenance file beside the output.
    sha256 : str or None
        SHA-256 digest of the output in hex, if its provenance was written.
    plan : RunOutline or None
        The outline of the run, if it was watched.
    settings : mapping of str to object
        The settings of the run, without secrets.
    combines : bool
        Whether the job has a `combine`.
    steps : tuple of StepFigures
        The figures of each step of a job that has several: ``name``, ``records``, ``bad_records``,
        ``keys``, ``written``, ``spilled``, ``seconds``, ``kept``. The other figures are those of
        the input and of the output; bad records, counters and bytes spilled are those of all steps.
    described : mapping
        What ``OUTPUT.meta.json`` says about the outcome of the run; empty without an output.
    """

    output: str | None
    counts: Counts
    bad_files: Mapping[str, int]
    saved_bad_records: tuple[SavedRecord, ...]
    bad_records_path: str | None
    skipped: tuple[str, ...]
    skipped_count: int
    corrupt: tuple[tuple[str, str], ...]
    key_count: int  # not "keys", because dict(result) would treat the result as a mapping
    lines: int
    output_bytes: int
    timings: dict[str, float]
    deleted: int = 0
    skipped_reasons: tuple[str, ...] = ()
    bad_examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    poisoned: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    cached: int = 0
    cached_bytes: int = 0
    notes: tuple[str, ...] = ()
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    history: History = field(default=History(0.0, 0.0), repr=False)
    sample: str = ""
    meta_path: str | None = None
    sha256: str | None = None
    output_parts: int = 0
    plan: RunOutline | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    combines: bool = field(default=False, repr=False)
    steps: tuple[StepFigures, ...] = ()
    profile: Profile | None = field(default=None, repr=False)
    described: Mapping[str, Any] = field(default_factory=dict, repr=False)
    _parts: tuple[Part, ...] = field(default=(), repr=False)
    _job: Job | None = field(default=None, repr=False)
    _named: tuple[NamedOutput, ...] = field(default=(), repr=False)
    _of: Result | None = field(default=None, repr=False)  # the main result, which keeps the folder

    @property
    def outputs(self) -> dict[str, Result]:
        """The results of the outputs that the script names with ``context.write_to``, by name.

        Each has its own ``output``, ``lines``, ``output_bytes``, ``output_parts``, ``sha256`` and, without
        an output file, rows; the rest is that of the run.
        """
        parts = named_parts(self._parts)
        return {
            each.name: replace(
                self,
                output=each.output,
                key_count=0,
                lines=each.lines,
                output_bytes=each.bytes,
                output_parts=len(each.parts),
                sha256=each.sha256,
                _parts=parts.get(each.name, ()),
                _named=(),
                _of=self,
            )
            for each in self._named
        }

    @property
    def script(self) -> str | None:
        """The path of the script; ``None`` if it is in no file."""
        return self._job.path if self._job is not None and self._job.code is None else None

    def is_own_file(self, filename: str) -> bool:
        """Check whether a file in a profile or traceback is the script or one of its modules."""
        return self._job is not None and self._job.is_user_file(filename)

    def __iter__(self) -> Iterator[Any]:
        if self.output is not None or self._job is None:
            raise TypeError(
                f"This job wrote its result to {self.output}. Read it there, or run the job without "
                "output to iterate over the result."
            )
        return self._iterate(self._job)

    def __len__(self) -> int:
        """Return the number of rows; with an output file, that of the rows written to it."""
        header = self._parts[0].header if self._parts else ()
        return self.lines + len(header)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by its number, or a list of rows by a slice; reads the rows before it."""
        if isinstance(index, slice):
            try:
                return list(islice(self, index.start, index.stop, index.step))
            except ValueError:  # a negative number
                return list(self)[index]
        number = operator.index(index)
        if number < 0:
            number += len(self)
        for row in islice(self, max(0, number), None):
            if number >= 0:
                return row
        raise IndexError(f"There is no row {index}: the result has {len(self):,}.")

    def to_dict(self) -> dict[Any, Any]:
        """Return the value of each key.

        Raises
        ------
        ValueError
            If a key was written more than once, or a row has no key.
        """
        return tables.to_dict(self)

    def to_pandas(self) -> Any:
        """Return a ``pandas.DataFrame`` with a column for each part of the key and of the value.

        The parts of a tuple key are several columns. The names are ``columns`` of the job, or else
        ``key``, ``key_2`` and so on, ``value``, ``value_2`` and so on; entries of a dict have their own.

        Raises
        ------
        DaskMRError
            If pandas is not installed, or a column has values of mixed types.
        """
        return tables.to_pandas(self, self._columns())

    def to_arrow(self) -> Any:
        """Return a ``pyarrow.Table``; see `to_pandas`."""
        return tables.to_arrow(self, self._columns())

    def to_polars(self) -> Any:
        """Return a ``polars.DataFrame``; see `to_pandas`."""
        return tables.to_polars(self, self._columns())

    def _columns(self) -> tuple[str, ...] | None:
        # Those of the script are the columns of the main output.
        return None if self._job is None or self._of else tables.columns_of(self._job)

    def _iterate(self, job: Job) -> Iterator[Any]:
        # A method, so that the generator keeps the result alive, and with it the run's folder.
        if self._parts:
            yield from self._parts[0].header
        batches = merge_parts(self._parts)
        while True:
            with job.activate():  # values may be instances of classes that the script defines
                batch = next(batches, None)
            if batch is None:
                return
            yield from batch if job.reduce is None else chain.from_iterable(batch)

    def __repr__(self) -> str:
        from daskmr.run.notebook import as_text  # deferred: few runs need it

        return as_text(self)

    def _repr_html_(self) -> str:
        """Show figures in a notebook, and the first rows if there is no output file."""
        from daskmr.run.notebook import as_html

        return as_html(self, self if self.output is None and self._job is not None else None)
