"""The plan: every file once, in order, in the right number of partitions of like weight."""

from __future__ import annotations

import copy
import pickle
import time
from functools import cache
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.listing import InputFile
from daskmr.data.partition import (
    LOOK_AHEAD,
    Partition,
    estimate_bytes,
    plan_partitions,
    run_order,
    with_ahead,
)

MIB = 1 << 20
OPENING = 16 << 10
EXTENSIONS = {"gz": 8, "bz2": 10, "xz": 12, "lzma": 12, "zst": 12, "log": 1, "jsonl": 1, "tsv": 1}

sizes = st.one_of(st.integers(0, 2000), st.integers(0, 40 * MIB), st.integers(0, 10**12))


@st.composite
def file_lists(draw, max_size=300):
    many = draw(st.lists(st.tuples(sizes, st.sampled_from(sorted(EXTENSIONS))), max_size=max_size))
    return [InputFile(f"a/b.{i}.{ext}", size, ("a", "b")) for i, (size, ext) in enumerate(many)]


def gz_files(sizes):
    return [InputFile(f"{i}.gz", size, ()) for i, size in enumerate(sizes)]


def weight(file):
    """In bytes of data; the plan speaks of gzip, an eighth of it."""
    return file.size * EXTENSIONS[file.path.rsplit(".", 1)[1]] + 8 * OPENING


@given(file_lists(), st.integers(1, 64 * MIB))
def test_each_file_once_and_in_order(files, partition_bytes):
    plan = plan_partitions(files, partition_bytes)
    assert [file for partition in plan for file in partition.files] == files
    assert all(partition.files for partition in plan)
    assert [partition.index for partition in plan] == list(range(len(plan)))


@given(file_lists(), st.integers(1, 64 * MIB))
def test_number_of_partitions(files, partition_bytes):
    total = sum(map(weight, files))
    wanted = -(-total // (8 * partition_bytes))
    plan = plan_partitions(files, partition_bytes)
    assert len(plan) == min(len(files), max(32, min(4096, wanted)))


@given(file_lists(), st.integers(1, 64 * MIB))
def test_no_partition_exceeds_an_equal_share_by_more_than_a_file(files, partition_bytes):
    plan = plan_partitions(files, partition_bytes)
    weights = [sum(map(weight, partition.files)) for partition in plan]
    assert [partition.bytes for partition in plan] == [w // 8 for w in weights]
    if plan:
        assert max(weights) <= sum(weights) / len(plan) + max(map(weight, files)) + 1


def best_possible(weights, count):
    """The least that the heaviest of `count` contiguous partitions can weigh, by trying all."""
    totals = [0, *accumulate(weights)]

    @cache
    def least(end, count):
        if count == 1:
            return totals[end]
        cuts = range(count - 1, end)
        return min(max(least(cut, count - 1), totals[end] - totals[cut]) for cut in cuts)

    return least(len(weights), count)


@given(st.lists(sizes, min_size=33, max_size=45))
def test_near_to_the_best_possible(sizes):
    files = gz_files(sizes)
    plan = plan_partitions(files, 10**15)
    assert len(plan) == 32
    weights = [weight(file) for file in files]
    heaviest = max(sum(map(weight, partition.files)) for partition in plan)
    assert heaviest <= 2 * best_possible(weights, 32)


@given(file_lists(60), st.integers(1, 64 * MIB))
def test_depends_on_sizes_and_forms_only(files, partition_bytes):
    renamed = [InputFile("z" + file.path, file.size, ()) for file in files]
    plan = plan_partitions(files, partition_bytes)
    assert plan == plan_partitions(list(files), partition_bytes)
    other = plan_partitions(renamed, partition_bytes)
    assert [len(p.files) for p in other] == [len(p.files) for p in plan]
    assert [p.bytes for p in other] == [p.bytes for p in plan]


def test_a_partition_travels_whole():
    odd = InputFile("a\n\udcff\u20ac.1.2.gz", 1 << 40, ("a\n\udcff", "2"))
    stored = InputFile("b.gz", 0, (), "etag", 1.5)
    for files in ((), (odd, stored, *gz_files(range(100)))):
        partition = Partition(7, files, 8, ahead=files[1:3])
        assert pickle.loads(pickle.dumps(partition)) == partition
        assert copy.deepcopy(partition) == partition


def test_files_of_a_partition_that_travelled_share_their_dimensions():
    dims = ("a", "b")
    partition = Partition(0, tuple(InputFile(f"{n}.gz", n, dims) for n in range(9)), 1)
    files = pickle.loads(pickle.dumps(partition)).files
    assert all(file.dims is files[0].dims for file in files)


def test_no_files():
    assert plan_partitions([]) == []
    assert estimate_bytes([]) == 0


def test_few_files_get_a_partition_each():
    files = gz_files([5, 0, 10**9])
    assert plan_partitions(files) == [
        Partition(0, (files[0],), 5 + OPENING),
        Partition(1, (files[1],), OPENING),
        Partition(2, (files[2],), 10**9 + OPENING),
    ]


def test_equal_files_are_dealt_out_evenly():
    plan = plan_partitions(gz_files([MIB] * 1000))
    assert len(plan) == 64
    assert {len(partition.files) for partition in plan} <= {15, 16}


def test_a_huge_file_stands_alone_and_the_rest_stays_even():
    plan = plan_partitions(gz_files([*[MIB] * 100, 10**11, *[MIB] * 100]), 10**15)
    counts = [len(partition.files) for partition in plan]
    assert counts[0] == 101  # what lies before it is little beside an equal share
    assert set(counts[1:]) <= {3, 4}


def test_tiny_files_spread_by_count():
    plan = plan_partitions(gz_files([10] * 100_000))
    counts = [len(partition.files) for partition in plan]
    assert len(plan) == 98
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("extension", "expansion"), EXTENSIONS.items())
def test_weight_follows_the_form(extension, expansion):
    file = InputFile(f"a.b/c.{extension}", 8000, ())
    assert estimate_bytes([file]) == 8000 * expansion
    assert plan_partitions([file])[0].bytes == 1000 * expansion + OPENING


def test_a_name_without_extension_is_plain():
    assert estimate_bytes([InputFile("a.gz/plain", 10, ()), InputFile("plain", 5, ())]) == 15


def test_upper_limit():
    assert len(plan_partitions(gz_files([MIB] * 5000), 1)) == 4096


def test_many_files_take_little_time():
    files = gz_files(range(200_000))
    began = time.process_time()
    plan_partitions(files)
    assert time.process_time() - began < 3


@given(st.lists(st.integers(0, 10**12), max_size=200))
def test_the_order_of_running_has_each_partition_once_and_ends_with_small_ones(sizes):
    plan = [Partition(index, (), size) for index, size in enumerate(sizes)]
    order = run_order(plan)
    assert sorted(order) == list(range(len(plan)))
    late = len(plan) // 4
    early = len(plan) - late
    assert order[:early] == list(range(early))
    last = [sizes[index] for index in order[early:]]
    assert last == sorted(last, reverse=True)


@pytest.mark.parametrize("workers", [1, 2, 7, 100])
def test_each_partition_knows_what_its_worker_is_likely_to_map_next(workers):
    files = [InputFile(f"{n:05}.gz", n % 7, (), "etag") for n in range(3000)]
    plan = plan_partitions(files)
    order = run_order(plan)
    told = with_ahead(plan, order, workers)
    assert [(p.index, p.files, p.bytes) for p in told] == [
        (p.index, p.files, p.bytes) for p in plan
    ]
    for place, index in enumerate(order):
        later = order[place + workers : place + workers + 1]
        expected = plan[later[0]].files[:LOOK_AHEAD] if later else ()
        assert told[index].ahead == expected


def test_nothing_is_fetched_ahead_of_what_is_here():
    plan = plan_partitions(gz_files([5] * 100))
    assert with_ahead(plan, run_order(plan), 2) == plan
