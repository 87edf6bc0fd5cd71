"""Lost time is reported with its figures, and only where there is any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.counts import with_counts
from support.histories import STARTED, made_up

from daskmr.diagnostics.bottlenecks import Loss, find_losses
from daskmr.history import History, HotKey, Look, TaskSpan, WorkerLook

EVEN = replace(made_up(straggler=None, store=False, spill=False), hot_keys=())
NO_TIME = {"total": 20.0}


def losses_of(
    history: History, timings: Mapping[str, float] = NO_TIME, combines: bool = False
) -> dict[str, Loss]:
    return {loss.title: loss for loss in find_losses(history, timings, combines=combines)}


def mapped(seconds: Iterable[float], workers: int = 1, **fields: object) -> History:
    """Partitions one after the other, on workers in turn."""
    free = [STARTED] * workers
    tasks = []
    figures = {"files": 1, "bytes": 10**6, "records": 1000, **fields}
    for number, length in enumerate(seconds):
        worker = min(range(workers), key=lambda n: free[n])
        start, free[worker] = free[worker], free[worker] + length
        tasks.append(
            with_counts(TaskSpan, "map", number, str(worker), start, free[worker], **figures)
        )
    return History(STARTED, max(free), tuple(tasks))


def test_no_loss_is_reported_of_a_run_that_went_well() -> None:
    assert (
        losses_of(EVEN, {"list": 0.1, "start": 0.9, "merge": 0.5, "write": 0.2, "total": 20.0})
        == {}
    )


@pytest.mark.parametrize(
    ("phase", "title"),
    [("list", "listing"), ("start", "starting"), ("merge", "merging"), ("write", "writing")],
)
def test_what_one_process_does_counts_from_a_tenth_of_the_whole(phase: str, title: str) -> None:
    assert losses_of(EVEN, {phase: 1.9, "total": 20.0}) == {}
    losses = losses_of(EVEN, {phase: 5.0, "total": 20.0})
    assert list(losses) == [title]
    assert losses[title].seconds == 5.0
    assert "5.0 s, " in losses[title].text


def test_no_loss_is_reported_of_a_very_short_job() -> None:
    history = History(STARTED, STARTED + 1.2)
    assert losses_of(history, {"start": 0.9, "total": 1.2}) == {}


def test_a_straggler_is_named_with_its_file_and_what_it_cost() -> None:
    history = mapped([1.0, 1.0, 1.0, 9.0, 1.0, 1.0], workers=2)
    slow = history.tasks[3]
    looks = tuple(
        Look(slow.start + n, "map", workers=(WorkerLook(slow.worker, phase="map", file=file),))
        for n, file in enumerate(["a.gz", "b.gz", "b.gz"])
    )
    loss = losses_of(replace(history, looks=looks))["stragglers"]
    assert "partition 3 took 9.0 s, 9 times the median (of usual size, mostly in b.gz)" in loss.text
    assert "Size does not explain it" in loss.advice
    assert loss.seconds == pytest.approx(6.0)  # until 10 s on one worker, 4 on the other


def test_the_tasks_of_a_step_are_compared_with_each_other() -> None:
    """Also if those of another step take much longer."""
    first, second = mapped([1.0] * 8), mapped([9.0, 9.0, 9.0, 90.0])
    later = [replace(t, start=t.start + 8, end=t.end + 8, step=2) for t in second.tasks]
    history = History(STARTED, STARTED + 200, (*first.tasks, *later), step=2)
    assert losses_of(history)["stragglers"].text.startswith(
        "In step 2: partition 3 took 1 min 30 s, 10 times the median"
    )
    assert "stragglers" not in losses_of(replace(history, tasks=history.tasks[:-1]))


def test_a_large_partition_is_distinguished_from_a_slow_one() -> None:
    history = mapped([1.0, 1.0, 1.0, 9.0, 1.0, 1.0])
    tasks = list(history.tasks)
    tasks[3] = replace(tasks[3], counts=tasks[3].counts._replace(bytes=9 * 10**6))
    loss = losses_of(replace(history, tasks=tuple(tasks)))["stragglers"]
    assert "9.0 times the median size" in loss.text
    assert "Its files cannot be split" in loss.advice


def test_idle_workers_are_reported_with_advice_that_fits() -> None:
    few = losses_of(mapped([8.0, 4.0], workers=2))["idle workers"]
    assert "25% of the time (2 partitions on 2 workers)" in few.text
    assert few.seconds == pytest.approx(2.0)
    assert "too few partitions" in few.advice
    many = losses_of(mapped([1.0] * 10 + [9.0], workers=2))["idle workers"]
    assert "ended at different times" in many.advice


def test_skew_is_reported_when_others_wait() -> None:
    reducers = [
        TaskSpan("reduce", n, str(n), STARTED, STARTED + (30.0 if n == 2 else 2.0))
        for n in range(4)
    ]
    loss = losses_of(History(STARTED, STARTED + 30.0, tuple(reducers)), {"total": 31.0})["skew"]
    assert "The reducer from bucket 2 took 30.0 s, 15 times the median" in loss.text
    assert loss.seconds == pytest.approx(28.0)


def test_a_hot_key_is_reported_unless_it_is_combined() -> None:
    records = sum(task.records for task in EVEN.tasks if task.phase == "map")
    hot = replace(EVEN, hot_keys=(HotKey("'release'", int(0.6 * records), 10**9, True),))
    slow = {"merge": 1.0, "reduce": 9.0, "total": 20.0}
    loss = losses_of(hot, slow)["one hot key"]
    assert "The key 'release' has" in loss.text
    assert "as many as 60% of the records" in loss.text
    (loss,) = find_losses(hot, slow, values=2 * records)
    assert "values, 30% of all." in loss.text
    assert losses_of(hot, slow, combines=True) == {}
    assert losses_of(hot) == {}  # reducing took no time


def test_waiting_spilling_and_memory_are_reported() -> None:
    history = mapped([2.0] * 20, workers=2, waited=1.0, spilled=10**8)
    full = WorkerLook("0", 950, 1000, "paused")
    losses = losses_of(replace(history, looks=(Look(STARTED, "map", workers=(full,)),)))
    assert losses["waiting for files"].seconds == pytest.approx(10.0)
    assert "50% of their time" in losses["waiting for files"].text
    assert losses["spilling"].text.startswith("2.0 GB were written")
    assert "95% of its memory limit, and some workers (1) were paused" in losses["memory"].text


@given(st.lists(st.floats(0, 50), max_size=12), st.integers(1, 4), st.floats(0, 500))
def test_losses_are_sorted_by_time_and_written_as_sentences(
    seconds: list[float], workers: int, start: float
) -> None:
    losses = find_losses(mapped(seconds or [0.0], workers), {"start": start, "total": start + 1})
    assert [loss.seconds for loss in losses] == sorted((x.seconds for x in losses), reverse=True)
    assert all(loss.text.endswith(".") and loss.advice.endswith(".") for loss in losses)
    assert all(loss.seconds >= 0 for loss in losses)
