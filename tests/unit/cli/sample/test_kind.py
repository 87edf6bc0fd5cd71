"""Records fill files to their ends, and follow the course of a day."""

from __future__ import annotations

from daskmr.cli.sample.draws import random_words
from daskmr.cli.sample.kind import clock, fill, hour_weight, second_of_day, share_out


def test_shares_end_at_the_size() -> None:
    assert share_out(1_000_003, [3, 1, 2])[-1] == 1_000_003
    assert share_out(1, [1, 1]) == [0, 1]


def test_each_file_has_a_record_and_knows_its_share() -> None:
    seen = []

    def make(index: int, done: int, whole: int, bad: int) -> bytes:
        seen.append((index, done, whole, bad))
        return b"four"

    files = list(map(list, fill([6, 7, 20], random_words(0, "test"), 0.0, make)))
    assert [len(records) for records in files] == [2, 1, 2]
    assert seen == [(0, 0, 6, 0), (0, 4, 6, 0), (1, 0, 1, 0), (2, 0, 8, 0), (2, 4, 8, 0)]


def test_bad_records_are_numbered_and_marked() -> None:
    numbers = []

    def make(index: int, done: int, whole: int, bad: int) -> bytes:
        numbers.append(bad)
        return b"x"

    [records] = fill([200], random_words(0, "test"), 0.5, make)
    marks = [is_bad for _, is_bad in records]
    assert [bool(number) for number in numbers] == marks
    assert list(filter(None, numbers)) == list(range(1, sum(marks) + 1))
    assert 60 < sum(marks) < 140


def test_a_day_goes_from_midnight_to_midnight_and_is_busy_in_the_evening() -> None:
    whole = 86_400
    seconds = [second_of_day(done, whole) for done in range(whole)]
    assert seconds == sorted(seconds)
    assert (seconds[0], clock(seconds[-1])[:5]) == (0, "23:59")
    counts = [0] * 24
    for second in seconds:
        counts[second // 3600] += 1
    assert max(range(24), key=counts.__getitem__) == 20
    assert counts[20] > 15 * counts[3] > 0
    assert max(range(24), key=hour_weight) == 20
