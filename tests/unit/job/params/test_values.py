"""Values of parameters are made from text and from files, and recorded as plain data."""

from __future__ import annotations

import decimal
import enum
import math
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from daskmr.errors import InputError
from daskmr.job.params.values import (
    REQUIRED,
    Kind,
    convert,
    describe,
    explain,
    kind_of,
    plain,
    stands_for,
    typed,
)


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


@pytest.mark.parametrize(
    ("default", "given", "value"),
    [
        (5, "10", 10),
        (5, "-1_000", -1000),
        (0.5, "1e-3", 0.001),
        (0.5, 2, 2.0),
        (False, "Yes", True),
        (True, "0", False),
        (True, False, False),
        ("x", "", ""),
        ("x", "10", "10"),
        (None, "10", "10"),
        (REQUIRED, "10", "10"),
        (date(2024, 1, 1), "2024-02-29", date(2024, 2, 29)),
        (date(2024, 1, 1), "20240229", date(2024, 2, 29)),
        (datetime(2024, 1, 1), "2024-02-29T12:30", datetime(2024, 2, 29, 12, 30)),
        (datetime(2024, 1, 1), date(2024, 2, 29), datetime(2024, 2, 29)),
        ([], "a, b", ["a", "b"]),
        ([], "", []),
        ([1], "1,2", [1, 2]),
        ([1], "[1, 2]", [1, 2]),
        ([0, 0.5], "1,2.5", [1, 2.5]),
        ((0, 0.5), [1.0, 2], (1.0, 2)),
        ((1.5,), [1, 2], (1.0, 2.0)),
        ({"x"}, "a,b,a", {"a", "b"}),
        ({}, '{"a": [1]}', {"a": [1]}),
        (Mode.FAST, "EXACT", Mode.EXACT),
        (Mode.FAST, "2", Mode.EXACT),
        (Mode.FAST, Mode.EXACT, Mode.EXACT),
        (Path("/a"), "/b", Path("/b")),
        (decimal.Decimal("0.1"), "0.20", decimal.Decimal("0.20")),
    ],
)
def test_a_default_gives_the_type(default: Any, given: Any, value: Any) -> None:
    kind = kind_of(None, default)
    found = convert(given, kind)
    assert (found, type(found)) == (value, type(value))
    form = plain(found)
    assert stands_for(form, found, kind)
    assert plain(form) == form


@pytest.mark.parametrize(
    ("default", "given", "why"),
    [
        (5, "1.5", "a whole number"),
        (5, "", "a whole number"),
        (5, True, "a whole number"),
        (5, 1.0, "a whole number"),
        (0.5, "x", "a number"),
        (0.5, True, "a number"),
        (True, "on", "true or false"),
        (True, 1, "true or false"),
        ("x", 10, "text. Quote it, or give it as --param p=10"),
        ("x", [1], "it takes text."),
        ("x", None, "text"),
        (date(2024, 1, 1), "1.2.2024", "a date such as 2024-01-31"),
        (date(2024, 1, 1), datetime(2024, 1, 1), "a date"),
        ([1], "1,b", "each a whole number"),
        ([1, 0.5], "1,b", "each a number"),
        ([1, 0.5], [True], "each a number"),
        ([1], "[1", "a list"),
        ([1], 1, "a list"),
        ({}, "[]", "a JSON object"),
        (Mode.FAST, "SLOW", "one of FAST, EXACT"),
        (decimal.Decimal(1), "x", "text that Decimal accepts (InvalidOperation"),
    ],
)
def test_what_does_not_fit_is_explained(default: Any, given: Any, why: str) -> None:
    kind = kind_of(None, default)
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever the type raises
        convert(given, kind)
    text = explain("p", given, kind, caught.value)
    assert text.startswith(f"The parameter p cannot be {given!r}: it takes ")
    assert why in text


@pytest.mark.parametrize(
    ("type_", "given", "value"),
    [
        (tuple[str, int], "a,5", ("a", 5)),
        (tuple[str, int], ["a", 5], ("a", 5)),
        (tuple[int, ...], "1,2,3", (1, 2, 3)),
        (list[tuple[str, int]], '[["a", 1], ["b", 2]]', [("a", 1), ("b", 2)]),
        (dict[str, date], '{"a": "2024-01-31"}', {"a": date(2024, 1, 31)}),
        (dict[str, date], {"a": date(2024, 1, 31)}, {"a": date(2024, 1, 31)}),
    ],
)
def test_types_may_name_those_of_elements(type_: Any, given: Any, value: Any) -> None:
    kind = kind_of(type_, REQUIRED)
    assert convert(given, kind) == value
    assert stands_for(plain(value), value, kind)
    assert typed("p", value, kind) == value


def test_a_tuple_of_given_types_has_as_many_elements() -> None:
    kind = kind_of(tuple[str, int], REQUIRED)
    assert describe(kind) == 'a list such as a,b or ["a", "b"], of 2: text, a whole number'
    with pytest.raises(ValueError, match="zip"):
        convert("a", kind)


def test_a_function_makes_the_value() -> None:
    kind = kind_of(lambda text: text.split(":"), None)
    assert convert("a:b", kind) == ["a", "b"]
    assert describe(kind) == "text that <lambda> accepts"
    assert kind_of(list[int], REQUIRED) == Kind(list, int)
    with pytest.raises(InputError, match="is a class, or a function"):
        kind_of("int", 5)


def test_a_default_gets_the_type_that_is_given() -> None:
    assert repr(typed("p", 1, Kind(float))) == "1.0"
    assert typed("p", "2024-01-31", Kind(date)) == date(2024, 1, 31)
    assert typed("p", None, Kind(int)) is None
    assert typed("p", 5, Kind(lambda text: text)) == 5
    with pytest.raises(
        InputError, match=r"cannot be 'x': it takes a whole number\. This is its default"
    ):
        typed("p", "x", Kind(int))


def test_what_plain_data_cannot_stand_for() -> None:
    class Own:
        pass

    assert not stands_for(plain(Own()), Own(), Kind(Own))
    assert not stands_for(plain([Own()]), [Own()], Kind(list))
    assert plain(math.inf) == "inf"
    assert stands_for("nan", math.nan, Kind(float))
