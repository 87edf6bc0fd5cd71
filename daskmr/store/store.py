"""The only door to remote data, for the whole house: listing, fetching and writing objects.

What `Store.fetch` returns from has been verified, or raised: the length, the ETag that was listed,
and the digest where the store tells one.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, BinaryIO, TypeVar, cast

from daskmr.errors import InputError
from daskmr.store.download import Backend, Download, FileTarget, Stream, Target
from daskmr.store.event_loop import LoopThread
from daskmr.store.retry import Patience
from daskmr.store.s3_listing import Pagination
from daskmr.store.source import (
    ChangedObject,
    Entry,
    Fault,
    MissingObject,
    Page,
    Source,
    StoreError,
    parse_source,
)

__all__ = [
    "ChangedObject",
    "Entry",
    "FileTarget",
    "InMemory",
    "MissingObject",
    "Page",
    "Source",
    "Store",
    "StoreError",
    "Target",
    "parse_source",
]

T = TypeVar("T")
Entries = list[Entry]

_READ_WHOLE = 8 << 20  # what `open` takes into memory, and so can fetch again when it is damaged
_SECONDS_TO_CHECK = 20
_DELETED_AT_ONCE = 1000  # which is what S3 takes in one request


class InMemory(io.BytesIO):
    """A whole object.

    Attributes
    ----------
    name : str
        Its address, for messages.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Store:
    """A source at work, in the process that made it, until it is closed.

    Its requests run on an event loop in a thread of its own. The methods whose names end in
    ``_async`` run there, inside a coroutine that was given to `run`; the others wait for them,
    from any other thread.

    Parameters
    ----------
    source : Source
    retries : int
        How often a request is tried again, after growing waits, before it is a failure.

    Attributes
    ----------
    patience : Patience
        Waits before it tries again, and counts the faults.
    faults : int
        Faults so far that were tried again.
    listings : int
        Requests so far that listed something, those not counted that were tried again.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a").write_text("text")
    ...     with Store(parse_source(f"file://{folder}")) as store:
    ...         (entry,) = next(store.list(""))
    ...         store.open("a", entry.etag, entry.size).read()
    b'text'
    """

    def __init__(self, source: Source, retries: int = 10) -> None:
        self.source = source
        self.patience = Patience(retries)
        self.listings = 0
        self._backend = _backend(source)
        self._loop = LoopThread(f"daskmr {source.protocol}")
        self._loop.keep(self._backend)
        # At the end of the process too, before the modules go that closing needs.
        self._finalizer = weakref.finalize(self, _close, self._loop, self._backend)

    def __repr__(self) -> str:
        return f"Store({self.source!r})"

    @property
    def ordered(self) -> bool:
        """Whether it lists by the bytes of the keys."""
        return self._backend.ordered

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError("A Store belongs to one process: pickle its source, and make another.")

    @property
    def faults(self) -> int:
        return self.patience.faults

    def close(self) -> None:
        """Close its connections and stop its thread; what still runs there is cancelled."""
        self._finalizer()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the store's loop and wait for it; it is cancelled when interrupted.

        Raises
        ------
        RuntimeError
            In another process than the one that made the store, or after `close`.
        """
        return self._loop.run(coroutine)

    def _url(self, path: str) -> str:
        return self.source.url_of(path)

    def warm_up(self) -> None:
        """Import and set up what the first request needs, without making one.

        Raises
        ------
        StoreError
            When that cannot be had, such as credentials.
        """
        self.run(self._backend.warm_up())

    # --- listing ----------------------------------------------------------------------------------

    def check(self, to_write: bool = False) -> None:
        """See by one cheap request that the source can be listed.

        Parameters
        ----------
        to_write : bool
            It is going to be written to, so that a folder need not be there.

        Raises
        ------
        InputError
            Within seconds where no answer helps: credentials, bucket, region, host, package.
        """
        self.listings += 1
        try:
            self.run(self._check())
        except MissingObject as error:
            if to_write:
                return
            failure = InputError(str(error))
        except StoreError as error:
            failure = InputError(str(error))
        else:
            return
        raise failure

    async def _check(self) -> None:
        import asyncio

        what = f"{self._url('').rstrip('/')} cannot be listed"
        check = self.patience(self._backend.check, what, hopeful=False)
        try:
            await asyncio.wait_for(check, _SECONDS_TO_CHECK)
        except TimeoutError:
            fault = Fault(
                f"no answer came within {_SECONDS_TO_CHECK} seconds",
                "Check the network, and the endpoint URL or the host in the address.",
            )
            failure = self.patience.given_up(what, fault, 1)
        else:
            return
        raise failure

    async def page_async(
        self, prefix: str, name_prefix: str = "", *, start: str = "", token: str | None = None
    ) -> Page:
        """List one page of what is directly below `prefix`: one request, tried again on faults.

        Parameters
        ----------
        prefix : str
            Relative to the source: "" or ending in "/".
        name_prefix : str
            What the names begin with.
        start : str
            Only names after this one, in byte order.
        token : str, optional
            `Page.token` of the page before.
        """
        what = f"{self._url(prefix + name_prefix)} cannot be listed"
        self.listings += 1
        return await self.patience(
            lambda: self._backend.page(prefix, name_prefix, start, token), what
        )

    def pagination(self, prefix: str, name_prefix: str = "") -> Pagination:
        """Return what the pages of one listing go through."""
        return Pagination(self._url(prefix + name_prefix), self._backend.ordered)

    async def list_async(
        self, prefix: str, name_prefix: str = "", start: str = ""
    ) -> AsyncIterator[Entries]:
        """List what is directly below `prefix`, page by page; nothing where there is nothing."""
        pagination = self.pagination(prefix, name_prefix)
        token: str | None = None
        while True:
            page = pagination.advance(
                await self.page_async(prefix, name_prefix, start=start, token=token)
            )
            yield page.entries
            if page.token is None:
                return
            token = page.token

    def list(self, prefix: str, name_prefix: str = "", start: str = "") -> Iterator[Entries]:
        """List as `list_async` does, from sync code."""
        pages = aiter(self.list_async(prefix, name_prefix, start))
        while (entries := self.run(_following(pages))) is not None:
            yield entries

    # --- reading ----------------------------------------------------------------------------------

    async def fetch_async(self, path: str, etag: str | None, size: int, target: Target) -> str:
        """Fetch one object whole, as it was listed.

        Parameters
        ----------
        path : str
            Relative to the source.
        etag : str or None
            As it was listed; ``None`` where the store has none.
        size : int
            As it was listed, in bytes.
        target : Target
            Called on the store's thread. What it raises is passed on as it is.

        Returns
        -------
        str
            The MD5 of the bytes, as hex digits, whatever the ETag is.

        Raises
        ------
        MissingObject, ChangedObject, StoreError
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
        return Download(self._backend, self.patience, self._url(path), path, etag, size)

    def fetch(self, path: str, etag: str | None, size: int, file: BinaryIO) -> str:
        """Fetch into a seekable file as `fetch_async` does, from sync code."""
        return self.run(self.fetch_async(path, etag, size, FileTarget(file)))

    def open(self, path: str, etag: str | None, size: int) -> BinaryIO:
        """Read an object as it comes, without keeping it.

        A small one is taken into memory whole. A large one is read ahead, and its transfer is
        resumed when it breaks; but damage that only a checksum shows, at the end, raises
        `StoreError` in the last ``read``, so bytes count only when the end was reached. Its
        ``name`` is the object's address.
        """
        if size <= _READ_WHOLE:
            buffer = InMemory(self._url(path))
            self.fetch(path, etag, size, buffer)
            buffer.seek(0)
            return buffer
        stream = Stream(self._loop, self._download(path, etag, size))
        return cast(BinaryIO, io.BufferedReader(stream, 1 << 18))

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Read a stretch of an object that only this run writes, so that it needs no ETag.

        Nothing but its length is checked: what is read so has checksums of its own.

        Parameters
        ----------
        path : str
            Relative to the source.
        offset, length : int
            In bytes; `length` is at least 1.
        """
        what = f"{self._url(path)} cannot be read"
        return self.run(self.patience(lambda: self._backend.read(path, offset, length), what))

    # --- writing ----------------------------------------------------------------------------------

    def write_object(self, path: str, local: str) -> None:
        """Upload a local file as one object, which appears whole or not at all.

        Parameters
        ----------
        path : str
            Relative to the source.
        local : str
            The file.

        Raises
        ------
        StoreError
        """
        self.run(self._backend.write(path, local, self.patience))

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; those that are not there are no mistake.

        Parameters
        ----------
        paths : sequence of str
            Relative to the source.
        """
        what = f"Objects of {self._url('')} cannot be deleted"
        for start in range(0, len(paths), _DELETED_AT_ONCE):
            some = list(paths[start : start + _DELETED_AT_ONCE])
            self.run(self.patience(partial(self._backend.delete, some), what))


def _backend(source: Source) -> Backend:
    if source.protocol == "s3":
        from daskmr.store.s3 import S3

        return S3(source)
    from daskmr.store.fsspec_store import Filesystem

    return Filesystem(source)


def _close(loop: LoopThread, backend: Backend) -> None:
    loop.close(backend.close())


async def _following(pages: AsyncIterator[T]) -> T | None:
    return await anext(pages, None)
