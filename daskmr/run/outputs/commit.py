"""Commit the output and its side-cars, delete the input, and create the result."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr.counts import most_frequent_first
from daskmr.data.local_file import is_as_listed
from daskmr.data.output import OutputFile
from daskmr.data.output_directory.base import Output, OutputDirectory
from daskmr.data.parts import Part, merge_parts, named_parts
from daskmr.data.segments import Extent
from daskmr.errors import JobError, foreign
from daskmr.history import History
from daskmr.run.outputs.side_cars import SideCars, bad_records_path, named_outputs
from daskmr.run.outputs.writing import prepared
from daskmr.run.provenance import describe_outcome
from daskmr.run.result import Result
from daskmr.tasks.tally import by_group, explain_untabbed
from daskmr.text import counted, some

if TYPE_CHECKING:
    from daskmr.config import Config
    from daskmr.data.inputs import Inputs
    from daskmr.diagnostics.collector import Collector
    from daskmr.run.execution import Outcome
    from daskmr.run.request import Request
    from daskmr.run.stopwatch import Stopwatch
    from daskmr.run.workspace import Workspace
    from daskmr.tasks.tally import Tally

__all__ = ["check_bad_records", "commit", "delete_input", "result_of", "write_parts"]

_REASONS = 5  # reasons for bad records named in a failure
# The starts of reasons that may be due to another format, or another field
_FOREIGN = (
    "no tab",
    "not JSON",
    "no field",
    "the field",
    "wrong number of fields",
    "not valid CSV",
    "a quote is not",
)


def check_bad_records(tally: Tally, config: Config) -> None:
    """Raise JobError if more records are bad than the settings allow."""
    if not config.limits_bad_records:
        return
    if tally.opening.is_foreign:
        raise foreign(JobError(explain_untabbed(tally.opening)))
    limit, allowed = config.max_bad_records, config.allowed_bad_records(tally.records)
    if tally.bad_records > allowed:
        share = f" ({100 * limit:g}% of them)" if type(limit) is float else ""
        by_count = islice(most_frequent_first(tally.bad_reasons).items(), _REASONS)
        reasons = ", ".join(f"{count:,} x {reason}" for reason, count in by_count)
        examples = "".join(f"\n  {example}" for example in tally.first_bad())
        failure = JobError(
            f"{tally.bad_records:,} of {tally.records:,} records are bad ({reasons}), and "
            f"--max-bad-records allows {allowed:,}{share}. Nothing was written. Some of them:{examples}\n"
            f"To skip any number of bad records: --max-bad-records 100%"
        )
        reason = max(tally.bad_reasons, key=tally.bad_reasons.__getitem__)
        failure.is_foreign = reason.startswith(_FOREIGN)
        raise failure


def commit(
    outcome: Outcome,
    request: Request,
    inputs: Inputs,
    workspace: Workspace,
    collector: Collector,
    stopwatch: Stopwatch,
    provenance: Mapping[str, Any],
    notes: tuple[str, ...],
) -> SideCars | None:
    """Write the output and its side-cars, and put all of them in place; ``None`` without an output.

    - `provenance`: the description of the run for ``OUTPUT.meta.json``.
    - `notes`: the notes for the same file.
    """
    stopwatch.lap()
    target = workspace.target
    if target is None:
        stopwatch.lap("write")  # no time, but every result has this phase
        return None
    named: dict[str, OutputFile] = {}
    if isinstance(target, OutputFile):  # workers have written a directory
        total = outcome.keys if request.job.reduce is not None else len(outcome.parts)
        collector.wrote(0, total)
        write_parts(outcome.parts, request, target, None, lambda n: collector.wrote(n, total))
        others = {} if target.path == os.devnull else named_parts(outcome.parts)
        for name, parts in others.items():
            named[name] = workspace.open_named(name, request, inputs)
            write_parts(parts, request, named[name], name)
    bad_path = bad_records_path(target, request.config, request.job)
    side_cars = SideCars(target, workspace.run_dir, bad_path, named)
    try:
        stopwatch.lap("write")
        side_cars.described = describe_outcome(
            outcome,
            inputs.listing,
            target,
            named_outputs(outcome.parts, side_cars),
            request.output_format.name,
            stopwatch,
            notes,
        )
        meta = {**provenance, **side_cars.described} if request.config.meta else None
        side_cars.write(outcome.tally.saved, meta)
        side_cars.commit()
    finally:
        side_cars.discard()
    stopwatch.lap("write")
    return side_cars


def write_parts(
    all_parts: tuple[Part, ...],
    request: Request,
    target: OutputFile,
    name: str | None = None,
    show: Callable[[int], object] = lambda done: None,
) -> None:
    """Write and close one output, and remove the parts of a map-only job as they are written.

    - `name`: its name in the script; ``None`` for the main output.
    - `show`: called as ``show(done)`` with the keys so far, or in a map-only job the parts.
    """
    writer = request.output_format.open(target, prepared(all_parts, request, name), True)
    grouped = request.job.reduce is not None
    done = 0
    # The parts of a map-only job are concatenated, so each is removed before the next is read.
    batches = [all_parts] if grouped else [(part,) for part in all_parts]
    for parts in batches:
        for written in merge_parts(parts):
            writer.write(written)
            done += len(written) if grouped else 0
            show(done)
        done += 0 if grouped else 1
        for part in parts:
            if isinstance(part.frames, Extent):
                part.frames.remove()
    writer.close()
    target.close()


def delete_input(
    request: Request, inputs: Inputs, tally: Tally, output: Output | None
) -> tuple[int, tuple[str, ...]]:
    """Delete the input files that were mapped completely, if the run was asked to.

    Files are kept if they were skipped, have changed since they were read, or have bad records that
    were not all saved; all of them are, if pairs of a step are bad records. Of objects in a store, only the local copies are deleted.

    Returns the number of deleted files, and notes on files that were kept.
    """
    if not request.delete_data or request.choice.keys:
        return 0, ()
    left_out = (*tally.corrupt, *tally.poisoned, *tally.missing)
    kept = {path for path, _ in left_out} | tally.unsaved_files
    if tally.unsaved_files.difference(file.path for file in inputs.listing.files):
        return 0, ("no input file was deleted, because bad pairs between the steps are not saved",)
    files = [file for file in inputs.listing.files if file.path not in kept]
    own = output.path if output is not None else None
    count = inputs.delete_copies([file.path for file in files if file.is_remote])
    changed: list[str] = []
    refused: list[str] = []
    for file in files:
        path = os.path.join(inputs.root, file.path)
        if file.is_remote or os.path.realpath(path) == own:
            continue
        try:
            if is_as_listed(file, path):
                os.unlink(path)
                count += 1
            else:
                changed.append(file.path)
        except FileNotFoundError:
            pass
        except OSError as error:  # not a failure of the run, because the output is in place
            refused.append(f"{file.path} ({error.strerror})")
    kinds = (("changed since listed", changed), ("the system refused", refused))
    return count, tuple(
        f"{counted(len(paths), 'input file')} not deleted, {why}: {some(paths)}"
        for why, paths in kinds
        if paths
    )


def result_of(
    outcome: Outcome,
    request: Request,
    inputs: Inputs,
    side_cars: SideCars | None,
    collector: Collector,
    stopwatch: Stopwatch,
    notes: tuple[str, ...],
    deleted: int,
) -> Result:
    """Create the result of a run that is complete."""
    tally, listing = outcome.tally, inputs.listing
    target = side_cars.target if side_cars is not None else None
    named = named_outputs(outcome.parts, side_cars)
    ended = clock.now()
    history = History(
        stopwatch.started,
        ended,
        tally.tasks,
        collector.looks,
        tally.hot_keys,
        len(outcome.steps) or 1,
    )
    return Result(
        output=target.name if target is not None else None,
        counts=tally.counts._replace(bad_reasons=most_frequent_first(tally.bad_reasons)),
        bad_files=tally.bad_files,
        bad_examples=tally.examples,
        saved_bad_records=tally.saved,
        bad_records_path=side_cars.bad_path if side_cars and side_cars.bad else None,
        skipped=listing.skipped,
        skipped_count=listing.skipped_count,
        skipped_reasons=listing.reasons,
        corrupt=tally.corrupt,
        key_count=outcome.keys,
        lines=outcome.lines,
        output_bytes=target.bytes if target is not None else 0,
        output_parts=len(target.parts) if isinstance(target, OutputDirectory) else 0,
        timings={**stopwatch.seconds, "total": ended - stopwatch.started},
        deleted=deleted,
        poisoned=tally.poisoned,
        missing=tally.missing,
        cached=inputs.cached,
        cached_bytes=inputs.cached_bytes,
        notes=notes,
        counters=by_group(tally.counters),
        history=history,
        sample=request.choice.describe(len(listing.files)),
        meta_path=side_cars.meta_path if side_cars and side_cars.meta else None,
        sha256=target.sha256 if target is not None else None,
        plan=collector.plan,
        settings=request.config.recorded(),
        combines=request.job.combine is not None,
        steps=outcome.steps,
        profile=tally.profile,
        described=side_cars.described if side_cars is not None else {},
        _parts=outcome.parts if target is None else (),
        _named=named,
        _job=request.job,
    )
