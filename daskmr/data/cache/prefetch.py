"""Fetch the files of a partition before they are mapped."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import BinaryIO, TypeAlias, TypeVar

from daskmr.data.cache.cache import Cache, Local
from daskmr.data.cache.fetcher import Fetcher, FetcherLost
from daskmr.data.listing import InputFile
from daskmr.data.partition import LOOK_AHEAD
from daskmr.data.paths import Unplaceable
from daskmr.store.store import InMemory, Store

__all__ = ["AT_ONCE", "Prefetcher"]

T = TypeVar("T")

AT_ONCE = 8  # number of files that are fetched at the same time
_MOST_AHEAD = 64  # maximum number of files to fetch ahead
_NOTES = 20

_Outcome: TypeAlias = "Local | InMemory | Unplaceable | None"  # None: stream the file
_Task: TypeAlias = "asyncio.Task[_Outcome]"
_Started: TypeAlias = "dict[str, tuple[InputFile, _Task | None]]"  # None: fetched by the fetcher


class Prefetcher:
    """Returns the files of a partition in order, while the next ones are being fetched.

    Use it in a ``with`` block, in one thread. If all files are in the cache, no request is made.

    - `cache`: the cache for the files. Without it, files are fetched into memory, or streamed if
      they are larger than `budget_bytes`.
    - `open_store`: returns the store; called when it is first needed. The store stays open.
    - `files`: the files to take, in this order.
    - `budget_bytes`: maximum number of bytes to fetch ahead; one file may exceed it.
    - `fetcher`: the process that fetches for this one, once it is ready.
    - `at_once`: maximum number of files to fetch at the same time.
    - `ahead`: files of later partitions, which `fetcher` fetches after all of `files`.
    - `began`: start of the run, in Unix seconds. Files of this partition that were fetched ahead
      since then count as fetched here.
    - `fetched`, `fetched_bytes`: number of files that came from the store, and their size; each
      file counts when it is taken.
    - `notes`: the first few of `note_count` remarks about the files.

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
        self._local = _LocalFetches(cache, open_store, at_once)
        self._budget = budget_bytes
        self._files = deque(files)
        self._fetcher = fetcher if cache is not None else None
        self._began = began  # used without a fetcher too, which may have been lost
        self._maybe_ahead = {file.path for file in islice(self._files, LOOK_AHEAD)}
        # Files of later partitions; their own tasks wait for them and cancel them.
        self._later = deque(ahead if self._fetcher is not None else ())
        self._later_bytes = 0  # size of those that were requested
        if self._fetcher is not None:
            self._fetcher.tidy()
        self._waiting = deque(self._absent())
        self._started: _Started = {}
        self._ahead = 0
        self._stream: BinaryIO | None = None
        self.fetched = 0
        self.fetched_bytes = 0
        self.notes: list[str] = []
        self.note_count = 0

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[tuple[InputFile, str | BinaryIO]]:
        while self._files:
            file = self._files[0]
            yield file, self.take(file)

    def take(self, file: InputFile) -> str | BinaryIO:
        """Take `file`, and drop the files before it that were not taken.

        After a failure, later files can still be taken.

        Returns its path in the cache; without a cache, a stream, which is open until the next take.
        Raises `StoreError`, `JobError`.
        """
        self._close_stream()
        self._drop_until(file)
        self._start_next()
        if file.path not in self._started:
            return self._give(file, self._run_now(file))
        got = self._wait_for(file)
        if isinstance(got, Local) and self._cache is not None and not self._cache.present(file):
            got = self._run_now(file)  # another process has removed it
        return self._give(file, got)

    def close(self) -> None:
        """Cancel all fetches, and wait until they have ended; idempotent."""
        self._close_stream()
        self._waiting.clear()
        self._cancel([*self._started])

    def _absent(self) -> Iterable[InputFile]:
        if self._cache is not None:
            return self._cache.state(self._files, use=False).absent
        return [file for file in self._files if file.size <= self._budget]

    def _wait_for(self, file: InputFile) -> _Outcome:
        """Wait for a file whose fetch was started, and release its share of the budget."""
        _, task = self._started[file.path]
        if task is None:
            return self._wait_for_fetcher(file)
        self._local.wait(task)  # after an interruption, `close` cancels the task
        self._forget(file.path)
        return task.result()

    def _wait_for_fetcher(self, file: InputFile) -> _Outcome:
        assert self._fetcher is not None
        try:
            got: _Outcome = self._fetcher.result(file)
        except FetcherLost:
            self._lose_fetcher()
            return self._run_now(file)
        except Unplaceable as error:
            got = error
        except Exception:  # after an interruption, `close` cancels the fetch
            self._forget(file.path)
            raise
        self._forget(file.path)
        return got

    def _lose_fetcher(self) -> None:
        self._fetcher = None
        lost = {path for path, (_, task) in self._started.items() if task is None}
        for path in lost:
            self._forget(path)
        self._maybe_ahead |= lost  # it may have fetched them without reporting this
        self._waiting.extendleft(reversed([file for file in self._files if file.path in lost]))

    def _run_now(self, file: InputFile) -> _Outcome:
        """Return a file that was not fetched ahead, because it was in the cache or is too large."""
        if self._cache is None:
            return None
        path = self._cache.present(file)
        return Local(path) if path is not None else self._local.fetch(file)

    def _give(self, file: InputFile, got: _Outcome) -> str | BinaryIO:
        if isinstance(got, Local):
            if got.note:
                self._note(got.note)
            if got.fetched or self._was_fetched_ahead(file):
                self._count(file)
            return got.path
        if isinstance(got, Unplaceable):
            self._note(f"{got} It was streamed from the store instead.")
            got = None
        self._stream = got or self._local.store.open(file.path, file.etag, file.size)
        self._count(file)
        return self._stream

    def _was_fetched_ahead(self, file: InputFile) -> bool:
        """Check whether a file was fetched since this run began, by this run or a concurrent one."""
        if self._began is None or self._cache is None or file.path not in self._maybe_ahead:
            return False
        copy = self._cache.manifest.find(file.path)
        return copy is not None and copy.own and copy.fetched >= self._began

    def _drop_until(self, file: InputFile) -> None:
        if file not in self._files:
            raise ValueError(f"{file.path} is not among the remaining files.")
        gone = set()
        while (first := self._files.popleft()) != file:
            gone.add(first.path)
        while self._waiting and self._waiting[0].path in gone:
            self._waiting.popleft()
        self._cancel([*gone & self._started.keys()])

    def _cancel(self, paths: list[str]) -> None:
        """Cancel fetches, and wait until they have cleaned up."""
        started = [self._started[path] for path in paths]
        for path in paths:
            self._forget(path)
        if tasks := [task for _, task in started if task is not None]:
            self._local.cancel(tasks)
        if self._fetcher is not None:
            try:
                self._fetcher.cancel(file for file, task in started if task is None)
            except FetcherLost:
                self._lose_fetcher()

    def _forget(self, path: str) -> None:
        file, _ = self._started.pop(path)
        self._ahead -= file.size

    def _start_next(self) -> None:
        """Start fetching as many files as the budget allows."""
        chosen: list[InputFile] = []
        while self._waiting and len(self._started) + len(chosen) < _MOST_AHEAD:
            file = self._waiting[0]
            if self._ahead and self._ahead + file.size > self._budget:
                break
            self._ahead += file.size
            chosen.append(self._waiting.popleft())
        if self._fetcher is None or not self._fetcher.ready:
            if chosen:
                self._local.start(chosen, self._started)
            return
        self._started.update((file.path, (file, None)) for file in chosen)
        if not self._waiting:
            chosen += self._take_later()
        try:
            self._fetcher.start(chosen)
        except FetcherLost:
            self._lose_fetcher()

    def _take_later(self) -> Iterator[InputFile]:
        """Yield the next files of later partitions that fit into the budget."""
        if self._later and not self._later_bytes:
            assert self._cache is not None
            self._later = deque(self._cache.state(self._later, use=False).absent)
        while self._later and self._ahead + self._later_bytes + self._later[0].size <= self._budget:
            self._later_bytes += self._later[0].size
            yield self._later.popleft()

    def _count(self, file: InputFile) -> None:
        self.fetched += 1
        self.fetched_bytes += file.size

    def _note(self, note: str) -> None:
        self.note_count += 1
        if len(self.notes) < _NOTES:
            self.notes.append(note)

    def _close_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class _LocalFetches:
    """The fetches that run in this process, as tasks on the store's event loop."""

    def __init__(self, cache: Cache | None, open_store: Callable[[], Store], at_once: int) -> None:
        self._cache = cache
        self._open_store = open_store
        self._semaphore = asyncio.Semaphore(at_once)

    @cached_property
    def store(self) -> Store:
        return self._open_store()

    def fetch(self, file: InputFile) -> _Outcome:
        return self.store.run(self._fetch(file))

    def start(self, files: list[InputFile], started: _Started) -> None:
        async def start() -> None:
            for file in files:  # add tasks one by one, so that an interruption loses none
                started[file.path] = file, asyncio.create_task(self._fetch(file))

        self.store.run(start())

    def wait(self, task: _Task) -> None:
        if not task.done():
            self.store.run(asyncio.wait({task}))

    def cancel(self, tasks: list[_Task]) -> None:
        """Cancel tasks, and wait until they have cleaned up."""

        async def cancel() -> None:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.store.run(cancel())

    async def _fetch(self, file: InputFile) -> _Outcome:
        async with self._semaphore:
            store = self.store
            if self._cache is not None:
                try:
                    return await self._cache.fetch_async(store, file)
                except Unplaceable as error:
                    return error
            buffer = InMemory(f"{store.source.url}/{file.path}")
            await store.fetch_async(file.path, file.etag, file.size, buffer)
            buffer.seek(0)
            return buffer
