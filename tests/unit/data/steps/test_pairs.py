"""Pairs of a step as records: batches that depend on the pairs alone."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.data.steps.pairs import batched, raw_pair


def test_batches_have_a_number_of_pairs() -> None:
    pairs = [(number, str(number)) for number in range(2500)]
    batches = list(batched(iter(pairs)))
    assert [len(batch.values) for batch in batches] == [1024, 1024, 452]
    assert [batch.numbers[0] for batch in batches] == [1, 1025, 2049]
    again = [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]
    assert again == pairs
    assert batches[1].text(0) == "(1024, '1024')"


@pytest.mark.parametrize(
    "value", ["x" * 300_000, ["x" * 100_000] * 3, {"a": b"x" * 200_000}, ["x" * 299_000, {1, 2}]]
)
def test_batches_of_large_values_are_small(value: Any) -> None:
    batches = list(batched(("k", value) for _ in range(9)))
    assert [len(batch.values) for batch in batches] == ([3] if isinstance(value, dict) else [4]) * (
        3 if isinstance(value, dict) else 2
    ) + ([] if isinstance(value, dict) else [1])


def test_no_pairs_are_no_batch() -> None:
    assert list(batched([])) == []


def test_a_pair_without_a_repr_is_shown_all_the_same() -> None:
    class Mute:
        def __repr__(self) -> str:
            raise RuntimeError

    assert raw_pair("k", Mute()) == b"a pair without a repr (RuntimeError)"
    assert len(raw_pair("k", "x" * 100_000)) == 10_000
