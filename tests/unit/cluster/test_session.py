"""Sessions: where a job runs, how it fails, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import dask
import psutil
import pytest
from support.dask_cluster import bag
from support.processes import wait_until

from daskmr import signals
from daskmr.cluster.session import Session, WorkerDied, _SchedulerWatchdog, connect
from daskmr.config import load_config
from daskmr.errors import InputError, JobError, TaskFailed


def worker_processes():
    """Descendants of this process that are not the forkserver or the resource tracker."""
    return [p for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()]


# --- computing ----------------------------------------------------------------------------------


def test_inline_computes_in_this_process(tmp_path):
    with connect(load_config(), 2, inline=True, run_dir=tmp_path) as session:
        assert session.compute(bag(lambda x: os.getpid(), 2)) == [os.getpid()] * 2
        assert (session.client, session.workers, session.dashboard_link) == (None, 1, None)


def test_local_cluster_computes_and_leaves_nothing(local, tmp_path):
    settings, environment = json.dumps(dask.config.config, default=str), dict(os.environ)
    with local(num_mappers=2) as session:
        assert session.workers == 2
        assert session.compute(bag(lambda x: x * x)) == [0, 1, 4, 9]
        assert session.compute(dask.delayed(sum)([1, 2])) == 3
    assert json.dumps(dask.config.config, default=str) == settings
    assert dict(os.environ) == environment
    assert os.listdir(tmp_path) == []
    wait_until(lambda: not worker_processes(), 5)


def test_hooks_run_while_it_computes_and_may_end_it(local):
    calls = []

    def hook():
        calls.append(1)
        if len(calls) == 3:
            raise InputError("enough")

    with local(1) as session:
        session.watch(hook)
        with pytest.raises(InputError, match="enough"):
            session.compute(bag(lambda _: time.sleep(60), 1))
    assert len(calls) == 3


# --- failures -----------------------------------------------------------------------------------


def fail(x):
    if x == 2:
        raise TaskFailed("the message", "the details")
    return x


@pytest.mark.parametrize("inline", [True, False])
def test_task_failed_is_a_job_error(tmp_path, inline):
    def task(x):
        return fail(x)

    with connect(load_config(), 4, inline=inline, run_dir=tmp_path) as session:
        with pytest.raises(JobError, match="the message") as caught:
            session.compute(bag(task))
        assert caught.value.details == "the details"
        assert session.compute(bag(lambda x: x, 2)) == [0, 1]


def test_other_exceptions_arrive_as_they_are(local):
    with local(1) as session, pytest.raises(ZeroDivisionError):
        session.compute(bag(lambda x: x // 0, 1))


def test_a_worker_that_dies_once_costs_nothing(local, tmp_path_factory):
    marker = tmp_path_factory.mktemp("marker") / "died"

    def die_once(x):
        if x == 1 and not marker.exists():
            marker.touch()
            os._exit(7)
        return x

    with local(num_mappers=2) as session:
        assert session.compute(bag(die_once, 8)) == list(range(8))
    assert marker.exists()


@pytest.mark.parametrize("poison", [0, 5, 11])
def test_a_worker_that_always_dies_names_the_partition(local, poison):
    def die(x):
        if x == poison:
            os._exit(7)
        time.sleep(0.02)
        return x

    with local(12, num_mappers=2) as session:
        with pytest.raises(WorkerDied) as caught:
            session.compute(bag(die, 12))
        assert caught.value.partition == poison
        assert caught.value.last_worker.startswith("tcp://127.0.0.1:")


# --- somebody's client --------------------------------------------------------------------------


@pytest.fixture
def client():
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def test_existing_client_is_used_and_left_as_it_was(client, tmp_path):
    settings = json.dumps(dask.config.config, default=str)
    with connect(load_config(), 4, client=client, run_dir=tmp_path) as session:
        assert session.client is client
        assert json.dumps(dask.config.config, default=str) == settings
        assert session.compute(bag(lambda x: -x)) == [0, -1, -2, -3]
        with pytest.raises(JobError, match="the message"):
            session.compute(bag(fail))
    assert client.status == "running"
    assert client.submit(lambda: 5).result() == 5


def test_asynchronous_or_closed_clients_are_refused(client, tmp_path):
    class Asynchronous:
        asynchronous = True

    with (
        pytest.raises(InputError, match="asynchronous"),
        connect(load_config(), 1, client=Asynchronous(), run_dir=tmp_path),
    ):
        pass
    client.close()
    with (
        pytest.raises(InputError, match="closed"),
        connect(load_config(), 1, client=client, run_dir=tmp_path),
    ):
        pass


def test_all_workers_gone_is_an_error(client, tmp_path, monkeypatch):
    monkeypatch.setattr(_SchedulerWatchdog, "_INTERVAL", 0.1)
    monkeypatch.setattr(_SchedulerWatchdog, "_PATIENCE_AT_FIRST", 0.5)
    with connect(load_config(), 1, client=client, run_dir=tmp_path) as session:
        client.cluster.scale(0)
        wait_until(lambda: not client.scheduler_info()["workers"])
        with pytest.raises(JobError, match="All workers are gone"):
            session.compute(bag(lambda x: x, 1))


def test_paused_workers_are_an_error():
    watchdog = _SchedulerWatchdog(None)
    paused = {
        "status": "paused",
        "metrics": {"memory": 3 << 20, "task_counts": {}},
        "memory_limit": 4 << 20,
        "local_directory": os.curdir,
    }
    busy = paused | {"metrics": {"task_counts": {"executing": 1}}}
    watchdog._judge([busy, paused], time.monotonic() + 1e6)
    with pytest.raises(JobError, match=r"3 MiB of its 4 MiB of memory, and .* MiB of disk"):
        watchdog._judge([paused, paused], time.monotonic() + 2e6)


def test_a_silent_scheduler_is_an_error(monkeypatch):
    watchdog = _SchedulerWatchdog(None)
    watchdog._asking, watchdog._asked = Future(), time.monotonic()
    watchdog.check()
    monkeypatch.setattr(_SchedulerWatchdog, "_SILENCE", -1.0)
    with pytest.raises(JobError, match="has not answered for"):
        watchdog.check()


def test_scheduler_gone_is_an_error(client, tmp_path):
    def close_scheduler():
        client.cluster.loop.add_callback(client.cluster.scheduler.close)

    with connect(load_config(), 1, client=client, run_dir=tmp_path) as session:
        session.watch(close_scheduler)
        with pytest.raises(JobError, match="connection to the Dask scheduler is lost"):
            session.compute(bag(lambda _: time.sleep(1), 1))


def test_signals_leaves_the_handlers_as_they_were():
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with signals.signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_starts_the_workers_is_there_before_dask() -> None:
    """Each import before that is one that the forkserver waits for."""
    code = "import sys, daskmr.cluster; print({'dask', 'distributed', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_who_was_killed_before_the_session_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {("tcp://10.0.0.1:4000", 20): 100}
    monkeypatch.setattr(Session, "_kills_of_scheduler", lambda _: dict(told))
    session = Session(None, 1)
    session.forget_kills()
    assert session.killed_for_memory() == {}
    told[("tcp://10.0.0.2:4000", 20)] = 200
    assert session.killed_for_memory() == {("tcp://10.0.0.2:4000", 20): 200}
