"""Lines as values."""

from __future__ import annotations

from support.records import bad_in, pairs_in

from daskmr.data.readers.records import RecordFormat

LINES = RecordFormat("lines")


def test_lines_are_values_and_end_at_newlines_only() -> None:
    data = "a\tb\r\n\n\u2028\x0b\nlast".encode()
    values = ["a\tb", "", "\u2028\x0b", "last"]
    assert pairs_in(data, LINES) == [(n, "f", value) for n, value in enumerate(values, 1)]


def test_long_lines_and_bytes_that_are_not_utf8() -> None:
    ((number, reason, raw),) = bad_in(b"\xff\n" + b"x" * 50 + b"\n", LINES, max_record_bytes=20)
    assert (number, reason, raw.length) == (2, "longer than max-record-bytes", 50)
