"""Numbers and text for people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.units import byte_unit, count_unit, format_seconds, printable, shorten, time_unit


@given(st.text())
def test_what_is_printable_can_be_encoded_and_seen(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert shown.isprintable()


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_what_is_shortened_fits_and_keeps_both_ends(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) <= length
    assert short == text if len(text) <= length else "…" in short
    if length > 4 and len(text) > length:
        assert short[0] == text[0]
        assert short[-1] == text[-1]


@pytest.mark.parametrize("unit", [byte_unit, count_unit])
@given(most=st.floats(min_value=0, max_value=1e15))
def test_an_axis_has_labels_of_few_digits(unit: object, most: float) -> None:
    scale, _ = unit(most)  # type: ignore[operator]
    assert most / scale < 2000 or scale >= 1e9


def test_an_axis_is_in_the_unit_that_fits() -> None:
    assert [time_unit(seconds)[1] for seconds in (10, 200, 900, 20_000)] == [
        "seconds",
        "seconds",
        "minutes",
        "hours",
    ]


def test_a_time_never_shows_sixty() -> None:
    assert [format_seconds(s) for s in (59.94, 59.97, 119.6, 3599.7)] == [
        "59.9 s",
        "1 min 0 s",
        "2 min 0 s",
        "1 h 0 min",
    ]
