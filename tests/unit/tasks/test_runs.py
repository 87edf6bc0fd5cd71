"""Merging and reading Runs equals grouping in memory, whatever spills and however much."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import (
    BUDGETS,
    KEYS,
    LARGE,
    PARTITIONS,
    Pipeline,
    concatenate,
    files_in,
    naive,
    small_limits,
    spell,
)

from daskmr.data.segments import Extent
from daskmr.tasks.runs import Run, read_groups

# --- equal to a naive grouping ---------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(PARTITIONS, st.sampled_from([1, 2, 7]), BUDGETS, st.sampled_from([2, 8]))
def test_groups_equal_a_naive_grouping(
    partitions: Any, buckets: int, budget: int, split: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, small_limits():
        pipeline = Pipeline(folder, buckets=buckets, budget=budget, split=split)
        assert spell(pipeline(partitions)) == spell(naive(partitions))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
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


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
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
