"""A cache can be checked, and removed from, and nothing goes that it did not fetch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.object_store import SOURCE, ObjectStore

from daskmr.data.cache.cache import Cache
from daskmr.data.cache.upkeep import (
    Group,
    Problem,
    Removed,
    group_by,
    prune,
    remove,
    select,
    verify,
)
from daskmr.data.layout import load_schema

OBJECTS = {
    f"{reason}/Firefox/{channel}/24.0/2013.{date}.log.gz": b"x" * (date - 1000)
    for reason in ("idle", "saved_session")
    for channel in ("beta", "nightly")
    for date in (1101, 1102)
}
PATHS = sorted(OBJECTS)


@pytest.fixture
def store() -> Iterator[ObjectStore]:
    with ObjectStore(OBJECTS) as store:
        yield store


@pytest.fixture
def cache(tmp_path: Path, store: ObjectStore) -> Iterator[Cache]:
    with Cache.of(str(tmp_path), SOURCE) as cache:
        for file in store.files():
            cache.fetch(store, file)
        yield cache


def at(cache: Cache, path: str) -> Path:
    return Path(cache.root, path)


def there(cache: Cache) -> list[str]:
    return sorted(
        str(path.relative_to(cache.root)) for path in Path(cache.root).rglob("*") if path.is_file()
    )


def filtered(**allowed: Any) -> Any:
    names = ("reason", "appName", "appUpdateChannel", "appVersion", "appBuildID", "submission_date")
    dimensions = [{"field_name": n, "allowed_values": allowed.get(n, "*")} for n in names]
    return load_schema({"dimensions": dimensions})


# --- verify ---------------------------------------------------------------------------------------


def test_what_was_fetched_is_right(cache: Cache) -> None:
    seen: list[int] = []
    assert list(verify(cache, on_progress=lambda: seen.append(1))) == []
    assert len(seen) == len(OBJECTS)


def test_every_problem_is_found(cache: Cache, store: ObjectStore, tmp_path: Path) -> None:
    at(cache, PATHS[0]).unlink()
    at(cache, PATHS[1]).write_bytes(b"short")
    os.utime(at(cache, PATHS[2]))
    at(cache, PATHS[3]).unlink()
    at(cache, PATHS[3]).symlink_to(at(cache, PATHS[4]))
    at(cache, "mine").write_text("mine")
    at(cache, "linked").symlink_to(tmp_path)
    found = list(verify(cache))
    assert found == [
        Problem(PATHS[0], "no longer exists"),
        Problem(PATHS[1], "has 5 bytes instead of 102"),
        Problem(PATHS[2], "was modified after it was fetched"),
        Problem(PATHS[3], "is no longer a plain file"),
        Problem("linked", "is not in the manifest: the cache has not fetched it"),
        Problem("mine", "is not in the manifest: the cache has not fetched it"),
    ]
    assert list(verify(cache, deep=False)) == found
    for file in store.files():
        cache.fetch(store, file)
    assert [problem.path for problem in verify(cache)] == ["linked", "mine"]


def test_damage_that_only_the_digest_shows(cache: Cache, store: ObjectStore) -> None:
    path = at(cache, PATHS[0])
    before = os.stat(path)
    path.write_bytes(b"y" * before.st_size)
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    file = store.file(PATHS[0])
    assert cache.present(file), "a look does not show it"
    assert list(verify(cache, deep=False)) == []
    assert list(verify(cache)) == [Problem(PATHS[0], "is damaged: its bytes have changed")]
    assert cache.present(file) is None, "from now on it is not used"
    (again,) = verify(cache, deep=False)
    assert again.description == "was already found to be damaged; it will be fetched again"
    assert cache.fetch(store, file).fetched
    assert path.read_bytes() == OBJECTS[PATHS[0]]
    assert list(verify(cache)) == []


def test_a_file_that_cannot_be_read(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskmr.data.cache.upkeep.read_digest", lambda path: None)
    assert [problem.description for problem in verify(cache)] == ["cannot be read"] * len(OBJECTS)
    monkeypatch.undo()
    assert cache.state(store.files()).files == 0


def test_a_directory_that_cannot_be_read(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("/idle"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert list(verify(cache)) == [Problem("idle", "cannot be read: Permission denied")]


def test_what_is_being_fetched_is_left_out(cache: Cache) -> None:
    staged = cache.staging.claim(PATHS[0])
    assert staged is not None
    at(cache, PATHS[0]).unlink()
    assert list(verify(cache)) == []
    staged.release()
    assert len(list(verify(cache))) == 1


def test_an_empty_cache(tmp_path: Path) -> None:
    with Cache.of(str(tmp_path), SOURCE) as cache:
        assert list(verify(cache)) == []
        assert prune(cache, down_to=0) == Removed()
        assert group_by(cache.manifest.copies(), load_schema(), (0,)) == []


# --- removing -------------------------------------------------------------------------------------


def test_pruning_by_filter(cache: Cache) -> None:
    schema = filtered(reason="idle", submission_date="1102")
    assert prune(cache, schema=schema, dry_run=True) == Removed(2, 204)
    assert there(cache) == PATHS
    assert prune(cache, schema=schema) == Removed(2, 204)
    assert there(cache) == [p for p in PATHS if not (p.startswith("idle") and ".1102." in p)]
    assert list(verify(cache)) == []
    assert prune(cache, schema=filtered(reason="idle")) == Removed(2, 202)
    assert sorted(os.listdir(cache.root)) == ["saved_session"], "no empty directories"
    assert os.listdir(cache.staging.folder) == []


def test_pruning_by_age(cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time() + 1000
    monkeypatch.setattr("daskmr.data.cache.cache.time.time", lambda: later)
    at(cache, PATHS[0]).unlink()
    cache.fetch(store, store.file(PATHS[0]))
    assert prune(cache, fetched_before=later - 2000).files == 0
    assert prune(cache, fetched_before=later).files == len(OBJECTS) - 1
    assert there(cache) == PATHS[:1]


def test_pruning_what_was_not_used_for_longest(
    cache: Cache, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time() + 10_000
    monkeypatch.setattr("daskmr.data.cache.cache.time.time", lambda: later)
    used = PATHS[2:5]
    cache.state([store.file(path) for path in used])
    assert cache.manifest.count() == (8, 4 * 101 + 4 * 102)
    assert prune(cache, down_to=812).files == 0
    removed = prune(cache, down_to=305)
    assert removed.files == 5
    assert there(cache) == used
    assert prune(cache, down_to=303) == Removed(1, 101)
    assert there(cache) == used[1:]


def test_down_to_nothing_takes_empty_files_too(cache: Cache, store: ObjectStore) -> None:
    store.objects["idle/empty"] = b""
    cache.fetch(store, store.file("idle/empty"))
    assert prune(cache, down_to=0).files == len(OBJECTS) + 1
    assert there(cache) == []


def test_all_conditions_together(cache: Cache) -> None:
    future = time.time() + 10
    assert prune(cache, fetched_before=0, schema=filtered(reason="idle"), down_to=0).files == 0
    removed = prune(cache, fetched_before=future, schema=filtered(reason="idle"), down_to=700)
    assert removed.files == 2


def test_only_what_the_cache_fetched_goes(cache: Cache, store: ObjectStore, tmp_path: Path) -> None:
    at(cache, PATHS[0]).write_bytes(b"mine now")
    at(cache, "idle/mine").write_text("mine")
    found = PATHS[1]
    cache.manifest.forget([found])
    assert not cache.fetch(store, store.file(found)).fetched, "it was there before the manifest"
    victim = tmp_path / "victim"
    victim.write_bytes(OBJECTS[PATHS[2]])
    at(cache, PATHS[2]).unlink()
    at(cache, PATHS[2]).symlink_to(victim)
    folder = at(cache, PATHS[-1]).parent.parent
    os.rename(folder, tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    behind = [path for path in PATHS if at(cache, path).is_relative_to(folder)]

    removed = prune(cache, down_to=0)
    assert removed.files == len(OBJECTS) - 3 - len(behind)
    assert sorted(removed.kept) == sorted([*PATHS[:3], *behind])
    assert at(cache, PATHS[0]).read_bytes() == b"mine now"
    assert at(cache, "idle/mine").read_text() == "mine"
    assert at(cache, found).read_bytes() == OBJECTS[found]
    assert victim.exists()
    assert len(list((tmp_path / "moved").rglob("*.gz"))) == len(behind)


def test_what_is_being_fetched_stays(cache: Cache) -> None:
    staged = cache.staging.claim(PATHS[0])
    assert staged is not None
    assert prune(cache, down_to=0) == Removed(7, 711, (), 1)
    staged.release()
    assert there(cache) == PATHS[:1]


def test_removing_by_path(cache: Cache) -> None:
    assert remove(cache, [*PATHS[:2], "never/fetched", "../hostile"]) == Removed(2, 203)
    assert there(cache) == PATHS[2:]
    at(cache, PATHS[2]).unlink()
    assert remove(cache, PATHS[:3]) == Removed()
    assert list(verify(cache)) == [], "what is gone is forgotten"
    assert os.listdir(cache.staging.folder) == []


def test_many_at_once(tmp_path: Path) -> None:
    objects = {f"idle/{n:04}": b"x" for n in range(350)}
    with Cache.of(str(tmp_path), SOURCE) as cache, ObjectStore(objects) as store:
        for file in store.files():
            cache.fetch(store, file)
        assert prune(cache, down_to=0) == Removed(350, 350)
        assert cache.manifest.count() == (0, 0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("step", ["unsettle", "forget"])
def test_an_end_while_removing_leaves_nothing_wrong(step: str, cache: Cache) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            setattr(cache.manifest, step, lambda paths: os._exit(9))
            prune(cache, down_to=0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert list(verify(cache)) == []
    cache.sweep()
    assert os.listdir(cache.staging.folder) == cache.manifest.pending() == []
    assert [copy.path for copy in cache.manifest.copies()] == there(cache)


# --- what is there --------------------------------------------------------------------------------


def test_copies_are_summed_up_by_dimension(cache: Cache, store: ObjectStore) -> None:
    store.objects["README"] = b"not in the layout"
    cache.fetch(store, store.file("README"))
    copies = list(cache.manifest.copies())
    groups = group_by(copies, load_schema(), (2, 5))
    assert [(group.values, group.files, group.bytes) for group in groups] == [
        (("beta", "1101"), 2, 202),
        (("beta", "1102"), 2, 204),
        (("nightly", "1101"), 2, 202),
        (("nightly", "1102"), 2, 204),
        ((), 1, 17),
    ]
    assert all(0 < g.oldest <= g.newest == g.used for g in groups)
    (group,) = group_by(
        select(copies, filtered(reason="idle", submission_date="1101")), load_schema(), (0,)
    )
    assert group == Group(("idle",), 2, 202, group.oldest, group.newest, group.used)
