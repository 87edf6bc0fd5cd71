"""The manifest says what a cache holds, as it was put there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.cache.manifest import Copy, Manifest, in_chunks
from daskmr.data.listing import InputFile

COPY = Copy("idle/a.gz", 5, "tag", 1e9, "0" * 32, 10**18 + 1, 2e9, 3e9)


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    manifest = Manifest(str(tmp_path / "cache.sqlite"))
    yield manifest
    manifest.close()


def test_a_copy_comes_back_as_it_was(manifest: Manifest) -> None:
    others = [
        replace(COPY, path="é/\udcff\n", etag=None, mtime=None, own=False),
        replace(COPY, path="idle/b.gz", size=1 << 60, mtime=1234567890.123456, pending=True),
    ]
    for copy in (COPY, *others):
        manifest.put(copy)
    manifest.put(replace(COPY, etag="newer"))
    newer = replace(COPY, etag="newer")
    assert manifest.get([COPY.path, "no/such", "é/\udcff\n"]) == {
        COPY.path: newer,
        "é/\udcff\n": others[0],
    }
    assert list(manifest.copies()) == [newer, others[1], others[0]], "in the order of the bytes"
    assert manifest.pending() == [others[1]]
    assert manifest.count() == (2, 10), "what may not be there is not counted"
    manifest.settle("idle/b.gz")
    assert manifest.pending() == []
    manifest.unsettle([COPY.path])
    assert [copy.path for copy in manifest.pending()] == [COPY.path]
    manifest.touch([COPY.path], 5e9)
    manifest.distrust("idle/b.gz")
    assert manifest.get([COPY.path])[COPY.path].used == 5e9
    assert manifest.get(["idle/b.gz"])["idle/b.gz"].mtime_ns == -1
    manifest.forget([COPY.path, "no/such"])
    assert [copy.path for copy in manifest.copies()] == ["idle/b.gz", "é/\udcff\n"]


def test_many_copies(manifest: Manifest) -> None:
    with manifest.writing() as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000)"
            "INSERT INTO files SELECT CAST(printf('idle/%06d', i) AS BLOB), i, 't', 1.0, x'00', i,"
            " 1.0, 1.0, 1, 0, i FROM n"
        )
    paths = [f"idle/{i:06}" for i in range(1, 12_001)]
    assert [copy.path for copy in manifest.copies()] == paths
    assert list(manifest.get(paths)) == paths
    assert manifest.count() == (12_000, sum(range(12_001)))


def test_a_copy_may_go_or_come_while_all_are_read(manifest: Manifest) -> None:
    manifest.put(COPY)
    manifest.put(replace(COPY, path="idle/b"))
    seen = []
    for copy in manifest.copies():
        seen.append(copy.path)
        manifest.forget(["idle/b"])
        manifest.put(replace(COPY, path="idle/c"))
    assert seen[0] == COPY.path


def test_the_first_store_to_claim_it_has_it(manifest: Manifest) -> None:
    assert manifest.meta("identity") == ""
    assert manifest.claim("s3://a server", "s3://a")
    assert not manifest.claim("s3://b", "s3://b")
    assert manifest.claim("s3://a server", "s3://a")
    assert manifest.meta("url") == "s3://a"
    assert Manifest.is_at(manifest.path)


def test_which_object_a_copy_is_of() -> None:
    assert COPY.is_of(InputFile("a", 5, (), "tag", 1e9))
    assert COPY.is_of(InputFile("a", 5, (), "tag", 2e9)), "the ETag decides"
    assert not COPY.is_of(InputFile("a", 6, (), "tag", 1e9))
    assert not COPY.is_of(InputFile("a", 5, (), "other", 1e9))
    assert not COPY.is_of(InputFile("a", 5, (), None, 1e9))
    untagged = replace(COPY, etag=None)
    assert untagged.is_of(InputFile("a", 5, (), None, 1e9))
    assert not untagged.is_of(InputFile("a", 5, (), None, 2e9))


def test_what_lies_there_as_it_did(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    copy = replace(COPY, mtime_ns=os.lstat(path).st_mtime_ns)
    assert copy.is_unchanged(os.lstat(path))
    assert not copy.is_unchanged(None)
    assert not replace(copy, size=4).is_unchanged(os.lstat(path))
    assert not replace(copy, mtime_ns=copy.mtime_ns + 1).is_unchanged(os.lstat(path))
    (tmp_path / "12345").symlink_to("12345")
    link = os.lstat(tmp_path / "12345")
    assert not replace(copy, size=link.st_size, mtime_ns=link.st_mtime_ns).is_unchanged(link)


def test_names_that_are_one_to_some_file_systems(manifest: Manifest) -> None:
    manifest.index_folded()
    for path in ("Idle/a", "idle/b", "idle/caf\xe9"):
        manifest.put(replace(COPY, path=path))
    assert [copy.path for copy in manifest.twins("idle/A")] == ["Idle/a"]
    assert [copy.path for copy in manifest.twins("idle/cafe\u0301")] == ["idle/caf\xe9"]
    assert manifest.twins("Idle/a") == []


@given(st.lists(st.integers(), max_size=20), st.integers(1, 7))
def test_chunks_are_the_whole(items: list[int], count: int) -> None:
    chunks = list(in_chunks(items, count))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == count for chunk in chunks[:-1])
    assert all(chunks)
