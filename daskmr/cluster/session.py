"""Where a job runs: a LocalCluster over this machine's cores, somebody's client, or this process.

`connect` gives a `Session`, which runs Dask collections and can be interrupted at any time.
"""

from __future__ import annotations

import asyncio
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskmr.cluster.forkserver import MALLOC, SAFE_PATH, is_available, prewarm, set_environment
from daskmr.errors import InputError, JobError, TaskFailed
from daskmr.memory import system_kills
from daskmr.signals import kill_children
from daskmr.store.credentials import for_workers
from daskmr.tasks.crashes import Kills, note_kill

if TYPE_CHECKING:
    from distributed import Client

    from daskmr.config import Config

__all__ = ["Mount", "Session", "WorkerDied", "connect"]

logger = logging.getLogger(__name__)

_OPEN_FILES = 128  # what a client and its scheduler take, with room for segments
_HOST = "127.0.0.1"
_SOCKET_LOCK = "daskmr-lock"
_POLL_SECONDS = 0.2
_DASHBOARD_AFTER_SECONDS = 10.0  # what it imports takes time from the workers
_CLOSE_SECONDS = 3.0
_INIT_SECONDS = 0.005
_EVENTS_SECONDS = 3.0
_ANSWER_SECONDS = 10.0  # a map that holds the GIL keeps its worker from answering
_ENDED = ("error", "cancelled")  # "lost" is being computed again
_SEEN_AT_MOST = 1.0  # seconds that count between two looks at who is stopped
_DYING_SECONDS = 2.0  # between the system's decision to kill a process and the end of it
_KILLED = "worker-restart-memory"  # topic under which a nanny logs that it kills for memory


Mount = Callable[[Any, Any, Any], object]
"""Adds pages to a dashboard: given the HTTP application, its server, and the scheduler."""


# --- a session ----------------------------------------------------------------------------------


class WorkerDied(JobError):
    """A task was tried until Dask gave up, and each time its worker process died.

    Attributes
    ----------
    partition : int or None
        Second part of the task's key. It is the index of a partition of the plan only for
        keys of the mapping phase: look at `key`.
    key : object
        The task's key.
    last_worker : str
        Address of the worker that died last.
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

    Parameters
    ----------
    config : Config
        Of which ``num_mappers`` and ``memory_limit`` are used here.
    n_partitions : int
        Partitions of the plan: a LocalCluster gets no more workers than that.
    client : distributed.Client, optional
        A synchronous client, used as it is and left open.
    inline : bool
        Run in this process, without a cluster.
    run_dir : path
        An existing folder for the scratch files of the workers.

    Raises
    ------
    InputError
        For more mappers than make sense, a client that is asynchronous or closed, or a cluster that
        cannot run the job.
    JobError
        When the cluster cannot be started.
    """
    if inline:
        yield Session(None, 1)
    elif client is not None:
        with _checked(client):
            from daskmr.cluster.connect import examine

            notes = examine(client, config)
            session = Session(client, max(1, len(client.nthreads())), notes=notes)
            session.forget_kills()
            yield session
    else:
        with _local(config, _count_workers(config, n_partitions), Path(run_dir)) as session:
            yield session


class Session:
    """A place to run Dask collections.

    Attributes
    ----------
    client : distributed.Client or None
        ``None`` when the session is inline.
    workers : int
        Worker processes.
    notes : tuple of str
        What there is to say of them.
    """

    def __init__(
        self,
        client: Client | None,
        workers: int,
        cluster: _LocalWorkers | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.client = client
        self.workers = workers
        self.notes = notes
        self._cluster = cluster
        self._hooks: list[Callable[[], object]] = []
        self._killed_before: Collection[object] = ()
        self._opened = time.monotonic()

    @property
    def dashboard_link(self) -> str | None:
        """Address of Dask's dashboard; ``None`` while there is none."""
        if self._cluster is not None:
            return self._cluster.dashboard_link
        if self.client is None:
            return None
        try:
            return self.client.dashboard_link or None
        except KeyError:  # the scheduler was started without one
            return None

    @property
    def memory_limit(self) -> int | None:
        """Bytes beyond which a worker process is killed; ``None`` where that is not known."""
        return None if self._cluster is None else self._cluster.memory_limit or None

    def killed_for_memory(self) -> Kills:
        """Return what worker processes held when they were killed for it, since the session began."""
        if self._cluster is not None:
            self._cluster.note_system_kills()
            return self._cluster.killed
        told = self._kills_of_scheduler()
        return {
            process: held for process, held in told.items() if process not in self._killed_before
        }

    def forget_kills(self) -> None:
        """Pass over those that were killed until now: a scheduler knows of them for long."""
        self._killed_before = self._kills_of_scheduler().keys()

    def _kills_of_scheduler(self) -> dict[int | tuple[str, int], int]:
        if self.client is None:
            return {}
        asking = _in_loop_of(self.client, self.client.scheduler.events(topic=_KILLED))
        try:
            events = asking.result(_EVENTS_SECONDS)
        except (OSError, TimeoutError) as error:  # the scheduler is in trouble, which others see
            logger.info("The scheduler does not say whom it killed: %s", error)
            return {}
        return {(event["worker"], event["pid"]): event["rss"] for _, event in events}

    @property
    def is_elsewhere(self) -> bool:
        """Whether its workers may be on other machines, which see other files than this one."""
        return self.client is not None and self._cluster is None

    def look_at_workers(self, seconds: float) -> dict[str, Any] | None:
        """Return what the scheduler knows of its workers, by address.

        ``None`` when it does not answer within so many seconds.
        """
        if self.client is None:
            return None
        asking = _in_loop_of(self.client, self.client.scheduler.identity(n_workers=-1))
        try:
            workers: dict[str, Any] = asking.result(seconds)["workers"]
        except (OSError, TimeoutError) as error:  # the scheduler is in trouble, which others see
            logger.info("The scheduler does not tell of its workers: %s", error)
            asking.cancel()
            return None
        return workers

    def ask(
        self, function: Callable[..., Any], *arguments: Any, seconds: float = 2 * _ANSWER_SECONDS
    ) -> dict[str, Any]:
        """Call a function on every worker, beside its tasks.

        Parameters
        ----------
        function : callable
            Of a module, and quick. Given its worker if it has a parameter `dask_worker`.
        *arguments
            What it is called with.
        seconds : float
            How long to wait for all answers.

        Returns
        -------
        dict of str to object
            The answers, or exceptions, by the worker's address. One that dies, or does not answer
            within seconds, gives none.
        """
        if self.client is None:
            return {}
        asking = _in_loop_of(self.client, _ask(self.client, function, arguments))
        try:
            answers: dict[str, Any] = asking.result(seconds)
        except (OSError, TimeoutError) as error:  # the scheduler is in trouble, which others see
            logger.info("The workers cannot be asked: %s", error)
            return {}
        return answers

    def submit(self, graph: Mapping[Any, Any]) -> dict[Any, Any]:
        """Have tasks run; give the future of each by its key."""
        assert self.client is not None
        futures = self.client.get(dict(graph), list(graph), sync=False)
        return dict(zip(graph, futures, strict=True))

    def wait_for(self, futures: Collection[Any]) -> list[Any]:
        """Wait until all have succeeded, or some have failed; return those that failed.

        Raises
        ------
        JobError
            When the cluster does not go on.
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
        """What the failure of a task means for the job.

        Raises
        ------
        Exception
            When it is none of Dask's, nor of this package.
        """
        error = future.exception() if future.status == "error" else None
        if error is None:
            return _lost(future.status)
        failure = _job_error(error)
        if failure is None:
            raise error
        return failure

    def watch(self, hook: Callable[[], object]) -> None:
        """Have `hook` called five times a second, in this thread, while `compute` waits.

        What it raises ends the computation. An inline session does not call it.
        """
        self._hooks.append(hook)

    def add_page(self, mount: Mount) -> None:
        """Have `mount` add something to the dashboard of a LocalCluster once it is attached.

        Parameters
        ----------
        mount : callable
            Called as ``mount(http_application, http_server, scheduler)`` in the scheduler's event
            loop, when Dask's own pages are there: with what `distributed.dashboard.scheduler.connect`
            is given. What it raises is logged.
        """
        if self._cluster is not None:
            self._cluster.pages.append(mount)

    def attach_dashboard(self) -> None:
        """Add Dask's dashboard to a LocalCluster that runs, in the background.

        `compute` does so by itself when a session is 10 seconds old. Without effect elsewhere, and
        where no dashboard is wanted.
        """
        if self._cluster is not None:
            self._cluster.attach_dashboard()

    def compute(self, collection: Any, is_optimized: bool = False) -> Any:
        """Run a Bag or Delayed to its result; the annotations of one that is optimized hold.

        Raises
        ------
        WorkerDied
            When the worker of a task died each time that the task was tried.
        JobError
            When a task failed as tasks of this package do, or the cluster is gone.
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
        # Outside of the handler: a chain of remote tracebacks is of no use to anybody.
        raise failure from cause

    def _compute_remotely(self, client: Client, collection: Any, optimize: bool) -> Any:
        future = client.compute(collection, optimize_graph=optimize)
        done = threading.Event()
        future.add_done_callback(lambda _: done.set())
        try:
            self._wait(client, done.wait)
            return future.result()
        except BaseException:
            self._cancel(client, future)
            raise

    def _wait(self, client: Client, is_done: Callable[[float], bool]) -> None:
        guard = _Guard(client)
        while not is_done(_POLL_SECONDS):
            for hook in self._hooks:
                hook()
            guard.check()
            if self._cluster is not None:
                self._cluster.check()
                if time.monotonic() - self._opened > _DASHBOARD_AFTER_SECONDS:
                    self.attach_dashboard()

    def _cancel(self, client: Client, future: Any) -> None:
        if self._cluster is not None:
            return  # its workers are killed in a moment
        with suppress(Exception):
            # Waited for only shortly: the scheduler may be what has failed.
            _in_loop_of(client, client.cancel([future], asynchronous=True)).result(0.2)


async def _ask(
    client: Client, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> dict[str, Any]:
    """Ask each worker by itself: one that is stopped must not hold up the answers of the others."""
    import asyncio

    async def answer(address: str) -> dict[str, Any]:
        run = client.run(
            function, *arguments, workers=[address], on_error="return", asynchronous=True
        )
        try:
            answers: dict[str, Any] = await asyncio.wait_for(run, _ANSWER_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            logger.info("The worker %s does not answer: %s", address, error)
            return {}
        return {
            # an OSError: the connection to it broke
            worker: value
            for worker, value in answers.items()
            if not isinstance(value, OSError)
        }

    workers = await client.nthreads(asynchronous=True)
    answers: dict[str, Any] = {}
    for some in await asyncio.gather(*map(answer, workers)):
        answers |= some
    return answers


def _in_loop_of(client: Client, coroutine: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(coroutine, client.loop.asyncio_loop)


def _lost(reason: object) -> JobError:
    told = " ".join(str(reason).split()).removesuffix(".")
    return JobError(
        "The connection to the Dask scheduler is lost, or somebody cancelled the job there "
        f"({told}). Nothing was written. Look at the scheduler's log, and start the job again."
    )


def _job_error(error: Exception) -> JobError | None:
    """What `error` of Dask means for the job; ``None`` for an error that is none of Dask's."""
    if isinstance(error, TaskFailed):
        return error.as_kind(JobError)
    if "distributed" not in sys.modules:
        return None
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError
    from distributed.comm import CommClosedError
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    if isinstance(error, KilledWorker):
        last_worker = getattr(error.last_worker, "address", str(error.last_worker))
        return WorkerDied(error.task, last_worker, error.allowed_failures + 1)
    if isinstance(error, NoWorkerError | NoValidWorkerError):
        return JobError("All workers are gone, so the job cannot go on. Start it again.")
    if isinstance(error, FutureCancelledError | CommClosedError):
        return _lost(error)
    if isinstance(error, RuntimeError) and "deserialization" in str(error):
        return JobError(
            "The Dask scheduler or a worker could not load the job "
            f"({error.__cause__ or error}). It needs the same daskmr and Python as this machine."
        )
    return None


class _Guard:
    """Sees what no future tells: that no worker is left, or that all have stopped taking tasks."""

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
        now = time.monotonic()
        if self._asking is not None and self._asking.done():
            asking, self._asking = self._asking, None
            if asking.exception() is None:  # else the future of the job fails by itself
                self._judge(list(asking.result()["workers"].values()), now)
        if self._asking is not None and now - self._asked > self._SILENCE:
            raise JobError(
                f"The Dask scheduler has not answered for {self._SILENCE:g} s, so the job cannot go "
                "on. Look at its log, and start the job again."
            )
        if self._asking is None and now - self._asked >= self._INTERVAL:
            self._asked = now
            identity = self._client.scheduler.identity(n_workers=-1)
            self._asking = _in_loop_of(self._client, identity)

    def _judge(self, workers: list[dict[str, Any]], now: float) -> None:
        if any(not _is_stuck(worker) for worker in workers):
            self._well, self._patience = now, self._PATIENCE
        elif now - self._well > self._patience:
            raise JobError(_describe_stuck(workers))


def _is_stuck(worker: dict[str, Any]) -> bool:
    executing = worker["metrics"].get("task_counts", {}).get("executing", 0)
    return bool(worker["status"] == "paused" and not executing)


def _describe_stuck(workers: list[dict[str, Any]]) -> str:
    if not workers:
        return "All workers are gone, so the job cannot go on. Start workers and the job again."
    used = max(worker["metrics"].get("memory", 0) for worker in workers)
    limit = max(worker["memory_limit"] or 0 for worker in workers)
    return (
        f"All {len(workers)} workers are paused and none of them goes on: the fullest uses "
        f"{used >> 20} MiB of its {limit >> 20} MiB of memory{_free_disk(workers[0])}. "
        "Give the workers more memory or disk, or make partitions smaller."
    )


def _free_disk(worker: dict[str, Any]) -> str:
    try:
        free = shutil.disk_usage(worker["local_directory"]).free
    except OSError:  # the folder of a worker on another machine
        return ""
    return f", and {free >> 20} MiB of disk are free for spilling"


@contextmanager
def _checked(client: Client) -> Iterator[None]:
    if client.asynchronous:
        raise InputError("The client is asynchronous; daskmr needs Client(asynchronous=False).")
    if client.status != "running":
        raise InputError(f"The client is not connected: its status is {client.status!r}.")
    yield


# --- the local cluster --------------------------------------------------------------------------


def _count_workers(config: Config, n_partitions: int) -> int:
    from dask.system import CPU_COUNT

    most = max(64, 8 * CPU_COUNT)
    if config.num_mappers is not None and config.num_mappers > most:
        raise InputError(
            f"{config.num_mappers} mappers are too many for this machine: it has {CPU_COUNT} "
            f"cores, and at most {most} mappers are allowed. Give --num-mappers a smaller number."
        )
    return max(1, min(config.num_mappers or CPU_COUNT, n_partitions))


@contextmanager
def _local(config: Config, workers: int, run_dir: Path) -> Iterator[Session]:
    _refuse_inside_worker_start()
    _check_open_files()
    _check_port(config.dashboard)
    prewarm()
    import dask
    import distributed  # noqa: F401  # before `set`, which on its way out drops what is new

    with ExitStack() as stack:
        # Both for the whole session: a worker that dies is started anew under these settings.
        stack.enter_context(dask.config.set(_settings(run_dir)))
        stack.enter_context(_nanny_environment_undone())
        cluster = _LocalWorkers(
            workers,
            _memory_limit(config, workers),
            run_dir,
            tls=config.local_tls,
            stopped_timeout=config.stopped_timeout,
            dashboard=config.dashboard,
        )
        stack.callback(shutil.rmtree, run_dir / "dask-scratch-space", ignore_errors=True)
        try:
            yield Session(cluster.start(), workers, cluster)
        finally:
            cluster.stop()


def _refuse_inside_worker_start() -> None:
    if multiprocessing.current_process().daemon:
        raise InputError(
            "daskmr is called inside a worker process, which cannot start workers of its own. "
            'In a module that workers import, put the call under `if __name__ == "__main__":`.'
        )
    try:
        spawn.get_preparation_data("worker")
    except RuntimeError:
        raise InputError(
            "The script that calls daskmr is being loaded by a worker process that it started. "
            'Put the call under `if __name__ == "__main__":`.'
        ) from None


def _check_open_files() -> None:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < _OPEN_FILES:
        raise InputError(
            f"This shell allows {limit} open files to a process, and a cluster needs {_OPEN_FILES}. "
            "Raise the limit (ulimit -n 1024), or run with --inline."
        )


def _check_port(dashboard: str | None) -> None:
    """Raise InputError where the port that is asked for is taken: Dask would take another one."""
    if dashboard is None or dashboard == "off":
        return
    host, _, port = dashboard.rpartition(":")
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            reason = error.strerror
        else:
            return
    raise InputError(
        f"The dashboard cannot listen on {dashboard} ({reason}). Give --dashboard another port, or "
        "leave it out: then any free one is taken."
    )


def _memory_limit(config: Config, workers: int) -> int:
    from distributed.system import MEMORY_LIMIT

    limit = config.memory_limit
    return MEMORY_LIMIT // workers if isinstance(limit, str) else limit


def _settings(run_dir: Path) -> dict[str, Any]:
    import dask

    environ = dask.config.get("distributed.nanny.pre-spawn-environ", default={})
    return {
        "temporary-directory": str(run_dir),
        # At 1.1 the neighbour of a task that kills its worker is blamed now and then.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": 3,
        "distributed.scheduler.no-workers-timeout": "30s",
        # A map function that holds the GIL keeps its worker from reporting.
        "distributed.scheduler.worker-ttl": None,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.multiprocessing-method": "forkserver" if is_available() else "spawn",
        # Its tasks could start processes otherwise, and these would outlive a worker that is killed.
        "distributed.worker.daemon": True,
        # A worker that pauses may never go on; one that is killed is an error with a name.
        "distributed.worker.memory.pause": False,
        "distributed.nanny.pre-spawn-environ": {
            "PYTHONHASHSEED": "random",
            **environ,
            **MALLOC,
            **SAFE_PATH,
        },
        # The default gives up a worker that dies twice in a row.
        "distributed.deploy.lost-worker-timeout": "1h",
        "distributed.diagnostics.nvml": False,
        # To look at the stack a hundred times a second took 3 % of the time of a job.
        "distributed.worker.profile.interval": "100ms",
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }


@contextmanager
def _nanny_environment_undone() -> Iterator[None]:
    """Restore what Dask sets in this process for the sake of its workers."""
    import dask

    names = [*dask.config.get("distributed.nanny.pre-spawn-environ"), "__DASK_PARENT_PID"]
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        set_environment(before)


class _LocalWorkers:
    """A LocalCluster that ends by killing its workers."""

    def __init__(
        self,
        workers: int,
        memory_limit: int,
        run_dir: Path,
        tls: bool = False,
        stopped_timeout: float | None = None,
        dashboard: str | None = None,
    ) -> None:
        self._workers = workers
        self._address = dashboard
        self.pages: list[Mount] = []
        # So that what a script starts is not started as worker processes are; "" is as if unset.
        self._path_restored = {name: os.environ.get(name, "") for name in SAFE_PATH}
        self._security: dict[str, Any] = {}
        if tls:
            from daskmr.cluster.connect import temporary_security

            self._security = {"security": temporary_security()}
        self.memory_limit = memory_limit
        # As `Session.killed_for_memory` gives it.
        self.killed: dict[int | tuple[str, int], int] = {}
        self._system_kills, self._system_killed = system_kills(), -math.inf
        self._unexplained = 0  # kills by the system of processes that are not known yet
        self._processes: dict[int, Any] = {}  # of workers, by their id, until they have ended
        self._ended: set[int] = set()
        self._run_dir = run_dir
        self._nannies: list[Any] = []
        self._cluster: Any = None
        self._client: Any = None
        self._dashboard: threading.Thread | None = None
        self._stopped_timeout = stopped_timeout
        self._stopped: dict[int, float] = {}  # seconds for which a process was seen to be stopped
        self._replaced: set[int] = set()  # processes that were killed for it
        self._looked = time.monotonic()
        self.dashboard_link: str | None = None

    @property
    def _listening(self) -> str:
        """Where the scheduler's HTTP server listens, with a dashboard or without."""
        return f"{_HOST}:0" if self._address in (None, "off") else str(self._address)

    def start(self) -> Client:
        """Start scheduler, client and workers, in a way that an interrupt finds all of them."""
        import distributed
        import distributed.nanny
        import distributed.utils

        # Else Dask imports pandas and others here, to have its own list of modules preloaded.
        distributed.utils._forkserver_preload_set = True
        # Else a nanny looks only every 50 ms whether its worker is there.
        distributed.nanny.WorkerProcess._init_msg_interval = _INIT_SECONDS
        try:
            self._cluster = distributed.LocalCluster(
                n_workers=0,  # so that it is assigned before there is a process to clean up
                threads_per_worker=1,
                processes=True,
                worker_class=self._make_nanny,
                memory_limit=self.memory_limit,
                env=for_workers() | self._path_restored,
                local_directory=str(self._run_dir),
                host=_HOST,
                dashboard_address=self._listening,
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
                **self._security,
            )
            self._cluster.scale(self._workers)
            import dask.bag  # noqa: F401  # it is needed next, and the workers take a moment

            # Given the cluster, not its address, the client waits for the workers: one that died
            # of its first task before it has reported to its nanny would not be started anew.
            self._client = distributed.Client(self._cluster, set_as_default=False)
            self.check()
            if self._listening == self._address:  # somebody waits for it
                self.attach_dashboard()
        except (OSError, RuntimeError) as error:
            raise JobError(f"The local cluster could not be started: {error}.") from error
        return self._client

    def _make_nanny(self, *args: Any, **kwargs: Any) -> Any:
        from distributed import Nanny

        nanny = Nanny(*args, **kwargs)
        log_event = nanny.log_event

        def note(topic: Any, message: Any) -> None:
            # Dask calls this, in this process, before it kills a worker: so the note is there when
            # another takes up the task. A subscriber to the topic would hear of it too late.
            if topic == _KILLED:
                self._note_kill(message["pid"], message["rss"])
            log_event(topic, message)

        nanny.log_event = note
        self._nannies.append(nanny)
        return nanny

    def _note_kill(self, pid: int, held: int) -> None:
        self.killed[pid] = held
        with suppress(OSError):  # on a full disk, the worker must be killed all the same
            note_kill(str(self._run_dir), pid, held)

    def note_system_kills(self) -> None:
        """Note which worker processes the system has killed for memory.

        A process that has ended in another way was not killed, whatever else died then.
        """
        killed = self._ended_by_kill()
        # Counted before the process ends, so looked up after that was seen.
        count, now = system_kills(), time.monotonic()
        if count > self._system_kills:
            self._unexplained += count - self._system_kills
            self._system_kills, self._system_killed = count, now
        if now - self._system_killed > _DYING_SECONDS:
            self._unexplained = 0
        for pid in killed[: self._unexplained]:
            self._unexplained -= 1
            self._note_kill(pid, 0)

    def _ended_by_kill(self) -> list[int]:
        """Return the worker processes that have ended since the last time, by a SIGKILL of others."""
        for nanny in self._nannies:
            process = nanny.process and nanny.process.process
            if process and process.pid and process.pid not in self._ended:
                self._processes[process.pid] = process
        ended = [pid for pid, process in self._processes.items() if process.exitcode is not None]
        codes = {pid: self._processes.pop(pid).exitcode for pid in ended}
        self._ended.update(ended)
        ours = self.killed.keys() | self._replaced
        return [pid for pid, code in codes.items() if code == -signal.SIGKILL and pid not in ours]

    def check(self) -> None:
        """Raise `JobError` when no worker process could be started; replace those that hang."""
        self.note_system_kills()
        self._replace_stopped()
        ended = [nanny for nanny in self._nannies if nanny.status.name in ("closed", "failed")]
        if self._nannies and len(ended) == len(self._nannies):
            raise JobError(
                "The worker processes could not be started, or ended at once. If the calling "
                'script has no `if __name__ == "__main__":`, put the call under it.'
            )

    def _replace_stopped(self) -> None:
        """Kill worker processes that were stopped (SIGSTOP) too long: their nannies start others.

        Dask's own means is its ``worker-ttl``, which takes a `map` that holds the GIL for one that
        hangs. Only time that was seen to pass counts, since this process may have been stopped too.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, _SEEN_AT_MOST), now
        if self._stopped_timeout is None:
            return
        pids = {nanny.pid for nanny in self._nannies if nanny.pid and _is_stopped(nanny.pid)}
        self._stopped = {pid: self._stopped.get(pid, 0.0) + passed for pid in pids}
        for pid, seconds in self._stopped.items():
            if seconds > self._stopped_timeout:
                self._replaced.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def attach_dashboard(self) -> None:
        if self._dashboard is None and self._address != "off":
            self._dashboard = threading.Thread(target=self._import_dashboard, daemon=True)
            self._dashboard.start()

    def _import_dashboard(self) -> None:
        # In a thread of its own: bokeh takes a second, and the scheduler must not stand still.
        try:
            import distributed.dashboard.scheduler  # noqa: F401

            self._cluster.loop.add_callback(self._mount_dashboard)
        except Exception as error:
            logger.warning("The dashboard could not be started: %s", error)

    async def _mount_dashboard(self) -> None:
        from distributed.dashboard.scheduler import connect as mount
        from distributed.http import get_handlers

        scheduler = self._cluster.scheduler
        try:
            modules = ["distributed.http.scheduler.info", "distributed.http.statics"]
            routes = get_handlers(server=scheduler, modules=modules)
            scheduler.http_application.add_handlers(".*$", routes)
            server = scheduler.http_application, scheduler.http_server, scheduler
            mount(*server, prefix="/")
            for add in self.pages:
                self._add(add, server)
            self.dashboard_link = self._cluster.dashboard_link
        except Exception as error:
            logger.warning("The dashboard could not be started: %s", error)

    @staticmethod
    def _add(mount: Mount, server: tuple[Any, Any, Any]) -> None:
        try:
            mount(*server)
        except Exception as error:
            logger.warning("A page could not be added to the dashboard: %s", error)

    def stop(self) -> None:
        """Kill the workers, whatever they do, and close the rest.

        Nothing of theirs is needed any more: results are here or in files.
        """
        # Dask restores the levels of its loggers when it closes, and tells of broken connections,
        # which are these, a moment later.
        logging.getLogger("distributed.batched").addFilter(_is_news)
        closed = threading.Event()
        # A worker that is just being started gets its process id only later, so in a loop; in
        # a thread, so that neither a hanging close nor a signal in the middle of it matters.
        killer = threading.Thread(target=self._kill_until, args=(closed,), daemon=True)
        try:
            self._kill()
            killer.start()
            self._close()
        finally:
            self._kill()
            closed.set()

    def _close(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                try:
                    part.close(timeout=_CLOSE_SECONDS)
                except Exception as error:
                    logger.info("While closing: %s", error)

    def _kill_until(self, closed: threading.Event) -> None:
        while not closed.wait(0.02):
            self._kill()

    def _kill(self) -> None:
        for nanny in list(self._nannies):
            if nanny.status.name in ("init", "starting", "running"):
                nanny.close_gracefully()  # which keeps it from starting another worker
            if nanny.pid:
                _kill_tree(nanny.pid)


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Batched Comm Closed")


def _is_stopped(pid: int) -> bool:
    import psutil

    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def _kill_tree(pid: int) -> None:
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        process.suspend()  # or it might start others while these are looked up
        kill_children(pid)
        process.kill()
