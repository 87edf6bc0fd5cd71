"""Sample data of the kind `rides`: CSV of the rides of taxis, with a header, by year and month.

Names of zones have commas, and comments have quotes and line ends, so that fields are quoted.
"""

from __future__ import annotations

import calendar
import csv
from collections.abc import Iterator, Sequence

from daskmr.cli.sample.draws import Words, below, log_uniform, pick, random_words, weighted
from daskmr.cli.sample.kind import Kind, SampleFile, clock, fill, second_of_day, share_out

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
    made = 0

    def make(index: int, done: int, whole: int, bad: int) -> bytes:
        nonlocal made
        made += 1
        row = _ride(words, made, *months[index], done, whole)
        if bad:
            row = (row[:4], [*row, "", "duplicate"], [f"-- {made} rows exported"])[bad % 3]
        return _csv(row)

    ends = share_out(size, [_MONTHS[month - 1] for _, month, _ in months])
    for (year, month, _), records in zip(months, fill(ends, words, bad_lines, make), strict=True):
        yield SampleFile(f"{year}/{month:02}/rides.csv", records, _csv(_COLUMNS))


def _months(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield the year, the month and its days, for each file."""
    for number in range(max(1, min(18, size // _MONTH_BYTES))):
        year, month = _FIRST_YEAR + number // 12, number % 12 + 1
        yield year, month, calendar.monthrange(year, month)[1]


def _ride(
    words: Words, number: int, year: int, month: int, days: int, done: int, whole: int
) -> list[str]:
    """Generate the fields of a ride, when the share `done` of `whole` of the month is over."""
    day, rest = divmod(done * days, whole)
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
        f"{date} {clock(second)}",
        f"{date} {clock(arrival)}",
        start,
        end,
        f"{meters / 1000:.2f}",
        str(pick(words, _PASSENGERS)),
        payment,
        f"{cents / 100:.2f}",
        f"{tip / 100:.2f}",
        pick(words, _COMMENTS),
    ]


class _Encoded:
    """A file whose `write` returns the text in UTF-8, and so does `writerow` of its writer."""

    write = staticmethod(str.encode)


_writer = csv.writer(_Encoded(), lineterminator="\n")


def _csv(fields: Sequence[str]) -> bytes:
    r"""Format a row.

    >>> _csv(["1", 'a "b", c', ""])
    b'1,"a ""b"", c",\n'
    """
    row: bytes = _writer.writerow(fields)
    return row


KIND = Kind("rides", _files, "csv", ("csv",), "{year:int}/{month:int}/rides.csv", "csv")
