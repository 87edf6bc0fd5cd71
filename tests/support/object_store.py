"""A store without a server: objects in a dict, fetched as `daskmr.store.store.Store` does, and noted."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, BinaryIO

from daskmr.data.listing import InputFile
from daskmr.store.event_loop import LoopThread
from daskmr.store.source import ChangedObject, MissingObject, Source

SOURCE = Source("s3", "bucket")


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def input_file(path: str, data: bytes, etag: str | None = "md5") -> InputFile:
    """An object as it is listed; its ETag is the MD5 of its bytes where nothing else is given."""
    return InputFile(path, len(data), (), md5(data) if etag == "md5" else etag, 1e9)


class ObjectStore:
    """Does for the cache what `daskmr.store.store.Store` does.

    Parameters
    ----------
    objects : mapping of str to bytes
    piece : int
        Bytes that come at a time.

    Attributes
    ----------
    gets : list of str
        What was asked for, in order.
    etags : dict of str to str
        Those that are not the MD5 of the bytes.
    failures : dict of str to Exception
        What the fetch of an object ends with, when half of it has come.
    broken : set of str
        Objects whose fetch begins anew once, after half of the bytes.
    gates : dict of str to asyncio.Event
        What the fetch of an object waits for, when half of it has come.
    before : callable or None
        Called with the path at each fetch.
    most_at_once : int
        How many fetches there were at the same time, at the most.
    """

    source = SOURCE

    def __init__(self, objects: Mapping[str, bytes], piece: int = 1000) -> None:
        self.objects = dict(objects)
        self.piece = piece
        self.gets: list[str] = []
        self.etags: dict[str, str] = {}
        self.failures: dict[str, Exception] = {}
        self.broken: set[str] = set()
        self.gates: dict[str, asyncio.Event] = {}
        self.before: Callable[[str], object] | None = None
        self.at_once = 0
        self.most_at_once = 0
        self.bytes_at_once = 0
        self._loop = LoopThread("objects")

    def __enter__(self) -> ObjectStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run(coroutine)

    def file(self, path: str) -> InputFile:
        """The object as it is listed now."""
        return input_file(path, self.objects[path], self.etags.get(path, "md5"))

    def files(self) -> list[InputFile]:
        return [self.file(path) for path in sorted(self.objects)]

    async def fetch_async(self, path: str, etag: str | None, size: int, target: Any) -> str:
        self.gets.append(path)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.before is not None:
                self.before(path)
            return await self._fetch(path, etag, size, target)
        finally:
            self.at_once -= 1

    async def _fetch(self, path: str, etag: str | None, size: int, target: Any) -> str:
        if path not in self.objects:
            raise MissingObject(f"{path} is not there.")
        data = self.objects[path]
        if etag not in (None, self.etags.get(path, md5(data))):
            raise ChangedObject(f"{path} changed while the job ran.")
        for start in range(0, len(data), self.piece):
            if start * 2 >= len(data):
                if path in self.gates:
                    await self.gates[path].wait()
                if path in self.failures:
                    raise self.failures[path]
                if path in self.broken:
                    self.broken.remove(path)
                    target.restart()
                    return await self._fetch(path, etag, size, target)
            target.write(data[start : start + self.piece])
            await asyncio.sleep(0)
        return md5(data)

    def open(self, path: str, etag: str | None, size: int) -> BinaryIO:
        target = _Target()
        self.run(self.fetch_async(path, etag, size, target))
        return io.BytesIO(bytes(target.data))


class _Target:
    def __init__(self) -> None:
        self.data = bytearray()
        self.write = self.data.extend

    def restart(self) -> None:
        self.data.clear()
