"""A directory in a store is complete if it has _SUCCESS; until the end the earlier one is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import FaultProxy
from support.store_server import Bucket

from daskmr.data.output_directory.base import WrittenPart
from daskmr.data.output_directory.opening import open_directory
from daskmr.data.output_directory.remote import StoreDirectory
from daskmr.errors import InputError, JobError
from daskmr.store.source import parse_source
from daskmr.store.store import Store

RUN = "0123456789ab"
EARLIER = {
    "out/_SUCCESS": b"",
    "out/_meta.json": b"{}",
    "out/part-00000.txt": b"old",
    "out/part-00001.txt": b"old",
}


@pytest.fixture
def directory(bucket: Bucket, tmp_path: Path) -> Callable[..., StoreDirectory]:
    """Open the directory ``out/`` of the bucket, with one uploaded part."""

    def directory(text: bytes = b"new", retries: int = 2) -> StoreDirectory:
        url = f"s3://{bucket.name}/out/"
        target = open_directory(url, ".txt", RUN, str(tmp_path), parse_source, retries)
        assert isinstance(target, StoreDirectory)
        (tmp_path / "part-00000.txt").write_bytes(text)
        target.place.upload(str(tmp_path / "part-00000.txt"))
        target.parts = (WrittenPart("part-00000.txt", len(text), None),)
        return target

    return directory


def test_an_earlier_directory_stays_until_the_end(
    bucket: Bucket, directory: Callable[..., StoreDirectory]
) -> None:
    bucket.put(EARLIER)
    target = directory()
    assert sorted(target.there) == sorted(name.removeprefix("out/") for name in EARLIER)
    staged = {name for name in bucket.objects() if "/_temporary/run-" in name}
    assert len(staged) == 2, "the part, and the mark of a live run"
    assert {name: data for name, data in bucket.objects().items() if name not in staged} == EARLIER
    target.publish()
    target.commit()
    target.discard()
    assert bucket.objects() == {"out/_SUCCESS": b"", "out/part-00000.txt": b"new"}


def test_a_discarded_one_leaves_nothing(
    bucket: Bucket, directory: Callable[..., StoreDirectory]
) -> None:
    bucket.put(EARLIER)
    directory().discard()
    assert bucket.objects() == EARLIER


@pytest.mark.parametrize("key", ["out/part-00000.txt", "out/_SUCCESS"])
def test_what_is_incomplete_does_not_look_complete(
    bucket: Bucket, proxy: FaultProxy, directory: Callable[..., StoreDirectory], key: str
) -> None:
    bucket.put(EARLIER)
    target = directory(retries=0)
    proxy.inject("403 AccessDenied", match=lambda r: r.method == "PUT" and r.path.endswith(key))
    with pytest.raises(JobError, match=r"without _SUCCESS it is incomplete: run the job again"):
        target.publish()
    target.discard()
    assert "out/_SUCCESS" not in bucket.objects()


def test_objects_of_others_that_have_appeared(
    bucket: Bucket, directory: Callable[..., StoreDirectory]
) -> None:
    bucket.put(EARLIER)
    target = directory()
    bucket.put({"out/mine": b"mine"})
    with pytest.raises(JobError, match="holds mine, which"):
        target.publish()
    target.discard()
    assert bucket.objects() == {**EARLIER, "out/mine": b"mine"}


def test_a_bucket_that_is_not_there(bucket: Bucket, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"The output 's3://no-such-bucket/out/' cannot be used"):
        open_directory(
            "s3://no-such-bucket/out/", ".txt", RUN, str(tmp_path), parse_source, retries=0
        )


def test_a_url_that_has_lost_a_slash(tmp_path: Path) -> None:
    reach: Any = None
    with pytest.raises(InputError, match="A URL has two slashes: s3://bucket/out/"):
        open_directory("s3:/bucket/out/", ".txt", RUN, str(tmp_path), reach, 0)


def test_a_large_part_is_copied_in_pieces(
    bucket: Bucket, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(12 << 20)
    bucket.put({"a": data, "b": b"small"})
    monkeypatch.setattr("daskmr.store.s3._COPIED_AT_ONCE", 5 << 20)
    store = open_store(bucket)
    store.copy([("a", "deep/a", len(data)), ("b", "deep/b", 5)])
    assert bucket.objects() == {"a": data, "b": b"small", "deep/a": data, "deep/b": b"small"}
    assert bucket.server.uploads(bucket.name) == 0
