"""Tests of `daskmr.data.spill_dir`: where tasks write, and what failures there say.

What a run sweeps on its hosts and in a store is tested with the probes of a cluster.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dask.config
import pytest

from daskmr.data.spill_dir import HostFolder, Scratch, SpillStore
from daskmr.errors import InputError, JobError
from daskmr.store.open_stores import close_stores
from daskmr.store.source import StoreError, parse_source

RUN = "0123456789ab"
FOLDERS = ["cache", "files", "live", "marks", "renewed", "segments"]


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def store(temp: Path) -> Iterator[SpillStore]:
    (temp / "spill").mkdir()
    yield SpillStore(RUN, parse_source(f"file://{temp}/spill"), 0)
    close_stores()


# --- on a host ------------------------------------------------------------------------------------


def test_a_host_keeps_its_folder_beside_those_of_its_workers(temp: Path) -> None:
    host = HostFolder(RUN)
    worker = SimpleNamespace(local_directory=str(temp / "scratch" / "worker-1"))
    assert host.path() == str(temp / f"daskmr-{RUN}")
    assert host.path(worker) == str(temp / "scratch" / f"daskmr-{RUN}")
    folder = Path(host.make(worker))
    assert sorted(path.name for path in folder.iterdir()) == FOLDERS
    host.remove(worker)
    host.remove(worker)
    assert not folder.exists()


def test_a_folder_that_is_made_again_keeps_its_mark(temp: Path) -> None:
    host = HostFolder(RUN)
    mark = Path(host.make(), "renewed")
    mark.write_text("earlier")
    host.make()
    assert mark.read_text() == "earlier"
    host.renew()
    assert mark.read_text() != "earlier"


def test_a_host_without_a_task_gets_no_mark(temp: Path) -> None:
    HostFolder(RUN).renew()
    HostFolder(RUN).sweep(SimpleNamespace(local_directory=str(temp / "none" / "worker")))
    assert list(temp.iterdir()) == []


def test_a_host_without_room_is_an_error_that_names_the_place(temp: Path) -> None:
    (temp / f"daskmr-{RUN}").write_text("a file")
    with pytest.raises(JobError, match=f"(?s)a task's files on its host.*daskmr-{RUN}"):
        HostFolder(RUN).make()


def test_copies_go_to_the_work_dir_of_the_host_if_it_can_be_written(temp: Path) -> None:
    host = HostFolder(RUN)
    own = str(temp / "own" / "work")
    with dask.config.set({"daskmr.work-dir": own}):
        assert host.work_dir() == own
    assert not Path(host.path()).exists()
    (temp / "file").write_text("")
    for unusable in ("relative", str(temp / "file" / "work"), None):
        with dask.config.set({"daskmr.work-dir": unusable}):
            assert host.work_dir() == str(temp / f"daskmr-{RUN}" / "cache")


# --- in a store -----------------------------------------------------------------------------------


def test_a_segment_is_uploaded_and_read_in_stretches(store: SpillStore) -> None:
    local = Path(store.host.make(), "segments", "a.seg")
    local.write_bytes(b"0123456789")
    store.upload(str(local))
    assert not local.exists()
    assert store.read(str(local), 2, 3) == b"234", "only the name of the file counts"
    store.remove("a.seg")
    store.remove("a.seg")
    with pytest.raises(JobError):
        store.read("a.seg", 0, 1)


def test_failures_name_the_spill_dir_and_are_none_of_the_input(temp: Path) -> None:
    source = parse_source(f"file://{temp}/file")  # below which nothing can be written
    (temp / "file").write_text("")
    store = SpillStore(RUN, source, 0)
    local = Path(store.host.make(), "segments", "a.seg")
    local.write_bytes(b"x")
    failing = [lambda: store.upload(str(local)), lambda: store.read("a.seg", 0, 1)]
    for action in failing:
        with pytest.raises(
            JobError, match=f"The spill dir {re.escape(source.url)} failed"
        ) as caught:
            action()
        assert not isinstance(caught.value, StoreError), "whose objects may be left out"
    assert local.exists()
    with pytest.raises(InputError, match=r"cannot be used: .* Name another one with --spill-dir"):
        store.begin()
    store.clear()
    store.remove("a.seg")
    close_stores()


def test_two_runs_do_not_meet(store: SpillStore, temp: Path) -> None:
    other = SpillStore("b" * 12, store.source, 0)
    for run in (store, other):
        run.begin()
        local = Path(run.host.make(), "segments", "a.seg")
        local.write_text(run.run_id)
        run.upload(str(local))
    store.clear()
    assert other.read("a.seg", 0, 12) == b"b" * 12


# --- scratch --------------------------------------------------------------------------------------


def test_scratch_is_the_folder_of_the_run_where_all_see_it() -> None:
    scratch = Scratch("/shared/run-1")
    assert scratch.is_shared
    assert scratch.folder() == "/shared/run-1"
    assert scratch.segments() == "/shared/run-1/segments"
    assert scratch.parts() == "/shared/run-1/parts"


def test_scratch_is_on_the_host_and_in_a_store_where_some_do_not(store: SpillStore) -> None:
    scratch = Scratch("/shared/run-1", store)
    assert not scratch.is_shared
    assert scratch.folder() == store.host.path()
    assert Path(scratch.folder(), "marks").is_dir()
    assert scratch.segments() is scratch.parts() is store
    assert store.folder() == str(Path(store.host.path(), "segments"))


def test_it_travels_to_the_workers(store: SpillStore) -> None:
    scratch = Scratch("/shared/run-1", store)
    assert pickle.loads(pickle.dumps(scratch)) == scratch
