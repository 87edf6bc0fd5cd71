"""Sample data of the kind `rides`: CSV of the rides of taxis, with a header, by year and month.

Names of zones have commas, and comments have quotes and line ends, so that fields are quoted.
"""

from __future__ import annotations

import calendar
import csv
import io
from collections.abc import Iterator

from daskmr.cli.sample.draws import Words, below, log_uniform, pick, random_words, weighted
from daskmr.cli.sample.kind import Kind, Record, SampleFile, fill, second_of_day, share_out

__all__ = ["KIND"]

_FIRST_YEAR = 2025
_MONTHS = (70, 68, 80, 84, 92, 96, 88, 84, 98, 100, 90, 110)  # how busy each month is
_MONTH_BYTES = 250_000  # of a sample, for each month that it has
_COLUMNS = (
    "ride_id", "pickup", "dropoff", "pickup_zone", "dropoff_zone", "km", "passengers", "payment",
    "fare", "tip", "comment",
)  # fmt: skip
_ZONES = weighted(
    {
        "Airport": 26,
        "Central Station": 22,
        "Old Town, East": 15,
        "Old Town, West": 12,
        "Harbour": 9,
        'Theatre "Orpheum"': 6,
        "Université": 6,
        "Northfield": 3,
        "Hospital, Main Gate": 1,
    }
)
_PAYMENTS = weighted({"card": 68, "cash": 24, "app": 8})
_PASSENGERS = (1, 1, 1, 1, 1, 2, 2, 3, 4)
_COMMENTS = (
    ("",) * 60
    + ("child seat", "luggage, large", 'asked for the "scenic" way')
    + ("left a bag,\ncalled back", "two stops:\n1. bakery\n2. station")
)


def _files(size: int, seed: int, bad_lines: float) -> Iterator[SampleFile]:
    """Generate the files. Bad lines have in turn too few fields, too many, and one of text."""
    months = [*_months(size)]
    words = random_words(seed, "rides")
    spoilt = int(bad_lines * 2**32)
    made = bad = 0

    def make(index: int, done: int, whole: int) -> Record:
        nonlocal made, bad
        made += 1
        row = _ride(words, made, *months[index], done, whole)
        if next(words) >= spoilt:
            return _csv(row), False
        bad += 1
        return _csv((row[:4], [*row, "", "duplicate"], [f"-- {made} rows exported"])[bad % 3]), True

    ends = share_out(size, [_MONTHS[month - 1] for _, month in months])
    for (year, month), records in zip(months, fill(ends, make), strict=True):
        yield SampleFile(f"{year}/{month:02}/rides.csv", records, _csv(_COLUMNS))


def _months(size: int) -> Iterator[tuple[int, int]]:
    for number in range(max(1, min(18, size // _MONTH_BYTES))):
        yield _FIRST_YEAR + number // 12, number % 12 + 1


def _ride(words: Words, number: int, year: int, month: int, done: int, whole: int) -> list[str]:
    """Generate the fields of a ride, when the share `done` of `whole` of the month is over."""
    day, rest = divmod(done * calendar.monthrange(year, month)[1], whole)
    second = second_of_day(rest, whole)
    start, end = pick(words, _ZONES), pick(words, _ZONES)
    meters = 600 + log_uniform(words, 14) + (9000 if "Airport" in (start, end) else 0)
    minutes = 3 + meters * (15 + below(words, 20)) // 10_000
    cents = 390 + meters * 21 // 100 + minutes * 35
    payment = pick(words, _PAYMENTS)
    tip = 0 if payment == "cash" else cents * pick(words, (0, 0, 10, 15, 20)) // 100
    date = f"{year}-{month:02}-{day + 1:02}"
    arrival = min(86_399, second + 60 * minutes + below(words, 60))
    return [
        str(number),
        f"{date} {_clock(second)}",
        f"{date} {_clock(arrival)}",
        start,
        end,
        f"{meters / 1000:.2f}",
        str(pick(words, _PASSENGERS)),
        payment,
        f"{cents / 100:.2f}",
        f"{tip / 100:.2f}",
        pick(words, _COMMENTS),
    ]


def _clock(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def _csv(fields: list[str] | tuple[str, ...]) -> bytes:
    r"""Format a row.

    >>> _csv(["1", 'a "b", c', ""])
    b'1,"a ""b"", c",\n'
    """
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(fields)
    return line.getvalue().encode()


KIND = Kind(
    "rides", _files, "csv", ("csv",), "--layout '{year:int}/{month:int}/rides.csv' --records csv"
)
