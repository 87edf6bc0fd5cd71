"""Cuts: the same for any division of the keys, and weighed by size."""

from __future__ import annotations

from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from support.runs import KEYS

from daskmr.data.steps import cuts
from daskmr.data.steps.cuts import Cuts, smallest
from daskmr.job.keys import bucket_of, sort_key

ENTRIES = st.dictionaries(
    KEYS.filter(lambda key: key == key and key != (float("nan"),)), st.integers(0, 500), max_size=60
)


def found(entries: list[tuple[Any, int]], every: int = 1000) -> tuple[int, list[Any]]:
    """Add entries in key order, in blocks of `every` entries."""
    some = Cuts()
    entries = sorted(entries, key=lambda entry: sort_key(entry[0]))
    for start in range(0, len(entries), every):
        block = entries[start : start + every]
        some.add([key for key, _ in block], [[0]] * len(block), [size for _, size in block])
    kept = some.found()
    return some.weight, kept


@given(ENTRIES, st.integers(1, 7), st.integers(1, 9), st.integers(1, 30))
def test_any_division_gives_the_same(
    entries: dict[Any, int], buckets: int, every: int, most: int
) -> None:
    pairs = list(entries.items())
    divided = [[p for p in pairs if bucket_of(p[0], buckets) == b] for b in range(buckets)]
    with mock.patch.object(cuts, "_MOST", most), mock.patch.object(cuts, "_BYTES", 100):
        weight, together = found(pairs)
        apart = [found(some, every) for some in divided]
        assert smallest(cut for _, some in apart for cut in some) == together
        assert sum(each for each, _ in apart) == weight
        assert len(together) <= most


def test_a_key_in_several_entries_counts_once() -> None:
    whole, parts = Cuts(), Cuts()
    key = "key"
    whole.add([key], [[1, 2, 3]], [3 << 20])
    parts.add([key, key], [[1], [2]], [1 << 20, 1 << 20])
    parts.add([key], [[3]], [1 << 20])
    assert whole.found() == parts.found()
    assert (whole.weight, len(whole.found())) == (parts.weight, 1)


def test_candidates_follow_the_size() -> None:
    small, large = Cuts(), Cuts()
    keys = [f"key-{number}" for number in range(2000)]
    small.add(keys, [[0]] * 2000, [0] * 2000)
    large.add(keys, [[0]] * 2000, [1000] * 2000)
    assert 3 < len(small.found()) < 40  # 128 kB, a candidate for 8 kB
    assert 200 < len(large.found()) < 320  # 2.1 MB
    (_, bound), *_ = found([("x" * 1000, 1 << 20)])[1]
    assert bound == "x" * 256


def test_without_keys_only_the_weight_counts() -> None:
    some = Cuts()
    some.add(None, [("a", 1), ("b", 2)], (100,))
    assert (some.weight, some.found()) == (228, [])
