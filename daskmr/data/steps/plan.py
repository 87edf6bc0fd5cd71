"""The partitions of the next step, from the parts that a step has written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from daskmr.data.input_file import InputFile
from daskmr.data.output_directory.slices import Slice, concatenated, cut_at
from daskmr.data.partition import Partition
from daskmr.data.parts import Part, comparable
from daskmr.data.steps.cuts import smallest
from daskmr.data.steps.pairs import Pairs
from daskmr.job.keys import sort_key

__all__ = ["plan_step"]

# Few pairs are parted finely, to keep all workers busy; many coarsely, since each partition reads a
# share of the output of each reducer.
_FINE_BYTES, _FINE = 64 << 10, 32
_COARSE_BYTES, _MOST = 16 << 20, 1024


def plan_step(parts: Sequence[Part], name: str) -> list[Partition]:
    """Divide the pairs in indexed `parts` among partitions, at least one, by the pairs alone.

    - `name`: how messages call the pairs.
    """
    weight = sum(part.weight for part in parts)
    count = min(weight // _FINE_BYTES, _FINE + weight // _COARSE_BYTES, _MOST)
    grouped = any(part.kinds for part in parts)
    slices = _by_keys(parts, count) if grouped else _in_order(parts, weight / max(1, count))
    share = weight // len(slices)
    return [
        Partition(
            index,
            # Like an object in a store, it is not a file of the data dir.
            (InputFile(name, share, (), mtime=0.0),),
            share,
            pairs=Pairs(name, one),
        )
        for index, one in enumerate(slices)
    ]


def _by_keys(parts: Sequence[Part], count: int) -> list[Slice]:
    order: Any = None if comparable(parts) else sort_key
    found = smallest(chain.from_iterable(part.cuts for part in parts))
    keys = sorted({key if order is None else order(key) for _, key in found})
    count = max(1, min(count, len(keys)))
    chosen = {len(keys) * number // count for number in range(1, count)}
    return cut_at(parts, [keys[index] for index in sorted(chosen)])


def _in_order(parts: Sequence[Part], share: float) -> list[Slice]:
    """Divide the parts of a map-only step, which has one for each of its partitions."""
    groups: list[list[Part]] = [[]]
    held = 0
    for part in parts:
        if not part.lines:
            continue
        if groups[-1] and held >= share:
            groups.append([])
            held = 0
        groups[-1].append(part)
        held += part.weight
    return [concatenated(number, group) for number, group in enumerate(groups)]
