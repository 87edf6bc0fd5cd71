"""Candidates for the cuts between the partitions of the next step: keys chosen by a hash, and weighed.

They depend on the keys and on the size of what is written for each, not on how keys are spread over
reducers. So the next step always gets the same partitions, and its `combine` the same groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nsmallest
from typing import Any, TypeAlias

from daskmr.job.keys import sort_key, stable_hash

__all__ = ["BOUND", "Cut", "Cuts", "bound_of", "smallest"]

BOUND = 256
"""Characters of a key in an index."""

_BYTES = 8 << 10  # of pairs for each candidate, on average
_PAIR = 64  # bytes of a pair in addition to its text
_MOST = 4096  # candidates that are kept
_HASHES = 1 << 32

Cut: TypeAlias = tuple[float, Any]
"""The rank of a candidate, the best first, and (the beginning of) its key."""


def bound_of(key: Any) -> Any:
    """Return a lower bound of a key that is not long: a prefix comes before the entire text."""
    return key[:BOUND] if isinstance(key, str | bytes) else key


def smallest(cuts: Iterable[Cut]) -> list[Cut]:
    """Return the best candidates, which are the best ones of any division of all candidates, too."""
    return nsmallest(_MOST, cuts, key=lambda cut: (cut[0], sort_key(cut[1])))


class Cuts:
    """The candidates of one part.

    - `weight`: estimated bytes of all its pairs.

    >>> both, one, other = Cuts(), Cuts(), Cuts()
    >>> keys, outputs = list(range(5000)), [["x" * 10] * 3] * 5000
    >>> both.add(keys, outputs, [30] * 5000)
    >>> one.add(keys[::2], outputs[::2], [30] * 2500)
    >>> other.add(keys[1::2], outputs[1::2], [30] * 2500)
    >>> both.found() == smallest([*one.found(), *other.found()])
    True
    """

    def __init__(self) -> None:
        self.weight = 0
        self._found: list[Cut] = []
        self._key: Any = self  # no key is this object
        self._held = 0

    def add(self, keys: list[Any] | None, written: list[Any], sizes: Iterable[int]) -> None:
        """Add a block: what was written for each key, and its size; without keys, only its weight."""
        if keys is None:
            self.weight += _PAIR * len(written) + sum(sizes)
            return
        for key, output, size in zip(keys, written, sizes, strict=True):
            if key is not self._key:  # a key with a large output is in several entries
                self._offer()
                self._key, self._held = key, 0
            self._held += _PAIR * len(output) + size

    def _offer(self) -> None:
        if not self._held:
            return
        self.weight += self._held
        rank = (1 + stable_hash(self._key)) / self._held
        if rank <= _HASHES / _BYTES:
            self._found.append((rank, bound_of(self._key)))
            if len(self._found) > 2 * _MOST:
                self._found = smallest(self._found)

    def found(self) -> list[Cut]:
        """Return the candidates, once everything is added."""
        self._offer()
        self._held = 0
        return smallest(self._found)
