"""Frames, which are groups pickled as columns, and estimates of their size in memory."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from daskmr.data.segments import Extent
from daskmr.job.keys import canonical_all
from daskmr.job.map_context import LARGE
from daskmr.job.pickling import dumps, tree_size

__all__ = [
    "FRAME",
    "KEY_COST",
    "VALUE_COST",
    "Run",
    "are_alike",
    "estimate_elements",
    "estimate_size",
    "groups_of",
    "load_groups",
    "pack",
    "pieces_of",
    "small_size",
]

FRAME = 256 << 10
"""Estimated bytes in one frame of a segment."""

KEY_COST = 200
"""Bytes that a dict's slot, a list and its first slot take in addition to the key itself."""

VALUE_COST = 8
"""Bytes of a slot in a list."""

_WORD = 1 << 256  # integers below this count like any other number
_ELEMENTS = 64  # elements of a collection whose sizes are estimated
_DEEPEST = 6  # levels of nested collections that are examined


@dataclass(frozen=True, slots=True)
class Run:
    """The folded pairs of one bucket, in input order: frames in memory and references to segments.

    Every partition has one for every bucket, even if it is empty, so that the same neighbours are
    merged in every bucket.
    """

    chunks: tuple[bytes | Extent, ...]

    def __sizeof__(self) -> int:  # what Dask counts
        return 100 + sum(len(c) if isinstance(c, bytes) else 100 for c in self.chunks)


def estimate_size(value: Any, depth: int = 0) -> int:
    """Estimate the memory of `value` in bytes, from its type and length alone.

    ``sys.getsizeof`` depends on an object's history, so spills would depend on it, too.

    >>> estimate_size("x" * 100)
    150
    """
    depth += 1
    kind = type(value)
    if kind is str:
        return 50 + (len(value) if value.isascii() else 2 * len(value))
    if kind is int:
        return 30 if -_WORD < value < _WORD else 30 + value.bit_length() // 8
    if kind is float or kind is bool or value is None:
        return 30
    if kind is bytes:
        return 33 + len(value)
    if depth > _DEEPEST:
        pass  # a value that contains itself, or one object many times, would take forever
    elif kind is tuple or kind is list:
        return 64 + estimate_elements(value, depth) + 8 * len(value)
    elif kind is set or kind is frozenset:  # all elements: their order depends on the hash seed
        return 64 + sum([estimate_size(item, depth) for item in value]) + 8 * len(value)
    elif kind is dict:
        elements = estimate_elements(value, depth) + estimate_elements(value.values(), depth)
        return 64 + elements + 24 * len(value)
    try:
        return 64 + (2 * len(dumps(value)) if depth > _DEEPEST else tree_size(value))
    except Exception:  # it was pickled when it was written, so a rough estimate will do
        return 1000


def estimate_elements(elements: Any, depth: int = 0) -> int:
    """Estimate the memory of the elements of a collection, from a sample if there are many."""
    count = len(elements)
    if count <= _ELEMENTS:
        return sum([estimate_size(item, depth) for item in elements])
    # Sample throughout, because the first elements may differ from the rest.
    sizes = [estimate_size(item, depth) for item in islice(elements, 0, None, count // _ELEMENTS)]
    return sum(sizes) * count // len(sizes)


def pack(keys: list[Any], lists: Sequence[list[Any]]) -> bytes:
    """Pickle groups as columns, because flat lists take half the time of many small ones."""
    counts = list(map(len, lists))
    lengths = None if max(counts) == 1 else counts
    return dumps((keys, lengths, list(chain.from_iterable(lists))))


def _unpack(frame: bytes) -> tuple[list[Any], list[int] | None, list[Any]]:
    keys, counts, values = pickle.loads(frame)
    return canonical_all(keys), counts, values


def groups_of(frame: bytes) -> Iterator[tuple[Any, list[Any]]]:
    """Unpickle a frame, group by group."""
    keys, counts, values = _unpack(frame)
    if counts is None:
        return zip(keys, ([value] for value in values), strict=True)
    source = iter(values)
    return ((k, list(islice(source, n))) for k, n in zip(keys, counts, strict=True))


def load_groups(frames: Iterable[bytes]) -> defaultdict[Any, list[Any]]:
    """Unpickle frames, which may be empty, and collect the values of each key in order."""
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for frame in filter(None, frames):
        keys, counts, values = _unpack(frame)
        if counts is None:
            for key, value in zip(keys, values, strict=True):
                groups[key].append(value)
            continue
        start = 0
        for key, count in zip(keys, counts, strict=True):
            groups[key].extend(values[start : start + count])
            start += count
    return groups


def small_size(value: Any) -> int:
    """Estimate the size of a value, up to `LARGE`; larger values are counted separately."""
    return min(estimate_size(value), LARGE)


def are_alike(values: list[Any]) -> bool:
    """Check, by type and length, that no value can be far larger than the others."""
    kinds = set(map(type, values))
    if kinds <= {str} or kinds <= {bytes}:
        return max(map(len, values), default=0) <= LARGE
    return kinds <= {int, float, bool, type(None)}


def pieces_of(values: Iterable[Any], most: int = 0) -> Iterator[tuple[list[Any], int]]:
    """Divide values of different sizes into lists of about `most` bytes, by default `FRAME`."""
    most = most or FRAME
    piece: list[Any] = []
    size = 0
    for value in values:
        piece.append(value)
        size += estimate_size(value) + VALUE_COST
        if size > most:
            yield piece, size
            piece, size = [], 0
    if piece:
        yield piece, size
