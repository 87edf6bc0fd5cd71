"""A real Dask cluster on 127.0.0.1: `dask scheduler` and `dask worker`, each a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from dask.bag import Bag, from_sequence

__all__ = ["DaskCluster", "DaskWorker", "bag", "can_hide", "without"]

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
_START_SECONDS = 60.0


def bag(function: Callable[[int], Any], n: int = 4) -> Bag:
    """Return a bag that calls `function` with the numbers below `n`, each in a task of its own."""
    return from_sequence(range(n), npartitions=n).map(function)


def without(folder: Path) -> tuple[str, ...]:
    """Return the beginning of a command, which then finds `folder` empty.

    It has mounts of its own (a namespace), in which an empty file system covers the folder. Who is
    not root gets them in a user namespace, where the system allows that (`can_hide`).
    """
    mine = "-m" if os.geteuid() == 0 else "-rm"
    mount = 'mount -t tmpfs -o size=1M none "$0" && exec "$@"'
    return ("unshare", mine, "sh", "-c", mount, os.fspath(folder))


@cache
def can_hide() -> bool:
    """Check whether `without` works here."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "seen").touch()
            words = [*without(Path(folder)), "ls", folder]
            done = subprocess.run(words, capture_output=True, timeout=60)
    except OSError:  # there is no unshare
        return False
    return done.returncode == 0 and not done.stdout


class _Process:
    """A process in a group of its own, so that whatever it starts ends with it."""

    def __init__(
        self, folder: Path, *command: str, env: Mapping[str, str], unseen: Path | None = None
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        hiding = without(unseen) if unseen is not None and can_hide() else ()
        with open(folder / "log", "ab") as log:
            self.popen = subprocess.Popen(
                [*hiding, sys.executable, "-m", *command],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text("utf-8", "replace")

    def stop(self) -> None:
        """Kill it and all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class DaskWorker(_Process):
    """One `dask worker`: a nanny with one worker process, or the worker process alone."""

    name: str
    nanny: bool

    @property
    def pid(self) -> int:
        """Process that runs the tasks, as it is now: a nanny replaces one that died."""
        if not self.nanny:
            return self.popen.pid
        children = psutil.Process(self.popen.pid).children(recursive=True)
        return next(c.pid for c in children if "resource_tracker" not in " ".join(c.cmdline()))


class DaskCluster:
    """A scheduler and its workers, each with a local directory of its own.

    Parameters
    ----------
    folder : Path
        For their local directories and logs.
    workers : int
        Workers to begin with; all are there when this returns.
    scheduler_options : sequence of str
        Options of `dask scheduler`.
    worker_options : sequence of str
        Options of each `dask worker`.
    env : mapping
        Put into their environment.
    unseen : Path, optional
        A folder that all of them find empty, as on other machines, if the system can hide it.

    Attributes
    ----------
    address : str
        Of the scheduler.
    workers : list of DaskWorker
        Those that were started, dead or alive.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 2,
        *,
        scheduler_options: tuple[str, ...] = (),
        worker_options: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        unseen: Path | None = None,
    ) -> None:
        self.folder = folder
        self._unseen = unseen
        self.workers: list[DaskWorker] = []
        self._options = worker_options
        self._env = {
            "DASK_DISTRIBUTED__SCHEDULER__IDLE_TIMEOUT": "20 minutes",  # if the tests are killed
            "DASK_DISTRIBUTED__DIAGNOSTICS__NVML": "False",
            **(env or {}),
        }
        file = folder / "scheduler.json"
        self.scheduler = _Process(
            folder / "scheduler",
            *("distributed.cli.dask_scheduler", "--host", HOST, "--port", "0"),
            *("--dashboard-address", f"{HOST}:0", "--scheduler-file", str(file)),
            *scheduler_options,
            env=self._env,
            unseen=unseen,
        )
        try:
            self._wait(lambda: file.exists() and file.read_text(), self.scheduler)
            self.address: str = json.loads(file.read_text())["address"]
            for _ in range(workers):
                self.start_worker(wait=False)
            for worker in self.workers:
                self.wait_for(worker)
        except BaseException:
            self.stop()
            raise

    def start_worker(
        self,
        *options: str,
        nthreads: int = 1,
        nanny: bool = True,
        wait: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> DaskWorker:
        """Add a worker, in a folder of its own, and wait until it is connected."""
        name = f"worker-{len(self.workers)}"
        folder = self.folder / name
        worker = DaskWorker(
            folder,
            *("distributed.cli.dask_worker", self.address, "--host", HOST),
            # The address is that of a server; without it, that listens on all interfaces.
            *("--no-dashboard", "--dashboard-address", f"{HOST}:0"),
            *("--name", name, "--nthreads", str(nthreads), "--memory-limit", "1GB"),
            *("--local-directory", str(folder / "local"), "--death-timeout", "60"),
            *(() if nanny else ("--no-nanny",)),
            *self._options,
            *options,
            env={**self._env, **(env or {})},
            unseen=self._unseen,
        )
        worker.name, worker.nanny = name, nanny
        self.workers.append(worker)
        if wait:
            self.wait_for(worker)
        return worker

    def wait_for(self, worker: DaskWorker) -> None:
        """Wait until `worker` is connected."""
        connected = "Registered to:" if worker.nanny else "Starting established connection"
        self._wait(lambda: connected in worker.log or "Registered to:" in worker.log, worker)

    def _wait(self, condition: Callable[[], Any], process: _Process) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            assert process.popen.poll() is None, process.log
            assert time.monotonic() < deadline, process.log
            time.sleep(0.05)

    def stop(self) -> None:
        """Kill all of them."""
        for process in (*self.workers, self.scheduler):
            process.stop()
