"""Files that change between their listing and the end of their reading."""

from __future__ import annotations

import dataclasses
import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskmr.data.listing import InputFile
from daskmr.data.local_file import LocalFile, is_as_listed
from daskmr.data.readers.lines import read_lines
from daskmr.errors import TaskFailed

LINES = b"".join(b"k%d\t%d\n" % (number, number) for number in range(30_000))


def listed(path: Path) -> InputFile:
    found = path.stat()
    return InputFile(path.name, found.st_size, (), mtime_ns=found.st_mtime_ns, inode=found.st_ino)


def read(file: LocalFile) -> bytes:
    return b"".join(iter(lambda: file.read(4096), b""))


def put(path: Path, data: bytes) -> InputFile:
    path.write_bytes(data)
    os.utime(path, ns=(10**18 + 1, 10**18 + 1))  # so that what is written later has another time
    return listed(path)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "1.2.log"


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    os.truncate(path, 1003)


def rewrite_with_the_same_size(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"K")


def rewrite_with_more(path: Path) -> None:
    path.write_bytes(LINES.replace(b"k", b"z") * 2)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    before = path.stat().st_mtime_ns
    os.utime(other, ns=(before, before))  # as `cp -p` or rsync leave it
    other.rename(path)


def rotate(path: Path) -> None:
    path.rename(path.with_name("1.2.log.1"))
    path.write_bytes(b"new\tlog\n")


def truncate_and_outgrow(path: Path) -> None:
    path.write_bytes(b"n\tew\n" * len(LINES))


CHANGES = (truncate, cut, rewrite_with_the_same_size, replace, rotate)
WHILE_READ = (*CHANGES, rewrite_with_more, truncate_and_outgrow, Path.unlink)


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changed_before_it_is_read(log: Path, change: Callable[[Path], None]) -> None:
    file = put(log, LINES)
    change(log)
    with pytest.raises(TaskFailed, match=re.escape(f"The input file {log} ")) as caught:
        LocalFile(file, str(log))
    assert "while the job ran" in caught.value.message
    assert caught.value.file == log.name


@pytest.mark.parametrize("change", WHILE_READ)
@pytest.mark.parametrize("read_before", [1, 70_000, len(LINES)])
@pytest.mark.parametrize("name", ["1.2.log", "1.2.gz"])
def test_a_file_that_changes_while_it_is_read(
    tmp_path: Path, name: str, change: Callable[[Path], None], read_before: int
) -> None:
    path = tmp_path / name
    file = put(path, LINES if name.endswith("log") else b"\x1f\x8b" + LINES)
    with LocalFile(file, str(path)) as local:
        while local.tell() < read_before:
            local.read(read_before - local.tell())
        change(path)
        read(local)
        with pytest.raises(TaskFailed, match="while the job ran") as caught:
            local.check()
    assert caught.value.file == name


def test_a_file_that_is_as_it_was_listed(log: Path) -> None:
    for data in (b"", b"k\tv", b"k\tv\n", LINES, LINES + b"no newline"):
        file = put(log, data)
        with LocalFile(file, str(log)) as local:
            assert read(local) == data
            local.check()
            assert local.grown is None
        assert is_as_listed(file, str(log))


def test_another_compressed_stream_is_no_growth(tmp_path: Path) -> None:
    path = tmp_path / "1.2.log"  # what is inside decides
    file = put(path, gzip.compress(LINES))
    with path.open("ab") as stream:
        stream.write(gzip.compress(LINES))
    with pytest.raises(TaskFailed, match="it changed"):
        LocalFile(file, str(path))


_line = st.binary(max_size=6).map(lambda line: line.replace(b"\n", b" "))


@given(
    before=st.lists(_line, max_size=6).map(b"\n".join),
    growth=st.lists(_line, max_size=4).map(b"\n".join),
    when=st.integers(0, 40),
    reading=st.integers(1, 9),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_complete_when_it_was_listed_is_read_of_a_log_that_grows(
    log: Path, before: bytes, growth: bytes, when: int, reading: int
) -> None:
    before, growth = b"plain\t1\n" + before, growth + b"\n"
    file = put(log, before)
    expected = (before + growth)[: len(before)]
    if not growth.startswith((b"\n", b"\r\n")):  # else that ends the last line
        expected = before[: before.rfind(b"\n") + 1]
    with LocalFile(file, str(log)) as local:
        data = b""
        while len(data) < when and (more := local.read(reading)):
            data += more
        with log.open("ab") as stream:
            stream.write(growth)
        data += read(local)
        if len(data) > len(expected):  # some of the last line was read before it was known to grow
            assert before.startswith(data)
            with pytest.raises(TaskFailed, match="it changed"):
                local.check()
            return
        assert data == expected
        local.check()
        assert local.grown == len(before + growth)
    assert not is_as_listed(file, str(log))


def test_a_last_line_longer_than_a_block(log: Path) -> None:
    file = put(log, b"k\t1\n" + b"x" * 200_000)
    with log.open("ab") as stream:
        stream.write(b"y\t2\n")
    with LocalFile(file, str(log)) as local:
        assert list(read_lines(local)) == [(["k\t1"], False)]
        local.check()
        assert local.grown == 200_008


def test_a_file_that_another_machine_listed(log: Path) -> None:
    put(log, LINES)
    time = 1_700_000_000_123_456_789
    os.utime(log, ns=(time, time))
    size = len(LINES)
    for known in (time, time // 10**9 * 10**9, time // 100 * 100):
        file = InputFile(log.name, size, (), mtime_ns=known, inode=1)
        with LocalFile(file, str(log), elsewhere=True) as local:
            assert read(local) == LINES
            local.check()
        with pytest.raises(TaskFailed, match="while the job ran"):
            LocalFile(file, str(log))
    for other in (time + 1, time + 10**9):
        file = InputFile(log.name, size, (), mtime_ns=other, inode=1)
        with pytest.raises(TaskFailed, match=r"was written on the worker w after"):
            LocalFile(file, str(log), " on the worker w", elsewhere=True)


@pytest.mark.parametrize("on_network", [True, False])
def test_inodes_of_a_file_system_that_makes_them_up(
    log: Path, monkeypatch: pytest.MonkeyPatch, on_network: bool
) -> None:
    monkeypatch.setattr("daskmr.data.local_file.is_on_network", lambda path: on_network)
    file = put(log, LINES)
    replace(log)
    if on_network:
        with LocalFile(file, str(log)) as local:
            assert read(local) == LINES
            local.check()
        return
    with pytest.raises(TaskFailed, match="was replaced by another one"):
        LocalFile(file, str(log))


def test_a_part_of_a_log(log: Path) -> None:
    file = put(log, LINES)
    cut = LINES.index(b"\n", 1000) + 1
    for start, end in ((0, cut), (cut, len(LINES))):
        with LocalFile(dataclasses.replace(file, part=(start, end)), str(log)) as part:
            assert part.tell() == 0
            assert read(part) == LINES[start:end]
            assert part.tell() == end - start
            part.check()


def test_a_part_of_compressed_data_is_read_on_beyond_its_end(tmp_path: Path) -> None:
    path = tmp_path / "1.2.gz"
    file = put(path, gzip.compress(LINES) * 2)
    middle = file.size // 2
    with LocalFile(dataclasses.replace(file, part=(middle, middle + 9)), str(path)) as part:
        assert part.part == (middle, middle + 9, False)
        assert gzip.decompress(read(part)) == LINES
        assert part.tell() == 9


@pytest.mark.parametrize("number", range(3))
def test_each_part_of_a_log_that_grows_is_checked(log: Path, number: int) -> None:
    file = put(log, b"k\tv\n" * 3000 + b"k\tincom")
    bounds = [0, 4000, 8000, file.size]
    part = dataclasses.replace(file, part=(bounds[number], bounds[number + 1]))
    with LocalFile(part, str(log)) as opened:
        with log.open("ab") as writer:
            writer.write(b"plete\n")
        data = read(opened)
        opened.check()
        assert opened.grown == file.size + 6
    assert data == b"k\tv\n" * 1000
    with LocalFile(part, str(log)) as opened:
        read(opened)
        data = log.read_bytes()
        log.write_bytes(data[: bounds[number]] + b"K" + data[bounds[number] + 1 :] + b"more\n")
        with pytest.raises(TaskFailed, match="changed while the job ran"):
            opened.check()
