"""The files of a partition, fetched ahead of the one that maps them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, TypeAlias, TypeVar

from daskmr.data.cache.cache import Cache, Local
from daskmr.data.cache.fetcher import Fetcher, FetcherLost
from daskmr.data.listing import InputFile
from daskmr.data.partition import LOOK_AHEAD
from daskmr.data.paths import Unplaceable
from daskmr.store.store import FileTarget, InMemory, Store

__all__ = ["AT_ONCE", "Prefetcher"]

T = TypeVar("T")

AT_ONCE = 8
_MOST_AHEAD = 64  # files that are fetched, or waited for, before their turn
_NOTES = 20


_Got: TypeAlias = "Local | InMemory | Unplaceable | None"  # None: to be read as it comes


class Prefetcher:
    """Has the files of a partition at hand, in order, while the next ones are on their way.

    Used in a ``with`` block, by one thread. Nothing is asked of the store while all files are in
    the cache.

    Parameters
    ----------
    cache : Cache or None
        Where they are kept. Without one they are fetched into memory, those that are larger than
        `budget_bytes` as they are read.
    open_store : callable
        Gives the store; called when it is first needed. It stays open.
    files : iterable of InputFile
        What will be taken, in this order.
    budget_bytes : int
        How many bytes may be ahead; one file always may.
    fetcher : Fetcher, optional
        Fetches for this process as soon as it is ready.
    at_once : int
        How many files are fetched at the same time.
    ahead : sequence of InputFile
        What `fetcher` goes on with when all of `files` is on its way, for whoever takes it later.
    began : float, optional
        When the run began, in seconds since 1970. What others may have fetched ahead for this one
        counts as fetched here, if it was since then.

    Attributes
    ----------
    fetched, fetched_bytes : int
        Files that came from the store, and their size; each counts where it is taken.
    notes : list of str
        What there is to say of some of them: the first few of `note_count`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from daskmr.store.store import parse_source
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a").write_text("text")
    ...     with Store(parse_source(f"file://{folder}")) as store:
    ...         (entry,) = next(store.list(""))
    ...         file = InputFile("a", entry.size, (), entry.etag, entry.mtime)
    ...         with Prefetcher(None, lambda: store, [file], 1000) as ahead:
    ...             ahead.take(file).read()
    b'text'
    """

    def __init__(
        self,
        cache: Cache | None,
        open_store: Callable[[], Store],
        files: Iterable[InputFile],
        budget_bytes: int,
        fetcher: Fetcher | None = None,
        at_once: int = AT_ONCE,
        ahead: Sequence[InputFile] = (),
        began: float | None = None,
    ) -> None:
        self._cache = cache
        self._open_store = open_store
        self._budget = budget_bytes
        self._files = deque(files)
        self._fetcher = fetcher if cache is not None else None
        self._began = began  # also without a fetcher: it may have been lost since
        self._maybe_ahead = {file.path for file in islice(self._files, LOOK_AHEAD)}
        self._later = deque(ahead if self._fetcher is not None else ())
        self._later_bytes = 0
        if self._fetcher is not None:
            self._fetcher.tidy()
        self._waiting = deque(self._absent())
        self._started: dict[str, tuple[InputFile, asyncio.Task[_Got] | None]] = {}  # None: beside
        self._ahead = 0
        self._turns = asyncio.Semaphore(at_once)
        self._store: Store | None = None
        self._stream: BinaryIO | None = None
        self.fetched = 0
        self.fetched_bytes = 0
        self.notes: list[str] = []
        self.note_count = 0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[InputFile, str | BinaryIO]]:
        while self._files:
            file = self._files[0]
            yield file, self.take(file)

    def take(self, file: InputFile) -> str | BinaryIO:
        """Have `file`, whose turn it is; those before it that were not taken are dropped.

        A failure leaves the others as they are: one may go on with the next.

        Parameters
        ----------
        file : InputFile

        Returns
        -------
        str or binary file
            Its path in the cache; or, without a cache, its bytes, until the next one is taken.

        Raises
        ------
        StoreError
            What became of it: `MissingObject`, `ChangedObject`, or what retrying did not mend.
        JobError
            What became of the cache.
        """
        self._let_go()
        self._drop_until(file)
        self._start_next()
        if file.path not in self._started:
            return self._give(file, self._run_now(file))
        got = self._wait_for(file)
        if isinstance(got, Local) and self._cache is not None and not self._cache.present(file):
            got = self._run_now(file)  # another process has removed it since
        return self._give(file, got)

    def close(self) -> None:
        """Stop what is on its way, and wait until it has left nothing behind; idempotent."""
        self._let_go()
        self._waiting.clear()
        self._cancel([*self._started])

    # --- in the thread that takes -----------------------------------------------------------------

    def _absent(self) -> Iterable[InputFile]:
        """What has to be fetched, ahead of its turn."""
        if self._cache is not None:
            return self._cache.state(self._files, use=False).absent
        return [file for file in self._files if file.size <= self._budget]

    def _wait_for(self, file: InputFile) -> _Got:
        """Have a file that was started, and let others take its room."""
        _, task = self._started[file.path]
        if task is None:
            return self._wait_beside(file)
        if not task.done():
            self._run(_finished(task))  # an interruption leaves the task to `close`
        self._forget(file.path)
        return task.result()

    def _wait_beside(self, file: InputFile) -> _Got:
        assert self._fetcher is not None
        try:
            got: _Got = self._fetcher.result(file)
        except FetcherLost:
            self._lose_fetcher()
            return self._run_now(file)
        except Unplaceable as error:
            got = error
        except BaseException as error:
            if isinstance(error, Exception):
                self._forget(file.path)  # not when interrupted: `close` stops it
            raise
        self._forget(file.path)
        return got

    def _lose_fetcher(self) -> None:
        """Go on without it."""
        self._fetcher = None
        lost = {path for path, (_, task) in self._started.items() if task is None}
        for path in lost:
            self._forget(path)
        self._maybe_ahead |= lost  # it may have fetched what it could not tell of any more
        self._waiting.extendleft(reversed([file for file in self._files if file.path in lost]))

    def _run_now(self, file: InputFile) -> _Got:
        """Have a file that was not fetched ahead: it was there, or it is too large."""
        if self._cache is None:
            return None
        path = self._cache.present(file)
        return Local(path) if path is not None else self._run(self._fetch(file))

    def _give(self, file: InputFile, got: _Got) -> str | BinaryIO:
        if isinstance(got, Local):
            if got.note:
                self._note(got.note)
            if got.fetched or self._was_fetched_ahead(file):
                self._count(file)
            return got.path
        if isinstance(got, Unplaceable):
            self._note(f"{got} It was read from the store instead.")
            got = None
        self._stream = got or self._open().open(file.path, file.etag, file.size)
        self._count(file)
        return self._stream

    def _was_fetched_ahead(self, file: InputFile) -> bool:
        """Whether it came from the store in this run, before its partition's turn.

        Where two runs share a work dir, one may count what the other has fetched meanwhile.
        """
        if self._began is None or self._cache is None or file.path not in self._maybe_ahead:
            return False
        return self._cache.was_fetched_since(file, self._began)

    def _drop_until(self, file: InputFile) -> None:
        dropped = []
        while self._files and self._files[0] != file:
            dropped.append(self._files.popleft())
        if not self._files:
            self._files.extend(dropped)
            raise ValueError(f"{file.path} is not among the files that are still to be taken.")
        self._files.popleft()
        gone = {other.path for other in dropped}
        while self._waiting and self._waiting[0].path in gone:
            self._waiting.popleft()
        self._cancel([*gone & self._started.keys()])

    def _cancel(self, paths: list[str]) -> None:
        """Stop what is on its way, and wait until it has left nothing behind."""
        started = [self._started[path] for path in paths]
        for path in paths:
            self._forget(path)
        if tasks := [task for _, task in started if task is not None]:
            self._run(_cancelled(tasks))
        if self._fetcher is not None:
            try:
                self._fetcher.cancel(file for file, task in started if task is None)
            except FetcherLost:
                self._lose_fetcher()

    def _forget(self, path: str) -> None:
        file, _ = self._started.pop(path)
        self._ahead -= file.size

    def _start_next(self) -> None:
        """Put on their way as many files as there is room for."""
        chosen: list[InputFile] = []
        while self._waiting and len(self._started) + len(chosen) < _MOST_AHEAD:
            file = self._waiting[0]
            if self._ahead and self._ahead + file.size > self._budget:
                break
            self._ahead += file.size
            chosen.append(self._waiting.popleft())
        if chosen and (self._fetcher is None or not self._fetcher.ready):
            self._run(self._start(chosen))
            return
        self._started.update((file.path, (file, None)) for file in chosen)
        chosen += self._choose_later()
        if not chosen:
            return
        assert self._fetcher is not None
        try:
            self._fetcher.start(chosen)
        except FetcherLost:
            self._lose_fetcher()

    def _choose_later(self) -> list[InputFile]:
        """Take what there is room for of what comes after this partition.

        It is not waited for, nor stopped in the end: who takes it finds it, or waits for it then.
        """
        if self._waiting or not self._later or self._fetcher is None or not self._fetcher.ready:
            return []
        if not self._later_bytes:
            assert self._cache is not None
            self._later = deque(self._cache.state(self._later, use=False).absent)
        chosen = []
        while self._later:
            size = self._later[0].size
            if self._ahead + self._later_bytes + size > self._budget:
                break
            self._later_bytes += size
            chosen.append(self._later.popleft())
        return chosen

    def _count(self, file: InputFile) -> None:
        self.fetched += 1
        self.fetched_bytes += file.size

    def _note(self, note: str) -> None:
        self.note_count += 1
        if len(self.notes) < _NOTES:
            self.notes.append(note)

    def _let_go(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._open().run(coroutine)

    def _open(self) -> Store:
        if self._store is None:
            self._store = self._open_store()
        return self._store

    # --- on the loop of the store -----------------------------------------------------------------

    async def _start(self, files: list[InputFile]) -> None:
        for file in files:
            self._started[file.path] = file, asyncio.create_task(self._fetch(file))

    async def _fetch(self, file: InputFile) -> _Got:
        async with self._turns:
            store = self._open()
            if self._cache is not None:
                try:
                    return await self._cache.fetch_async(store, file)
                except Unplaceable as error:
                    return error
            whole = InMemory(f"{store.source.url}/{file.path}")
            await store.fetch_async(file.path, file.etag, file.size, FileTarget(whole))
            whole.seek(0)
            return whole


async def _finished(task: asyncio.Task[_Got]) -> None:
    await asyncio.wait({task})


async def _cancelled(tasks: list[asyncio.Task[_Got]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
