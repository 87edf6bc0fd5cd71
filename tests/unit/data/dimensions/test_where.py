"""``--where NAME=SPEC``."""

from __future__ import annotations

import datetime

import pytest

from daskmr.data.dimensions.template import Field
from daskmr.data.dimensions.where import parse_where, where_texts
from daskmr.errors import InputError

FIELDS = (Field("day", "date"), Field("host"), Field("hour", "int"))
TODAY = datetime.date(2024, 3, 1)


def allowed(text, *values):
    [(_, [test])] = parse_where([text], FIELDS, TODAY).items()
    return [value for value in values if test.allows(value)]


@pytest.mark.parametrize(
    ("text", "values", "kept"),
    [
        ("host=a", ["a", "b"], ["a"]),
        ("host=a,b", ["a", "b", "c"], ["a", "b"]),
        ("host=pre-beta", ["pre_beta", "pre-beta"], ["pre_beta", "pre-beta"]),
        ("host=b..c", ["a", "b", "bz", "c", "cz"], ["b", "bz", "c"]),
        ("host=b..", ["a", "b", "c"], ["b", "c"]),
        ("host=..b", ["a", "b", "c"], ["a", "b"]),
        ("host=/web[12]/", ["web1", "web10"], ["web1"]),
        ("host=//", ["", "a"], [""]),
        ("host=!a", ["a", "b"], ["b"]),
        ("host=!/web.*/", ["web1", "db"], ["db"]),
        ("host=!b..c", ["a", "b", "d"], ["a", "d"]),
        ("host=*", ["a"], ["a"]),
        ("host=a , c..d", ["a", "b", "c", "d", "e"], ["a", "c", "d"]),
        ("host=!a..b,d..", ["a", "c", "d"], ["c"]),
        ("hour=..6, 9,22 .. 23", ["05", "7", "9", "21", "22"], ["05", "9", "22"]),
        ("host=a=b", ["a=b", "a"], ["a=b"]),
        ("host=-1d..today", ["20240228", "20240229", "20240301"], ["20240229", "20240301"]),
        ("host=yesterday", ["20240229", "yesterday"], ["20240229"]),
        ("hour=7..12", ["07", "12", "13"], ["07", "12"]),
        ("hour=-7..", ["-7", "-8"], ["-7"]),
        ("day=-7d..-1d", ["20240222", "2024-02-23", "20240301"], ["2024-02-23"]),
        ("day=today,20240105", ["2024-01-05", "20240301", "20240302"], ["2024-01-05", "20240301"]),
    ],
)
def test_forms(text, values, kept):
    assert allowed(text, *values) == kept


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("host", "has no =; write NAME=a"),
        ("=a", "has no name"),
        ("hst=a", "no dimension 'hst', only day, host, hour. Did you mean 'host'?"),
        ("host=", "a value is empty"),
        ("host=a,", "a value is empty"),
        ("host=..", "it is not a range"),
        ("host=a,..", "it is not a range"),
        ("host=a,!b", "! comes first"),
        ("host=a..b,/c/", "a regex cannot be one of several values"),
        ("host=a..b..c", "it is not a range"),
        ("host=/a/,b", "a regex cannot be one of several values; write host=/a|b/"),
        ("HOST=a", "Did you mean 'host'?"),
        ("host=/[/", "the regex is not valid"),
        ("host=b..a", "'b' is above 'a'"),
        ("host=9..12", "such as {host:int}: they are compared as text"),
        ("host=2024-1-5..2024-01-31", "such as {host:date}: they are compared as text"),
        ("hour=noon", "hour 'noon' is not an integer"),
        ("hour=7..3", "'7' is above '3'"),
        ("day=2024", "day '2024' is not a date; write one such as 2024-01-31"),
        ("day=-999999d..", "out of range"),
    ],
)
def test_mistakes(text, mistake):
    with pytest.raises(InputError) as caught:
        parse_where([text], FIELDS, TODAY)
    assert str(caught.value).startswith(f"--where {text!r}")
    assert mistake in str(caught.value)


def test_no_dimensions_to_filter():
    with pytest.raises(InputError, match="the layout has no dimensions"):
        parse_where(["day=1"], (), TODAY)


def test_all_of_one_name_hold():
    tests = parse_where(["host=a,b", "host=!a", "hour=1"], FIELDS, TODAY)
    assert [*tests] == [1, 2]
    assert len(tests[1]) == 2


def test_a_union_is_described():
    [[test, negated]] = parse_where(["host=a,b,c..d", "host=!a,c..d"], FIELDS, TODAY).values()
    assert test.describe() == "'c' to 'd', compared as text; or 'a' or 'b'"
    assert negated.describe() == (
        "anything except 'c' to 'd', compared as text and anything except 'a'"
    )
    assert test.texts == ("a", "b")


def test_from_python():
    where = {"day": datetime.date(2024, 1, 31), "hour": 7, "host": ("a", "b")}
    assert where_texts(where) == ("day=2024-01-31", "hour=7", "host=a,b")
    assert where_texts(["a=1"]) == where_texts("a=1") == ("a=1",)
    for wrong in (7, [7], {"a": 1.5}, {"a": True}, {"a": ["x,y"]}, None):
        with pytest.raises(InputError, match="where"):
            where_texts(wrong)
