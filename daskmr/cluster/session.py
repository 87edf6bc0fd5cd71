"""Where a job runs: on workers of this machine, on a client that is given, or in this process.

`connect` gives a `Session`, which runs Dask collections and can be interrupted at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskmr.cluster.dask_internals import (
    MEMORY_KILLS,
    ClusterFailure,
    cluster_failure,
    run_in_loop,
)
from daskmr.cluster.local import LocalWorkers, Mount, local_workers
from daskmr.errors import InputError, JobError, TaskFailed
from daskmr.tasks.crashes import Kills

if TYPE_CHECKING:
    from distributed import Client

    from daskmr.config import Config

__all__ = ["Mount", "Session", "WorkerDied", "connect"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_DASHBOARD_AFTER_SECONDS = 10.0  # its imports take time from the workers
_EVENTS_SECONDS = 3.0
_ANSWER_SECONDS = 10.0  # a map that holds the GIL keeps its worker from answering
_ENDED = ("error", "cancelled")  # "lost" is being computed again


class WorkerDied(JobError):
    """A task was tried until Dask gave up, and each time its worker process died.

    - `key`: the task's key.
    - `partition`: the second part of `key`; the index of a partition of the plan only for keys of
      the mapping phase.
    - `last_worker`: address of the worker that died last.
    """

    def __init__(self, key: Any, last_worker: str, attempts: int) -> None:
        numbered = isinstance(key, tuple) and len(key) > 1 and isinstance(key[1], int)
        self.partition: int | None = key[1] if numbered else None
        self.key = key
        self.last_worker = last_worker
        super().__init__(
            f"The worker process died {attempts} times while it ran the task {key!r}. "
            "Either its code ended the process, or it was killed for using too much memory: "
            "try a higher --memory-limit, fewer mappers or smaller partitions."
        )


@contextmanager
def connect(
    config: Config,
    n_partitions: int,
    *,
    client: Client | None = None,
    inline: bool = False,
    run_dir: str | os.PathLike[str],
) -> Iterator[Session]:
    """Open a session on a LocalCluster, on `client`, or inline; close it on the way out.

    - `n_partitions`: partitions of the plan: a LocalCluster gets no more workers than that.
    - `client`: a synchronous client, used as it is and left open.
    - `inline`: run in this process, without a cluster.
    - `run_dir`: an existing folder for the scratch files of the workers.
    Raises `InputError` for more mappers than make sense, a client that is asynchronous or closed,
    or a cluster that cannot run the job.
    Raises `JobError` when the cluster cannot be started.
    """
    if inline:
        yield Session(None, 1)
    elif client is not None:
        from daskmr.cluster.connect import examine

        if client.asynchronous:
            raise InputError("The client is asynchronous; daskmr needs Client(asynchronous=False).")
        if client.status != "running":
            raise InputError(f"The client is not connected: its status is {client.status!r}.")
        notes = examine(client, config)
        session = Session(client, max(1, len(client.nthreads())), notes=notes)
        session.forget_kills()
        yield session
    else:
        with local_workers(config, n_partitions, Path(run_dir)) as local:
            yield Session(local.client, local.count, local)


class Session:
    """A place to run Dask collections, with `workers` worker processes.

    - `client`: ``None`` when the session is inline.
    - `notes`: remarks on the cluster, for the user.
    """

    def __init__(
        self,
        client: Client | None,
        workers: int,
        local: LocalWorkers | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.client = client
        self.workers = workers
        self.notes = notes
        self._local = local
        self._hooks: list[Callable[[], object]] = []
        self._killed_before: Collection[object] = ()
        self._opened = time.monotonic()

    @property
    def dashboard_link(self) -> str | None:
        """Address of Dask's dashboard; ``None`` while there is none."""
        if self._local is not None:
            return self._local.dashboard.link
        if self.client is None:
            return None
        try:
            return self.client.dashboard_link or None
        except KeyError:  # the scheduler was started without one
            return None

    @property
    def memory_limit(self) -> int | None:
        """Bytes beyond which a worker process is killed; ``None`` where that is not known."""
        return None if self._local is None else self._local.memory_limit or None

    @property
    def is_elsewhere(self) -> bool:
        """Whether its workers may be on other machines, which see other files than this one."""
        return self.client is not None and self._local is None

    # --- asking the cluster -----------------------------------------------------------------------

    def killed_for_memory(self) -> Kills:
        """Return what worker processes held when they were killed for it, since the session began."""
        if self._local is not None:
            return self._local.kills.update()
        kills = self._kills_of_scheduler()
        return {pid: held for pid, held in kills.items() if pid not in self._killed_before}

    def forget_kills(self) -> None:
        """Ignore the kills until now: a scheduler remembers those of earlier jobs."""
        self._killed_before = self._kills_of_scheduler().keys()

    def _kills_of_scheduler(self) -> dict[int | tuple[str, int], int]:
        if self.client is None:
            return {}
        events = self._answer(self.client.scheduler.events(topic=MEMORY_KILLS), _EVENTS_SECONDS)
        return {(event["worker"], event["pid"]): event["rss"] for _, event in events or ()}

    def worker_info(self, seconds: float) -> dict[str, Any] | None:
        """Return the scheduler's information on its workers, by address.

        ``None`` when it does not answer within so many seconds.
        """
        if self.client is None:
            return None
        identity = self._answer(self.client.scheduler.identity(n_workers=-1), seconds)
        return None if identity is None else identity["workers"]

    def ask(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = 2 * _ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Call a function on every worker, beside its tasks.

        - `function`: of a module, and quick. Given its worker if it has a parameter `dask_worker`.
        - `*arguments`: what it is called with.
        - `seconds`: how long to wait for all answers.
        Returns the answers, or exceptions, by the worker's address. One that dies, or does not
        answer within seconds, gives none.
        """
        if self.client is None:
            return {}
        return self._answer(_ask_workers(self.client, function, arguments), seconds) or {}

    def _answer(self, question: Any, seconds: float) -> Any:
        """Run a coroutine in the client's loop; ``None`` where it fails, as the scheduler may."""
        assert self.client is not None
        asking = run_in_loop(self.client, question)
        try:
            return asking.result(seconds)
        # The watchdog sees that too. A client cancels its questions when it loses its scheduler.
        except (OSError, TimeoutError, CancelledError) as error:
            logger.info("The scheduler does not answer: %s", error)
            asking.cancel()
            return None

    # --- computing --------------------------------------------------------------------------------

    def submit(self, graph: Mapping[Any, Any]) -> dict[Any, Any]:
        """Run tasks; return the future of each by its key."""
        assert self.client is not None
        futures = self.client.get(dict(graph), list(graph), sync=False)
        return dict(zip(graph, futures, strict=True))

    def wait_for(self, futures: Collection[Any]) -> list[Any]:
        """Wait until all have succeeded, or some have failed; return those that failed.

        Raises `JobError` when the cluster makes no progress.
        """
        assert self.client is not None
        found: list[Any] = []

        def have_ended(seconds: float) -> bool:
            found[:] = [future for future in futures if future.status in _ENDED]
            if found or all(future.status == "finished" for future in futures):
                return True
            time.sleep(seconds)
            return False

        self._wait(self.client, have_ended)
        return found

    def failure_of(self, future: Any) -> JobError:
        """Return what the failure of a task means for the job.

        Raises `Exception` when neither Dask nor a task of this package raised it.
        """
        error = future.exception() if future.status == "error" else None
        if error is None:
            return _lost(future.status)
        failure = _job_error(error)
        if failure is None:
            raise error
        return failure

    def watch(self, hook: Callable[[], object]) -> None:
        """Call `hook` five times a second, in this thread, while `compute` waits.

        What it raises ends the computation. An inline session does not call it.
        """
        self._hooks.append(hook)

    def add_page(self, mount: Mount) -> None:
        """Add something to the dashboard of a LocalCluster once it is attached.

        - `mount`: called in the scheduler's event loop when Dask's own pages are there, as
          ``mount(http_application, http_server, scheduler)``. What it raises is logged.
        """
        if self._local is not None:
            self._local.dashboard.pages.append(mount)

    def attach_dashboard(self) -> None:
        """Add Dask's dashboard to a LocalCluster that runs, in the background.

        `compute` does so by itself when a session is 10 seconds old. Without effect elsewhere, and
        where the dashboard is off.
        """
        if self._local is not None:
            self._local.dashboard.attach()

    def compute(self, collection: Any, is_optimized: bool = False) -> Any:
        """Run a Bag or Delayed to its result; the annotations of one that is optimized hold.

        Raises `WorkerDied` when the worker of a task died each time that the task was tried.
        Raises `JobError` when a task failed as tasks of this package do, or the cluster is gone.
        """
        try:
            if self.client is None:
                return collection.compute(scheduler="sync")
            return self._compute_remotely(self.client, collection, not is_optimized)
        except Exception as error:
            failure = _job_error(error)
            if failure is None:
                raise
            cause = None if isinstance(error, TaskFailed) else error
        # Outside of the handler: a chain of remote tracebacks helps no user.
        raise failure from cause

    def _compute_remotely(self, client: Client, collection: Any, optimize: bool) -> Any:
        future = client.compute(collection, optimize_graph=optimize)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            self._wait(client, done.wait)
            return future.result()
        except BaseException:
            if self._local is None:  # otherwise its workers are killed in a moment
                with suppress(Exception):
                    # Waited for only shortly: the scheduler may be what has failed.
                    run_in_loop(client, client.cancel([future], asynchronous=True)).result(0.2)
            raise

    def _wait(self, client: Client, is_done: Callable[[float], bool]) -> None:
        watchdog = _SchedulerWatchdog(client)
        while not is_done(_POLL_SECONDS):
            for hook in self._hooks:
                hook()
            watchdog.check()
            if self._local is not None:
                self._local.check()
                if time.monotonic() - self._opened > _DASHBOARD_AFTER_SECONDS:
                    self.attach_dashboard()


async def _ask_workers(
    client: Client, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> dict[str, Any]:
    """Ask each worker by itself: one that is stopped must not hold up the answers of the others."""

    async def answer(address: str) -> None:
        run = client.run(
            function, *arguments, workers=[address], on_error="return", asynchronous=True
        )
        try:
            found = await asyncio.wait_for(run, _ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            logger.info("The worker %s does not answer: %s", address, error)
        else:  # an OSError: the connection to it broke
            answers.update(
                (w, value) for w, value in found.items() if not isinstance(value, OSError)
            )

    answers: dict[str, Any] = {}
    await asyncio.gather(*map(answer, await client.nthreads(asynchronous=True)))
    return answers


# --- failures -------------------------------------------------------------------------------------


def _lost(reason: object) -> JobError:
    text = " ".join(str(reason).split()).removesuffix(".")
    return JobError(
        "The connection to the Dask scheduler is lost, or the job was cancelled there "
        f"({text}). Nothing was written. Look at the scheduler's log, and start the job again."
    )


def _job_error(error: BaseException) -> JobError | None:
    """Return what an exception means for the job; ``None`` for one that is none of Dask's."""
    if isinstance(error, TaskFailed):
        return error.as_kind(JobError)
    kind = cluster_failure(error)
    if kind is ClusterFailure.WORKER_DIED:
        killed: Any = error
        last_worker = getattr(killed.last_worker, "address", str(killed.last_worker))
        return WorkerDied(killed.task, last_worker, killed.allowed_failures + 1)
    if kind is ClusterFailure.NO_WORKERS:
        return JobError("All workers are gone, so the job cannot go on. Start it again.")
    if kind is ClusterFailure.LOST:
        return _lost(error)
    if kind is ClusterFailure.NOT_LOADED:
        return JobError(
            "The Dask scheduler or a worker could not load the job "
            f"({error.__cause__ or error}). It needs the same daskmr and Python as this machine."
        )
    return None


class _SchedulerWatchdog:
    """Fails the job when no worker is left, or all are paused: no future reports that."""

    _INTERVAL = 5.0
    _PATIENCE = 45.0
    _PATIENCE_AT_FIRST = 300.0  # an adaptive cluster may take minutes to bring its first worker
    _SILENCE = 120.0  # a scheduler that takes a large graph apart may be silent for seconds

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking: Any = None
        self._asked = self._well = time.monotonic()
        self._patience = self._PATIENCE_AT_FIRST

    def check(self) -> None:
        """Judge the scheduler's last answer, and ask again every few seconds."""
        now = time.monotonic()
        if self._asking is not None and self._asking.done():
            asking, self._asking = self._asking, None
            if asking.exception() is None:  # otherwise the future of the job fails by itself
                self._judge(list(asking.result()["workers"].values()), now)
        if self._asking is not None and now - self._asked > self._SILENCE:
            raise JobError(
                f"The Dask scheduler has not answered for {self._SILENCE:g} s, so the job cannot go "
                "on. Look at its log, and start the job again."
            )
        if self._asking is None and now - self._asked >= self._INTERVAL:
            self._asked = now
            identity = self._client.scheduler.identity(n_workers=-1)
            self._asking = run_in_loop(self._client, identity)

    def _judge(self, workers: list[dict[str, Any]], now: float) -> None:
        if not all(map(_is_stuck, workers)):
            self._well, self._patience = now, self._PATIENCE
        elif now - self._well > self._patience:
            raise JobError(_describe_stuck(workers))


def _is_stuck(worker: dict[str, Any]) -> bool:
    executing = worker["metrics"].get("task_counts", {}).get("executing", 0)
    return worker["status"] == "paused" and not executing


def _describe_stuck(workers: list[dict[str, Any]]) -> str:
    if not workers:
        return "All workers are gone, so the job cannot go on. Start workers and the job again."
    used = max(worker["metrics"].get("memory", 0) for worker in workers)
    limit = max(worker["memory_limit"] or 0 for worker in workers)
    disk = ""
    with suppress(OSError):  # the folder of a worker on another machine
        free = shutil.disk_usage(workers[0]["local_directory"]).free
        disk = f", and {free >> 20} MiB of disk are free for spilling"
    return (
        f"All {len(workers)} workers are paused and make no progress: the fullest uses "
        f"{used >> 20} MiB of its {limit >> 20} MiB of memory{disk}. "
        "Give the workers more memory or disk, or make partitions smaller."
    )
