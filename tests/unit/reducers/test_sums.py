from __future__ import annotations

import math
import sys
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.reducing import combined, reduced, same_in_any_grouping

from daskmr.reducers import count, mean, total

ints = st.integers() | st.booleans() | st.integers(-3, 3)
floats = st.floats() | st.sampled_from([0.1, 0.2, -0.3, -0.0, 1e16, -1e16, 1e308, -1e308])
finite = floats.filter(math.isfinite)
decimals = st.decimals("-1e12", "1e12", places=3) | st.integers(-5, 5) | st.just(Decimal("-0"))
fractions = st.fractions() | st.integers(-5, 5)
randoms = st.randoms(use_true_random=False)


def lists(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=1, max_size=20)


def nearest(exact: Fraction) -> float:
    """The float that is nearest, of any size."""
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@settings(max_examples=50, deadline=None)
@given(lists(ints), randoms)
def test_integers_are_added_as_python_does(values: list[int], random: Random) -> None:
    assert same_in_any_grouping(total, values, random, True) == [sum(values)]
    assert type(reduced(total, values)[0]) is int


@settings(max_examples=50, deadline=None)
@given(lists(finite | ints), randoms)
@example([1e308, 1e308, -1e308], Random(1))
@example([sys.float_info.max, 2.0**969, 2.0**969], Random(1))
@example([5e-324, 1e308, -1e308, 1e16, 1], Random(1))
def test_a_sum_with_floats_is_the_exact_one_rounded(values: list[Any], random: Random) -> None:
    (found,) = same_in_any_grouping(total, values, random, True)
    if float in map(type, values):
        exact = sum(map(Fraction, values))
        assert repr(found) == repr(nearest(exact) + 0.0)


@settings(max_examples=50, deadline=None)
@given(lists(floats), randoms)
@example([math.inf, 1e308, 1e308], Random(1))
def test_infinities_and_nan_are_as_in_python(values: list[float], random: Random) -> None:
    (found,) = same_in_any_grouping(total, values, random, True)
    special = [value for value in values if not math.isfinite(value)]
    if special:
        assert repr(found) == repr(sum(special))


@settings(max_examples=50, deadline=None)
@given(lists(decimals), randoms)
def test_decimals_are_added_exactly(values: list[Any], random: Random) -> None:
    (found,) = same_in_any_grouping(total, values, random, True)
    assert found == sum(map(Fraction, values))
    assert isinstance(found, Decimal) == (Decimal in map(type, values))


def test_a_decimal_has_the_digits_of_the_most_precise() -> None:
    assert str(reduced(total, [Decimal("1.10"), Decimal("2.2"), 3])[0]) == "6.30"
    assert str(reduced(total, [Decimal("NaN"), 3])[0]) == "NaN"


@settings(max_examples=50, deadline=None)
@given(lists(fractions), randoms)
def test_fractions_are_added_exactly(values: list[Any], random: Random) -> None:
    assert same_in_any_grouping(total, values, random, True) == [sum(values)]


def test_fractions_and_floats_give_a_float() -> None:
    assert reduced(total, [Fraction(1, 3), 0.5, 1]) == [float(Fraction(11, 6))]


@settings(max_examples=50, deadline=None)
@given(lists(finite) | lists(ints) | lists(finite | ints), randoms)
@example([1e308, 1e308], Random(1))
@example([10**400, 10**400, 1], Random(1))
def test_the_mean_is_the_sum_by_the_number(values: list[Any], random: Random) -> None:
    (found,) = same_in_any_grouping(mean, values, random, True)
    assert type(found) is float
    exact = nearest(sum(map(Fraction, values)) / len(values))
    assert math.isclose(found, exact, rel_tol=1e-15, abs_tol=5e-324)


@settings(max_examples=50, deadline=None)
@given(lists(floats) | lists(decimals) | lists(fractions), randoms)
def test_other_means_do_not_depend_on_the_grouping(values: list[Any], random: Random) -> None:
    same_in_any_grouping(mean, values, random, True)


def test_the_mean_of_decimals_is_a_decimal() -> None:
    found = reduced(mean, [Decimal(1), Decimal(2), Decimal(2)])
    assert found == [Decimal("1.666666666666666666666666667")]
    assert reduced(mean, [Fraction(1, 3), 1]) == [Fraction(2, 3)]


@settings(max_examples=50, deadline=None)
@given(lists(st.none() | st.text() | floats), randoms)
def test_all_values_are_counted(values: list[Any], random: Random) -> None:
    assert same_in_any_grouping(count, values, random, True) == [len(values)]


def test_numbers_of_numpy_are_added_as_those_of_python() -> None:
    numpy = pytest.importorskip("numpy")
    large = numpy.int64(2**62)
    assert repr(reduced(total, [large, large, numpy.bool_(True)])) == repr([2**63 + 1])
    assert repr(reduced(total, [numpy.float64(0.1)] * 10)) == "[1.0]"
    assert repr(reduced(total, [numpy.float32(0.5), 1])) == "[1.5]"


@pytest.mark.parametrize("reducer", [total, mean])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "two"], "takes numbers, but was given 'two', of type str. Convert it in map"),
        ([1.5, None], "takes numbers, but was given None. Convert it in map, or do not write it."),
        ([[1]], "takes numbers, but was given [1], of type list."),
        ([1j], "takes numbers, but was given 1j, of type complex."),
        ([0.5, Decimal(1)], "takes decimals or floats, not both"),
        ([Fraction(1, 2), Decimal(1)], "takes decimals or fractions, not both"),
        ([Decimal("1e9000"), Decimal("1e-9000")], "has at most 10,000 digits"),
    ],
)
def test_other_values_are_named(reducer: Any, values: list[Any], message: str) -> None:
    for call in (reduced, combined):
        with pytest.raises(TypeError) as caught:
            call(reducer, values)
        assert str(caught.value).startswith(f"{reducer!r} ")
        assert message.removeprefix("has") in str(caught.value)


def test_no_values() -> None:
    assert reduced(total, []) == [0]
    assert reduced(count, []) == [0]
    with pytest.raises(TypeError, match="mean was given no values"):
        reduced(mean, [])


def test_what_combine_writes_is_plain_where_that_is_exact() -> None:
    assert combined(total, [1, 2]) == [3]
    assert combined(total, [0.5, 0.25]) == [0.75]
    for values in ([0.1, 0.2], [1e308, 1e308]):
        assert type(combined(total, values)[0]).__name__ == "Partial"
    assert reduced(total, [*combined(total, [1e308, 1e308]), -1e308]) == [1e308]


def test_integers_beyond_floats_may_be_mixed_with_floats() -> None:
    values = [10**310, 1.5, -(10**310), 2.0]
    assert reduced(total, values) == [3.5]
    assert reduced(mean, values) == [0.875]
