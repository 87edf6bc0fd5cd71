"""Reducers called as a job calls them, with any grouping of their values."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from random import Random
from typing import Any

from daskmr.job.contexts import CombineContext
from daskmr.reducers import Reducer
from daskmr.tasks.spilled_values import on_disk
from support.scripts import Collector

__all__ = ["combined", "reduced", "same_in_any_grouping"]


def reduced(reducer: Reducer, values: Sequence[Any]) -> list[Any]:
    """Return what a reducer writes."""
    context = Collector()
    assert reducer("key", values, context) is None
    return [value for _, value in context.pairs]


def combined(reducer: Reducer, values: Sequence[Any]) -> list[Any]:
    """Return the values after `combine`, as another process gets them."""
    context = CombineContext("key")
    assert reducer.combine("key", values, context) is None
    written = context.close()
    return pickle.loads(pickle.dumps(written)) if written else [*values]


def same_in_any_grouping(reducer: Reducer, values: list[Any], random: Random, shuffle: bool) -> Any:
    """Check that a reducer writes the same text whatever was combined; return what it writes.

    - `shuffle`: also if values and partial results come in another order.
    """
    found = reduced(reducer, values)
    text = repr(found)
    for _ in range(3):
        groups = values[:]
        if shuffle:
            random.shuffle(groups)
        for _ in range(random.randrange(4)):
            start = random.randrange(len(groups))
            end = random.randint(start + 1, len(groups))
            groups[start:end] = combined(reducer, groups[start:end])
            if shuffle:
                random.shuffle(groups)
        assert repr(reduced(reducer, groups)) == text, groups
    with on_disk(values) as spilled:
        assert repr(reduced(reducer, spilled)) == text
    with on_disk(values) as spilled:
        assert repr(reduced(reducer, combined(reducer, spilled))) == text
    return found
