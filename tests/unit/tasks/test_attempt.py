"""One attempt counts what it mapped, names what it failed at, and leaves nothing when it is discarded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskmr import Job
from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition
from daskmr.data.spill_dir import Scratch
from daskmr.data.writers.contexts import OutputKind
from daskmr.errors import TaskFailed
from daskmr.job.contexts import StaleContextError
from daskmr.memory import OutOfMemory
from daskmr.tasks.attempt import TALLY, Attempt
from daskmr.tasks.fold import Spilling
from daskmr.tasks.map import MapTask
from daskmr.tasks.partition_files import PartitionFiles

Make = Callable[..., Attempt]


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, value * 1000)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    for name in ("marks", "segments", "parts"):
        (tmp_path / name).mkdir()
    files = []
    for name, lines in {"a.log": "a\t1\nnone\nb\t2\n", "b.log": "c\t3\nd\t4\n"}.items():
        (tmp_path / name).write_text(lines)
        files.append(InputFile(name, len(lines), ()))
    partition = Partition(0, tuple(files), 21)

    def make(user_map: Any = emit, budget: int = 1 << 26) -> Attempt:
        task = MapTask(
            job=Job(map=user_map, reduce=lambda key, values, context: None),
            root=str(tmp_path),
            remote=None,
            scratch=Scratch(str(tmp_path)),
            spilling=Spilling(str(tmp_path / "segments"), budget, 2, 1),
            combine_size=50,
            kind=OutputKind(),
            skip_corrupt=False,
            max_bad=None,
            save_limit=1 << 20,
            profile=False,
            max_record_bytes=1 << 20,
            part_bytes=1 << 20,
            file_timeout=None,
        )
        files = PartitionFiles(partition, str(tmp_path), None, {}, "")
        return Attempt(files, task, str(tmp_path))

    return make


def test_an_attempt_gives_a_run_for_each_bucket_and_its_tally(make: Make, tmp_path: Path) -> None:
    attempt = make()
    *runs, (bucket, tally) = attempt.run()
    assert [number for number, _ in runs] == [0, 1]
    assert bucket == TALLY
    assert (tally.counts.files, tally.counts.bytes, tally.counts.records) == (2, 21, 5)
    assert (tally.counts.values, dict(tally.bad_files)) == (4, {"a.log": 1})
    assert [(span.phase, span.number) for span in tally.tasks] == [("map", 0)]
    assert list((tmp_path / "marks").iterdir()) == []
    with pytest.raises(StaleContextError):
        attempt.output.context.user.write("late", 1)


def test_a_failure_names_the_file_the_line_and_the_record(make: Make, tmp_path: Path) -> None:
    def fail(key: str, dims: list[str], value: str, context: Any) -> None:
        if key == "d":
            raise KeyError(key)

    with pytest.raises(TaskFailed, match=r"map failed at .*/b\.log, line 2: KeyError") as caught:
        make(fail).run()
    assert (caught.value.file, caught.value.record) == ("b.log", r"'d\t4'")
    assert caught.value.files == ()


def test_a_file_that_takes_too_much_memory_can_be_skipped(make: Make) -> None:
    def grow(key: str, dims: list[str], value: str, context: Any) -> None:
        raise OutOfMemory

    with pytest.raises(TaskFailed, match=r"line 1: ") as caught:
        make(grow).run()
    assert caught.value.files == ("a.log",)
    assert caught.value.skip_reason == caught.value.message


def test_a_file_that_cannot_be_read_is_named(make: Make, tmp_path: Path) -> None:
    attempt = make()
    (tmp_path / "b.log").unlink()
    with pytest.raises(TaskFailed, match=r"b\.log") as caught:
        attempt.run()
    assert caught.value.file == "b.log"


def test_a_discarded_attempt_leaves_no_segments(make: Make, tmp_path: Path) -> None:
    attempt = make(budget=1)
    attempt.run()
    assert attempt.output.spilled
    attempt.discard()
    assert list((tmp_path / "segments").iterdir()) == []
    with pytest.raises(StaleContextError):
        attempt.output.context.user.write("late", 1)
