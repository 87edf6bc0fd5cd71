"""Map saved bad records once more, in this process: ``daskmr replay OUTPUT.bad.jsonl``."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from daskmr.data.bad_records import BadRecord
from daskmr.data.layout import Layout, Schema, load_layout
from daskmr.data.output import beside
from daskmr.errors import InputError
from daskmr.job.contexts import MapContext, TextContext
from daskmr.job.job import Job, load_job
from daskmr.job.process_pools import no_children
from daskmr.job.tracebacks import describe_exception, explain_process_error, user_location
from daskmr.run.provenance import read_meta
from daskmr.run.side_cars import BAD_SUFFIX, META_SUFFIX, is_meta
from daskmr.tasks.guard import Returned, is_interruption, no_exit, shortened
from daskmr.tasks.user_calls import set_up

__all__ = ["Replay", "Replayed", "open_replay", "read_bad_records"]


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
        key, tab, value = line.partition("\t")
        if not tab:
            text = f"still no tab in the line; it begins with {shortened(line, 80)}"
            return Replayed(record, text, passes=False)
        dims = dims_of(record.file, self.layout)
        context, written = self._context()
        try:
            returned = self.job.map(key, dims, value.rstrip("\r"), context.user)
            if returned is not None:
                raise Returned(returned)
        except BaseException as error:
            if is_interruption(error):
                raise
            failure = error
        else:
            if isinstance(context, MapContext):
                context.place()
            count = len(written)
            what = "value" if self.job.reduce else "line"
            return Replayed(
                record, f"passes now, and writes {count:,} {what}{'s' * (count != 1)}", passes=True
            )
        return self._failed(record, failure)

    def _context(self) -> tuple[Any, list[Any]]:
        if self.job.reduce is not None:
            grouping = MapContext()
            return grouping, grouping.keys
        context = TextContext()
        set_up(self.job, context)
        return context, context.written

    def _failed(self, record: BadRecord, error: BaseException) -> Replayed:
        place = user_location(self.job, error)
        where = f" ({place})" if place else ""
        explanation = explain_process_error(error)
        is_bad = isinstance(error, ValueError) and not explanation
        still = "still bad" if is_bad else "would fail the job now"
        reason = error.explain("map") if isinstance(error, Returned) else describe_exception(error)
        text = f"{still}: {reason}{where}"
        if explanation:
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
    *directories, name = path.split("/")
    parts = Schema(layout, ()).parse_name(name)
    if parts is None or len(directories) != layout.directories:
        raise InputError(
            f"The file {path} is not in the layout {layout.template}, so its dimensions are not known. "
            "Give the schema of the run with --schema."
        )
    return [*directories, *parts]


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


def read_bad_records(path: str) -> Iterator[BadRecord]:
    """Read the bad records that a run saved.

    Raises `InputError` when there is no such file, or it is of another kind.
    """
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                yield _parse(line, path, number)
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is no text, so it holds no bad records.") from None


def _parse(line: str, path: str, number: int) -> BadRecord:
    get: Callable[[str], Any]
    try:
        get = json.loads(line).__getitem__
        return BadRecord(
            get("file"), int(get("line")), get("reason"), get("exception"),
            base64.b64decode(get("raw"), validate=True),
        )  # fmt: skip
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}, line {number}: this is no bad record as a run saves them. Give an "
            f"OUTPUT{BAD_SUFFIX}."
        ) from None
