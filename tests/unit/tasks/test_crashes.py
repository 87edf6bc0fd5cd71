"""Marks outlive the process that wrote them, and follow a task whose earlier process died."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.marks import dead_pid, leave

from daskmr.data.readers.records import Records
from daskmr.errors import JobError
from daskmr.tasks.crashes import (
    Mark,
    Marker,
    by_task,
    is_alive,
    note_kill,
    read_kills,
    read_marks,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    (tmp_path / "marks").mkdir()
    return str(tmp_path)


def test_a_mark_lasts_as_long_as_its_block(run_dir: str) -> None:
    before = time.time()
    with Marker(run_dir, "map", 3) as marker:
        (begun,) = read_marks(run_dir)
        assert (begun.phase, begun.number, begun.pid, begun.path) == ("map", 3, os.getpid(), "")
        for path in ("a very long name.gz", "b", os.fsdecode(b"odd \xff\n.gz")):
            marker.begin(path)
            (mark,) = read_marks(run_dir)
            assert (mark.path, mark.place) == (path, "")
            assert before - 1 <= mark.since <= time.time() + 1
    assert read_marks(run_dir) == []
    assert os.listdir(Path(run_dir, "marks")) == []


def test_a_full_disk_is_told(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(JobError, match=r"No space left .* bytes are free there"):
        Marker(run_dir, "map", 1)
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(JobError, match=r"No space left .* bytes are free there"):
        Marker(run_dir, "map", 1)


def test_the_lines_of_a_part_have_the_numbers_of_the_file(run_dir: str) -> None:
    leave(run_dir, Mark("map", 3, dead_pid(), 1.0, "a.log", process="dead"))

    def places(batches: Any) -> list[str]:
        found = []
        for batch in batches:
            lines = batch.values if isinstance(batch, Records) else batch[0]
            found += [marks[-1].place for _ in lines if (marks := read_marks(run_dir))]
        return found

    with Marker(run_dir, "map", 3) as marker:
        lines = [(["a", "b"], False), (["c"], False)]
        assert places(marker.lines(lines, lambda: 100)) == ["line 101", "line 102", "line 103"]
        records = [Records((1, 4), "kk", ["a", "b"], lambda index: b"")]
        assert places(marker.records(records, lambda: 100)) == ["line 101", "line 104"]
        assert read_marks(run_dir)[-1].place == "line 105, which it was reading"


def test_a_mark_that_is_only_just_made_is_none_yet(run_dir: str) -> None:
    Path(run_dir, "marks", "map-1.5").touch()
    assert read_marks(run_dir) == []


def test_the_latest_comes_last(run_dir: str) -> None:
    for pid, since in ((7, 3.0), (8, 1.0), (9, 2.0)):
        leave(run_dir, Mark("reduce", 1, pid, since))
    leave(run_dir, Mark("reduce", 10, 1, 4.0))
    assert [mark.pid for mark in read_marks(run_dir)] == [8, 9, 7, 1]
    assert [mark.pid for mark in read_marks(run_dir, "reduce-1.")] == [8, 9, 7]
    assert [len(marks) for marks in by_task(read_marks(run_dir))] == [3, 1]


def places(run_dir: str, iterable: Any) -> list[str]:
    """Where the mark of this process stands while each element is looked at."""
    seen = []
    for _ in iterable:
        (mark,) = [mark for mark in read_marks(run_dir) if mark.pid == os.getpid()]
        seen.append(mark.place)
    return seen


BATCHES = [(["a", "x" * 1_000_000, "b"], False), (["c", "d"], True)]
GROUPS = [("k", [1, 2]), (None, [3]), ("x" * 1000, [4])]


def test_nobody_follows_a_task_at_its_first_try(run_dir: str) -> None:
    leave(run_dir, Mark("map", 11, dead_pid(), 0.0))
    leave(run_dir, Mark("reduce", 1, dead_pid(), 0.0))
    with Marker(run_dir, "map", 1) as marker:
        assert marker.earlier == []
        assert marker.lines(BATCHES) is BATCHES
        assert marker.groups(GROUPS) is GROUPS


def test_a_task_whose_process_died_is_followed_from_line_to_line(run_dir: str) -> None:
    earlier = Mark("map", 1, dead_pid(), 0.0, "a.gz")
    leave(run_dir, earlier)
    with Marker(run_dir, "map", 1) as marker:
        assert marker.earlier == [earlier]
        marker.begin("a.gz")
        batches = iter(marker.lines(BATCHES))
        first = next(batches)
        assert first == BATCHES[0], "batches decide when pairs are folded, and must stay"
        assert places(run_dir, first[0]) == [
            "line 1",
            "line 2, which has 1,000,000 characters",
            "line 3",
        ]
        second = next(batches)
        assert places(run_dir, [0]) == ["line 4, which it was reading"]
        assert places(run_dir, second[0]) == ["line 4", "line 5"]
        assert next(batches, None) is None
        (_, mark) = read_marks(run_dir)
        assert (mark.path, mark.place) == ("a.gz", "line 6, which it was reading")
        marker.begin("b.gz")
        (_, mark) = read_marks(run_dir)
        assert (mark.path, mark.place) == ("b.gz", "")
    assert read_marks(run_dir) == [earlier]


def test_a_task_whose_process_died_is_followed_from_key_to_key(run_dir: str) -> None:
    leave(run_dir, Mark("reduce", 2, dead_pid(), 0.0))
    with Marker(run_dir, "reduce", 2) as marker:
        groups = marker.groups(GROUPS)
        first, second, third = places(run_dir, groups)
        assert first == "the key 'k', which has 2 values"
        assert second == "the key None, which has 1 values"
        assert len(third) < 200
        (_, mark) = read_marks(run_dir)
        assert mark.place.startswith("the key after 'xxx")
        assert list(marker.groups(GROUPS)) == GROUPS


def test_a_process_is_alive_or_not() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1), "somebody else's too"
    assert not is_alive(dead_pid())


def test_a_process_that_nobody_has_looked_after_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(process.pid)


def test_notes_of_kills_are_no_marks(run_dir: str) -> None:
    note_kill(run_dir, 17, 250_000_000)
    note_kill(run_dir, 18, 0)
    Path(run_dir, "marks", ".killed.19.0123456789ab.tmp").touch()
    assert read_kills(run_dir) == {17: 250_000_000, 18: 0}
    assert read_marks(run_dir) == []


def test_a_kill_is_noted_where_no_task_has_run(tmp_path: Path) -> None:
    note_kill(str(tmp_path), 17, 1)
    assert read_kills(str(tmp_path)) == {17: 1}
