"""Tests of `daskmr.store.store`, against a real S3 server whose answers are broken."""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_proxy import ANSWERS, BROKEN, DAMAGED, FAULTS, FaultProxy
from support.reading import MULTIPART, TWO_PARTS, entries_of, entry_of, fetched, is_object, noise
from support.store_server import CREDENTIALS, Bucket, Request, StoreServer

from daskmr.cluster.forkserver import prewarm
from daskmr.store.store import (
    ChangedObject,
    Entry,
    InMemory,
    MissingObject,
    Source,
    Store,
    StoreError,
    parse_source,
)


def test_importing_costs_little() -> None:
    code = (
        "import sys; before = set(sys.modules); import daskmr.store.store; "  # a .pth may import much
        "heavy = {'fsspec', 's3fs', 'botocore', 'aiohttp', 'asyncio', 'urllib.parse', 'logging'}; "
        "print(*heavy & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# --- listing --------------------------------------------------------------------------------------


def test_list_one_level(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"a/x": b"12", "a/b/y": b"1", "a/b/z": b"1", "top": b"", "a/": b"", "a//q": b""})
    store = open_store(bucket)
    md5 = hashlib.md5(b"12").hexdigest()
    (x,) = (entry for entry in entries_of(store, "a/") if entry.name == "x")
    assert (x.is_dir, x.size, x.etag) == (False, 2, md5)
    assert x.mtime is not None
    assert abs(x.mtime - time.time()) < 3600
    assert {(e.name, e.is_dir) for e in entries_of(store, "a/")} == {
        ("", False),
        ("", True),
        ("b", True),
        ("x", False),
    }
    assert [e.name for e in entries_of(store, "")] == ["top", "a"]
    assert [r.query["prefix"] for r in bucket.requests()] == ["a/", "a/", ""]
    assert {r.query["delimiter"] for r in bucket.requests()} == {"/"}


def test_list_below_a_prefix(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"in/er/a": b"1", "in/er/b/c": b"1", "in/era": b"1"})
    store = open_store(bucket.name + "/in/er")
    store.check()
    assert [(e.name, e.is_dir) for e in entries_of(store, "")] == [("a", False), ("b", True)]
    assert fetched(store, "b/c", entry_of(store, "b/c")) == b"1"


def test_list_nothing(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    store = open_store(bucket)
    assert list(store.list("")) == [[]]
    assert list(store.list("no/such/")) == [[]]


def test_list_page_by_page(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    names = [f"{number:04}" for number in range(2500)]
    bucket.put({f"d/{name}": b"" for name in names})
    store = open_store(bucket)
    pages = list(store.list("d/"))
    assert [len(page) for page in pages] == [1000, 1000, 500]
    assert [entry.name for page in pages for entry in page] == names
    assert [e.name for e in entries_of(store, "d/", start="2497")] == ["2498", "2499"]
    assert [e.name for e in entries_of(store, "d/", name_prefix="012")] == names[120:130]


def test_list_odd_names(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    names = ["a b+c%20&d", "ü", "日本", "line\nfeed", "nul\x00", "<&>", "😀", "x" * 1022]
    bucket.put({f"d/{name}": name.encode() for name in names})
    store = open_store(bucket)
    assert sorted(e.name for e in entries_of(store, "d/")) == sorted(names)
    for name in ("a b+c%20&d", "ü", "日本", "<&>", "😀"):
        path = f"d/{name}"
        assert fetched(store, path, entry_of(store, path)) == name.encode()


def test_listings_are_never_stale(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    store = open_store(bucket)
    assert entries_of(store, "") == []
    bucket.put({"a": b"1"})
    assert [e.name for e in entries_of(store, "")] == ["a"]
    bucket.delete("a")
    assert entries_of(store, "") == []


@pytest.fixture(scope="module")
def many(s3_server: StoreServer) -> Bucket:
    """A bucket with more objects than a page lists."""
    bucket = Bucket(s3_server, f"many-{uuid.uuid4().hex}")
    bucket.put({f"{number:04}": b"" for number in range(1200)})
    return bucket


@pytest.mark.parametrize(
    "fault",
    [*ANSWERS, *(pytest.param(b, marks=pytest.mark.slow) if b == "stall" else b for b in BROKEN)],
)
def test_faults_of_a_listing(
    fault: str, many: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    proxy.inject(fault, times=2)
    store = open_store(many, read_timeout=4 if fault == "stall" else 30)
    assert len(entries_of(store, "")) == 1200
    assert proxy.injected == {fault: 2}


def test_what_a_page_lists_twice_counts_once(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({f"{number:04}{end}": b"" for number in range(600) for end in ("", "/a")})
    expected = entries_of(open_store(bucket), "")
    proxy.inject("twice")
    assert entries_of(open_store(bucket), "") == expected
    assert proxy.injected == {"twice": 2}


def test_a_page_that_never_ends_is_an_error_in_flat_memory(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": b""})
    store = open_store(bucket)
    store.check()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    proxy.inject("endless")
    with pytest.raises(
        StoreError, match=rf"s3://{bucket.name}/ cannot be .* is longer than 64 MiB"
    ):
        entries_of(store, "")
    assert proxy.injected == {"endless": 1}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << 10  # KiB


@pytest.mark.slow
@pytest.mark.parametrize("what", ["listing", "object"])
def test_what_trickles_is_tried_again_and_then_an_error(
    what: str, bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    data = noise(100_000)
    bucket.put({"a": data})
    entry = entry_of(open_store(bucket), "a")

    def have(store: Store) -> object:
        return entries_of(store, "") if what == "listing" else fetched(store, "a", entry)

    proxy.inject("trickle", times=1)
    store = open_store(bucket, read_timeout=1.5)
    assert have(store) == ([entry] if what == "listing" else data)
    assert proxy.injected == {"trickle": 1}
    assert store.retry.faults >= 1
    proxy.inject("trickle")
    store = open_store(bucket, retries=0, read_timeout=1.5)
    with pytest.raises(
        StoreError, match=rf"s3://{bucket.name}/.*: only \d+ bytes arrived in \d\.\d s"
    ):
        have(store)


# --- fetching -------------------------------------------------------------------------------------


@pytest.fixture(params=["small", pytest.param("large", marks=pytest.mark.slow), "parts"])
def stored(request: pytest.FixtureRequest, bucket: Bucket, tmp_path: Path) -> tuple[str, bytes]:
    """An object: small, of 20 MB, the same uploaded in parts, and of more than 50 MB."""
    size = {"small": 100_000, "very large": MULTIPART}.get(request.param, TWO_PARTS)
    data = noise(size)
    if request.param == "parts":
        (tmp_path / "local").write_bytes(data)
        with Store(parse_source(bucket.name)) as store:
            store.write_object("d/object", str(tmp_path / "local"))
            assert (entry_of(store, "d/object").etag or "").endswith("-2")
    else:
        bucket.put({"d/object": data})
    bucket.server.clear_requests()
    return "d/object", data


def test_every_fault_ends_in_verified_bytes(
    stored: tuple[str, bytes], proxy: FaultProxy, bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    path, data = stored
    # One fault is a stall, which takes this time; a store on a busy machine takes less to answer.
    store = open_store(bucket, retries=2 * len(FAULTS), read_timeout=3)
    entry = entry_of(store, path)
    proxy.inject(*FAULTS, times=len(FAULTS), match=is_object)
    assert fetched(store, path, entry) == data
    assert set(proxy.injected) == set(FAULTS)
    assert sum(proxy.injected.values()) == len(FAULTS)


@pytest.mark.slow
def test_every_fault_that_stays_is_an_error(
    stored: tuple[str, bytes], proxy: FaultProxy, bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    path, data = stored
    # A transfer that is resumed gets there in the end, by half of the rest each time.
    staying = set(FAULTS) - ({"reset", "truncated", "stall"} if len(data) > 100_000 else set())
    store = open_store(bucket, retries=2, read_timeout=0.5)
    entry = entry_of(store, path)
    for fault in sorted(staying):
        proxy.clear()
        proxy.inject(fault, match=is_object)
        with pytest.raises(StoreError, match=rf"{path} cannot be fetched: .*, after 3 tries") as e:
            fetched(store, path, entry)
        assert "\n" not in str(e.value)
        assert proxy.injected[fault] >= 3, fault


@pytest.mark.parametrize("stored", ["small", "very large", "parts"], indirect=True)
def test_a_fetch_is_one_get(
    stored: tuple[str, bytes], bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    path, data = stored
    store = open_store(bucket)
    entry = entry_of(store, path)
    bucket.server.clear_requests()
    assert fetched(store, path, entry) == data
    in_parts = "-" in (entry.etag or "")
    assert [r.method for r in bucket.requests()] == ["GET", *["HEAD"] * in_parts]
    assert bucket.requests()[0].headers["if-match"] == f'"{entry.etag}"'


@pytest.mark.parametrize(
    "fault", ["reset", "truncated", pytest.param("stall", marks=pytest.mark.slow)]
)
def test_a_broken_transfer_is_resumed(
    fault: str,
    stored: tuple[str, bytes],
    proxy: FaultProxy,
    bucket: Bucket,
    open_store: Callable[..., Store],
) -> None:
    path, data = stored
    store = open_store(bucket, read_timeout=2 if fault == "stall" else 20)
    entry = entry_of(store, path)
    proxy.inject(fault, times=1, match=is_object)
    assert fetched(store, path, entry) == data
    ranges = [r.headers.get("range") for r in proxy.requests if is_object(r)]
    # What had come when the connection was reset may be lost to the client.
    assert len(ranges) == 2
    assert fault == "reset" or ranges == [None, f"bytes={len(data) // 2}-"]


def test_a_transfer_that_brings_much_each_time_may_break_often(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    data = noise(MULTIPART)
    bucket.put({"a": data})
    store = open_store(bucket, retries=1)
    entry = entry_of(store, "a")
    proxy.inject("truncated", times=2, match=is_object)  # 26 MiB, then 13
    assert fetched(store, "a", entry) == data
    assert proxy.injected == {"truncated": 2}


def test_an_object_that_changed_before(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"a": b"old"})
    store = open_store(bucket)
    entry = entry_of(store, "a")
    bucket.put({"a": b"new"})
    with pytest.raises(ChangedObject, match=r"/a changed after it was listed"):
        fetched(store, "a", entry)
    assert bucket.count("GET", "a") == 1


def test_an_object_that_changes_meanwhile(
    stored: tuple[str, bytes], bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    path, data = stored
    store = open_store(bucket)
    entry = entry_of(store, path)

    def overwrite(request: Request) -> bool:
        if "range" in request.headers:
            bucket.put({path: data[::-1]})
            return False
        return is_object(request)

    proxy.inject("truncated", match=overwrite)
    with pytest.raises(ChangedObject):
        fetched(store, path, entry)
    assert proxy.injected == {"truncated": 1}


def test_an_object_that_is_gone(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    store = open_store(bucket)
    with pytest.raises(MissingObject, match=r"no/such no longer exists"):
        fetched(store, "no/such", Entry("such", False, 1, "0" * 32))
    assert bucket.count("GET", "no/such") == 1


def test_an_empty_object(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"a": b""})
    store = open_store(bucket)
    entry = entry_of(store, "a")
    assert fetched(store, "a", entry) == b""
    assert store.open("a", entry.etag, 0).read() == b""


def test_what_the_target_raises_is_passed_on(
    bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": b"1"})
    store = open_store(bucket)
    entry = entry_of(store, "a")

    class Full(InMemory):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        store.fetch("a", entry.etag, entry.size, Full("a"))
    assert bucket.count("GET", "a") == 1


def test_many_at_once(bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]) -> None:
    import asyncio

    data = {f"{number:03}": noise(20_000, number) for number in range(100)}
    bucket.put(data)
    store = open_store(bucket, read_timeout=0.5)
    entries = entries_of(store, "")
    proxy.inject(*FAULTS, every=7, match=is_object)

    async def fetch_all() -> list[bytes]:
        async def one(entry: Entry) -> bytes:
            target = InMemory(entry.name)
            await store.fetch_async(entry.name, entry.etag, entry.size, target)
            return target.getvalue()

        return await asyncio.gather(*map(one, entries))

    assert store.run(fetch_all()) == list(data.values())
    assert sum(proxy.injected.values()) >= 100 // 7
    assert store.retry.faults > 0


# --- streams --------------------------------------------------------------------------------------


def test_a_stream(
    stored: tuple[str, bytes], bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    path, data = stored
    store = open_store(bucket)
    entry = entry_of(store, path)
    with store.open(path, entry.etag, entry.size) as file:
        assert file.read(3) == data[:3]
        assert file.read() == data[3:]
        assert file.read() == b""


@pytest.mark.parametrize("fault", [*ANSWERS, *BROKEN])
def test_a_stream_that_breaks_is_resumed(
    fault: str, bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    data = noise(12 << 20)
    bucket.put({"a": data})
    store = open_store(bucket, read_timeout=0.5 if fault == "stall" else 30)
    entry = entry_of(store, "a")
    proxy.inject(fault, times=2, match=is_object)
    with store.open("a", entry.etag, entry.size) as file:
        assert file.read() == data
    assert proxy.injected == {fault: 2}


@pytest.mark.parametrize("fault", DAMAGED)
def test_a_stream_that_was_damaged_is_an_error_at_its_end(
    fault: str, bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": noise(12 << 20), "small": b"12345"})
    store = open_store(bucket)
    proxy.inject(fault, times=1, match=is_object)
    entry = entry_of(store, "a")
    with store.open("a", entry.etag, entry.size) as file:
        with pytest.raises(StoreError, match="/a was damaged in transfer"):
            while file.read(1 << 20):
                pass
        with pytest.raises(StoreError, match="/a was damaged in transfer"):
            file.read()
    proxy.inject(fault, times=1, match=is_object)
    entry = entry_of(store, "small")
    assert store.open("small", entry.etag, entry.size).read() == b"12345"
    assert proxy.injected == {fault: 2}


def test_a_stream_that_fails(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": noise(12 << 20)})
    store = open_store(bucket, retries=1)
    entry = entry_of(store, "a")
    proxy.inject("503 SlowDown", match=is_object)
    with (
        store.open("a", entry.etag, entry.size) as file,
        pytest.raises(StoreError, match="SlowDown"),
    ):
        file.read()


def test_a_stream_that_is_left(bucket: Bucket, open_store: Callable[..., Store]) -> None:
    bucket.put({"a": noise(12 << 20)})
    store = open_store(bucket)
    entry = entry_of(store, "a")
    with store.open("a", entry.etag, entry.size) as file:
        file.read(1)
    assert file.closed
    late = store.open("a", entry.etag, entry.size)
    store.close()
    late.close()


# --- processes, threads, secrets ------------------------------------------------------------------


def test_a_store_is_not_pickled(open_store: Callable[..., Store]) -> None:
    with pytest.raises(TypeError, match="pickle its source"):
        pickle.dumps(open_store("memory://pickled"))


def test_a_closed_store(open_store: Callable[..., Store]) -> None:
    store = open_store("memory://closed")
    store.close()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.check()


def test_a_store_does_not_wait_for_itself(open_store: Callable[..., Store]) -> None:
    store = open_store("memory://itself")

    async def nested() -> None:
        store.check()

    with pytest.raises(RuntimeError, match="wait for itself"):
        store.run(nested())


def test_no_thread_and_no_socket_stays(bucket: Bucket) -> None:
    sockets = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    threads = threading.active_count()
    with Store(parse_source(bucket.name)) as store:
        store.check()
        assert threading.active_count() > threads
    del store
    deadline = time.monotonic() + 20
    while threading.active_count() > threads and time.monotonic() < deadline:
        time.sleep(0.01)  # the pool that looks hosts up ends in its own time
    assert threading.active_count() == threads
    if sockets is not None:
        assert len(os.listdir("/proc/self/fd")) == sockets


def test_a_store_that_is_not_closed_ends_with_its_process(bucket: Bucket) -> None:
    code = (
        "import sys; from daskmr.store.store import Store, parse_source; "
        "store = Store(parse_source(sys.argv[1])); store.check()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, bucket.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interruption_gets_through(
    bucket: Bucket, proxy: FaultProxy, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": b"12"})
    store = open_store(bucket, read_timeout=60)
    entry = entry_of(store, "a")
    proxy.inject("stall", times=1, match=is_object)

    class Alarm(BaseException):
        pass

    def ring(*_: Any) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Alarm):
            fetched(store, "a", entry)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert fetched(store, "a", entry) == b"12"


def read_in_child(source: Source, environment: dict[str, str], connection: Any) -> None:
    os.environ.update(environment)  # the server that forks may be older than what is set now
    with Store(source) as store:
        connection.send([fetched(store, e.name, e) for e in entries_of(store, "")])


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_process_has_a_store_of_its_own(
    method: str, bucket: Bucket, open_store: Callable[..., Store]
) -> None:
    bucket.put({"a": b"1", "b": b"2"})
    store = open_store(bucket)
    prewarm(method == "forkserver")  # which stays, and serves other tests
    for _ in range(3):
        assert len(entries_of(store, "")) == 2
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context(method).Process(
            target=read_in_child, args=(store.source, dict(os.environ), theirs)
        )
        process.start()
        theirs.close()  # so that the end of the child is the end of the pipe
        assert ours.poll(60), "the child hangs"
        assert ours.recv() == [b"1", b"2"]
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
def test_a_child_that_ends_does_not_disturb_the_parent(bucket: Bucket) -> None:
    """It drops all that it inherited, sockets and event loop, as an ordinary exit does."""
    code = """
import gc, os, sys
from daskmr.store.store import Store, parse_source
store = Store(parse_source(sys.argv[1]))
store.check()
pid = os.fork()
if not pid:
    try:
        store.check()
    except RuntimeError as error:
        assert "another process" in str(error)
    else:
        os._exit(1)
    store.close()
    del store
    gc.collect()
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
store.check()
store.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, bucket.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    checks = [r for r in bucket.requests() if r.is_listing]
    assert len(checks) == 2


class Everything(logging.Handler):
    """Keeps all that is logged, by whatever logger."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text += f"{record.name} {self.format(record)}\n"


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All loggers at level DEBUG, those included that exist already."""
    handler = Everything()
    root = logging.getLogger()
    loggers = [root, *map(logging.getLogger, tuple(root.manager.loggerDict))]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    root.addHandler(handler)
    yield handler
    root.removeHandler(handler)
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


SECRETS = (CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_SESSION_TOKEN"])


def test_no_secret_is_logged(
    bucket: Bucket,
    proxy: FaultProxy,
    open_store: Callable[..., Store],
    everything: Everything,
    tmp_path: Path,
) -> None:
    bucket.put({"a": b"1"})
    proxy.inject("400 ExpiredToken", "503 SlowDown", "reset", every=2, times=3)
    store = open_store(bucket)
    store.check()
    for _ in range(4):
        entry = entry_of(store, "a")
        assert fetched(store, "a", entry) == b"1"
    (tmp_path / "local").write_bytes(b"2")
    store.write_object("b", str(tmp_path / "local"))
    assert len(proxy.injected) == 3
    sent = [str(r.headers) for r in proxy.requests]
    assert all(CREDENTIALS["AWS_SESSION_TOKEN"] in headers for headers in sent)
    logging.getLogger("daskmr").debug("It listens.")
    assert "It listens." in everything.text
    for secret in SECRETS:
        assert secret not in everything.text
        assert secret not in repr(store) + repr(store.source) + str(pickle.dumps(store.source))


def test_no_secret_is_logged_by_a_process_of_its_own(bucket: Bucket) -> None:
    """Nothing has made botocore's loggers there before all is set to DEBUG."""
    code = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from daskmr.store.store import Store, parse_source
with Store(parse_source(sys.argv[1])) as store:
    store.check()
    list(store.list(""))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, bucket.name],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert len(bucket.requests()) == 2
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr


def test_botocore_would_log_the_session_token(bucket: Bucket, everything: Everything) -> None:
    """What the guard is for: elsewhere than on our threads botocore logs as its user wishes."""
    import boto3

    boto3.client("s3", region_name="us-east-1").list_objects_v2(Bucket=bucket.name)
    assert CREDENTIALS["AWS_SESSION_TOKEN"] in everything.text
