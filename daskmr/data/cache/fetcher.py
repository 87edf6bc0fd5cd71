"""A process beside a worker that fetches for it, so that requests take no time of what maps.

A request costs some milliseconds of Python, which in the worker would hold the GIL. The process is one
of its own and no fork: a worker has threads. It ends when its worker does, as the pipe between them
ends. A worker that has none yet, or has lost its own, fetches itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, TypeAlias

from daskmr.data.cache.cache import Cache, Local
from daskmr.data.listing import InputFile
from daskmr.errors import DaskMRError, JobError
from daskmr.search_path import python_path
from daskmr.store.credentials import for_workers, unset
from daskmr.store.source import Source

if TYPE_CHECKING:
    import asyncio

    from daskmr.store.store import Store

__all__ = ["Fetcher", "FetcherLost", "Order", "fetcher_for"]

_PROGRAM = "from daskmr.data.cache.fetcher import main; main()"
_SILENT = 15.0  # seconds until it is asked whether it lives, and as many to answer that
_SECONDS_TO_END = 3.0
_SECONDS_TO_TIDY = 10.0  # which a slow disk may take
_READY = "ready"
_ENDED = "ended"
_LIVES = "lives"

Outcome: TypeAlias = "Local | DaskMRError"


class FetcherLost(Exception):
    """The process is gone, or what it says cannot be followed any more: fetch without it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What a fetching process is told first. It holds no secret, and may be pickled.

    Attributes
    ----------
    source : Source
    retries : int
        How often a request is tried again.
    cache_root : str
        The data dir of the local copies.
    at_once : int
        Files that are fetched at the same time.
    """

    source: Source
    retries: int
    cache_root: str
    at_once: int


class Fetcher:
    """The worker's end: files are asked for, and their outcomes taken, by one thread.

    Parameters
    ----------
    order : Order

    Attributes
    ----------
    lost : bool
        Whether it is of no use any more.
    """

    def __init__(self, order: Order) -> None:
        self.lost = False
        self._ready = False
        self._within = False  # a message: one that was cut off by an exception leaves no order
        self._asked: dict[str, InputFile] = {}
        self._done: dict[str, Outcome] = {}
        self._connection, other = Pipe()
        with other:
            self._process = subprocess.Popen(
                # Without the current directory, whose files may be called like modules.
                [sys.executable, "-P", "-c", _PROGRAM, str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=_environment(),
            )
        self._send((for_workers(), order))

    @property
    def ready(self) -> bool:
        """Whether it has started, and can be asked; it is not waited for."""
        try:
            while not self.lost and not self._ready and self._connection.poll():
                self._take()
        except FetcherLost:
            return False
        return self._ready and not self.lost

    def known(self, file: InputFile) -> bool:
        """Whether it was asked for `file`, whose outcome nobody has taken."""
        return self._asked.get(file.path) == file

    def start(self, files: Iterable[InputFile]) -> None:
        """Ask for files, unless that was done.

        Raises
        ------
        FetcherLost
        """
        new = [file for file in files if not self.known(file)]
        self._drop([file.path for file in new if file.path in self._asked])
        self._asked.update((file.path, file) for file in new)
        if new:
            self._send((new, ()))

    def tidy(self) -> None:
        """Forget the outcomes that nobody has taken, of files that are in the cache by now, or not."""
        with suppress(FetcherLost):
            while not self.lost and self._connection.poll():
                self._take()
        for path in list(self._done):
            self._forget(path)

    def result(self, file: InputFile) -> Local:
        """Wait for a file that was asked for, and is so no more.

        Raises
        ------
        FetcherLost
        DaskMRError
            Why it could not be fetched.
        """
        while file.path not in self._done:
            self._take()
        outcome = self._forget(file.path)
        if isinstance(outcome, DaskMRError):
            raise outcome
        assert outcome is not None
        return outcome

    def cancel(self, files: Iterable[InputFile]) -> None:
        """Stop `files`, and wait until they have left nothing behind."""
        self._drop([file.path for file in files if self.known(file)])

    def close(self) -> None:
        """End the process, and wait for that; idempotent."""
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
            while self._take() != _ENDED:
                pass
        for path in paths:
            self._forget(path)

    def _forget(self, path: str) -> Outcome | None:
        self._asked.pop(path, None)
        return self._done.pop(path, None)

    def _send(self, message: object) -> None:
        self._begin()
        try:
            self._connection.send(message)
        except OSError:
            self._lose()
        self._within = False

    def _take(self) -> object:
        """Wait for one message."""
        self._begin()
        try:
            if not self._connection.poll(_SILENT):
                self._connection.send(_LIVES)  # it may be stopped, and then nothing is heard ever
                if not self._connection.poll(_SILENT):
                    self._lose()
            message = self._connection.recv()
        except (EOFError, OSError):
            self._lose()
        self._within = False
        if isinstance(message, tuple):
            path, outcome = message
            self._done[path] = outcome
        self._ready = True
        return message

    def _begin(self) -> None:
        if self.lost or self._within:
            self._lose()
        self._within = True

    def _lose(self) -> None:
        """Be sure that it writes nothing any more, and holds no claim."""
        self._process.kill()
        self.close()
        self._asked.clear()
        self._done.clear()
        raise FetcherLost


def _environment() -> dict[str, str]:
    """Without credentials, which it is given later; with this package, also where not installed."""
    environment = {name: value for name, value in os.environ.items() if name not in unset()}
    return environment | {"PYTHONPATH": python_path()}


_fetchers: dict[tuple[int, Order], Fetcher] = {}  # by process


def fetcher_for(order: Order) -> Fetcher | None:
    """Give the one of this process for `order`, which begins to start when first asked for.

    Returns
    -------
    Fetcher or None
        ``None`` when it was lost: what killed it may kill another.
    """
    key = os.getpid(), order
    if key not in _fetchers:
        for other in [other for other in _fetchers if other[0] == os.getpid()]:
            _fetchers.pop(other).close()  # of an earlier run
        _fetchers[key] = Fetcher(order)
    fetcher = _fetchers[key]
    return None if fetcher.lost else fetcher


# --- in the process itself ------------------------------------------------------------------------


class _Work:
    """What it has under way, on the loop of its store."""

    def __init__(self, connection: Connection, store: Store, cache: Cache, order: Order) -> None:
        import asyncio

        self._connection = connection
        self._store = store
        self._cache = cache
        self._turns = asyncio.Semaphore(order.at_once)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def take(self, message: Any) -> None:
        """Do what the worker asks for."""
        import asyncio

        if message == _LIVES:
            self._say(_LIVES)
            return
        started, cancelled = message
        for file in started:
            self._tasks[file.path] = asyncio.create_task(self._fetch(file))
        if cancelled:
            tasks = [self._tasks[path] for path in cancelled if path in self._tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._say(_ENDED)

    async def end(self) -> None:
        """Stop all, and give it time to leave nothing behind."""
        import asyncio

        tasks = set(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_SECONDS_TO_TIDY)

    async def _fetch(self, file: InputFile) -> None:
        outcome: Outcome
        try:
            async with self._turns:
                outcome = await self._cache.fetch_async(self._store, file)
        except DaskMRError as error:
            outcome = error
        except Exception as error:  # told by whoever needs the file, in this process or another
            outcome = JobError(f"{file.path} cannot be fetched: {type(error).__name__}: {error}")
        finally:
            self._tasks.pop(file.path, None)
        self._say((file.path, outcome))

    def _say(self, message: object) -> None:
        with suppress(OSError):  # the worker is gone, which `_serve` notices too
            self._connection.send(message)


def _serve(connection: Connection) -> None:
    from daskmr.store.store import Store

    environment, order = connection.recv()
    os.environ.update(environment)
    with Cache(order.cache_root) as cache, Store(order.source, order.retries) as store:
        store.warm_up()
        work = _Work(connection, store, cache, order)
        connection.send(_READY)
        try:
            while True:
                store.run(work.take(connection.recv()))
        finally:
            store.run(work.end())


def main() -> None:
    """Fetch what the process at the other end of the pipe asks for, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the worker, which ends this
    try:
        _serve(Connection(int(sys.argv[1])))
    except (EOFError, OSError, DaskMRError):
        # The worker has ended; or it fetches itself, and tells what is wrong. The store is closed
        # by now, and threads that may still wait for a disk are not waited for.
        os._exit(0)
