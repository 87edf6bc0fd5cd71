"""What is said of steps, and how their outcomes are combined; tests/contract/test_steps.py runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from daskmr.counts import Counts
from daskmr.errors import Interrupted, JobError
from daskmr.history import TaskSpan
from daskmr.job.job import Job, describe_steps
from daskmr.job.loading import load_job
from daskmr.run.chain import _combined, _figures, _naming
from daskmr.run.execution import Outcome
from daskmr.tasks.tally import Tally


def words(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(key, 1)


def outcome(**counts: Any) -> Outcome:
    return Outcome((), Tally(Counts(**counts)), keys=2, reducing=None, notes=("a note",))


def test_a_step_is_called_by_its_number_and_function() -> None:
    job = load_job([Job(words), Job(lambda key, dims, value, context: None)])
    assert (job.step_label(1), job.step_label(2)) == ("step 1 of 2 (words)", "step 2 of 2")
    assert describe_steps(job) == ("step 1 of 2 (words): map", "step 2 of 2: map")
    assert describe_steps(Job(words)) == ()


def test_figures_are_of_the_input_and_of_the_output() -> None:
    job = Job(words)
    outcomes = [
        outcome(files=3, bytes=9, records=5, bad_reasons={"a": 1}, spilled=10, values=7),
        outcome(files=1, bytes=8, records=4, bad_reasons={"a": 1, "b": 1}, spilled=1, values=2),
    ]
    figures = [_figures(job, each, 1.5, "") for each in outcomes]
    task = TaskSpan("map", 0, "0", 1.0, 2.0)
    outcomes = [replace(each, tally=replace(each.tally, tasks=(task,))) for each in outcomes]
    both = _combined(outcomes, figures)
    assert both.tally.counts == Counts(
        files=3, bytes=9, records=5, bad_reasons={"a": 2, "b": 1}, spilled=11, values=2
    )
    assert both.notes == ("a note",)
    assert [task.step for task in both.tally.tasks] == [1, 2]
    assert [(step.name, step.records, step.bad_records) for step in both.steps] == [
        ("words", 5, 1), ("words", 4, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "file"), [(1, "a.log"), (2, "")])
def test_a_failure_begins_with_the_step(number: int, file: str) -> None:
    failure = JobError("map failed.", "a traceback")
    failure.file, failure.record = "a.log", "a record"
    with pytest.raises(JobError) as caught, _naming(f"step {number} of 2"):
        raise failure
    assert str(caught.value) == f"In step {number} of 2: map failed."
    # Only the first step can be repeated with one file.
    assert (caught.value.file, caught.value.record) == (file, "a record")
    assert caught.value.details == "a traceback"


@pytest.mark.parametrize(("kept", "notes"), [([], []), (["a.csv", "b.csv"], ["a.csv, b.csv"])])
def test_an_interruption_knows_what_was_kept(kept: list[str], notes: list[str]) -> None:
    with pytest.raises(Interrupted) as caught, _naming("step 3 of 3", kept):
        raise Interrupted(15)
    assert getattr(caught.value, "__notes__", []) == notes


def test_a_job_of_one_step_has_no_names() -> None:
    failure = JobError("map failed.")
    with pytest.raises(JobError) as caught, _naming(""):
        raise failure
    assert caught.value is failure
