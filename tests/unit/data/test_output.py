"""The output: written beside its target and put in place atomically."""

from __future__ import annotations

import errno
import fcntl
import functools
import io
import operator
import os
import pty
import resource
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.output import OutputFile
from daskmr.errors import InputError, JobError
from daskmr.files import take_access


def write(target: Any, *texts: str, run_id: str = "id") -> OutputFile:
    file = OutputFile(os.fspath(target), run_id)
    for text in texts:
        file.write(text)
    file.close()
    return file


def test_nothing_is_there_before_the_commit(tmp_path: Path) -> None:
    file = write(tmp_path / "out", "a", "b\u00e9")
    assert os.listdir(tmp_path) == [".out.id.tmp"]
    assert file.bytes == 4
    file.commit()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"ab\xc3\xa9"
    file.discard()
    file.commit()
    assert (tmp_path / "out").read_bytes() == b"ab\xc3\xa9", "both do nothing any more"


def test_an_old_output_stays_until_the_commit(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_text("old")
    file = write(target, "new")
    assert target.read_text() == "old"
    with target.open() as reader:
        file.commit()
        assert reader.read() == "old", "it was replaced, not written over"
    assert target.read_text() == "new"


@pytest.mark.parametrize("name", ["out", "out.gz", "out.bz2", "out.xz", "out.zst"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_discarded_output_leaves_nothing(tmp_path: Path, name: str, closed: bool) -> None:
    target = tmp_path / name
    target.write_text("old")
    file = OutputFile(str(target), "id")
    file.write("new" * 1000)
    if closed:
        file.close()
    file.discard()
    file.discard()
    assert os.listdir(tmp_path) == [name]
    assert target.read_text() == "old"


def test_two_runs_do_not_meet(tmp_path: Path) -> None:
    first = write(tmp_path / "out", "first", run_id="1")
    second = write(tmp_path / "out", "second", run_id="2")
    second.commit()
    first.commit()
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "first"


def test_a_run_that_starts_leaves_what_another_has_finished(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    first = OutputFile(str(path), "0" * 12)
    first.write("first\n")
    first.close()
    second = OutputFile(str(path), "1" * 12)
    second.write("second\n")
    second.close()
    OutputFile(str(path), "2" * 12).discard()
    first.commit()
    assert path.read_text() == "first\n"
    second.commit()
    assert path.read_text() == "second\n"
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_run_that_starts_removes_what_a_dead_one_has_left(tmp_path: Path) -> None:
    dead = tmp_path / f".out.txt.{'0' * 12}.tmp"
    dead.write_text("half")
    OutputFile(str(tmp_path / "out.txt"), "1" * 12).discard()
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_swept_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, swept = tmp_path / "out.txt", []
    flock = fcntl.flock

    def sweep_first(file: Any, operation: int) -> None:
        if not swept:
            swept.append(True)
            os.unlink(file.name)
        flock(file, operation)

    monkeypatch.setattr("fcntl.flock", sweep_first)
    output = OutputFile(str(path), "0" * 12)
    output.write("whole\n")
    output.close()
    output.commit()
    assert swept
    assert path.read_text() == "whole\n"


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444, 0o777, 0o200])
def test_the_mode_of_what_is_replaced_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    path.chmod(mode)
    output = OutputFile(str(path), "0" * 12)
    assert output.temporary is not None
    assert stat.S_IMODE(os.stat(output.temporary).st_mode) == mode, "while it is written"
    output.write("new")
    output.close()
    output.commit()
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (mode, b"new")


def test_a_mode_that_is_narrowed_meanwhile_counts(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    output = OutputFile(str(path), "0" * 12)
    path.chmod(0o600)
    output.close()
    output.commit()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@given(st.lists(st.integers(0, 0o777), max_size=3))
def test_access_is_what_all_patterns_allow(modes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x")
        path.touch(0o600)
        patterns = []
        for number, mode in enumerate(modes):
            pattern = Path(folder, f"{number}")
            pattern.touch()
            pattern.chmod(mode)
            patterns.append(pattern.stat())
        with path.open("rb") as file:
            take_access(file.fileno(), patterns)
        expected = functools.reduce(operator.and_, modes) if modes else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected


def test_a_group_that_cannot_be_given_gets_no_access(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path, pattern = tmp_path / "x", tmp_path / "y"
    path.touch()
    pattern.touch()
    pattern.chmod(0o664)
    like = list(pattern.stat())
    like[stat.ST_GID] += 1
    monkeypatch.setattr("os.fchown", refuse)
    with path.open("rb") as file:
        take_access(file.fileno(), [os.stat_result(like)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/out").write_text("old")
    (tmp_path / "link").symlink_to("real/out")
    (tmp_path / "dangling").symlink_to("real/new")
    for link, real in (("link", "out"), ("dangling", "new")):
        write(tmp_path / link, "text").commit()
        assert (tmp_path / link).is_symlink()
        assert (tmp_path / "real" / real).read_text() == "text"
    assert sorted(os.listdir(tmp_path / "real")) == ["new", "out"]


def test_a_relative_path_survives_a_change_of_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = OutputFile("out", "id")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    file.write("text")
    file.close()
    file.commit()
    assert (tmp_path / "out").read_text() == "text"


def unusable(folder: Path, kind: str) -> str:
    """Make a target that no output can be written to."""
    (folder / "file").write_text("")
    (folder / "loop").symlink_to("loop")
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("folder")
    return str(
        folder / {"missing": "no/such/out", "long": "x" * 300, "below": "file/out"}.get(kind, kind)
    )


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "below", "loop", "long"])
def test_an_unusable_target_is_an_error_at_once(tmp_path: Path, kind: str) -> None:
    target = unusable(tmp_path, kind)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match="output"):
        OutputFile(target, "id")
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_a_target_without_a_name_is_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="is a directory"):
        OutputFile(name, "id")


@pytest.mark.parametrize(
    "name",
    ["x" * 255, "\u65e5" * 85, "\u65e5" * 80 + ".gz", "a b\udcff"],
    ids=["long", "wide", "wide.gz", "odd"],
)
def test_any_name_that_the_disk_takes_will_do(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "text", run_id="0123456789ab").commit()
    assert os.listdir(tmp_path) == [name]


def test_a_socket_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("out")
        with pytest.raises(InputError, match="output"):
            OutputFile("out", "id")
    assert os.path.exists("out")


def test_a_pipe_is_written_straight(tmp_path: Path) -> None:
    target = tmp_path / "pipe"
    os.mkfifo(target)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(target.read_bytes()))
    reader.start()
    write(target, "a", "b").commit()
    reader.join()
    assert got == [b"ab"]
    assert os.listdir(tmp_path) == ["pipe"]


def test_dev_null_stays_what_it_is() -> None:
    file = write("/dev/null", "x" * 100_000)
    file.commit()
    file.discard()
    assert not os.path.isfile("/dev/null")
    assert os.path.exists("/dev/null")


def test_standard_output_is_left_open() -> None:
    stdout = io.BytesIO()
    file = OutputFile("-", "id", stdout)
    file.write("\udcff\ud800\u00e9\n")
    file.close()
    file.commit()
    file.discard()
    assert stdout.getvalue() == b"\xff\xed\xa0\x80\xc3\xa9\n"


def test_a_terminal_shows_surrogates_as_escapes() -> None:
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "wb", buffering=0) as terminal:
            file = OutputFile("-", "id", terminal)
            file.write("\udcff\ud800\u00e9")
            file.close()
            assert os.read(master, 100) == "\\udcff\\ud800\u00e9".encode()
    finally:
        os.close(master)


# A disk that is full


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out", "out.gz", "out.bz2", "out.xz", "out.zst"])
def test_a_full_disk_leaves_the_old_output(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    target.write_text("old")
    noise = os.urandom(300_000).hex()
    with full_disk(1000):
        file = OutputFile(str(target), "id")
        with pytest.raises(JobError, match=r"File too large .*bytes are free there.*Make room"):
            for _ in range(20):
                file.write(noise)
            file.close()
        file.discard()
    del file  # what is left in its buffers must not come back as a warning
    assert os.listdir(tmp_path) == [name]
    assert target.read_text() == "old"


def test_a_full_device_fails_the_job() -> None:
    file = OutputFile("/dev/full", "id")
    with pytest.raises(JobError, match=os.strerror(errno.ENOSPC)):
        for _ in range(2):
            file.write("x" * 100_000)
    file._file.close()


def test_a_target_that_became_a_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "out", "text")
    (tmp_path / "out").mkdir()
    with pytest.raises(JobError, match="Is a directory"):
        file.commit()
    file.discard()
    assert os.listdir(tmp_path) == ["out"]
