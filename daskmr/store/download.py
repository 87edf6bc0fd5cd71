"""Fetch one complete object, resuming it if necessary, and verify its length and MD5."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from daskmr.store.retry import RetryPolicy
from daskmr.store.source import Page, StoreError, TransientError

if TYPE_CHECKING:
    import asyncio
    import hashlib

    from daskmr.store.event_loop import LoopThread

__all__ = [
    "Backend", "Download", "Expected", "Stream", "Target", "Transfer", "Verifier", "multipart_etag",
]  # fmt: skip

_PROGRESS = 8 << 20  # after at least this many bytes, an error does not add to the number of tries
_READ_AHEAD = 64  # pieces, most of them 64 to 128 KiB


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected size and MD5 of an object."""

    size: int  # in bytes
    # The MD5 as 32 hex digits; for a multipart upload, the MD5 of the MD5s of its parts
    md5: str | None = None
    parts: tuple[int, ...] = ()  # sizes of these parts; empty if `md5` is of the entire object


def multipart_etag(etag: str | None) -> tuple[str, int] | None:
    """Split an ETag that is based on MD5 into the digits and the number of parts, or 0.

    >>> multipart_etag("d41d8cd98f00b204e9800998ecf8427e")
    ('d41d8cd98f00b204e9800998ecf8427e', 0)
    >>> multipart_etag("d41d8cd98f00b204e9800998ecf8427e-3")
    ('d41d8cd98f00b204e9800998ecf8427e', 3)
    >>> multipart_etag("0x8D4BCC2E4835CD0") is None
    True
    """
    found = re.fullmatch(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?", etag or "")
    return None if found is None else (found[1], int(found[2] or 0))


class Verifier:
    """Compares the bytes of one object with the expected size and MD5.

    >>> verifier = Verifier(Expected(3, "900150983cd24fb0d6963f7d28e17f72"))
    >>> verifier.update(b"ab")
    >>> verifier.mismatch()
    '2 bytes arrived instead of 3'
    >>> verifier.update(b"c")
    >>> verifier.mismatch() is None
    True
    >>> verifier.md5
    '900150983cd24fb0d6963f7d28e17f72'
    """

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._whole = _md5()
        self._part = _md5()
        self._digests: list[bytes] = []
        self._sizes = iter(expected.parts)
        self._room = next(self._sizes, None)  # bytes of the current part that have not arrived
        self.received = 0

    @property
    def md5(self) -> str:
        """The MD5 of all bytes so far, as hex digits."""
        return self._whole.hexdigest()

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        self.received += len(data)
        self._whole.update(data)
        while self._room is not None and len(data) >= self._room:
            self._part.update(data[: self._room])
            data = data[self._room :]
            self._digests.append(self._part.digest())
            self._part = _md5()
            self._room = next(self._sizes, None)
        if self._room is not None:
            self._part.update(data)
            self._room -= len(data)

    def mismatch(self) -> str | None:
        """Return a clause that describes a mismatch, or ``None``."""
        size, md5 = self._expected.size, self._expected.md5
        if self.received != size:
            return f"{self.received} bytes arrived instead of {size}"
        found = self.md5
        if self._expected.parts:
            found = _md5(b"".join(self._digests)).hexdigest()
        if md5 is None or found == md5:
            return None
        return f"the received bytes are not those of the object: MD5 {found} instead of {md5}"


def _md5(data: bytes = b"") -> hashlib._Hash:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False)


class Target(Protocol):
    """The destination of fetched bytes."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def restart(self) -> object:
        """Discard all bytes so far: the object will be written again from the start."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """One answer, whose bytes are yielded as they arrive.

    `expected` is for the complete object, and only valid if the answer starts at the first byte.
    `resumable`: whether the object can still be verified if the rest is in another answer.
    """

    pieces: AsyncIterator[bytes]
    expected: Expected
    resumable: bool = False


class Backend(Protocol):
    """The operations of a store, without retries; they raise `TransientError` for faults to retry."""

    @property
    def ordered(self) -> bool:
        """Whether pages are sorted by the bytes of the keys."""

    async def warm_up(self) -> None: ...
    async def check(self) -> None:
        """Make the cheapest possible listing request."""

    async def page(
        self, prefix: str, name_prefix: str = "", start: str = "", token: str | None = None
    ) -> Page: ...
    def transfer(
        self, path: str, etag: str | None, size: int, offset: int, exact: bool
    ) -> AbstractAsyncContextManager[Transfer]: ...
    async def read(self, path: str, offset: int, length: int) -> bytes: ...
    async def write(self, path: str, local: str, retry: RetryPolicy) -> None:
        """Upload a file as one object, which appears only once it is complete."""

    async def copy(self, path: str, target: str, size: int, retry: RetryPolicy) -> None:
        """Copy an object of `size` bytes; the copy appears only once it is complete."""

    async def delete(self, paths: list[str]) -> None:
        """Delete at most a thousand objects; ignore missing ones."""

    async def close(self) -> None: ...


class Download:
    """The download of one object: resumed if its transfer breaks, restarted if it is damaged.

    - `url`: the URL for messages.
    - `path`: the path relative to the source.
    - `etag`, `size`: the listed ETag and size.
    """

    def __init__(
        self, backend: Backend, retry: RetryPolicy, url: str, path: str, etag: str | None, size: int
    ) -> None:
        self.url = url
        self._backend = backend
        self._retry = retry
        self._object = (path, etag, size)
        self._verifier: Verifier | None = None
        self._resumable = False
        self._damaged = False

    @property
    def md5(self) -> str:
        """The MD5 of the bytes, once all of them have arrived."""
        assert self._verifier is not None
        return self._verifier.md5

    async def pieces(self) -> AsyncGenerator[bytes | None, None]:
        """Yield all bytes of the object, and verify them at the end; ``None`` means a restart."""
        tries = 0
        while True:
            before = self._received
            try:
                async with aclosing(self._attempt()) as attempt:
                    async for data in attempt:
                        yield data
                return
            except TransientError as error:
                resumes = self._resumable and not error.restart and self._received < self._object[2]
                # A transfer that makes enough progress each time may break any number of times.
                tries = 1 if resumes and self._received - before > _PROGRESS else tries + 1
                if tries > self._retry.retries:
                    what = f"{self.url} cannot be fetched"
                    raise self._retry.give_up(what, error, tries) from None
            if not resumes:
                if self._received:
                    yield None
                self._verifier = None
            await self._retry.wait(tries)

    @property
    def _received(self) -> int:
        return 0 if self._verifier is None else self._verifier.received

    async def _attempt(self) -> AsyncGenerator[bytes, None]:
        path, etag, size = self._object
        transfer = self._backend.transfer(path, etag, size, self._received, self._damaged)
        async with transfer as answer:
            if self._verifier is None:
                self._verifier, self._resumable = Verifier(answer.expected), answer.resumable
            async for data in answer.pieces:
                self._verifier.update(data)
                if self._verifier.received > size:
                    raise TransientError(f"more than {size} bytes arrived", restart=True)
                yield data
        mismatch = self._verifier.mismatch()
        if mismatch is not None:
            self._damaged = self._verifier.received == size
            raise TransientError(mismatch, restart=self._damaged)


class Stream(io.RawIOBase):
    """A download as a file, read ahead of its reader; ``name`` is the object's address."""

    def __init__(self, loop: LoopThread, download: Download) -> None:
        self._loop = loop
        self._download = download
        self.name = download.url
        self._rest = memoryview(b"")
        self._taken = False
        self._end: Exception | None = None
        self._queue: asyncio.Queue[bytes | Exception]
        self._task: asyncio.Task[None]
        loop.run(self._begin())

    async def _begin(self) -> None:
        import asyncio

        self._queue = asyncio.Queue(_READ_AHEAD)
        self._task = asyncio.create_task(self._fill())

    async def _fill(self) -> None:
        end: Exception = EOFError()
        try:
            async with aclosing(self._download.pieces()) as pieces:
                async for piece in pieces:
                    if piece is None:
                        self._restart()
                    else:
                        await self._queue.put(piece)
        except Exception as error:
            end = error
        await self._queue.put(end)

    def _restart(self) -> None:
        if self._taken:
            raise StoreError(
                f"{self._download.url} was damaged in transfer, according to its checksum, but a part "
                "of it was already mapped. Run the job again; with a cache, objects are verified "
                "before they are mapped."
            )
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _take(self) -> bytes:
        """Return all queued pieces; wait for one if the queue is empty."""
        pieces: list[bytes] = []
        while self._end is None and (not pieces or not self._queue.empty()):
            piece = await self._queue.get()
            if isinstance(piece, Exception):
                self._end = piece
            else:
                pieces.append(piece)
        self._taken = self._taken or bool(pieces)
        return b"".join(pieces)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with the bytes that have arrived; wait if there are none."""
        while not self._rest:
            if isinstance(self._end, EOFError):
                return 0
            if self._end is not None:
                raise self._end
            self._rest = memoryview(self._loop.run(self._take()))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._loop.call(self._task.cancel)
        super().close()
