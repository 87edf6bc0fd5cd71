"""The writing side of a shuffle: fold the pairs of a partition, and spill them.

Decisions that affect how `combine` groups values depend only on counts and estimated bytes over all
buckets together, so the result does not depend on the number of buckets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from daskmr.data.segments import Extent, SegmentWriter
from daskmr.data.spill_dir import SpillStore
from daskmr.history import HotKey
from daskmr.job.keys import bucket_of, sorted_keys
from daskmr.job.map_context import LARGE, MOST_LATER
from daskmr.tasks.frames import (
    FRAME,
    KEY_COST,
    VALUE_COST,
    Run,
    estimate_size,
    pack,
    pieces_of,
    small_size,
)
from daskmr.tasks.hot_keys import KeySample, count_keys

if TYPE_CHECKING:
    from daskmr.tasks.user_calls import Combiner

__all__ = ["Fold", "Spilling"]

_SMALLEST_ALLOWANCE = 64 << 10
_BATCH = 1024  # pairs between two estimates of the memory used
_FIRST_BATCH = 16
_SAMPLE = 8  # pairs of a batch whose sizes are estimated
_COMBINE_EVERY = 1 << 14  # minimum number of pairs between two searches for keys to combine

Groups = dict[Any, list[Any]]


@dataclass(frozen=True, slots=True)
class Spilling:
    """The rules for when and where a mapper spills."""

    folder: str | SpillStore  # the destination of segments
    budget: int  # estimated bytes that a fold may hold (``spill-bytes``)
    buckets: int  # number of buckets
    # Number of partitions of the plan, whose Runs in memory must stay below `budget` together.
    partitions: int

    @property
    def allowance(self) -> int:
        """Estimated bytes that one partition's Runs may hold in memory."""
        return max(min(_SMALLEST_ALLOWANCE, self.budget), self.budget // self.partitions)


class Fold:
    """The pairs of one partition, grouped by key in the order in which they were written.

    Pairs are appended to `groups`, and `settle` is called now and then. It calls the combiner late,
    but with the same values as if it were called as soon as a key has `combine_size` of them, because
    checking the length for every pair would be slow.
    """

    def __init__(
        self,
        groups: defaultdict[Any, list[Any]],
        spilling: Spilling,
        combiner: Combiner | None,
        combine_size: int,
    ) -> None:
        self.groups = groups
        self._spilling = spilling
        self._combiner = combiner
        self._combine_size = combine_size
        self._large: dict[Any, int] = {}  # bytes of the large values of a key
        self._refused: dict[Any, int] = {}  # the length at which to combine a key again
        self._uncombined = 0  # pairs since the last call of the combiner
        self._arrived = 0  # estimated bytes since the last count
        self._key_size = self._value_size = 0.0  # running estimates for one key, one value
        self._grown = 0.0  # estimate for one value, including combined ones
        self._writer: SegmentWriter | None = None
        self.spilled = 0  # bytes written to segments
        self.hot_keys: tuple[HotKey, ...] = ()  # set by `finish`
        self._sample = KeySample()
        self._complete = True  # `groups` holds all pairs that were written
        self._extents: list[list[Extent]] = [[] for _ in range(spilling.buckets)]

    @property
    def batch(self) -> int:
        """Number of pairs to write before `settle`: few if they are large or of unknown size."""
        return min(_BATCH, self.room) if self._value_size else _FIRST_BATCH

    @property
    def room(self) -> int:
        """Number of pairs of the average size so far that may be written at once."""
        size = self._key_size + self._value_size + VALUE_COST
        return max(1, min(MOST_LATER, int(self._spilling.budget / 16 / size)))

    def settle(self, keys: list[Any], large: Iterable[tuple[Any, int]] = ()) -> None:
        """Combine the keys that are due, and spill if the budget is exceeded.

        - `keys`: the key of each pair that was written since the last call.
        - `large`: the keys of pairs whose values are larger than `LARGE`, with their sizes in bytes.
        """
        if not keys:
            return
        self._count_arrivals(keys)
        self._sample.take(keys, self._key_size)
        for key, size in large:
            if key in self.groups:
                self._large[key] = self._large.get(key, 0) + size
                self._arrived += size
                self._sample.take_large(key, size)
        self._uncombined += len(keys)
        if self._uncombined > max(_COMBINE_EVERY, 8 * len(self.groups)):
            self._combine()
        if self._arrived > self._spilling.budget // 4:
            self._combine()
            if self.held() > self._spilling.budget:
                self._spill()

    def _combine(self) -> None:
        self._uncombined = 0
        if self._combiner is None:
            return
        self._complete = False
        groups, size, refused = self.groups, self._combine_size, self._refused
        for key, values in groups.items():
            if len(values) >= size and len(values) >= refused.get(key, 0):
                count = len(values)
                combined = self._combined(key, values, self._combiner)
                values[:count] = combined  # in place: a thread of the script may have added more

    def _combined(self, key: Any, values: list[Any], combiner: Combiner) -> list[Any]:
        """Combine the first `combine_size` values, then the result with those that follow."""
        size = self._combine_size
        taken = max(size, self._refused.pop(key, 0))
        kept = values[:taken]
        while True:
            combined: list[Any] = combiner(key, kept)
            asked_at = max(size, len(combined) + 1)
            if combined is kept:  # `combine` wrote nothing
                asked_at = len(kept) + size
            kept = combined
            more = asked_at - len(kept)
            if taken + more > len(values):
                break
            kept = [*kept, *values[taken : taken + more]]
            taken += more
        if asked_at > size:
            self._refused[key] = asked_at
        kept = kept + values[taken:]
        if key in self._large or (type(kept[0]) is not int and estimate_size(kept[0]) > LARGE):
            self._large[key] = sum(s for s in map(estimate_size, kept) if s > LARGE)
        return kept

    def _count_arrivals(self, keys: list[Any]) -> None:
        groups = self.groups
        sample = keys[:: max(1, len(keys) // _SAMPLE)]
        key_size = sum(map(estimate_size, sample)) / len(sample)
        value_size = sum(small_size(groups[key][-1]) for key in sample) / len(sample)
        # Average slowly, so that one unusual batch does not cause a spill.
        weight = 0.25 if self._value_size else 1.0
        self._key_size += weight * (key_size - self._key_size)
        self._value_size += weight * (value_size - self._value_size)
        self._arrived += int(len(keys) * (key_size + value_size + VALUE_COST))

    def held(self) -> int:
        """Estimate the bytes of memory that the fold uses now."""
        self._arrived = 0
        groups = self.groups
        step = max(1, len(groups) // 256)
        sample = [group[-1] for group in islice(groups.values(), 0, None, step) if group]
        grown = sum(map(small_size, sample)) / len(sample) if sample else 0.0
        values = sum(map(len, groups.values()))
        self._grown = max(self._value_size, grown)
        return int(
            len(groups) * (self._key_size + KEY_COST)
            + values * (self._grown + VALUE_COST)
            + sum(self._large.values())
        )

    def _spill(self) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._spilling.folder)
        buckets = self._spilling.buckets
        key_cost, value_cost = self._key_size + KEY_COST, self._grown + VALUE_COST
        groups = self.groups
        for bucket, keys in enumerate(_keys_by_bucket(groups, buckets)):
            keys = sorted_keys(keys)
            frames = _sorted_frames(keys, groups, key_cost, value_cost, self._large)
            extent = self._writer.write(frames)
            self._extents[bucket].append(extent)
            self.spilled += extent.length
        self._complete = False
        groups.clear()
        self._refused.clear()
        self._large.clear()

    def finish(self) -> list[Run]:
        """Return one Run for each bucket: all in memory if they are small, otherwise all in segments."""
        spilling = self._spilling
        self.hot_keys = self._hottest()
        self._combine()
        held = self.held()
        if self._writer is not None or held > spilling.allowance:
            if self.groups:
                self._spill()
            if self._writer is not None:
                self._writer.close()
            return [Run(tuple(extents)) for extents in self._extents]
        groups = self.groups
        return [
            Run((pack(keys, [groups[key] for key in keys]),) if keys else (b"",))
            for keys in _keys_by_bucket(groups, spilling.buckets)
        ]

    @property
    def values(self) -> int:
        """Number of values that were written."""
        return self._sample.taken

    def _hottest(self) -> tuple[HotKey, ...]:
        size = self._value_size + VALUE_COST
        counted = count_keys(self.groups, size, self._large) if self._complete else None
        return self._sample.hottest(size) if counted is None else counted

    def discard(self) -> None:
        """Remove what was spilled."""
        if self._writer is not None:
            self._writer.remove()


def _keys_by_bucket(groups: Groups, buckets: int) -> list[list[Any]]:
    if buckets == 1:
        return [list(groups)]
    keys: list[list[Any]] = [[] for _ in range(buckets)]
    for key in groups:
        keys[bucket_of(key, buckets)].append(key)
    return keys


def _sorted_frames(
    keys: list[Any], groups: Groups, key_cost: float, value_cost: float, large: dict[Any, int]
) -> Iterator[tuple[bytes, int]]:
    """Divide sorted groups into frames of about `FRAME` bytes; a long group gets its own frames."""
    held: list[Any] = []
    lists: list[list[Any]] = []
    size = 0.0
    longest = max(1, int(FRAME / value_cost))
    for key in keys:
        values = groups[key]
        cost = key_cost + len(values) * value_cost
        if type(key) is str and len(key) > LARGE:
            cost += len(key)
        if large and key in large:
            cost += large[key]
        if held and size + cost > FRAME:
            yield pack(held, lists), int(size)
            held, lists, size = [], [], 0.0
        if cost > FRAME and large and key in large:
            for piece, piece_size in pieces_of(values):
                yield pack([key], [piece]), int(key_cost) + piece_size
            continue
        if len(values) > longest:
            for start in range(0, len(values), longest):
                piece = values[start : start + longest]
                yield pack([key], [piece]), int(key_cost + len(piece) * value_cost)
            continue
        held.append(key)
        lists.append(values)
        size += cost
    if held:
        yield pack(held, lists), int(size)
