"""The Dask worker that runs the current task, if any, and the cancellation of that task."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from daskmr.errors import TaskFailed

__all__ = [
    "check_cancelled", "current_worker", "describe_worker", "until_cancelled", "worker_address",
    "worker_name",
]  # fmt: skip

_T = TypeVar("_T")


def current_worker() -> Any:
    """Return the Dask worker that runs the task of this thread; ``None`` without one."""
    module = sys.modules.get("distributed.worker")
    if module is None:  # importing it would delay an inline job by a second
        return None
    try:
        return module.get_worker()
    except ValueError:  # this is not a Dask task
        return None


def worker_name() -> str:
    """Return the name of this process on its cluster; ``"inline"`` without one."""
    worker = current_worker()
    return "inline" if worker is None else str(worker.name)


def worker_address() -> str:
    """Return the address of this process on its cluster; ``""`` without one."""
    worker = current_worker()
    return "" if worker is None else str(worker.address)


def describe_worker() -> str:
    """Describe the worker that this task runs on, and its host."""
    worker = current_worker()
    name = "this process" if worker is None else f"the worker {worker.address}"
    return f"{name} on host {socket.gethostname()}"


def check_cancelled() -> None:
    """Raise TaskFailed if the client has cancelled the task of this thread.

    Dask cannot stop a running task, which would keep a worker of a cluster busy for nothing.
    """
    worker = current_worker()
    if worker is not None:
        _check(worker, worker.get_current_task())


def until_cancelled(items: Iterable[_T]) -> Iterator[_T]:
    """Pass `items` on, and raise TaskFailed if the client has cancelled the task."""
    worker = current_worker()  # the same for all items, as is the task
    key = None if worker is None else worker.get_current_task()
    for item in items:
        if worker is not None:
            _check(worker, key)
        yield item


def _check(worker: Any, key: object) -> None:
    task = worker.state.tasks.get(key)
    if task is None or task.state == "cancelled":
        raise TaskFailed("The job that this task belongs to has ended.")
