"""The plan: every file once, in order, in partitions of like weight that change only where files do."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import pickle
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.listing import InputFile
from daskmr.data.partition import (
    LOOK_AHEAD,
    Partition,
    count_buckets,
    estimate_bytes,
    nominal_partitions,
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
def test_no_partition_is_too_heavy_but_for_a_single_file(files, partition_bytes):
    plan = plan_partitions(files, partition_bytes)
    weights = [sum(map(weight, partition.files)) for partition in plan]
    assert [partition.bytes for partition in plan] == [w // 8 for w in weights]
    share = max(sum(weights) / 32, 1) if sum(weights) < 8 * 4096 * partition_bytes else math.inf
    target = min(8 * partition_bytes, share)
    if share == math.inf:
        target = max(2 * sum(weights) / 4096, 8 * partition_bytes)
    for partition, heavy in zip(plan, weights, strict=True):
        assert heavy <= 1.6 * target or len(partition.files) == 1


@pytest.mark.parametrize("count", [40, 100, 400, 3000, 20_000])
@pytest.mark.parametrize("seed", range(5))
def test_balance(count, seed):
    draw = random.Random(seed)
    files = gz_files([int(draw.expovariate(1 / (MIB // 4))) for _ in range(count)])
    weights = [sum(map(weight, p.files)) for p in plan_partitions(files)]
    mean = sum(weights) / len(weights)
    assert max(weights) <= max(2 * mean, *map(weight, files))
    assert 25 <= len(weights) <= max(75, 1.2 * sum(weights) / (16 * 8 * MIB))


@pytest.mark.parametrize("count", [250, 1500, 10_000])
@pytest.mark.parametrize("places", [1, 2, 5])
def test_a_change_of_some_files_changes_the_partitions_beside_them_only(count, places):
    draw = random.Random(count + places)
    sizes = {f"{n:06}.gz": int(draw.expovariate(1 / MIB)) for n in range(0, 4 * count, 4)}

    def planned(sizes):
        files = [InputFile(name, size, ()) for name, size in sorted(sizes.items())]
        return {p.files for p in plan_partitions(files, MIB * count // 50)}

    before, changed = planned(sizes), []
    for _ in range(100):
        after = dict(sizes)
        for _ in range(places):
            name = draw.choice([*sizes])
            match draw.randrange(3):
                case 0:
                    after.pop(name, None)
                case 1:
                    after[name] = int(draw.expovariate(1 / MIB))
                case 2:
                    after[f"{int(name[:6]) + 1:06}.gz"] = int(draw.expovariate(1 / MIB))
        changed.append(len(planned(after) - before))
    # Rarely, a cut moves as well, which changes the partition on its other side. With more files in
    # each partition it is rarer.
    assert sum(changed) <= 1.4 * places * len(changed)
    assert sorted(changed)[80 if count < 1000 else 95] <= places + 2
    assert max(changed) <= 2 * places + 3


def test_days_that_follow_change_only_the_last_partition():
    """The days before the last keep theirs, until the input has doubled."""
    names = [
        f"{month:02}{day:02}/{n:03}.gz"
        for month in (1, 2)
        for day in range(1, 29)
        for n in range(50)
    ]
    files = [InputFile(name, MIB, ()) for name in sorted(names)]
    plans = [{p.files for p in plan_partitions(files[:end])} for end in range(1400, 2801, 50)]
    for yesterday, today in itertools.pairwise(plans):
        assert len(today - yesterday) <= 7  # of 50 MiB in partitions of 16 MiB


@given(file_lists(60), st.integers(1, 64 * MIB))
def test_depends_on_names_and_sizes_only(files, partition_bytes):
    touched = [dataclasses.replace(file, dims=("x",), mtime_ns=7, inode=8) for file in files]
    plan = plan_partitions(files, partition_bytes)
    assert plan == plan_partitions(list(files), partition_bytes)
    assert [(len(p.files), p.bytes) for p in plan_partitions(touched, partition_bytes)] == [
        (len(p.files), p.bytes) for p in plan
    ]


def test_buckets_and_nominal_partitions_change_rarely():
    files = gz_files([10 * MIB] * 400)
    starts = [files[:count] for count in range(1, 401)]
    assert [*dict.fromkeys(count_buckets(estimate_bytes(each), None) for each in starts)] == [
        8,
        32,
        128,
    ]
    assert [*dict.fromkeys(map(nominal_partitions, starts))] == [64, 128, 256]
    assert count_buckets(estimate_bytes(files[:1]), 9) == 32


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


def test_few_large_files_get_a_partition_each():
    files = gz_files([10**8, 10**7, 10**9])
    assert plan_partitions(files) == [
        Partition(0, (files[0],), 10**8 + OPENING),
        Partition(1, (files[1],), 10**7 + OPENING),
        Partition(2, (files[2],), 10**9 + OPENING),
    ]


def test_a_huge_file_stands_alone():
    plan = plan_partitions(gz_files([*[MIB] * 100, 10**10, *[MIB] * 100]), 16 * MIB)
    assert [p for p in plan if p.bytes > 26 * MIB] == [p for p in plan if p.bytes > 10**10]
    assert 12 < len(plan) < 20


@pytest.mark.parametrize(("extension", "expansion"), EXTENSIONS.items())
def test_weight_follows_the_form(extension, expansion):
    file = InputFile(f"a.b/c.{extension}", 8000, ())
    assert estimate_bytes([file]) == 8000 * expansion
    assert plan_partitions([file])[0].bytes == 1000 * expansion + OPENING


def test_a_name_without_extension_is_plain():
    assert estimate_bytes([InputFile("a.gz/plain", 10, ()), InputFile("plain", 5, ())]) == 15


def test_upper_limit():
    assert 2000 < len(plan_partitions(gz_files([MIB] * 5000), 1)) < 4300


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
