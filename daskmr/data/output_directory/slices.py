"""Divide an output among the files of a directory, by the index of its parts alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter
from typing import Any

from daskmr.data.parts import Part, comparable, merge_between, merge_parts
from daskmr.data.segments import Extent
from daskmr.job.keys import sort_key

__all__ = ["Slice", "concatenated", "cut_at", "divide"]

_FILE_BYTES = 128 << 20  # of output in a file, as text and without compression
_MOST_FILES = 4000


@dataclass(frozen=True, slots=True)
class Slice:
    """The share of one file in an output."""

    number: int  # of the file
    parts: tuple[Part, ...]  # the blocks that may belong to it
    direct: bool = True  # as in `merge_between`
    after: tuple[Any, ...] = ()  # its keys come after this one,
    upto: tuple[Any, ...] = ()  # and not after this one

    def read(self) -> Iterator[list[Any]]:
        """Yield the output in batches."""
        if any(part.kinds for part in self.parts):
            return merge_between(self.parts, self.direct, self.after, self.upto)
        return merge_parts(self.parts)


def divide(parts: Sequence[Part]) -> list[Slice]:
    """Divide indexed `parts` into slices of similar size, at least one.

    A key is in one slice as a whole.
    """
    sizes = [extent.size for part in parts for _, extent in part.index]
    count = min(-(-sum(sizes) // _FILE_BYTES), _MOST_FILES)
    share = sum(sizes) / max(1, count)
    if any(part.kinds for part in parts):
        return _by_keys(parts, share)
    extents = [extent for part in parts for _, extent in part.index]
    groups: list[list[Extent]] = [[]]
    held = 0
    for extent in extents:
        if held >= share:
            groups.append([])
            held = 0
        groups[-1].append(extent)
        held += extent.size
    return [
        Slice(number, tuple(_part(run) for _, run in groupby(group, attrgetter("path"))))
        for number, group in enumerate(groups)
    ]


def concatenated(number: int, parts: Iterable[Part]) -> Slice:
    """Return a slice of entire parts of a map-only job."""
    return Slice(
        number, tuple(_part([part.frames]) for part in parts if isinstance(part.frames, Extent))
    )


def _by_keys(parts: Sequence[Part], share: float) -> list[Slice]:
    order: Callable[[Any], Any] = _same if comparable(parts) else sort_key
    entries = [(order(last), extent.size) for part in parts for last, extent in part.index]
    return cut_at(parts, _cuts(sorted(entries, key=itemgetter(0)), share))


def cut_at(parts: Sequence[Part], cuts: Sequence[Any]) -> list[Slice]:
    """Divide indexed `parts` at keys, each of which is the last that its slice may have.

    - `cuts`: keys in order; sort keys if those of the parts are not comparable.
    """
    direct = comparable(parts)
    order: Callable[[Any], Any] = _same if direct else sort_key
    indexed = [part for part in parts if part.index]
    bounds = [[order(last) for last, _ in part.index] for part in indexed]
    slices = []
    edges: list[tuple[Any, ...]] = [(), *((cut,) for cut in cuts), ()]
    for number, (after, upto) in enumerate(pairwise(edges)):
        chosen = []
        for keys, part in zip(bounds, indexed, strict=True):
            # A bound may come before the last key, and a key's output may be in several extents.
            start = bisect_left(keys, *after) if after else 0
            end = bisect_right(keys, *upto) + 1 if upto else len(keys)
            if within := part.index[start:end]:
                chosen.append(_part((extent for _, extent in within), part.kinds))
        slices.append(Slice(number, tuple(chosen), direct, after, upto))
    return slices


def _cuts(entries: Sequence[tuple[Any, int]], share: float) -> list[Any]:
    """Return the last keys of all slices except the last one."""
    cuts: list[Any] = []
    held = 0
    for last, size in entries:
        held += size
        if held >= share and last < entries[-1][0] and not (cuts and last == cuts[-1]):
            cuts.append(last)
            held = 0
    return cuts


def _part(extents: Iterable[Extent], kinds: frozenset[str] = frozenset()) -> Part:
    """Return a part that consists of adjacent extents of a segment."""
    first, *others = extents
    for extent in others:
        assert extent.offset == first.offset + first.length
        first = replace(
            first,
            length=first.length + extent.length,
            size=first.size + extent.size,
            largest=max(first.largest, extent.largest),
        )
    return Part((), first, kinds, 0)


def _same(key: Any) -> Any:
    return key
