"""The context of `map` in a job with `reduce`, which groups the pairs of a partition.

``write`` is called for each pair, so it is a closure over its containers, to look up no attributes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
from operator import countOf
from typing import Any

from daskmr.job.contexts import EACH, HUGE, Closed, Counting, UserContext, as_keys
from daskmr.job.keys import canonical
from daskmr.job.pickling import ATOMS, measured

__all__ = ["LARGE", "MOST_LATER", "MapContext"]

LARGE = 4096  # bytes from which on the size of a value is counted, not estimated from a sample
MOST_LATER = 1 << 15  # different keys, whose hash table still fits in the cache of a core

_MANY = 64  # large values after which the caller must hurry, even if none is `HUGE`
_TEXTS = frozenset((str, bytes))
_SMALL = frozenset((int, float, bool, type(None)))
_COUNTED_AT = 1024  # number of keys to count at once, while they are in the cache of the core
_PAIRS_EACH = 16  # maximum number of deferred pairs, as a multiple of that of different keys
_MOST_TEXT = 1 << 23  # maximum characters of deferred keys, including duplicates


class MapContext(Counting):
    """The values of a partition, grouped by key.

    - `user`: the context that `map` receives.
    - `groups`: the values of each key in the order of writing; complete after `place`.
    - `keys`: the keys, until the caller clears the list; complete after `place`. Keys of
      `write_each` may be out of order.
    - `large`: the keys of values larger than `LARGE`, with their sizes in bytes, until the caller
      clears the list; may include keys of a record that was undone.
    - `hurry`: not empty after large writes, or after counts, until the caller clears it.
    - `counted`, `counters`: counts of the current record, and of earlier ones.
    - `most_later`: different keys that `write_each` defers before it asks the caller to hurry.

    >>> context = MapContext()
    >>> context.write("a", 1)
    >>> context.write_each(["b", "a"], 2)
    >>> context.place()
    >>> dict(context.groups)
    {'a': [1, 2], 'b': [2]}
    """

    __slots__ = (
        "_batches", "_deferred", "_pairs", "_since", "_text", "_value", "_written", "close",
        "counted", "counters", "groups", "hurry", "keys", "large", "most_later", "user", "write",
    )  # fmt: skip

    # The lengths of `keys` and `_written` at each call of `write_each` for this record.
    _batches: list[tuple[int, int]]

    def __init__(self) -> None:
        groups: defaultdict[Any, list[Any]] = defaultdict(list)
        keys: list[Any] = []
        large: list[tuple[Any, int]] = []
        hurry: list[Any] = []
        atoms = ATOMS

        def note(key: Any, size: int) -> None:
            large.append((key, size))
            if size > HUGE or len(large) > _MANY:
                hurry.append(None)

        def write(key: Any, value: Any) -> None:
            if type(key) is not str:
                key = canonical(key)
            if type(value) is not int:
                kind = type(value)
                if kind is str or kind is bytes:
                    if len(value) > LARGE:
                        note(key, len(value))
                elif kind not in atoms:
                    value, size = measured(value)
                    if size > LARGE:
                        note(key, size)
            groups[key].append(value)
            keys.append(key)  # twice as fast as a bound method

        def close(run: str) -> None:
            """Refuse later writes: the script may have kept `write`."""
            nonlocal groups
            closed: Any = Closed(run)
            groups = closed
            self.counted = closed
            self._batches = closed

        self.groups, self.keys, self.large, self.hurry = groups, keys, large, hurry
        self.write, self.close = write, close
        self.counted, self.counters = {}, {}
        self.most_later = MOST_LATER
        self._value: Any = None  # the single value of all deferred keys
        self._deferred: Counter[str] = Counter()
        self._pairs = 0  # number of deferred pairs
        self._text = 0  # characters of deferred keys, including those not yet counted
        self._written: list[str] = []  # deferred keys that are not yet counted
        self._batches = []
        self._since = 0  # index in `keys` of the first key written by `write` after deferred ones
        self.user = UserContext(self)

    def write_each(self, keys: Iterable[Any], value: Any) -> None:
        """Write `value` under each of `keys`, like a loop of ``write``, but faster.

        Raises TypeError for a key or value that ``write`` refuses, and if `keys` is text.
        """
        if type(keys) is not list:
            keys = as_keys(keys)
        kind, batches = type(value), self._batches
        # A small immutable object can be shared by all keys until they have been counted.
        deferred = kind in _SMALL or (kind in _TEXTS and len(value) <= LARGE)
        if deferred and value is not self._value:
            if self._deferred or self._written or batches:
                deferred = False
            else:
                self._value = value
        # An instance of a subclass of str equals a str, and would be counted as one.
        if not deferred or countOf(map(type, keys), str) != len(keys):
            write = self.write
            for key in keys:
                write(key, value)
            return
        if not batches:
            self.hurry.append(EACH)
        batches.append((len(self.keys), len(self._written)))
        self._written += keys
        self._text += len("".join(keys))  # faster than a sum of lengths
        if len(keys) > self.most_later or self._text > _MOST_TEXT:
            self.hurry.append(None)

    def commit(self) -> None:
        """Keep the keys of `write_each`, because the record is done."""
        batches, written = self._batches, self._written
        if not batches:
            return
        if len(self.keys) > self._since and self._overlaps():
            self._place_in_order()
        batches.clear()
        self._since = len(self.keys)
        if len(written) >= _COUNTED_AT:
            self._count()
            if self.is_full:
                self.hurry.append(None)

    @property
    def is_full(self) -> bool:
        """Check whether `write_each` has deferred enough keys to call `place`."""
        most = self.most_later
        return len(self._deferred) > most or self._pairs > _PAIRS_EACH * most

    def place_in_order(self) -> None:
        """Do the work of `place` after each record, and keep `keys` in order for display."""
        if self._batches:
            self._place_in_order()
            self._batches.clear()
        self._since = len(self.keys)

    def place(self) -> None:
        """Put the deferred keys of `write_each` into `groups` and `keys`."""
        self.commit()
        if self._deferred or self._written:
            if self._overlaps():
                self._place_in_order()
            else:
                self._flush()
        self._since = len(self.keys)

    def _count(self) -> None:
        self._deferred.update(self._written)
        self._pairs += len(self._written)
        self._written.clear()

    def _overlaps(self) -> bool:
        """Check whether a key was written in both ways, so the order of its values must be kept."""
        keys = {*self.keys[self._since :]}
        return not (keys.isdisjoint(self._written) and self._deferred.keys().isdisjoint(keys))

    def _flush(self) -> None:
        self._count()
        groups, deferred, value = self.groups, self._deferred, self._value
        for key, count in deferred.items():
            groups[key].extend([value] * count)
        self.keys.extend(deferred.elements())
        deferred.clear()
        self._pairs = self._text = 0

    def _place_in_order(self) -> None:
        """Put all new pairs into `groups`, in the order in which they were written."""
        groups, keys, value, since = self.groups, self.keys, self._value, self._since
        single = keys[since:]
        values = [groups[key].pop() for key in reversed(single)]
        del keys[since:]
        starts = [start for _, start in self._batches] + [len(self._written)]
        batches = [self._written[start:end] for start, end in pairwise(starts)]
        del self._written[starts[0] :]
        self._flush()  # the deferred keys of other records, before any of `single`
        places = [0, *(place - since for place, _ in self._batches), len(single)]
        for (place, end), batch in zip(pairwise(places), [*batches, []], strict=True):
            for key in single[place:end]:
                groups[key].append(values.pop())
            for key in batch:
                groups[key].append(value)
            keys += single[place:end] + batch

    def clear(self) -> None:
        """Clear `keys` and `large`, after `place`."""
        self.keys.clear()
        self.large.clear()
        self._since = 0

    def take_back(self, mark: int) -> None:
        """Undo the writes since `keys` had the length `mark`, and the counts of this record."""
        self.counted.clear()
        if self._batches:
            del self._written[self._batches[0][1] :]
            self._batches.clear()
        groups, keys = self.groups, self.keys
        for key in reversed(keys[mark:]):
            values = groups[key]
            values.pop()
            if not values:
                del groups[key]  # else the bad record would determine how an equal key is printed
        del keys[mark:]
