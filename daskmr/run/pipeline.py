"""Run a request: list, plan, connect, map, merge, reduce, commit.

The graph is built in `execution`, and the output is put in place in `outputs.commit`. See the diagram
in docs/design.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Any

from daskmr.cluster.delivery import check_files, delivered
from daskmr.cluster.session import Session, connect
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.partition import MIN_PARTITIONS, Partition
from daskmr.data.sources.given import STDIN, spool
from daskmr.diagnostics.collector import Collector
from daskmr.job.job import Job
from daskmr.run.execution import (
    Outcome,
    live_page_of,
    outline_of,
    with_deployment,
    with_scheduler,
)
from daskmr.run.input_checks import (
    check_kept,
    check_opening,
    describe_grown,
    refuse_input_as_output,
)
from daskmr.run.outputs.commit import commit, delete_input, result_of
from daskmr.run.outputs.writing import check_reach, notes_on_bytes, write_directory
from daskmr.run.provenance import describe_run
from daskmr.run.record_format import pointing_to_inspect
from daskmr.run.request import Request
from daskmr.run.result import Result
from daskmr.run.stopwatch import Stopwatch
from daskmr.run.workspace import Placement, Workspace, placed, workspace_of
from daskmr.store.open_stores import stores_closed

if TYPE_CHECKING:
    from daskmr.run.past.keeping import Record

__all__ = ["run_request"]


def run_request(
    request: Request,
    collector: Collector,
    stopwatch: Stopwatch,
    stdout: IO[bytes] | None,
    earlier: Mapping[str, Any] | None,
    record: Record,
) -> Result:
    """Connect, list, execute, commit.

    - `stdout`: the stream for an output of ``"-"``.
    - `earlier`: the provenance of a run to repeat.
    - `record`: that of this run in the history.
    """
    with stores_closed(), workspace_of(request, stdout) as workspace:
        with ExitStack() as clusters:
            stopwatch.lap("list")
            request = with_scheduler(request, clusters)
            stopwatch.lap("start")
            inputs = _list_input(request, workspace, collector)
            stopwatch.lap("list")
            request = with_deployment(request, clusters)
            record.meta, notes = describe_run(request, inputs, workspace.target, earlier)
            stopwatch.lap("start")
            with pointing_to_inspect(request.sources, inputs.listing.root):
                outcome = _execute(request, inputs, workspace, collector, stopwatch)
        # The output is that of the last step.
        request = replace(request, job=request.job.steps[-1])
        # A cluster created for the job is closed now, since writing a file does not need it.
        tally = outcome.tally
        notes = (*inputs.notes, *notes, *outcome.notes, *tally.notes, *describe_grown(tally))
        notes += notes_on_bytes(outcome, request, inputs)
        side_cars = commit(
            outcome, request, inputs, workspace, collector, stopwatch, record.meta, notes
        )
        deleted, kept = delete_input(request, inputs, tally, workspace.target)
        notes += (() if side_cars is None else side_cars.notes) + kept
        result = result_of(
            outcome, request, inputs, side_cars, collector, stopwatch, notes, deleted
        )
        if workspace.target is None:
            workspace.keep_for(result)
    return result


def _list_input(request: Request, workspace: Workspace, collector: Collector) -> Inputs:
    """List the files that the filter allows."""
    sources, stdin = request.sources, None
    if sources.reads_stdin:
        stdin = spool(os.path.join(workspace.run_dir.path, STDIN))
    inputs = find_inputs(
        sources,
        request.schema,
        request.config,
        collector.listing,
        request.choice,
        stdin=stdin,
    )
    workspace.at_end(inputs.sweep)
    refuse_input_as_output(inputs, workspace.target)
    check_kept(request, inputs)
    if not inputs.listing.files and not request.config.allow_empty:
        inputs.listing.refuse_nothing()
    return inputs


def _delivered(
    request: Request, session: Session, placement: Placement
) -> AbstractContextManager[Job]:
    host = None if placement.store is None else placement.store.host
    return delivered(request.job, session, request.pass_env, placement.run_dir.path, host)


def _execute(
    request: Request,
    inputs: Inputs,
    workspace: Workspace,
    collector: Collector,
    stopwatch: Stopwatch,
) -> Outcome:
    """Plan, connect, and run the steps of the job: map, merge and reduce."""
    from daskmr.run.chain import check_step_reach, run_steps  # deferred, like tasks

    config = request.config
    check_opening(inputs, config, request.records)
    # Without any input, `setup_reduce` may still write.
    plan, notes = request.plan(inputs)
    plan = plan or [Partition(0, (), 0)]
    job = request.job
    outline = outline_of(request, inputs, plan)
    if len(job.steps) > 1:
        outline = replace(outline, step=job.step_label(1))
    collector.begin(outline)
    stopwatch.lap()
    connected = connect(
        config,
        len(plan) if len(job.steps) == 1 else max(len(plan), MIN_PARTITIONS),
        client=request.client,
        inline=outline.inline,
        run_dir=workspace.run_dir.path,
        pass_env=request.pass_env,
    )
    with (
        connected as session,
        placed(session, config, inputs, workspace) as placement,
        _delivered(request, session, placement) as job,
    ):
        request = replace(request, job=job)
        target = workspace.target
        check_reach(target, session, placement)
        check_step_reach(request, placement)
        stopwatch.lap("start")
        dashboard = config.dashboard != "off"
        with (
            live_page_of(session, collector, request) if dashboard else nullcontext(),
            collector.following(session, placement.scratch, dashboard),
        ):
            outcome = run_steps(request, session, placement, plan, collector, stopwatch)
            outcome = replace(outcome, notes=(*notes, *outcome.notes))
            check_files(job, session)
        # No task will be retried now, so remove the segments to make space for the output.
        placement.run_dir.remove_segments()
        stopwatch.lap()
        request = replace(request, job=request.job.steps[-1])
        if write_directory(outcome, request, target, session, placement, collector):
            stopwatch.lap("write")
    return outcome
