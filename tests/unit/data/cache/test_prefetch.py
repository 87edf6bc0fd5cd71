"""The next files are on their way while one is mapped, in order and within bounds."""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.object_store import SOURCE, ObjectStore

from daskmr.data.cache.cache import Cache
from daskmr.data.cache.prefetch import Prefetcher
from daskmr.data.cache.upkeep import remove, verify
from daskmr.data.listing import InputFile
from daskmr.errors import JobError
from daskmr.store.source import ChangedObject, MissingObject, StoreError

OBJECTS = {f"idle/{n:02}": bytes([n]) * 1000 for n in range(30)}
BUDGET = 10_000


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore(OBJECTS, piece=100) as store:
        yield store


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with Cache.of(str(tmp_path), SOURCE) as cache:
        yield cache


@pytest.fixture(params=["cache", "memory"])
def place(request: pytest.FixtureRequest, cache: Cache) -> Cache | None:
    return cache if request.param == "cache" else None


def content(got: Any) -> bytes:
    return Path(got).read_bytes() if isinstance(got, str) else got.read()


def no_store() -> Any:
    raise AssertionError("the store was asked")


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def running(store: ObjectStore) -> int:
    """Tasks on the store's loop."""

    async def count() -> int:
        return len(asyncio.all_tasks()) - 1

    return int(store.run(count()))


def test_all_files_in_their_order(store: ObjectStore, place: Cache | None) -> None:
    with Prefetcher(place, lambda: store, store.files(), BUDGET) as ahead:
        taken = [(file.path, content(got)) for file, got in ahead]
    assert taken == sorted(OBJECTS.items())
    assert sorted(store.gets) == sorted(OBJECTS)
    assert (ahead.fetched, ahead.fetched_bytes) == (30, 30_000)
    assert ahead.notes == []
    assert running(store) == 0


def test_without_a_cache_nothing_is_on_the_disk(store: ObjectStore, tmp_path: Path) -> None:
    with Prefetcher(None, lambda: store, store.files(), BUDGET) as ahead:
        for file, got in ahead:
            assert isinstance(got, io.BytesIO)
            assert got.name == f"s3://bucket/{file.path}"
    assert os.listdir(tmp_path) == []
    assert got.closed


def test_the_next_ones_come_while_one_is_mapped(store: ObjectStore, place: Cache | None) -> None:
    files = store.files()
    with Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        ahead.take(files[0])
        until(lambda: len(store.gets) == 10)
        until(lambda: store.at_once == 0)
        assert sorted(store.gets) == [file.path for file in files[:10]], "within the budget"
        ahead.take(files[1])
        until(lambda: len(store.gets) == 11)
    assert store.most_at_once <= 8


def test_no_more_than_a_few_at_once(store: ObjectStore, place: Cache | None) -> None:
    for path in OBJECTS:
        store.gates[path] = asyncio.Event()
    files = store.files()
    with Prefetcher(place, lambda: store, files, 100_000, at_once=3) as ahead:
        ahead._start_next()
        until(lambda: store.at_once == 3)
        store.run(asyncio.sleep(0.02))
        assert sorted(store.gets) == [file.path for file in files[:3]]


def test_one_file_larger_than_the_budget(store: ObjectStore, place: Cache | None) -> None:
    files = store.files()
    with Prefetcher(place, lambda: store, files, 999) as ahead:
        assert [content(got) for _, got in ahead] == list(OBJECTS.values())
    assert store.most_at_once == 1


def test_a_file_too_large_for_memory_is_read_as_it_comes(store: ObjectStore) -> None:
    store.objects["idle/05"] = b"large" * 10_000
    with Prefetcher(None, lambda: store, store.files(), BUDGET) as ahead:
        for file, got in ahead:
            assert isinstance(got, io.BytesIO)
            assert hasattr(got, "name") is (file.path != "idle/05"), "that of the store's own"
            assert content(got) == store.objects[file.path]
    assert ahead.fetched == 30


def test_small_files_are_not_all_ahead(store: ObjectStore, place: Cache | None) -> None:
    store.objects = {f"idle/{n:03}": b"x" for n in range(200)}
    files = store.files()
    with Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        ahead._start_next()
        until(lambda: len(store.gets) == 64)
        until(lambda: store.at_once == 0)
        assert len(store.gets) == 64
        assert sum(len(content(got)) for _, got in ahead) == 200


def test_what_is_there_is_not_asked_for(store: ObjectStore, cache: Cache) -> None:
    for file in store.files():
        cache.fetch(store, file)
    with Prefetcher(cache, no_store, store.files(), BUDGET) as ahead:
        assert [content(got) for _, got in ahead] == list(OBJECTS.values())
    assert (ahead.fetched, ahead.fetched_bytes) == (0, 0)


def test_only_what_is_missing_is_fetched(store: ObjectStore, cache: Cache) -> None:
    files = store.files()
    for file in files[::2]:
        cache.fetch(store, file)
    Path(cache.root, "idle/04").write_bytes(b"damaged")
    store.gets.clear()
    with Prefetcher(cache, lambda: store, files, BUDGET) as ahead:
        assert [content(got) for _, got in ahead] == list(OBJECTS.values())
    assert sorted(store.gets) == sorted(["idle/04", *(file.path for file in files[1::2])])
    assert ahead.notes == ["idle/04 was modified in the cache: fetched again"]


def test_what_is_removed_before_its_turn_is_fetched_again(store: ObjectStore, cache: Cache) -> None:
    files = store.files()
    cache.fetch(store, files[3])
    with Prefetcher(cache, lambda: store, files, BUDGET) as ahead:
        ahead.take(files[0])
        until(lambda: len(store.gets) == 11 and store.at_once == 0)
        until(lambda: all(map(cache.present, files[1:11])))
        remove(cache, [files[3].path, files[5].path])
        for file in files[1:]:
            assert content(ahead.take(file)) == OBJECTS[file.path]
    assert store.gets.count(files[3].path) == store.gets.count(files[5].path) == 2
    assert len(store.gets) == 32


def test_a_failure_waits_for_its_turn_and_the_rest_goes_on(
    store: ObjectStore, place: Cache | None
) -> None:
    files = store.files()
    store.failures["idle/03"] = StoreError("broken")
    del store.objects["idle/05"]
    store.objects["idle/07"] = b"changed"
    failed: dict[str, str] = {}
    taken = []
    with Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        for file in files:
            try:
                taken.append(content(ahead.take(file)))
            except StoreError as error:
                failed[file.path] = type(error).__name__
    assert failed == {
        "idle/03": StoreError.__name__,
        "idle/05": MissingObject.__name__,
        "idle/07": ChangedObject.__name__,
    }
    assert taken == [data for path, data in OBJECTS.items() if path not in failed]
    assert ahead.fetched == 27


def test_an_early_end_leaves_nothing_behind(store: ObjectStore, place: Cache | None) -> None:
    files = store.files()
    for file in files[5:]:
        store.gates[file.path] = asyncio.Event()
    with pytest.raises(KeyError), Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        ahead.take(files[0])
        until(lambda: store.at_once >= 5)
        until(lambda: place is None or all(map(place.present, files[:5])))
        raise KeyError
    assert store.at_once == running(store) == 0
    ahead.close()
    if place is not None:
        assert os.listdir(place.staging.folder) == []
        assert list(verify(place)) == []
        assert all(place.present(file) for file in files[:5]), "what came whole is kept"


def test_an_interruption_while_waiting(
    store: ObjectStore, place: Cache | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = store.files()
    store.gates["idle/00"] = asyncio.Event()
    run = store.run

    def interrupted(coroutine: Any) -> Any:
        if coroutine.__name__ != "wait":
            return run(coroutine)
        coroutine.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "run", interrupted)
    with pytest.raises(KeyboardInterrupt), Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        ahead.take(files[0])
    assert store.at_once == running(store) == 0


def test_files_that_are_left_out_are_dropped(store: ObjectStore, place: Cache | None) -> None:
    files = store.files()
    with Prefetcher(place, lambda: store, files, BUDGET) as ahead:
        assert content(ahead.take(files[0])) == OBJECTS["idle/00"]
        for file in files[20:]:
            assert content(ahead.take(file)) == OBJECTS[file.path]
        for file in (files[25], InputFile("idle/none", 1, ())):
            with pytest.raises(ValueError, match="not among the remaining files"):
                ahead.take(file)
    assert running(store) == 0
    assert ahead._ahead == 0


def test_what_has_no_place_is_read_from_the_store(
    store: ObjectStore, cache: Cache, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    os.makedirs(cache.root)
    os.symlink(tmp_path / "outside", os.path.join(cache.root, "linked"))
    store.objects = {"idle/a": b"a", "linked/b": b"b", "x" * 300: b"c", "z": b"z"}
    with Prefetcher(cache, lambda: store, store.files(), BUDGET) as ahead:
        assert [content(got) for _, got in ahead] == [b"a", b"b", b"c", b"z"]
    assert os.listdir(tmp_path / "outside") == []
    assert ahead.note_count == len(ahead.notes) == 2
    assert ahead.notes[0].startswith("'linked/b' has no place in the cache ")
    assert ahead.notes[1].endswith("It was streamed from the store instead.")
    assert ahead.fetched == 4


def test_names_that_differ_in_case_where_they_are_one(store: ObjectStore, cache: Cache) -> None:
    cache.staging.case_blind = True
    store.objects = {"idle/A": b"1", "idle/a": b"22"}
    with Prefetcher(cache, lambda: store, store.files(), BUDGET) as ahead:
        assert [content(got) for _, got in ahead] == [b"1", b"22"]
    assert ahead.note_count == 1


def test_notes_are_counted_and_the_first_are_kept(store: ObjectStore, cache: Cache) -> None:
    for file in store.files():
        cache.fetch(store, file)
        Path(cache.root, file.path).write_bytes(b"damaged")
    with Prefetcher(cache, lambda: store, store.files(), BUDGET) as ahead:
        assert len(list(ahead)) == 30
    assert ahead.note_count == 30
    assert len(ahead.notes) == 20


def test_a_cache_that_fails_fails_in_its_turn(
    store: ObjectStore, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("daskmr.data.cache.staging.os.write", full)
    with (
        pytest.raises(JobError, match="No space left"),
        Prefetcher(cache, lambda: store, store.files(), BUDGET) as ahead,
    ):
        ahead.take(store.files()[0])
    monkeypatch.undo()
    assert os.listdir(cache.staging.folder) == []


def test_nothing_to_do(store: ObjectStore, place: Cache | None) -> None:
    with Prefetcher(place, no_store, [], BUDGET) as ahead:
        assert list(ahead) == []
    with Prefetcher(place, no_store, store.files(), BUDGET):
        pass
