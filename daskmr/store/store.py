"""The only access to remote data: list, fetch and write objects, and share the open stores.

A fetch returns only when its bytes are verified: the length, the ETag that was listed, and the
digest where the store has one.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Coroutine, Iterator, Sequence
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

_BUFFERED_BYTES = 8 << 20  # `open` takes so much into memory, where it can be fetched again
_SECONDS_TO_CHECK = 20
_DELETED_AT_ONCE = 1000  # the limit of S3 for one request
_MOST_IDLE = 1000  # pages in a row without a new entry; some servers skip deleted keys by pages


class InMemory(io.BytesIO):
    """A complete object, and the target of its bytes; ``name`` is its address.

    >>> target = InMemory("s3://bucket/a")
    >>> _ = target.write(b"bro")
    >>> target.restart()
    >>> _ = target.write(b"whole")
    >>> target.getvalue()
    b'whole'
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def restart(self) -> None:
        self.seek(0)
        self.truncate()


class Store:
    """A connection to a source, in the process that made it, until it is closed.

    Its requests run on an event loop in a thread of its own. The methods whose names end in
    ``_async`` run there, inside a coroutine that was given to `run`; the others wait for them,
    from any other thread. Paths are relative to the source.

    - `retries`: how often a request is retried, after growing waits, before it is a failure.
    - `retry`: counts the faults, too.
    - `ordered`: whether it lists by the bytes of the keys.
    - `listings`: requests so far that listed something, retries not counted.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a").write_text("text")
    ...     with Store(parse_source(f"file://{folder}")) as store:
    ...         (entry,) = next(store.list(""))
    ...         store.open("a", entry.etag, entry.size).read()
    b'text'
    """

    def __init__(self, source: Source, retries: int = 10) -> None:
        from daskmr.store.event_loop import LoopThread  # deferred, as asyncio is

        self.source = source
        self._url = source.url_of
        self.retry = RetryPolicy(retries)
        self.listings = 0
        self._backend = _backend(source)
        self.ordered = self._backend.ordered
        self._loop = LoopThread(f"daskmr {source.protocol}", self._backend)
        # At the end of the process too, before the modules go that closing needs.
        self._finalizer = weakref.finalize(self, _close, self._loop, self._backend)

    def __repr__(self) -> str:
        return f"Store({self.source!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("A Store belongs to one process: pickle its source, and make another.")

    def close(self) -> None:
        """Close its connections, cancel what still runs, and stop its thread."""
        self._finalizer()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the store's loop and wait for it; an interruption cancels it.

        Raises `RuntimeError`: in another process than the one that made the store, or after
        `close`.
        """
        return self._loop.run(coroutine)

    def warm_up(self) -> None:
        """Set up what the first request needs, such as credentials, without making one."""
        self.run(self._backend.warm_up())

    def check(self, to_write: bool = False) -> None:
        """Check by one cheap request that the source can be listed.

        - `to_write`: it is going to be written to, so that a folder need not exist.
        Raises `InputError`: within seconds where no answer helps: credentials, bucket, region,
        host, package.
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
                f"no answer came within {_SECONDS_TO_CHECK} seconds",
                "Check the network, and the endpoint URL or the host in the address.",
            )
            raise self.retry.give_up(what, error, 1) from None

    async def page_async(
        self, prefix: str, name_prefix: str = "", *, start: str = "", token: str | None = None
    ) -> Page:
        """List one page of the entries directly below `prefix`.

        - `prefix`: "" or ending in "/".
        - `name_prefix`: only names that begin with this.
        - `start`: only names after this one, in byte order.
        - `token`: `Page.token` of the page before.
        """
        what = f"{self._url(prefix + name_prefix)} cannot be listed"
        self.listings += 1
        return await self.retry(lambda: self._backend.page(prefix, name_prefix, start, token), what)

    def pagination(self, prefix: str, name_prefix: str = "") -> Pagination:
        """Return the check that the pages of one listing go through."""
        return Pagination(self._url(prefix + name_prefix), self.ordered)

    def list(
        self, prefix: str, name_prefix: str = "", start: str = ""
    ) -> Iterator[Sequence[Entry]]:
        """List the entries directly below `prefix`, page by page, as `page_async` does."""
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

        - `etag`: as it was listed; ``None`` where the store has none.
        - `size`: as it was listed, in bytes.
        - `target`: called on the store's thread. What it raises is passed on as it is.
        Returns the MD5 of the bytes, as hex digits, whatever the ETag is.
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
        """Fetch as `fetch_async` does, from sync code."""
        return self.run(self.fetch_async(path, etag, size, target))

    def open(self, path: str, etag: str | None, size: int) -> BinaryIO:
        """Read an object as it arrives, without keeping it.

        A small one is first read into memory. A large one is read ahead, and its transfer is
        resumed when it breaks; but damage that only a checksum shows, at the end, raises
        `StoreError` in the last ``read``, so bytes count only when the end was reached. Its
        ``name`` is the object's address.
        """
        if size <= _BUFFERED_BYTES:
            buffer = InMemory(self._url(path))
            self.fetch(path, etag, size, buffer)
            buffer.seek(0)
            return buffer
        stream = Stream(self._loop, self._download(path, etag, size))
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 18))

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Read `length` >= 1 bytes of an object that only this run writes, so it needs no ETag.

        Nothing but the length is verified: such objects have checksums of their own inside.
        """
        what = f"{self._url(path)} cannot be read"
        return self.run(self.retry(lambda: self._backend.read(path, offset, length), what))

    def write_object(self, path: str, local: str) -> None:
        """Upload a local file as one object, which appears complete or not at all."""
        self.run(self._backend.write(path, local, self.retry))

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; a missing one is no error."""
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
    """Checks that each page of one listing goes on where the page before it ended.

    - `url`: for messages.
    - `ordered`: whether the store lists by the bytes of the keys. A store that does not may list an
      object on two pages that are not neighbours.

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
        """Return the next page without the entries of earlier ones.

        Raises `StoreError` when the listing goes backwards, or does not end.
        """
        # By the end of the key, in which "/" orders a directory among the objects.
        current: dict[str, Entry] = {}
        for entry in page.entries:
            current.setdefault(f"{entry.name}/" if entry.is_dir else entry.name, entry)
        fresh: dict[str, Entry] = {}
        # A store without an order may repeat a page for ever.
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
        # Text compares by code points, which is the order of its bytes in UTF-8.
        if self._ordered and self._last is not None and key <= self._last:
            raise StoreError(
                f"{self._url} cannot be listed: its pages are out of order: {key!r} came after "
                f"{self._last!r}, so objects could be missed or count twice. Only the directory "
                "buckets of S3 may list so. Check that the endpoint is an S3 store, or copy the data "
                "and give the copy as --data-dir."
            )
        return False

    def _check_progress(self, token: str, advanced: bool) -> None:
        self._idle = 0 if advanced else self._idle + 1
        if hash(token) in self._tokens or self._idle > _MOST_IDLE:
            raise StoreError(
                f"{self._url} cannot be listed: the store gives the same pages again and again, so "
                "the listing would never end. Check that the endpoint is an S3 store, or copy the "
                "data and give the copy as --data-dir."
            )
        self._tokens.add(hash(token))
