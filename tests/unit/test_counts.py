"""Counts add up, figure by figure, and what holds them shows each of them."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daskmr.counts import MOST_REASONS, NO_COUNTS, OTHER_REASONS, Counted, Counts, add_counts

REASONS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))
FIGURES = st.integers(0, 9)
COUNTS = st.builds(
    Counts, FIGURES, FIGURES, FIGURES, REASONS, FIGURES, FIGURES, FIGURES, FIGURES, FIGURES
)


@dataclass(frozen=True, slots=True)
class Holder(Counted):
    counts: Counts = NO_COUNTS


@given(st.lists(COUNTS))
def test_each_figure_adds_up(each: list[Counts]) -> None:
    total = sum(each, Counts())
    assert total.bad_records == sum(counts.bad_records for counts in each)
    for name in set(Counts._fields) - {"bad_reasons"}:
        assert getattr(total, name) == sum(getattr(counts, name) for counts in each)


@given(REASONS, REASONS)
def test_counts_are_added_without_changing_them(first: Any, second: Any) -> None:
    before = dict(first), dict(second)
    assert add_counts(first, second) == dict(Counter(first) + Counter(second))
    assert (first, second) == before


@given(COUNTS)
def test_they_travel(counts: Counts) -> None:
    assert Counts(*json.loads(json.dumps(counts))) == counts
    assert pickle.loads(pickle.dumps(Holder(counts))) == Holder(counts)


def test_what_holds_them_shows_every_figure() -> None:
    counts = Counts(*range(3), {"a": 2}, *range(4, 9))
    holder = Holder(counts)
    assert {name: getattr(holder, name) for name in counts.as_dict()} == counts.as_dict()


def test_only_the_most_frequent_reasons_are_counted_one_by_one() -> None:
    total = Counts()
    for number in range(3 * MOST_REASONS):
        total += Counts(bad_reasons={f"{number}": 1, "often": 2})
    assert total.bad_records == 9 * MOST_REASONS
    assert len(total.bad_reasons) == MOST_REASONS
    assert total.bad_reasons["often"] == 6 * MOST_REASONS
    assert total.bad_reasons[OTHER_REASONS] == 3 * MOST_REASONS - (MOST_REASONS - 2)
