"""Values on disk are a sequence that reads like a list, and refuses to be changed."""

from __future__ import annotations

import dataclasses
import importlib
import pickle
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.runs import LARGE, Pipeline, concatenate, files_in, naive, spell

from daskmr.data.segments import Extent, SegmentWriter
from daskmr.errors import JobError
from daskmr.job.contexts import ItemContext
from daskmr.job.porting_errors import advice_for
from daskmr.tasks import runs
from daskmr.tasks.runs import read_groups
from daskmr.tasks.spilled_values import SpilledValues

# --- values on disk --------------------------------------------------------------------------


@contextmanager
def spilled(pages: Sequence[Sequence[Any]]) -> Iterator[SpilledValues]:
    with tempfile.TemporaryDirectory() as folder:
        writer = SegmentWriter(folder)
        stored = tuple((writer.write([(pickle.dumps(list(page)), 0)]), len(page)) for page in pages)
        writer.close()
        yield SpilledValues(stored)


BOUNDS = st.none() | st.integers(-40, 40)
PAGES = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=5), max_size=7)


@settings(max_examples=50, deadline=None)
@given(PAGES, st.lists(st.tuples(BOUNDS, BOUNDS, BOUNDS.filter(lambda n: n != 0)), max_size=8))
@example([[1], [2, 3], [4]], [(None, None, -1), (1, 3, 1), (-2, None, 2), (3, 1, 1)])
def test_spilled_values_are_a_sequence(pages: list[list[int]], cuts: Any) -> None:
    plain = [value for page in pages for value in page]
    with spilled(pages) as values:
        assert len(values) == len(plain)
        assert bool(values) == bool(plain)
        assert list(values) == list(values) == plain
        assert list(reversed(values)) == plain[::-1]
        assert sorted(values) == sorted(plain)
        for index in range(-len(plain), len(plain)):
            assert values[index] == plain[index]
        for index in (len(plain), -len(plain) - 1, 10**9):
            with pytest.raises(IndexError):
                values[index]
        for start, stop, step in cuts:
            assert values[start:stop:step] == plain[start:stop:step]
        for value in range(7):
            assert (value in values) == (value in plain)
            assert values.count(value) == plain.count(value)
            if value in plain:
                assert values.index(value) == plain.index(value)
                last = len(plain) - 1 - plain[::-1].index(value)
                assert values.index(value, last) == last
            else:
                with pytest.raises(ValueError, match=r".*"):
                    values.index(value)


def test_two_iterations_at_once() -> None:
    with spilled([[1, 2], [3], [4, 5]]) as values:
        assert [(a, b) for a in values for b in values] == [
            (a, b) for a in range(1, 6) for b in range(1, 6)
        ]
        forth = iter(values)
        assert [next(forth), values[4], next(forth), values[0], next(forth)] == [1, 5, 2, 1, 3]


@pytest.mark.parametrize(
    "change",
    [
        *(f"values.{name}(1)" for name in ("append", "extend", "remove", "pop", "insert")),
        *("values.sort()", "values.sort(key=len, reverse=True)", "values.reverse()"),
        *("values.clear()", "values[0] = 1", "del values[0]", "values[0:1] = []", "values += [1]"),
        "values *= 2",
    ],
)
def test_spilled_values_refuse_to_be_changed(change: str) -> None:
    with spilled([[1, 2], [3]]) as values:
        with pytest.raises(TypeError, match=r"3 values.*sorted\(values\)"):
            exec(change, {"values": values})
        assert list(values) == [1, 2, 3]


READ = [
    *("values + [1]", "values + values", "values * 2", "2 * values", "values.copy()", "values[1:]"),
    *("isinstance(values, list)", "isinstance(values, (tuple, set))", "values.__class__ is list"),
    *("copy.copy(values)", "copy.deepcopy(values)", "pickle.loads(pickle.dumps(values))"),
    *("json.dumps(values, indent=1)", "json.dumps(list(values))", "''.join(map(str, values))"),
    *("sum(values)", "max(values)", "statistics.median(values)", "[*values]", "values[True]"),
    *("random.Random(1).choice(values)", "random.Random(1).sample(values, 2)", "f'{values}'"),
    *("values == [3, 1, 2]", "[3, 1, 2] == values", "values != [3]", "values == (3, 1, 2)"),
    *("bisect.bisect(values, 2)", "heapq.nlargest(2, values)", "collections.Counter(values)"),
    *(
        "array.array('d', values)",
        "(lambda a, b, c: (c, b, a))(*values)",
        "dict(zip(values, values))",
    ),
]


@pytest.mark.parametrize("expression", READ)
def test_what_reads_a_list_reads_spilled_values(expression: str) -> None:
    modules: dict[str, Any] = {
        name: importlib.import_module(name)
        for name in [
            "array",
            "bisect",
            "collections",
            "copy",
            "heapq",
            "json",
            "pickle",
            "random",
            "statistics",
        ]
    }
    with spilled([[3], [1, 2]]) as values:
        found = eval(expression, modules | {"values": values})
    expected = eval(expression, modules | {"values": [3, 1, 2]})
    assert found == expected
    assert type(found) is type(expected)


def test_a_list_is_extended_by_spilled_values_in_place() -> None:
    kept = same = [0]
    with spilled([[1], [2]]) as values:
        kept += values
    assert same is kept
    assert same == [0, 1, 2]


@pytest.mark.parametrize(
    "expression",
    ["json.dumps(values)", "[1] + values", "marshal.dumps(values)", "heapq.heapify(values)"],
)
def test_what_needs_a_real_list_is_told_how_to_make_one(expression: str) -> None:
    modules = {name: importlib.import_module(name) for name in ("heapq", "json", "marshal")}
    with (
        spilled([[1], [2]]) as values,
        pytest.raises((TypeError, ValueError)) as caught,
    ):
        eval(expression, modules | {"values": values})
    assert "requires `list(values)`" in advice_for(caught.value)


def test_values_that_are_changed_in_place_are_not_read_again() -> None:
    """In memory the change is seen by who reads them again; from disk they would come unchanged."""
    with spilled([[{"n": "1"}] for _ in range(9)]) as values:
        total = 0
        for value in values:
            value["n"] = int(value["n"])
            total += value["n"]
        assert total == 9, "a change within a single pass is kept"
        with pytest.raises(TypeError, match=r"\(a dict\) was changed in place.*list\(values\)"):
            list(values)


def test_what_is_merged_into_the_first_value_is_not_lost() -> None:
    with spilled([[{"n": n}] for n in range(30)]) as values:
        for index in range(1, 30):
            values[0]["n"] += values[index]["n"]
        assert values[0] == {"n": sum(range(30))}


def test_of_large_values_one_is_held_at_a_time(tmp_path: Path) -> None:
    gathered = [[[("hot", "x" * 2_000_000)]] for _ in range(6)]
    (run,) = Pipeline(tmp_path, budget=1 << 20).runs(gathered)
    for _, values in read_groups(run, None, 1 << 20, str(tmp_path)):
        assert isinstance(values, SpilledValues)
        for _ in values:
            assert len(values._held) == 1


@dataclasses.dataclass
class Point:
    x: float
    names: set[str]


VALUES = st.recursive(
    st.none() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda each: st.lists(each) | st.dictionaries(st.text(), each) | st.tuples(each, each),
    max_leaves=8,
) | st.builds(Point, st.floats(), st.sets(st.text()))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(VALUES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_values_that_are_only_read_are_never_called_changed(pages: list[list[Any]]) -> None:
    with spilled(pages) as values:
        for _ in range(3):
            assert len([*values]) == len(values) == sum(map(len, pages))


def test_an_unknown_attribute_is_no_change() -> None:
    with spilled([[1]]) as values:
        assert not hasattr(values, "shape")
        with pytest.raises(AttributeError, match="no attribute 'shape'"):
            values.shape  # noqa: B018


def test_spilled_values_print_as_their_list() -> None:
    """Otherwise ``context.write(key, values)`` prints names of files that differ with each run."""
    with spilled([[1, 2], [3]]) as values:
        assert str(values) == str([1, 2, 3])
        assert f"{values!r}" == "[1, 2, 3]"


def test_a_snapshot_of_spilled_values_outlives_their_file() -> None:
    """An iterated result gives what `reduce` wrote long after the segment is gone."""
    context = ItemContext()
    with spilled([[1, 2], [3]]) as values:
        context.write("k", values)
    ((_, kept),) = context.written
    assert list(kept) == [1, 2, 3]


def test_a_group_beyond_the_budget_lies_on_disk(tmp_path: Path) -> None:
    partitions = [[[("hot", n) for n in range(100)]] for _ in range(10)]
    for budget, kind in [(5_000, SpilledValues), (LARGE, list)]:
        pipeline = Pipeline(tmp_path, budget=budget)
        (run,) = pipeline.runs(partitions)
        ((_, values),) = ((k, v) for k, v in read_groups(run, None, budget, str(tmp_path)))
        assert type(values) is kind


def test_values_on_disk_end_with_their_group(tmp_path: Path) -> None:
    (run,) = Pipeline(tmp_path, budget=1).runs([[[("k", 1), ("k", 2)], [("l", 3), ("l", 4)]]])
    kept = [values for _, values in read_groups(run, None, 1, str(tmp_path))]
    assert len(kept) == 2
    with pytest.raises(ValueError, match=r"2 values were on disk.* keep a list of those"):
        list(kept[0])


def test_frames_that_are_large_are_merged_a_few_at_once(tmp_path: Path) -> None:
    """What is held of each stream is its largest frame, which is large where a value is."""
    budget = 1 << 20
    pairs = [[[(f"{part} {number}", "x" * 300_000) for number in range(4)]] for part in range(20)]
    pipeline = Pipeline(tmp_path, budget=budget)
    (run,) = pipeline.runs(pairs)
    held: list[int] = []
    merge_streams = runs._merge_streams

    def note(chunks: Any) -> Any:
        held.append(sum(chunk.largest for chunk in chunks))
        return merge_streams(chunks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_merge_streams", note)
        groups = pipeline.read(run)
    assert spell(groups) == spell(naive(pairs))
    assert len(held) > 2
    assert max(held) <= budget


@pytest.mark.parametrize("combine", [None, concatenate])
def test_what_is_large_counts_even_where_a_sample_does_not_see_it(
    tmp_path: Path, combine: Any
) -> None:
    """All that is large under one key of a thousand: the budget holds, and so do the frames."""
    batches = [
        [(str(number), "x") for number in range(1000)] + [("500", "y" * 100_000)] * 3
        for _ in range(20)
    ]
    fold = Pipeline(tmp_path, budget=4 << 20, combine=combine).fold(batches)
    (run,) = fold.finish()
    assert len(run.chunks) > 1, "6 MB spill before the end"
    assert all(isinstance(chunk, Extent) and chunk.largest < 700_000 for chunk in run.chunks)


def test_a_combined_group_stays_in_memory(tmp_path: Path) -> None:
    def total(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    partitions = [[[("hot", n) for n in range(100)]] for _ in range(20)]
    pipeline = Pipeline(tmp_path, budget=2000, combine=total)
    (run,) = pipeline.runs(partitions)
    ((_, values),) = read_groups(run, pipeline.combiner, 2000, str(tmp_path))
    assert values == [20 * sum(range(100))]


def test_a_missing_segment_names_itself(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, budget=1)
    (run,) = pipeline.runs([[[("a", 1)]]])
    (name,) = files_in(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(JobError, match=name):
        pipeline.read(run)
