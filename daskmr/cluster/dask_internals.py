"""Access to names of Dask that are not part of its documented interface, with the reason for each.

tests/unit/cluster/test_dask_internals.py fails when one of them changes. Dask is imported inside
the functions because this module is loaded first, and a command without a cluster never needs Dask.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
import traceback
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Client, WorkerPlugin

__all__ = [
    "MEMORY_KILLS", "PARENT_VARIABLE", "ClusterFailure", "ask_scheduler",
    "close_unfinished_clusters", "cluster_failure", "drop_broken_connections", "is_of_another_server",
    "is_tls_failure", "mount_dashboard", "on_memory_kill", "own_forkserver_preload",
    "poll_new_workers", "process_of", "raised_by_deployment", "register_plugin", "run_in_loop",
    "workers_never_started",
]  # fmt: skip

MEMORY_KILLS = "worker-restart-memory"
"""The topic under which a nanny logs that it kills its worker for using too much memory."""

PARENT_VARIABLE = "__DASK_PARENT_PID"
"""The environment variable that Dask sets in the process that starts workers, and never removes."""


# --- starting workers -----------------------------------------------------------------------------


def own_forkserver_preload() -> None:
    """Keep Dask from replacing the modules that the forkserver preloads.

    To compile its own list, it would import pandas and other libraries in this process.
    """
    import distributed.utils

    distributed.utils._forkserver_preload_set = True


def poll_new_workers(seconds: float) -> None:
    """Set how often a nanny checks whether its new worker has started; Dask's default is 50 ms."""
    import distributed.nanny

    distributed.nanny.WorkerProcess._init_msg_interval = seconds


def process_of(nanny: Any) -> Any:
    """Return the worker process of a nanny, with `pid` and `exitcode`; ``None`` while there is none.

    `Nanny.pid` is public, but becomes ``None`` when the process ends.
    """
    return nanny.process and nanny.process.process


def on_memory_kill(nanny: Any, note: Callable[[int, int], None]) -> None:
    """Call `note` with process id and bytes just before a nanny kills its worker for memory.

    Dask logs the event in this process before the kill, so the note exists before another worker
    takes up the task. A subscriber to the topic would be notified too late.
    """
    log_event = nanny.log_event

    def log(topic: Any, message: Any) -> None:
        if topic == MEMORY_KILLS:
            note(message["pid"], message["rss"])
        log_event(topic, message)

    nanny.log_event = log


def workers_never_started(cluster: Any) -> bool:
    """Check whether no worker of a cluster has started to run; one that has may still connect.

    `SpecCluster` has no public interface to the state of its workers.
    """
    workers = getattr(cluster, "workers", {}).values()
    return {worker.status.name for worker in workers} <= {"created", "failed"}


def raised_by_deployment(error: BaseException) -> bool:
    """Check whether Dask raised an error while it started the workers of a cluster.

    Dask starts them in its event loop, without a caller, so the traceback is the only evidence.
    """
    package = "distributed.deploy."
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__", "").startswith(package) for frame, _ in frames)


def close_unfinished_clusters() -> None:
    """Close clusters that are still being created, just as Dask does when Python exits."""
    from distributed.deploy.spec import close_clusters

    close_clusters()


# --- the dashboard --------------------------------------------------------------------------------


def mount_dashboard(scheduler: Any, pages: Iterable[Callable[[Any, Any, Any], object]]) -> None:
    """Add Dask's dashboard and more pages to a running scheduler; call this in its event loop.

    The public interface can only start a scheduler with it, which delays the first task by a second.
    """
    from distributed.dashboard.scheduler import connect
    from distributed.http import get_handlers

    modules = ["distributed.http.scheduler.info", "distributed.http.statics"]
    application, server = scheduler.http_application, scheduler.http_server
    application.add_handlers(".*$", get_handlers(server=scheduler, modules=modules))
    connect(application, server, scheduler, prefix="/")
    for add in pages:
        try:
            add(application, server, scheduler)
        except Exception as error:
            logging.getLogger(__name__).warning(
                "A page could not be added to the dashboard: %s", error
            )


# --- talking to a scheduler -----------------------------------------------------------------------


def run_in_loop(client: Client, coroutine: Any) -> Future[Any]:
    """Run a coroutine in a client's event loop.

    Unlike the client's own synchronous calls, the returned future can be waited for with a timeout.
    """
    return asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop)


def ask_scheduler(client: Client, seconds: float, operation: str, **arguments: Any) -> None:
    """Have the scheduler of a client do something, within a time limit.

    Raises what it raises, and `TimeoutError`.
    """
    asking = run_in_loop(client, getattr(client.scheduler, operation)(**arguments))
    try:
        asking.result(seconds)
    except BaseException:
        asking.cancel()
        raise


def register_plugin(client: Client, seconds: float, name: str, plugin: WorkerPlugin) -> None:
    """Register a plugin of all workers, like `ask_scheduler`."""
    ask_scheduler(
        client,
        seconds,
        "register_worker_plugin",
        plugin=pickle.dumps(plugin),
        name=name,
        idempotent=True,
    )


class ClusterFailure(Enum):
    """The meaning of a Dask exception for a job."""

    WORKER_DIED = "the worker of a task died each time that it was tried"
    LOST = "the scheduler is gone, or the job was cancelled there"
    NO_WORKERS = "there are no workers, or none that may run a task"
    NOT_LOADED = "the scheduler could not deserialize the graph"


def cluster_failure(error: BaseException) -> ClusterFailure | None:
    """Classify an exception that a collection or a future has raised; ``None`` if it is not Dask's.

    Of the exceptions that Dask raises for lost workers and schedulers, only `KilledWorker` is public.
    The exception for a graph that cannot be loaded has no class of its own.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    if isinstance(error, KilledWorker):
        return ClusterFailure.WORKER_DIED
    if isinstance(error, NoWorkerError | NoValidWorkerError):
        return ClusterFailure.NO_WORKERS
    if isinstance(error, FutureCancelledError | CommClosedError):
        return ClusterFailure.LOST
    if isinstance(error, RuntimeError) and "deserialization of the task graph" in str(error):
        return ClusterFailure.NOT_LOADED
    return None


def is_of_another_server(error: BaseException) -> bool:
    """Check whether a client has connected to a worker or a nanny instead of a scheduler.

    They answer the client's first request with a TypeError.
    """
    return isinstance(error, TypeError) and "identity() got an unexpected keyword" in str(error)


def is_tls_failure(error: BaseException) -> bool:
    """Check whether a connection failed because of TLS; Dask's own checks have no exception class."""
    import ssl

    if isinstance(error, ssl.SSLError):
        return True
    texts = ("TLS expects", "TLS certificate", "encryption required")
    return any(text in str(error) for text in texts)


def drop_broken_connections(record: logging.LogRecord) -> bool:
    """Filter out log records about broken connections, which are expected when workers are killed."""
    from distributed.comm import CommClosedError

    return not (record.exc_info and isinstance(record.exc_info[1], CommClosedError))
