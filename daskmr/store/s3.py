"""Remote data in S3, request by request: one attempt each, through s3fs and its botocore client.

s3fs opens the session (profile, endpoint, anonymous access). The requests are made here and not by
the methods of s3fs, since those repair broken transfers in ways that can leave wrong bytes: a GET is
bound to the listed ETag here, and what it brings is checked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

from daskmr.store.checksums import Proof, multipart_etag
from daskmr.store.event_loop import is_loop_thread
from daskmr.store.retry import LeastRate, Patience
from daskmr.store.s3_errors import Expired, changed, explain
from daskmr.store.s3_listing import parse_page
from daskmr.store.source import (
    Fault,
    MissingObject,
    Page,
    Source,
    StoreError,
    join,
    split_bucket,
)

__all__ = ["S3", "S3Transfer"]

_CONNECTIONS = 64
_READ_BYTES = 1 << 20
_PART_BYTES = 16 << 20
_MOST_PARTS = 10_000
_UPLOADS_AT_ONCE = 4
_TRIES_TO_ABORT = 3


class S3:
    """A bucket, or a prefix in it, as the event loop sees it.

    Its methods make one attempt. They raise `Fault` for what may pass, `StoreError` for what
    won't.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._bucket, _, self._prefix = split_bucket(source.root)
        self.ordered = not _is_directory_bucket(self._bucket)
        self._s3fs: Any = None
        self._client: Any = None
        self._expired = False
        self._clients: list[Any] = []
        self._payer = {"RequestPayer": "requester"} if source.option("requester_pays") else {}

    # --- requests ---------------------------------------------------------------------------------

    async def _connect(self) -> Any:
        """The botocore client; a new one, with new credentials, when those of the last expired."""
        if self._s3fs is None:
            self._s3fs = _session(self.source)
        if self._client is None or self._expired:
            self._expired = False
            self._client = await self._s3fs.set_session(refresh=self._client is not None)
            if not any(client is self._client for client in self._clients):
                self._clients.append(self._client)
                # There is no option for one's own parser, and botocore's takes 45 ms a page.
                self._client.meta.events.register("before-parse.s3.ListObjectsV2", _keep_body)
            guard_logs()
        return self._client

    async def _call(self, method: str, about: str, **arguments: Any) -> Any:
        """Make one request; `about` names what it is about, for messages."""
        client = None
        try:
            client = await self._connect()
            call = getattr(client, method)
            return await call(Bucket=self._bucket, **arguments, **self._payer)
        except Exception as error:
            failure = explain(error, about, self.source)
        if isinstance(failure, Expired) and client is self._client:
            self._expired = True  # not when another request has renewed it meanwhile
        raise failure

    async def warm_up(self) -> None:
        """Make the client."""
        try:
            await self._connect()
        except Exception as error:
            failure = explain(error, self._url(""), self.source)
        else:
            return
        raise failure

    async def close(self) -> None:
        """Close all connections."""
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()

    def _url(self, path: str) -> str:
        return self.source.url_of(path)

    def _key(self, path: str) -> str:
        return join(self._prefix, path)

    # --- listing ----------------------------------------------------------------------------------

    async def check(self) -> None:
        """Make the cheapest request that shows whether the source can be listed."""
        await self.page("", limit=1)

    async def page(
        self,
        prefix: str,
        name_prefix: str = "",
        start: str = "",
        token: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """List one page of what is directly below `prefix`."""
        key = self._key(prefix) if prefix or self._prefix else ""
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
                f"{url} cannot be listed: what answers says that there is no such thing. Check that "
                "the endpoint is an S3 store, and that no proxy answers for it."
            ) from None
        return parse_page(response["Body"], self._bucket, key, name_prefix)

    # --- reading ----------------------------------------------------------------------------------

    @asynccontextmanager
    async def transfer(
        self, path: str, etag: str | None, size: int, offset: int, exact: bool
    ) -> AsyncIterator[S3Transfer]:
        """Ask for the bytes of an object from `offset` on.

        `exact` looks up the size of every part of an object that was uploaded in parts, instead of
        taking all but the last for equal.
        """
        url = self._url(path)
        arguments: dict[str, Any] = {} if etag is None else {"IfMatch": f'"{etag}"'}
        if offset:
            arguments["Range"] = f"bytes={offset}-"
        else:
            arguments["ChecksumMode"] = "ENABLED"  # then botocore checks what it can
        response = await self._call("get_object", url, Key=self._key(path), **arguments)
        body = response["Body"]
        try:
            _check_answer(response, url, etag, size, offset)
            proof = Proof(size)
            if not offset:
                proof = await self._proof(path, etag, size, response, exact)
            yield S3Transfer(self.source, url, body, proof, _resumable(response, proof))
        finally:
            body.close()

    async def read(self, path: str, offset: int, length: int) -> bytes:
        """Read a stretch of an object."""
        url, wanted = self._url(path), f"bytes={offset}-{offset + length - 1}"
        response = await self._call("get_object", url, Key=self._key(path), Range=wanted)
        body = response["Body"]
        try:
            answer = S3Transfer(self.source, url, body, Proof(length), False)
            data = b"".join([piece async for piece in answer])
        finally:
            body.close()
        if len(data) != length:
            raise Fault(f"{len(data)} bytes came instead of {length}")
        return data

    async def _proof(
        self, path: str, etag: str | None, size: int, response: dict[str, Any], exact: bool
    ) -> Proof:
        digits = multipart_etag(etag)
        if digits is None or not _etag_is_md5(response, self._bucket):
            return Proof(size)
        md5, count = digits
        if not count:
            return Proof(size, md5)
        parts = await self._part_sizes(path, size, count, exact)
        return Proof(size, md5, parts) if parts else Proof(size)

    async def _part_sizes(self, path: str, size: int, count: int, exact: bool) -> tuple[int, ...]:
        """The sizes of the `count` parts of an object; none where the store does not tell."""
        first = await self._part_size(path, 1)
        if first is None:
            return ()
        last = size - first * (count - 1)
        if 0 < last <= first and not exact:
            return (*[first] * (count - 1), last)
        sizes = [first]
        for number in range(2, count + 1):
            part = await self._part_size(path, number)
            if part is None:
                return ()
            sizes.append(part)
        return tuple(sizes)

    async def _part_size(self, path: str, number: int) -> int | None:
        try:
            head = await self._call(
                "head_object", self._url(path), Key=self._key(path), PartNumber=number
            )
        except StoreError:
            return None  # not every store knows of parts
        return head["ContentLength"] if "PartsCount" in head else None

    # --- writing ----------------------------------------------------------------------------------

    async def write(self, path: str, local: str, patience: Patience) -> None:
        """Upload a file as one object, which is there only when all of it is."""
        size = os.path.getsize(local)
        if size > _PART_BYTES:
            await self._write_parts(path, local, size, patience)
            return
        with open(local, "rb") as file:
            data = file.read()
        key, url = self._key(path), self._url(path)
        what = f"{url} cannot be written"
        await patience(
            lambda: self._call("put_object", url, Key=key, Body=data, ContentMD5=_md5(data)), what
        )

    async def _write_parts(self, path: str, local: str, size: int, patience: Patience) -> None:
        key, url = self._key(path), self._url(path)
        what = f"{url} cannot be written"
        begun = await patience(lambda: self._call("create_multipart_upload", url, Key=key), what)
        upload = {"Key": key, "UploadId": begun["UploadId"]}
        try:
            parts = await self._upload_parts(url, upload, local, size, patience)
            await patience(lambda: self._complete(url, upload, parts, size), what)
        except BaseException:
            with suppress(StoreError):  # the first failure is what counts
                await Patience(_TRIES_TO_ABORT)(
                    lambda: self._call("abort_multipart_upload", url, **upload), what
                )
            raise

    async def _upload_parts(
        self, url: str, upload: dict[str, str], local: str, size: int, patience: Patience
    ) -> list[dict[str, Any]]:
        import asyncio

        part_bytes = max(_PART_BYTES, -(-size // _MOST_PARTS))
        gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

        async def put(number: int) -> dict[str, Any]:
            async with gate:
                data = os.pread(file.fileno(), part_bytes, (number - 1) * part_bytes)
                response = await patience(
                    lambda: self._call(
                        "upload_part",
                        url,
                        **upload,
                        PartNumber=number,
                        Body=data,
                        ContentMD5=_md5(data),
                    ),
                    f"{url} cannot be written",
                )
                return {"PartNumber": number, "ETag": response["ETag"]}

        try:
            with open(local, "rb") as file:
                async with asyncio.TaskGroup() as group:
                    count = -(-size // part_bytes)
                    tasks = [group.create_task(put(number + 1)) for number in range(count)]
        except ExceptionGroup as failures:
            failure = failures.exceptions[0]
        else:
            return [task.result() for task in tasks]
        raise failure

    async def _complete(
        self, url: str, upload: dict[str, str], parts: list[dict[str, Any]], size: int
    ) -> None:
        try:
            await self._call(
                "complete_multipart_upload", url, **upload, MultipartUpload={"Parts": parts}
            )
        except MissingObject:
            # There is no such upload any more: when the answer to an attempt was lost, it succeeded.
            head = await self._call("head_object", url, Key=upload["Key"])
            if head["ContentLength"] != size or not head["ETag"].endswith(f'-{len(parts)}"'):
                raise

    # --- deleting ---------------------------------------------------------------------------------

    async def delete(self, paths: list[str]) -> None:
        """Delete objects, a thousand at most; those that are not there are no mistake."""
        objects = {"Objects": [{"Key": self._key(path)} for path in paths], "Quiet": True}
        response = await self._call("delete_objects", self._url(""), Delete=objects)
        if response.get("Errors"):
            first = response["Errors"][0]
            raise StoreError(
                f"{self._url('')}{first.get('Key')} cannot be deleted: {first.get('Message')}. "
                "Check that the credentials allow s3:DeleteObject."
            )


class S3Transfer:
    """The bytes of one answer, as they come.

    Attributes
    ----------
    proof : Proof
        What the whole object must show; of an answer from the first byte on.
    resumable : bool
        Whether the check goes on when the rest comes in another answer.
    """

    def __init__(self, source: Source, url: str, body: Any, proof: Proof, resumable: bool) -> None:
        self._source = source
        self._url = url
        self._body = body
        self.proof = proof
        self.resumable = resumable

    async def __aiter__(self) -> AsyncIterator[bytes]:
        rate = LeastRate(self._source.option("read_timeout"))
        async with aclosing(rate.of(self._pieces())) as pieces:
            async for data in pieces:
                yield data

    async def _pieces(self) -> AsyncIterator[bytes]:
        while data := await self._read():
            yield data

    async def _read(self) -> bytes:
        try:
            data: bytes = await self._body.read(_READ_BYTES)
            return data
        except Exception as error:
            failure = explain(error, self._url, self._source)
        raise failure


def _session(source: Source) -> Any:
    from s3fs import S3FileSystem

    from daskmr.store.s3_session import BoundedSession

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
            "retries": {"total_max_attempts": 1},  # `Store` tries again
            "max_pool_connections": _CONNECTIONS,
            "http_session_cls": BoundedSession,
            # Uploads carry an MD5, which every store knows; the newer checksums, not every one.
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
    """Take the listing out of a good answer before botocore parses it."""
    if response_dict["status_code"] == 200:
        customized_response_dict["Body"] = response_dict["body"]
        response_dict["body"] = b"<ListBucketResult/>"


# --- objects --------------------------------------------------------------------------------------


def _check_answer(
    response: dict[str, Any], url: str, etag: str | None, size: int, offset: int
) -> None:
    """Make sure that an answer is the object that was listed, from `offset` on."""
    found = str(response.get("ETag", "")).strip('"')
    if etag is not None and not found:
        raise Fault(
            "what came has no ETag, so it is not from the store",
            "Check that the endpoint is an S3 store, and that no proxy answers for it.",
        )
    if etag is not None and found != etag:
        raise changed(url)
    if offset and not str(response.get("ContentRange", "")).startswith(f"bytes {offset}-"):
        raise Fault(f"the store did not go on at byte {offset}", anew=True)
    length = response.get("ContentLength")
    if length != size - offset:
        raise Fault(f"the store announced {length} bytes instead of {size - offset}")


def _etag_is_md5(response: dict[str, Any], bucket: str) -> bool:
    """It is not where a key of one's own encrypts the object, nor in a directory bucket."""
    encryption = response.get("ServerSideEncryption", "AES256")
    own_key = encryption != "AES256" or "SSECustomerAlgorithm" in response
    return not own_key and not _is_directory_bucket(bucket)


def _is_directory_bucket(bucket: str) -> bool:
    """Whether it is one of S3 Express One Zone, or an access point to one."""
    return bucket.endswith(("--x-s3", "--xa-s3"))


def _resumable(response: dict[str, Any], proof: Proof) -> bool:
    """botocore's check of a checksum spans one answer only, so where that is all, begin anew."""
    return proof.md5 is not None or not any(name.startswith("Checksum") for name in response)


def _md5(data: bytes) -> str:
    import base64
    import hashlib

    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


# --- logs -----------------------------------------------------------------------------------------


def guard_logs() -> None:
    """Keep credentials out of the logs, whatever their level.

    At level DEBUG botocore logs the headers of requests, with the session token, and the answers
    to requests for credentials. What it logs on our threads below INFO is dropped.
    """
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in ("aiobotocore", "botocore", "s3fs"):
            logging.getLogger(name).addFilter(_keeps_no_secret)  # adding it again does nothing


def _keeps_no_secret(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.INFO or not (
        record.thread is None or is_loop_thread(record.thread)
    )
