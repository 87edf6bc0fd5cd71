"""Tests of `daskmr.store.fsspec_store`."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.reading import entries_of, entry_of, fetched, noise

from daskmr.errors import InputError
from daskmr.store.store import (
    ChangedObject,
    Entry,
    InMemory,
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
    with pytest.raises(MissingObject, match="/y does not exist"):
        fetched(store, "y", y)


def test_another_file_system_changes_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(noise(3 << 20))

    class Overwriting(InMemory):
        def write(self, data: Any) -> int:
            if not self.tell():
                (tmp_path / "x").write_bytes(noise(3 << 20, 1))
            return super().write(data)

    with Store(parse_source(f"file://{tmp_path}")) as store:
        entry = entry_of(store, "x")
        time.sleep(0.02)
        with pytest.raises(ChangedObject, match="/x changed"):
            store.fetch("x", entry.etag, entry.size, Overwriting("x"))


def test_another_file_system_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for url, said in (
        (f"file://{tmp_path}/no", "does not exist"),
        (f"file://{tmp_path}/file", "is not a folder"),
    ):
        with Store(parse_source(url)) as store, pytest.raises(InputError, match=said):
            store.check()


@pytest.mark.parametrize("to_write", [False, True])
@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("hdfs://namenode/x", "package that is not installed"),
        ("ftp://127.0.0.1:1/x", "its host cannot be reached"),
        ("ftp://no-such-host.invalid/x", "its host cannot be reached"),
        ("http://127.0.0.1:1/x", "its host cannot be reached"),
        ("http://no-such-host.invalid/x", "its host cannot be reached"),
        ("webhdfs://127.0.0.1:1/x", "its host cannot be reached"),
        ("github://x", "cannot be used"),
        ("dir://x", "cannot be used"),
    ],
)
def test_what_cannot_be_reached_is_told_at_once(
    url: str, said: str, to_write: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.fs"):  # another test may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    began = time.monotonic()
    with Store(parse_source(url)) as store, pytest.raises(InputError) as caught:
        store.check(to_write)
    assert store.retry.faults == 0
    assert time.monotonic() - began < 15
    assert str(caught.value).startswith(url)
    assert said in str(caught.value)


def test_a_module_that_is_missing_is_no_fault_of_the_network(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyarrow", "pyarrow.fs"):  # another test may have imported it
        monkeypatch.setitem(sys.modules, name, None)
    store = open_store("hdfs://namenode/x")
    with pytest.raises(StoreError, match=r"hdfs://namenode/x needs .* \(pyarrow"):
        entries_of(store, "a/")
    assert store.retry.faults == 0


def test_a_folder_that_is_written_to_need_not_be_there(tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"1")
    with Store(parse_source(f"file://{tmp_path}/folder/below")) as store:
        store.check(to_write=True)
        store.write_object("a/b", str(tmp_path / "local"))
        store.check()
    assert (tmp_path / "folder/below/a/b").read_bytes() == b"1"


class Answers(BaseHTTPRequestHandler):
    """A web server of one folder with one file, which answers with `status`."""

    status = 200

    def do_GET(self) -> None:
        page = b'<a href="/x/1.2.txt">1.2.txt</a>'
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *args: Any) -> None:
        pass


def test_a_web_server_that_fails_is_no_empty_folder(
    open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = Entry("1.2.txt", False, 31)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x"
        monkeypatch.setattr(Answers, "status", 404)
        with pytest.raises(InputError, match=f"{url} does not exist"):
            open_store(url).check()
        with pytest.raises(MissingObject, match=f"{url}/1.2.txt does not exist"):
            fetched(open_store(url), "1.2.txt", entry)
        monkeypatch.setattr(Answers, "status", 503)
        store = open_store(url, retries=2)
        with pytest.raises(StoreError, match=f"{url}/ cannot be listed: .*503.* after 3 tries"):
            entries_of(store, "")
        with pytest.raises(StoreError, match=f"{url}/1.2.txt cannot be fetched: .*503.*3 tries"):
            fetched(store, "1.2.txt", entry)
        server.shutdown()
    with pytest.raises(StoreError, match=f"{url}/ cannot be listed: its host cannot be reached"):
        entries_of(open_store(url, retries=1), "")


def test_a_host_that_never_answers_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskmr.store.store._SECONDS_TO_CHECK", 0.5)
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ftp://127.0.0.1:{silent.getsockname()[1]}/x"
        with (
            Store(parse_source(url)) as store,
            pytest.raises(InputError, match=f"{url} .*no answer"),
        ):
            store.check()
    assert time.monotonic() - began < 10


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
        pytest.raises(StoreError, match="does not exist"),
    ):
        store.write_object("x", str(tmp_path / "no-such-file"))
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.mark.parametrize("copies", [True, False])
def test_copies_where_the_file_system_has_none(
    folder: tuple[str, Any], monkeypatch: pytest.MonkeyPatch, copies: bool
) -> None:
    url, fs = folder
    if not copies:

        def refuse(*_: Any, **options: Any) -> None:
            raise NotImplementedError

        monkeypatch.setattr(type(fs), "cp_file", refuse)
    with Store(parse_source(url)) as store:
        root = store.source.root
        fs.pipe_file(f"{root}/copied", b"data")
        fs.pipe_file(f"{root}/target", b"old")
        store.copy([("copied", "target", 4)])
        assert fs.cat_file(f"{root}/target") == fs.cat_file(f"{root}/copied") == b"data"
        store.delete(["copied", "target"])


@pytest.mark.parametrize(
    "said",
    ["Unable to load libjvm: dlopen(/usr/java) failed", "Prior attempt to load libhdfs failed"],
)
def test_hdfs_without_its_library_fails_at_once(
    said: str, open_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    calls: list[str] = []

    def fail(protocol: str, **options: Any) -> None:
        calls.append(protocol)
        raise OSError(said)

    monkeypatch.setattr(fsspec, "filesystem", fail)
    with pytest.raises(InputError, match=r"libhdfs could not be loaded.*webhdfs://HOST"):
        open_store("hdfs://host/data").check()
    assert calls == ["hdfs"]
