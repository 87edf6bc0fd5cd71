"""The cache and the prefetcher over a real S3 server whose answers are broken."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import FAULTS, FaultProxy
from support.jobs import ROOT
from support.store_server import Bucket

from daskmr.data.cache.cache import Cache
from daskmr.data.cache.prefetch import Prefetcher
from daskmr.data.cache.upkeep import verify
from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile
from daskmr.data.store_listing import list_store
from daskmr.store.store import ChangedObject, MissingObject, Store, StoreError, parse_source

OBJECTS = {
    f"idle/Firefox/beta/24.0/2013.{1100 + n % 5}.{n:03}.log.gz": random.Random(n).randbytes(n * 700)
    for n in range(80)
}


@pytest.fixture
def store(bucket: Bucket) -> Iterator[Store]:
    """A store that waits for a moment only before it tries again; after the proxy, if any."""
    bucket.put(OBJECTS)
    with Store(parse_source(bucket.name, read_timeout=1)) as store:
        store.retry.first_wait, store.retry.longest_wait = 0.001, 0.01
        yield store


@pytest.fixture
def cache(tmp_path: Path, store: Store) -> Iterator[Cache]:
    with Cache.of(str(tmp_path), store.source) as cache:
        yield cache


def listed(store: Store, cache: Cache) -> tuple[InputFile, ...]:
    return list_store(store, load_schema(), recorder=cache.recording()).files


def fetch_all(cache: Cache | None, store: Store, files: Any) -> dict[str, bytes]:
    with Prefetcher(cache, lambda: store, files, 1 << 20) as ahead:
        return {
            file.path: Path(got).read_bytes() if isinstance(got, str) else got.read()
            for file, got in ahead
        }


def test_a_second_run_asks_for_nothing_but_the_listing(
    bucket: Bucket, store: Store, cache: Cache
) -> None:
    assert fetch_all(cache, store, listed(store, cache)) == OBJECTS
    assert bucket.count("GET", "idle") == len(OBJECTS)
    bucket.server.clear_requests()
    assert fetch_all(cache, store, listed(store, cache)) == OBJECTS
    assert bucket.count("GET", "idle") == bucket.count("HEAD") == 0
    assert bucket.listed() != []


def test_without_a_cache(bucket: Bucket, store: Store, cache: Cache) -> None:
    files = listed(store, cache)
    with Prefetcher(None, lambda: store, files, 30_000) as ahead:  # some are larger
        assert {file.path: got.read() for file, got in ahead} == OBJECTS  # type: ignore[union-attr]
    assert not os.path.exists(cache.root)
    assert not os.path.exists(cache.staging.folder)


@pytest.mark.parametrize("cached", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_every_fault_in_turn(
    cached: bool, proxy: FaultProxy, store: Store, cache: Cache, bucket: Bucket
) -> None:
    files = listed(store, cache)
    proxy.inject(*FAULTS, every=3, match=lambda request: bool(request.key))
    assert fetch_all(cache if cached else None, store, files) == OBJECTS
    assert set(proxy.injected) == set(FAULTS)
    # a connection that ends before it answers is tried again below the store, too
    assert store.retry.faults >= proxy.injected.total() - proxy.injected["disconnect"] > 25
    if cached:
        assert list(verify(cache)) == []
        assert os.listdir(cache.staging.folder) == []


def test_an_object_that_stays_broken_fails_alone(
    proxy: FaultProxy, bucket: Bucket, cache: Cache
) -> None:
    bucket.put(OBJECTS)
    bad = sorted(OBJECTS)[20]
    with Store(parse_source(bucket.name), retries=3) as store:
        store.retry.first_wait = 0.001
        files = listed(store, cache)
        proxy.inject("flip", match=lambda request: request.key == bad)
        with Prefetcher(cache, lambda: store, files, 1 << 20) as ahead:
            for file in files:
                if file.path == bad:
                    with pytest.raises(StoreError, match=r"24\.0/2013"):
                        ahead.take(file)
                else:
                    ahead.take(file)
        assert proxy.injected["flip"] == 4
        assert cache.state(files).absent == (files[20],), "what came is kept"
        proxy.clear()
        assert fetch_all(cache, store, files) == OBJECTS
        assert Counter(request.key for request in proxy.requests) == {bad: 1}


def test_what_changes_after_the_listing(bucket: Bucket, store: Store, cache: Cache) -> None:
    files = listed(store, cache)
    changed, gone = files[5], files[6]
    bucket.put({changed.path: b"x" * changed.size})
    bucket.delete(gone.path)
    failed = {}
    with Prefetcher(cache, lambda: store, files, 1 << 20) as ahead:
        for file in files:
            try:
                ahead.take(file)
            except StoreError as error:
                failed[file.path] = type(error)
    assert failed == {changed.path: ChangedObject, gone.path: MissingObject}
    files = listed(store, cache)
    assert fetch_all(cache, store, files)[changed.path] == b"x" * changed.size
    assert list(verify(cache)) == []


FETCHING = """
import sys
from test_cache_s3 import *
work_dir, bucket, url = sys.argv[1:]
with Store(parse_source(bucket, endpoint_url=url)) as store:
    with Cache.of(work_dir, store.source) as cache:
        assert fetch_all(cache, store, listed(store, cache)) == OBJECTS
"""


@pytest.mark.slow
def test_two_processes_fetch_each_object_once(bucket: Bucket, store: Store, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", FETCHING, str(tmp_path), bucket.name, bucket.server.url],
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(
                    map(str, (Path(__file__).parent, ROOT / "tests", ROOT))
                ),
            },
        )
        for _ in range(2)
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    gets = Counter(r.key for r in bucket.requests() if r.method == "GET" and r.key)
    assert gets == dict.fromkeys(OBJECTS, 1)
    with Cache.of(str(tmp_path), store.source) as cache:
        assert cache.root.endswith("/cache")
        assert list(verify(cache)) == []
        assert cache.manifest.count()[0] == len(OBJECTS)
