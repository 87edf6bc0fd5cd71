"""Run the steps of a job one after the other: each maps the pairs that the one before has written.

Pairs stay where workers read and write, and the client gets an index of them. A step whose result is
there is never computed again: if a worker dies, only tasks of the current step are repeated.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr.data.input_file import UNNAMED
from daskmr.data.output import OutputFile
from daskmr.data.partition import Partition
from daskmr.data.parts import Part
from daskmr.data.sampling import EVERYTHING
from daskmr.data.segments import Extent
from daskmr.data.steps.pairs import PAIRS
from daskmr.data.steps.plan import plan_step
from daskmr.diagnostics.collector import Collector
from daskmr.errors import InputError, Interrupted, JobError, TaskFailed
from daskmr.history import StepFigures
from daskmr.job.job import Job, after
from daskmr.job.json_text import RowError
from daskmr.job.tracebacks import short_repr
from daskmr.run.execution import Execution, Outcome, outline_of
from daskmr.run.input_checks import check_grown
from daskmr.run.outputs.commit import check_bad_records, write_parts
from daskmr.run.tables import columns_of

if TYPE_CHECKING:
    from daskmr.cluster.session import Session
    from daskmr.run.request import Request
    from daskmr.run.stopwatch import Stopwatch
    from daskmr.run.workspace import Placement

__all__ = ["check_step_reach", "run_steps"]


def check_step_reach(request: Request, placement: Placement) -> None:
    """Raise InputError if workers elsewhere cannot read the pairs that others have written."""
    store = placement.store
    if len(request.job.steps) > 1 and store is not None and store.source is None:
        raise InputError(
            "Workers keep the pairs between the steps of a job for each other, but they share neither "
            "their disks nor the work dir. Give --spill-dir, a path that all workers and this machine "
            "share, or a URL such as s3://BUCKET/spill."
        )


def run_steps(
    request: Request,
    session: Session,
    placement: Placement,
    plan: list[Partition],
    collector: Collector,
    stopwatch: Stopwatch,
) -> Outcome:
    """Run all steps; return the outcome of the last one, with the counts of all.

    - `plan`: the partitions of the input.
    Raises `JobError` if a step fails, or has more bad records than the settings allow.
    """
    steps = request.job.steps
    run_id, inputs = placement.run_dir.run_id, placement.inputs
    outcomes: list[Outcome] = []
    figures: list[StepFigures] = []
    for number, job in enumerate(steps, 1):
        label = request.job.step_label(number)
        one = request if len(steps) == 1 else _of_step(request, number, label)
        if number > 1:
            placement = _with_input(placement, plan)
            outline = outline_of(one, placement.inputs, plan)
            phases = tuple(each for each in outline.phases if each not in ("list", "fetch"))
            outline = replace(outline, phases=phases, files=0, bytes=0, step=label)
            collector.begin(outline)
        task_id = run_id if number == 1 else f"{run_id}-{number}"
        started, kept = clock.now(), ""
        kept_before = [each.kept for each in figures if each.kept]
        with _naming(label if len(steps) > 1 else "", kept_before), session.watched():
            execution = Execution(one, session, placement, task_id, plan, collector.watched)
            outcome = execution.outcome()
            if number == 1 and session.is_elsewhere:
                check_grown(inputs, outcome.tally)
            check_bad_records(outcome.tally, one.config)
            stopwatch.add_tasks(outcome)
            if number < len(steps):
                # No task of the step will be retried now.
                written = _paths(outcome.parts)
                placement.begin_step(written)
                plan = plan_step(outcome.parts, f"the pairs of {label}")
                if request.keep_steps is not None:
                    kept = _keep(one, session, placement, plan, number, f"{task_id}-kept")
                    placement.begin_step(written)
        figures.append(_figures(job, outcome, clock.now() - started, kept))
        outcomes.append(replace(outcome, parts=()) if number < len(steps) else outcome)
    return outcomes[0] if len(steps) == 1 else _combined(outcomes, figures)


def _of_step(request: Request, number: int, label: str) -> Request:
    """Return the request of one step."""
    steps, config = request.job.steps, request.config
    if number > 1:
        # Pairs are no files, so none can be skipped; and their bad records cannot be mapped again.
        config = replace(
            config,
            skip_poison_files=False,
            skip_corrupt_files=False,
            file_timeout=None,
            bad_records_saved=0,
        )
        request = replace(request, records=PAIRS, choice=EVERYTHING)
    is_last = number == len(steps)
    return replace(request, job=steps[number - 1], config=config, step="" if is_last else label)


def _with_input(placement: Placement, plan: Sequence[Partition]) -> Placement:
    """Replace the files of the input by what a later step reads."""
    inputs = placement.inputs
    files = tuple(file for partition in plan for file in partition.files)
    listing = replace(inputs.listing, files=files)
    inputs = replace(inputs, listing=listing, remote=None, root="", sources=UNNAMED)
    return replace(placement, inputs=inputs)


def _paths(parts: Sequence[Part]) -> set[str]:
    return {part.frames.path for part in parts if isinstance(part.frames, Extent)}


@contextmanager
def _naming(label: str, kept: Sequence[str] = ()) -> Iterator[None]:
    """Begin the message of a failure with the step; note on an interruption what was `kept` before."""
    try:
        yield
        return
    except (Interrupted, KeyboardInterrupt) as error:
        if kept:
            error.add_note(", ".join(kept))
        raise
    except JobError as error:
        if not label:
            raise
        failure = JobError(f"In {label}: {error}", error.details)
        failure.record, failure.history = error.record, error.history
        if not label.startswith("step 1 "):  # else the run can be repeated with that file alone
            raise failure from None
        failure.files, failure.file = error.files, error.file
        failure.is_foreign = error.is_foreign
    raise failure


def _figures(job: Job, outcome: Outcome, seconds: float, kept: str) -> StepFigures:
    tally = outcome.tally
    return StepFigures(
        job.step_name,
        tally.records,
        tally.bad_records,
        outcome.keys,
        outcome.lines,
        tally.spilled,
        seconds,
        kept,
    )


def _combined(outcomes: Sequence[Outcome], figures: Sequence[StepFigures]) -> Outcome:
    """Return the outcome of the last step with the counts of all.

    Files, bytes and records are those of the input; keys and values those of the last step.
    """
    first, last = outcomes[0].tally, outcomes[-1].tally
    tally = sum((outcome.tally for outcome in outcomes[1:]), first)
    counts = first.counts._replace(
        bad_reasons=tally.bad_reasons, spilled=tally.spilled, values=last.values
    )
    tasks = tuple(
        replace(task, step=number)
        for number, outcome in enumerate(outcomes, 1)
        for task in outcome.tally.tasks
    )
    tally = replace(tally, counts=counts, hot_keys=last.hot_keys, tasks=tasks)
    notes = dict.fromkeys(note for outcome in outcomes for note in outcome.notes)
    return replace(outcomes[-1], tally=tally, notes=tuple(notes), steps=tuple(figures))


# --- the outputs of steps ----------------------------------------------------------------------


def _keep(
    request: Request,
    session: Session,
    placement: Placement,
    plan: list[Partition],
    number: int,
    task_id: str,
) -> str:
    """Write the pairs of a step as an output, in the format of the job's; return its path."""
    assert request.keep_steps is not None
    step = request.job
    path = request.kept_path(number, step)
    columns = None if request.output_format.rows is None else columns_of(step)
    job = after(Job(map=_write_pair), step)
    config = replace(request.config, max_bad_records=0)  # none of the pairs may be left out
    keeping = replace(
        request, job=job, config=config, records=PAIRS, choice=EVERYTHING, step="",
        output=path, columns=columns,
    )  # fmt: skip
    place = _with_input(placement, plan)
    try:
        os.makedirs(request.keep_steps, exist_ok=True)
        outcome = Execution(keeping, session, place, task_id, plan, watched=False).outcome()
        file = OutputFile(path, placement.run_dir.run_id)
    except (OSError, InputError, JobError) as error:
        failure = JobError(f"{path}, which --keep-steps asks for, cannot be written: {error}")
    else:
        try:
            write_parts(outcome.parts, keeping, file)
            file.commit()
        finally:
            file.discard()
        return path
    raise failure


def _write_pair(key: Any, dims: list[str], value: Any, context: Any) -> None:
    try:
        context.write(key, value)
    except RowError as error:
        failure = TaskFailed(f"the pair {short_repr((key, value))}: {error}")
    else:
        return
    raise failure
