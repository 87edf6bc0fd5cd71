"""Looks at a run: right while it runs, few when it is long, and of no consequence to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.counts import with_counts
from support.dask_cluster import DaskCluster
from support.jobs import counting_job

from daskmr import Job, JobError, mapreduce
from daskmr.data.spill_dir import Scratch, SpillStore
from daskmr.diagnostics.collector import Collector, Watcher, _Source
from daskmr.diagnostics.run_state import RunOutline
from daskmr.history import Look
from daskmr.run import workspace
from daskmr.tasks.progress import FOLDER, Printed, Report, publish


class Notes(Watcher):
    """Keeps all events."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.plans: list[RunOutline] = []
        self.looks: list[Look] = []
        self.lines: list[Printed] = []
        self.results: list[Any] = []
        self.threads: set[str] = set()

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def begin(self, plan: RunOutline) -> None:
        self.plans.append(plan)

    def look(self, look: Look) -> None:
        self.looks.append(look)
        self.threads.add(threading.current_thread().name)

    def printed(self, line: Printed) -> None:
        self.lines.append(line)

    def end(self, result: Any) -> None:
        self.results.append(result)


PLAN = RunOutline(
    "job", ("list", "fetch", "map", "merge", "reduce", "write"), 4, 400, 1, 90, 2, 3, 1, False
)


def report(number: int, process: str = "p", **fields: Any) -> Report:
    given = {"phase": "map", "worker": "0", "address": "tcp://0", "start": 1.0, "at": 2.0, **fields}
    return with_counts(Report, number=number, process=process, **given)


def worker(name: object, status: str = "running", memory: int = 10) -> dict[str, Any]:
    return {"name": name, "memory_limit": 100, "status": status, "metrics": {"memory": memory}}


# --- asking -------------------------------------------------------------------------------------


class FakeSession:
    """Two workers of one host, which read the same files."""

    client = object()
    is_elsewhere = True
    dashboard_link = "http://127.0.0.1:1/status"

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.asked = 0

    def ask(self, function: Callable[..., Any], *arguments: Any, seconds: float) -> dict[str, Any]:
        from daskmr.tasks.progress import read_news

        self.asked += 1
        answers = {f"tcp://{n}": read_news(self.folder, *arguments) for n in (0, 1)}
        return {**answers, "tcp://2": ValueError("it has another version")}

    def worker_info(self, seconds: float) -> dict[str, Any] | None:
        self.asked += 1
        return None if self.asked > 1 else {"tcp://0": worker(0)}


def test_reports_of_a_host_count_once_whichever_workers_send_them(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    source = _Source(FakeSession(str(tmp_path)), Scratch("", SpillStore("id", None, 0)), True)  # type: ignore[arg-type]
    publish(str(tmp_path), Printed("a"))
    assert source.news() == [Printed("a")]
    publish(str(tmp_path), Printed("b"))
    assert source.news() == [], "it is too early to ask again"
    assert [news for some in source.remaining_news() for news in some] == [Printed("b")]


def test_workers_stay_as_they_were_without_an_answer(tmp_path: Path) -> None:
    session = FakeSession(str(tmp_path))
    source = _Source(session, Scratch(""), True)  # type: ignore[arg-type]
    first = source.workers()
    source._workers_asked -= 10
    assert source.workers() == first
    assert session.asked == 2
    assert (source.dashboard(), source.dashboard()) == (session.dashboard_link, None)


# --- jobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
def test_a_job_is_watched_from_the_list_to_the_output(
    tree: Callable[..., Path], tmp_path: Path, inline: bool
) -> None:
    notes = Notes()
    result = mapreduce(
        counting_job(),
        data_dir=tree([["a\t1", "b\t1", "bad"], ["a\t1"]]),
        output=tmp_path / "out",
        work_dir=tmp_path / "work",
        inline=inline,
        num_mappers=1,
        watcher=notes,
    )
    (plan,) = notes.plans
    assert (plan.files, plan.partitions, plan.inline) == (2, 2, inline)
    assert plan.phases == ("list", "map", "merge", "reduce", "write")
    assert notes.phases[0] == "list"
    assert notes.phases[-1] == "write"
    last = notes.looks[-1]
    assert (last.records, last.bad_records) == (4, 1)
    for name in plan.phases:
        done = last.progress[name]
        assert (done.tasks, done.files, done.bytes) == (
            done.tasks_total,
            done.files_total,
            done.bytes_total,
        ), name
    assert notes.results == [result]
    if inline:
        assert notes.threads <= {"MainThread", "daskmr-watch"}


def test_a_job_that_fails_is_watched_to_its_end(tree: Callable[..., Path], tmp_path: Path) -> None:
    notes = Notes()

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        print("the last words")
        raise KeyError("x")

    with pytest.raises(JobError):
        mapreduce(
            Job(map=map_),
            data_dir=tree([["a\t1"]]),
            work_dir=tmp_path / "work",
            inline=True,
            watcher=notes,
        )
    assert notes.results == [None]
    assert [line.text for line in notes.lines] == ["the last words"]


def test_a_watcher_that_fails_does_not_fail_the_job(
    tree: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Watcher):
        def look(self, look: Look) -> None:
            raise ValueError("a defect of the watcher")

    result = mapreduce(
        counting_job(),
        data_dir=tree([["a\t1"]]),
        work_dir=tmp_path / "work",
        inline=True,
        watcher=Broken(),
    )
    assert dict(result) == {"a": 1}
    assert "a defect of the watcher" in caplog.text


def test_without_a_watcher_nothing_is_collected() -> None:
    with Collector(None) as collector:
        collector.begin(PLAN)
        collector.wrote(1, 2)
    collector.end(None)
    assert (collector.looks, collector._thread) == ((), None)


def test_the_history_so_far_has_tasks_and_looks() -> None:
    collector = Collector(Notes(), every=60)
    with collector:
        collector.begin(PLAN)
        collector._hear(report(0, done=True, files=2, bytes=200, records=20, memory=5))
        collector._take_snapshot()
        history = collector.history()
    (span,) = history.tasks
    assert (span.phase, span.number, span.worker, span.records, span.memory) == (
        "map",
        0,
        "0",
        20,
        5,
    )
    assert [look.records for look in history.looks] == [20]
    assert history.started <= history.ended


@pytest.mark.parametrize("shared", [True, False])
def test_a_job_on_a_cluster_is_watched_and_leaves_nothing(
    tree: Callable[..., Path],
    tmp_path: Path,
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
) -> None:
    if not shared:
        monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    notes = Notes()

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        time.sleep(float(value))
        context.write(key, 1)

    result = mapreduce(
        Job(map=map_, reduce=lambda key, values, context: context.write(key, len(values))),
        data_dir=tree([["a\t0.7", "b\t0.7", "bad"], ["a\t0.7", "c\t0.7"]]),
        output=tmp_path / "out",
        work_dir=str(tmp_path / "work"),
        scheduler=dask_cluster.address,
        watcher=notes,
    )
    last = notes.looks[-1]
    assert (last.records, last.bad_records, result.records) == (5, 1, 5)
    assert {worker.name for worker in last.workers} == {"worker-0", "worker-1"}
    assert all(worker.limit == 10**9 for worker in last.workers)
    assert not list(dask_cluster.folder.rglob("live"))
