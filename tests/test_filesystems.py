"""Tests of `daskmr.filesystems`."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reading import entries_of, entry_of, fetched, noise

from daskmr.errors import InputError
from daskmr.storage import (
    ChangedObject,
    MissingObject,
    Store,
    StoreError,
    parse_source,
)


@pytest.fixture(params=["file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """The URL of an empty folder of another file system, and the file system."""
    import fsspec

    filesystem = fsspec.filesystem(request.param)
    root = str(tmp_path / "folder") if request.param == "file" else f"/{tmp_path.name}"
    filesystem.mkdir(root)
    yield f"{request.param}://{root}", filesystem
    filesystem.rm(root, recursive=True)


def test_another_file_system(
    folder: tuple[str, Any], open_store: Callable[..., Store], tmp_path: Path
) -> None:
    url, filesystem = folder
    store = open_store(url)
    store.check()
    data = noise(3 << 20)
    filesystem.makedirs(f"{url}/a/b")
    filesystem.pipe({f"{url}/a/b/x": data, f"{url}/a/y": b"", f"{url}/z": b"1"})
    assert [(e.name, e.is_dir) for e in entries_of(store, "")] == [("a", True), ("z", False)]
    assert [e.name for e in entries_of(store, "a/")] == ["b", "y"]
    assert [e.name for e in entries_of(store, "a/", name_prefix="y")] == ["y"]
    assert [e.name for e in entries_of(store, "a/", start="b")] == ["y"]
    assert entries_of(store, "no/such/") == []
    entry = entry_of(store, "a/b/x")
    assert (entry.size, entry.etag is None, entry.mtime is None) == (3 << 20, False, False)
    assert fetched(store, "a/b/x", entry) == data
    assert store.open("a/b/x", entry.etag, entry.size).read() == data
    (tmp_path / "local").write_bytes(data)
    store.write_object("out", str(tmp_path / "local"))
    assert filesystem.cat_file(f"{url}/out") == data
    assert len(entries_of(store, "")) == 3


def test_another_file_system_changes(
    folder: tuple[str, Any], open_store: Callable[..., Store]
) -> None:
    url, filesystem = folder
    store = open_store(url, retries=0)
    filesystem.pipe({f"{url}/x": b"old", f"{url}/y": b"old"})
    x, y = entry_of(store, "x"), entry_of(store, "y")
    time.sleep(0.02)  # the clock of a file system may be coarse
    filesystem.pipe({f"{url}/x": b"new"})
    filesystem.rm(f"{url}/y")
    with pytest.raises(ChangedObject, match="/x changed"):
        fetched(store, "x", x)
    with pytest.raises(MissingObject, match="/y is not there"):
        fetched(store, "y", y)


def test_another_file_system_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(noise(3 << 20))

    class Overwriting(io.BytesIO):
        def write(self, data: Any) -> int:
            if not self.tell():
                (tmp_path / "x").write_bytes(noise(3 << 20, 1))
            return super().write(data)

    with Store(parse_source(f"file://{tmp_path}")) as store:
        entry = entry_of(store, "x")
        time.sleep(0.02)
        with pytest.raises(ChangedObject, match="/x changed"):
            store.fetch("x", entry.etag, entry.size, Overwriting())


def test_another_file_system_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url, said in (
        (f"file://{tmp_path}/no", "is not there"),
        (f"file://{tmp_path}/file", "is not a folder"),
    ):
        with Store(parse_source(url)) as store, pytest.raises(InputError, match=said):
            store.check()


def test_links_and_devices_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"123")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("no")
    os.mkfifo(tmp_path / "pipe")
    with Store(parse_source(f"file://{tmp_path}")) as store:
        entries = entries_of(store, "")
        assert [e.name for e in entries] == ["file", "link"]
        for entry in entries:
            assert fetched(store, entry.name, entry) == b"123"


def test_an_upload_to_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    with (
        Store(parse_source(f"file://{tmp_path}/folder"), retries=0) as store,
        pytest.raises(StoreError, match="is not there"),
    ):
        store.write_object("x", str(tmp_path / "no-such-file"))
    assert list((tmp_path / "folder").iterdir()) == []
