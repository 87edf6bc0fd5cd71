"""Whether anybody still waits for the task that this thread runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from daskmr.errors import TaskFailed

__all__ = ["check_wanted", "while_wanted"]

_T = TypeVar("_T")


def check_wanted() -> None:
    """Raise TaskFailed when the job that this task is of was interrupted, or has failed.

    Dask cannot stop a task that runs: it would keep a worker of a cluster busy for nobody.
    """
    if "distributed.worker" not in sys.modules:
        return
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # an inline job
        return
    task = worker.state.tasks.get(worker.get_current_task())
    if task is None or task.state == "cancelled":
        raise TaskFailed("The job that this task belongs to has ended.")


def while_wanted(items: Iterable[_T]) -> Iterator[_T]:
    """Pass `items` on, until nobody waits for what becomes of them.

    >>> list(while_wanted("abc"))
    ['a', 'b', 'c']
    """
    for item in items:
        check_wanted()
        yield item
