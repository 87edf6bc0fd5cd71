"""Dates of a run: relative ones, ranges of days, and the forms in options."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.dimensions.dates import days_of, fill, has_form, may_be_relative, parse_date
from daskmr.errors import InputError

DAY = datetime.date(2024, 3, 1)


@pytest.mark.parametrize("text", ["day=-7d..", "yesterday", "!today", "a,+1d", "..-1d"])
def test_what_may_be_relative(text: str) -> None:
    assert may_be_relative(text)


@pytest.mark.parametrize("text", ["", "2024-01-31", "web-1db", "host-1d", "todays", "7d", "-d"])
def test_what_cannot_be_relative(text: str) -> None:
    assert not may_be_relative(text)


def test_the_date() -> None:
    now = datetime.datetime.now(datetime.UTC).date()
    assert parse_date("2024-01-31") == parse_date("20240131") == datetime.date(2024, 1, 31)
    assert parse_date(datetime.datetime(2024, 1, 31, 5)) == parse_date(datetime.date(2024, 1, 31))
    assert now <= parse_date(None) <= now + datetime.timedelta(days=1)
    assert parse_date("yesterday") >= now - datetime.timedelta(days=1)
    with pytest.raises(InputError, match="--date 'soon' is not a date"):
        parse_date("soon")


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{date}", "2024-03-01"),
        ("out/{date:%Y/%m/%d}.txt", "out/2024/03/01.txt"),
        ("{date-1d}_{date+1d}", "2024-02-29_2024-03-02"),
        ("{date-1d:%d %b %Y at 100%%}", "29 Feb 2024 at 100%"),
        ("{{date}}", "{date}"),
        ("{{date_of_birth}} on {date}", "{date_of_birth} on 2024-03-01"),
        ("{day}/{d}/{}/{ date }", "{day}/{d}/{}/{ date }"),
        (r"/[0-9]{4}-{date:%m}/", "/[0-9]{4}-03/"),
    ],
)
def test_forms(text: str, filled: str) -> None:
    assert fill(text, DAY, "--output") == filled


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{dates}", "{dates} is not a date. Write {date}, {date-1d}"),
        ("{date-1x}", "{date-1x} is not a date"),
        ("{date-1}", "{date-1} is not a date"),
        ("{date:}", "{date:} is not a date"),
        ("{date:date}", "has the format 'date'"),
        ("{date:%H}", "has the format '%H'"),
        ("{date:%}", "has the format '%'"),
        ("{date-1d", "{date-1d has no }"),
        ("{date-999999d}", "is out of range"),
        ("{date_of_birth}", "for the text itself, {{date_of_birth}}"),
    ],
)
def test_mistakes(text: str, problem: str) -> None:
    with pytest.raises(InputError) as raised:
        fill(f"out-{text}", DAY, "--output")
    assert problem in str(raised.value)
    assert str(raised.value).startswith("--output: ")


def test_values_in_lists_and_mappings() -> None:
    given_: dict[str, Any] = {
        "a": ["{date}", 1, {"b": "{date:%Y}"}],
        "c": None,
        "d": ("{date-1d}",),
    }
    assert fill(given_, DAY, "x") == {
        "a": ["2024-03-01", 1, {"b": "2024"}], "c": None, "d": ("2024-02-29",)
    }  # fmt: skip
    assert given_["a"][0] == "{date}"
    assert fill(Path("x-{date}"), DAY, "x") == "x-2024-03-01"
    with pytest.raises(InputError, match=r"--param day: \{dates\}"):
        fill({"day": "{dates}"}, DAY, "--param")


@given(st.text(alphabet="{}date-1:%Ym x", max_size=20))
def test_other_text_stays(text: str) -> None:
    if not has_form(text):
        assert fill(text, DAY, "x") == text


def test_ranges_of_days() -> None:
    assert days_of("-1d..today", DAY) == [datetime.date(2024, 2, 29), DAY]
    assert days_of(" 20240301 .. 2024-03-01 ", DAY) == [DAY]


@pytest.mark.parametrize("text", ["2024-01-31", "..", "2024-01-31..", "a..b", "1..2..3", ""])
def test_what_is_no_range_of_days(text: str) -> None:
    with pytest.raises(InputError, match="is not a range of days; write one such as"):
        days_of(text, DAY)


def test_days_in_the_wrong_order() -> None:
    with pytest.raises(InputError, match=r"Swap them: --for-each-day 2024-02-29\.\.2024-03-01"):
        days_of("today..yesterday", DAY)
