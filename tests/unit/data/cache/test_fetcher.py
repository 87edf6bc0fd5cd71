"""A process beside a worker: it fetches what is asked for, and ends with the worker."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.store_server import CREDENTIALS, Bucket, StoreServer

from daskmr.data.cache import fetcher as module
from daskmr.data.cache.cache import Cache
from daskmr.data.cache.fetcher import Fetcher, FetcherLost, Order, fetcher_for
from daskmr.data.cache.prefetch import Prefetcher
from daskmr.data.cache.upkeep import remove, verify
from daskmr.data.listing import InputFile
from daskmr.store.source import MissingObject
from daskmr.store.store import Store, parse_source

OBJECTS = {f"{n:02}": random.Random(n).randbytes(1000 + n) for n in range(20)}
BUDGET = 1 << 20
# Asks for a file that never comes whole, says so, and waits to be killed.
OWNER = """
import pickle, sys, time
from daskmr.data.cache.fetcher import Fetcher
order, file = pickle.load(sys.stdin.buffer)
fetcher = Fetcher(order)
while not fetcher.ready:
    time.sleep(0.01)
fetcher.start([file])
print(fetcher._process.pid, flush=True)
time.sleep(100)
"""


class Place:
    """A bucket, its cache, and a process that has started."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.bucket = bucket
        self.store = Store(parse_source(bucket.name))
        self.cache = Cache.of(str(folder / "work"), self.store.source)
        self.order = Order(self.store.source, 2, self.cache.root, 4)
        self.fetcher = Fetcher(self.order)
        self.tests = 0

    def close(self) -> None:
        for part in (self.fetcher, self.cache, self.store):
            part.close()


@pytest.fixture(scope="module")
def place(s3_server: StoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One for all tests, which have objects of their own: a process takes a second to start."""
    folder = tmp_path_factory.mktemp("fetcher")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", s3_server.url)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("NO_PROXY", "127.0.0.1")
        place = Place(folder, Bucket(s3_server, f"bucket-{uuid.uuid4().hex}"))
        until(lambda: place.fetcher.ready)
        yield place
        place.close()


@pytest.fixture
def fetcher(place: Place) -> Iterator[Fetcher]:
    """The one that all tests share, so they leave it as it was."""
    yield place.fetcher
    assert not place.fetcher.lost


@pytest.fixture
def own(place: Place) -> Iterator[Fetcher]:
    """One to be lost."""
    fetcher = Fetcher(place.order)
    until(lambda: fetcher.ready)
    yield fetcher
    fetcher.close()
    place.cache.sweep()  # what is killed may leave a file


@pytest.fixture
def files(place: Place) -> list[InputFile]:
    """Twenty objects that nobody has asked for."""
    place.tests += 1
    prefix = f"test-{place.tests}/"
    place.bucket.put({prefix + name: data for name, data in OBJECTS.items()})
    place.bucket.server.clear_requests()
    return [
        InputFile(prefix + entry.name, entry.size, (), entry.etag, entry.mtime)
        for entries in place.store.list(prefix)
        for entry in entries
    ]


@pytest.fixture
def cache(place: Place) -> Cache:
    return place.cache


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


@pytest.fixture
def order(place: Place) -> Order:
    return place.order


@pytest.fixture
def slow(place: Place) -> Iterator[StoreServer]:
    """Answers that take their time."""
    place.bucket.server.delay(1.0)
    yield place.bucket.server
    place.bucket.server.delay(0)


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def gets(place: Place) -> list[str]:
    return [request.key for request in place.bucket.requests() if request.key]


def contents(files: list[InputFile]) -> list[bytes]:
    return [OBJECTS[file.path.partition("/")[2]] for file in files]


def test_what_is_asked_for_comes_once(
    fetcher: Fetcher, files: list[InputFile], place: Place, cache: Cache
) -> None:
    fetcher.start(files[:6])
    fetcher.start(files[:8])
    assert fetcher.known(files[7])
    got = [fetcher.result(file) for file in files[:8]]
    assert [Path(local.path).read_bytes() for local in got] == contents(files[:8])
    assert all(local.fetched for local in got)
    assert not fetcher.known(files[7])
    assert sorted(gets(place)) == [file.path for file in files[:8]]
    fetcher.start(files[:1])
    assert not fetcher.result(files[0]).fetched
    assert list(verify(cache)) == []


def test_a_failure_is_that_of_its_file(
    fetcher: Fetcher, files: list[InputFile], place: Place, cache: Cache
) -> None:
    place.bucket.delete(files[1].path)
    fetcher.start(files[:3])
    with pytest.raises(MissingObject, match=f"{files[1].path} no longer exists"):
        fetcher.result(files[1])
    assert fetcher.result(files[0]).fetched
    assert fetcher.result(files[2]).fetched


def test_what_is_cancelled_leaves_nothing(
    fetcher: Fetcher, files: list[InputFile], place: Place, cache: Cache, slow: StoreServer
) -> None:
    fetcher.start(files[:3])
    until(lambda: len(gets(place)) == 3)
    fetcher.cancel(files[:2])
    assert [fetcher.known(file) for file in files[:3]] == [False, False, True]
    fetcher.cancel(files)
    assert os.listdir(cache.staging.folder) == []
    slow.delay(0)
    fetcher.start(files[:1])
    assert fetcher.result(files[0]).fetched


def test_a_killed_one_is_done_without(
    own: Fetcher, files: list[InputFile], slow: StoreServer
) -> None:
    own.start(files[:1])
    own._process.kill()
    with pytest.raises(FetcherLost):
        own.result(files[0])
    assert own.lost
    assert not own.ready
    with pytest.raises(FetcherLost):
        own.start(files[:1])
    assert own._process.returncode == -signal.SIGKILL


def test_a_stopped_one_is_done_without(
    own: Fetcher, files: list[InputFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENT", 0.1)
    own._process.send_signal(signal.SIGSTOP)
    own.start(files[:1])
    with pytest.raises(FetcherLost):
        own.result(files[0])
    assert own._process.returncode == -signal.SIGKILL


def test_a_slow_one_says_that_it_lives(
    fetcher: Fetcher, files: list[InputFile], monkeypatch: pytest.MonkeyPatch, slow: StoreServer
) -> None:
    polls = []

    class Impatient:
        def poll(self, seconds: float) -> bool:
            polls.append(seconds)
            return len(polls) > 1 and connection.poll(60)

        def __getattr__(self, name: str) -> Any:
            return getattr(connection, name)

    connection = fetcher._connection
    fetcher.start(files[:1])
    with monkeypatch.context() as patch:
        patch.setattr(fetcher, "_connection", Impatient())
        assert fetcher._take() is module.Control.PING  # long before the file comes
        assert fetcher.result(files[0]).fetched
    assert len(polls) == 3


def test_a_message_that_was_cut_off_ends_it(
    own: Fetcher, files: list[InputFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut:
        def poll(self, seconds: float) -> bool:
            raise KeyboardInterrupt

        def close(self) -> None:
            connection.close()

    connection = own._connection
    own.start(files[:1])
    monkeypatch.setattr(own, "_connection", Cut())
    with pytest.raises(KeyboardInterrupt):
        own.result(files[0])
    with pytest.raises(FetcherLost):
        own.start(files[1:2])
    assert own._process.returncode is not None


def test_it_shows_no_credentials_and_takes_no_modules_from_around(
    order: Order, files: list[InputFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    fetcher = Fetcher(order)
    fetcher.start(files[:1])
    assert fetcher.result(files[0]).fetched
    folder = Path("/proc", str(fetcher._process.pid))
    shown = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
    assert not [secret for secret in CREDENTIALS.values() if secret.encode() in shown]
    fetcher.close()
    assert fetcher._process.returncode == 0


def test_it_is_the_worker_that_an_interrupt_is_for(
    fetcher: Fetcher, files: list[InputFile]
) -> None:
    fetcher._process.send_signal(signal.SIGINT)
    fetcher.start(files[:1])
    assert fetcher.result(files[0]).fetched


def test_it_ends_with_its_worker(
    order: Order, files: list[InputFile], cache: Cache, slow: StoreServer
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdin is not None
        assert owner.stdout is not None
        owner.stdin.write(pickle.dumps((order, files[0])))
        owner.stdin.close()
        pid = int(owner.stdout.readline())
        try:
            until(lambda: os.path.exists(cache.staging.folder) and os.listdir(cache.staging.folder))
        finally:
            owner.kill()
    until(lambda: _is_dead(pid))
    assert os.listdir(cache.staging.folder) == []


def _is_dead(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_there_is_one_for_each_run(order: Order) -> None:
    first = fetcher_for(order)
    assert first is not None
    assert fetcher_for(order) is first
    other = fetcher_for(Order(order.source, 3, order.cache_root, 4))
    assert other is not None
    assert first._process.returncode is not None
    other._process.kill()
    other._process.wait()
    assert not other.ready
    assert fetcher_for(Order(order.source, 3, order.cache_root, 4)) is None
    module._fetchers.clear()


# --- as a mapper uses it --------------------------------------------------------------------------


def no_store() -> Any:
    raise AssertionError("the worker fetched itself")


def take_all(ahead: Prefetcher) -> list[bytes]:
    return [Path(str(path)).read_bytes() for _, path in ahead]


def test_all_files_of_a_partition(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    with Prefetcher(cache, no_store, files, BUDGET, fetcher) as ahead:
        assert take_all(ahead) == contents(files)
    assert (ahead.fetched, ahead.fetched_bytes) == (20, sum(map(len, OBJECTS.values())))
    assert sorted(gets(place)) == [file.path for file in files]


def test_a_failure_waits_for_its_turn(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    place.bucket.delete(files[3].path)
    with Prefetcher(cache, no_store, files, BUDGET, fetcher) as ahead:
        for file in files[:3]:
            ahead.take(file)
        with pytest.raises(MissingObject):
            ahead.take(files[3])
        assert take_all(ahead) == contents(files[4:])
    assert ahead.fetched == 19


def test_what_has_no_place_is_read_from_the_store(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, store: Store
) -> None:
    os.makedirs(os.path.join(cache.root, files[1].path))
    with Prefetcher(cache, lambda: store, files[:3], BUDGET, fetcher) as ahead:
        got = [path if isinstance(path, str) else path.read() for _, path in ahead]
    assert got[1] == contents(files)[1]
    assert ahead.notes[0].endswith("It was streamed from the store instead.")


def test_an_early_end_stops_all(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    with (
        pytest.raises(KeyError),
        Prefetcher(cache, no_store, files, BUDGET, fetcher) as ahead,
    ):
        ahead.take(files[0])
        raise KeyError
    assert not any(map(fetcher.known, files))
    assert os.listdir(cache.staging.folder) == []


def test_bounds_hold(fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place) -> None:
    with Prefetcher(cache, no_store, files[:10], 3500, fetcher) as ahead:
        ahead.take(files[0])
        assert [file.path for file in files if fetcher.known(file)] == [
            file.path for file in files[1:3]
        ]
        assert take_all(ahead) == contents(files[1:10])


def test_what_comes_next_is_fetched_ahead(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    began = time.time()
    with Prefetcher(
        cache, no_store, files[:4], BUDGET, fetcher, ahead=files[4:8], began=began
    ) as ahead:
        assert take_all(ahead) == contents(files[:4])
    assert ahead.fetched == 4
    until(lambda: all(map(cache.present, files[4:8])))
    with Prefetcher(cache, no_store, files[4:10], BUDGET, fetcher, began=began) as ahead:
        assert take_all(ahead) == contents(files[4:10])
    assert ahead.fetched == 6
    assert sorted(gets(place)) == [file.path for file in files[:10]]
    until(lambda: fetcher.tidy() or not any(map(fetcher.known, files)))
    with Prefetcher(cache, no_store, files[4:10], BUDGET, fetcher, began=time.time()) as ahead:
        assert take_all(ahead) == contents(files[4:10])
    assert ahead.fetched == 0


def test_what_another_has_fetched_ahead_counts_where_it_is_taken(
    fetcher: Fetcher, own: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    began = time.time()
    place.bucket.server.delay(0.2)
    try:
        with Prefetcher(
            cache, no_store, files[:4], BUDGET, fetcher, ahead=files[4:8], began=began
        ) as first:
            take_all(first)
            with Prefetcher(cache, no_store, files[4:8], BUDGET, own, began=began) as second:
                assert take_all(second) == contents(files[4:8])
    finally:
        place.bucket.server.delay(0)
    assert (first.fetched, second.fetched) == (4, 4)
    assert sorted(gets(place)) == [file.path for file in files[:8]]
    until(lambda: fetcher.tidy() or not any(map(fetcher.known, files)))


def test_what_comes_next_waits_for_its_own_and_for_room(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    def later() -> list[InputFile]:
        return [file for file in files[6:] if fetcher.known(file)]

    with Prefetcher(cache, no_store, files[:6], 3500, fetcher, ahead=files[6:12]) as ahead:
        for file in files[:4]:
            ahead.take(file)
            assert later() == []
        ahead.take(files[4])
        assert later() == files[6:7]
        ahead.take(files[5])
        assert later() == files[6:8]
    until(lambda: fetcher.tidy() or not any(map(fetcher.known, files)))
    assert sorted(gets(place)) == [file.path for file in files[:8]]


def test_what_cannot_be_fetched_ahead_fails_in_its_turn(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, place: Place
) -> None:
    place.bucket.delete(files[3].path)
    with Prefetcher(cache, no_store, files[:2], BUDGET, fetcher, ahead=files[2:4]) as ahead:
        assert take_all(ahead) == contents(files[:2])
    until(lambda: fetcher.tidy() or not fetcher.known(files[3]))
    with Prefetcher(cache, no_store, files[2:5], BUDGET, fetcher) as ahead:
        ahead.take(files[2])
        with pytest.raises(MissingObject):
            ahead.take(files[3])
        assert take_all(ahead) == contents(files[4:5])


def test_what_a_lost_one_has_fetched_counts_where_it_is_taken(
    own: Fetcher, files: list[InputFile], cache: Cache, store: Store, place: Place
) -> None:
    began = time.time()
    with Prefetcher(
        cache, lambda: store, files[:10], BUDGET, own, ahead=files[10:14], began=began
    ) as ahead:
        ahead.take(files[0])
        until(lambda: all(map(cache.present, files[:14])))
        own._process.kill()
        own._process.wait()
        while own._connection.poll():  # nobody hears what it has said
            try:
                own._connection.recv()
            except EOFError:
                break
        assert take_all(ahead) == contents(files[1:10])
    assert ahead.fetched == 10
    with Prefetcher(cache, lambda: store, files[10:20], BUDGET, began=began) as ahead:
        assert take_all(ahead) == contents(files[10:20])
    assert ahead.fetched == 10
    assert sorted(gets(place)) == [file.path for file in files[:20]]


@pytest.mark.parametrize("when", [0, 5])
def test_a_lost_one_is_done_without(
    own: Fetcher, files: list[InputFile], cache: Cache, store: Store, when: int
) -> None:
    with Prefetcher(cache, lambda: store, files, 4000, own) as ahead:
        taken = []
        for number, file in enumerate(files):
            if number == when:
                own._process.kill()
                own._process.wait()
            taken.append(Path(str(ahead.take(file))).read_bytes())
    assert taken == contents(files)
    assert ahead.fetched <= 20
    assert list(verify(cache)) == []


def test_it_is_not_waited_for(
    order: Order, files: list[InputFile], cache: Cache, store: Store
) -> None:
    fetcher = Fetcher(order)
    fetcher._process.send_signal(signal.SIGSTOP)
    with Prefetcher(cache, lambda: store, files[:10], BUDGET, fetcher) as ahead:
        assert take_all(ahead) == contents(files[:10])
    assert ahead.fetched == 10
    fetcher._process.kill()
    fetcher.close()


def test_what_is_removed_before_its_turn_is_fetched_again(
    fetcher: Fetcher, files: list[InputFile], cache: Cache, store: Store, place: Place
) -> None:
    with Prefetcher(cache, lambda: store, files[:3], BUDGET, fetcher) as ahead:
        ahead.take(files[0])
        until(lambda: cache.present(files[2]))
        remove(cache, [files[2].path])
        assert take_all(ahead) == contents(files[1:3])
    assert gets(place).count(files[2].path) == 2
