"""The reading side of a shuffle: merge Runs of folded pairs, and read them group by group.

A mapper folds the pairs that `map` emits into one dict (`daskmr.tasks.fold`). While the dict is
small, each bucket's share of it travels as a pickled frame. Beyond ``spill-bytes`` it is written to a
segment file, sorted by key and divided into frames, and only references travel (`Run`). Merging two
Runs unites frames with the user's `combine` and concatenates references. `read_groups` then yields a
bucket's groups in key order: from a dict if they are small, otherwise by merging sorted streams. So
no step needs memory in proportion to the data.
"""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, takewhile
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from daskmr.data.segments import Extent, SegmentWriter, read_frames
from daskmr.job.keys import sort_key, sorted_keys
from daskmr.job.pickling import dumps
from daskmr.tasks.frames import (
    FRAME,
    KEY_COST,
    Run,
    estimate_elements,
    estimate_size,
    groups_of,
    load_groups,
    pack,
    pieces_of,
)
from daskmr.tasks.spilled_values import GroupValues, SpilledValues

if TYPE_CHECKING:
    from daskmr.tasks.user_calls import Combiner, Sorter

__all__ = ["Run", "merge_runs", "read_groups", "unites"]

_FAN_IN = 64  # streams that are merged at once; each keeps one frame in memory
_UNITE_EVERY = 8  # adjacent frames that are united with `combine`


def merge_runs(first: Run, second: Run, combiner: Combiner | None) -> Run:
    """Merge two Runs of one bucket, of which `first` precedes `second` in input order.

    Adjacent frames are united with `combine` once there are enough of them;
    references are concatenated. Neither input is changed.
    """
    chunks = first.chunks + second.chunks
    frames = _trailing_frames(chunks)
    if combiner is None or len(frames) < _UNITE_EVERY:
        return Run(chunks)
    groups = load_groups(frames)
    lists = [combiner(k, vs) if len(vs) > 1 else vs for k, vs in groups.items()]
    united = pack(list(groups), lists) if groups else b""
    return Run((*chunks[: -len(frames)], united))


def unites(first: Run, second: Run) -> bool:
    """Check whether `merge_runs` will call a combiner."""
    return len(_trailing_frames(first.chunks + second.chunks)) >= _UNITE_EVERY


def _trailing_frames(chunks: Sequence[bytes | Extent]) -> list[bytes]:
    frames: list[Any] = list(takewhile(lambda chunk: isinstance(chunk, bytes), chunks[::-1]))
    return frames[::-1]


def read_groups(
    run: Run, combiner: Combiner | None, budget: int, folder: str, sorter: Sorter | None = None
) -> Iterator[tuple[Any, Sequence[Any]]]:
    """Yield the groups of a bucket in key order, with their values in input order.

    - `run`: all of the bucket's pairs.
    - `combiner`: merges partial results of a key.
    - `budget`: estimated bytes to hold in memory; a larger group is passed as a `SpilledValues`.
    - `folder`: the folder for groups and intermediate segments that do not fit.
    - `sorter`: sorts the values of each key, if they are not to be in input order.
    """
    groups = _read_groups(run, combiner, budget, folder)
    return groups if sorter is None else _with_sorted(groups, sorter, budget, folder)


def _read_groups(
    run: Run, combiner: Combiner | None, budget: int, folder: str
) -> Iterator[tuple[Any, Sequence[Any]]]:
    extents = [c for c in run.chunks if not isinstance(c, bytes)]
    in_memory = sum(len(c) for c in run.chunks if isinstance(c, bytes))
    if sum(extent.size for extent in extents) + 3 * in_memory <= budget:
        yield from _groups_in_memory(run, combiner)
    else:
        yield from _groups_merged(run, combiner, budget, folder)


def _frames_of(chunk: bytes | Extent) -> Iterable[bytes]:
    return (chunk,) if isinstance(chunk, bytes) else read_frames(chunk)


def _groups_in_memory(run: Run, combiner: Combiner | None) -> Iterator[tuple[Any, list[Any]]]:
    groups = load_groups(chain.from_iterable(map(_frames_of, run.chunks)))
    take = groups.pop
    for key in sorted_keys(groups):
        values = take(key)
        yield key, combiner(key, values) if combiner and len(values) > 1 else values


# A stream: (sort key, position of its chunk, key, values), sorted.
_Item = tuple[Any, int, Any, list[Any]]


def _stream(position: int, chunk: bytes | Extent) -> Iterator[_Item]:
    if isinstance(chunk, bytes):  # small, and not sorted yet
        groups = load_groups((chunk,))
        for key in sorted_keys(groups):
            yield sort_key(key), position, key, groups[key]
        return
    for frame in read_frames(chunk):
        lists = groups_of(frame)
        del frame  # while the stream waits, it keeps only the groups
        for key, values in lists:
            yield sort_key(key), position, key, values


def _merge_streams(chunks: Sequence[bytes | Extent]) -> Iterator[_Item]:
    # A long group spans several frames of one stream; equal items keep the order of the stream.
    streams = [_stream(position, chunk) for position, chunk in enumerate(chunks)]
    return heapq.merge(*streams, key=itemgetter(0, 1))


def _groups_merged(
    run: Run, combiner: Combiner | None, budget: int, folder: str
) -> Iterator[tuple[Any, Sequence[Any]]]:
    chunks = [c for c in run.chunks if isinstance(c, bytes) or c.length]
    made: list[SegmentWriter] = []
    try:
        while len(batches := _batches(chunks, budget)) > 1:
            writer = SegmentWriter(folder)
            made.append(writer)
            chunks = [writer.write(_remerged(batch)) for batch in batches]
            writer.close()
        items = _merge_streams(chunks)
        following = next(items, None)
        while following is not None:
            group = GroupValues(budget, folder)
            order, _, key, _ = following
            while following is not None and following[0] == order:
                group.extend(following[3])
                following = next(items, None)
            with group:
                values = group.values()
                if combiner and len(values) > 1:
                    # Combine once, over all values, so the result does not depend on the bucket's size.
                    values = combiner(key, values)
                yield key, values
    finally:
        for writer in made:
            writer.remove()


def _with_sorted(
    groups: Iterator[tuple[Any, Sequence[Any]]], sorter: Sorter, budget: int, folder: str
) -> Iterator[tuple[Any, Sequence[Any]]]:
    for key, values in groups:
        if type(values) is not SpilledValues:
            yield key, sorter.sorted(key, values)
            continue
        with GroupValues(budget, folder) as group:
            with closing(_sorted_pieces(key, values, sorter, budget, folder)) as pieces:
                for piece, _ in pieces:
                    group.extend(piece)
            yield key, group.values()


def _sorted_pieces(
    key: Any, values: SpilledValues, sorter: Sorter, budget: int, folder: str
) -> Generator[tuple[list[Any], int]]:
    """Sort values that do not fit in memory: sort pieces of them that do, and merge these on disk."""
    writer = SegmentWriter(folder)
    made = [writer]

    def write(pieces: Iterable[tuple[list[Any], int]]) -> Extent:
        return made[-1].write((dumps(piece), size) for piece, size in pieces)

    def merged(batch: Sequence[bytes | Extent]) -> Iterator[tuple[list[Any], int]]:
        return pieces_of(sorter.merged(key, lambda: map(_values_in, batch)))

    try:
        parts = pieces_of(values, max(FRAME, budget // 2))
        runs: list[bytes | Extent] = [
            write(pieces_of(sorter.sorted(key, part))) for part, _ in parts
        ]
        writer.close()
        while len(batches := _batches(runs, budget)) > 1:
            made.append(SegmentWriter(folder))
            runs = [write(merged(batch)) for batch in batches]
            made[-1].close()
            made.pop(0).remove()
        yield from merged(runs)
    finally:
        for each in made:
            each.remove()


def _values_in(chunk: bytes | Extent) -> Iterator[Any]:
    for frame in _frames_of(chunk):
        yield from pickle.loads(frame)


def _batches(chunks: Sequence[bytes | Extent], budget: int) -> list[list[bytes | Extent]]:
    """Divide `chunks` into batches that fit in memory, where each stream needs its largest frame."""
    batches: list[list[bytes | Extent]] = [[]]
    held = 0
    for chunk in chunks:
        cost = 3 * len(chunk) if isinstance(chunk, bytes) else chunk.held
        last = batches[-1]
        if len(last) > 1 and (len(last) == _FAN_IN or held + cost > budget):
            last = []
            batches.append(last)
            held = 0
        last.append(chunk)
        held += cost
    return batches


def _remerged(chunks: Sequence[bytes | Extent]) -> Iterator[tuple[bytes, int]]:
    """Merge sorted streams into the frames of one; a key's values stay in order, uncombined."""
    keys: list[Any] = []
    lists: list[list[Any]] = []
    size = 0
    for _, _, key, values in _merge_streams(chunks):
        keys.append(key)
        lists.append(values)
        size += estimate_size(key) + KEY_COST + estimate_elements(values) + 8 * len(values)
        if size > FRAME:
            yield pack(keys, lists), size
            keys, lists, size = [], [], 0
    if keys:
        yield pack(keys, lists), size
