"""Whether anybody still waits for the task that this thread runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from daskmr.errors import TaskFailed

__all__ = ["check_wanted", "while_wanted"]

_T = TypeVar("_T")


def check_wanted() -> None:
    """Raise TaskFailed when the job that this task is of was interrupted, or has failed.

    Dask cannot stop a task that runs: it would keep a worker of a cluster busy for nobody.
    """
    worker = _worker()
    if worker is not None:
        _check(worker, worker.get_current_task())


def while_wanted(items: Iterable[_T]) -> Iterator[_T]:
    """Pass `items` on, until nobody waits for what becomes of them.

    >>> list(while_wanted("abc"))
    ['a', 'b', 'c']
    """
    worker = _worker()  # the same for all items, as is the task
    key = None if worker is None else worker.get_current_task()
    for item in items:
        if worker is not None:
            _check(worker, key)
        yield item


def _worker() -> Any:
    if "distributed.worker" not in sys.modules:
        return None
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:  # an inline job
        return None


def _check(worker: Any, key: object) -> None:
    task = worker.state.tasks.get(key)
    if task is None or task.state == "cancelled":
        raise TaskFailed("The job that this task belongs to has ended.")
