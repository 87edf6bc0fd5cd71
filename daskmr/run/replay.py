"""Map saved bad records once more, in this process: ``daskmr replay OUTPUT.bad.jsonl``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType

from daskmr.data.bad_records import BAD_SUFFIX, BadRecord, read_bad_records
from daskmr.data.layout import Layout, load_layout
from daskmr.data.output import beside
from daskmr.errors import InputError
from daskmr.job.job import Job, load_job
from daskmr.job.process_errors import explain_process_error, no_children
from daskmr.job.tracebacks import describe_exception, user_location
from daskmr.run.provenance import read_meta
from daskmr.run.side_cars import META_SUFFIX, is_meta
from daskmr.run.trial import TrialOutput
from daskmr.tasks.guard import Returned, is_interruption, no_exit, shortened
from daskmr.tasks.record_rule import RecordMapper
from daskmr.text import counted

__all__ = ["Replay", "Replayed", "open_replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A bad record that was mapped once more."""

    record: BadRecord
    text: str  # the finding, in one line
    passes: bool  # whether `map` takes it now
    traceback: TracebackType | None = None  # of the exception of `map`


@dataclass(frozen=True, slots=True)
class Replay:
    """Bad records, and the job to map them with."""

    job: Job
    layout: Layout  # gives the dimensions of a record's file
    records: tuple[BadRecord, ...]

    def run(self) -> Iterator[Replayed]:
        """Map one record after the other."""
        with self.job.activate(), no_exit(), no_children():
            for record in self.records:
                yield self._map(record)

    def _map(self, record: BadRecord) -> Replayed:
        line = record.raw.decode("utf-8", "surrogateescape")
        dims = dims_of(record.file, self.layout) if "\t" in line else []
        output = TrialOutput(self.job)
        bad: list[ValueError | None] = []
        mapper = RecordMapper(self.job.map, output, lambda *why: bad.append(why[-1]))
        try:
            mapper.map([line], True, dims)
        except BaseException as error:
            if is_interruption(error):
                raise
            failure = error
        else:
            if not bad:
                what = counted(len(output.pending), "value" if self.job.reduce else "line")
                return Replayed(record, f"passes now, and writes {what}", passes=True)
            if bad[0] is None:
                text = f"still no tab in the line; it begins with {shortened(line, 80)}"
                return Replayed(record, text, passes=False)
            return self._failed(record, bad[0], "still bad")
        return self._failed(record, failure, "would fail the job now")

    def _failed(self, record: BadRecord, error: BaseException, still: str) -> Replayed:
        place = user_location(self.job, error)
        where = f" ({place})" if place else ""
        reason = error.explain("map") if isinstance(error, Returned) else describe_exception(error)
        text = f"{still}: {reason}{where}"
        if explanation := explain_process_error(error):
            text += f". {explanation}"
        own = own_part(error.__traceback__, self.job.is_user_file)
        return Replayed(record, text, passes=False, traceback=own)


def own_part(trace: TracebackType | None, is_own: Callable[[str], bool]) -> TracebackType | None:
    """Return the part of a traceback from the first to the last frame of the user's own code.

    A debugger stands in the last frame of what it is given, and there are the user's variables.
    """
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    own = [n for n, frame in enumerate(frames) if is_own(frame.tb_frame.f_code.co_filename)]
    part: TracebackType | None = None
    for frame in reversed(frames[own[0] : own[-1] + 1] if own else frames):
        part = TracebackType(part, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return part


def dims_of(path: str, layout: Layout) -> list[str]:
    """Return the dimensions of a file, from its path.

    Raises `InputError` when it is not in the layout.

    Examples
    --------
    >>> dims_of("idle/20131029.20131102.v2.log.gz", Layout(("reason", "buildID", "date")))
    ['idle', '20131029', '20131102']
    """
    dims = layout.dims_of(path)
    if dims is None:
        raise InputError(
            f"The file {path} is not in the layout {layout.template}, so its dimensions are not known. "
            "Give the schema of the run with --schema."
        )
    return list(dims)


def open_replay(path: str, script: str | None, schema: str | None) -> Replay:
    """Read saved bad records, and load the script of their run.

    - `path`: an ``OUTPUT.bad.jsonl``.
    - `script`: the script; by default that of the run, from its ``OUTPUT.meta.json``.
    - `schema`: the schema of the layout; by default that of the run.
    Raises `InputError` when a file cannot be read, or the script is not known.
    """
    records = tuple(read_bad_records(path))
    meta_path = beside(path.removesuffix(BAD_SUFFIX), META_SUFFIX)
    meta = read_meta(meta_path) if is_meta(meta_path) else None
    if script is None:
        if meta is None:
            raise InputError(
                f"The script is not known: there is no {meta_path} to tell. Give it with --script."
            )
        script = meta["script"]["path"]
    if script is None:
        raise InputError(
            f"The run that {meta_path} tells of had no script. Give one with --script."
        )
    if schema is None and meta is not None:
        layout = Layout(tuple(meta["layout"]))
    else:
        layout = load_layout(schema)
    return Replay(load_job(script), layout, records)
