"""Folding, merging and reading Runs equals grouping in memory, whatever spills and however much."""

from __future__ import annotations

import ctypes
import dataclasses
import importlib
import os
import pickle
import subprocess
import sys
import tempfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.jobs import identity

from daskmr.data.segments import Extent, SegmentWriter
from daskmr.errors import JobError
from daskmr.job.contexts import CombineError, ItemContext, MapContext
from daskmr.job.keys import bucket_of, canonical, sort_key
from daskmr.job.porting import advice_for
from daskmr.tasks import fold as folding
from daskmr.tasks import frames, runs, spilled_values
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.frames import estimate_size
from daskmr.tasks.runs import Run, merge_runs, read_groups
from daskmr.tasks.spilled_values import SpilledValues
from daskmr.tasks.user_calls import Combiner

LARGE = 1 << 26
KEYS = st.sampled_from(
    [
        *(None, True, 0, 1, 1.0, -0.0, 2.5, float("nan"), "1", "a", "b", "\u00e9", b"1"),
        *((1, "x"), (True, "x"), (float("nan"),), ()),
    ]
) | st.integers(0, 12).map("k{}".format)
BATCHES = st.lists(st.lists(st.tuples(KEYS, st.integers(0, 9)), max_size=30), max_size=4)
PARTITIONS = st.lists(BATCHES, min_size=1, max_size=12)
BUDGETS = st.sampled_from([1, 300, 1000, 3000, 20_000, LARGE])


def fail(error: BaseException, key: Any) -> Any:
    raise error


def concatenate(key: Any, values: Any, context: Any) -> None:
    """Write down how the values were grouped."""
    context.write(key, f"({'+'.join(values)})")


def fold_up(level: Sequence[Run], combiner: Combiner | None, split: int) -> Run:
    """Merge Runs up a tree, as `foldby` does."""
    while len(level) > 1:
        merged = []
        for start in range(0, len(level), split):
            run, *others = level[start : start + split]
            for other in others:
                run = merge_runs(run, other, combiner)
            merged.append(run)
        level = merged
    return level[0]


class Pipeline:
    """Fold, merge and read in one folder; `partitions` are lists of batches of pairs."""

    def __init__(self, folder: Any, *, buckets: int = 1, budget: int = LARGE, **options: Any):
        self.folder, self.buckets, self.budget = os.fspath(folder), buckets, budget
        combine = options.pop("combine", None)
        self.combiner = Combiner(combine, fail) if combine else None
        self.combine_size = options.pop("combine_size", 50)
        self.split = options.pop("split", 8)
        assert not options

    def fold(self, batches: Any, partitions: int = 1) -> Fold:
        spilling = Spilling(self.folder, self.budget, self.buckets, partitions)
        context = MapContext()
        fold = Fold(context.groups, spilling, self.combiner, self.combine_size)
        for batch in batches:
            for key, value in batch:
                context.write(key, value)
            settle(fold, context)
        return fold

    def runs(self, partitions: Any) -> list[Run]:
        """Give one Run a bucket."""
        each = [self.fold(batches, len(partitions)).finish() for batches in partitions]
        return [fold_up(level, self.combiner, self.split) for level in zip(*each, strict=True)]

    def read(self, run: Run) -> list[tuple[Any, list[Any]]]:
        groups = read_groups(run, self.combiner, self.budget, self.folder)
        return [(key, list(values)) for key, values in groups]

    def __call__(self, partitions: Any) -> list[tuple[Any, list[Any]]]:
        groups = [self.read(run) for run in self.runs(partitions)]
        for group in groups:
            assert group == sorted(group, key=lambda pair: sort_key(pair[0]))
        return sorted((pair for group in groups for pair in group), key=lambda p: sort_key(p[0]))


def settle(fold: Fold, context: MapContext) -> None:
    fold.settle(context.keys, context.large)
    context.keys.clear()
    context.large.clear()


def naive(partitions: Any) -> list[tuple[Any, list[Any]]]:
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for key, value in (pair for batches in partitions for batch in batches for pair in batch):
        groups.setdefault(identity(key), (key, []))[1].append(value)
    return sorted(groups.values(), key=lambda pair: sort_key(pair[0]))


def spell(groups: Any) -> list[tuple[str, list[Any]]]:
    """Make keys comparable as they print: NaN equals itself, and 1 is not True."""
    return [(repr(key), list(values)) for key, values in groups]


@contextmanager
def small_limits(frame: int = 200, fan_in: int = 3) -> Iterator[None]:
    """Many small frames and few streams at once, so that little data takes every way."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (frames, folding, runs, spilled_values):
            patch.setattr(module, "FRAME", frame)
        patch.setattr(runs, "_FAN_IN", fan_in)
        yield


def files_in(folder: Any) -> list[str]:
    return sorted(os.listdir(folder))


# --- equal to a naive grouping ---------------------------------------------------------------


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(PARTITIONS, st.sampled_from([1, 2, 7]), BUDGETS, st.sampled_from([2, 8]))
def test_groups_equal_a_naive_grouping(
    partitions: Any, buckets: int, budget: int, split: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, small_limits():
        pipeline = Pipeline(folder, buckets=buckets, budget=budget, split=split)
        assert spell(pipeline(partitions)) == spell(naive(partitions))


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(PARTITIONS, st.sampled_from([1, 7]), BUDGETS, st.sampled_from([1, 2, 5, 50]))
def test_combined_values_hold_all_values_in_input_order(
    partitions: Any, buckets: int, budget: int, combine_size: int
) -> None:
    texts = [[[(k, f"{v}") for k, v in batch] for batch in part] for part in partitions]
    options = {"combine": concatenate, "combine_size": combine_size}
    with tempfile.TemporaryDirectory() as folder, small_limits():
        got = Pipeline(folder, buckets=buckets, budget=budget, **options)(texts)
    plain = [(key, "+".join(values)) for key, values in naive(texts)]
    flat = [(k, "+".join(v).replace("(", "").replace(")", "")) for k, v in got]
    assert [(repr(k), v) for k, v in flat] == [(repr(k), v) for k, v in plain]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.tuples(KEYS, st.integers(0, 9)), min_size=1, max_size=12),
        min_size=1,
        max_size=10,
    ),
    st.data(),
)
def test_any_mix_of_frames_and_extents_is_one_sequence(pieces: Any, data: Any) -> None:
    with tempfile.TemporaryDirectory() as folder, small_limits():
        chunks: list[bytes | Extent] = []
        for pairs in pieces:
            spill = data.draw(st.booleans())
            pipeline = Pipeline(folder, budget=1 if spill else LARGE)
            chunks += pipeline.fold([pairs]).finish()[0].chunks
            assert isinstance(chunks[-1], Extent) == spill
            if data.draw(st.booleans()):
                chunks.append(data.draw(st.sampled_from([b"", Extent("gone", 0, 0, 0)])))
        budget = data.draw(BUDGETS)
        got = Pipeline(folder, budget=budget).read(Run(tuple(chunks)))
        assert spell(got) == spell(naive([[pairs] for pairs in pieces]))


@pytest.mark.parametrize("fan_in", [2, 3, 64])
def test_more_streams_than_are_merged_at_once(tmp_path: Path, fan_in: int) -> None:
    partitions = [[[(f"k{n % 5}", n), ("hot", n)]] for n in range(70)]
    with small_limits(fan_in=fan_in):
        pipeline = Pipeline(tmp_path, budget=1, split=100)
        (run,) = pipeline.runs(partitions)
        assert len(run.chunks) == 70
        before = files_in(tmp_path)
        assert pipeline.read(run) == naive(partitions)
        assert files_in(tmp_path) == before, "segments of intermediate merges are removed"


def test_an_abandoned_reading_leaves_no_files(tmp_path: Path) -> None:
    partitions = [[[("hot", n), ("next", n)] * 20] for n in range(10)]
    with small_limits():
        pipeline = Pipeline(tmp_path, budget=1)
        (run,) = pipeline.runs(partitions)
        before = files_in(tmp_path)
        groups = read_groups(run, None, 1, str(tmp_path))
        key, values = next(groups)
        assert (key, len(values)) == ("hot", 200)
        assert len(files_in(tmp_path)) > len(before)
        groups.close()
    assert files_in(tmp_path) == before


def test_reading_leaves_the_runs_as_they_are(tmp_path: Path) -> None:
    partitions = [[[("a", 1), ("b", 2)]]] * 3
    for budget in (1, LARGE):
        pipeline = Pipeline(tmp_path, budget=budget)
        (run,) = pipeline.runs(partitions)
        assert pipeline.read(run) == pipeline.read(run) == [("a", [1] * 3), ("b", [2] * 3)]


def test_values_are_the_readers_own(tmp_path: Path) -> None:
    (run,) = Pipeline(tmp_path).runs([[[("a", 1), ("a", 2)]]])
    for _ in range(2):
        ((_, values),) = read_groups(run, None, LARGE, str(tmp_path))
        assert values == [1, 2]
        values.clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize("budget", [1, 500, LARGE])
def test_keys_with_nan_meet_across_frames_and_segments(tmp_path: Path, budget: int) -> None:
    nans = [float("nan"), float("inf") - float("inf"), -float("nan")]
    partitions = [[[(nan, n), ((1, nan), n)]] for n, nan in enumerate(nans * 5)]
    for buckets in (1, 3):
        got = Pipeline(tmp_path, budget=budget, buckets=buckets)(partitions)
        assert spell(got) == [("nan", [*range(15)]), ("(1, nan)", [*range(15)])]


@pytest.mark.parametrize("budget", [1, LARGE])
@pytest.mark.parametrize("order", [(1, True, 1.0), (True, 1.0, 1), (1.0, 1, True)])
def test_the_first_of_equal_keys_is_kept(tmp_path: Path, budget: int, order: Any) -> None:
    with small_limits(fan_in=2):
        got = Pipeline(tmp_path, budget=budget)([[[(key, n)]] for n, key in enumerate(order)])
    assert spell(got) == [(repr(order[0]), [0, 1, 2])]


def test_empty_partitions_give_empty_runs(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, buckets=3, combine=concatenate)
    assert pipeline([[]] * 20) == []
    assert files_in(tmp_path) == []


# --- the promise that grouping does not depend on the number of buckets ----------------------


def grouped_in(buckets: int, partitions: Any, **options: Any) -> list[tuple[str, list[Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        return spell(Pipeline(folder, buckets=buckets, **options)(partitions))


TEXTS = st.lists(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 8).map("k{}".format), st.sampled_from(["v", "V" * 40])),
            max_size=40,
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=20,
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, BUDGETS, st.sampled_from([2, 3, 50]), st.booleans())
def test_grouping_is_the_same_for_any_number_of_buckets(
    partitions: Any, budget: int, combine_size: int, small: bool
) -> None:
    options = {"budget": budget, "combine": concatenate, "combine_size": combine_size}
    with small_limits() if small else small_limits(256 << 10, 64):
        one = grouped_in(1, partitions, **options)
        assert grouped_in(2, partitions, **options) == one
        assert grouped_in(7, partitions, **options) == one


def test_grouping_is_the_same_with_a_partition_in_memory_beside_spilled_ones() -> None:
    """And with spills in the middle, groups longer than a frame, and empty buckets."""
    large = [[(f"k{n % 3}", f"{n}.{batch}") for n in range(400)] for batch in range(5)]
    tiny = [[("k0", "a"), ("k1", "b")]]
    partitions = [tiny, large, [], tiny, large, *[tiny] * 12, large, [[]]]
    for budget in (2000, 20_000, 60_000, 200_000):
        options = {"budget": budget, "combine": concatenate}
        with small_limits(frame=1000, fan_in=4):
            one = grouped_in(1, partitions, **options)
            assert [key for key, _ in one] == ["'k0'", "'k1'", "'k2'"]
            assert [grouped_in(n, partitions, **options) for n in (2, 7, 50)] == [one] * 3


def hot_key_in_frames() -> Any:
    """A hot key with just less than combine-size values in each of a few frames."""
    return [
        [[("hot", f"{p}.{n}") for n in range(49)] + [(f"k{n}", "v") for n in range(20)]]
        for p in range(7)
    ]


def rare_and_large_values() -> Any:
    """A rare key with values far larger than those that are sampled, in spilled partitions."""

    def pair(n: int) -> tuple[str, str]:
        return ("rare", f"<{n}>" * 2000) if n % 128 == 5 else (f"k{n % 300}", "v")

    return [[[pair(n) for n in range(start, start + 1024)] for start in (0, 1024)]] * 12


@pytest.mark.parametrize(
    ("partitions", "budget"),
    [
        *((hot_key_in_frames(), budget) for budget in (9_500, 10_000, 11_000)),
        *((rare_and_large_values(), budget) for budget in (100_000, 300_000, 1_000_000)),
    ],
    ids=lambda value: value if isinstance(value, int) else "hot" if len(value) == 7 else "rare",
)
def test_grouping_is_the_same_where_estimates_are_far_off(partitions: Any, budget: int) -> None:
    options = {"budget": budget, "combine": concatenate}
    one = grouped_in(1, partitions, **options)
    for buckets in (2, 7):
        differing = [
            key
            for (key, values), (_, others) in zip(
                one, grouped_in(buckets, partitions, **options), strict=True
            )
            if values != others
        ]
        assert not differing, f"{buckets} buckets group these keys in another way"


def test_float_sums_are_the_same_to_the_last_digit_for_any_number_of_buckets() -> None:
    def total(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    partitions = [
        [[(f"k{(p * n) % 11}", 1 / (1 + p + n * 7)) for n in range(300)] for _ in range(2)]
        for p in range(20)
    ]
    for budget in (1000, 30_000, LARGE):
        one = grouped_in(1, partitions, budget=budget, combine=total)
        assert [grouped_in(n, partitions, budget=budget, combine=total) for n in (2, 7)] == [
            one
        ] * 2


# --- when combine is asked -------------------------------------------------------------------


def asked(values: int, combine: Any, combine_size: int = 50, batch: int = 7) -> Fold:
    context = MapContext()
    spilling = Spilling("unused", LARGE, 1, 1)
    fold = Fold(context.groups, spilling, Combiner(combine, fail), combine_size)
    for start in range(0, values, batch):
        for number in range(start, min(values, start + batch)):
            context.write("k", number)
        settle(fold, context)
    fold.finish()
    return fold


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 200), st.integers(1, 60), st.integers(1, 100))
def test_combine_is_asked_at_exactly_combine_size(values: int, size: int, batch: int) -> None:
    lengths = []

    def total(key: Any, values: Any, context: Any) -> None:
        lengths.append(len(values))
        context.write(key, sum(values))

    fold = asked(values, total, size, batch)
    if size == 1:
        assert lengths == [1, *[2] * (values - 1)][:values]
    else:  # after the first, the combined value is one of those that are counted
        assert lengths == [size] * (1 + (values - size) // (size - 1) if values >= size else 0)
    assert sum(fold.groups["k"]) == sum(range(values))


def test_a_refused_combine_is_asked_again_after_as_many_more() -> None:
    lengths = []

    def refuse(key: Any, values: Any, context: Any) -> None:
        lengths.append(len(values))

    fold = asked(260, refuse)
    assert lengths == [50, 100, 150, 200, 250]
    assert fold.groups["k"] == list(range(260))


def test_a_combine_that_agrees_at_last_starts_anew() -> None:
    lengths = []

    def reluctant(key: Any, values: Any, context: Any) -> None:
        lengths.append(len(values))
        if len(values) >= 100:
            context.write(key, -1)

    asked(200, reluctant)
    assert lengths == [50, 100, 50, 100]


def test_combine_is_not_asked_about_a_single_value(tmp_path: Path) -> None:
    def never(key: Any, values: Any, context: Any) -> None:
        raise AssertionError

    pipeline = Pipeline(tmp_path, combine=never)
    assert pipeline([[[("a", 1)]], *[[]] * 9, [[("b", 2)]]]) == [("a", [1]), ("b", [2])]


def test_frames_are_united_once_there_are_eight(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, combine=concatenate)
    run, *others = (pipeline.fold([[("k", f"{n}")]]).finish()[0] for n in range(9))
    sizes = []
    for other in others:
        before = pickle.dumps(run)
        merged = merge_runs(run, other, pipeline.combiner)
        assert pickle.dumps(run) == before, "inputs are not changed"
        run = merged
        sizes.append(len(run.chunks))
    assert sizes == [2, 3, 4, 5, 6, 7, 1, 2]
    assert pipeline.read(run) == [("k", ["((0+1+2+3+4+5+6+7)+8)"])]


def test_frames_are_not_united_across_a_segment(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, combine=concatenate)
    (spilled,) = Pipeline(tmp_path, budget=1).fold([[("k", "S")]]).finish()
    frames = [pipeline.fold([[("k", f"{n}")]]).finish()[0] for n in range(14)]
    run = fold_up([*frames[:7], spilled, *frames[7:]], pipeline.combiner, 100)
    assert [type(chunk).__name__ for chunk in run.chunks] == [
        *["bytes"] * 7,
        "Extent",
        *["bytes"] * 7,
    ]
    united = merge_runs(run, frames[0], pipeline.combiner)
    assert len(united.chunks) == 9, "the eight after the segment became one"
    ((_, (text,)),) = pipeline.read(united)
    assert text == "(0+1+2+3+4+5+6+S+(7+8+9+10+11+12+13+0))"


def test_without_combine_frames_are_kept(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path)
    runs_ = [pipeline.fold([[("k", n)]]).finish()[0] for n in range(20)]
    assert fold_up(runs_, None, 100).chunks == tuple(chunk for run in runs_ for chunk in run.chunks)


class TestCombiner:
    def call(self, combine: Any, key: Any = "k", values: Any = (1, 2)) -> Any:
        return Combiner(combine, fail)(key, list(values))

    def test_the_one_value(self) -> None:
        for value in (3, None, 0, [], "", False):
            got = self.call(lambda k, vs, c, value=value: c.write(k, value))
            assert got == [value]
            assert type(got[0]) is type(value)

    def test_the_values_themselves(self) -> None:
        assert self.call(lambda k, vs, c: c.write(k, vs)) == [[1, 2]]

    def test_nothing(self) -> None:
        values = [1, 2]
        assert Combiner(lambda k, vs, c: None, fail)("k", values) is values

    def test_twice(self) -> None:
        def twice(key: Any, values: Any, context: Any) -> None:
            context.write(key, 1)
            context.write(key, 2)

        with pytest.raises(CombineError, match="twice under the key 'k'"):
            self.call(twice)

    def test_another_key(self) -> None:
        with pytest.raises(CombineError, match=r"key 'k' and wrote under another, 'j'"):
            self.call(lambda k, vs, c: c.write("j", 1))

    @pytest.mark.parametrize(
        ("key", "written"), [(1, True), (0.0, -0.0), (float("nan"), float("nan")), ((1,), (1.0,))]
    )
    def test_an_equal_key(self, key: Any, written: Any) -> None:
        assert self.call(lambda k, vs, c: c.write(written, 3), canonical(key)) == [3]

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, ValueError, StopIteration])
    def test_an_exception_is_handed_over_outside_of_its_block(self, error: Any) -> None:
        seen: list[Any] = []

        def take(failure: BaseException, key: Any) -> Any:
            seen.extend((type(failure), key, sys.exc_info()[1]))
            return ["instead"]

        def combine(key: Any, values: Any, context: Any) -> None:
            raise error

        assert Combiner(combine, take)("k", [1, 2]) == ["instead"]
        assert seen == [error, "k", None]


# --- Fold and Run ----------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(BATCHES, st.integers(1, 9), st.sampled_from([1, 2000, LARGE]))
def test_a_fold_gives_one_run_a_bucket_with_its_own_keys(
    batches: Any, buckets: int, budget: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = Pipeline(folder, buckets=buckets, budget=budget)
        fold = pipeline.fold(batches)
        result = fold.finish()
        assert len(result) == buckets
        assert len({tuple(map(type, run.chunks)) for run in result}) == 1, "all in the same form"
        for bucket, run in enumerate(result):
            assert all(bucket_of(key, buckets) == bucket for key, _ in pipeline.read(run))
            assert pickle.loads(pickle.dumps(run)) == run
        extents = [chunk for run in result for chunk in run.chunks if isinstance(chunk, Extent)]
        assert fold.spilled == sum(extent.length for extent in extents)
        assert len(files_in(folder)) == bool(fold.spilled)


def test_a_fold_spills_when_the_budget_is_used_up_and_not_before(tmp_path: Path) -> None:
    fold = Pipeline(tmp_path, budget=100_000).fold([])
    spilled = []
    for batch in range(40):
        for number in range(20):
            fold.groups[f"k{batch}.{number}"].append("x" * 50)
        fold.settle([f"k{batch}.{number}" for number in range(20)])
        spilled.append(fold.spilled)
        assert len(fold.groups) * (50 + 2 * 50) < 200_000
    assert spilled[5] == 0
    assert spilled[-1] > 0
    assert len(set(spilled)) > 2, "it spilled more than once"
    fold.discard()


def test_discard_removes_the_file(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, budget=1)
    for finish in (False, True):
        fold = pipeline.fold([[("a", 1)], [("b", 1)]])
        assert len(files_in(tmp_path)) == 1
        if finish:
            fold.finish()
        fold.discard()
        assert files_in(tmp_path) == []
    Pipeline(tmp_path).fold([[("a", 1)]]).discard()


def test_what_a_partition_may_hold_shrinks_with_their_number() -> None:
    def allowance(budget: int, partitions: int) -> int:
        return Spilling("", budget, 1, partitions).allowance

    assert allowance(LARGE, 1) == LARGE
    assert allowance(LARGE, 64) == LARGE // 64
    assert allowance(LARGE, 1 << 20) == 64 << 10
    assert allowance(1000, 50) == 1000
    for partitions in range(1, 1024):
        assert allowance(LARGE, partitions) * partitions <= LARGE


def test_dask_measures_a_run_by_its_frames() -> None:
    run = Run((b"x" * 1000, Extent("p", 0, 1 << 40, 1 << 40), b""))
    assert 1000 < run.__sizeof__() < 2000
    assert sys.getsizeof(run) < 2000


# --- estimates -------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_estimates_are_the_same_for_equal_values_made_differently(value: Any) -> None:
    before = estimate_size(value)
    assert before > 0
    assert estimate_size(pickle.loads(pickle.dumps(value))) == before
    str(value).encode("utf-8", "surrogatepass")
    assert estimate_size(value) == before


def test_an_estimate_does_not_see_a_cached_encoding_or_spare_room() -> None:
    text = "\u00e9" * 1000
    plain, size = sys.getsizeof(text), estimate_size(text)
    ctypes.pythonapi.PyUnicode_AsUTF8(ctypes.py_object(text))
    assert sys.getsizeof(text) > plain, "otherwise this tests nothing"
    assert estimate_size(text) == size

    grown: list[int] = []
    for n in range(100):
        grown.append(n)
    assert sys.getsizeof(grown) != sys.getsizeof(list(range(100)))
    assert estimate_size(grown) == estimate_size(list(range(100)))


@pytest.mark.parametrize(
    "value",
    [
        "'x' * 100",
        "'\\u00e9' * 100",
        "[1, 2.5, 'a', None, b'x']",
        "{'a': 1, 'b': [1, 2]}",
        "{f'{n}' * (n % 9) for n in range(40)}",
        "{f'{n}' * (n % 9) for n in range(1000)}",
        "frozenset(f'{n}' * (n % 9) for n in range(1000))",
        "{f'{n}': 'x' * n for n in range(300)}",
        "Counter(f'{n % 50}' for n in range(300))",
        "[{f'{n}' * (n % 9) for n in range(1000)}]",
    ],
)
def test_an_estimate_does_not_depend_on_the_hash_seed(value: str) -> None:
    code = (
        "from collections import Counter; from daskmr.tasks.frames import estimate_size; "
        f"print(estimate_size({value}))"
    )
    sizes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(sizes) == 1


def test_estimates_are_of_the_right_order() -> None:
    for value in ("x" * 5000, [1.5] * 2000, {str(n): n for n in range(500)}, b"x" * 9000):
        real = sys.getsizeof(value)
        assert real / 3 < estimate_size(value) < real * 8
    assert 5000 < estimate_size(Counter("x" * n for n in range(100))) < 50_000
    assert 1000 < estimate_size(deque(range(1000))) < 100_000
    assert estimate_size([[1] * 100] * 1000) > 1_000_000, "elements of elements count"


def test_an_estimate_of_what_holds_itself_comes_to_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    nested: Any = 1
    for _ in range(60):
        nested = [nested, nested]
    assert estimate_size(endless) < 1000
    assert estimate_size(nested) < 100_000


def test_an_estimate_sees_more_than_the_first_elements() -> None:
    assert estimate_size(["a"] * 200 + ["x" * 1_000_000] * 200) > 50_000_000


def test_what_does_not_pickle_has_an_estimate_too() -> None:
    assert estimate_size(lambda: 0) == 1000


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


@settings(max_examples=150, deadline=None)
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
    assert "takes `list(values)`" in advice_for(caught.value)


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


@settings(max_examples=100, deadline=None)
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
    with pytest.raises(ValueError, match=r"2 values lay on disk.* keep a list of those"):
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
