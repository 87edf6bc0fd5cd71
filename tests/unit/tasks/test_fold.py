"""A fold combines at the right moment, spills what is too much, and gives one Run a bucket."""

from __future__ import annotations

import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import BATCHES, LARGE, Pipeline, concatenate, fail, files_in, fold_up, settle

from daskmr.data.segments import Extent
from daskmr.job.contexts import CombineError
from daskmr.job.keys import bucket_of, canonical
from daskmr.job.map_context import MapContext
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.runs import Run, merge_runs
from daskmr.tasks.user_calls import Combiner

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
