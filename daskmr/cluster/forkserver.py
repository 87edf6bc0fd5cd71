"""Start the forkserver of multiprocessing early: the process that workers are forked from.

It imports what workers need while the main process does its own imports.
"""

from __future__ import annotations

import fcntl
import functools
import glob
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import spawn

from daskmr.environment import environment
from daskmr.files import sweep
from daskmr.search_path import python_path
from daskmr.signals import on_hard_exit
from daskmr.store.credentials import unset

__all__ = [
    "MALLOC", "PARAMETERS", "SAFE_PATH", "is_available", "prewarm",
]  # fmt: skip

PARAMETERS = "DASKMR_FORKSERVER"
"""Environment variable with the parameters of `daskmr.cluster.preload`, as JSON."""

_SOCKET_LOCK = "daskmr-lock"

# With Dask's own threshold of 64 KiB, each chunk and each document of a file is allocated from the
# system and returned to it, which took a third of the time of a map over large documents.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20), "MALLOC_TRIM_THRESHOLD_": str(8 << 20)}

# Read when a process or a library starts, so they must be set before the forkserver starts.
_WORKER_ENVIRONMENT = {
    **MALLOC,
    "DASK_LOGGING__DISTRIBUTED": "critical",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# Multiprocessing starts its processes with `python -c`, which imports from the working directory.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}

_fails = False  # True if, for example, the path of TMPDIR is too long for a socket

# The resource tracker removes the semaphores of killed workers, and would warn about each.
_QUIET_TRACKER = {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}


def prewarm(processes: bool = True) -> None:
    """Start the process that workers will be forked from, and have it import what they need.

    Call this as early as possible: its imports then run in parallel with those of this process, and
    a worker later starts in a tenth of a second. A second call costs nothing. If the forkserver
    fails, workers are spawned. If `processes` is false, nothing is started.
    """
    if not processes or not is_available():
        return
    from multiprocessing import forkserver, resource_tracker

    try:
        _remove_socket_at_end()
        multiprocessing.set_forkserver_preload(["daskmr.cluster.preload"])
        # Started first and on its own, because its start unblocks the signals blocked below.
        with environment({**_QUIET_TRACKER, **_search_path(), **unset()}), _blocked(signal.SIGHUP):
            resource_tracker.ensure_running()
        # Workers get credentials from their nannies; inherited ones would stay visible until the end.
        with (
            environment({**_forkserver_environment(), **unset()}),
            _blocked(signal.SIGINT, signal.SIGHUP),
        ):
            forkserver.ensure_running()
    except OSError as error:
        import logging

        global _fails
        _fails = True
        logging.getLogger(__name__).warning(
            "No forkserver (%s); workers will take longer to start.", error
        )
    with suppress(OSError):  # there is no folder for temporary files
        _sweep_sockets()


@functools.cache
def _remove_socket_at_end() -> None:
    """Remove the folder of the forkserver's socket even if the process skips Python's clean-up.

    A killed process leaves the folder behind, but its lock is free then.
    """
    from multiprocessing import util

    with _blocked(signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        folder = util.get_temp_dir()
        path = os.path.join(folder, _SOCKET_LOCK)
        lock = os.open(f"{path}.new", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(f"{path}.new", path)  # so that another run's sweep never finds it unlocked
        on_hard_exit(functools.partial(shutil.rmtree, folder, ignore_errors=True))


def _sweep_sockets() -> None:
    """Remove the socket folders that this user's killed runs left behind."""
    from multiprocessing import util

    beside = glob.escape(os.path.dirname(util.get_temp_dir()))
    for path in glob.iglob(os.path.join(beside, "pymp-*", _SOCKET_LOCK)):
        sweep(path, functools.partial(shutil.rmtree, os.path.dirname(path), ignore_errors=True))


def is_available() -> bool:
    """Check whether workers can be forked; otherwise they are spawned."""
    return not _fails


def _forkserver_environment() -> dict[str, str]:
    """Return the environment of the forkserver; `daskmr.cluster.preload` undoes it after its imports."""
    variables = {name: os.environ.get(name, value) for name, value in _WORKER_ENVIRONMENT.items()}
    variables |= _search_path()
    main = spawn.get_preparation_data("worker")
    handed_over = {
        # The kernel ties a child to the thread that started it, and only the main thread lasts.
        "parent": os.getpid() if threading.current_thread() is threading.main_thread() else None,
        "main_path": main.get("init_main_from_path"),
        "main_name": main.get("init_main_from_name"),
        "environment": {name: os.environ.get(name) for name in variables},
    }
    return variables | {PARAMETERS: json.dumps(handed_over)}


def _search_path() -> dict[str, str]:
    return {"PYTHONPATH": python_path(), **SAFE_PATH}


@contextmanager
def _blocked(*signals: signal.Signals) -> Iterator[None]:
    """Block signals in this process and its children: a terminal sends them to all processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signals))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
