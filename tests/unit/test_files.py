"""Files appear complete, under a lock, and what a dead process left is swept."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from daskmr.files import (
    AtomicFile,
    free_name,
    is_at,
    is_on_network,
    locked,
    read_digest,
    sweep,
    try_lock,
)

WRITING = """
import sys
from daskmr.files import AtomicFile
file = AtomicFile(sys.argv[1])
file.file.write(b"half")
file.sync()
print(file.temporary, flush=True)
sys.stdin.read()
"""


@contextmanager
def another_writes(path: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITING, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_file_appears_when_it_is_committed(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_text("before")
    with AtomicFile(str(place)) as file:
        file.file.write(b"after")
        file.sync()
        assert place.read_text() == "before"
        file.commit()
    assert place.read_text() == "after"
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_not_committed_is_discarded(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), AtomicFile(str(tmp_path / "a")) as file:
        file.file.write(b"half")
        raise ZeroDivisionError
    file.discard()  # again: nothing happens
    assert os.listdir(tmp_path) == []


def test_only_temporary_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    place = tmp_path / ("x" * 250)
    with another_writes(place) as (dying, dead), another_writes(place) as (_, living):
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        with AtomicFile(str(place), sweep_dead=False):
            assert dead.exists()
        with AtomicFile(str(tmp_path / "other")):
            assert dead.exists()
        with AtomicFile(str(place)):
            assert not dead.exists()
            assert living.exists()


def test_a_lock_ends_with_its_owner(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    remove = partial(lock.unlink)
    with lock.open("rb+") as owner:
        assert try_lock(owner.fileno())
        with lock.open("rb+") as other:
            assert not try_lock(other.fileno())
        assert not sweep(lock, remove)
    lock.chmod(0o400)
    assert sweep(lock, remove)
    assert not lock.exists()
    assert not sweep(lock, remove)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    (tmp_path / "lock").symlink_to("mine")
    assert not sweep(tmp_path / "lock", (tmp_path / "mine").unlink)
    assert (tmp_path / "mine").exists()


def test_a_removal_that_fails_is_none(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert not sweep(tmp_path / "lock", partial(os.rmdir, tmp_path / "lock"))


def test_an_open_file_that_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as file:
        assert is_at(file.fileno(), path)
        path.unlink()
        assert not is_at(file.fileno(), path)
        path.touch()
        assert not is_at(file.fileno(), path)


def test_a_folder_is_locked_by_one(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with locked(str(tmp_path)), pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert try_lock(descriptor)
    os.close(descriptor)
    with locked(str(tmp_path / "missing")):
        pass


@pytest.mark.parametrize(
    ("form", "network"),
    [("nfs4", True), ("fuse.sshfs", True), ("9p", True), ("ext4", False), ("fuseblk", False)],
)
def test_network_file_systems_are_told_by_their_mount(
    form: str, network: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "with space"
    place.mkdir()
    points = {"/": "ext4", str(place): form, f"{place}2": "nfs"}
    mounts = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in points.items()]
    monkeypatch.setattr("psutil.disk_partitions", lambda all: mounts)
    assert is_on_network(str(place / "x.sqlite")) is network
    assert is_on_network(str(tmp_path / "x.sqlite")) is False
    monkeypatch.setattr("psutil.disk_partitions", lambda all: os.listdir("/nowhere"))
    assert is_on_network(str(place / "x.sqlite")) is False


def test_a_digest_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(__file__)
    for name in ("none", "link", "."):
        assert read_digest(str(tmp_path / name)) is None


def test_a_free_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert free_name("job", ".py") == "job.py"
    (tmp_path / "job.py").touch()
    (tmp_path / "job2.py").symlink_to("nothing")
    assert free_name("job", ".py") == "job3.py"
