"""What is used of Dask without being documented is still there, and still does what it did.

Most of it fails silently when it changes: a start takes longer, or a message loses its reason.
"""

from __future__ import annotations

import inspect
import logging
import ssl
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import distributed
import pytest
from distributed import nanny, scheduler, utils, worker_memory
from distributed.comm import CommClosedError
from distributed.comm.tcp import TCPConnector, TLSConnector

from daskmr.cluster import dask_internals
from daskmr.cluster.dask_internals import ClusterFailure


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


def source(thing: Any) -> str:
    return inspect.getsource(thing)


# --- starting workers -----------------------------------------------------------------------------


def test_the_forkserver_preload_of_dask_is_guarded_by_a_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(utils, "_forkserver_preload_set", False)
    dask_internals.own_forkserver_preload()
    assert utils._forkserver_preload_set is True
    assert "not _forkserver_preload_set" in source(utils.get_mp_context)


def test_the_variable_that_names_the_parent() -> None:
    from distributed import proctitle

    assert f'os.environ["{dask_internals.PARENT_VARIABLE}"] = ' in source(proctitle)


def test_a_nanny_polls_its_new_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanny.WorkerProcess, "_init_msg_interval", 0.05)
    dask_internals.poll_new_workers(0.01)
    assert nanny.WorkerProcess._init_msg_interval == 0.01
    assert "sleep(self._init_msg_interval)" in source(nanny.WorkerProcess._wait_until_connected)


def test_a_nanny_has_a_process_with_an_exit_code() -> None:
    assert "self.process = WorkerProcess(" in source(nanny.Nanny.instantiate)
    assert "self.process = AsyncProcess(" in source(nanny.WorkerProcess.start)
    assert isinstance(distributed.process.AsyncProcess.exitcode, property)
    process = SimpleNamespace(pid=7)
    assert dask_internals.process_of(SimpleNamespace(process=None)) is None
    found = dask_internals.process_of(SimpleNamespace(process=SimpleNamespace(process=process)))
    assert found is process


def test_a_nanny_logs_the_kill_of_its_worker_before_it_kills() -> None:
    text = source(worker_memory.NannyMemoryManager)
    event = f'nanny.log_event("{dask_internals.MEMORY_KILLS}", event)'
    assert text.index('"pid": process.pid') < text.index('"rss": memory') < text.index(event)
    assert text.index(event) < text.index("process.terminate()")

    logged: list[Any] = []
    noted: list[Any] = []
    one = SimpleNamespace(log_event=lambda *event: logged.append(event))
    dask_internals.on_memory_kill(one, lambda pid, held: noted.append((pid, held)))
    one.log_event(dask_internals.MEMORY_KILLS, {"worker": "w", "pid": 5, "rss": 9})
    one.log_event("other", "message")
    assert noted == [(5, 9)]
    assert [topic for topic, _ in logged] == [dask_internals.MEMORY_KILLS, "other"]


def test_what_a_nanny_is_stopped_with() -> None:
    assert callable(nanny.Nanny.close_gracefully)
    assert isinstance(nanny.Nanny.pid, property)
    names = {status.name for status in distributed.core.Status}
    assert {"created", "init", "starting", "running", "closed", "failed"} <= names


@pytest.mark.parametrize(
    ("states", "never"),
    [(["created", "failed"], True), (["failed", "running"], False), ([], True)],
)
def test_workers_that_never_started(states: list[str], never: bool) -> None:
    workers = {
        n: SimpleNamespace(status=distributed.core.Status[state]) for n, state in enumerate(states)
    }
    assert dask_internals.workers_never_started(SimpleNamespace(workers=workers)) is never
    assert "self.workers = {}" in source(distributed.SpecCluster.__init__)


def test_an_error_is_known_to_be_raised_by_a_deployment() -> None:
    from distributed.deploy import spec, utils

    assert spec.__name__.startswith("distributed.deploy.")
    with pytest.raises(TypeError) as caught:
        utils.nprocesses_nthreads("many")  # type: ignore[arg-type]
    assert dask_internals.raised_by_deployment(caught.value)
    with pytest.raises(ZeroDivisionError) as here:
        _ = 1 // 0
    assert not dask_internals.raised_by_deployment(here.value)


def test_clusters_can_be_closed_that_are_not_ready() -> None:
    from distributed.deploy import spec

    assert "atexit" in source(spec)
    assert "SpecCluster._instances" in source(spec.close_clusters)
    dask_internals.close_unfinished_clusters()


# --- the dashboard --------------------------------------------------------------------------------


def test_a_dashboard_can_be_attached() -> None:
    from distributed.dashboard.scheduler import connect, template_variables
    from distributed.http import get_handlers

    assert list(inspect.signature(connect).parameters)[:4] == [
        "application",
        "http_server",
        "scheduler",
        "prefix",
    ]
    assert {"server", "modules"} <= inspect.signature(get_handlers).parameters.keys()
    assert '"pages"' in source(template_variables)  # to which a page of the job is added
    assert "self.http_application" in source(distributed.core.Server) + source(
        distributed.node.ServerNode
    )


# --- talking to a scheduler -----------------------------------------------------------------------


def test_a_client_has_a_loop_and_its_scheduler_can_be_asked(client: Any) -> None:
    identity = dask_internals.run_in_loop(client, client.scheduler.identity(n_workers=-1))
    (worker,) = identity.result(10)["workers"].values()
    assert {"status", "metrics", "memory_limit", "local_directory", "nthreads"} <= worker.keys()
    assert "task_counts" in worker["metrics"]
    topic = dask_internals.MEMORY_KILLS
    events = dask_internals.run_in_loop(client, client.scheduler.events(topic=topic))
    assert list(events.result(10)) == []


def test_what_tasks_and_probes_read_of_a_worker(client: Any) -> None:
    """In `daskmr.worker`, `daskmr.memory` and `daskmr.data`, which cannot import this package."""

    def look(dask_worker: Any) -> tuple[bool, ...]:
        return (
            isinstance(dask_worker.state.tasks, dict),
            hasattr(dask_worker.memory_manager, "memory_limit"),
            hasattr(dask_worker, "nanny"),
            isinstance(dask_worker.local_directory, str),
            callable(dask_worker.get_current_task),
        )

    assert set(client.run(look).values()) == {(True,) * 5}
    assert "cancelled" in source(distributed.worker_state_machine)


def test_the_failures_of_a_cluster() -> None:
    from distributed.client import FutureCancelledError

    cases = {
        ClusterFailure.WORKER_DIED: distributed.KilledWorker("key", None, 3),  # type: ignore[arg-type]
        ClusterFailure.NO_WORKERS: scheduler.NoWorkerError("key", 1.0),
        ClusterFailure.LOST: FutureCancelledError("key", "lost"),
        ClusterFailure.NOT_LOADED: RuntimeError("Error during deserialization of the task graph."),
        None: ValueError("of a task"),
    }
    for failure, error in cases.items():
        assert dask_internals.cluster_failure(error) is failure
    assert dask_internals.cluster_failure(CommClosedError()) is ClusterFailure.LOST
    assert "deserialization of the task graph" in source(scheduler.Scheduler.update_graph)
    killed = cases[ClusterFailure.WORKER_DIED]
    assert (killed.task, killed.last_worker, killed.allowed_failures) == ("key", None, 3)


def test_a_server_that_is_no_scheduler_refuses_the_first_question(client: Any) -> None:
    (address,) = client.scheduler_info()["workers"]

    async def ask() -> None:
        async with distributed.rpc(address) as server:
            await server.identity(n_workers=-1)

    with pytest.raises(TypeError) as caught:
        dask_internals.run_in_loop(client, ask()).result(10)
    assert dask_internals.is_of_another_server(caught.value)
    assert not dask_internals.is_of_another_server(TypeError("another"))


def test_failures_of_tls() -> None:
    with pytest.raises(TypeError) as no_context:
        TLSConnector()._get_connect_args(ssl_context=None)
    with pytest.raises(RuntimeError) as unencrypted:
        TCPConnector()._check_encryption("tcp://a", {"require_encryption": True})
    for error in (no_context.value, unencrypted.value, ssl.SSLError("handshake")):
        assert dask_internals.is_tls_failure(error)
    assert not dask_internals.is_tls_failure(OSError("Connection refused"))


def test_noise_of_connections_that_break() -> None:
    from distributed import batched

    assert "exc_info=True" in source(batched.BatchedSend._background_send)
    record = logging.LogRecord("distributed.batched", logging.INFO, "", 0, "Closed", (), None)
    assert dask_internals.drop_broken_connections(record)
    record.exc_info = (CommClosedError, CommClosedError(), None)
    assert not dask_internals.drop_broken_connections(record)
