"""Tests of what is particular to S3: refusals, credentials, objects in parts, uploads."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import ANSWERS, FaultProxy
from support.reading import TWO_PARTS, entry_of, fetched, is_object, noise
from support.store_server import CREDENTIALS, Bucket

from daskmr.errors import InputError
from daskmr.store.s3 import _etag_is_md5
from daskmr.store.store import (
    Source,
    Store,
    StoreError,
    parse_source,
)


@pytest.mark.slow
def test_parts_of_different_sizes(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    import boto3

    sizes = [6 << 20, 5 << 20, 6 << 20, 1]
    data = noise(sum(sizes))
    client = boto3.client("s3", region_name="us-east-1")
    for key, cut in (
        ("even", [6 << 20, 6 << 20, 1]),
        ("odd", [6 << 20, 5 << 20, 1]),
        ("more", sizes),
    ):
        upload = {"Bucket": bucket.name, "Key": key}
        upload["UploadId"] = client.create_multipart_upload(**upload)["UploadId"]
        parts, start = [], 0
        for number, size in enumerate(cut, 1):
            body = data[start : start + size]
            etag = client.upload_part(**upload, PartNumber=number, Body=body)["ETag"]
            parts.append({"PartNumber": number, "ETag": etag})
            start += size
        client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        store = open_store(bucket, retries=3)
        entry = entry_of(store, key)
        proxy.clear()
        proxy.inject("flip", times=1, match=is_object)
        assert fetched(store, key, entry) == data[: sum(cut)]
        assert proxy.injected == {"flip": 1}


def test_a_checksum_where_the_etag_is_none(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    import boto3

    data = noise(200_000)
    boto3.client("s3", region_name="us-east-1").put_object(
        Bucket=bucket.name,
        Key="a",
        Body=data,
        ServerSideEncryption="aws:kms",
        ChecksumAlgorithm="CRC32",
    )
    store = open_store(bucket, retries=2)
    entry = entry_of(store, "a")
    proxy.clear()
    proxy.inject("truncated", "flip", times=2, match=is_object)
    assert fetched(store, "a", entry) == data
    assert proxy.injected == {"truncated": 1, "flip": 1}
    # A checksum of the whole says nothing of a rest, so none was asked for.
    assert not any("range" in r.headers for r in proxy.requests)
    proxy.inject("flip", match=is_object)
    with pytest.raises(StoreError, match="the received bytes are not those of the object"):
        fetched(store, "a", entry)


@pytest.mark.parametrize(
    ("answer", "bucket", "is_md5"),
    [
        ({}, "usual", True),
        ({"ServerSideEncryption": "AES256"}, "usual", True),
        ({"ServerSideEncryption": "aws:kms"}, "usual", False),
        ({"SSECustomerAlgorithm": "AES256"}, "usual", False),
        ({}, "directory--use1-az4--x-s3", False),
    ],
)
def test_where_an_etag_is_no_md5(answer: dict[str, str], bucket: str, is_md5: bool) -> None:
    assert _etag_is_md5(answer, bucket) == is_md5


# --- what is told at once -------------------------------------------------------------------------


def refused(source: Source, *words: str) -> str:
    """What `Store.check` says, which must not take long."""
    started = time.monotonic()
    with Store(source) as store, pytest.raises(InputError) as caught:
        store.check()
    assert time.monotonic() - started < 20  # retrying would take a minute
    assert store.retry.faults == 0
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    for secret in ("secret-key", "session-token"):
        assert secret not in message
    return message


def test_no_such_bucket(bucket: Bucket) -> None:
    source = parse_source("no-such-bucket")
    refused(source, "There is no bucket no-such-bucket", bucket.server.url, "--endpoint-url")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("403 AccessDenied", "Access to s3://{}/ was denied"),
        ("403 InvalidAccessKeyId", "does not accept the credentials"),
        ("403 SignatureDoesNotMatch", "does not accept the credentials"),
        ("403 RequestTimeTooSkewed", "clock"),
        ("400 AuthorizationHeaderMalformed", "--region"),
        ("301 PermanentRedirect", "Give --region eu-west-1."),
        ("400 InvalidBucketName", "Check the name of the bucket"),
        ("400 ExpiredToken", "the credentials have expired"),
    ],
)
def test_refusals(answer: str, said: str, bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.inject(answer)
    refused(parse_source(bucket.name), said.format(bucket.name))


def test_a_refused_object_is_told_at_once(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": b"1"})
    store = open_store(bucket)
    entry = entry_of(store, "a")
    for answer, said in (
        ("403 AccessDenied", "Access to .*/a was denied"),
        ("403 InvalidObjectState", "/a is archived"),
    ):
        proxy.clear()
        proxy.inject(answer)
        with pytest.raises(StoreError, match=said):
            fetched(store, "a", entry)
        assert proxy.injected == {answer: 1}


@pytest.mark.usefixtures("bucket")
def test_nobody_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{bound.getsockname()[1]}"
        source = parse_source("name", endpoint_url=endpoint)
        refused(source, f"the endpoint {endpoint} cannot be reached", "AWS_ENDPOINT_URL")


def test_somebody_elses_server(bucket: Bucket, proxy: FaultProxy) -> None:
    proxy.inject("html")
    refused(parse_source(bucket.name), "not a listing of the bucket", "the endpoint is an S3 store")


def test_a_server_that_never_answers(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskmr.store.store._SECONDS_TO_CHECK", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused(parse_source("name", endpoint_url=endpoint), "no answer arrived within 0.5 seconds")


@pytest.mark.usefixtures("bucket")
def test_no_such_host() -> None:
    source = parse_source("name", endpoint_url="http://nowhere.invalid")
    refused(source, "http://nowhere.invalid cannot be reached", "--endpoint-url")


@pytest.mark.usefixtures("bucket")
def test_no_tls(s3_server: Any) -> None:
    source = parse_source("name", endpoint_url=s3_server.url.replace("http:", "https:"))
    refused(source, "https://127.0.0.1", "endpoint URL")


def test_no_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    refused(
        parse_source(bucket.name), "no usable credentials", "AWS_ACCESS_KEY_ID", "--aws-profile"
    )


def test_half_of_the_credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    refused(parse_source(bucket.name), "no usable credentials", "AWS_SECRET_ACCESS_KEY")


def test_anonymous(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    with Store(parse_source(bucket.name, anon=True)) as store:
        store.check()
    assert "authorization" not in bucket.requests()[0].headers


def test_requester_pays_and_region(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"a": b"1"})
    store = open_store(bucket, requester_pays=True, region="eu-west-3")
    assert fetched(store, "a", entry_of(store, "a")) == b"1"
    assert len(bucket.requests()) == 2
    for request in bucket.requests():
        assert request.headers["x-amz-request-payer"] == "requester"
        assert "/eu-west-3/s3/" in request.headers["authorization"]


def test_expired_credentials_are_read_anew(
    bucket: Bucket,
    proxy: FaultProxy,
    open_store: Callable[..., Store],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket.put({"a": b"1"})
    store = open_store(bucket)
    entry = entry_of(store, "a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIARENEWED")
    proxy.inject("400 ExpiredToken", times=1)
    assert fetched(store, "a", entry) == b"1"
    keys = [r.headers["authorization"].split("=")[1].split("/")[0] for r in proxy.requests]
    assert keys == [CREDENTIALS["AWS_ACCESS_KEY_ID"]] * 2 + ["AKIARENEWED"]


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1000, TWO_PARTS])
def test_write_an_object(
    size: int, bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store], tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(noise(size))
    proxy.inject(*ANSWERS, "disconnect", times=4)
    store = open_store(bucket.name + "/out")
    store.write_object("a/b", str(tmp_path / "local"))
    assert bucket.objects() == {"out/a/b": noise(size)}
    assert bucket.server.uploads(bucket.name) == 0
    assert sum(proxy.injected.values()) == 4


@pytest.mark.parametrize("size", [1000, TWO_PARTS])
@pytest.mark.parametrize("answer", ["403 AccessDenied", "503 SlowDown"])
def test_an_upload_that_fails_leaves_nothing(
    answer: str,
    size: int,
    bucket: Bucket,
    proxy: FaultProxy,
    open_store: Callable[..., Store],
    tmp_path: Path,
) -> None:
    (tmp_path / "local").write_bytes(noise(size))
    bucket.put({"a": b"before"})
    last = "2" if size == TWO_PARTS else ""
    proxy.inject(
        answer, match=lambda r: r.method == "PUT" and r.query.get("partNumber", "") == last
    )
    store = open_store(bucket, retries=2)
    with pytest.raises(StoreError) as caught:
        store.write_object("a", str(tmp_path / "local"))
    assert f"{bucket.name}/a" in str(caught.value)
    assert bucket.objects() == {"a": b"before"}
    assert bucket.server.uploads(bucket.name) == 0


def test_a_lost_answer_to_the_end_of_an_upload(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store], tmp_path: Path
) -> None:
    (tmp_path / "local").write_bytes(noise(TWO_PARTS))
    proxy.inject("lost", times=1, match=lambda r: r.method == "POST" and "uploadId" in r.query)
    store = open_store(bucket)
    store.write_object("a", str(tmp_path / "local"))
    assert bucket.objects() == {"a": noise(TWO_PARTS)}
    assert proxy.injected == {"lost": 1}


# --- stretches, and deleting ----------------------------------------------------------------------


def test_a_stretch_of_an_object(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    data = noise(3_000_000)
    bucket.put({"a/b.seg": data})
    store = open_store(bucket, retries=3)
    proxy.inject("503", times=1, match=is_object)
    proxy.inject("reset", times=1, match=is_object)
    assert store.read("a/b.seg", 1_000_000, 1_500_000) == data[1_000_000:2_500_000]
    assert store.read("a/b.seg", 2_999_999, 1) == data[-1:]
    with pytest.raises(StoreError, match=r"a/b.seg cannot be read: 10 bytes arrived instead of 20"):
        open_store(bucket, retries=0).read("a/b.seg", 2_999_990, 20)
    with pytest.raises(StoreError, match="nothing"):
        store.read("nothing", 0, 1)


def test_deleting_a_thousand_at_a_time(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    names = [f"run/{number} é&.seg" for number in range(1001)]
    bucket.put(dict.fromkeys([*names, "kept"], b"x"))
    open_store(bucket).delete([*names, "never there"])
    assert list(bucket.objects()) == ["kept"]
    assert sum(request.method == "POST" for request in bucket.requests()) == 2
