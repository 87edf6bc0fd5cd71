"""Split the list of input files into partitions.

Only the names, the sizes and the order of the files matter, not workers, memory or time: the plan
determines how partial results are combined, so the same input must always give the same plan. Where
the input is cut depends on the files nearby, so that a new day, or a file that has changed, leaves
the partitions elsewhere, and with them the results that were kept of them, as they were.
"""

from __future__ import annotations

import pickle
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from itertools import accumulate, pairwise, starmap
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import zstandard

from daskmr.data.listing import InputFile
from daskmr.data.readers.suffixes import COMPRESSIONS, compression_of

if TYPE_CHECKING:
    from daskmr.data.steps.pairs import Pairs

__all__ = [
    "LOOK_AHEAD", "MIN_PARTITIONS", "PARTITION_BYTES", "Partition", "count_buckets", "count_reducers",
    "estimate_bytes", "nominal_partitions", "plan_partitions", "run_order", "with_ahead",
]  # fmt: skip

PARTITION_BYTES = 16 << 20  # default size of a partition, as bytes of gzip
# More than a workstation has cores, to balance the load; few enough for the scheduler.
MIN_PARTITIONS = 32
MAX_PARTITIONS = 4096
# With these, the mean of random cuts is the target, and no partition has twice the mean.
_MOST = (8, 5)  # the largest partition, as a fraction of the target
_LEAST = (8, 15)  # the distance of a cut from the ends of what it divides, unless files are larger

_LATE_SHARE = 4  # the last quarter of a plan is mapped in order of size
LOOK_AHEAD = 16
"""Files of a later partition to fetch ahead: twice as many as are fetched at the same time."""

_BUCKET_BYTES = 32 << 20  # estimated input bytes for each bucket
# With a thousand buckets, the client's merge of a thousand parts takes longer than smaller buckets
# save, and the last merge task, which holds a reference to each spill of each bucket, exceeds its
# worker's memory at about 60 GB of data.
_MAX_BUCKETS = 128
_MIN_BUCKETS = 8
_BUCKET_STEP = 4  # each number of buckets is this times the one before
_MAX_REDUCERS = 64
_MIN_REDUCERS = 8
_REDUCERS_PER_WORKER = 4

_GZIP = COMPRESSIONS["gzip"].expansion
_OPENING_BYTES = 16 << 10  # the cost of opening a file, as bytes of gzip


@dataclass(frozen=True, slots=True)
class Partition:
    """The input of one map task.

    It pickles to about 25 bytes per file, so that a plan for a million files fits in a graph, of
    which the client and the scheduler hold several copies.
    """

    index: int  # position in the plan, from 0
    # At least one file; the files of all partitions, concatenated, are the input in order.
    files: tuple[InputFile, ...]
    bytes: int  # weight: the equivalent amount of gzip data, including the cost of opening files
    # The first files of a later partition, to fetch once all of its own are being fetched.
    ahead: tuple[InputFile, ...] = ()
    pairs: Pairs | None = None  # those of the step before, in place of its only file

    def __reduce__(self) -> tuple[Any, ...]:
        rows = list(map(_row, self.files + self.ahead))
        packed = zstandard.ZstdCompressor(level=1).compress(pickle.dumps(rows, 5))
        return _unpack, (self.index, packed, self.bytes, len(self.ahead), self.pairs)


_row = attrgetter(*(field.name for field in fields(InputFile)))


def _unpack(index: int, packed: bytes, weight: int, ahead: int, pairs: Pairs | None) -> Partition:
    rows = pickle.loads(zstandard.ZstdDecompressor().decompress(packed))
    files = tuple(starmap(InputFile, rows))
    own = len(files) - ahead
    return Partition(index, files[:own], weight, files[own:], pairs)


def estimate_bytes(files: Sequence[InputFile]) -> int:
    """Estimate the uncompressed size of `files` in bytes, from their suffixes and sizes.

    >>> from types import SimpleNamespace as File
    >>> estimate_bytes([File(path="a.gz", size=1000), File(path="b.log", size=500)])
    8500
    """
    return sum(file.size * _expansion(file.path) for file in files)


def plan_partitions(
    files: Sequence[InputFile], partition_bytes: int = PARTITION_BYTES
) -> list[Partition]:
    """Split `files` into contiguous partitions of about the same weight.

    There is about one partition for every `partition_bytes` (bytes of gzip, or the equivalent in other
    formats), but at least some 32 and at most some 4,096, and never more than files, or parts of
    files. No partition weighs more than about twice the mean, except for a single large file.

    >>> files = [InputFile(f"{i}.gz", 1000 * i, ()) for i in range(640)]
    >>> plan = plan_partitions(files)
    >>> len(plan), [file.path for file in plan[1].files][:2]
    (55, ['66.gz', '67.gz'])
    """
    totals = [0, *accumulate(_weight(file) for file in files)]
    cuts = sorted(_cuts(files, totals, _target(totals[-1], partition_bytes)))
    bounds = [0, *cuts, len(files)] if files else []
    return [
        Partition(index, tuple(files[start:end]), (totals[end] - totals[start]) // _GZIP)
        for index, (start, end) in enumerate(pairwise(bounds))
    ]


def nominal_partitions(files: Sequence[InputFile], partition_bytes: int = PARTITION_BYTES) -> int:
    """Return about the number of partitions, or more: a power of two, which rarely changes.

    >>> nominal_partitions([InputFile("a.gz", 1 << 30, ())])
    128
    """
    total = sum(map(_weight, files))
    return _power_above(total // _target(total, partition_bytes))


def run_order(plan: Sequence[Partition]) -> list[int]:
    """Return the order in which to map the partitions; it does not affect the result.

    Adjacent partitions are mapped consecutively, so that their results can be merged early. The
    last quarter is mapped largest first, so that all workers finish at about the same time.

    >>> run_order([Partition(index, (), bytes) for index, bytes in enumerate([1, 5, 2, 4, 3, 3, 1, 2])])
    [0, 1, 2, 3, 4, 5, 7, 6]
    """
    early = len(plan) - len(plan) // _LATE_SHARE
    late = sorted(plan[early:], key=attrgetter("bytes"), reverse=True)
    return [partition.index for partition in (*plan[:early], *late)]


def with_ahead(plan: Sequence[Partition], order: Sequence[int], workers: int) -> list[Partition]:
    """Set the files that each partition fetches ahead for its worker's likely next partition.

    Partitions are mapped in `order`, one per worker at a time.

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


def count_buckets(data_bytes: int, requested: int | None) -> int:
    """Return the number of buckets for an input, at least the `requested` number of reducers.

    - `data_bytes`: its uncompressed size, as `estimate_bytes` returns it.

    It does not affect the result. It has few values, because results of partitions are kept by bucket.

    >>> count_buckets(800 << 20, None)
    32
    """
    needed = max(requested or 1, min(1 + data_bytes // _BUCKET_BYTES, _MAX_BUCKETS))
    buckets = _MIN_BUCKETS
    while buckets < needed:
        buckets *= _BUCKET_STEP
    return buckets


def count_reducers(data_bytes: int, requested: int | None, workers: int | None) -> int:
    """Return a number of reduce tasks that keeps all workers busy to the end.

    - `data_bytes`: as for `count_buckets`.
    - `workers`: ``None`` on a cluster, because the number of workers may change there.

    >>> size = 800 << 20
    >>> count_reducers(size, None, 2), count_reducers(size, None, None), count_reducers(size, 3, 2)
    (8, 26, 3)
    """
    most = _MAX_REDUCERS
    if workers is not None:
        most = max(_MIN_REDUCERS, min(_REDUCERS_PER_WORKER * workers, _MAX_REDUCERS))
    return requested or min(most, 1 + data_bytes // _BUCKET_BYTES)


def _expansion(path: str) -> int:
    compression = compression_of(path)
    return 1 if compression is None else compression.expansion


def _weight(file: InputFile) -> int:
    """Estimate the bytes of data, as an integer, so that sums are exact."""
    return file.bytes * _expansion(file.path) + _OPENING_BYTES * _GZIP


def _power_above(number: int) -> int:
    """Return the smallest power of two that is greater than `number`."""
    return 1 << number.bit_length()


def _target(total: int, partition_bytes: int) -> int:
    """Return the mean weight of a partition to aim at, which changes only as `total` doubles."""
    at_most = partition_bytes * _GZIP
    for_many = _power_above(total // MIN_PARTITIONS) // 2
    for_few = _power_above((total - 1) // MAX_PARTITIONS) if total > at_most * MAX_PARTITIONS else 0
    return max(1, for_few, min(at_most, for_many))


def _cuts(files: Sequence[InputFile], totals: list[int], target: int) -> Iterator[int]:
    """Yield the number of each file that begins a partition, except the first, given running totals.

    What is too heavy is divided before the file whose name has the smallest hash, and so are the two
    halves. So a cut depends on the names around it, and on weights only where a file is near an end.
    """
    most, least = (target * share // of for share, of in (_MOST, _LEAST))
    if len(files) < 2 or totals[-1] <= most:
        return
    hashes = list(map(_hash_of, files))
    pending = [(0, len(files))]
    while pending:
        start, end = pending.pop()
        if end - start < 2 or totals[end] - totals[start] <= most:
            continue
        first = bisect_left(totals, totals[start] + least, start + 1, end)
        last = bisect_right(totals, totals[end] - least, start + 1, end)
        if first >= last:
            first, last = start + 1, end
        cut = hashes.index(min(hashes[first:last]), first)
        yield cut
        pending += (start, cut), (cut, end)


def _hash_of(file: InputFile) -> bytes:
    name = file.path if file.part is None else f"{file.path}\0{file.part[0]}"
    return blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
