"""A run's folder lives as long as the run, and a dead run's goes with the next."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daskmr.errors import InputError
from daskmr.workdir import RunDir, disk_error

CHILD = """
import os, sys
from daskmr.workdir import RunDir
run = RunDir.create(sys.argv[1])
open(run.path + "/segments/x.seg", "w").close()
os.mkdir(run.path + "/files")
print(run.path, flush=True)
sys.stdin.read()
"""


@contextmanager
def other_run(work_dir: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a run in `work_dir`."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(work_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    runs = [RunDir.create(str(tmp_path)) for _ in range(20)]
    assert len({run.path for run in runs}) == len({run.run_id for run in runs}) == 20
    for run in runs:
        assert os.path.dirname(run.path) == str(tmp_path)
        assert run.run_id in run.path
        assert {"marks", "segments", "parts"} < set(os.listdir(run.path))
        run.remove()
    assert os.listdir(tmp_path) == [], "the work dir was there before and stays"


def test_the_segments_can_go_before_the_rest(tmp_path: Path) -> None:
    run = RunDir.create(str(tmp_path))
    for folder in ("segments", "parts"):
        Path(run.path, folder, "x.seg").write_text("x")
    run.remove_segments()
    assert not os.path.exists(os.path.join(run.path, "segments"))
    assert os.listdir(os.path.join(run.path, "parts")) == ["x.seg"]
    run.remove_segments()  # again: nothing happens
    run.remove()
    assert os.listdir(tmp_path) == []


def test_a_work_dir_that_was_made_goes_too(tmp_path: Path) -> None:
    run = RunDir.create(str(tmp_path / "a/b/c"))
    Path(run.path, "segments/x.seg").write_text("x")
    run.remove()
    assert os.listdir(tmp_path) == []
    run.remove()  # again: nothing happens


def test_what_a_dying_worker_writes_meanwhile_goes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir.create(str(tmp_path / "work"))
    rmtree, late = shutil.rmtree, iter(range(3))

    def remove(path: str, ignore_errors: bool) -> None:
        rmtree(path, ignore_errors)
        if next(late, None) is not None:
            os.makedirs(f"{path}/dask-scratch-space")

    monkeypatch.setattr("shutil.rmtree", remove)
    run.remove()
    assert not (tmp_path / "work").exists()


def test_a_work_dir_that_was_made_stays_while_it_is_used(tmp_path: Path) -> None:
    first = RunDir.create(str(tmp_path / "a/b"))
    second = RunDir.create(str(tmp_path / "a/b"))
    first.remove()
    assert os.path.isdir(second.path)
    (tmp_path / "a/mine").write_text("x")
    second.remove()
    assert (tmp_path / "a/mine").read_text() == "x"


@pytest.mark.parametrize("names", [["results.csv"], ["lock", "results.csv"]])
def test_a_folder_of_the_users_is_not_swept_whatever_its_name(
    tmp_path: Path, names: list[str]
) -> None:
    mine = tmp_path / "run-202611240218"
    mine.mkdir()
    for name in names:
        (mine / name).write_text("mine")
    RunDir.create(str(tmp_path)).remove()
    assert sorted(path.name for path in mine.iterdir()) == names


def test_a_relative_work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDir.create("work")
    assert run.path.startswith(str(tmp_path / "work"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    run.remove()
    assert os.listdir(tmp_path) == ["elsewhere"]


def test_a_dead_run_is_swept_and_a_living_one_is_not(tmp_path: Path) -> None:
    with other_run(tmp_path) as (alive, living), other_run(tmp_path) as (dying, dead):
        dying.send_signal(signal.SIGKILL)
        dying.wait()
        assert dead.is_dir()
        (dead / "stdin").mkdir()
        run = RunDir.create(str(tmp_path))
        assert not dead.exists()
        assert (living / "segments/x.seg").exists()
        assert alive.poll() is None
        RunDir.create(str(tmp_path)).remove()
        assert os.path.isdir(run.path), "one's own process is no less alive"
        assert living.is_dir()
        run.remove()


def test_a_removal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    with other_run(tmp_path) as (dying, dead):
        dying.send_signal(signal.SIGKILL)
        dying.wait()
    (dead / "lock").unlink()
    run = RunDir.create(str(tmp_path))
    assert not dead.exists()
    run.remove()


def test_what_is_not_a_runs_is_left_alone(tmp_path: Path) -> None:
    """The work dir may be any folder, such as /tmp or the user's own."""
    for name in ("run-2013", "run-", "run-tests", "runs", "segments"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    (tmp_path / "run-with-lock").mkdir()
    (tmp_path / "run-with-lock/lock").write_text("mine")
    (tmp_path / "run-file").write_text("mine")
    (tmp_path / "run-link").symlink_to(tmp_path / "segments")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    RunDir.create(str(tmp_path)).remove()
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


def test_a_folder_that_was_left_half_made_goes_when_it_is_old(tmp_path: Path) -> None:
    ages = ((".new-00000000001d", 7200), (".new-000000000002", 60), (".new-000000000003", 86_400))
    for name, age in ages:
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with (tmp_path / ".new-000000000003" / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # it is being made, and the wall clock was set since
        run = RunDir.create(str(tmp_path))
    assert not (tmp_path / ".new-00000000001d").exists()
    assert (tmp_path / ".new-000000000002").exists()
    assert (tmp_path / ".new-000000000003").exists()
    run.remove()


@pytest.mark.parametrize("kind", ["file", "file/below", "long", "/proc/nowhere"])
def test_an_unusable_work_dir_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="--work-dir"):
        RunDir.create(str(tmp_path / ("x" * 300 if kind == "long" else kind)))
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(InputError, match=os.strerror(errno.ENOLCK)):
        RunDir.create(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_disk_error_says_what_where_and_what_to_do(tmp_path: Path) -> None:
    full = disk_error(OSError(errno.ENOSPC, "No space"), str(tmp_path / "x"), "the output")
    assert f"Writing the output failed: No space ({tmp_path / 'x'}; " in str(full)
    assert "bytes are free there). Make room" in str(full)
    assert full.exit_code == 1
    broken = disk_error(OSError(errno.EIO, "I/O error"), "gone/x", "the output")
    assert "(gone/x). Check the disk" in str(broken)
    assert "Writing it failed: odd (x" in str(disk_error(OSError("odd"), "x", "it"))
