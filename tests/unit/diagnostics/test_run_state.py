"""Reports of tasks add up, and many snapshots are thinned out."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from typing import Any

import pytest
from support.counts import with_counts

from daskmr.counts import Counts
from daskmr.diagnostics.run_state import RunOutline, RunState, Thinning
from daskmr.history import HotKey, Look
from daskmr.tasks.progress import Report

PLAN = RunOutline(
    "job", ("list", "fetch", "map", "merge", "reduce", "write"), 4, 400, 1, 90, 2, 3, 1, False
)


def report(number: int, process: str = "p", **fields: Any) -> Report:
    given = {"phase": "map", "worker": "0", "address": "tcp://0", "start": 1.0, "at": 2.0, **fields}
    return with_counts(Report, number=number, process=process, **given)


# --- adding up ----------------------------------------------------------------------------------


def test_what_is_done_and_what_runs_add_up() -> None:
    state = RunState()
    state.outline = PLAN
    state.add(report(0, done=True, files=2, bytes=200, records=20, bad_reasons={"a": 1}, spilled=7))
    state.add(report(1, "q", files=1, bytes=50, records=5, bad_reasons={"a": 1, "b": 3}, fetched=1))
    look = state.snapshot()
    mapped = look.progress["map"]
    assert look.phase == "map"
    assert (mapped.tasks, mapped.files, mapped.bytes) == (1, 3, 250)
    assert (look.records, look.bad_records, look.spilled) == (25, 5, 7)
    assert list(look.bad_reasons.items()) == [("b", 3), ("a", 2)]
    assert (look.progress["fetch"].files, look.progress["fetch"].files_total) == (1, 1)


def test_a_partition_that_is_mapped_again_counts_once() -> None:
    state = RunState()
    state.outline = PLAN
    state.add(report(0, "dead", files=1, bytes=100, records=10))
    state.add(report(0, "q", at=3.0, files=1, bytes=40, records=4))
    assert state.snapshot().records == 4
    for process, at in (("q", 4.0), ("r", 5.0)):
        state.add(report(0, process, at=at, done=True, files=2, bytes=200, records=20))
    state.add(report(0, "s", at=6.0, files=1, bytes=100, records=10))
    look = state.snapshot()
    assert (look.records, look.progress["map"].tasks) == (20, 1)
    assert [span.number for span in state.spans] == [0]


def test_hot_keys_add_up_over_the_partitions_that_are_done() -> None:
    state = RunState()
    state.outline = PLAN
    for number, values in enumerate((3, 4)):
        hot = [["'a'", values, 10 * values, True]]  # as it is read from JSON
        state.add(report(number, f"p{number}", done=True, hot=hot, waited=1.5))
    assert state.hot_keys == (HotKey("'a'", 7, 70, True),)
    assert [span.waited for span in state.spans] == [1.5, 1.5]


def test_an_old_report_that_is_read_again_does_not_count() -> None:
    state = RunState()
    state.outline = PLAN
    state.workers = {"tcp://0": worker("0")}
    state.add(report(0, at=3.0, done=True))
    state.add(report(0, at=2.0, file="old"))
    assert state.snapshot().workers[0].file == ""


def worker(name: object, status: str = "running", memory: int = 10) -> dict[str, Any]:
    return {"name": name, "memory_limit": 100, "status": status, "metrics": {"memory": memory}}


def test_workers_are_those_that_the_scheduler_knows() -> None:
    state = RunState()
    state.outline = PLAN
    state.workers = {"tcp://1": worker(10, "paused"), "tcp://0": worker(9)}
    state.add(report(0, file="f", spilled=5))
    state.add(report(1, "dead", address="tcp://dead", file="g"))
    first, second = state.snapshot().workers
    assert (first.name, first.phase, first.file, first.memory, first.limit) == (
        "9",
        "map",
        "f",
        10,
        100,
    )
    assert (second.name, second.status, second.phase) == ("10", "paused", "")
    state.add(report(1, at=4.0, fetching=True, file="f"))
    assert state.snapshot().workers[0].phase == "fetch"


def test_a_worker_is_idle_a_moment_after_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    state = RunState()
    state.outline = PLAN
    state.workers = {"tcp://0": worker("0")}
    now = time.monotonic()
    monkeypatch.setattr("daskmr.diagnostics.run_state.time.monotonic", lambda: now)
    state.add(report(0, done=True))
    assert state.snapshot().workers[0].phase == "map"
    now += 5
    assert state.snapshot().workers[0].phase == ""


def test_phases_follow_each_other() -> None:
    state = RunState()
    assert state.snapshot().phase == "list"
    state.outline = PLAN
    assert state.snapshot().phase == "map"
    for number in (0, 1):
        state.add(report(number, done=True, at=3.0 + number, files=2, bytes=200, merges=1))
    look = state.snapshot()
    assert (look.phase, look.progress["merge"].tasks) == ("merge", 1)
    state.add(report(0, phase="reduce", at=6.0, done=True, files=1))
    look = state.snapshot()
    assert (look.progress["merge"].tasks, look.progress["reduce"].tasks) == (3, 1)


# --- keeping looks ------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 7, 8, 9, 100, 1000])
def test_looks_that_are_many_are_thinned_out_evenly(count: int) -> None:
    thinned = Thinning(8)
    for number in range(count):
        thinned.add(Look(float(number), "map"))
    kept = [look.at for look in thinned.kept]
    assert kept[0] == 0
    assert kept[-1] == count - 1
    assert len(kept) <= 9
    gaps = {b - a for a, b in itertools.pairwise(kept[:-1])}
    assert len(gaps) <= 1


def test_the_next_step_counts_from_nothing_and_keeps_the_tasks() -> None:
    state = RunState()
    outline = RunOutline("job", ("map", "merge"), 0, 0, 0, 0, 2, 5, 1, inline=False)
    report = Report(
        "map", 0, "one", "w", "", 0.0, 1.0, done=True, counts=Counts(records=7), merges=3
    )
    state.begin(outline)
    state.add(report)
    state.begin(replace(outline, step="step 2 of 2"))
    assert (state.snapshot().records, state.snapshot().progress["merge"].tasks) == (0, 0)
    state.add(report._replace(at=2.0, counts=Counts(records=5), merges=4))
    look = state.snapshot()
    assert (look.records, look.progress["merge"].tasks, look.progress["map"].tasks) == (5, 1, 1)
    assert [(span.step, span.records) for span in state.spans] == [(1, 7), (2, 5)]
