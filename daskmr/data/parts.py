"""Parts of the output: the result of one bucket, or of one partition of a map-only job.

A part is a sequence of blocks. A block of a reduced part holds sorted keys and the text written for
each key; a block of a map-only part holds only the text. Small parts are sent in memory, large ones
as a reference to a segment. Where workers write the output, every part is in a segment, and has an
index, by which the output is divided among them.
"""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.data.spill_dir import SpillStore
from daskmr.data.steps.cuts import Cut, Cuts, bound_of
from daskmr.job.keys import sort_key
from daskmr.job.pickling import dumps

__all__ = [
    "Part",
    "PartWriter",
    "comparable",
    "merge_between",
    "merge_parts",
    "named_parts",
    "read_blocks",
]

_INDEXED_BYTES = 1 << 20  # of the blocks of one entry of an index
_FINELY = 1 << 18  # the same for the pairs of a step, which are divided more finely
_COMPARABLE = (frozenset(("str",)), frozenset(("bytes",)), frozenset(("int",)))

Block = tuple[list[Any] | None, list[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Reduced (or mapped) output, in order."""

    header: tuple[Any, ...]  # written by `setup_reduce`; the output uses that of the first part
    frames: tuple[bytes, ...] | Extent  # pickled blocks
    # Names of the keys' types: if all keys have the same type, they are compared directly
    kinds: frozenset[str]
    lines: int  # number of writes
    report: Any = None  # what the writer of the output must know of the rows
    # The extents of an indexed part, and a lower bound of the last key of each (map-only: None)
    index: tuple[tuple[Any, Extent], ...] = ()
    weight: int = 0  # estimated bytes of the pairs of a step
    cuts: tuple[Cut, ...] = ()  # where they may be divided
    # The parts of the outputs of ``context.write_to``, by name
    named: tuple[tuple[str, Part], ...] = ()

    def __sizeof__(self) -> int:  # used by Dask
        frames = 0 if isinstance(self.frames, Extent) else sum(map(len, self.frames))
        return 200 + frames + sum(part.__sizeof__() for _, part in self.named)


def named_parts(parts: Sequence[Part]) -> dict[str, tuple[Part, ...]]:
    """Return the parts of each output of ``context.write_to``, by name, in the order of names."""
    names = sorted({name for part in parts for name, _ in part.named})
    return {name: tuple(p for part in parts for n, p in part.named if n == name) for name in names}


class PartWriter:
    """Collects the blocks of one part; moves them to a segment in `folder` above `in_memory` bytes.

    If it is `indexed`, it moves all of them, and makes an index. If it is `cut`, which needs an index,
    it also chooses keys between which the next step may divide its pairs.
    """

    def __init__(
        self,
        folder: str | SpillStore,
        in_memory: int,
        header: tuple[Any, ...] = (),
        indexed: bool = False,
        cut: bool = False,
    ) -> None:
        self._folder = folder
        self._in_memory = (_FINELY if cut else _INDEXED_BYTES) if indexed else in_memory
        self._cuts = Cuts() if cut else None
        self._header = header
        self._indexed = indexed
        self._last: Any = None  # key
        self._bounds: list[Any] = []
        self._frames: list[bytes] = []
        self._size = 0
        self._kinds: set[str] = set()
        self._lines = 0
        self._writer: SegmentWriter | None = None
        self._extents: list[Extent] = []

    def add(
        self, keys: list[Any] | None, written: list[Any], lines: int, sizes: Sequence[int] = ()
    ) -> None:
        """Append a block; `keys` has one key for each item of `written`, or is None (map-only).

        - `sizes`: bytes of each item, or of all of them; for the pairs of a step.
        """
        if not written:
            return
        if self._cuts is not None:
            self._cuts.add(keys, written, sizes)
        if keys is not None:
            self._kinds.update(kind.__name__ for kind in set(map(type, keys)))
            self._last = keys[-1]
        self._lines += lines
        frame = dumps((keys, written))
        self._frames.append(frame)
        self._size += len(frame)
        if self._size > self._in_memory:
            self._flush()

    def _flush(self) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder)
        self._extents.append(self._writer.write([(frame, len(frame)) for frame in self._frames]))
        if self._indexed:
            self._bounds.append(bound_of(self._last))
        self._frames, self._size = [], 0

    def finish(self, report: Any = None, named: tuple[tuple[str, Part], ...] = ()) -> Part:
        if self._frames and (self._indexed or self._writer is not None):
            self._flush()
        frames: tuple[bytes, ...] | Extent = tuple(self._frames)
        if self._writer is not None:
            self._writer.close()
            end = self._extents[-1].offset + self._extents[-1].length
            frames = replace(
                self._extents[0], offset=0, length=end, size=sum(e.size for e in self._extents)
            )
        index = tuple(zip(self._bounds, self._extents, strict=True)) if self._indexed else ()
        part = Part(self._header, frames, frozenset(self._kinds), self._lines, report, index)
        if self._cuts is not None:
            found = self._cuts.found()  # which also weighs the last key
            part = replace(part, weight=self._cuts.weight, cuts=(*found,))
        return replace(part, named=named) if named else part

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.remove()


def read_blocks(part: Part, direct: bool) -> Iterator[Block]:
    """Read a part's blocks; unless keys can be compared `direct`ly, convert them to sort keys."""
    frames = read_frames(part.frames) if isinstance(part.frames, Extent) else iter(part.frames)
    for frame in frames:
        keys, written = pickle.loads(frame)
        del frame  # free the bytes while the block is merged
        if keys is not None and not direct:
            keys = list(map(sort_key, keys))
        yield keys, written


def comparable(parts: Sequence[Part]) -> bool:
    """Check whether the keys of all `parts` can be compared directly."""
    return frozenset().union(*(part.kinds for part in parts)) in (*_COMPARABLE, frozenset())


def merge_parts(parts: Sequence[Part]) -> Iterator[list[Any]]:
    """Merge sorted `parts` that have no key in common, and yield their output in batches.

    The parts of a map-only job are concatenated.
    """
    if len(parts) == 1 or not any(part.kinds for part in parts):
        for part in parts:
            for _, written in read_blocks(part, direct=True):
                yield written
        return
    direct = comparable(parts)
    yield from _merge_sorted([read_blocks(part, direct) for part in parts])


def merge_between(
    parts: Sequence[Part], direct: bool, after: tuple[Any, ...], upto: tuple[Any, ...]
) -> Iterator[list[Any]]:
    """Merge the output of the keys between two bounds, of which each may be missing.

    - `direct`: whether the bounds are keys, as in `read_blocks`.
    - `after`, `upto`: an exclusive lower and an inclusive upper bound.
    """
    yield from _merge_sorted(
        [_blocks_between(read_blocks(part, direct), after, upto) for part in parts]
    )


def _blocks_between(
    blocks: Iterable[Block], after: tuple[Any, ...], upto: tuple[Any, ...]
) -> Iterator[Block]:
    for keys, written in blocks:
        assert keys is not None
        start = bisect_right(keys, *after) if after else 0
        end = bisect_right(keys, *upto) if upto else len(keys)
        if start < end:
            yield keys[start:end], written[start:end]


def _merge_sorted(streams: Iterable[Iterator[Block]]) -> Iterator[list[Any]]:
    """Merge streams of sorted blocks; each step ends at the smallest last key of the current blocks.

    Sorting a few sorted pieces at once is much faster than comparing the heads of all streams for
    each key, because `list.sort` finds and merges sorted runs in C.
    """
    cursors = [cursor for cursor in map(_Cursor, streams) if cursor.keys]
    while cursors:
        bound = min(cursor.keys[-1] for cursor in cursors)
        pieces = [piece for cursor in cursors if (piece := cursor.take(bound))[0]]
        if len(pieces) == 1:
            yield pieces[0][1]
        else:
            pairs = [pair for keys, written in pieces for pair in zip(keys, written, strict=True)]
            pairs.sort(key=itemgetter(0))
            yield [written for _, written in pairs]
        cursors = [cursor for cursor in cursors if cursor.keys]


class _Cursor:
    """The position in one stream of blocks."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self.keys: list[Any] = []
        self._written: list[Any] = []
        self._taken = 0
        self._next()

    def _next(self) -> None:
        keys, self._written = next(self._blocks, ([], []))
        self.keys = keys or []
        self._taken = 0

    def take(self, bound: Any) -> tuple[list[Any], list[Any]]:
        """Take the remaining keys of the block up to `bound`, with their output."""
        keys, written, start = self.keys, self._written, self._taken
        if keys[-1] <= bound:
            self._next()
            return (keys[start:], written[start:]) if start else (keys, written)
        end = self._taken = bisect_right(keys, bound, start)
        return keys[start:end], written[start:end]
