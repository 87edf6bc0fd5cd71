"""Run a job on workers of this machine, on a given client, or in this process.

`connect` opens a `Session`, which runs Dask collections and can be interrupted at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
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
_DASHBOARD_AFTER_SECONDS = 10.0  # its imports take CPU time from the workers
_EVENTS_SECONDS = 3.0
_ANSWER_SECONDS = 10.0  # a `map` that holds the GIL keeps its worker from answering
_ENDED = ("error", "cancelled")  # not "lost", which Dask computes again


class WorkerDied(JobError):
    """Raised when Dask gives up on a task because its worker process died each time.

    - `key`: the task's key.
    - `partition`: the second part of `key`. In the mapping phase, it is the index of a partition of
      the plan.
    - `last_worker`: the address of the last worker that died.
    """

    def __init__(self, key: Any, last_worker: str, attempts: int) -> None:
        numbered = isinstance(key, tuple) and len(key) > 1 and isinstance(key[1], int)
        self.partition: int | None = key[1] if numbered else None
        self.key = key
        self.last_worker = last_worker
        super().__init__(
            f"The worker process died {attempts} times while it ran the task {key!r}. "
            "Either its code ended the process, or the process was killed for using too much memory. "
            "Try a higher --memory-limit, fewer mappers or smaller partitions."
        )


@contextmanager
def connect(
    config: Config,
    n_partitions: int,
    *,
    client: Client | None = None,
    inline: bool = False,
    run_dir: str | os.PathLike[str],
    pass_env: Iterable[str] = (),
) -> Iterator[Session]:
    """Open a session on a LocalCluster, on `client`, or inline; close it at the end of the block.

    - `n_partitions`: partitions of the plan. A LocalCluster gets no more workers than that.
    - `client`: a synchronous client, which stays open.
    - `inline`: run in this process, without a cluster.
    - `run_dir`: an existing folder for the scratch files of the workers.
    - `pass_env`: names of environment variables for the workers of a LocalCluster.
    Raises `InputError` if there are too many mappers, the client is asynchronous or closed, or the
    cluster cannot run the job.
    Raises `JobError` if the cluster cannot be started.
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
        with local_workers(config, n_partitions, Path(run_dir), pass_env) as local:
            yield Session(local.client, local.count, local)


class Session:
    """A place to run Dask collections, with `workers` worker processes.

    - `client`: ``None`` when the session is inline.
    - `notes`: notes on the cluster, for the user.
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
        """The address of Dask's dashboard; ``None`` while there is none."""
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
        """The bytes beyond which a worker process is killed; ``None`` if unknown."""
        return None if self._local is None else self._local.memory_limit or None

    @property
    def is_elsewhere(self) -> bool:
        """True if the workers may be on other machines, which may not see this machine's files."""
        return self.client is not None and self._local is None

    # --- asking the cluster -----------------------------------------------------------------------

    def killed_for_memory(self) -> Kills:
        """Return the bytes held by each worker process killed for memory since the session began."""
        if self._local is not None:
            return self._local.kills.update()
        kills = self._kills_of_scheduler()
        return {pid: held for pid, held in kills.items() if pid not in self._killed_before}

    def forget_kills(self) -> None:
        """Ignore all kills until now, because a scheduler remembers the kills of earlier jobs."""
        self._killed_before = self._kills_of_scheduler().keys()

    def _kills_of_scheduler(self) -> dict[int | tuple[str, int], int]:
        if self.client is None:
            return {}
        events = self._answer(self.client.scheduler.events(topic=MEMORY_KILLS), _EVENTS_SECONDS)
        return {(event["worker"], event["pid"]): event["rss"] for _, event in events or ()}

    def worker_info(self, seconds: float) -> dict[str, Any] | None:
        """Return the scheduler's information on its workers, by address.

        ``None`` if it does not answer within `seconds`.
        """
        if self.client is None:
            return None
        identity = self._answer(self.client.scheduler.identity(n_workers=-1), seconds)
        return None if identity is None else identity["workers"]

    def ask(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = 2 * _ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Call a function on every worker, while its tasks go on.

        - `function`: a quick function of a module. A parameter `dask_worker` receives the worker.
        - `*arguments`: the arguments of the function.
        - `seconds`: the time to wait for all answers.
        Returns the answers, or exceptions, by worker address. Workers that die, or do not answer
        in time, are missing.
        """
        if self.client is None:
            return {}
        return self._answer(_ask_workers(self.client, function, arguments), seconds) or {}

    def _answer(self, question: Any, seconds: float) -> Any:
        """Run a coroutine in the client's loop; return ``None`` if the scheduler does not answer."""
        assert self.client is not None
        asking = run_in_loop(self.client, question)
        try:
            return asking.result(seconds)
        # The watchdog notices too. A client cancels its requests when it loses its scheduler.
        except (OSError, TimeoutError, CancelledError) as error:
            logger.info("The scheduler does not answer: %s", error)
            asking.cancel()
            return None

    # --- computing --------------------------------------------------------------------------------

    def submit(self, graph: Mapping[Any, Any]) -> dict[Any, Any]:
        """Submit tasks, and return their futures by key."""
        assert self.client is not None
        futures = self.client.get(dict(graph), list(graph), sync=False)
        return dict(zip(graph, futures, strict=True))

    def wait_for(self, futures: Collection[Any]) -> list[Any]:
        """Wait until all futures have succeeded, or some have failed; return those that failed.

        Raises `JobError` if the cluster makes no progress.
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
        """Convert the failure of a task to an error of the job.

        Raises the original exception if neither Dask nor a task of this package raised it.
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

        An exception of the hook ends the computation. An inline session does not call it.
        """
        self._hooks.append(hook)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Forget at the end of the block the hooks that were added in it."""
        before = [*self._hooks]
        try:
            yield
        finally:
            self._hooks[:] = before

    def add_page(self, mount: Mount) -> None:
        """Add a page to the dashboard of a LocalCluster once it is attached.

        - `mount`: called in the scheduler's event loop after Dask's own pages were added, as
          ``mount(http_application, http_server, scheduler)``. Its exceptions are logged.
        """
        if self._local is not None:
            self._local.dashboard.pages.append(mount)

    def attach_dashboard(self) -> None:
        """Add Dask's dashboard to a running LocalCluster, in the background.

        `compute` calls this when a session is 10 seconds old. It has no effect on other clusters, or
        if the dashboard is off.
        """
        if self._local is not None:
            self._local.dashboard.attach()

    def compute(self, collection: Any, is_optimized: bool = False) -> Any:
        """Compute a Bag or Delayed; optimize it first, which drops annotations, unless `is_optimized`.

        Raises `WorkerDied` if the worker of a task died each time that the task was tried.
        Raises `JobError` if a task failed with an error of this package, or the cluster is gone.
        """
        try:
            if self.client is None:
                from dask.local import get_sync  # given its name, Dask would import distributed

                return collection.compute(scheduler=get_sync)
            return self._compute_remotely(self.client, collection, not is_optimized)
        except Exception as error:
            failure = _job_error(error)
            if failure is None:
                raise
            cause = None if isinstance(error, TaskFailed) else error
        # Outside of the handler, because a chain of remote tracebacks would not help the user.
        raise failure from cause

    def _compute_remotely(self, client: Client, collection: Any, optimize: bool) -> Any:
        future = client.compute(collection, optimize_graph=optimize)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            self._wait(client, done.wait)
            return future.result()
        except BaseException:
            self.cancel([future])
            raise

    def cancel(self, futures: Collection[Any]) -> None:
        """Cancel tasks, except on workers of this machine, which are killed shortly anyway."""
        client = self.client
        if client is not None and self._local is None:
            with suppress(Exception):
                # The wait is short, because the scheduler may have failed.
                cancelling = client.cancel(list(futures), asynchronous=True)
                run_in_loop(client, cancelling).result(0.2)

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
    """Ask each worker separately, so that a stopped one does not hold up the others' answers."""

    async def answer(address: str) -> None:
        run = client.run(
            function, *arguments, workers=[address], on_error="return", asynchronous=True
        )
        try:
            found = await asyncio.wait_for(run, _ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            logger.info("The worker %s does not answer: %s", address, error)
        else:  # an OSError means that the connection broke
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
        f"({text}). Nothing was written. Check the scheduler's log, and start the job again."
    )


def _job_error(error: BaseException) -> JobError | None:
    """Convert an exception of Dask or of a task to an error of the job; ``None`` for any other."""
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
    """A watchdog that fails the job when no worker is left or all are paused: no future reports that."""

    _INTERVAL = 5.0
    _PATIENCE = 45.0
    _PATIENCE_AT_FIRST = 300.0  # an adaptive cluster may take minutes to start its first worker
    _SILENCE = 120.0  # a scheduler that unpacks a large graph may be silent for seconds

    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking: Any = None
        self._asked = self._well = time.monotonic()
        self._patience = self._PATIENCE_AT_FIRST

    def check(self) -> None:
        """Check the scheduler's last answer, and ask again every few seconds."""
        now = time.monotonic()
        if self._asking is not None and self._asking.done():
            asking, self._asking = self._asking, None
            if asking.exception() is None:  # otherwise the future of the job fails by itself
                self._judge(list(asking.result()["workers"].values()), now)
        if self._asking is not None and now - self._asked > self._SILENCE:
            raise JobError(
                f"The Dask scheduler has not answered for {self._SILENCE:g} s, so the job cannot go "
                "on. Check its log, and start the job again."
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
