"""``daskmr replay OUTPUT.bad.jsonl``: bad records through the script's `map` once more, here."""

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
from daskmr.job.job import Job, load_job
from daskmr.job.process_pools import no_children
from daskmr.job.tracebacks import describe_exception, explain_process_error, user_location
from daskmr.run.companions import BAD_SUFFIX
from daskmr.run.provenance import SUFFIX, is_meta, read_meta
from daskmr.run.trial import TrialOutput
from daskmr.tasks.guard import Returned, is_interruption, no_exit, shortened
from daskmr.tasks.record_rule import RecordMapper
from daskmr.text import counted

__all__ = ["Outcome", "Retrial", "open_retrial", "read_bad_records"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a record.

    Attributes
    ----------
    record : BadRecord
    text : str
        What there is to say of it, in a line.
    passes : bool
        Whether it is no bad record any more.
    traceback : TracebackType or None
        Of what `map` raised.
    """

    record: BadRecord
    text: str
    passes: bool
    traceback: TracebackType | None = None


@dataclass(frozen=True, slots=True)
class Retrial:
    """Records, and the job that could not take them.

    Attributes
    ----------
    job : Job
    layout : Layout
        Which tells the dimensions of a record's file.
    records : tuple of BadRecord
    """

    job: Job
    layout: Layout
    records: tuple[BadRecord, ...]

    def outcomes(self) -> Iterator[Outcome]:
        """Map one record after the other."""
        with self.job.activate(), no_exit(), no_children():
            for record in self.records:
                yield self._map(record)

    def _map(self, record: BadRecord) -> Outcome:
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
                return Outcome(record, f"passes now, and writes {what}", passes=True)
            if bad[0] is None:
                text = f"still no tab in the line; it begins with {shortened(line, 80)}"
                return Outcome(record, text, passes=False)
            return self._failed(record, bad[0], "still bad")
        return self._failed(record, failure, "would fail the job now")

    def _failed(self, record: BadRecord, error: BaseException, still: str) -> Outcome:
        place = user_location(self.job, error)
        where = f" ({place})" if place else ""
        reason = error.explain("map") if isinstance(error, Returned) else describe_exception(error)
        text = f"{still}: {reason}{where}"
        if explanation := explain_process_error(error):
            text += f". {explanation}"
        own = own_part(error.__traceback__, self.job.is_user_file)
        return Outcome(record, text, passes=False, traceback=own)


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

    Raises
    ------
    InputError
        When it is not in the layout.

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


def open_retrial(path: str, script: str | None, schema: str | None) -> Retrial:
    """Read saved bad records, and load the script that they were bad for.

    Parameters
    ----------
    path : str
        An ``OUTPUT.bad.jsonl``.
    script : str or None
        The script; that of the run, as ``OUTPUT.meta.json`` tells, when it is not given.
    schema : str or None
        The schema of the layout, likewise.

    Raises
    ------
    InputError
        When one of them cannot be read, or the script is not known.
    """
    records = tuple(read_bad_records(path))
    meta_path = beside(path.removesuffix(BAD_SUFFIX), SUFFIX)
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
    return Retrial(load_job(script), layout, records)


def read_bad_records(path: str) -> Iterator[BadRecord]:
    """Read what a run has saved.

    Raises
    ------
    InputError
        When there is no such file, or it is nothing of the kind.
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
