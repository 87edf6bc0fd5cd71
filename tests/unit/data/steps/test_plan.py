"""The plan of the next step: the same for any number of buckets, and all pairs in order."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.runs import KEYS

from daskmr.data import parts
from daskmr.data.partition import Partition
from daskmr.data.parts import Part, PartWriter
from daskmr.data.steps import cuts, plan
from daskmr.data.steps.plan import plan_step
from daskmr.job.keys import bucket_of, sort_key

KEY_LISTS = st.lists(
    KEYS.filter(lambda key: key == key and key != (float("nan"),)), unique=True, max_size=40
)


def write(folder: Path, keys: list[Any], buckets: int, every: int) -> list[Part]:
    """Write two pairs for each key, in blocks of `every` keys, to a part for each bucket."""
    written = []
    for bucket in range(buckets):
        writer = PartWriter(str(folder), 0, indexed=True, cut=True)
        own = sorted((key for key in keys if bucket_of(key, buckets) == bucket), key=sort_key)
        for start in range(0, len(own), every):
            block = own[start : start + every]
            pairs = [[(key, 1), (key, "x" * 50)] for key in block]
            writer.add(block, pairs, 2 * len(block), [50] * len(block))
        written.append(writer.finish())
    return written


def read(partitions: list[Partition]) -> list[list[Any]]:
    again = [pickle.loads(pickle.dumps(each)) for each in partitions]
    return [list(each.pairs.read()) for each in again]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(KEY_LISTS, st.integers(1, 5), st.integers(1, 9))
def test_partitions_depend_on_the_pairs_alone(
    tmp_path: Path, keys: list[Any], buckets: int, every: int
) -> None:
    with (
        mock.patch.object(plan, "_FINE_BYTES", 300),
        mock.patch.object(cuts, "_BYTES", 100),
        mock.patch.object(cuts, "BOUND", 2),
        mock.patch.object(parts, "_FINELY", 100),
    ):
        one = plan_step(write(tmp_path, keys, 1, 1000), "the pairs")
        other = plan_step(write(tmp_path, keys, buckets, every), "the pairs")
    assert repr(read(one)) == repr(read(other))
    assert [(each.index, each.bytes) for each in one] == [(p.index, p.bytes) for p in other]
    in_order = [pair for key in sorted(keys, key=sort_key) for pair in ((key, 1), (key, "x" * 50))]
    assert repr([pair for some in read(one) for pair in some]) == repr(in_order)


def test_there_are_several_partitions_of_similar_size(tmp_path: Path) -> None:
    keys = [f"key-{number}" for number in range(20_000)]
    sizes = [len(some) for some in read(plan_step(write(tmp_path, keys, 3, 500), "the pairs"))]
    assert len(sizes) == 32
    assert max(sizes) < 4 * sum(sizes) / len(sizes)


@pytest.mark.parametrize("share", [1, 1 << 20])
def test_parts_of_a_step_without_reduce_stay_in_order(tmp_path: Path, share: int) -> None:
    written = []
    for number in range(6):
        writer = PartWriter(str(tmp_path), 0, indexed=True, cut=True)
        pairs = [(number, index) for index in range(number % 3 * 10)]
        writer.add(None, pairs, len(pairs), (0,))
        written.append(writer.finish())
    with mock.patch.object(plan, "_FINE_BYTES", share):
        found = read(plan_step(written, "the pairs"))
    assert len(found) == (4 if share == 1 else 1)  # none for the parts that are empty
    assert [pair for some in found for pair in some] == [
        (number, index) for number in range(6) for index in range(number % 3 * 10)
    ]


def test_nothing_is_one_empty_partition(tmp_path: Path) -> None:
    assert read(plan_step([], "the pairs")) == [[]]
    assert read(plan_step(write(tmp_path, [], 3, 1), "the pairs")) == [[]]
