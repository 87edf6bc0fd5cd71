"""What `map` writes is taken in batches, by a fold or a part, and what a bad record wrote is undone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskmr import Job
from daskmr.data.parts import read_blocks
from daskmr.data.writers.contexts import OutputKind
from daskmr.tasks.fold import Spilling
from daskmr.tasks.map_output import FoldedOutput, MapOutput, PartOutput
from daskmr.tasks.runs import read_groups

Make = Callable[..., Any]


def nothing(*args: Any) -> None: ...


def header(context: Any) -> None:
    context.counter("set up", "calls")
    context.writeline("header")


@pytest.fixture
def fold(tmp_path: Path) -> Make:
    def make(budget: int = 1 << 26, buckets: int = 1) -> FoldedOutput:
        spilling = Spilling(str(tmp_path), budget, buckets, 1)
        return FoldedOutput(Job(map=nothing, reduce=nothing), spilling, 50)

    return make


@pytest.fixture
def part(tmp_path: Path) -> Make:
    def make(items: bool = False, part_bytes: int = 1 << 20) -> PartOutput:
        job = Job(map=nothing, setup_reduce=header)
        return PartOutput(job, str(tmp_path), part_bytes, OutputKind(items))

    return make


def written(output: PartOutput) -> list[Any]:
    ((bucket, part),) = output.finish()
    assert bucket == 0
    return [*part.header] + [
        each for _, written in read_blocks(part, direct=True) for each in written
    ]


def test_pairs_come_as_a_run_for_each_bucket(fold: Make, tmp_path: Path) -> None:
    output = fold(buckets=3)
    for key in "abcab":
        output.context.user.write(key, 1)
    results = output.finish()
    assert [bucket for bucket, _ in results] == [0, 1, 2]
    groups = [g for _, run in results for g in read_groups(run, None, 1 << 26, str(tmp_path))]
    assert sorted(groups) == [("a", [1, 1]), ("b", [1, 1]), ("c", [1])]
    assert output.values == 5
    assert {hot.key: hot.values for hot in output.hot_keys} == {"'a'": 2, "'b'": 2, "'c'": 1}


def test_a_flush_takes_what_is_pending_and_sets_the_next_batch(fold: Make, part: Make) -> None:
    for output in (fold(), part()):
        first = output.batch
        for number in range(100):
            output.context.user.write(f"key {number}", number)
        assert len(output.pending) == 100
        output.flush()
        assert (output.pending, output.hurry) == ([], [])
        assert output.batch > first, "once the size of a pair is known, more of them may wait"
        output.discard()


def test_what_was_spilled_is_removed_with_a_failed_attempt(fold: Make, tmp_path: Path) -> None:
    output = fold(budget=1000)
    for number in range(1000):
        output.context.user.write(number, "x" * 100)
        output.flush()
    assert output.spilled > 0
    assert os.listdir(tmp_path)
    output.discard()
    assert os.listdir(tmp_path) == []


def test_counts_alone_do_not_end_a_batch(fold: Make, part: Make) -> None:
    for output in (fold(), part()):
        output.context.user.write("k", 1)
        output.context.user.counter("group", "name")
        assert output.hurry
        output.hasten()
        assert (len(output.pending), output.hurry) == (1, [])
        assert output.context.counters["group", "name"] == 1


def test_what_must_not_wait_is_taken_after_its_record(fold: Make, part: Make) -> None:
    for output in (fold(), part()):
        output.context.user.write("k", "x" * (1 << 20))
        assert None in output.hurry
        output.hasten()
        assert (output.pending, output.hurry) == ([], [])
        output.discard()


def test_writes_and_counts_of_a_bad_record_are_undone(fold: Make, part: Make) -> None:
    for output in (fold(), part()):
        output.context.user.write("good", 1)
        mark = len(output.pending)
        output.context.user.write("bad", 1)
        output.context.user.counter("group", "bad")
        output.take_back(mark)
        output.flush()
        counts = {("set up", "calls"): 1} if isinstance(output, PartOutput) else {}
        assert output.context.counters == counts
        if isinstance(output, PartOutput):
            assert written(output) == ["header\n", "good\t1\n"]
        else:
            assert dict(output.context.groups) == {"good": [1]}


def test_a_part_holds_the_header_and_text_or_items(part: Make) -> None:
    for items, expected in ((False, ["header\n", "a\t1\n"]), (True, ["header", ("a", 1)])):
        output = part(items)
        output.context.user.write("a", 1)
        output.flush()
        assert written(output) == expected


def test_nothing_is_taken_by_the_base_itself() -> None:
    for method in (MapOutput.flush, MapOutput.finish):
        with pytest.raises(NotImplementedError):
            method(MapOutput())
