"""One object whole, from as many answers as it takes, and verified at its end."""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from daskmr.store.checksums import Check, Proof
from daskmr.store.event_loop import LoopThread
from daskmr.store.retry import Patience
from daskmr.store.source import Fault, Page, StoreError

if TYPE_CHECKING:
    import asyncio

__all__ = ["Backend", "Download", "FileTarget", "Stream", "Target", "Transfer"]

_PROGRESS = 8 << 20  # so many bytes of one answer make up for the fault that ended it
_READ_AHEAD = 64  # pieces, most of them 64 to 128 KiB


class Target(Protocol):
    """Where fetched bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""

    def restart(self) -> object:
        """Forget all bytes so far: they come again from the first."""


class FileTarget:
    """A file, from its position on, as a target.

    Parameters
    ----------
    file : binary file
        It is seekable.

    Examples
    --------
    >>> target = FileTarget(io.BytesIO())
    >>> _ = target.write(b"bro")
    >>> target.restart()
    >>> _ = target.write(b"whole")
    >>> target.file.getvalue()
    b'whole'
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._start = file.tell()
        self.write = file.write

    def restart(self) -> None:
        """Go back to where the file stood."""
        self.file.seek(self._start)
        self.file.truncate()


class Transfer(Protocol):
    """The bytes of one answer."""

    @property
    def proof(self) -> Proof:
        """What the whole object must show; counts when the answer begins at the first byte."""

    @property
    def resumable(self) -> bool:
        """Whether the rest may come in another answer."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Backend(Protocol):
    """One attempt of everything; it raises `Fault` for what may pass."""

    @property
    def ordered(self) -> bool:
        """Whether pages come by the bytes of the keys."""

    async def warm_up(self) -> None: ...
    async def check(self) -> None: ...
    async def page(
        self, prefix: str, name_prefix: str = "", start: str = "", token: str | None = None
    ) -> Page: ...
    def transfer(
        self, path: str, etag: str | None, size: int, offset: int, exact: bool
    ) -> AbstractAsyncContextManager[Transfer]: ...
    async def read(self, path: str, offset: int, length: int) -> bytes: ...
    async def write(self, path: str, local: str, patience: Patience) -> None: ...
    async def delete(self, paths: list[str]) -> None: ...
    async def close(self) -> None: ...


class Download:
    """One object, in pieces: resumed when its transfer breaks, begun anew when it was damaged.

    Parameters
    ----------
    backend : Backend
    patience : Patience
    url : str
        Its address, for messages.
    path : str
        Relative to the source.
    etag : str or None
    size : int
        As they were listed.
    """

    def __init__(
        self,
        backend: Backend,
        patience: Patience,
        url: str,
        path: str,
        etag: str | None,
        size: int,
    ) -> None:
        self.url = url
        self._backend = backend
        self._patience = patience
        self._object = (path, etag, size)
        self._check: Check | None = None
        self._resumable = False
        self._damaged = False

    @property
    def md5(self) -> str:
        """The MD5 of the bytes, when all of them have come."""
        assert self._check is not None
        return self._check.md5

    async def pieces(self) -> AsyncGenerator[bytes | None, None]:
        """All bytes of the object, verified at the end; ``None``: they begin anew."""
        tries = 0
        while True:
            before = self._received
            try:
                async with aclosing(self._attempt()) as attempt:
                    async for data in attempt:
                        yield data
                return
            except Fault as fault:
                resumes = self._resumable and not fault.anew and self._received < self._object[2]
                # A transfer that brings much each time gets there, so it may break often.
                tries = 1 if resumes and self._received - before > _PROGRESS else tries + 1
                if tries > self._patience.retries:
                    failure = self._patience.given_up(f"{self.url} cannot be fetched", fault, tries)
                    break
            if self._received and not resumes:
                yield None
            if not resumes:
                self._check = None
            await self._patience.wait(tries)
        raise failure

    @property
    def _received(self) -> int:
        return 0 if self._check is None else self._check.received

    async def _attempt(self) -> AsyncGenerator[bytes, None]:
        path, etag, size = self._object
        transfer = self._backend.transfer(path, etag, size, self._received, self._damaged)
        async with transfer as answer:
            if self._check is None:
                self._check, self._resumable = Check(answer.proof), answer.resumable
            async for data in answer:
                self._check.update(data)
                if self._check.received > size:
                    raise Fault(f"more than {size} bytes came", anew=True)
                yield data
        complaint = self._check.complaint()
        if complaint is not None:
            self._damaged = self._check.received == size
            raise Fault(complaint, anew=self._damaged)


class Stream(io.RawIOBase):
    """A download as a file, read ahead of its reader.

    Parameters
    ----------
    loop : LoopThread
        Where the download runs.
    download : Download

    Attributes
    ----------
    name : str
        The object's address, for messages.
    """

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
                        self._start_over()
                    else:
                        await self._queue.put(piece)
        except Exception as error:
            end = error
        await self._queue.put(end)

    def _start_over(self) -> None:
        if self._taken:
            raise StoreError(
                f"{self._download.url} came damaged, as its checksum shows, and was being mapped by "
                "then. Run the job again; with a cache, an object is verified before it is mapped."
            )
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _take(self) -> bytes:
        """All that is there, or the next piece when nothing is."""
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
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what has come, waiting when that is nothing."""
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
        """Leave the rest."""
        if not self.closed:
            self._loop.call(self._task.cancel)
        super().close()
