"""The open stores of this process: one for each source, shared by all its users."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daskmr.store.source import Source

if TYPE_CHECKING:
    from daskmr.store.store import Store

__all__ = ["close_stores", "shared_store", "stores_closed"]

# The keys include the process ID: stores inherited by a fork belong to its parent.
_stores: dict[tuple[int, Source, int], Store] = {}
_jobs = 0
_lock = threading.Lock()


def shared_store(source: Source, retries: int) -> Store:
    """Return this process's store of `source`, which is opened on the first call."""
    from daskmr.store.store import Store  # deferred: a job on local files does not need it

    key = os.getpid(), source, retries
    with _lock:
        if key not in _stores:
            _stores[key] = Store(source, retries)
        return _stores[key]


@contextmanager
def stores_closed() -> Iterator[None]:
    """Close the stores of this process at the end, unless another job is running in it.

    The stores of worker processes stay open for further tasks, until the process ends or calls
    `close_stores`.
    """
    global _jobs
    with _lock:
        _jobs += 1
    try:
        yield
    finally:
        with _lock:
            _jobs -= 1
        close_stores()


def close_stores() -> None:
    """Close the stores of this process, unless a job is running in it."""
    with _lock:
        own = [key for key in _stores if key[0] == os.getpid() and not _jobs]
        closing = [_stores.pop(key) for key in own]
    for store in closing:
        store.close()
