"""The result of a run: its counts and times, and its rows where it has no output file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from daskmr.counts import Counted, Counts
from daskmr.data.bad_records import BadRecord
from daskmr.data.parts import Part, merge_parts
from daskmr.diagnostics.run_state import RunOutline
from daskmr.history import History
from daskmr.job.job import Job
from daskmr.tasks.tally import Profile

__all__ = ["Result"]


@dataclass(slots=True, weakref_slot=True)
class Result(Counted):
    """The result of a run.

    Without an output file, iterating gives its rows in key order (for a map-only job, in input order):
    ``(key, value)`` pairs for ``write``, lines as ``str`` for ``writeline`` and ``writecsv``.

    Attributes
    ----------
    output : str or None
        The output file.
    counts : Counts
        What was mapped; each figure is an attribute of the result, too: ``files``,
        ``bytes``, ``records``, ``bad_records``, ``bad_reasons``, ``fetched``, ``fetched_bytes``,
        ``spilled``, ``waited``, ``values``.
    bad_files : mapping of str to int
        Bad records by file.
    saved_bad_records : tuple of BadRecord
        The first of them; written to `bad_records_path` beside an output file.
    skipped : tuple of str
        Paths that are not in the layout (the first thousand of `skipped_count`).
    corrupt : tuple of (str, str)
        Files that were skipped, and why.
    key_count, lines : int
        Keys reduced, and lines (or rows) written.
    output_bytes : int
        Size of the output file.
    timings : dict of str to float
        Seconds by phase: list, start, map, merge, reduce, write, total.
    deleted : int
        Input files that were deleted.
    poisoned : tuple of (str, str)
        Files that were skipped since they crashed their worker, and how.
    missing : tuple of (str, str)
        Objects that could not be fetched and were skipped, and why.
    cached, cached_bytes : int
        Objects that had a local copy, and their size.
    notes : tuple of str
        Notes on the script, the input and the run.
    counters : dict of str to dict of str to int
        The counters of the script (``context.counter(group, name)``), by group and name.
    history : History
        When each task ran, and which keys got the most values.
    sample : str
        Which part of the input was read; ``""`` is all of it.
    meta_path : str or None
        The provenance beside the output.
    sha256 : str or None
        Digest of the output in hex, where its provenance was written.
    plan : RunOutline or None
        The outline of the run, where it was watched.
    settings : mapping of str to object
        The settings of the run; none of them is a secret.
    combines : bool
        Whether the job has a `combine`.
    """

    output: str | None
    counts: Counts
    bad_files: Mapping[str, int]
    saved_bad_records: tuple[BadRecord, ...]
    bad_records_path: str | None
    skipped: tuple[str, ...]
    skipped_count: int
    corrupt: tuple[tuple[str, str], ...]
    key_count: int  # not "keys": dict(result) would take the result for a mapping
    lines: int
    output_bytes: int
    timings: dict[str, float]
    deleted: int = 0
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
    plan: RunOutline | None = field(default=None, repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    combines: bool = field(default=False, repr=False)
    profile: Profile | None = field(default=None, repr=False)
    _parts: tuple[Part, ...] = field(default=(), repr=False)
    _job: Job | None = field(default=None, repr=False)

    @property
    def script(self) -> str | None:
        """Path of the script; ``None`` for functions that were given from Python."""
        return self._job.path if self._job is not None else None

    def is_own_file(self, filename: str) -> bool:
        """Check whether a file that a profile or traceback names is the script, or beside it."""
        return self._job is not None and self._job.is_user_file(filename)

    def __iter__(self) -> Iterator[Any]:
        if self.output is not None or self._job is None:
            raise TypeError(
                f"This job wrote its result to {self.output}; read it there, or leave output out "
                "to iterate over the result."
            )
        return self._iterate(self._job)

    def _iterate(self, job: Job) -> Iterator[Any]:
        # A method, so that the result, and with it the run's folder, lives as long as this.
        if self._parts:
            yield from self._parts[0].header
        batches = merge_parts(self._parts)
        while True:
            with job.activate():  # the values may be of classes that the script defines
                batch = next(batches, None)
            if batch is None:
                return
            yield from batch if job.reduce is None else chain.from_iterable(batch)

    def __repr__(self) -> str:
        from daskmr.run.notebook import as_text  # for people only, and not in every run

        return as_text(self)

    def _repr_html_(self) -> str:
        """Show figures in a notebook, and the first rows where there is no output file."""
        from daskmr.run.notebook import as_html

        return as_html(self, self if self.output is None and self._job is not None else None)
