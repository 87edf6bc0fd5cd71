"""A part is written by one task, as often as that is tried."""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from daskmr.data.output_directory.base import WrittenPart
from daskmr.data.output_directory.slices import divide
from daskmr.data.parts import PartWriter
from daskmr.data.spill_dir import Scratch, SpillStore
from daskmr.errors import TaskFailed
from daskmr.store.open_stores import close_stores
from daskmr.store.source import parse_source
from daskmr.tasks.write import WriteTask, write_part


@pytest.fixture
def packed(tmp_path: Path) -> bytes:
    """A slice of two lines."""
    (tmp_path / "parts").mkdir()
    writer = PartWriter(str(tmp_path / "parts"), 0, indexed=True)
    writer.add(["a", "b"], ["a\t1\n", "b\t\udcff\n"], 2)
    (one,) = divide([writer.finish()])
    return pickle.dumps(one)


def task_of(folder: Path, place: Any, **options: Any) -> WriteTask:
    settings = {"suffix": ".txt", "format": "text", "prepared": "header\n", "like": None}
    scratch = Scratch(str(folder))
    return WriteTask(scratch=scratch, place=place, hashed=True, **(settings | options))


DATA = b"header\na\t1\nb\t\xff\n"


def test_a_part_appears_whole(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "out").mkdir()
    digest = hashlib.sha256(DATA).hexdigest()
    for _ in range(2):  # Dask tries a task again whose worker has died
        written = write_part(packed, task=task_of(tmp_path, str(tmp_path / "out")))
        assert written == [WrittenPart("part-00000.txt", len(DATA), digest)]
        assert os.listdir(tmp_path / "out") == ["part-00000.txt"]
        assert (tmp_path / "out" / "part-00000.txt").read_bytes() == DATA


def test_a_part_is_uploaded(tmp_path: Path, packed: bytes) -> None:
    source = parse_source(f"file://{tmp_path}/store")
    place = SpillStore("0123456789ab", source, 0, "output")
    (tmp_path / "store").mkdir()
    write_part(packed, task=task_of(tmp_path, place))
    close_stores()
    uploaded = tmp_path / "store" / place.prefix / "part-00000.txt"
    assert uploaded.read_bytes() == DATA
    assert len(os.listdir(tmp_path / "parts")) == 1, "only the segment is left"


def test_a_directory_that_is_gone_fails_the_job(tmp_path: Path, packed: bytes) -> None:
    with pytest.raises(TaskFailed, match=r"The directory of the output, .*/out, is gone"):
        write_part(packed, task=task_of(tmp_path, str(tmp_path / "out")))


def test_a_failure_leaves_no_part(tmp_path: Path, packed: bytes) -> None:
    (tmp_path / "out").mkdir()
    for path in (tmp_path / "parts").iterdir():
        path.write_bytes(b"")
    with pytest.raises(TaskFailed, match="A segment of this run cannot be read back"):
        write_part(packed, task=task_of(tmp_path, str(tmp_path / "out")))
    assert os.listdir(tmp_path / "out") == []
