"""Fetch files in a separate process for each worker, so that requests do not slow down mapping.

A request takes a few milliseconds of Python code, during which the worker would hold the GIL. The
process is spawned, not forked, because a worker has threads. It ends with its worker, when the pipe
between them closes. If its fetcher has not started yet, or is lost, a worker fetches by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from daskmr.data.cache.cache import Cache, Local
from daskmr.data.listing import InputFile
from daskmr.errors import DaskMRError, JobError
from daskmr.search_path import python_path
from daskmr.store.credentials import for_workers, unset
from daskmr.store.source import Source
from daskmr.store.store import Store

__all__ = ["Control", "Fetcher", "FetcherLost", "Order", "fetcher_for"]

_PROGRAM = "from daskmr.data.cache.fetcher import main; main()"
_SILENT = 15.0  # seconds without a message until it is pinged, and then again for its answer
_SECONDS_TO_END = 3.0
_SECONDS_TO_CLEAN_UP = 10.0  # on a slow disk

Outcome: TypeAlias = "Local | DaskMRError"


class Control(Enum):
    """A message without content, in either direction."""

    READY = "the process has started"
    CANCELLED = "the cancelled fetches have ended"
    PING = "asks whether the process is alive, and is the answer"


class FetcherLost(Exception):
    """The process has ended, or its messages are out of sync: continue without it."""


@dataclass(frozen=True, slots=True)
class Order:
    """The first message to a fetching process. It holds no secret."""

    source: Source
    retries: int  # maximum number of retries of each request
    cache_root: str
    at_once: int  # maximum number of files fetched at the same time


class Fetcher:
    """The worker's connection to the process, for one thread; once ``lost``, it cannot be used."""

    def __init__(self, order: Order) -> None:
        self.lost = False
        self._ready = False
        self._in_message = False  # an exception within a message leaves the pipe out of sync
        self._asked: dict[str, InputFile] = {}
        self._done: dict[str, Outcome] = {}
        self._connection, other = Pipe()
        with other:
            self._process = subprocess.Popen(
                # -P: exclude the current directory, whose files may have the names of modules.
                [sys.executable, "-P", "-c", _PROGRAM, str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Exclude credentials, which are sent through the pipe.
                env={name: value for name, value in os.environ.items() if name not in unset()}
                | {"PYTHONPATH": python_path()},
            )
        self._send((for_workers(), order))

    @property
    def ready(self) -> bool:
        """Whether the process has started; do not wait for it."""
        try:
            while not self.lost and not self._ready and self._connection.poll():
                self._take()
        except FetcherLost:
            return False
        return self._ready and not self.lost

    def known(self, file: InputFile) -> bool:
        """Check whether `file` was requested, and its outcome has not been taken yet."""
        return self._asked.get(file.path) == file

    def start(self, files: Iterable[InputFile]) -> None:
        """Request files that are not requested yet; may raise FetcherLost."""
        new = [file for file in files if not self.known(file)]
        self._drop([file.path for file in new if file.path in self._asked])
        self._asked.update((file.path, file) for file in new)
        if new:
            self._send((new, ()))

    def tidy(self) -> None:
        """Discard all outcomes that have arrived but were not taken."""
        with suppress(FetcherLost):
            while not self.lost and self._connection.poll():
                self._take()
        for path in list(self._done):
            self._forget(path)

    def result(self, file: InputFile) -> Local:
        """Wait for a file that was requested, and take its outcome.

        Raises `FetcherLost`.
        Raises `DaskMRError`: the reason that it could not be fetched.
        """
        while file.path not in self._done:
            self._take()
        outcome = self._done[file.path]
        self._forget(file.path)
        if isinstance(outcome, DaskMRError):
            raise outcome
        return outcome

    def cancel(self, files: Iterable[InputFile]) -> None:
        """Cancel the fetches of `files`, and wait until they have cleaned up."""
        self._drop([file.path for file in files if self.known(file)])

    def close(self) -> None:
        """End the process and wait for it; idempotent."""
        self.lost = True
        self._connection.close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # --- messages ---------------------------------------------------------------------------------

    def _drop(self, paths: list[str]) -> None:
        under_way = [path for path in paths if path not in self._done]
        if under_way:
            self._send(((), under_way))
            while self._take() is not Control.CANCELLED:
                pass
        for path in paths:
            self._forget(path)

    def _forget(self, path: str) -> None:
        self._asked.pop(path, None)
        self._done.pop(path, None)

    def _send(self, message: object) -> None:
        with self._one_message():
            self._connection.send(message)

    def _take(self) -> object:
        """Wait for one message."""
        with self._one_message():
            if not self._connection.poll(_SILENT):
                self._connection.send(Control.PING)  # a stopped process would never answer
                if not self._connection.poll(_SILENT):
                    self._lose()
            message = self._connection.recv()
        if isinstance(message, tuple):
            path, outcome = message
            self._done[path] = outcome
        self._ready = True
        return message

    @contextmanager
    def _one_message(self) -> Iterator[None]:
        if self.lost or self._in_message:
            self._lose()
        self._in_message = True  # remains set after an interruption
        try:
            yield
        except (EOFError, OSError):
            self._lose()
        self._in_message = False

    def _lose(self) -> None:
        """Kill the process, so that it no longer writes or holds claims."""
        self._process.kill()
        self.close()
        self._asked.clear()
        self._done.clear()
        raise FetcherLost


_fetchers: dict[tuple[int, Order], Fetcher] = {}  # the key includes the process ID


def fetcher_for(order: Order) -> Fetcher | None:
    """Return this process's fetcher for `order`, which is started on the first call.

    Return ``None`` if it was lost: the cause may also kill a new one.
    """
    key = os.getpid(), order
    if key not in _fetchers:
        for other in [other for other in _fetchers if other[0] == os.getpid()]:
            _fetchers.pop(other).close()  # the fetcher of an earlier run
        _fetchers[key] = Fetcher(order)
    fetcher = _fetchers[key]
    return None if fetcher.lost else fetcher


# --- in the process itself ------------------------------------------------------------------------


class _Server:
    """The fetches of the process, on the event loop of its store."""

    def __init__(self, connection: Connection, store: Store, cache: Cache, order: Order) -> None:
        self._connection = connection
        self._store = store
        self._cache = cache
        self._semaphore = asyncio.Semaphore(order.at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def take(self, message: Any) -> None:
        """Handle a message from the worker: `Control.PING`, or files to fetch and paths to cancel."""
        if message is Control.PING:
            self._send(Control.PING)
            return
        started, cancelled = message
        for file in started:
            self._tasks[file.path] = asyncio.create_task(self._fetch(file))
        if cancelled:
            tasks = [self._tasks[path] for path in cancelled if path in self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._send(Control.CANCELLED)

    async def end(self) -> None:
        """Cancel all fetches, and give them time to clean up."""
        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_SECONDS_TO_CLEAN_UP)

    async def _fetch(self, file: InputFile) -> None:
        outcome: Outcome
        try:
            async with self._semaphore:
                outcome = await self._cache.fetch_async(self._store, file)
        except DaskMRError as error:
            outcome = error
        except Exception as error:  # the worker raises it when it takes the file
            outcome = JobError(f"{file.path} cannot be fetched: {type(error).__name__}: {error}")
        finally:
            self._tasks.pop(file.path, None)
        self._send((file.path, outcome))

    def _send(self, message: object) -> None:
        with suppress(OSError):  # the worker has ended; `_serve` notices this too
            self._connection.send(message)


def _serve(connection: Connection) -> None:
    environment, order = connection.recv()
    os.environ.update(environment)
    with Cache(order.cache_root) as cache, Store(order.source, order.retries) as store:
        store.warm_up()
        server = _Server(connection, store, cache, order)
        connection.send(Control.READY)
        try:
            while True:
                store.run(server.take(connection.recv()))
        finally:
            store.run(server.end())


def main() -> None:
    """Fetch the files that the worker at the other end of the pipe requests, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C, the worker ends this process
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, OSError, DaskMRError):
        # The worker has ended, or it will fetch by itself and report the failure. The store is
        # closed by now; do not wait for threads that may be blocked on a disk.
        os._exit(0)
