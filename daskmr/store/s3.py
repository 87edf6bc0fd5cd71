"""The backend for S3: makes single requests, without retries, with the botocore client of s3fs.

s3fs opens the session (profile, endpoint, anonymous access). The requests are made here, because
the methods of s3fs resume broken transfers in ways that can produce wrong bytes.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession

from daskmr.store.download import Expected, Transfer, multipart_etag
from daskmr.store.event_loop import is_loop_thread
from daskmr.store.retry import RetryPolicy, at_minimum_rate
from daskmr.store.s3_answers import ExpiredCredentials, changed_object, parse_page, translate_error
from daskmr.store.source import (
    MissingObject,
    Page,
    Source,
    StoreError,
    TransientError,
    join,
    split_bucket,
)

__all__ = ["S3"]

_CONNECTIONS = 64
_READ_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_COPIED_AT_ONCE = 1 << 30
_UPLOADS_AT_ONCE = 4
_TRIES_TO_ABORT = 3
# S3 lists 1,000 keys of at most 1,024 bytes in an answer, so this limit also allows for servers that
# list far more than was requested.
_ANSWER_BYTES = 64 << 20


class S3:
    """The backend for a bucket, or a prefix in it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._bucket, _, prefix = split_bucket(source.root)
        self._url, self._key = source.url_of, partial(join, prefix)
        self.ordered = not _is_directory_bucket(self._bucket)
        self._s3fs: Any = None
        self._client: Any = None
        self._expired = False
        self._clients: list[Any] = []
        self._payer = {"RequestPayer": "requester"} if source.option("requester_pays") else {}

    async def _connect(self) -> Any:
        """Return the botocore client; create a new one if the credentials have expired."""
        if self._s3fs is None:
            self._s3fs = _session(self.source)
        if self._client is None or self._expired:
            self._expired = False
            self._client = await self._s3fs.set_session(refresh=self._client is not None)
            if self._client not in self._clients:
                self._clients.append(self._client)
                # botocore's parser takes 45 ms per page, and there is no option to replace it.
                self._client.meta.events.register("before-parse.s3.ListObjectsV2", _keep_body)
            guard_logs()
        return self._client

    async def _call(self, method: str, url: str, **arguments: Any) -> Any:
        """Make one request; `url` is for messages."""
        client = None
        try:
            client = await self._connect()
            call = getattr(client, method)
            return await call(Bucket=self._bucket, **arguments, **self._payer)
        except Exception as error:
            failure = translate_error(error, url, self.source)
            if isinstance(failure, ExpiredCredentials) and client is self._client:
                self._expired = True  # unless another request has already renewed the client
            raise failure from None

    async def warm_up(self) -> None:
        try:
            await self._connect()
        except Exception as error:
            raise translate_error(error, self._url(""), self.source) from None

    async def close(self) -> None:
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    async def check(self) -> None:
        await self.page("", limit=1)

    async def page(
        self,
        prefix: str,
        name_prefix: str = "",
        start: str = "",
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        key = self._key(prefix)
        arguments: dict[str, Any] = {"MaxKeys": limit, "Delimiter": "/", "EncodingType": "url"}
        if token is not None:
            arguments["ContinuationToken"] = token
        elif start:
            arguments["StartAfter"] = key + start
        url = self._url(prefix + name_prefix)
        try:
            response = await self._call(
                "list_objects_v2", url, Prefix=key + name_prefix, **arguments
            )
        except MissingObject:
            raise StoreError(
                f"{url} cannot be listed: the server answers that it does not exist. Check that the "
                "endpoint is an S3 store, and that no proxy answers for it."
            ) from None
        return parse_page(response["Body"], self._bucket, key, name_prefix)

    @asynccontextmanager
    async def transfer(
        self, path: str, etag: str | None, size: int, offset: int, exact: bool
    ) -> AsyncIterator[Transfer]:
        """Request the bytes of an object, starting at `offset`.

        If `exact` is true, look up the size of each part of a multipart upload, instead of assuming
        that all parts except the last have the same size.
        """
        url = self._url(path)
        arguments: dict[str, Any] = {} if etag is None else {"IfMatch": f'"{etag}"'}
        if offset:
            arguments["Range"] = f"bytes={offset}-"
        else:
            arguments["ChecksumMode"] = "ENABLED"  # botocore verifies the checksum, if it can
        response = await self._call("get_object", url, Key=self._key(path), **arguments)
        body = response["Body"]
        try:
            _check_answer(response, url, etag, size, offset)
            expected = Expected(size)
            if not offset:
                expected = await self._expected(path, etag, size, response, exact)
            yield Transfer(self._pieces(url, body), expected, _resumable(response, expected))
        finally:
            body.close()

    async def read(self, path: str, offset: int, length: int) -> bytes:
        url, span = self._url(path), f"bytes={offset}-{offset + length - 1}"
        response = await self._call("get_object", url, Key=self._key(path), Range=span)
        body = response["Body"]
        try:
            data = b"".join([piece async for piece in self._pieces(url, body)])
        finally:
            body.close()
        if len(data) != length:
            raise TransientError(f"{len(data)} bytes arrived instead of {length}")
        return data

    async def _pieces(self, url: str, body: Any) -> AsyncIterator[bytes]:
        async def pieces() -> AsyncIterator[bytes]:
            while data := await body.read(_READ_BYTES):
                yield data

        seconds = self.source.option("read_timeout")
        try:
            async with aclosing(at_minimum_rate(pieces(), seconds)) as arriving:
                async for data in arriving:
                    yield data
        except Exception as error:
            raise translate_error(error, url, self.source) from None

    async def _expected(
        self, path: str, etag: str | None, size: int, response: dict[str, Any], exact: bool
    ) -> Expected:
        digits = multipart_etag(etag)
        if digits is None or not _etag_is_md5(response, self._bucket):
            return Expected(size)
        md5, count = digits
        parts = await self._part_sizes(path, size, count, exact)
        return Expected(size, md5, parts) if parts or not count else Expected(size)

    async def _part_sizes(self, path: str, size: int, count: int, exact: bool) -> tuple[int, ...]:
        """Return the sizes of the parts of an object; empty if the store does not support this."""
        url, key = self._url(path), self._key(path)
        sizes: list[int] = []
        for number in range(1, count + 1):
            try:
                head = await self._call("head_object", url, Key=key, PartNumber=number)
            except StoreError:
                return ()  # not all stores support this
            if "PartsCount" not in head:
                return ()
            sizes.append(head["ContentLength"])
            last = size - sizes[0] * (count - 1)
            if 0 < last <= sizes[0] and not exact:
                return (*sizes * (count - 1), last)
        return tuple(sizes)

    async def write(self, path: str, local: str, retry: RetryPolicy) -> None:
        request, size = self._requests(path, retry), os.path.getsize(local)
        with open(local, "rb") as file:
            if size <= _PART_BYTES:
                data = file.read()
                await request("put_object", Body=data, ContentMD5=_md5(data))
                return

            async def put(offset: int, length: int, **part: Any) -> Any:
                data = os.pread(file.fileno(), length, offset)
                return await request("upload_part", **part, Body=data, ContentMD5=_md5(data))

            await _write_parts(request, put, size, max(_PART_BYTES, -(-size // _MOST_PARTS)))

    async def copy(self, path: str, target: str, size: int, retry: RetryPolicy) -> None:
        request = self._requests(target, retry)
        source = {"CopySource": {"Bucket": self._bucket, "Key": self._key(path)}}
        if size <= _COPIED_AT_ONCE:
            await request("copy_object", **source)
            return

        async def put(offset: int, length: int, **part: Any) -> Any:
            span = {"CopySourceRange": f"bytes={offset}-{offset + length - 1}"}
            return (await request("upload_part_copy", **part, **source, **span))["CopyPartResult"]

        await _write_parts(request, put, size, _COPIED_AT_ONCE)

    def _requests(self, path: str, retry: RetryPolicy) -> _Requests:
        """Return a function that makes one request to write an object, with retries."""
        key, url = self._key(path), self._url(path)

        async def request(method: str, *, retry: RetryPolicy = retry, **arguments: Any) -> Any:
            what = f"{url} cannot be written"
            return await retry(lambda: self._call(method, url, Key=key, **arguments), what)

        return request

    async def delete(self, paths: list[str]) -> None:
        objects = {"Objects": [{"Key": self._key(path)} for path in paths], "Quiet": True}
        response = await self._call("delete_objects", self._url(""), Delete=objects)
        if response.get("Errors"):
            first = response["Errors"][0]
            raise StoreError(
                f"{self._url('')}{first.get('Key')} cannot be deleted: {first.get('Message')}. "
                "Check that the credentials allow s3:DeleteObject."
            )


_Requests = Callable[..., Awaitable[Any]]


async def _write_parts(request: _Requests, put: _Requests, size: int, part_bytes: int) -> None:
    """Write an object in parts; `put` writes one of them."""
    upload = {"UploadId": (await request("create_multipart_upload"))["UploadId"]}
    try:
        parts = await _upload_parts(put, upload, size, part_bytes)
        await _complete(request, upload, parts, size)
    except BaseException:
        with suppress(StoreError):  # report only the first failure
            await request("abort_multipart_upload", retry=RetryPolicy(_TRIES_TO_ABORT), **upload)
        raise


async def _upload_parts(
    put: _Requests, upload: dict[str, str], size: int, part_bytes: int
) -> list[dict[str, Any]]:
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def put_one(number: int) -> dict[str, Any]:
        async with gate:
            offset = (number - 1) * part_bytes
            length = min(part_bytes, size - offset)
            response = await put(offset, length, PartNumber=number, **upload)
            return {"PartNumber": number, "ETag": response["ETag"]}

    try:
        async with asyncio.TaskGroup() as group:
            count = -(-size // part_bytes)
            tasks = [group.create_task(put_one(number + 1)) for number in range(count)]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def _complete(
    request: _Requests,
    upload: dict[str, str],
    parts: list[dict[str, Any]],
    size: int,
) -> None:
    try:
        await request("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
    except MissingObject:
        # The upload no longer exists. An earlier attempt may have succeeded, and its answer was lost.
        head = await request("head_object")
        if head["ContentLength"] != size or not head["ETag"].endswith(f'-{len(parts)}"'):
            raise


def _session(source: Source) -> Any:
    from s3fs import S3FileSystem

    guard_logs()
    region = source.option("region")
    profile = source.option("profile")
    return S3FileSystem(
        anon=source.option("anon", False),
        endpoint_url=source.option("endpoint_url"),
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={
            "connect_timeout": source.option("connect_timeout"),
            "read_timeout": source.option("read_timeout"),
            "retries": {"total_max_attempts": 1},  # `Store` makes the retries
            "max_pool_connections": _CONNECTIONS,
            "http_session_cls": BoundedSession,
            # Uploads have an MD5, which all stores support, unlike the newer checksums.
            "request_checksum_calculation": "when_required",
        },
        asynchronous=True,
        skip_instance_cache=True,
        use_listings_cache=False,
        **({"profile": profile} if profile else {}),
    )


def _keep_body(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Move the listing out of a successful answer, so that botocore does not parse it."""
    if response_dict["status_code"] == 200:
        customized_response_dict["Body"] = response_dict["body"]
        response_dict["body"] = b"<ListBucketResult/>"


class BoundedSession(AIOHTTPSession):  # type: ignore[misc]  # untyped
    """Sends requests like its base class, but limits the time and size of answers except objects.

    botocore's timeout only applies to one read from a socket: a server that sends a byte per minute,
    or never ends a listing, would delay a run for days or fill its memory.
    """

    async def send(self, request: Any) -> Any:
        """Send a request, and read its answer unless it is an object."""
        streams = request.stream_output
        request.stream_output = True  # so that the base class does not read the answer
        seconds = self._timeout.sock_read
        # The time of an upload depends on its size.
        async with asyncio.timeout(None if request.body else 2 * seconds):
            response = await super().send(request)
        if streams and response.status_code < 300:
            return response
        try:
            body = await _read_answer(response.raw.content, seconds)
        except BaseException:
            response.raw.close()
            raise
        raw = _Answer(body)
        return AioAWSResponse(response.url, response.status_code, response.headers, raw)


class _Answer:
    """The body of an answer that is already read, with the interface that botocore expects."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


async def _read_answer(content: Any, seconds: float) -> bytes:
    body = bytearray()
    async with aclosing(at_minimum_rate(content.iter_any(), seconds)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > _ANSWER_BYTES:
                raise StoreError(
                    f"the answer is longer than {_ANSWER_BYTES >> 20} MiB, although a listing of a "
                    "thousand keys was requested. Check that the endpoint is an S3 store, and that no "
                    "proxy answers for it."
                )
    return bytes(body)


def _check_answer(
    response: dict[str, Any], url: str, etag: str | None, size: int, offset: int
) -> None:
    """Check that an answer contains the listed object, starting at `offset`."""
    found = str(response.get("ETag", "")).strip('"')
    if etag is not None and not found:
        raise TransientError(
            "the answer has no ETag, so it is not from the store",
            "Check that the endpoint is an S3 store, and that no proxy answers for it.",
        )
    if etag is not None and found != etag:
        raise changed_object(url)
    if offset and not str(response.get("ContentRange", "")).startswith(f"bytes {offset}-"):
        raise TransientError(f"the store did not resume at byte {offset}", restart=True)
    length = response.get("ContentLength")
    if length != size - offset:
        raise TransientError(f"the store announced {length} bytes instead of {size - offset}")


def _etag_is_md5(response: dict[str, Any], bucket: str) -> bool:
    """Check whether an ETag is an MD5: not with a customer's encryption key, or a directory bucket."""
    encryption = response.get("ServerSideEncryption", "AES256")
    own_key = encryption != "AES256" or "SSECustomerAlgorithm" in response
    return not own_key and not _is_directory_bucket(bucket)


def _is_directory_bucket(bucket: str) -> bool:
    """Check for a bucket of S3 Express One Zone, or an access point to one."""
    return bucket.endswith(("--x-s3", "--xa-s3"))


def _resumable(response: dict[str, Any], expected: Expected) -> bool:
    """Return False if the only check is a checksum, which botocore verifies within one answer."""
    return expected.md5 is not None or not any(name.startswith("Checksum") for name in response)


def _md5(data: bytes) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def guard_logs() -> None:
    """Keep credentials out of the logs at any level.

    At level DEBUG, botocore logs request headers, which contain the session token, and the answers
    to requests for credentials. This drops its messages below INFO from the threads of stores.
    """
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("aiobotocore", "botocore", "s3fs"):
            logging.getLogger(name).addFilter(_may_be_logged)  # idempotent


def _may_be_logged(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or not (
        record.thread is None or is_loop_thread(record.thread)
    )
