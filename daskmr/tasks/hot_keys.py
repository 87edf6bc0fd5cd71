"""The keys with the most values, estimated from every 127th pair, because counting all is slow.

Only the names of a few keys travel to the client.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from daskmr.history import HotKey
from daskmr.job.keys import name_key

__all__ = ["KeySample", "count_keys", "merge_hot_keys", "with_counted"]

_STRIDE = 127  # a prime, so periods in the input are unlikely to be multiples of it
_HELD = 4096  # maximum number of keys in a sample
_HELD_BYTES = 4 << 20  # maximum bytes of keys in a sample
_DRAWN_BYTES = 1 << 18  # bytes of sampled keys not yet counted
_KEY_COST = 200  # bytes that a key takes in addition to its characters
_KEPT = 256  # keys that remain in a sample when there are too many
_EACH = 16  # keys that each partition reports
_ALL = 64  # keys that are reported in all
_COUNTED = 1024  # maximum number of keys of a partition to count them all


class KeySample:
    """A count of every 127th key.

    Examples
    --------
    >>> sample = KeySample()
    >>> for _ in range(100):
    ...     sample.take(["a", "b", "a"] * 127, 10.0)
    >>> [(hot.key, hot.values) for hot in sample.hottest(8.0)]
    [("'a'", 25400), ("'b'", 12700)]
    """

    def __init__(self) -> None:
        self._drawn: list[Any] = []
        self._hits: Counter[Any] = Counter()
        self._large: Counter[Any] = Counter()  # bytes of large values
        self.taken = 0  # number of keys in all
        self._next = 0  # index of the next key to sample in the coming keys

    def take(self, keys: list[Any], key_size: float) -> None:
        """Sample `keys`, the keys of pairs, which take about `key_size` bytes each."""
        drawn = self._drawn
        drawn += keys[self._next :: _STRIDE]
        self._next = (self._next - len(keys)) % _STRIDE
        self.taken += len(keys)
        # Counting only a few at a time would be slower.
        if len(drawn) * (key_size + _KEY_COST) > _DRAWN_BYTES:
            self._count(key_size)

    def _count(self, key_size: float) -> None:
        hits = self._hits
        hits.update(self._drawn)
        self._drawn.clear()
        if len(hits) > _HELD or len(hits) * key_size > _HELD_BYTES:
            kept = max(1, min(_KEPT, int(_HELD_BYTES / 2 / max(key_size, 1.0))))
            self._hits = Counter(dict(hits.most_common(kept)))

    def take_large(self, key: Any, size: int) -> None:
        """Count the bytes of a large value."""
        large = self._large
        large[key] += size
        if len(large) > _KEPT:
            self._large = Counter(dict(large.most_common(_KEPT // 2)))

    def hottest(self, value_size: float) -> tuple[HotKey, ...]:
        """Return the keys with the most values, and those with the most bytes in large values."""
        self._count(0.0)
        hits, large = self._hits, self._large
        chosen = dict.fromkeys(key for key, _ in hits.most_common(_EACH))
        chosen.update(dict.fromkeys(key for key, _ in large.most_common(_EACH)))
        return tuple(
            HotKey(
                name_key(key),
                max(1, _STRIDE * hits[key]),
                int(_STRIDE * hits[key] * value_size) + large[key],
            )
            for key in chosen
        )


def count_keys(
    groups: Mapping[Any, list[Any]], value_size: float, large: Mapping[Any, int]
) -> tuple[HotKey, ...] | None:
    """Return the hottest keys of complete groups, or ``None`` if there are too many keys.

    >>> [hot.values for hot in count_keys({"a": [1], "b": [1, 1]}, 8.0, {})]
    [2, 1]
    """
    if len(groups) > _COUNTED:
        return None
    top = heapq.nlargest(_EACH, groups.items(), key=lambda group: len(group[1]))
    complete = len(groups) <= _EACH
    return tuple(
        HotKey(
            name_key(key),
            len(values),
            int(len(values) * value_size) + large.get(key, 0),
            exact=complete,
        )
        for key, values in top
    )


def merge_hot_keys(first: tuple[HotKey, ...], second: tuple[HotKey, ...]) -> tuple[HotKey, ...]:
    """Add up the hot keys of two sets of partitions.

    A key that is not reported may have values all the same, so figures stay exact only while both
    report all of their keys.

    >>> merge_hot_keys((HotKey("a", 2, 16, True),), (HotKey("a", 3, 24, True),))
    (HotKey(key='a', values=5, bytes=40, exact=True),)
    """
    if not first or not second:
        return first or second
    both: dict[str, HotKey] = {}
    exact = True
    for hot in (*first, *second):
        exact = exact and hot.exact
        known = both.get(hot.key)
        if known is not None:
            hot = replace(hot, values=hot.values + known.values, bytes=hot.bytes + known.bytes)
        both[hot.key] = hot
    exact = exact and len(both) <= _ALL
    return tuple(replace(hot, exact=exact) for hot in _top(both.values()))


def with_counted(estimated: tuple[HotKey, ...], counted: Iterable[HotKey]) -> tuple[HotKey, ...]:
    """Replace estimates by the exact counts of reducers, in which each key occurs only once."""
    best = {hot.key: hot for hot in estimated}
    for hot in counted:
        known = best.get(hot.key)
        best[hot.key] = replace(hot, bytes=max(hot.bytes, known.bytes if known else 0))
    return tuple(_top(best.values()))


def _top(keys: Iterable[HotKey]) -> list[HotKey]:
    """Sort by values; if there are too many, keep those with the most values and the most bytes."""
    ordered = sorted(keys, key=lambda hot: (-hot.values, -hot.bytes, hot.key))
    if len(ordered) <= _ALL:
        return ordered
    heavy = heapq.nlargest(_ALL // 4, ordered, key=lambda hot: hot.bytes)
    kept = set(ordered[: _ALL - len(heavy)]) | set(heavy)
    return [hot for hot in ordered if hot in kept]
