"""List, fetch and write objects: the only access to remote data.

A fetch returns only if its bytes are verified by their length, the listed ETag, and the digest if
the store has one.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from daskmr.errors import InputError
from daskmr.store.download import Backend, Download, Stream, Target
from daskmr.store.retry import RetryPolicy
from daskmr.store.source import (
    ChangedObject,
    Entry,
    MissingObject,
    Page,
    Source,
    StoreError,
    TransientError,
    parse_source,
)

if TYPE_CHECKING:
    from daskmr.store.event_loop import LoopThread

__all__ = [
    "ChangedObject", "Entry", "InMemory", "MissingObject", "Page", "Pagination", "Source", "Store",
    "StoreError", "Target", "parse_source",
]  # fmt: skip

T = TypeVar("T")

_BUFFERED_BYTES = 8 << 20  # `open` fetches objects up to this size into memory, with retries
_SECONDS_TO_CHECK = 20
_COPIES_AT_ONCE = 16
_DELETED_AT_ONCE = 1000  # the limit of S3 for one request
_MOST_IDLE = 1000  # consecutive pages without new entries, which deleted keys may cause


class InMemory(io.BytesIO):
    """A target that keeps an object in memory; ``name`` is the object's address.

    >>> target = InMemory("s3://bucket/a")
    >>> _ = target.write(b"par")
    >>> target.restart()
    >>> _ = target.write(b"complete")
    >>> target.getvalue()
    b'complete'
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def restart(self) -> None:
        self.seek(0)
        self.truncate()


class Store:
    """A connection to a source, for the process that created it.

    Its requests run on an event loop in its own thread. Call methods that end in ``_async`` there,
    in a coroutine that is passed to `run`; all others block, so call them in other threads. Paths
    are relative to the source.

    - `retries`: maximum number of retries of a request, with increasing waits.
    - `retry`: the retry policy, which also counts the faults.
    - `ordered`: whether listings are sorted by the bytes of the keys.
    - `listings`: number of listing requests so far, not counting retries.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a").write_text("text")
    ...     with Store(parse_source(f"file://{folder}")) as store:
    ...         (entry,) = next(store.list(""))
    ...         store.open("a", entry.etag, entry.size).read()
    b'text'
    """

    def __init__(self, source: Source, retries: int = 10) -> None:
        from daskmr.store.event_loop import LoopThread  # deferred, because it imports asyncio

        self.source = source
        self._url = source.url_of
        self.retry = RetryPolicy(retries)
        self.listings = 0
        self._backend = _backend(source)
        self.ordered = self._backend.ordered
        self._loop = LoopThread(f"daskmr {source.protocol}", self._backend)
        # Also called at the exit of the process, while the modules for closing still exist.
        self._finalizer = weakref.finalize(self, _close, self._loop, self._backend)

    def __repr__(self) -> str:
        return f"Store({self.source!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("A Store belongs to one process: pickle its source, and open another one.")

    def close(self) -> None:
        """Cancel all requests, close the connections, and stop the thread."""
        self._finalizer()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the store's loop and wait for it; an interruption cancels it.

        Raises `RuntimeError`: in a process other than the one that created the store, or after
        `close`.
        """
        return self._loop.run(coroutine)

    def warm_up(self) -> None:
        """Prepare for the first request, such as by looking up credentials, without making one."""
        self.run(self._backend.warm_up())

    def check(self, to_write: bool = False) -> None:
        """Check with one cheap request that the source can be listed.

        - `to_write`: the source is going to be written to; its folder need not exist.
        Raises `InputError`: within seconds if retries cannot help, as for wrong credentials, bucket,
        region or host, or a missing package.
        """
        self.listings += 1
        try:
            self.run(self._check())
        except StoreError as error:
            if not (to_write and isinstance(error, MissingObject)):
                raise InputError(str(error)) from None

    async def _check(self) -> None:
        import asyncio

        what = f"{self._url('').rstrip('/')} cannot be listed"
        try:
            async with asyncio.timeout(_SECONDS_TO_CHECK):
                await self.retry(self._backend.check, what, fail_fast=True)
        except TimeoutError:
            error = TransientError(
                f"no answer arrived within {_SECONDS_TO_CHECK} seconds",
                "Check the network, and the endpoint URL or the host in the address.",
            )
            raise self.retry.give_up(what, error, 1) from None

    async def page_async(
        self, prefix: str, name_prefix: str = "", *, start: str = "", token: str | None = None
    ) -> Page:
        """List one page of the entries directly below `prefix`.

        - `prefix`: "", or a path that ends in "/".
        - `name_prefix`: list only names that start with this.
        - `start`: list only names after this one, in byte order.
        - `token`: `Page.token` of the previous page.
        """
        what = f"{self._url(prefix + name_prefix)} cannot be listed"
        self.listings += 1
        return await self.retry(lambda: self._backend.page(prefix, name_prefix, start, token), what)

    def pagination(self, prefix: str, name_prefix: str = "") -> Pagination:
        """Return a `Pagination` that checks the pages of one listing."""
        return Pagination(self._url(prefix + name_prefix), self.ordered)

    def list(
        self, prefix: str, name_prefix: str = "", start: str = ""
    ) -> Iterator[Sequence[Entry]]:
        """Yield the entries directly below `prefix`, page by page; see `page_async`."""
        pagination = self.pagination(prefix, name_prefix)
        token: str | None = None
        while True:
            page = self.run(self.page_async(prefix, name_prefix, start=start, token=token))
            yield pagination.advance(page).entries
            if page.token is None:
                return
            token = page.token

    async def fetch_async(self, path: str, etag: str | None, size: int, target: Target) -> str:
        """Fetch one complete object, as it was listed.

        - `etag`: the listed ETag; ``None`` if the store has none.
        - `size`: the listed size in bytes.
        - `target`: called on the store's thread. Its exceptions are passed on unchanged.
        Returns the MD5 of the bytes, as hex digits, even if the ETag is not an MD5.
        Raises `MissingObject`, `ChangedObject`, `StoreError`.
        """
        download = self._download(path, etag, size)
        async with aclosing(download.pieces()) as pieces:
            async for piece in pieces:
                if piece is None:
                    target.restart()
                else:
                    target.write(piece)
        return download.md5

    def _download(self, path: str, etag: str | None, size: int) -> Download:
        return Download(self._backend, self.retry, self._url(path), path, etag, size)

    def fetch(self, path: str, etag: str | None, size: int, target: Target) -> str:
        """Fetch one complete object, from sync code; see `fetch_async`."""
        return self.run(self.fetch_async(path, etag, size, target))

    def open(self, path: str, etag: str | None, size: int) -> BinaryIO:
        """Open an object as a stream, without storing it.

        A small object is first fetched into memory. A large one is read ahead, and its transfer is
        resumed if it breaks; but if its checksum is wrong, only the last ``read`` raises
        `StoreError`, so the bytes are not valid before. The ``name`` is the object's address.
        """
        if size <= _BUFFERED_BYTES:
            buffer = InMemory(self._url(path))
            self.fetch(path, etag, size, buffer)
            buffer.seek(0)
            return buffer
        stream = Stream(self._loop, self._download(path, etag, size))
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 18))

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Read `length` >= 1 bytes of an object that only this run writes, so no ETag is needed.

        Only the length is verified: such objects contain their own checksums.
        """
        what = f"{self._url(path)} cannot be read"
        return self.run(self.retry(lambda: self._backend.read(path, offset, length), what))

    def write_object(self, path: str, local: str) -> None:
        """Upload a local file as one object, which appears complete or not at all."""
        self.run(self._backend.write(path, local, self.retry))

    def copy(self, copies: Iterable[tuple[str, str, int]]) -> None:
        """Copy objects within the source: each from one path to another; it has a size in bytes."""
        self.run(self._copy(copies))

    async def _copy(self, copies: Iterable[tuple[str, str, int]]) -> None:
        import asyncio

        gate = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def copy(path: str, target: str, size: int) -> None:
            async with gate:
                await self._backend.copy(path, target, size, self.retry)

        try:
            async with asyncio.TaskGroup() as group:
                for one in copies:
                    group.create_task(copy(*one))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; ignore missing ones."""
        what = f"Objects of {self._url('')} cannot be deleted"
        for start in range(0, len(paths), _DELETED_AT_ONCE):
            some = [*paths[start : start + _DELETED_AT_ONCE]]
            self.run(self.retry(partial(self._backend.delete, some), what))


def _backend(source: Source) -> Backend:
    if source.protocol == "s3":
        from daskmr.store.s3 import S3

        return S3(source)
    from daskmr.store.fsspec_store import Filesystem

    return Filesystem(source)


def _close(loop: LoopThread, backend: Backend) -> None:
    loop.close(backend.close())


class Pagination:
    """Checks that each page of a listing continues after the previous page.

    - `url`: the URL for messages.
    - `ordered`: whether the store sorts listings by the bytes of the keys. Otherwise, it may list an
      object on two pages that are not adjacent.

    >>> pagination = Pagination("s3://bucket")
    >>> idle, saved = Entry("idle", True), Entry("saved_session", True)
    >>> pagination.advance(Page([idle], "1")).entries == [idle]
    True
    >>> pagination.advance(Page([idle, saved], None)).entries == [saved]
    True
    >>> pagination.advance(Page([Entry("a", False)], None))
    Traceback (most recent call last):
        ...
    daskmr.store.source.StoreError: s3://bucket cannot be listed: its pages are out of order: 'a' ...
    """

    def __init__(self, url: str, ordered: bool = True) -> None:
        self._url = url
        self._ordered = ordered
        self._last: str | None = None
        self._page: set[str] = set()
        self._directories: set[str] = set()
        self._tokens: set[int] = set()
        self._pages: set[int | None] = set()
        self._idle = 0

    def advance(self, page: Page) -> Page:
        """Return the next page without the entries of earlier pages.

        Raises `StoreError` if the listing goes backwards, or does not end.
        """
        # Keys are relative; "/" at the end of a directory sorts it correctly among the objects.
        current: dict[str, Entry] = {}
        for entry in page.entries:
            current.setdefault(f"{entry.name}/" if entry.is_dir else entry.name, entry)
        fresh: dict[str, Entry] = {}
        # An unordered store may repeat a page endlessly.
        digest = None if self._ordered else hash(frozenset(current))
        if digest is None or digest not in self._pages:
            fresh = {key: e for key, e in current.items() if not self._is_repeated(key)}
            self._pages.add(digest)
        self._directories.update(key for key, entry in fresh.items() if entry.is_dir)
        self._page = set(current) or self._page
        if self._ordered and fresh:
            self._last = max(fresh)
        if page.token is not None:
            self._check_progress(page.token, bool(fresh))
        return Page(list(fresh.values()), page.token)

    def _is_repeated(self, key: str) -> bool:
        if key in self._directories or key in self._page:
            return True
        # Text is compared by code points, which is the same order as that of the UTF-8 bytes.
        if self._ordered and self._last is not None and key <= self._last:
            raise StoreError(
                f"{self._url} cannot be listed: its pages are out of order: {key!r} came after "
                f"{self._last!r}, so objects could be missed or counted twice. Only directory buckets "
                "of S3 may do this. Check that the endpoint is an S3 store, or copy the data and give "
                "the copy as --data-dir."
            )
        return False

    def _check_progress(self, token: str, advanced: bool) -> None:
        self._idle = 0 if advanced else self._idle + 1
        if hash(token) in self._tokens or self._idle > _MOST_IDLE:
            raise StoreError(
                f"{self._url} cannot be listed: the store repeats the same pages, so "
                "the listing would never end. Check that the endpoint is an S3 store, or copy the "
                "data and give the copy as --data-dir."
            )
        self._tokens.add(hash(token))
