"""Buckets through `reduce`: sorted parts, counts, and failures that name the key."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jobs import identity, oracle
from support.marks import dead_pid, leave

from daskmr.counts import Counts
from daskmr.data.parts import Part, merge_parts, read_blocks
from daskmr.data.segments import Extent
from daskmr.data.spill_dir import Scratch
from daskmr.data.writers.contexts import OutputKind
from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.job.map_context import MapContext
from daskmr.tasks.crashes import Mark, read_marks
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.reduce import Merge, Reduced, ReduceTask, reduce_buckets
from daskmr.tasks.runs import Run
from daskmr.tasks.tally import Tallies, Tally

LARGE = 1 << 26
KEYS = st.sampled_from(
    [None, True, 1, 1.0, 2.5, float("nan"), "1", "a", "\u00e9", b"1", (1, "x"), (True, "x")]
)


def nothing(key: Any, dims: Any, value: Any, context: Any) -> None:
    raise AssertionError("a reducer does not map")


def listed(key: Any, values: Any, context: Any) -> None:
    context.write(key, list(values))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


class Place:
    """A run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("marks", "live", "segments", "parts"):
            (folder / name).mkdir()

    def runs(self, pairs: Any, buckets: int = 1, budget: int = LARGE) -> list[Run]:
        context = MapContext()
        for key, value in pairs:
            context.write(key, value)
        spilling = Spilling(str(self.folder / "segments"), budget, buckets, 1)
        fold = Fold(context.groups, spilling, None, 50)
        fold.settle(context.keys)
        return fold.finish()

    def task(self, reduce: Any = listed, **changes: Any) -> ReduceTask:
        functions = {name: changes.pop(name, None) for name in ("combine", "setup_reduce")}
        fields: dict[str, Any] = {
            "job": Job(map=nothing, reduce=reduce, **functions),
            "scratch": Scratch(str(self.folder)),
            "budget": LARGE,
            "kind": OutputKind(items=True),
            "profile": False,
            "part_bytes": 1 << 20,
        }
        return ReduceTask(**{**fields, **changes})

    def reduce(self, *contents: Any, **options: Any) -> Reduced:
        pairs = [(number, (number, content)) for number, content in enumerate(contents)]
        (reduced,) = reduce_buckets(pairs, task=self.task(**options))
        assert isinstance(reduced, Reduced)
        return reduced


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def items(reduced: Reduced) -> list[Any]:
    return [item for batch in merge_parts(reduced.parts) for written in batch for item in written]


def text(parts: tuple[Part, ...]) -> str:
    return "".join(written for batch in merge_parts(parts) for written in batch)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=40),
    st.sampled_from([1, 2, 5]),
    st.sampled_from([1, 500, LARGE]),
    st.sampled_from([1, 1 << 20]),
)
def test_reduced_buckets_equal_the_oracle(
    tmp_path_factory: Any, pairs: Any, buckets: int, budget: int, part_bytes: int
) -> None:
    place = Place(tmp_path_factory.mktemp("run"))
    runs = place.runs(pairs, buckets, budget)
    reduced = place.reduce(*runs, budget=budget, part_bytes=part_bytes)
    expected = oracle(pairs, listed)
    assert [(repr(k), v) for k, v in items(reduced)] == [(repr(k), v) for k, v in expected]
    assert reduced.keys == len({repr(identity(key)) for key, _ in expected})
    assert sum(part.lines for part in reduced.parts) == len(expected)
    assert len(reduced.parts) == buckets
    assert pickle.loads(pickle.dumps(reduced.parts)) == reduced.parts


def test_every_part_is_sorted_and_in_blocks(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr("daskmr.tasks.reduce._BLOCK_BYTES", 400)
    pairs = [(f"k{n % 11}", n) for n in range(40)]
    for part_bytes, kind, sizes in ((1, Extent, [1] * 11), (1 << 20, tuple, [3, 3, 3, 2])):
        (part,) = place.reduce(*place.runs(pairs), part_bytes=part_bytes).parts
        assert isinstance(part.frames, kind)
        blocks = [keys for keys, _ in read_blocks(part, direct=True)]
        assert [len(keys or ()) for keys in blocks] == sizes
        in_order = [key for keys in blocks for key in keys or ()]
        assert in_order == sorted({key for key, _ in pairs})


def test_long_outputs_make_blocks_of_their_own(place: Place, monkeypatch: Any) -> None:
    monkeypatch.setattr("daskmr.tasks.reduce._BLOCK_BYTES", 250)
    pairs = [(n, "x" * 120) for n in range(4)]
    (part,) = place.reduce(*place.runs(pairs), kind=OutputKind()).parts
    assert [keys for keys, _ in read_blocks(part, True)] == [[0], [1], [2], [3]]


def test_lines_of_a_key_stay_in_the_order_in_which_they_were_written(place: Place) -> None:
    def many(key: Any, values: Any, context: Any) -> None:
        context.write(key, "z")
        context.writeline("a")
        context.writecsv([3, 2])
        if key == "silent":
            context.counter.__self__.written.clear()

    runs = place.runs([("b", 1), ("a", 1), ("silent", 1)])
    reduced = place.reduce(*runs, reduce=many, kind=OutputKind())
    assert text(reduced.parts) == "a\tz\na\n3,2\r\nb\tz\na\n3,2\r\n"
    assert reduced.keys == 3
    assert reduced.parts[0].lines == 6
    assert items(place.reduce(*runs, reduce=many))[:3] == [("a", "z"), "a", "3,2"]


def test_setup_is_called_once_and_every_part_has_the_header(place: Place) -> None:
    calls = []

    def setup(context: Any) -> None:
        calls.append(context)
        context.field_separator = "|"
        context.writeline("header")

    runs = place.runs([(n, n) for n in range(20)], buckets=4)
    reduced = place.reduce(*runs, reduce=total, setup_reduce=setup, kind=OutputKind())
    assert len(calls) == 1
    assert [part.header for part in reduced.parts] == [("header\n",)] * 4
    assert text(reduced.parts) == "".join(f"{n}|{n}\n" for n in range(20))


def test_nothing_to_reduce(place: Place) -> None:
    reduced = place.reduce(Run((b"",)), Run(()))
    assert reduced.keys == 0
    assert [part.lines for part in reduced.parts] == [0, 0]
    assert place.reduce().parts == ()


def test_the_tally_comes_through(place: Place) -> None:
    tally = Tallies.of(Tally(Counts(files=3, bad_reasons={"r": 2})))
    (run,) = place.runs([("k", 1)])
    reduced = place.reduce(run, tally)
    assert reduced.tallies == tally
    assert len(reduced.parts) == 1
    assert place.reduce(run).tallies == Tallies()


def test_combine_stands_before_reduce(place: Place) -> None:
    lengths = []

    def reduce(key: Any, values: Any, context: Any) -> None:
        lengths.append(len(values))
        context.write(key, sum(values))

    runs = place.runs([("k", n) for n in range(10)])
    assert items(place.reduce(*runs, reduce=reduce, combine=total)) == [("k", 45)]
    assert lengths == [1]


def test_a_profile_is_taken_when_it_is_asked_for(place: Place) -> None:
    runs = place.runs([("a", 1), ("b", 1)])
    assert place.reduce(*runs).counted.profile is None
    profile = place.reduce(*runs, profile=True).counted.profile
    assert profile is not None
    assert {function[2]: counts[1] for function, counts in profile.items()}["listed"] == 2


# --- failures --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("odd"), SystemExit(3), MemoryError(), StopIteration(), GeneratorExit()]
)
@pytest.mark.parametrize("budget", [1, LARGE])
def test_a_failing_reduce_names_the_key_and_leaves_nothing(
    place: Place, error: BaseException, budget: int
) -> None:
    def reduce(key: Any, values: Any, context: Any) -> None:
        context.write(key, "x" * 1000)
        if key == "k5":
            raise error

    runs = place.runs([(f"k{n}", n) for n in range(9)], budget=budget)
    before = sorted(os.listdir(place.folder / "segments"))
    with pytest.raises(TaskFailed) as caught:
        place.reduce(*runs, reduce=reduce, budget=budget, part_bytes=1)
    assert caught.value.message.startswith(
        f"reduce failed for the key 'k5': {type(error).__name__}"
    )
    assert "test_reduce.py" in caught.value.message
    assert os.listdir(place.folder / "parts") == []
    assert sorted(os.listdir(place.folder / "segments")) == before


def test_a_long_key_is_cut(place: Place) -> None:
    def reduce(key: Any, values: Any, context: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(TaskFailed) as caught:
        place.reduce(*place.runs([("k" * 10_000, 1)]), reduce=reduce)
    assert len(caught.value.message) < 500


@pytest.mark.parametrize(
    ("combine", "mistake"),
    [
        (lambda key, values, context: 1 / 0, "ZeroDivisionError"),
        (lambda key, values, context: context.write("other", 1), "wrote under another, 'other'"),
    ],
)
def test_a_failing_combine_names_the_key(place: Place, combine: Any, mistake: str) -> None:
    runs = place.runs([("k", 1), ("k", 2)])
    with pytest.raises(TaskFailed, match=f"combine failed for the key 'k': .*{mistake}"):
        place.reduce(*runs, combine=combine)


def test_a_failing_setup(place: Place) -> None:
    def setup(context: Any) -> None:
        raise KeyError("osName")

    with pytest.raises(TaskFailed, match="setup_reduce failed before the first key: KeyError"):
        place.reduce(setup_reduce=setup)


def test_ctrl_c_is_let_through(place: Place) -> None:
    def reduce(key: Any, values: Any, context: Any) -> None:
        context.write(key, "x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.reduce(*place.runs([("k", 1)]), reduce=reduce, part_bytes=1)
    assert os.listdir(place.folder / "parts") == []


def test_a_missing_segment_is_told(place: Place) -> None:
    (run,) = place.runs([("k", 1)], budget=1)
    (name,) = os.listdir(place.folder / "segments")
    (place.folder / "segments" / name).unlink()
    with pytest.raises(TaskFailed, match=f"{name}.*run the job again"):
        place.reduce(run)


# --- merging ---------------------------------------------------------------------------------


def test_merge_is_of_one_bucket_and_in_order(place: Place) -> None:
    merge = Merge(Job(map=nothing, reduce=listed), Scratch(str(place.folder)))
    first, second = ((3, place.runs([("k", value)])[0]) for value in ("first", "second"))
    bucket, run = merge(first, second)
    assert bucket == 3
    assert items(place.reduce(run)) == [("k", ["first", "second"])]


def test_merge_combines_frames(place: Place) -> None:
    merge = Merge(Job(map=nothing, combine=total, reduce=listed), Scratch(str(place.folder)))
    merged = (0, Run(()))
    for value in range(9):
        merged = merge(merged, (0, place.runs([("k", value)])[0]))
    assert items(place.reduce(merged[1])) == [("k", [sum(range(8)), 8])]


def test_what_is_written_for_a_group_on_disk_is_not_held_whole(place: Place) -> None:
    held: list[int] = []

    def copy(key: Any, values: Any, context: Any) -> None:
        for value in values:
            context.writeline(value)
            held.append(len(context.counter.__self__.written))

    pairs = [(key, f"{key}{number:06}") for number in range(20_000) for key in "ab"]
    (run,) = place.runs(pairs, budget=100_000)
    reduced = place.reduce(run, reduce=copy, budget=100_000, kind=OutputKind())
    assert text(reduced.parts) == "".join(f"{value}\n" for _, value in sorted(pairs))
    assert max(held) < 10_000
    assert sum(part.lines for part in reduced.parts) == len(pairs)


def test_merge_adds_tallies(place: Place) -> None:
    merge = Merge(Job(map=nothing, reduce=listed), Scratch(str(place.folder)))
    one, two = Tallies((b"1",)), Tallies((b"2",))
    assert merge((-1, one), (-1, two)) == (-1, Tallies((b"1", b"2")))


def test_a_merge_that_fails_names_the_key(place: Place) -> None:
    def combine(key: Any, values: Any, context: Any) -> None:
        raise ValueError("odd")

    merge = Merge(Job(map=nothing, combine=combine, reduce=listed), Scratch(str(place.folder)))
    merged = (0, Run(place.runs([("k", 0)])[0].chunks * 7))
    with pytest.raises(TaskFailed, match="combine failed for the key 'k': ValueError: odd"):
        merge(merged, (0, place.runs([("k", 1)])[0]))


def test_a_merge_pickles(place: Place) -> None:
    merge = pickle.loads(
        pickle.dumps(
            Merge(Job(map=nothing, combine=total, reduce=listed), Scratch(str(place.folder)))
        )
    )
    assert merge((-1, Tallies((b"1",))), (-1, Tallies())) == (-1, Tallies((b"1",)))


def test_a_merge_that_is_tried_again_says_at_which_key(place: Place) -> None:
    """A merge whose process died left a mark, as each one does that asks the combiner."""
    seen = []

    def combine(key: Any, values: Any, context: Any) -> None:
        seen.append(read_marks(str(place.folder))[-1])
        context.write(key, sum(values))

    merge = Merge(Job(map=nothing, combine=combine, reduce=listed), Scratch(str(place.folder)))
    merged = (5, Run(place.runs([("k", 0)])[0].chunks * 7))
    more = (5, place.runs([("k", 1)])[0])
    merge(merged, more)
    leave(str(place.folder), Mark("merge", 5, dead_pid(), 0.0))
    merge(merged, more)
    assert [(m.phase, m.number, m.place) for m in seen] == [
        ("merge", 5, ""),
        ("merge", 5, "the key 'k'"),
    ]
