"""What a kind of sample data is: how its files are named, and how their records are generated."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from daskmr.cli.sample.draws import Words

__all__ = [
    "Kind",
    "Record",
    "SampleFile",
    "clock",
    "fill",
    "hour_weight",
    "second_of_day",
    "share_out",
]

Record = tuple[bytes, bool]
"""The bytes of a record with its line end, and whether it is a bad record."""

_HOURS = (10, 6, 4, 3, 3, 5, 12, 28, 46, 52, 50, 52, 58, 54, 50, 49, 52, 60, 68, 74, 78, 66, 42, 22)
"""How busy each hour of a day is, relative to the sum."""
_HOUR_STARTS = (0, *accumulate(_HOURS))


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A file of a sample; `path` is relative, without the extension of the compression."""

    path: str
    records: Iterable[Record]
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of sample data, as the module of its name defines it."""

    noun: str  # what a record is called, in the plural
    files: Callable[[int, int, float], Iterable[SampleFile]]  # by size, seed and bad lines
    extension: str  # of the files, by default
    plain: tuple[str, ...]  # extensions of files that are not compressed
    layout: str = ""  # of plain files; the packaged one by default
    records: str = ""  # the format; the default one by default


def share_out(size: int, weights: Sequence[int]) -> list[int]:
    """Divide `size` bytes in proportion to `weights`; return where each share ends.

    >>> share_out(100, [1, 2, 1])
    [25, 75, 100]
    """
    return [size * end // sum(weights) for end in accumulate(weights)]


def fill(
    ends: Iterable[int], words: Words, bad_lines: float, make: Callable[[int, int, int, int], bytes]
) -> Iterator[Iterator[Record]]:
    r"""Yield the records of each file; the records of all files up to one have its `ends` in bytes.

    A file has at least one record. The files must be read one after the other.

    - `bad_lines`: the share of bad records, which are drawn from `words`.
    - `make`: returns the bytes of a record. Its arguments are the index of the file, the bytes
      written to it and expected of it, and the number of the bad record, or 0 for a good one.

    >>> files = fill([4, 6], iter([0] * 9), 0.0, lambda file, done, whole, bad: b"ab\n")
    >>> [list(records) for records in files]
    [[(b'ab\n', False), (b'ab\n', False)], [(b'ab\n', False)]]
    """
    written = bad = 0
    threshold = int(bad_lines * 2**32)

    def records(index: int, end: int) -> Iterator[Record]:
        nonlocal written, bad
        start, whole, is_first = written, max(1, end - written), True
        while is_first or written < end:
            is_bad = next(words) < threshold
            bad += is_bad
            record = make(index, min(written - start, whole - 1), whole, bad if is_bad else 0)
            written += len(record)
            is_first = False
            yield record, is_bad

    for index, end in enumerate(ends):
        yield records(index, end)


def hour_weight(hour: int) -> int:
    """Return how busy an hour of the day is, from 0 to 23."""
    return _HOURS[hour]


def second_of_day(done: int, whole: int) -> int:
    """Return when a share of the records of a day is reached, of which most are in the evening.

    >>> [second_of_day(share, 10) // 3600 for share in range(10)]
    [0, 8, 10, 12, 13, 15, 17, 18, 20, 21]
    """
    position = done * _HOUR_STARTS[-1]
    hour = bisect_right(_HOUR_STARTS, position // whole) - 1
    return 3600 * hour + (position - _HOUR_STARTS[hour] * whole) * 3600 // (_HOURS[hour] * whole)


def clock(second: int) -> str:
    """Format a second of a day.

    >>> clock(3661)
    '01:01:01'
    """
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
