"""The HTTP session under botocore's client: no answer takes for ever, nor all of the memory."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession

from daskmr.store.retry import LeastRate
from daskmr.store.source import StoreError

__all__ = ["BoundedSession"]

_MOST_BYTES = 64 << 20
# S3 lists 1,000 keys of at most 1,024 bytes in an answer, so this leaves room for servers that list
# far more than they are asked for.


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]  # it is untyped
    """Sends requests as its base does, and reads answers that are no objects within bounds.

    botocore's timeout is for one read from a socket: a server that sends a byte each minute, or that
    never comes to the end of a listing, would hold a run for days or fill its memory.
    """

    async def send(self, request: Any) -> Any:
        """Send a request, and read its answer but for the body of an object."""
        streams, request.stream_output = request.stream_output, True  # so that it is not read there
        seconds = self._timeout.sock_read
        # An upload takes as long as its body does.
        async with asyncio.timeout(None if request.body else 2 * seconds):
            response = await super().send(request)
        if streams and response.status_code < 300:
            return response
        try:
            body = await _read(response.raw.content, seconds)
        except BaseException:
            response.raw.close()
            raise
        return AioAWSResponse(response.url, response.status_code, response.headers, _Whole(body))


class _Whole:
    """The body of an answer that was read, as botocore reads it."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


async def _read(content: Any, seconds: float) -> bytes:
    body = bytearray()
    async with aclosing(LeastRate(seconds).of(content.iter_any())) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _MOST_BYTES:
                raise StoreError(
                    f"the answer does not end, it is longer than {_MOST_BYTES >> 20} MiB, where a "
                    "listing of a thousand keys was asked for. Check that the endpoint is an S3 "
                    "store, and that no proxy answers for it."
                )
    return bytes(body)
