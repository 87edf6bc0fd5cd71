"""Parts of the output: what one bucket was reduced to, or what one partition of a map-only job wrote.

A part is a sequence of blocks. A block of a reduced part holds sorted keys and what was written for
each; a block of a map-only part holds what was written. Small parts travel in memory, large ones as
a reference to a segment.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.data.spill_dir import SpillStore
from daskmr.job.contexts import dumps
from daskmr.job.keys import sort_key

__all__ = ["Part", "PartWriter", "comparable", "read_blocks"]

_COMPARABLE = (frozenset(("str",)), frozenset(("bytes",)), frozenset(("int",)))

Block = tuple[list[Any] | None, list[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """Reduced (or mapped) output in order.

    Attributes
    ----------
    header : list
        What `setup_reduce` wrote; the output takes that of the first part.
    frames : tuple of bytes, or Extent
        Pickled blocks.
    kinds : frozenset of str
        Names of the types of keys: where all are of one kind they are compared directly.
    lines : int
        Number of writes.
    """

    header: tuple[Any, ...]
    frames: tuple[bytes, ...] | Extent
    kinds: frozenset[str]
    lines: int

    def __sizeof__(self) -> int:  # what Dask counts
        return 200 + (0 if isinstance(self.frames, Extent) else sum(map(len, self.frames)))


class PartWriter:
    """Collects the blocks of one part, in a segment file once they are large.

    Parameters
    ----------
    folder : str or SpillStore
        Where a segment is made.
    in_memory : int
        Bytes of blocks that may travel in memory.
    header : tuple
        What `setup_reduce` wrote.
    """

    def __init__(
        self, folder: str | SpillStore, in_memory: int, header: tuple[Any, ...] = ()
    ) -> None:
        self._folder = folder
        self._in_memory = in_memory
        self._header = header
        self._frames: list[bytes] = []
        self._size = 0
        self._kinds: set[str] = set()
        self._lines = 0
        self._writer: SegmentWriter | None = None
        self._extents: list[Extent] = []

    def add(self, keys: list[Any] | None, written: list[Any], lines: int) -> None:
        """Append a block; `keys` and `written` run in parallel, `keys` is None without them."""
        if not written:
            return
        if keys is not None:
            self._kinds.update(kind.__name__ for kind in set(map(type, keys)))
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
        self._frames, self._size = [], 0

    def finish(self) -> Part:
        """Give the part."""
        frames: tuple[bytes, ...] | Extent = tuple(self._frames)
        if self._writer is not None:
            if self._frames:
                self._flush()
            self._writer.close()
            end = self._extents[-1].offset + self._extents[-1].length
            frames = replace(
                self._extents[0], offset=0, length=end, size=sum(e.size for e in self._extents)
            )
        return Part(self._header, frames, frozenset(self._kinds), self._lines)

    def discard(self) -> None:
        """Remove what was written: this attempt failed."""
        if self._writer is not None:
            self._writer.remove()


def read_blocks(part: Part, direct: bool) -> Iterator[Block]:
    """Read a part's blocks; the keys of each as what they are ordered by.

    Parameters
    ----------
    part : Part
        To be read.
    direct : bool
        Keys are ordered by themselves, so they come as they are.
    """
    frames = read_frames(part.frames) if isinstance(part.frames, Extent) else iter(part.frames)
    for frame in frames:
        keys, written = pickle.loads(frame)
        del frame  # while the block is merged, its bytes are not needed as well
        if keys is not None and not direct:
            keys = list(map(sort_key, keys))
        yield keys, written


def comparable(parts: list[Part]) -> bool:
    """Tell whether the keys of all `parts` are ordered by themselves."""
    return frozenset().union(*(part.kinds for part in parts)) in (*_COMPARABLE, frozenset())
