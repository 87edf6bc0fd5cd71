"""Tests of values: typed ones, and combinations."""

from __future__ import annotations

import datetime
import pickle
import re

import pytest

from daskmr.data.dimensions.template import Field
from daskmr.data.dimensions.value_tests import (
    AllOf,
    Between,
    Matching,
    Not,
    OneOf,
    TypedOneOf,
    TypedRange,
    relative_day,
    typed,
)

HOUR, DAY, MOMENT = Field("hour", "int"), Field("day", "date"), Field("t", "%Y%m%d%H")
TODAY = datetime.date(2024, 3, 1)


def allowed(test, *values):
    return [value for value in values if test.allows(value)]


def test_numbers_compare_as_numbers():
    assert allowed(TypedRange(HOUR, "7", "12"), "07", "7", "12", "13", "6", "x") == [
        "07",
        "7",
        "12",
    ]
    assert allowed(TypedRange(HOUR, None, "-1"), "-2", "0") == ["-2"]
    assert allowed(TypedOneOf(HOUR, ("7",)), "7", "07", "70") == ["7", "07"]


def test_dates_compare_as_dates():
    week = TypedRange(DAY, "-7d", "yesterday", TODAY)
    values = ["20240222", "20240223", "2024-02-29", "20240301"]
    assert allowed(week, *values) == ["20240223", "2024-02-29"]
    assert week.describe() == "'-7d' (2024-02-23) to 'yesterday' (2024-02-29), compared as dates"
    assert TypedOneOf(DAY, ("today",), TODAY).accepted == {"2024-03-01", "20240301"}


def test_a_day_has_many_moments():
    day = TypedRange(MOMENT, "20240301", "2024-03-01")
    assert allowed(day, "2024022923", "2024030100", "2024030123", "2024030200") == [
        "2024030100",
        "2024030123",
    ]
    assert allowed(TypedRange(MOMENT, "2024030105", None), "2024030104", "2024030105") == [
        "2024030105"
    ]
    assert allowed(TypedOneOf(MOMENT, ("yesterday",), TODAY), "2024022907", "2024030100") == [
        "2024022907"
    ]


@pytest.mark.parametrize(
    ("make", "mistake"),
    [
        (
            lambda: TypedRange(HOUR, "noon", None),
            "hour 'noon' is not an integer; write one such as 7",
        ),
        (lambda: TypedRange(HOUR, "-7d", None, TODAY), "hour '-7d' is not an integer"),
        (lambda: TypedRange(HOUR, "12", "7"), "'12' is above '7', which allows nothing"),
        (lambda: TypedRange(DAY, "20240230", None), "is not a date; write one such as 2024-01-31"),
        (lambda: TypedRange(DAY, "today", None), "day 'today' is not a date"),
        (
            lambda: TypedOneOf(MOMENT, ("x",)),
            "is not of the form %Y%m%d%H; write one such as 2024013100",
        ),
        (lambda: TypedRange(DAY, "-999999d", None, TODAY), "-999999d"),
    ],
)
def test_values_of_another_type(make, mistake):
    with pytest.raises(ValueError, match=re.escape(mistake)):
        make()


def test_years_that_all_dates_begin_with():
    assert TypedRange(DAY, "20240105", "20240301").common_start() == "2024"
    assert TypedRange(DAY, "20231231", "20240301").common_start() == ""
    assert TypedRange(DAY, "20240105", None).common_start() == ""
    assert TypedRange(HOUR, "10", "12").common_start() == ""


def test_combinations():
    both = AllOf((OneOf(("a", "b")), Not(OneOf(("b",)))))
    assert allowed(both, "a", "b", "c") == ["a"]
    assert both.accepted == {"a"}
    assert both.describe() == "'a' or 'b' and anything except 'b'"
    assert AllOf((Between("201", "202"), Between("2011", "2012"))).common_start() == "201"
    assert pickle.loads(pickle.dumps(both)) == both


def test_tests_of_a_filter_take_the_type_of_the_dimension():
    assert typed(Between("7", "12"), HOUR) == TypedRange(HOUR, "7", "12")
    assert typed(OneOf(("7",)), HOUR).as_json() == ["7"]
    assert typed(Between("7", "12"), HOUR).as_json() == {"min": "7", "max": "12"}
    assert typed(OneOf(("7",)), Field("x")) == OneOf(("7",))
    assert isinstance(typed(Matching(re.compile("7")), HOUR), Matching)


def test_relative_days():
    days = [relative_day(text, TODAY) for text in ("today", "yesterday", "-1d", "+1d", "7d", "x")]
    assert days == [TODAY, *[datetime.date(2024, 2, 29)] * 2, datetime.date(2024, 3, 2), None, None]
