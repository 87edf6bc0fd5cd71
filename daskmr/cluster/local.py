"""Run workers on this machine: a LocalCluster that starts fast, is watched, and is killed at the end."""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import spawn
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daskmr.cluster import dask_internals
from daskmr.cluster.forkserver import MALLOC, SAFE_PATH, is_available, prewarm
from daskmr.environment import environment
from daskmr.errors import InputError, JobError
from daskmr.memory import system_kills
from daskmr.signals import kill_children
from daskmr.store.credentials import for_workers
from daskmr.tasks.crashes import Kills, note_kill

if TYPE_CHECKING:
    from distributed import Security

    from daskmr.config import Config

__all__ = ["LocalWorkers", "Mount", "local_workers"]

logger = logging.getLogger(__name__)

_OPEN_FILES = 128  # needed by a client and its scheduler, with room for segments
_HOST = "127.0.0.1"
_START_POLL_SECONDS = 0.005
_KILL_POLL_SECONDS = 0.02
_CLOSE_SECONDS = 3.0
_CREDIT_SECONDS = 1.0  # the most that one check adds to the time that a process was stopped
_DYING_SECONDS = 2.0  # from the system's decision to kill a process until it has ended

Mount = Callable[[Any, Any, Any], object]
"""A function that adds pages to a dashboard, given its HTTP application, its server, and the scheduler."""


@contextmanager
def local_workers(
    config: Config, n_partitions: int, run_dir: Path, pass_env: Iterable[str] = ()
) -> Iterator[LocalWorkers]:
    """Start a LocalCluster with no more workers than partitions; kill it at the end of the block.

    - `pass_env`: names of variables that may have changed since the workers' parent was started.
    Raises `InputError` if there are too many mappers, the port is taken, or workers cannot be
    started from this process.
    Raises `JobError` if the cluster cannot be started.
    """
    count = _count_workers(config, n_partitions)
    _refuse_inside_worker_start()
    _check_open_files()
    _check_port(config.dashboard)
    prewarm()
    import dask
    import distributed  # noqa: F401  # before `set`, which drops new settings when it ends

    with ExitStack() as stack:
        # For the entire session, because workers that die are replaced under these settings.
        stack.enter_context(dask.config.set(_settings(run_dir)))
        # Dask sets these in this process so that its workers inherit them.
        names = dask.config.get("distributed.nanny.pre-spawn-environ").keys() | {
            dask_internals.PARENT_VARIABLE
        }
        stack.enter_context(environment({name: os.environ.get(name) for name in names}))
        passed = {name: os.environ[name] for name in pass_env}
        workers = LocalWorkers(config, count, run_dir, passed)
        stack.callback(shutil.rmtree, run_dir / "dask-scratch-space", ignore_errors=True)
        try:
            workers.start()
            yield workers
        finally:
            workers.stop()


# --- before the start -----------------------------------------------------------------------------


def _count_workers(config: Config, n_partitions: int) -> int:
    from dask.system import CPU_COUNT

    most = max(64, 8 * CPU_COUNT)
    if config.num_mappers is not None and config.num_mappers > most:
        raise InputError(
            f"{config.num_mappers} mappers are too many for this machine: it has {CPU_COUNT} "
            f"cores, and at most {most} mappers are allowed. Give --num-mappers a smaller number."
        )
    return max(1, min(config.num_mappers or CPU_COUNT, n_partitions))


def _refuse_inside_worker_start() -> None:
    if multiprocessing.current_process().daemon:
        raise InputError(
            "daskmr was called in a worker process, which cannot start its own workers. "
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
            f"This shell allows a process {limit} open files, and a cluster needs {_OPEN_FILES}. "
            "Raise the limit (ulimit -n 1024), or run with --inline."
        )


def _check_port(dashboard: str | None) -> None:
    """Raise InputError if the given port is taken: Dask would silently use another one."""
    if dashboard is None or dashboard == "off":
        return
    host, _, port = dashboard.rpartition(":")
    try:
        socket.create_server((host, int(port))).close()
    except OSError as error:
        raise InputError(
            f"The dashboard cannot listen on {dashboard} ({os.strerror(error.errno or 0)}). Give "
            "--dashboard another port, or omit it to use any free port."
        ) from None


# --- the workers ----------------------------------------------------------------------------------


class LocalWorkers:
    """A LocalCluster of `count` workers, which are killed at the end.

    - `memory_limit`: bytes beyond which a worker is killed; 0 means no limit.
    - `client`: a client of the cluster once it has been started.
    - `passed`: environment variables for the workers.
    """

    def __init__(
        self, config: Config, count: int, run_dir: Path, passed: Mapping[str, str]
    ) -> None:
        from distributed.system import MEMORY_LIMIT

        self.count = count
        limit = config.memory_limit
        self.memory_limit = MEMORY_LIMIT // count if isinstance(limit, str) else limit
        self._security = {"security": _temporary_security()} if config.local_tls else {}
        # Processes that a script starts must not inherit SAFE_PATH; "" is equivalent to unset.
        path_restored = {name: os.environ.get(name, "") for name in SAFE_PATH}
        self._environment = {**for_workers(), **path_restored, **passed}
        self._run_dir = run_dir
        self._nannies: list[Any] = []
        self.kills = KillLog(self._nannies, run_dir)
        self._stopped = StopWatchdog(self._nannies, self.kills, config.stopped_timeout)
        self.dashboard = LateDashboard(config.dashboard)
        self._cluster: Any = None
        self.client: Any = None

    def start(self) -> None:
        """Start scheduler, client and workers so that an interrupt can stop all of them."""
        import distributed

        dask_internals.own_forkserver_preload()
        dask_internals.poll_new_workers(_START_POLL_SECONDS)
        try:
            self._cluster = distributed.LocalCluster(
                n_workers=0,  # so that `_cluster` is set before there is a process to clean up
                threads_per_worker=1,
                processes=True,
                worker_class=self._make_nanny,
                memory_limit=self.memory_limit,
                env=self._environment,
                local_directory=str(self._run_dir),
                host=_HOST,
                dashboard_address=self.dashboard.listening,
                scheduler_kwargs={"dashboard": False},
                silence_logs=logging.CRITICAL,
                **self._security,
            )
            self._cluster.scale(self.count)
            import dask.bag  # noqa: F401  # it is needed next, and the workers take a moment

            # Given the cluster rather than its address, the client waits for the workers. A worker
            # that crashed in its first task before it reported to its nanny would not be replaced.
            with self._stopped.watching():
                self.client = distributed.Client(self._cluster, set_as_default=False)
            self.check()
            self.dashboard.started(self._cluster)
        except (OSError, RuntimeError) as error:
            raise JobError(f"The local cluster could not be started: {error}.") from error

    def _make_nanny(self, *args: Any, **kwargs: Any) -> Any:
        from distributed import Nanny

        nanny = Nanny(*args, **kwargs)
        dask_internals.on_memory_kill(nanny, self.kills.note)
        self._nannies.append(nanny)
        return nanny

    def check(self) -> None:
        """Raise `JobError` if no worker process could be started; replace those that are stopped."""
        self.kills.update()
        self._stopped.check()
        if self._nannies and {n.status.name for n in self._nannies} <= {"closed", "failed"}:
            raise JobError(
                "The worker processes could not be started, or ended immediately. If the calling "
                'script has no `if __name__ == "__main__":`, put the call under it.'
            )

    def stop(self) -> None:
        """Kill the workers, whatever they are doing, and close the rest.

        They are not needed any more: all results are in this process or in files.
        """
        # Dask restores the levels of its loggers when it closes, and then logs broken connections.
        broken = logging.getLogger("distributed.batched")
        broken.addFilter(dask_internals.drop_broken_connections)
        closed = threading.Event()

        def kill_until_closed() -> None:
            while not closed.wait(_KILL_POLL_SECONDS):
                self._kill()

        try:
            self._kill()
            # In a loop, because a worker that is being started gets its process id only later. In a
            # thread, so that neither a hanging `close` nor a signal can prevent it.
            threading.Thread(target=kill_until_closed, daemon=True).start()
            for part in (self.client, self._cluster):
                try:
                    if part is not None:
                        part.close(timeout=_CLOSE_SECONDS)
                except Exception as error:
                    logger.info("While closing: %s", error)
        finally:
            self._kill()
            closed.set()

    def _kill(self) -> None:
        for nanny in list(self._nannies):
            if nanny.status.name in ("init", "starting", "running"):
                nanny.close_gracefully()  # keeps it from starting another worker
            if nanny.pid:
                _kill_tree(nanny.pid)


def _kill_tree(pid: int) -> None:
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        process.suspend()  # so that it cannot start more children in the meantime
        kill_children(pid)
        process.kill()


def _settings(run_dir: Path) -> dict[str, Any]:
    import dask

    environ = dask.config.get("distributed.nanny.pre-spawn-environ", default={})
    return {
        "temporary-directory": str(run_dir),
        # At 1.1, the task queued next to one that crashes the worker is sometimes blamed.
        "distributed.scheduler.worker-saturation": 1.0,
        "distributed.scheduler.allowed-failures": 3,
        "distributed.scheduler.no-workers-timeout": "30s",
        # A map function that holds the GIL keeps its worker from reporting.
        "distributed.scheduler.worker-ttl": None,
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
        "distributed.worker.multiprocessing-method": "forkserver" if is_available() else "spawn",
        # Otherwise tasks could start processes that outlive a killed worker.
        "distributed.worker.daemon": True,
        # A paused worker may never resume; a killed worker leads to a clear error.
        "distributed.worker.memory.pause": False,
        "distributed.nanny.pre-spawn-environ": {
            "PYTHONHASHSEED": "random",
            **environ,
            **MALLOC,
            **SAFE_PATH,
        },
        # By default, a worker that dies twice in a row is not replaced.
        "distributed.deploy.lost-worker-timeout": "1h",
        "distributed.diagnostics.nvml": False,
        # Sampling the stack a hundred times a second took 3% of the time of a job.
        "distributed.worker.profile.interval": "100ms",
        "distributed.admin.large-graph-warning-threshold": "1GB",
    }


def _temporary_security() -> Security:
    """Create a certificate for one cluster, which is only kept in memory."""
    from distributed import Security

    try:
        return Security.temporary()
    except ImportError:
        raise InputError(
            "TLS between the processes on this machine (daskmr.local-tls, or "
            "distributed.comm.require-encryption in Dask's configuration) needs the cryptography "
            "library: pip install 'daskmr[tls]', or run with --inline."
        ) from None


# --- processes that are killed or stopped ---------------------------------------------------------


class KillLog:
    """The worker processes that were killed for memory, by their nannies or by the system.

    - `nannies`: the nannies of all workers; the list may grow.
    - `run_dir`: the folder in which kills are noted for the tasks.
    - `killed`: bytes that each process held, by process id; 0 if unknown.
    - `replaced`: ids of processes that are killed for another reason.
    """

    def __init__(self, nannies: list[Any], run_dir: Path) -> None:
        self.killed: dict[int | tuple[str, int], int] = {}
        self.replaced: set[int] = set()
        self._nannies = nannies
        self._run_dir = run_dir
        self._system_kills, self._system_killed = system_kills(), -math.inf
        self._unexplained = 0  # kills by the system that are not yet attributed to a process
        self._processes: dict[int, Any] = {}  # running worker processes, by process id
        self._ended: set[int] = set()

    def note(self, pid: int, held: int) -> None:
        """Note that a process is killed for holding this many bytes."""
        self.killed[pid] = held
        with suppress(OSError):  # the worker must be killed even if the disk is full
            note_kill(str(self._run_dir), pid, held)

    def update(self) -> Kills:
        """Note the worker processes that the system has killed for memory; return all kills.

        Only processes that ended by SIGKILL count: the system may have killed others.
        """
        killed = self._ended_by_kill()
        # The system counts a kill before the process ends, so read the counter after the exit codes.
        count, now = system_kills(), time.monotonic()
        if count > self._system_kills:
            self._unexplained += count - self._system_kills
            self._system_kills, self._system_killed = count, now
        if now - self._system_killed > _DYING_SECONDS:
            self._unexplained = 0
        for pid in killed[: self._unexplained]:
            self._unexplained -= 1
            self.note(pid, 0)
        return self.killed

    def _ended_by_kill(self) -> list[int]:
        """Return the worker processes that an unexplained SIGKILL has ended since the last call."""
        for process in map(dask_internals.process_of, self._nannies):
            if process and process.pid and process.pid not in self._ended:
                self._processes[process.pid] = process
        ended = [pid for pid, process in self._processes.items() if process.exitcode is not None]
        codes = {pid: self._processes.pop(pid).exitcode for pid in ended}
        self._ended.update(ended)
        known = self.killed.keys() | self.replaced
        return [pid for pid, code in codes.items() if code == -signal.SIGKILL and pid not in known]


class StopWatchdog:
    """A watchdog that kills worker processes stopped (SIGSTOP) for too long; nannies replace them.

    Dask's own ``worker-ttl`` cannot distinguish a `map` that holds the GIL from a hanging worker. The
    time between two checks counts only in part, since this process may have been stopped too.
    """

    def __init__(self, nannies: list[Any], kills: KillLog, timeout: float | None) -> None:
        self._nannies = nannies
        self._kills = kills
        self._timeout = timeout
        self._stopped: dict[int, float] = {}  # observed seconds that a process was stopped
        self._checked = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Check in another thread during the block, which waits for the workers to start."""
        ended = threading.Event()

        def check_until_ended() -> None:
            while not ended.wait(_CREDIT_SECONDS / 2):
                self.check()

        thread = threading.Thread(target=check_until_ended, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def check(self) -> None:
        """Kill the processes that have been stopped for longer than the timeout."""
        now = time.monotonic()
        passed, self._checked = min(now - self._checked, _CREDIT_SECONDS), now
        if self._timeout is None:
            return
        pids = {nanny.pid for nanny in self._nannies if nanny.pid and _is_stopped(nanny.pid)}
        self._stopped = {pid: self._stopped.get(pid, 0.0) + passed for pid in pids}
        for pid, seconds in self._stopped.items():
            if seconds > self._timeout:
                self._kills.replaced.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _is_stopped(pid: int) -> bool:
    import psutil

    with suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


# --- the dashboard --------------------------------------------------------------------------------


class LateDashboard:
    """Dask's dashboard, which is attached in the background once a job has run for a while.

    - `address`: the address to listen on, if given, from the start; ``"off"`` for no dashboard.
    - `pages`: functions that add pages to it.
    - `link`: its address, once it is attached.
    """

    def __init__(self, address: str | None) -> None:
        self.pages: list[Mount] = []
        self.link: str | None = None
        self._address = address
        self._cluster: Any = None
        self._thread: threading.Thread | None = None

    @property
    def listening(self) -> str:
        """The address of the scheduler's HTTP server, with or without a dashboard."""
        return f"{_HOST}:0" if self._address in (None, "off") else str(self._address)

    def started(self, cluster: Any) -> None:
        """Note that the cluster is running; attach the dashboard now if its address is given."""
        self._cluster = cluster
        if self.listening == self._address:
            self.attach()

    def attach(self) -> None:
        """Attach the dashboard, unless this has begun or it is off."""
        if self._thread is None and self._address != "off":
            self._thread = threading.Thread(target=self._import, daemon=True)
            self._thread.start()

    def _import(self) -> None:
        # In its own thread: importing bokeh takes a second, and the scheduler must not wait.
        try:
            import distributed.dashboard.scheduler  # noqa: F401

            self._cluster.loop.add_callback(self._mount)
        except Exception as error:
            logger.warning("The dashboard could not be started: %s", error)

    async def _mount(self) -> None:
        try:
            dask_internals.mount_dashboard(self._cluster.scheduler, self.pages)
            self.link = self._cluster.dashboard_link
        except Exception as error:
            logger.warning("The dashboard could not be started: %s", error)
