"""The values of one group, kept on disk if they do not fit in memory."""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate, chain, islice
from operator import index as to_index
from tempfile import TemporaryDirectory
from typing import Any, overload

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.job.pickling import dumps
from daskmr.tasks.frames import FRAME, VALUE_COST, are_alike, estimate_elements, pieces_of

__all__ = ["GroupValues", "SpilledValues", "on_disk"]

_PAGES_HELD = 4  # pages of values kept in memory at a time, unless they are large


class GroupValues:
    """Collector of one group's values, which moves them to disk beyond the budget."""

    def __init__(self, budget: int, folder: str) -> None:
        self._budget, self._folder = budget, folder
        self._held: list[Any] = []
        self._size = 0
        self._writer: SegmentWriter | None = None
        self._pages: list[tuple[Extent, int]] = []
        self._spilled: SpilledValues | None = None

    def extend(self, values: list[Any]) -> None:
        self._held.extend(values)
        self._size += estimate_elements(values) + VALUE_COST * len(values)
        if self._size > self._budget:
            self._page_out()

    def _page_out(self) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder)
        if are_alike(self._held):
            count = max(1, len(self._held) * FRAME // max(1, self._size))
            starts = range(0, len(self._held), count)
            pages = [self._held[start : start + count] for start in starts]
        else:
            pages = [page for page, _ in pieces_of(self._held)]
        for page in pages:
            frame = dumps(page)
            extent = self._writer.write([(frame, len(frame))])
            self._pages.append((extent, len(page)))
        self._held, self._size = [], 0

    def values(self) -> Sequence[Any]:
        if self._writer is None:
            return self._held
        self._page_out()
        self._writer.close()
        self._spilled = SpilledValues(tuple(self._pages))
        return self._spilled

    def __enter__(self) -> GroupValues:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._spilled is not None:
            self._spilled.end()
        if self._writer is not None:
            self._writer.remove()


@contextmanager
def on_disk(values: Sequence[Any]) -> Iterator[SpilledValues]:
    """Yield `values` in the form that `reduce` gets if they do not fit in memory.

    >>> with on_disk([3, 1, 2]) as values:
    ...     sorted(values), len(values)
    ([1, 2, 3], 3)
    """
    with TemporaryDirectory() as folder, GroupValues(0, folder) as group:
        step = -(-len(values) // (2 * _PAGES_HELD))  # makes more pages than are held
        for start in range(0, len(values), step):
            group.extend(list(values[start : start + step]))
        spilled = group.values()
        assert isinstance(spilled, SpilledValues)
        yield spilled


@dataclass(slots=True, repr=False, eq=False)
class SpilledValues(Sequence[Any]):
    """The values of a group that is too large for memory: a sequence backed by a file.

    It reads like a list, with a few pages of values in memory at a time. It cannot be changed or
    sorted in place: ``sorted(values)`` returns a list, which takes the memory of all the values. It
    can be read until the call of `reduce` that received it returns.

    ``isinstance(values, list)`` is true, as for values in memory, but this is not a subclass of
    list, because C code would silently treat it as empty. The C encoder of `json`, `marshal` and
    `heapq` raise a TypeError instead.
    """

    pages: tuple[tuple[Extent, int], ...]  # place and number of values of each page
    # Called before another page is read.
    on_page: Callable[[], object] | None = field(init=False, default=None)
    _starts: list[int] = field(init=False)
    _held: dict[int, list[Any]] = field(init=False, default_factory=dict)
    _left: dict[int, int] = field(init=False, default_factory=dict)
    _ended: bool = field(init=False, default=False)

    __class__ = property(lambda self: list)

    def __post_init__(self) -> None:
        self._starts = [*accumulate((count for _, count in self.pages), initial=0)]

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:  # a copy may outlive the file
        return list, (list(self),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | SpilledValues):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Any]:
        return self._from(0)

    def __reversed__(self) -> Iterator[Any]:
        for number in reversed(range(len(self.pages))):
            yield from reversed(self._load(number))

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step < 0:
                return [self._at(i) for i in range(start, stop, step)]
            return list(islice(self._from(start), 0, max(0, stop - start), step))
        index = to_index(index)
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"there are {len(self)} values, and no index {index}")
        return self._at(position)

    def _at(self, position: int) -> Any:
        number = bisect_right(self._starts, position) - 1
        return self._load(number)[position - self._starts[number]]

    def _from(self, position: int) -> Iterator[Any]:
        first = bisect_right(self._starts, position) - 1
        if first == len(self.pages):
            return
        yield from islice(self._load(first), position - self._starts[first], None)
        for number in range(first + 1, len(self.pages)):
            yield from self._load(number)

    def _load(self, number: int) -> list[Any]:
        page = self._held.pop(number, None)
        if page is None:
            page = self._read(number)
        self._held[number] = page  # now the last: the first one is the least recently used
        return page

    def _read(self, number: int) -> list[Any]:
        if self._ended:
            raise ValueError(
                f"These {len(self):,} values were on disk, because they did not fit in memory, and "
                "were removed when the call of reduce that received them returned. To use values "
                "later, keep a list of those that are needed."
            )
        if self.on_page is not None:
            self.on_page()
        extent = self.pages[number][0]
        sizes = [self.pages[each][0].size for each in (number, *self._held)]
        room = 1 if max(sizes) > 2 * FRAME else _PAGES_HELD  # a large page is a single value
        while len(self._held) >= room:
            self._drop(next(iter(self._held)))
        (frame,) = read_frames(extent)
        page: list[Any] = pickle.loads(frame)
        if number in self._left and self._left[number] != _state_of(page):
            raise TypeError(
                f"A value (a {_kinds(page)}) was changed in place, and is now read again: "
                f"{self._on_disk()}, so the change is lost. Change and use values in the same pass over "
                "them, or work on `values = list(values)`, which takes the memory of all of them."
            )
        return page

    def _drop(self, number: int) -> None:
        """Drop a page, and record the state of its values to check when they are read again."""
        page = self._held.pop(number)
        if not _cannot_change(page):
            self._left[number] = _state_of(page)

    def end(self) -> None:
        """Refuse reads from now on, because the file is removed."""
        self._ended = True
        self._held.clear()

    def copy(self) -> list[Any]:
        """Return a list of all the values, which takes their memory."""
        return list(self)

    def __add__(self, other: Any) -> Any:
        # No __radd__: `kept += values` would call it, and bind a new list instead of extending.
        return self.copy() + (other.copy() if type(other) is SpilledValues else other)

    def __mul__(self, times: Any) -> Any:
        return self.copy() * times

    __rmul__ = __mul__

    def _on_disk(self) -> str:
        return f"this key has {len(self):,} values, which are on disk because they do not fit in memory"

    def _refuse(self, name: str, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            f"{_CHANGES.get(name, f'values.{name}()')} is not possible: {self._on_disk()}, so they cannot be changed or sorted "
            "in place. sorted(values) returns a sorted list, list(values) one that can be changed; either takes "
            "the memory of all of them."
        )

    def __getattr__(self, name: str) -> Any:
        if name in _LIST_CHANGES:  # a method of list, so AttributeError would be confusing
            return partial(self._refuse, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setitem__(self, index: Any, value: Any) -> None:
        self._refuse("__setitem__")

    def __delitem__(self, index: Any) -> None:
        self._refuse("__delitem__")

    def __iadd__(self, other: Any) -> Any:
        return self._refuse("__iadd__")

    def __imul__(self, times: Any) -> Any:
        return self._refuse("__imul__")


_NEVER_CHANGE = frozenset((str, bytes, int, float, bool, type(None)))


def _cannot_change(page: list[Any]) -> bool:
    kinds = set(map(type, page))
    if kinds == {tuple}:
        kinds = set(map(type, chain.from_iterable(page)))
    return kinds <= _NEVER_CHANGE


def _state_of(page: list[Any]) -> int:
    try:
        return hash(dumps(page))  # the hash never leaves this process
    except Exception:  # it was unpickled, so it has changed since
        return -1


def _kinds(page: list[Any]) -> str:
    return " or ".join(dict.fromkeys(type(value).__name__ for value in page[:10]))


_CHANGES = {
    "__setitem__": "values[...] = ...",
    "__delitem__": "del values[...]",
    "__iadd__": "values += ...",
    "__imul__": "values *= ...",
}
_LIST_CHANGES = frozenset(
    ("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort")
)
