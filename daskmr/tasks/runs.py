"""Folded pairs: collecting them in a mapper, carrying them in Runs, and reading them group by group.

A mapper folds what `map` emits into one dict (`Fold`). While that is small, each bucket's share of
it travels as a pickled frame; beyond ``spill-bytes`` it is written to a segment file, sorted by key
and cut into frames, and only references travel (`Run`). Merging two Runs unites frames with the
user's `combine` and concatenates references. `read_groups` then gives a bucket's groups in key
order: from a dict when they are small, by merging sorted streams when they are not. So no step
needs memory in proportion to the data.

Whatever changes how `combine` groups values is decided on counts and estimated bytes over all
buckets together, so the result does not depend on the number of buckets.
"""

from __future__ import annotations

import heapq
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from operator import index as to_index
from operator import itemgetter
from tempfile import TemporaryDirectory
from typing import Any, overload

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.data.spill_dir import SpillStore
from daskmr.history import HotKey
from daskmr.job.contexts import LARGE, MOST_LATER, CombineContext, dumps
from daskmr.job.keys import bucket_of, canonical_all, sort_key, sorted_keys
from daskmr.tasks.callers import Call, calls_user
from daskmr.tasks.guard import Returned
from daskmr.tasks.hot_keys import KeySample, count_keys

__all__ = [
    "Combiner",
    "Fold",
    "Run",
    "SpilledValues",
    "Spilling",
    "estimate_size",
    "merge_runs",
    "on_disk",
    "read_groups",
    "unites",
]

_KEY_COST = 200  # bytes that a dict's slot, a list and its first slot take beside the key itself
_VALUE_COST = 8  # a slot in a list
_SMALLEST_ALLOWANCE = 64 << 10
_FRAME = 256 << 10  # estimated bytes in one frame of a segment
_PAGES_HELD = 4  # of values on disk, unless they are large
_FAN_IN = 64  # streams that are merged at once; each holds one frame
_BATCH = 1024  # pairs between two looks at what is held
_FIRST_BATCH = 16
_WORD = 1 << 256  # an integer below it counts as any other number
_ELEMENTS = 64  # of a collection whose size is estimated
_DEEPEST = 6  # collections in collections that are looked into
_SAMPLE = 8  # pairs of a batch whose size is estimated
_COMBINE_EVERY = 1 << 14  # pairs at least between two looks for keys that are due
_UNITE_EVERY = 8  # adjacent frames that are united with `combine`

Groups = dict[Any, list[Any]]


@dataclass(frozen=True, slots=True)
class Spilling:
    """When and where a mapper spills.

    Attributes
    ----------
    folder : str or SpillStore
        Where segments go.
    budget : int
        Estimated bytes that a fold may hold (``spill-bytes``).
    buckets : int
        Number of buckets.
    partitions : int
        Number of partitions of the plan; together their Runs in memory stay below `budget`.
    """

    folder: str | SpillStore
    budget: int
    buckets: int
    partitions: int

    @property
    def allowance(self) -> int:
        """Estimated bytes that one partition's Runs may hold in memory."""
        return max(min(_SMALLEST_ALLOWANCE, self.budget), self.budget // self.partitions)


@dataclass(frozen=True, slots=True)
class Run:
    """One bucket's folded pairs, in input order: frames in memory and references to segments.

    Every partition gives one for every bucket, empty ones included, so that the same neighbours
    meet in every bucket.
    """

    chunks: tuple[bytes | Extent, ...]

    def __sizeof__(self) -> int:  # what Dask counts
        return 100 + sum(len(c) if isinstance(c, bytes) else 100 for c in self.chunks)


class Combiner:
    """Calls the user's `combine` as the contract says: one value, under the same key, or none.

    Parameters
    ----------
    combine : callable
        The user's ``combine(key, values, context)``.
    on_error : callable
        Called as ``on_error(exception, key)`` outside of the ``except`` block; has to raise.
    before : callable, optional
        Called as ``before(key)`` first.
    """

    def __init__(
        self,
        combine: Callable[[Any, Any, Any], Any],
        on_error: Callable[[BaseException, Any], Any],
        before: Callable[[Any], object] | None = None,
    ) -> None:
        self.combine = combine
        self.on_error = on_error
        self.before = before

    @calls_user(lambda local: Call("combine", key=local["key"]))
    def __call__(self, key: Any, values: Sequence[Any]) -> Any:
        """Return what replaces `values`: a list of one combined value, or `values` as they are."""
        if self.before is not None:
            self.before(key)
        context = CombineContext(key)
        given = values[:] if type(values) is list else values  # it may sort or empty its list
        try:
            returned = self.combine(key, given, context)
            written = context.close()
            if returned is not None and not written:
                raise Returned(returned)
        except BaseException as error:
            failure = error
        else:
            return written or values
        return self.on_error(failure, key)


def estimate_size(value: Any, depth: int = 0) -> int:
    """Estimate the memory of `value` in bytes, from its type and length alone.

    ``sys.getsizeof`` depends on what was done to an object before, which would make the plan of
    a spill depend on it too.

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
        pass  # what holds itself, or the same many times over, would take for ever
    elif kind is tuple or kind is list:
        return 64 + _estimate_elements(value, depth) + 8 * len(value)
    elif kind is set or kind is frozenset:  # all: which elements come first is up to the seed
        return 64 + sum([estimate_size(item, depth) for item in value]) + 8 * len(value)
    elif kind is dict:
        elements = _estimate_elements(value, depth) + _estimate_elements(value.values(), depth)
        return 64 + elements + 24 * len(value)
    try:
        return 64 + 2 * len(dumps(value))
    except Exception:  # it was pickled once when it was written; only an estimate is lost
        return 1000


def _estimate_elements(elements: Any, depth: int = 0) -> int:
    count = len(elements)
    if count <= _ELEMENTS:
        return sum([estimate_size(item, depth) for item in elements])
    # From all over: what comes first may be unlike the rest.
    sizes = [estimate_size(item, depth) for item in islice(elements, 0, None, count // _ELEMENTS)]
    return sum(sizes) * count // len(sizes)


class Fold:
    """The pairs of one partition, grouped by key in the order in which they came.

    Whoever writes pairs appends them to `groups` and calls `settle` now and then. The combiner is
    asked in `settle`, in arrears: it gets the same values as if it were asked the moment a key
    has collected `combine_size` of them, which would cost a look at the length for every pair.

    Parameters
    ----------
    groups : defaultdict of list
        Where the pairs are written.
    spilling : Spilling
        Budget and place.
    combiner : Combiner or None
        Asked when a key has collected `combine_size` values.
    combine_size : int
        See ``daskmr.combine-size``.
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
        self._refused: dict[Any, int] = {}  # length at which a key is next asked
        self._uncombined = 0  # pairs since the combiner was last asked
        self._arrived = 0  # estimated bytes since the last count
        self._key_size = self._value_size = 0.0  # running estimates for one key, one value
        self._grown = 0.0  # estimate for one value, combined ones among them
        self._writer: SegmentWriter | None = None
        self.spilled = 0  # bytes written to segments
        self.hot_keys: tuple[HotKey, ...] = ()  # once it is finished
        self._sample = KeySample()
        self._whole = True  # whether `groups` holds all that was written
        self._extents: list[list[Extent]] = [[] for _ in range(spilling.buckets)]

    @property
    def batch(self) -> int:
        """Pairs that may be written before the fold is settled: few while they are large or unknown."""
        return min(_BATCH, self.room) if self._value_size else _FIRST_BATCH

    @property
    def room(self) -> int:
        """Pairs that may be written in one lot, of the size that they have had so far."""
        size = self._key_size + self._value_size + _VALUE_COST
        return max(1, min(MOST_LATER, int(self._spilling.budget / 16 / size)))

    def settle(self, keys: list[Any], large: Iterable[tuple[Any, int]] = ()) -> None:
        """Combine what is due, and spill when the budget is used up.

        Parameters
        ----------
        keys : list
            The key of each pair that was written since the last call.
        large : iterable of (key, int)
            The keys of those whose values are larger than ``contexts.LARGE``, with their sizes.
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
        self._whole = False
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
            if combined is kept:  # it wrote nothing
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
        value_size = sum(_small(groups[key][-1]) for key in sample) / len(sample)
        # A slow average: a spill follows the data, yet one odd batch does not decide it.
        weight = 0.25 if self._value_size else 1.0
        self._key_size += weight * (key_size - self._key_size)
        self._value_size += weight * (value_size - self._value_size)
        self._arrived += int(len(keys) * (key_size + value_size + _VALUE_COST))

    def held(self) -> int:
        """Estimate the bytes that the fold holds now."""
        self._arrived = 0
        groups = self.groups
        step = max(1, len(groups) // 256)
        sample = [group[-1] for group in islice(groups.values(), 0, None, step) if group]
        grown = sum(map(_small, sample)) / len(sample) if sample else 0.0
        values = sum(map(len, groups.values()))
        self._grown = max(self._value_size, grown)
        return int(
            len(groups) * (self._key_size + _KEY_COST)
            + values * (self._grown + _VALUE_COST)
            + sum(self._large.values())
        )

    def _spill(self) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._spilling.folder)
        buckets = self._spilling.buckets
        key_cost, value_cost = self._key_size + _KEY_COST, self._grown + _VALUE_COST
        groups = self.groups
        for bucket, keys in enumerate(_keys_by_bucket(groups, buckets)):
            keys = sorted_keys(keys)
            frames = _sorted_frames(keys, groups, key_cost, value_cost, self._large)
            extent = self._writer.write(frames)
            self._extents[bucket].append(extent)
            self.spilled += extent.length
        self._whole = False
        groups.clear()
        self._refused.clear()
        self._large.clear()

    def finish(self) -> list[Run]:
        """Give one Run a bucket: all in memory while small, all in segments otherwise."""
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
            Run((_pack(keys, [groups[key] for key in keys]),) if keys else (b"",))
            for keys in _keys_by_bucket(groups, spilling.buckets)
        ]

    @property
    def values(self) -> int:
        """How many values were written."""
        return self._sample.taken

    def _hottest(self) -> tuple[HotKey, ...]:
        size = self._value_size + _VALUE_COST
        counted = count_keys(self.groups, size, self._large) if self._whole else None
        return self._sample.hottest(size) if counted is None else counted

    def discard(self) -> None:
        """Remove what was spilled: this attempt failed."""
        if self._writer is not None:
            self._writer.remove()


def _keys_by_bucket(groups: Groups, buckets: int) -> list[list[Any]]:
    if buckets == 1:
        return [list(groups)]
    keys: list[list[Any]] = [[] for _ in range(buckets)]
    for key in groups:
        keys[bucket_of(key, buckets)].append(key)
    return keys


def _pack(keys: list[Any], lists: Sequence[list[Any]]) -> bytes:
    """Pickle groups as columns: flat lists take half the time of many small ones."""
    counts = list(map(len, lists))
    lengths = None if max(counts) == 1 else counts
    return dumps((keys, lengths, list(chain.from_iterable(lists))))


def _unpack(frame: bytes) -> tuple[list[Any], list[int] | None, list[Any]]:
    keys, counts, values = pickle.loads(frame)
    return canonical_all(keys), counts, values


def _lists(frame: bytes) -> Iterator[tuple[Any, list[Any]]]:
    keys, counts, values = _unpack(frame)
    if counts is None:
        return zip(keys, ([value] for value in values), strict=True)
    source = iter(values)
    return ((k, list(islice(source, n))) for k, n in zip(keys, counts, strict=True))


def _load_into(groups: defaultdict[Any, list[Any]], frame: bytes) -> None:
    keys, counts, values = _unpack(frame)
    if counts is None:
        for key, value in zip(keys, values, strict=True):
            groups[key].append(value)
        return
    start = 0
    for key, count in zip(keys, counts, strict=True):
        groups[key].extend(values[start : start + count])
        start += count


def _small(value: Any) -> int:
    """Estimate the size of a value among others; what is large is counted by itself."""
    return min(estimate_size(value), LARGE)


def _sorted_frames(
    keys: list[Any], groups: Groups, key_cost: float, value_cost: float, large: dict[Any, int]
) -> Iterator[tuple[bytes, int]]:
    """Cut sorted groups into frames of some `_FRAME` bytes; a long group gets frames of its own."""
    held: list[Any] = []
    lists: list[list[Any]] = []
    size = 0.0
    longest = max(1, int(_FRAME / value_cost))
    for key in keys:
        values = groups[key]
        cost = key_cost + len(values) * value_cost
        if type(key) is str and len(key) > LARGE:
            cost += len(key)
        if large and key in large:
            cost += large[key]
        if held and size + cost > _FRAME:
            yield _pack(held, lists), int(size)
            held, lists, size = [], [], 0.0
        if cost > _FRAME and large and key in large:
            for piece, piece_size in _pieces(values):
                yield _pack([key], [piece]), int(key_cost) + piece_size
            continue
        if len(values) > longest:
            for start in range(0, len(values), longest):
                piece = values[start : start + longest]
                yield _pack([key], [piece]), int(key_cost + len(piece) * value_cost)
            continue
        held.append(key)
        lists.append(values)
        size += cost
    if held:
        yield _pack(held, lists), int(size)


def _alike(values: list[Any]) -> bool:
    """Tell whether no value can be far larger than the others, at the cost of a look at each."""
    kinds = set(map(type, values))
    if kinds <= {str} or kinds <= {bytes}:
        return max(map(len, values), default=0) <= LARGE
    return kinds <= {int, float, bool, type(None)}


def _pieces(values: Iterable[Any]) -> Iterator[tuple[list[Any], int]]:
    """Cut values of different sizes into lists of some `_FRAME` bytes."""
    piece: list[Any] = []
    size = 0
    for value in values:
        piece.append(value)
        size += estimate_size(value) + _VALUE_COST
        if size > _FRAME:
            yield piece, size
            piece, size = [], 0
    if piece:
        yield piece, size


def merge_runs(first: Run, second: Run, combiner: Combiner | None) -> Run:
    """Merge two Runs of one bucket, `first` standing before `second` in input order.

    Frames that lie side by side are united with `combine` once there are enough of them;
    references are concatenated. Neither input is changed.
    """
    chunks = first.chunks + second.chunks
    frames = _frames_at_the_end(chunks)
    if combiner is None or frames < _UNITE_EVERY:
        return Run(chunks)
    return Run((*chunks[:-frames], _unite(chunks[-frames:], combiner)))


def unites(first: Run, second: Run) -> bool:
    """Tell whether `merge_runs` will ask a combiner."""
    return _frames_at_the_end(first.chunks + second.chunks) >= _UNITE_EVERY


def _frames_at_the_end(chunks: Sequence[bytes | Extent]) -> int:
    frames = 0
    while frames < len(chunks) and isinstance(chunks[-1 - frames], bytes):
        frames += 1
    return frames


def _unite(frames: Sequence[Any], combiner: Combiner) -> bytes:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for frame in filter(None, frames):
        _load_into(groups, frame)
    if not groups:
        return b""
    lists = [combiner(k, vs) if len(vs) > 1 else vs for k, vs in groups.items()]
    return _pack(list(groups), lists)


def read_groups(
    run: Run, combiner: Combiner | None, budget: int, folder: str
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Give the groups of a bucket in key order, values in input order.

    Parameters
    ----------
    run : Run
        All of the bucket's pairs.
    combiner : Combiner or None
        Applied where partial results of a key meet.
    budget : int
        Estimated bytes that may be held; a larger group comes as a `SpilledValues`.
    folder : str
        Where groups and intermediate segments are written when they do not fit.
    """
    extents = [c for c in run.chunks if not isinstance(c, bytes)]
    in_memory = sum(len(c) for c in run.chunks if isinstance(c, bytes))
    if sum(extent.size for extent in extents) + 3 * in_memory <= budget:
        yield from _groups_in_memory(run, combiner)
    else:
        yield from _groups_merged(run, combiner, budget, folder)


def _frames_of(chunk: bytes | Extent) -> Iterable[bytes]:
    if isinstance(chunk, bytes):
        return (chunk,) if chunk else ()
    return read_frames(chunk)


def _groups_in_memory(run: Run, combiner: Combiner | None) -> Iterator[tuple[Any, list[Any]]]:
    groups: defaultdict[Any, list[Any]] = defaultdict(list)
    for chunk in run.chunks:
        for frame in _frames_of(chunk):
            _load_into(groups, frame)
    take = groups.pop
    for key in sorted_keys(groups):
        values = take(key)
        yield key, combiner(key, values) if combiner and len(values) > 1 else values


# A stream: (sort key, position of its chunk, key, values), sorted.
_Item = tuple[Any, int, Any, list[Any]]


def _stream(position: int, chunk: bytes | Extent) -> Iterator[_Item]:
    if isinstance(chunk, bytes):  # small, and not sorted yet
        groups: defaultdict[Any, list[Any]] = defaultdict(list)
        for frame in _frames_of(chunk):
            _load_into(groups, frame)
        for key in sorted_keys(groups):
            yield sort_key(key), position, key, groups[key]
        return
    for frame in read_frames(chunk):
        lists = _lists(frame)
        del frame  # a stream that waits holds its groups only
        for key, values in lists:
            yield sort_key(key), position, key, values


def _merge_streams(chunks: Sequence[bytes | Extent]) -> Iterator[_Item]:
    # A long group lies in several frames of one stream; equal items keep the order of the stream.
    streams = [_stream(position, chunk) for position, chunk in enumerate(chunks)]
    return heapq.merge(*streams, key=itemgetter(0, 1))


def _groups_merged(
    run: Run, combiner: Combiner | None, budget: int, folder: str
) -> Iterator[tuple[Any, Sequence[Any]]]:
    chunks = [c for c in run.chunks if isinstance(c, bytes) or c.length]
    made: list[SegmentWriter] = []
    try:
        while len(together := _together(chunks, budget)) > 1:
            writer = SegmentWriter(folder)
            made.append(writer)
            chunks = [writer.write(_remerged(some)) for some in together]
            writer.close()
        items = _merge_streams(chunks)
        following = next(items, None)
        while following is not None:
            group = _Gathered(following[2], budget, folder)
            order = following[0]
            while following is not None and following[0] == order:
                group.extend(following[3])
                following = next(items, None)
            with group:
                values = group.values()
                if combiner and len(values) > 1:
                    # Once, and over all of them: so the bucket's size does not show in the result.
                    values = combiner(group.key, values)
                yield group.key, values
    finally:
        for writer in made:
            writer.remove()


def _together(chunks: Sequence[bytes | Extent], budget: int) -> list[list[bytes | Extent]]:
    """Cut `chunks` into stretches that can be merged at once: each stream holds its largest frame."""
    stretches: list[list[bytes | Extent]] = [[]]
    held = 0
    for chunk in chunks:
        cost = 3 * len(chunk) if isinstance(chunk, bytes) else chunk.held
        last = stretches[-1]
        if len(last) > 1 and (len(last) == _FAN_IN or held + cost > budget):
            last = []
            stretches.append(last)
            held = 0
        last.append(chunk)
        held += cost
    return stretches


def _remerged(chunks: Sequence[bytes | Extent]) -> Iterator[tuple[bytes, int]]:
    """Merge sorted streams into frames of one; values of a key stay in order, uncombined."""
    keys: list[Any] = []
    lists: list[list[Any]] = []
    size = 0
    for _, _, key, values in _merge_streams(chunks):
        keys.append(key)
        lists.append(values)
        size += estimate_size(key) + _KEY_COST + _estimate_elements(values) + 8 * len(values)
        if size > _FRAME:
            yield _pack(keys, lists), size
            keys, lists, size = [], [], 0
    if keys:
        yield _pack(keys, lists), size


class _Gathered:
    """Collects one group's values, on disk beyond the budget."""

    def __init__(self, key: Any, budget: int, folder: str) -> None:
        self.key = key
        self._budget, self._folder = budget, folder
        self._held: list[Any] = []
        self._size = 0
        self._writer: SegmentWriter | None = None
        self._pages: list[tuple[Extent, int]] = []
        self._spilled: SpilledValues | None = None

    def extend(self, values: list[Any]) -> None:
        self._held.extend(values)
        self._size += _estimate_elements(values) + _VALUE_COST * len(values)
        if self._size > self._budget:
            self._page_out()

    def _page_out(self) -> None:
        if self._writer is None:
            self._writer = SegmentWriter(self._folder)
        if _alike(self._held):
            count = max(1, len(self._held) * _FRAME // max(1, self._size))
            starts = range(0, len(self._held), count)
            pages = [self._held[start : start + count] for start in starts]
        else:
            pages = [page for page, _ in _pieces(self._held)]
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

    def __enter__(self) -> _Gathered:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._spilled is not None:
            self._spilled.end()
        if self._writer is not None:
            self._writer.remove()


@dataclass(slots=True, repr=False, eq=False)
class SpilledValues(Sequence[Any]):
    """The values of a group that is too large for memory: a sequence backed by its file.

    Whatever reads a list works on it; a few pages of values are in memory at a time. It cannot be
    changed or sorted in place: ``sorted(values)`` gives a list, and takes the memory of all the
    values. It ends with the call of `reduce` that it was given to.

    ``isinstance(values, list)`` is true, as it is for values in memory, but this is no subclass of
    list: C code would see an empty list in a subclass, and say nothing. What needs a real list
    (the C encoder of `json`, `marshal`, `heapq`) raises a TypeError instead.

    Attributes
    ----------
    pages : tuple of (Extent, int)
        Where the values lie, and how many in each place.
    on_page : callable or None
        Called before another page is read.
    """

    pages: tuple[tuple[Extent, int], ...]
    on_page: Callable[[], object] | None = field(init=False, default=None)
    _starts: list[int] = field(init=False)
    _held: dict[int, list[Any]] = field(init=False, default_factory=dict)
    _left: dict[int, int] = field(init=False, default_factory=dict)
    _ended: bool = field(init=False, default=False)

    __class__ = property(lambda self: list)

    def __post_init__(self) -> None:
        self._starts = [0]
        for _, count in self.pages:
            self._starts.append(self._starts[-1] + count)

    def __len__(self) -> int:
        return self._starts[-1]

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> tuple[Any, ...]:  # what outlives the group outlives its file
        return list, (list(self),)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | SpilledValues):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self.pages)):
            yield from self._load(number)

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

    def _find(self, position: int) -> int:
        low, high = 0, len(self.pages)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._starts[middle] <= position else (low, middle)
        return low

    def _at(self, position: int) -> Any:
        number = self._find(position)
        return self._load(number)[position - self._starts[number]]

    def _from(self, position: int) -> Iterator[Any]:
        if position >= len(self):
            return
        first = self._find(position)
        yield from islice(self._load(first), position - self._starts[first], None)
        for number in range(first + 1, len(self.pages)):
            yield from self._load(number)

    def _load(self, number: int) -> list[Any]:
        page = self._held.pop(number, None)
        if page is None:
            page = self._read(number)
        self._held[number] = page  # last in order: what was used longest ago is dropped first
        return page

    def _read(self, number: int) -> list[Any]:
        if self._ended:
            raise ValueError(
                f"These {len(self):,} values lay on disk, because they were too many for memory, "
                "until the call of reduce that they were given to came to its end. To keep "
                "values for later, keep a list of those that are needed."
            )
        if self.on_page is not None:
            self.on_page()
        extent = self.pages[number][0]
        sizes = [self.pages[each][0].size for each in (number, *self._held)]
        room = (
            1 if max(sizes) > 2 * _FRAME else _PAGES_HELD
        )  # where one value is large, a page is one
        while len(self._held) >= room:
            self._drop(next(iter(self._held)))
        (frame,) = read_frames(extent)
        page: list[Any] = pickle.loads(frame)
        if number in self._left and self._left[number] != _state_of(page):
            raise TypeError(
                f"A value (a {_kinds(page)}) was changed in place, and is now read again: "
                f"{self._on_disk()}, so the change is lost. Change what is read in the same pass over "
                "the values, or work on `values = list(values)`, which takes the memory of all of them."
            )
        return page

    def _drop(self, number: int) -> None:
        """Let go of a page, and note how its values are left, for when they are read again."""
        page = self._held.pop(number)
        if not _cannot_change(page):
            self._left[number] = _state_of(page)

    def end(self) -> None:
        """Say from now on that the file is gone."""
        self._ended = True
        self._held.clear()

    def copy(self) -> list[Any]:
        """Return a list, which takes the memory of all the values."""
        return list(self)

    def __add__(self, other: Any) -> Any:
        # No __radd__: `kept += values` would call it, and bind a new list in place of extending.
        return self.copy() + (other.copy() if type(other) is SpilledValues else other)

    def __mul__(self, times: Any) -> Any:
        return self.copy() * times

    __rmul__ = __mul__

    def _on_disk(self) -> str:
        return f"this key has {len(self):,} values, which lie on disk because they are too many for memory"

    def _refuse(self, name: str, *args: Any, **kwargs: Any) -> None:
        raise TypeError(
            f"{_CHANGES.get(name, f'values.{name}()')} is not possible: {self._on_disk()}, so they cannot be changed or sorted "
            "in place. sorted(values) gives a sorted list, list(values) one that can be changed; either takes "
            "the memory of all of them."
        )

    def __getattr__(self, name: str) -> Any:
        if name in _LIST_CHANGES:  # a name of a list, so AttributeError would be confusing
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
        return hash(dumps(page))  # which never leaves this process
    except Exception:  # it was read from a pickle, so it has changed since
        return -1


def _kinds(page: list[Any]) -> str:
    return " or ".join(dict.fromkeys(type(value).__name__ for value in page[:10]))


@contextmanager
def on_disk(values: Sequence[Any]) -> Iterator[SpilledValues]:
    """Give `values` as `reduce` gets them where they are too many for memory.

    >>> with on_disk([3, 1, 2]) as values:
    ...     sorted(values), len(values)
    ([1, 2, 3], 3)
    """
    with TemporaryDirectory() as folder, _Gathered(None, 0, folder) as group:
        step = -(-len(values) // (2 * _PAGES_HELD))  # more pages than are held at a time
        for start in range(0, len(values), step):
            group.extend(list(values[start : start + step]))
        spilled = group.values()
        assert isinstance(spilled, SpilledValues)
        yield spilled


_CHANGES = {
    "__setitem__": "values[...] = ...",
    "__delitem__": "del values[...]",
    "__iadd__": "values += ...",
    "__imul__": "values *= ...",
}
_LIST_CHANGES = frozenset(
    ("append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort")
)
