"""What is said when worker processes die."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import pytest
from support.marks import dead_pid, leave

from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.tasks.crashes import Mark, Marker, note_kill, read_marks
from daskmr.tasks.deaths import activated, explain_death, explain_kills, load, refuse_third_try

MB = 1_000_000


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    (tmp_path / "marks").mkdir()
    return str(tmp_path)


class Script:
    """A job that a new process has not loaded yet, and the marks that there are while it does."""

    is_loaded = False

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.marks: list[str] = []

    @contextmanager
    def activate(self) -> Iterator[None]:
        if not self.is_loaded:
            self.marks = [mark.phase for mark in read_marks(self.run_dir)]
        self.is_loaded = True
        yield


def explain(run_dir: str, partition: int | None = None, kills: dict[int, int] | None = None) -> str:
    return explain_death("the key", partition, kills or {}, read_marks(run_dir), "/data", 300 * MB)


def marks_of_map(run_dir: str, number: int, tries: int = 1, path: str = "a.gz") -> list[Mark]:
    marks = []
    for attempt in range(tries):
        place = "line 7" if attempt else ""
        mark = Mark("map", number, dead_pid(), float(attempt), path, place, 250 * MB)
        leave(run_dir, mark)
        marks.append(mark)
    return marks


def test_one_kill_is_none_too_many() -> None:
    marks = [Mark("map", 1, pid, 0.0, "a.gz") for pid in (5, 6, 7)]
    assert explain_kills([], {}, "/data") is None
    assert explain_kills(marks, {6: 100, 99: 100}, "/data") is None


def test_a_second_kill_is_explained() -> None:
    marks = [
        Mark("map", 1, 5, 0.0, "a.gz", "", 250 * MB),
        Mark("map", 1, 6, 1.0, "a.gz", "line 7", 250 * MB),
    ]
    assert explain_kills(marks, {5: 240 * MB, 6: 245 * MB}, "/data") == (
        "A worker process ran out of memory twice while it mapped /data/a.gz (the last time it was "
        "at line 7). It held 245 MB when it was killed; its limit is 250 MB (--memory-limit). "
        "Nothing was written. Keep less in memory in map, which may accumulate objects across "
        "records, or raise --memory-limit, with fewer --num-mappers if the machine has no more."
    )


def test_the_system_kills_without_a_figure() -> None:
    marks = [Mark("reduce", 1, 5, 0.0), Mark("reduce", 1, 6, 1.0, "", "the key 'k'")]
    message = explain_kills(marks, {5: 0, 6: 0}, "/data")
    assert message is not None
    assert message.startswith(
        "A worker process ran out of memory twice while it ran reduce (the last time it was at "
        "the key 'k'). The machine or container had none left, so the system killed it. Nothing"
    )
    assert "raise --memory-limit" not in message
    assert "fewer --num-mappers" in message


def test_a_third_try_is_refused(run_dir: str) -> None:
    with Marker(run_dir, "map", 1) as marker:
        refuse_third_try(marker, run_dir)
    first, second = marks_of_map(run_dir, 1, 2)
    note_kill(run_dir, first.pid, 240 * MB)
    with Marker(run_dir, "map", 1) as marker:
        refuse_third_try(marker, run_dir)
    note_kill(run_dir, second.pid, 240 * MB)
    with (
        Marker(run_dir, "map", 1) as marker,
        pytest.raises(TaskFailed, match=r"twice while it mapped a\.gz \(the last time"),
    ):
        refuse_third_try(marker, run_dir)
    with Marker(run_dir, "map", 2) as marker:
        refuse_third_try(marker, run_dir)


def test_a_process_of_the_same_number_on_another_host_is_another() -> None:
    marks = [
        Mark("map", 1, 20, float(n), "a.gz", worker=f"tcp://10.0.0.{n}:4000") for n in range(3)
    ]
    kills = {(mark.worker, mark.pid): 240 * MB for mark in marks}
    assert explain_kills(marks, kills, "/data") is not None
    one = {("tcp://10.0.0.1:4000", 20): 240 * MB, ("tcp://10.0.0.9:4000", 20): 240 * MB}
    assert explain_kills(marks, one, "/data") is None


@pytest.mark.parametrize("killed", [False, True])
def test_a_third_process_does_not_load_what_two_have_died_of(run_dir: str, killed: bool) -> None:
    leave(run_dir, Mark("load", 1, os.getpid(), 0.0, process="other"))  # a merge in bucket 1, say
    for attempt in range(2):
        load(cast(Job, Script(run_dir)), run_dir, 1)
        mark = Mark("load", 1, dead_pid(), float(attempt), limit=250 * MB)
        leave(run_dir, mark)
        if killed:
            note_kill(run_dir, mark.pid, 240 * MB)
    script = Script(run_dir)
    with pytest.raises(TaskFailed) as caught, activated(cast(Job, script), run_dir, 1):
        pass
    assert not script.is_loaded
    message = caught.value.message
    if killed:
        assert message.startswith("A worker process ran out of memory twice while it loaded the")
        assert "It held 240 MB when it was killed; its limit is 250 MB" in message
        assert "Keep less at the top level of the script" in message
    else:
        assert message.startswith("A worker process died each time it loaded the script. ")
    assert explain(run_dir).startswith("A worker process died each time it loaded the script. ")


def test_a_script_is_loaded_once_under_a_mark_of_its_own(run_dir: str) -> None:
    script = Script(run_dir)
    for _ in range(2):
        with activated(cast(Job, script), run_dir, 7):
            assert (script.is_loaded, script.marks) == (True, ["load"])
            assert read_marks(run_dir) == []


def test_a_death_without_a_known_reason_names_what_died_most_often(run_dir: str) -> None:
    marks_of_map(run_dir, 1, 1, "innocent.gz")
    marks_of_map(run_dir, 2, 4, "a.gz")
    leave(run_dir, Mark("map", 3, os.getpid(), 9.0, "alive.gz"))
    message = explain(run_dir, 1)
    assert message.startswith(
        "A worker process died each time it mapped /data/a.gz (the last time it was at line 7). "
    )
    assert "innocent" not in message
    assert "alive" not in message
    assert "memory" not in message


def test_what_to_run_is_the_file_or_the_job(run_dir: str) -> None:
    marks_of_map(run_dir, 1, 1)
    assert explain(run_dir, 1).endswith("Run the file alone with --inline to see.")
    for pid in (1 << 22, (1 << 22) + 1):
        leave(run_dir, Mark("reduce", 3, pid, 9.0))
    assert explain(run_dir).endswith("Run the job with --inline to see.")


def test_the_number_of_the_partition_decides_between_equals(run_dir: str) -> None:
    for number in range(5):
        marks_of_map(run_dir, number, 1, f"{number}.gz")
    assert "mapped /data/2.gz." in explain(run_dir, 2)
    assert re.search(r"mapped (/data/\d\.gz, or ){2}/data/\d\.gz\. Nothing", explain(run_dir))


def test_deaths_of_which_some_were_for_memory_are_for_memory(run_dir: str) -> None:
    marks = marks_of_map(run_dir, 1, 4)
    message = explain(run_dir, 1, {marks[2].pid: 240 * MB})
    assert message.startswith("A worker process ran out of memory once while it mapped /data/a.gz ")
    assert "It held 240 MB when it was killed; its limit is 250 MB" in message


def test_merging_leaves_no_mark(run_dir: str) -> None:
    assert "died each time it ran one task of the job ('the key')." in explain(run_dir)
    message = explain(run_dir, None, {1: 280 * MB, 2: 290 * MB, 3: 285 * MB})
    assert message.startswith(
        "A worker process ran out of memory 3 times while it ran one task of the job ('the key'). "
        "It held 290 MB when it was killed; its limit is 300 MB (--memory-limit). "
    )
    assert "combine" in message
