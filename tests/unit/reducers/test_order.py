from __future__ import annotations

import datetime
import heapq
import math
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reducing import combined, reduced, same_in_any_grouping

from daskmr.reducers import maximum, minimum, top

same = st.sampled_from(
    [0, 0.0, -0.0, False, 1, 1.0, True, Decimal("1.0"), Decimal("1.00"), Fraction(1)]
)
numbers = same | st.integers() | st.floats() | st.fractions() | st.decimals(allow_nan=False)
plain = st.integers() | same.filter(lambda value: type(value) in (int, float, bool))
elements = st.none() | plain | st.text(max_size=2) | st.floats()
kinds = [
    numbers,
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.timedeltas(),
    st.tuples(st.integers(0, 3), st.text(max_size=1)),
    st.tuples(st.floats(), st.integers(0, 2)),
    st.lists(elements, max_size=3).map(tuple),
]
some = st.one_of([st.lists(kind, min_size=1, max_size=20) for kind in kinds])
clear = st.one_of([st.lists(kind, min_size=1) for kind in (kinds[1], *kinds[3:9])])
randoms = st.randoms(use_true_random=False)


@pytest.mark.parametrize("reducer", [minimum, maximum, top(1), top(3), top(100)])
@settings(max_examples=50, deadline=None)
@given(values=some, random=randoms)
def test_no_grouping_or_order_changes_a_byte(
    reducer: Any, values: list[Any], random: Random
) -> None:
    same_in_any_grouping(reducer, values, random, True)


@settings(max_examples=50, deadline=None)
@given(clear)
def test_the_order_is_that_of_python(values: list[Any]) -> None:
    assert reduced(minimum, values) == [min(values)]
    assert reduced(maximum, values) == [max(values)]
    assert reduced(top(3), values) == heapq.nlargest(3, values)


@settings(max_examples=50, deadline=None)
@given(st.lists(numbers.filter(lambda value: value == value), min_size=1))
def test_mixed_numbers_compare_by_their_size(values: list[Any]) -> None:
    assert reduced(minimum, values) == [min(values)]
    assert reduced(maximum, values) == [max(values)]
    assert reduced(top(3), values) == heapq.nlargest(3, values)


def test_nan_is_never_hidden_but_is_last_in_top() -> None:
    values = [1.0, math.nan, -math.inf, math.inf]
    assert repr(reduced(minimum, values)) == repr(reduced(maximum, values)) == "[nan]"
    assert repr(reduced(top(9), values)) == "[inf, 1.0, -inf, nan]"
    assert reduced(maximum, [-math.inf, math.inf]) == [math.inf]


def test_a_zero_has_no_sign() -> None:
    for zero in (Decimal("-0"), -0.0, Decimal("-0.00")):
        for reducer in (minimum, maximum, top(1)):
            assert reduced(reducer, [zero])[0].__str__()[0] == "0"


def test_top_of_a_score_and_a_name() -> None:
    views = [(3, "b"), (7, "a"), (3, "c"), (1, "d")]
    assert reduced(top(2), views) == [(7, "a"), (3, "c")]
    assert reduced(top(2), combined(top(2), views[:3]) + views[3:]) == [(7, "a"), (3, "c")]


@pytest.mark.parametrize("reducer", [minimum, maximum, top(2)])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            [1, "two"],
            "takes values of one kind, such as 1, but was given 'two', of type str. Write",
        ),
        ([2, None], "takes numbers, text, dates, times or tuples, but was given None."),
        ([None], "takes numbers, text, dates, times or tuples, but was given None."),
        ([[2], [1]], "but was given [2], of type list."),
        ([{1}, {2}], "but was given {1}, of type set."),
        ([datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1)], "takes values of one kind"),
    ],
)
def test_values_that_do_not_compare_are_named(
    reducer: Any, values: list[Any], message: str
) -> None:
    for call in (reduced, combined):
        with pytest.raises(TypeError) as caught:
            call(reducer, values)
        assert str(caught.value).startswith(f"{reducer!r} ")
        assert message in str(caught.value)


def test_numbers_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    values = [numpy.float64(2.5), numpy.int64(7), 3]
    assert repr(reduced(maximum, values)) == "[7]"
    assert repr(reduced(top(2), values)) == "[7, 3]"


def test_no_values() -> None:
    assert reduced(top(2), []) == []
    with pytest.raises(TypeError, match="minimum was given no values"):
        reduced(minimum, [])


@pytest.mark.parametrize("n", [0, -1, 2.0, "ten", True, None])
def test_top_takes_a_positive_number(n: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"top takes a number of values"):
        top(n)
