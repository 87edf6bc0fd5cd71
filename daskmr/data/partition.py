"""Cut the list of input files into partitions, by sizes and order alone.

Workers, memory and time play no part: the plan decides how partial results meet, so the same input
must always give the same plan.
"""

from __future__ import annotations

import pickle
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, starmap
from operator import attrgetter
from typing import Any

import zstandard

from daskmr.data.listing import InputFile

__all__ = [
    "LOOK_AHEAD", "PARTITION_BYTES", "Partition", "count_buckets", "count_reducers",
    "estimate_bytes", "plan_partitions", "run_order", "with_ahead",
]  # fmt: skip

PARTITION_BYTES = 16 << 20
# More than the cores of a workstation, so that the load balances; few enough for the scheduler.
MIN_PARTITIONS = 32
MAX_PARTITIONS = 4096

_LATE_SHARE = 4  # the last quarter of a plan is mapped in order of size
# Files of a later partition that are fetched ahead: twice as many as are fetched at a time. The
# others follow as soon as it begins.
LOOK_AHEAD = 16

_BUCKET_BYTES = 32 << 20  # estimated input bytes for each bucket
# With a thousand buckets, the client's merge of as many parts takes longer than smaller buckets
# save, and the last merge task, which holds a reference to each spill of each bucket, outgrows its
# worker at some 60 GB of data.
_MAX_BUCKETS = 128
_MAX_REDUCERS = 64
_MIN_REDUCERS = 8
_REDUCERS_PER_WORKER = 4

_EXPANSION = {".gz": 8, ".bz2": 10, ".xz": 12, ".lzma": 12, ".zst": 12}  # as found in JSON logs
_GZIP = _EXPANSION[".gz"]
_OPENING_BYTES = 16 << 10  # the cost of opening a file, in bytes of gzip


@dataclass(frozen=True, slots=True)
class Partition:
    """The input of one map task.

    It pickles to some 25 bytes a file, so that the plan of a million files fits in a graph, which
    client and scheduler hold several times over.
    """

    index: int  # its place in the plan, from 0
    # At least one; the files of all partitions, one after the other, are the input in order.
    files: tuple[InputFile, ...]
    bytes: int  # its weight: the bytes of gzip that are as much work, the opening of files included
    # The first files of a later partition, to fetch once all of its own are under way.
    ahead: tuple[InputFile, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        rows = list(map(_row, self.files + self.ahead))
        packed = zstandard.ZstdCompressor(level=1).compress(pickle.dumps(rows, 5))
        return _unpack, (self.index, packed, self.bytes, len(self.ahead))


_row = attrgetter(*(field.name for field in fields(InputFile)))


def _unpack(index: int, packed: bytes, weight: int, ahead: int) -> Partition:
    rows = pickle.loads(zstandard.ZstdDecompressor().decompress(packed))
    files = tuple(starmap(InputFile, rows))
    own = len(files) - ahead
    return Partition(index, files[:own], weight, files[own:])


def estimate_bytes(files: Sequence[InputFile]) -> int:
    """Estimate how many bytes of uncompressed data `files` hold, by their suffixes and sizes.

    >>> from types import SimpleNamespace as File
    >>> estimate_bytes([File(path="a.gz", size=1000), File(path="b.log", size=500)])
    8500
    """
    return sum(file.size * _expansion(file.path) for file in files)


def plan_partitions(
    files: Sequence[InputFile], partition_bytes: int = PARTITION_BYTES
) -> list[Partition]:
    """Cut `files` into contiguous partitions of about the same weight.

    There is one partition for every `partition_bytes` (bytes of gzip, or as much work in another
    form), but at least 32 and at most 4,096, and never more than files. No file is split. None
    weighs more than an equal share and the largest file together.

    >>> from types import SimpleNamespace as File
    >>> files = [File(path=f"{i}.gz", size=1000 * i) for i in range(64)]
    >>> plan = plan_partitions(files)
    >>> len(plan), [file.path for file in plan[1].files]
    (32, ['6.gz', '7.gz', '8.gz', '9.gz'])
    """
    totals = [0, *accumulate(_weight(file) for file in files)]
    by_weight = -(-totals[-1] // (partition_bytes * _GZIP))
    ends = _cut(totals, min(len(files), max(MIN_PARTITIONS, min(MAX_PARTITIONS, by_weight))))
    starts = [0, *ends]
    return [
        Partition(index, tuple(files[start:end]), (totals[end] - totals[start]) // _GZIP)
        for index, (start, end) in enumerate(zip(starts, ends, strict=False))
    ]


def run_order(plan: Sequence[Partition]) -> list[int]:
    """Choose the order in which partitions are mapped; it does not change the result.

    Neighbours follow one another, so that their results are merged soon. The last quarter begins
    with the largest, so that the workers end at about the same time.

    >>> run_order([Partition(index, (), bytes) for index, bytes in enumerate([1, 5, 2, 4, 3, 3, 1, 2])])
    [0, 1, 2, 3, 4, 5, 7, 6]
    """
    early = len(plan) - len(plan) // _LATE_SHARE
    late = sorted(plan[early:], key=attrgetter("bytes"), reverse=True)
    return [partition.index for partition in (*plan[:early], *late)]


def with_ahead(plan: Sequence[Partition], order: Sequence[int], workers: int) -> list[Partition]:
    """Set what each partition fetches ahead for the one that its worker is likely to map next.

    Partitions are mapped in `order`, as many at a time as there are `workers`.

    >>> from types import SimpleNamespace as File
    >>> plan = [Partition(index, (File(path=f"{index}", is_remote=True),), 1) for index in range(3)]
    >>> [[file.path for file in partition.ahead] for partition in with_ahead(plan, [0, 2, 1], 1)]
    [['2'], [], ['1']]
    """
    changed = list(plan)
    for index, later in zip(order, order[workers:], strict=False):
        ahead = [file for file in plan[later].files if file.is_remote][:LOOK_AHEAD]
        changed[index] = replace(plan[index], ahead=tuple(ahead))
    return changed


def count_buckets(files: Sequence[InputFile], requested: int | None) -> int:
    """Choose the number of buckets for the input, at least as many as reducers were requested.

    It does not change the result.

    >>> from types import SimpleNamespace as File
    >>> count_buckets([File(path="a.gz", size=100 << 20)], None)
    26
    """
    by_size = 1 + estimate_bytes(files) // _BUCKET_BYTES
    return max(requested or 1, min(by_size, _MAX_BUCKETS))


def count_reducers(buckets: int, requested: int | None, workers: int | None) -> int:
    """Choose how many reduce tasks keep all workers busy to the end.

    `workers` is ``None`` on a cluster, where their number may change.

    >>> count_reducers(26, None, 2), count_reducers(26, None, None), count_reducers(26, 3, 2)
    (8, 26, 3)
    """
    most = _MAX_REDUCERS
    if workers is not None:
        most = max(_MIN_REDUCERS, min(_REDUCERS_PER_WORKER * workers, _MAX_REDUCERS))
    return min(requested or most, buckets)


def _expansion(path: str) -> int:
    return _EXPANSION.get(path[path.rfind(".") :].lower(), 1)


def _weight(file: InputFile) -> int:
    """Estimated bytes of data: whole numbers, so that sums are exact."""
    return file.size * _expansion(file.path) + _OPENING_BYTES * _GZIP


def _cut(totals: list[int], count: int) -> list[int]:
    """Return where each of `count` partitions ends, given the running totals of the weights.

    Each takes files until it reaches an equal share of what is left. So it exceeds that share by
    less than one file, and the shares that are left only get smaller.
    """
    files, start = len(totals) - 1, 0
    ends: list[int] = []
    for left in range(count, 0, -1):
        share = -(-(totals[files] - totals[start]) // left)
        reached = bisect_left(totals, totals[start] + share, start + 1)
        start = min(reached, files - (left - 1))  # one file at least for each that follows
        ends.append(start)
    return ends
