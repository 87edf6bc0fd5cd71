"""An object store with low CPU use and a fixed latency, for measurements on one machine.

Run as a program, it serves a folder until its standard input is closed. It answers the two S3 requests
that a job makes for its input, in about 0.1 ms of CPU each, and checks no signature.
"""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

__all__ = ["QuickStore"]

_PAGE = 1000
_MISSING = b"<Error><Code>NoSuchKey</Code><Message>There is none.</Message></Error>"
_CHANGED = b"<Error><Code>PreconditionFailed</Code><Message>It is another.</Message></Error>"


class QuickStore:
    """The server in a separate process, as a context manager.

    Parameters
    ----------
    folder : Path
        Contains a folder for each bucket; it is read at the start.
    latency : float
        Seconds between a request and its answer.

    Attributes
    ----------
    url : str
        The endpoint URL.
    """

    def __init__(self, folder: Path, latency: float) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(folder), str(latency)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> QuickStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()


class _Objects:
    """The objects of the store, by bucket and key."""

    def __init__(self, folder: Path) -> None:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.bodies = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        self.etags = {
            key: f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
            for key, body in self.bodies.items()
        }

    def answer(self, target: str, wanted_etag: str) -> bytes:
        path, _, query = target.partition("?")
        key = unquote(path).removeprefix("/")
        if "list-type" in query:
            return _response("200 OK", self._listing(key.rstrip("/"), dict(parse_qsl(query))))
        if key not in self.bodies:
            return _response("404 Not Found", _MISSING)
        if wanted_etag not in ("", self.etags[key]):
            return _response("412 Precondition Failed", _CHANGED)
        return _response("200 OK", self.bodies[key], f"ETag: {self.etags[key]}\r\n")

    def _listing(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        found: dict[str, str] = {}
        for key in self.bodies:
            rest = key.removeprefix(f"{bucket}/{prefix}")
            if rest != key or not f"{bucket}/{prefix}":
                name, slash, _ = rest.partition("/")
                found.setdefault(prefix + name + slash, self._entry(key, prefix + name + slash))
        page = [name for name in sorted(found) if name > after][: _PAGE + 1]
        more = len(page) > _PAGE
        token = (
            f"<NextContinuationToken>{escape(page[_PAGE - 1])}</NextContinuationToken>"
            if more
            else ""
        )
        return (
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{quote(prefix)}</Prefix>"
            f"<EncodingType>url</EncodingType><IsTruncated>{str(more).lower()}</IsTruncated>"
            f"{token}{''.join(found[name] for name in page[:_PAGE])}</ListBucketResult>"
        ).encode()

    def _entry(self, key: str, name: str) -> str:
        if name.endswith("/"):
            return f"<CommonPrefixes><Prefix>{quote(name)}</Prefix></CommonPrefixes>"
        return (
            f"<Contents><Key>{quote(name)}</Key><Size>{len(self.bodies[key])}</Size>"
            f"<ETag>{escape(self.etags[key])}</ETag>"
            "<LastModified>2013-11-01T00:00:00.000Z</LastModified></Contents>"
        )


def _response(status: str, body: bytes, headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


class _Connection(asyncio.Protocol):
    """Answer the requests of one connection, which arrive one after the other."""

    def __init__(self, objects: _Objects, latency: float) -> None:
        self._objects = objects
        self._latency = latency
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            first, *rest = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (r.partition(": ") for r in rest)}
            answer = self._objects.answer(first.split(" ")[1], headers.get("if-match", ""))
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)


async def _serve(folder: Path, latency: float) -> None:
    loop = asyncio.get_running_loop()
    objects = _Objects(folder)
    server = await loop.create_server(lambda: _Connection(objects, latency), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
