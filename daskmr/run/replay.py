"""Map saved bad records again, in this process: ``daskmr replay OUTPUT.bad.jsonl``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from daskmr.config import load_config
from daskmr.data.bad_records import SavedRecord, read_bad_records
from daskmr.data.dims import Dims
from daskmr.data.layout import Layout, load_schema, recorded_layout
from daskmr.data.readers.parquet import readable
from daskmr.data.readers.records import Reading, RecordFormat
from daskmr.data.readers.registry import reader_of
from daskmr.data.sources.named_files import dims_by_end
from daskmr.errors import InputError, JobError, TaskFailed
from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.process_errors import explain_process_error, no_children
from daskmr.job.tracebacks import user_location
from daskmr.run.outputs.side_cars import is_meta, meta_path_of
from daskmr.run.provenance import read_meta, recorded_files, recorded_params, script_in
from daskmr.run.record_format import choose_format
from daskmr.run.trial import TrialOutput
from daskmr.tasks.guard import Returned, is_interruption, no_exit, shortened
from daskmr.tasks.record_rule import RecordMapper, Why, detail_of, skipped_errors
from daskmr.text import counted

__all__ = ["Replay", "Replayed", "open_replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """A bad record that was mapped again."""

    record: SavedRecord
    text: str  # the outcome, in one line
    group: str  # the same for all records with the same outcome
    passes: bool  # whether `map` accepts it now
    traceback: TracebackType | None = None  # of the exception of `map`


@dataclass(frozen=True, slots=True)
class Replay:
    """Bad records, and the job to map them with."""

    job: Job
    layout: Layout  # gives the dimensions of a record's file
    form: RecordFormat  # the format of the records
    records: tuple[SavedRecord, ...]
    root: str | None = None  # the folder of files that were named, whose layout is at their end
    on_error: str = "fail"  # the setting of this name, of the run
    source: str = ""  # the value of ``--data-dir`` of the run, if there was one

    def run(self) -> Iterator[Replayed]:
        """Map the records one by one, as those of one partition.

        Raises `JobError` if `setup_map` fails.
        """
        with self.job.activate(), no_exit(), no_children():
            output = TrialOutput(self.job)
            try:
                output.call_hook(self.job, "setup_map")
            except TaskFailed as error:
                raise JobError(error.message, error.details) from None
            for record in self.records:
                yield self._map(record, output)

    def _map(self, record: SavedRecord, output: TrialOutput) -> Replayed:
        line = record.raw.decode("utf-8", "surrogateescape")
        reader = reader_of(self.form, self.job.read)
        dims = dims_of(record.file, self.layout, self.root) if reader or "\t" in line else Dims()
        bad: list[tuple[str, Why]] = []
        skipped, mark = skipped_errors(self.on_error), len(output.pending)
        mapper = RecordMapper(self.job.map, output, lambda *why: bad.append(why[2:]), skipped)
        mapper.begin(record.file, record.line - 1, None, record.source or self.source)
        try:
            if reader is None:
                mapper.map([line], True, dims)
            else:
                about = Reading(record.file, dims)
                again = reader.reread(record.raw, self.form, about, record.header)
                mapper.map_records(again._replace(numbers=(record.line,)), dims)
        except BaseException as error:
            if is_interruption(error):
                raise
            output.take_back(mark)
            return self._failed(record, error, "would fail the job now", type(error).__name__)
        if not bad:
            written = counted(len(output.pending) - mark, "value" if self.job.reduce else "line")
            return Replayed(record, f"passes now, and writes {written}", "passes now", passes=True)
        reason, why = bad[0]
        if isinstance(why, Exception):
            return self._failed(record, why, "still bad", reason)
        detail = str(why or reason)  # some details begin with the reason
        said = detail if detail.startswith(reason) else f"{reason}: {detail}"
        text = f"still {said}; it begins with {shortened(readable(line), 80)}"
        return Replayed(record, text, f"still {reason}", passes=False)

    def _failed(
        self, record: SavedRecord, error: BaseException, outcome: str, group: str
    ) -> Replayed:
        place = user_location(self.job, error)
        reason = error.explain("map") if isinstance(error, Returned) else detail_of(error)
        text = f"{outcome}: {reason}" + (f" ({place})" if place else "")
        if explanation := explain_process_error(error):
            text += f". {explanation}"
        own = own_part(error.__traceback__, self.job.is_user_file)
        return Replayed(record, text, f"{outcome}: {group}", passes=False, traceback=own)


def own_part(trace: TracebackType | None, is_own: Callable[[str], bool]) -> TracebackType | None:
    """Return the part of a traceback from the first to the last frame of the user's own code.

    A debugger stops in the last frame of the traceback, which then has the user's variables.
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


def dims_of(path: str, layout: Layout, root: str | None = None) -> Dims:
    """Return the dimensions of a file, from its path; raise InputError if it is not in the layout.

    With a `root`, the end of the absolute path is in the layout.

    >>> from daskmr.data.layout import load_layout
    >>> dims_of("idle/20131029.20131102.v2.log.gz", load_layout("{reason}/{build}.{date}.{_}"))
    ['idle', '20131029', '20131102']
    """
    dims = layout.dims_of(path)
    if dims is None and root is not None:
        dims = dims_by_end(layout, os.path.join(root, path))
    if dims is None:
        raise InputError(
            f"The file {path} is not in the layout {layout.template}, because {layout.why_not(path)}; "
            "its dimensions are not known. Give the layout of the run with --layout."
        )
    return Dims(dims, layout.field_names)


def open_replay(
    path: str,
    script: str | None,
    given: str | None,
    params: Mapping[str, Any] | None = None,
    files: Mapping[str, str] | None = None,
    py_files: Sequence[str] = (),
) -> Replay:
    """Read saved bad records, and load the script of their run.

    - `path`: the path of an ``OUTPUT.bad.jsonl``.
    - `script`, `given`: the script and the layout; by default those of the run, from its
      ``OUTPUT.meta.json``, or without that the layout that the script declares.
    - `params`, `files`, `py_files`: as for `load_job`; they go before those of the run.
    Raises `InputError` if a file cannot be read, or the script is not known.
    """
    records = tuple(read_bad_records(path))
    meta_path = meta_path_of(path)
    meta = read_meta(meta_path) if is_meta(meta_path) else None
    found: Any = script  # or several, of which the first has read the records
    if found is None and meta is not None:
        found = script_in(meta)
    if found is None:
        reason = "it does not exist" if meta is None else "its run had no script"
        raise InputError(
            f"{meta_path} does not name the script, because {reason}. Give it with --script."
        )
    own = recorded_params(meta or {}) | dict(params or {})
    sent = recorded_files(meta or {}) | dict(files or {})
    job = load_job(found, own, sent, py_files or (meta or {}).get("py_files", ()))
    if given is None and meta is not None:
        layout = recorded_layout(meta.get("template"), meta["layout"])
    else:
        schema = load_schema(None, given or job.declared.layout)
        layout = schema.discovered_in(record.file for record in records).layout
    root = None if meta is None else meta["input"].get("root")
    on_error = load_config().on_error if meta is None else meta["options"].get("on_error", "fail")
    read = (meta or {}).get("input", {})
    source, *_ = read.get("sources") or [read.get("bucket") or ""]
    return Replay(job, layout, _format_of(meta, job), records, root, on_error, source)


def _format_of(meta: Mapping[str, Any] | None, job: Job) -> RecordFormat:
    """Return the format of the records of a run; without its meta, what the script says."""
    found = (meta or {}).get("records")
    if found is None:
        return choose_format(job, {}, load_config())
    columns, fields = found["columns"], found["fields"]
    return RecordFormat(
        found["name"],
        found["key"],
        columns and tuple(columns),
        fields and tuple(map(tuple, fields)),
    )
