"""Segments come back as they were written, or say which of them does not."""

from __future__ import annotations

import errno
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.errors import JobError

FRAMES = st.lists(st.binary(max_size=300), max_size=6)


def write(folder: Any, *groups: list[bytes]) -> list[Extent]:
    writer = SegmentWriter(os.fspath(folder))
    extents = [writer.write([(frame, len(frame)) for frame in frames]) for frames in groups]
    writer.close()
    return extents


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    """Let no file grow beyond `free` bytes: writing fails as on a full disk, at any level."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@settings(max_examples=60, deadline=None)
@given(st.lists(FRAMES, max_size=6))
def test_frames_come_back_extent_by_extent(groups: list[list[bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        extents = write(folder, *groups)
        assert [list(read_frames(extent)) for extent in extents] == groups
        assert [extent.size for extent in extents] == [sum(map(len, frames)) for frames in groups]
        offset = 0
        for extent in extents:
            assert extent.offset == offset
            offset += extent.length
        assert os.path.getsize(extents[0].path if extents else folder) == offset or not extents


def test_reading_is_lazy_and_twice_as_good(tmp_path: Path) -> None:
    (extent,) = write(tmp_path, [b"a", b"b"])
    frames = read_frames(extent)
    assert next(frames) == b"a"
    assert list(read_frames(extent)) == [b"a", b"b"]
    assert next(frames) == b"b"


def test_an_empty_extent_needs_no_file() -> None:
    assert list(read_frames(Extent("/nowhere/at-all", 0, 0, 0))) == []


def test_names_are_unique(tmp_path: Path) -> None:
    writers = [SegmentWriter(str(tmp_path)) for _ in range(200)]
    assert len({writer.path for writer in writers}) == 200
    for writer in writers:
        assert os.path.dirname(writer.path) == str(tmp_path)
        writer.remove()
    assert os.listdir(tmp_path) == []


def test_a_missing_segment_names_itself(tmp_path: Path) -> None:
    (extent,) = write(tmp_path, [b"a"])
    os.unlink(extent.path)
    with pytest.raises(JobError) as caught:
        list(read_frames(extent))
    assert extent.path in str(caught.value)
    assert "No such file" in str(caught.value)


def test_a_truncated_segment_names_itself_wherever_it_ends(tmp_path: Path) -> None:
    (extent,) = write(tmp_path, [b"some text " * 20, b"other"])
    data = Path(extent.path).read_bytes()
    for length in range(len(data)):
        Path(extent.path).write_bytes(data[:length])
        with pytest.raises(JobError, match="cannot be read back") as caught:
            list(read_frames(extent))
        assert extent.path in str(caught.value)


def test_no_flipped_bit_goes_unseen(tmp_path: Path) -> None:
    """A reader either gets what was written or is told which segment is damaged."""
    frames = [b"some text " * 3, b"other", b"the last one"]
    (extent,) = write(tmp_path, frames)
    data = Path(extent.path).read_bytes()
    unseen, strange = [], []
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        Path(extent.path).write_bytes(damaged)
        try:
            if list(read_frames(extent)) != frames:
                unseen.append(position)
        except BaseException as error:
            if not isinstance(error, JobError) or extent.path not in str(error):
                strange.append((position, repr(error)))
    assert (unseen, strange) == ([], [])


class _Full:
    """A file that takes nothing."""

    def __init__(self, file: Any, code: int) -> None:
        self._file, self._code = file, code

    def write(self, data: bytes) -> int:
        raise OSError(self._code, os.strerror(self._code))

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_path_and_free_space(tmp_path: Path, code: int) -> None:
    writer = SegmentWriter(str(tmp_path))
    writer._file = _Full(writer._file, code)  # type: ignore[assignment]
    with pytest.raises(JobError, match=r"bytes are free there.*Make room") as caught:
        writer.write([(b"x", 1)])
    assert writer.path in str(caught.value)
    assert os.strerror(code) in str(caught.value)
    writer.remove()
    assert os.listdir(tmp_path) == []


def test_a_failing_disk_is_another_advice(tmp_path: Path) -> None:
    writer = SegmentWriter(str(tmp_path))
    writer._file = _Full(writer._file, errno.EIO)  # type: ignore[assignment]
    with pytest.raises(JobError, match="Check the disk"):
        writer.write([(b"x", 1)])
    writer.remove()


def test_what_cannot_be_flushed_fails_on_close(tmp_path: Path) -> None:
    writer = SegmentWriter(str(tmp_path))
    writer.write([(os.urandom(1000), 1)])
    with full_disk(100), pytest.raises(JobError, match=r"File too large.*Make room"):
        writer.close()


def test_a_segment_that_does_not_fit_can_be_removed(tmp_path: Path) -> None:
    """Removing must not try, and fail, to write what is left in the buffer."""
    writer = SegmentWriter(str(tmp_path))
    with full_disk(100):
        with pytest.raises(JobError, match="Make room"):
            for _ in range(100):
                writer.write([(os.urandom(1000), 1)])
        writer.remove()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="gone"):
        SegmentWriter(str(tmp_path / "gone"))


def test_more_streams_are_read_by_turns_than_files_may_be_open(tmp_path: Path) -> None:
    extents = []
    for number in range(60):
        writer = SegmentWriter(os.fspath(tmp_path))
        extents.append(writer.write([(b"%d" % number, 1), (b"end", 1)]))
        writer.close()
    streams = [read_frames(extent) for extent in extents]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, limits[1]))
    try:
        assert [next(stream) for stream in streams] == [b"%d" % n for n in range(60)]
        assert [next(stream) for stream in streams] == [b"end"] * 60
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
