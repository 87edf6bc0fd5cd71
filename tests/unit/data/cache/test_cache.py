"""A file in the cache is what was fetched, whole, or it does not count."""

from __future__ import annotations

import asyncio
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.jobs import ROOT
from support.object_store import SOURCE, ObjectStore, input_file, md5

from daskmr.data.cache import cache as module
from daskmr.data.cache.cache import Cache, Local, State, caches
from daskmr.data.cache.upkeep import verify
from daskmr.data.listing import InputFile
from daskmr.data.paths import Unplaceable
from daskmr.errors import InputError, JobError
from daskmr.store.source import Source, StoreError
from daskmr.store.store import Store, parse_source

PATH = "idle/Firefox/a.gz"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.of(str(tmp_path), SOURCE) as cache:
        yield cache


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore({PATH: b"what is there" * 1000}) as store:
        yield store


def content(cache: Cache, path: str = PATH) -> bytes:
    return Path(cache.root, path).read_bytes()


def left_over(cache: Cache) -> list[str]:
    """What there is beside whole files and the manifest."""
    return os.listdir(cache.staging.folder) if os.path.isdir(cache.staging.folder) else []


def change(cache: Cache, data: bytes, path: str = PATH) -> None:
    Path(cache.root, path).write_bytes(data)


# --- fetching -------------------------------------------------------------------------------------


def test_a_file_is_fetched_once(cache: Cache, store: ObjectStore) -> None:
    file = store.file(PATH)
    assert cache.present(file) is None
    local = cache.fetch(store, file)
    assert local == Local(os.path.join(cache.root, PATH), True)
    assert content(cache) == store.objects[PATH]
    assert cache.fetch(store, file) == Local(local.path)
    assert cache.present(file) == local.path
    assert store.gets == [PATH]
    assert left_over(cache) == []
    assert list(verify(cache)) == []
    assert cache.manifest.pending() == []


def test_a_cache_is_a_plain_data_dir(cache: Cache, store: ObjectStore, tmp_path: Path) -> None:
    cache.fetch(store, store.file(PATH))
    assert cache.root == str(tmp_path / "cache")
    files = [p.relative_to(cache.root) for p in Path(cache.root).rglob("*") if p.is_file()]
    assert files == [Path(PATH)]
    cache.close()
    assert sorted(os.listdir(tmp_path)) == ["cache", "cache-partial", "cache.sqlite"]


def test_a_fetch_that_begins_anew(cache: Cache, store: ObjectStore) -> None:
    store.broken.add(PATH)
    cache.fetch(store, store.file(PATH))
    assert content(cache) == store.objects[PATH]


def test_an_object_that_changed_is_fetched_again(cache: Cache, store: ObjectStore) -> None:
    cache.fetch(store, store.file(PATH))
    for data in (b"it changed" * 1300, b"longer" * 5000, b""):
        store.objects[PATH] = data
        file = store.file(PATH)
        assert cache.present(file) is None
        local = cache.fetch(store, file)
        assert local.fetched
        assert local.note == f"{PATH} has changed in the store: fetched again"
        assert content(cache) == data
        assert cache.present(file)
    assert len(store.gets) == 4


def test_an_old_listing_does_not_take_the_new_file(cache: Cache, store: ObjectStore) -> None:
    old = store.file(PATH)
    cache.fetch(store, old)
    store.objects[PATH] = b"it changed" * 1300
    cache.fetch(store, store.file(PATH))
    assert cache.present(old) is None
    with pytest.raises(StoreError, match="changed while the job ran"):
        cache.fetch(store, old)
    assert content(cache) == store.objects[PATH]
    assert cache.present(store.file(PATH))


def test_a_store_without_etags_is_told_by_time(cache: Cache, store: ObjectStore) -> None:
    file = replace(store.file(PATH), etag=None)
    cache.fetch(store, file)
    assert cache.present(file)
    later = replace(file, mtime=2e9)
    assert cache.present(later) is None
    assert cache.fetch(store, later).fetched


@pytest.mark.parametrize("etag", ["md5", "0123-5", None])
def test_a_local_file_that_was_changed_is_not_used(
    etag: str | None, cache: Cache, store: ObjectStore
) -> None:
    if etag != "md5" and etag is not None:
        store.etags[PATH] = etag
    file = input_file(PATH, store.objects[PATH], etag)
    right = store.objects[PATH]
    cache.fetch(store, file)
    for wrong in (right[:-1], right[:-1] + b"!", right + b"!", b""):
        change(cache, wrong)
        assert cache.present(file) is None
        assert cache.state([file]).absent == (file,)
        local = cache.fetch(store, file)
        assert local.note == f"{PATH} was modified in the cache: fetched again"
        assert content(cache) == right
    assert len(store.gets) == 5


def test_a_local_file_that_was_only_touched_is_read_and_not_fetched(
    cache: Cache, store: ObjectStore
) -> None:
    """As in a cache that was copied to another disk."""
    store.etags[PATH] = "not an md5"
    file = store.file(PATH)
    cache.fetch(store, file)
    os.utime(Path(cache.root, PATH))
    assert cache.present(file) is None
    assert cache.fetch(store, file) == Local(os.path.join(cache.root, PATH))
    assert cache.present(file)
    assert len(store.gets) == 1
    assert next(cache.manifest.copies()).own


def test_a_file_that_was_there_before_the_manifest(cache: Cache, store: ObjectStore) -> None:
    """As when the manifest was lost, or the old system filled the folder."""
    file = store.file(PATH)
    os.makedirs(os.path.dirname(os.path.join(cache.root, PATH)))
    change(cache, store.objects[PATH])
    assert cache.present(file) is None
    assert not cache.fetch(store, file).fetched
    assert cache.present(file)
    assert not next(cache.manifest.copies()).own
    cache.manifest.forget([PATH])

    change(cache, store.objects[PATH][:-1] + b"?")
    local = cache.fetch(store, file)
    assert local.fetched
    assert local.note == f"{PATH} in the cache was not from the store: replaced by the store's"
    assert content(cache) == store.objects[PATH]
    assert next(cache.manifest.copies()).own


def test_of_an_unknown_file_whose_digest_cannot_be_told_nothing_is_believed(
    cache: Cache, store: ObjectStore
) -> None:
    store.etags[PATH] = f"{md5(store.objects[PATH])}-2"
    os.makedirs(os.path.dirname(os.path.join(cache.root, PATH)))
    change(cache, store.objects[PATH])
    assert cache.fetch(store, store.file(PATH)).fetched


def test_a_file_that_cannot_be_read_is_fetched_again(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = store.file(PATH)
    cache.fetch(store, file)
    os.utime(Path(cache.root, PATH))
    monkeypatch.setattr(module, "read_digest", lambda path: None)
    assert cache.fetch(store, file).fetched


def test_a_link_in_the_place_of_a_file_is_replaced(
    cache: Cache, store: ObjectStore, tmp_path: Path
) -> None:
    file = store.file(PATH)
    local = cache.fetch(store, file).path
    os.rename(local, tmp_path / "moved")
    os.symlink(tmp_path / "moved", local)
    assert cache.present(file) is None
    assert cache.fetch(store, file).note
    assert not os.path.islink(local)
    assert (tmp_path / "moved").read_bytes() == content(cache)


def test_a_file_without_a_place_is_not_even_fetched(
    cache: Cache, store: ObjectStore, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    os.makedirs(os.path.join(cache.root, "idle"))
    os.symlink(tmp_path / "outside", os.path.join(cache.root, "linked"))
    os.makedirs(os.path.join(cache.root, "idle/directory.gz/x"))
    for path in ("linked/a", "idle/directory.gz", "../a", "/a", "a//b", "a/..", "x" * 256):
        store.objects[path] = b"hostile"
        with pytest.raises(Unplaceable):
            cache.fetch(store, store.file(path))
        assert cache.present(store.file(path)) is None
    assert store.gets == []
    assert os.listdir(tmp_path / "outside") == []
    assert not (tmp_path / "a").exists()
    assert left_over(cache) == []


def test_a_place_that_is_lost_while_fetching(cache: Cache, store: ObjectStore) -> None:
    store.before = lambda path: os.makedirs(os.path.join(cache.root, path))
    with pytest.raises(Unplaceable, match="a directory is in its place"):
        cache.fetch(store, store.file(PATH))
    assert list(cache.manifest.copies()) == []
    assert left_over(cache) == []


def test_a_failure_leaves_nothing(cache: Cache, store: ObjectStore) -> None:
    store.failures[PATH] = StoreError("no")
    with pytest.raises(StoreError, match="no"):
        cache.fetch(store, store.file(PATH))
    assert left_over(cache) == []
    assert not os.path.exists(os.path.join(cache.root, PATH))
    assert list(cache.manifest.copies()) == []


def test_a_failure_keeps_what_was_there(cache: Cache, store: ObjectStore) -> None:
    file = store.file(PATH)
    cache.fetch(store, file)
    store.objects[PATH] = b"it changed" * 1300
    store.failures[PATH] = StoreError("no")
    with pytest.raises(StoreError, match="no"):
        cache.fetch(store, store.file(PATH))
    assert cache.present(file)


def test_too_few_bytes_are_not_put_in_place(cache: Cache, store: ObjectStore) -> None:
    """The store sees to that; this is the last look."""
    file = replace(store.file(PATH), size=99_999)
    with pytest.raises(StoreError, match="13,000 bytes instead of 99,999"):
        cache.fetch(store, file)
    assert not os.path.exists(os.path.join(cache.root, PATH))
    assert left_over(cache) == []


def test_a_full_disk_says_so(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    cache.present(store.file(PATH))
    monkeypatch.setattr("daskmr.data.cache.staging.os.write", full)
    with pytest.raises(JobError, match="Writing the cache failed: No space left on device"):
        cache.fetch(store, store.file(PATH))
    monkeypatch.undo()
    assert left_over(cache) == []


def test_a_place_that_the_disk_refuses_has_no_row(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    cache.present(store.file(PATH))
    monkeypatch.setattr("daskmr.data.cache.staging.os.rename", refuse)
    with pytest.raises(JobError, match="Read-only file system"):
        cache.fetch(store, store.file(PATH))
    assert list(cache.manifest.copies()) == []
    assert left_over(cache) == []


def test_a_cancelled_fetch_leaves_nothing(cache: Cache, store: ObjectStore) -> None:
    store.gates[PATH] = asyncio.Event()

    async def cancelled() -> None:
        task = asyncio.create_task(cache.fetch_async(store, store.file(PATH)))
        while not store.gets:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    store.run(cancelled())
    assert left_over(cache) == []
    store.gates[PATH].set()
    assert cache.fetch(store, store.file(PATH)).fetched


@pytest.mark.parametrize("times", [1, 3])
def test_a_fetch_that_is_cancelled_at_its_end_is_done_whole(
    times: int, cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs in a thread cannot be stopped, and must not lose its claim."""
    begun, put_in_place = [], module._put_in_place

    def slow(*arguments: Any) -> None:
        begun.append(1)
        time.sleep(0.2)
        put_in_place(*arguments)

    monkeypatch.setattr(module, "_put_in_place", slow)

    async def cancelled() -> None:
        task = asyncio.create_task(cache.fetch_async(store, store.file(PATH)))
        while not begun:
            await asyncio.sleep(0.001)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cache.present(store.file(PATH))

    store.run(cancelled())
    assert left_over(cache) == []
    assert list(verify(cache)) == []


# --- with others ----------------------------------------------------------------------------------


def test_one_object_is_never_fetched_twice_at_once(cache: Cache, store: ObjectStore) -> None:
    other = pickle.loads(pickle.dumps(cache))

    async def fetch_all() -> list[Local]:
        file = store.file(PATH)
        return await asyncio.gather(*(c.fetch_async(store, file) for c in [cache, other] * 10))

    fetched = store.run(fetch_all())
    assert sum(local.fetched for local in fetched) == 1
    assert store.gets == [PATH]
    other.close()


def test_when_the_one_fails_another_tries(cache: Cache, store: ObjectStore) -> None:
    store.failures[PATH] = StoreError("no")
    store.gates[PATH] = asyncio.Event()

    async def both() -> list[Any]:
        file = store.file(PATH)
        tasks = [asyncio.create_task(cache.fetch_async(store, file)) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert store.gets == [PATH]
        store.gates[PATH].set()
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        store.failures.clear()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(outcome) for outcome in store.run(both())} == {StoreError, Local}
    assert cache.present(store.file(PATH))


def test_another_that_makes_no_progress_is_not_waited_for_without_end(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STALLED", 0.3)
    staged = cache.staging.claim(PATH)
    assert staged is not None
    with pytest.raises(JobError, match=r"Another process is fetching idle/Firefox/a\.gz"):
        cache.fetch(store, store.file(PATH))
    staged.release()
    assert cache.fetch(store, store.file(PATH)).fetched


OBJECTS = {f"idle/{n % 7}/{n:03}.gz": random.Random(n).randbytes(n * 150) for n in range(120)}

FETCHING = """
import os, sys
from random import Random
from support.object_store import SOURCE, ObjectStore
from test_cache import OBJECTS
from daskmr.data.cache.cache import Cache
work_dir, log, seed = sys.argv[1:]
log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

class Logged(ObjectStore):
    async def _fetch(self, path, *rest):
        os.write(log, f"begin {path}\\n".encode())
        digest = await super()._fetch(path, *rest)
        os.write(log, f"end {path}\\n".encode())
        return digest

async def work(cache, store, files):
    import asyncio
    turns = asyncio.Semaphore(8)
    async def one(file):
        async with turns:
            await cache.fetch_async(store, file)
    await asyncio.gather(*map(one, files))

with Cache.of(work_dir, SOURCE) as cache, Logged(OBJECTS, piece=500) as store:
    cache.sweep()
    files = store.files()
    Random(int(seed)).shuffle(files)
    store.run(work(cache, store, files))
"""


def fetching(work_dir: Path, log: Path, seed: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCHING, str(work_dir), str(log), str(seed)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (Path(__file__).parent, ROOT / "tests", ROOT))),
        },
    )


def check_objects(cache: Cache) -> int:
    """See that whatever counts as there is right; return how many files that are."""
    files = [input_file(path, data) for path, data in OBJECTS.items()]
    absent = {file.path for file in cache.state(files, use=False).absent}
    for path, data in OBJECTS.items():
        if path not in absent:
            assert content(cache, path) == data, path
    return len(files) - len(absent)


def test_processes_share_the_work(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [fetching(tmp_path / "work", log, seed) for seed in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    lines = log.read_text().splitlines()
    assert sorted(lines) == sorted(f"{w} {path}" for path in OBJECTS for w in ("begin", "end"))
    with Cache.of(str(tmp_path / "work"), SOURCE) as cache:
        assert check_objects(cache) == len(OBJECTS)
        assert left_over(cache) == []
        assert list(verify(cache)) == []


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(8))
def test_processes_that_are_killed_leave_nothing_wrong(round_: int, tmp_path: Path) -> None:
    chance = random.Random(round_)
    log = tmp_path / "log"
    log.touch()
    processes = [fetching(tmp_path / "work", log, chance.randrange(1000)) for _ in range(2)]
    for process in processes:
        lines = log.read_bytes().count(b"\n") + chance.randrange(1, len(OBJECTS))
        while log.read_bytes().count(b"\n") < lines and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.wait()
    with Cache.of(str(tmp_path / "work"), SOURCE) as cache:
        there = check_objects(cache)
        assert list(verify(cache)) == [], "nothing is wrong even before anybody clears up"
        cache.sweep()
        assert left_over(cache) == []
        assert cache.manifest.pending() == []
        assert there == check_objects(cache) == sum(1 for _ in cache.manifest.copies())
        begun = log.read_text().count("begin")
        assert fetching(tmp_path / "work", log, 0).wait(60) == 0
        assert log.read_text().count("begin") - begun == len(OBJECTS) - there
        assert check_objects(cache) == len(OBJECTS)
        assert left_over(cache) == []
        assert list(verify(cache)) == []


STEPS = ["Staged.seal", "Manifest.unsettle", "Staging.remove", "Manifest.put", "Staged.place"]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [*STEPS, "Manifest.settle", "Staged.release"])
def test_an_end_at_any_step_leaves_nothing_wrong(
    step: str, after: bool, cache: Cache, store: ObjectStore
) -> None:
    old = store.file(PATH)
    cache.fetch(store, old)
    store.objects[PATH] = b"it changed" * 1300
    assert store.file(PATH).size == old.size
    pid = os.fork()
    if pid == 0:
        _end_at(step, after, cache, store.objects)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert list(verify(cache)) == []
    if cache.present(store.file(PATH)):
        assert content(cache) == store.objects[PATH]
    elif cache.present(old):
        assert content(cache) == b"what is there" * 1000
    cache.sweep()
    assert left_over(cache) == []
    assert cache.manifest.pending() == []
    assert list(verify(cache)) == []
    local = cache.fetch(store, store.file(PATH))
    assert local.note in ("", f"{PATH} has changed in the store: fetched again")
    assert content(cache) == store.objects[PATH]


def _end_at(step: str, after: bool, cache: Cache, objects: dict[str, bytes]) -> None:
    from daskmr.data.cache import manifest, staging

    try:
        owner, name = step.split(".")
        kind = getattr(staging, owner, None) or getattr(manifest, owner)
        whole: Callable[..., Any] = getattr(kind, name)

        def ending(*arguments: Any) -> None:
            if after:
                whole(*arguments)
            os._exit(9)

        setattr(kind, name, ending)
        store = ObjectStore(objects)
        cache.fetch(store, store.file(PATH))
    finally:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_cache_goes_on_after_a_fork(cache: Cache, store: ObjectStore) -> None:
    cache.fetch(store, store.file(PATH))
    store.objects["idle/b"] = b"b"
    pid = os.fork()
    if pid == 0:
        try:
            with ObjectStore(store.objects) as own:
                fetched = [cache.fetch(own, file).fetched for file in own.files()]
            os._exit(0 if fetched == [False, True] else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert cache.present(store.file("idle/b"))


def test_a_real_store(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "there/idle").mkdir(parents=True)
    (tmp_path / "there/idle/a.gz").write_bytes(b"data")
    with Store(parse_source(f"file://{tmp_path}/there")) as store:
        (entry,) = next(store.list("idle/"))
        file = InputFile("idle/a.gz", entry.size, (), entry.etag, entry.mtime)
        assert cache.fetch(store, file).fetched
        assert not cache.fetch(store, file).fetched
    assert content(cache, "idle/a.gz") == b"data"


# --- what is there --------------------------------------------------------------------------------


def test_the_state_of_many_files(cache: Cache) -> None:
    objects = {f"idle/{n:04}": b"x" * n for n in range(1200)}
    with ObjectStore(objects) as store:
        files = store.files()
        assert cache.state(files) == State(0, 0, tuple(files), sum(range(1200)), 0)
        for file in files[600:]:
            cache.fetch(store, file)
        store.objects["idle/0700"] = b"changed"
        change(cache, b"y" * 800, "idle/0800")
        os.unlink(os.path.join(cache.root, "idle/0900"))
        store.gets.clear()
        files = store.files()
        state = cache.state(files)
        assert store.gets == []
    assert [f.path for f in state.absent] == [
        *(f"idle/{n:04}" for n in range(600)),
        *("idle/0700", "idle/0800", "idle/0900"),
    ]
    assert state.absent_bytes == sum(range(600)) + 7 + 800 + 900
    assert state.replaced_bytes == 700
    assert (state.files, state.bytes) == (597, sum(range(600, 1200)) - 700 - 800 - 900)
    assert state.explain_absent() == (
        f"603 of 1,200 files ({state.absent_bytes:,} bytes) are not in the cache, or changed since "
        "they were fetched: idle/0000, idle/0001, idle/0002 and 600 more"
    )


def test_a_use_is_noted_once_in_a_while(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fetch(store, store.file(PATH))
    (first,) = cache.manifest.copies()
    cache.state(store.files())
    assert next(cache.manifest.copies()).used == first.used
    later = time.time() + 7200
    monkeypatch.setattr("daskmr.data.cache.cache.time.time", lambda: later)
    cache.state(store.files(), use=False)
    assert next(cache.manifest.copies()).used == first.used
    cache.state(store.files())
    assert next(cache.manifest.copies()) == replace(first, used=later)


def test_room_is_looked_for_before_the_first_byte(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.fetch(store, store.file(PATH))
    store.objects["idle/b"] = b"b" * 5000
    state = cache.state(store.files())
    cache.check_space(state)
    cache.check_space(state, 18_000)
    with pytest.raises(
        InputError, match=r"take 5,000 bytes \(1 files\).* with 13,000 bytes kept .* 17,999"
    ):
        cache.check_space(state, 17_999)
    store.objects[PATH] = b"changed" * 1000
    cache.check_space(cache.state(store.files()), 12_000)
    with pytest.raises(InputError, match="with 0 bytes kept in the cache"):
        cache.check_space(cache.state(store.files()), 11_999)
    cache.check_space(cache.state([]), 0)
    usage = type("usage", (), {"free": 4999})
    monkeypatch.setattr("daskmr.data.cache.cache.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"5,000 bytes \(1 files\), but only 4,999 bytes are free"):
        cache.check_space(state)


# --- which cache ----------------------------------------------------------------------------------


def test_each_source_has_a_cache_of_its_own(tmp_path: Path) -> None:
    sources = [
        SOURCE,
        Source("s3", "bucket/prefix"),
        Source("s3", "bucket", (("endpoint_url", "http://127.0.0.1:1"),)),
        Source("gs", "Bucket"),
    ]
    for _ in range(2):
        opened = [Cache.of(str(tmp_path), source) for source in sources]
        roots = [os.path.basename(cache.root) for cache in opened]
        assert roots[0] == "cache"
        assert [root.rpartition("-")[0] for root in roots[1:]] == [
            "cache@s3-bucket-prefix",
            "cache@s3-bucket",
            "cache@gs-Bucket",
        ]
        assert [cache.url for cache in opened] == [source.url for source in sources]
        for cache in opened:
            cache.close()
    assert len(set(roots)) == 4
    found = caches(str(tmp_path))
    assert [cache.root for cache in found] == [str(tmp_path / root) for root in sorted(roots)]
    for cache in found:
        cache.close()


def test_a_cache_of_its_own_stays_when_the_first_goes(tmp_path: Path) -> None:
    other = Source("s3", "other")
    for source in (SOURCE, other):
        Cache.of(str(tmp_path), source).close()
    os.unlink(tmp_path / "cache.sqlite")
    with Cache.of(str(tmp_path), other) as cache:
        assert "@" in cache.root
    with Cache.of(str(tmp_path), SOURCE) as cache:
        assert "@" not in cache.root


def test_a_cache_is_known_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data.sqlite").write_text("mine")
    assert Cache.at(str(tmp_path / "data")) is None
    assert caches(str(tmp_path)) == caches(str(tmp_path / "missing")) == []
    Cache.of(str(tmp_path), SOURCE).close()
    cache = Cache.at(str(tmp_path / "cache") + "/")
    assert cache is not None
    assert cache.url == "s3://bucket"
    cache.close()


def test_a_cache_goes_to_workers(cache: Cache, store: ObjectStore) -> None:
    cache.fetch(store, store.file(PATH))
    with pickle.loads(pickle.dumps(cache)) as copy:
        assert copy.root == cache.root
        assert copy.present(store.file(PATH))


@pytest.mark.parametrize("kind", ["file", "file/below"])
def test_an_unusable_work_dir(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="--work-dir"):
        Cache.of(str(tmp_path / kind), SOURCE)


def test_the_root_may_go_and_come_back(cache: Cache, store: ObjectStore) -> None:
    cache.fetch(store, store.file(PATH))
    os.rename(cache.root, cache.root + "2")
    assert cache.state(store.files()).files == 0
    assert cache.fetch(store, store.file(PATH)) == Local(os.path.join(cache.root, PATH), True)


def test_names_that_differ_in_case_where_they_are_one(tmp_path: Path) -> None:
    cache = Cache.of(str(tmp_path), SOURCE)
    cache.staging.case_blind = True
    cache.manifest.index_folded()
    with cache, ObjectStore({"idle/a": b"1", "Idle/A": b"22", "idle/b": b"3"}) as store:
        first = cache.fetch(store, store.file("idle/a"))
        with pytest.raises(Unplaceable, match="as equal to 'idle/a'"):
            cache.fetch(store, store.file("Idle/A"))
        assert cache.present(store.file("Idle/A")) is None
        assert cache.fetch(store, store.file("idle/b")).fetched
        assert Path(first.path).read_bytes() == b"1"
        assert store.gets == ["idle/a", "idle/b"]
        os.unlink(first.path)
        assert cache.fetch(store, store.file("Idle/A")).fetched, "the other gave way"
