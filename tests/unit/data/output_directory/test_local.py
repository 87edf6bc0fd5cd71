"""A directory replaces an earlier one as a whole, or leaves it as it was, at every moment."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from daskmr.data.output_directory import local
from daskmr.data.output_directory.base import WrittenPart
from daskmr.data.output_directory.local import LocalDirectory, check_target
from daskmr.errors import InputError, JobError

RUN, OTHER = "0123456789ab", "ba9876543210"


def opened(folder: Path, run_id: str = RUN) -> LocalDirectory:
    return LocalDirectory(f"{folder}/out/", ".txt", run_id)


def written(folder: Path, text: str, run_id: str = RUN) -> LocalDirectory:
    target = opened(folder, run_id)
    Path(target.place, "part-00000.txt").write_text(text)
    Path(target.place, f".part-00000.txt.{OTHER}.tmp").touch()  # of a worker that was killed
    target.parts = (WrittenPart("part-00000.txt", len(text), None),)
    target.publish()
    return target


def put(folder: Path, text: str) -> None:
    target = written(folder, text)
    target.commit()
    target.discard()


def found(folder: Path) -> str:
    """Return the content of the output, which is complete."""
    assert sorted(os.listdir(folder / "out")) == ["_SUCCESS", "part-00000.txt"]
    return (folder / "out" / "part-00000.txt").read_text()


@pytest.fixture(params=[True, False], ids=["swapped", "renamed"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(local, "_exchange", lambda *_: False)


@pytest.mark.usefixtures("exchanges")
def test_the_earlier_one_stays_until_the_commit(tmp_path: Path) -> None:
    put(tmp_path, "first")
    target = written(tmp_path, "second")
    assert found(tmp_path) == "first"
    target.commit()
    assert found(tmp_path) == "second"
    target.discard()
    target.discard()
    assert os.listdir(tmp_path) == ["out"]


def test_an_empty_directory_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    put(tmp_path, "text")
    assert found(tmp_path) == "text"


def test_a_discarded_one_leaves_nothing(tmp_path: Path) -> None:
    written(tmp_path, "text").discard()
    assert os.listdir(tmp_path) == []


def test_two_runs_do_not_meet(tmp_path: Path) -> None:
    one, other = written(tmp_path, "one"), written(tmp_path, "other", OTHER)
    one.commit()
    assert found(tmp_path) == "one"
    other.commit()
    assert found(tmp_path) == "other"
    one.discard()
    other.discard()
    assert os.listdir(tmp_path) == ["out"]


def test_what_a_dead_run_has_left_is_removed(tmp_path: Path) -> None:
    put(tmp_path, "first")
    (tmp_path / f".out.{OTHER}.tmp").mkdir()
    (tmp_path / f".out.{OTHER}.tmp" / "part-00000.txt").touch()
    (tmp_path / f".out.{OTHER}.old").mkdir()
    (tmp_path / ".out.mine.tmp").mkdir()
    opened(tmp_path).discard()
    assert sorted(os.listdir(tmp_path)) == [".out.mine.tmp", "out"]
    assert found(tmp_path) == "first"


def test_what_a_dead_run_has_moved_aside_is_put_back(tmp_path: Path) -> None:
    put(tmp_path, "first")
    (tmp_path / "out").rename(tmp_path / f".out.{OTHER}.old")
    opened(tmp_path).discard()
    assert found(tmp_path) == "first"


def test_what_is_moved_aside_is_put_back_when_a_rename_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "first")
    target = written(tmp_path, "second")
    rename = os.rename

    def fail(one: str, other: str) -> None:
        if one == target.place:
            raise OSError(errno.EIO, "Input/output error")
        rename(one, other)

    monkeypatch.setattr(local, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(JobError, match="Input/output error"):
        target.commit()
    target.discard()
    assert found(tmp_path) == "first"
    assert os.listdir(tmp_path) == ["out"]


def die_at(number: int) -> None:
    """Have this process killed at its rename or removal `number`."""
    left = [number]

    def look(event: str, arguments: Any) -> None:
        if event in ("os.rename", "os.remove", "os.rmdir", "ctypes.dlopen", "shutil.rmtree"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


@pytest.mark.usefixtures("exchanges")
def test_no_moment_loses_the_output(tmp_path: Path) -> None:
    seen = []
    for number in range(1, 30):
        put(tmp_path, "first")
        child = os.fork()
        if not child:
            try:
                die_at(number)
                put(tmp_path, "second")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        opened(tmp_path, OTHER).discard()  # as the next run does
        seen.append(found(tmp_path))
        assert os.listdir(tmp_path) == ["out"]
        if os.WIFEXITED(status):
            break
    assert seen[0] == "first"
    assert seen[-1] == "second"
    assert len(seen) > 3, "this test has seen too few moments"


def test_files_of_others_that_have_appeared(tmp_path: Path) -> None:
    put(tmp_path, "first")
    target = written(tmp_path, "second")
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(JobError, match=r"holds mine.*Nothing was written"):
        target.commit()
    target.discard()
    assert sorted(os.listdir(tmp_path / "out")) == ["_SUCCESS", "mine", "part-00000.txt"]


def test_a_file_that_has_appeared(tmp_path: Path) -> None:
    target = written(tmp_path, "text")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(JobError, match="Not a directory"):
        target.commit()
    target.discard()
    assert (tmp_path / "out").read_text() == "mine"
    assert os.listdir(tmp_path) == ["out"]


def test_a_long_name(tmp_path: Path) -> None:
    for name in ("x" * 255, "\u65e5" * 80):
        target = LocalDirectory(f"{tmp_path}/{name}/", ".txt", RUN)
        target.publish()
        target.commit()
        target.discard()
        assert (tmp_path / name / "_SUCCESS").exists()
    assert len(os.listdir(tmp_path)) == 2


def test_a_mount_point_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(os.path, "ismount", lambda path: True)
    with pytest.raises(InputError, match=r"a mount point.*as .*/out/result/"):
        check_target(f"{tmp_path}/out/")
