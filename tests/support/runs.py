"""Mappers, merges and reducers in one process, for what folds and reads Runs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import strategies as st

from daskmr.job.keys import sort_key
from daskmr.job.map_context import MapContext
from daskmr.tasks import fold as folding
from daskmr.tasks import frames, runs, spilled_values
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.runs import Run, merge_runs, read_groups
from daskmr.tasks.user_calls import Combiner
from support.jobs import identity

__all__ = [
    "BATCHES",
    "BUDGETS",
    "KEYS",
    "LARGE",
    "PARTITIONS",
    "Pipeline",
    "concatenate",
    "fail",
    "files_in",
    "fold_up",
    "naive",
    "settle",
    "small_limits",
    "spell",
]

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
        self.sorter = options.pop("sorter", None)
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
        groups = read_groups(run, self.combiner, self.budget, self.folder, self.sorter)
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
