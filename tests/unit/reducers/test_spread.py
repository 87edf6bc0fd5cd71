from __future__ import annotations

import datetime
import math
import statistics
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reducing import combined, reduced, same_in_any_grouping

from daskmr.data.writers.jsonl import JsonRows
from daskmr.job.row_context import RowContext
from daskmr.reducers import collect, histogram, quantiles

few = st.sampled_from([0, 0.0, -0.0, 1, 1.0, True, 2, 2.5, Fraction(1, 2)])
numbers = few | st.integers() | st.floats()
finite = st.integers(-100, 100) | st.floats(-1e6, 1e6)
decimals = st.decimals(-1000, 1000, places=2) | st.sampled_from(
    [Decimal("NaN"), Decimal("Infinity")]
)
randoms = st.randoms(use_true_random=False)
PLACES = (0, 0.01, 0.25, 0.5, 0.9, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(few, min_size=1, max_size=60) | st.lists(numbers, min_size=1), randoms)
def test_quantiles_are_the_same_in_any_grouping(values: list[Any], random: Random) -> None:
    same_in_any_grouping(quantiles(*PLACES), values, random, True)


@settings(max_examples=50, deadline=None)
@given(st.lists(decimals, min_size=1), randoms)
def test_quantiles_of_decimals_are_too(values: list[Any], random: Random) -> None:
    (found,) = same_in_any_grouping(quantiles(*PLACES), values, random, True)
    assert {*map(type, found.values())} == {Decimal}


@settings(max_examples=50, deadline=None)
@given(st.lists(finite, min_size=1, max_size=60))
def test_quantiles_are_interpolated_linearly(values: list[Any]) -> None:
    ordered = [*map(Fraction, sorted(values))]
    found = reduced(quantiles(*PLACES), values)[0].values()
    for place, number in zip(PLACES, found, strict=True):
        position = Fraction(str(place)) * (len(values) - 1)
        low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
        exact = low + (high - low) * (position % 1)
        assert low <= number <= high
        assert math.isclose(number, exact, rel_tol=1e-12, abs_tol=1e-9)
    (median,) = reduced(quantiles(0.5), values)
    assert math.isclose(median, statistics.median(values), rel_tol=1e-12, abs_tol=1e-9)


def test_quantiles_agree_with_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    values = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    found = reduced(quantiles(0.1, 0.5, 0.75), values)
    assert found == [
        dict(zip(("p10", "p50", "p75"), numpy.quantile(values, [0.1, 0.5, 0.75]), strict=True))
    ]


def test_one_quantile_is_a_number_and_several_are_named() -> None:
    assert reduced(quantiles(0.5), [1, 2]) == [1.5]
    assert reduced(quantiles(0.5, 0.999), [1, 1]) == [{"p50": 1.0, "p99.9": 1.0}]
    assert [*reduced(quantiles(0.9999999, 1, 0, 1e-7), [1, 1])[0]] == [
        "p99.99999", "p100", "p0", "p0.00001",
    ]  # fmt: skip


def test_quantiles_of_extremes() -> None:
    assert reduced(quantiles(0.5), [-1.7e308, 1.7e308]) == [0.0]
    assert repr(reduced(quantiles(0.5), [1.0, math.nan])) == "[nan]"
    assert reduced(quantiles(0.5), [1.0, math.inf]) == [math.inf]
    assert reduced(quantiles(0.5), [10**400]) == [math.inf]
    assert str(reduced(quantiles(0.5), [Decimal("100.00")])[0]) == "100"
    assert str(reduced(quantiles(0.25), [Decimal(1), Decimal("2.5")])[0]) == "1.375"


@pytest.mark.parametrize("reducer", [quantiles(0.5), histogram([0, 2])])
def test_partial_results_stay_as_they_are(reducer: Any) -> None:
    """A `reduce` may call reducers several times with the same values."""
    parts = [*combined(reducer, [1] * 4), *combined(reducer, [3] * 6)]
    assert reduced(reducer, parts) == reduced(reducer, parts)


def test_quantiles_combine_only_where_values_repeat() -> None:
    different = [*range(50)]
    assert combined(quantiles(0.5), different) is not different
    assert combined(quantiles(0.5), different) == different
    assert len(combined(quantiles(0.5), [1, 2] * 25)) == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, "two"], "takes numbers, but was given 'two', of type str."),
        ([1, None], "takes numbers, but was given None."),
        ([1j], "takes numbers, but was given 1j, of type complex."),
        ([1, Decimal(1)], "takes decimals or other numbers, not both"),
    ],
)
def test_quantiles_name_other_values(values: list[Any], message: str) -> None:
    with pytest.raises(TypeError) as caught:
        reduced(quantiles(0.5, 0.9), values)
    assert f"quantiles(0.5, 0.9) {message}" in str(caught.value)


def test_quantiles_of_decimals_and_others_do_not_mix_in_parts_either() -> None:
    parts = [*combined(quantiles(0.5), [1, 1]), *combined(quantiles(0.5), [Decimal(1)] * 2)]
    for values in (parts, parts[::-1]):
        with pytest.raises(TypeError, match="decimals or other numbers"):
            reduced(quantiles(0.5), values)


@pytest.mark.parametrize(
    "given_", [(), ("0.5",), (None,), (True,), (2,), (-0.1,), (math.nan,), (0.5, 0.5)]
)
def test_quantiles_take_probabilities(given_: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^quantiles "):
        quantiles(*given_)


@settings(max_examples=50, deadline=None)
@given(st.lists(finite | st.sampled_from([-5, 0, 0.0, 10]), min_size=1, max_size=40), randoms)
def test_a_histogram_counts_every_value(values: list[Any], random: Random) -> None:
    (found,) = same_in_any_grouping(histogram([-5, 0, 10]), values, random, True)
    assert found == {
        "..-5": sum(value < -5 for value in values),
        "-5..0": sum(-5 <= value < 0 for value in values),
        "0..10": sum(0 <= value < 10 for value in values),
        "10..": sum(value >= 10 for value in values),
    }


def test_edges_may_be_text_or_dates() -> None:
    assert reduced(histogram(["m"]), ["a", "z", "m"]) == [{"..m": 1, "m..": 2}]
    day = datetime.date(2026, 1, 1)
    assert reduced(histogram([day]), [day]) == [{"..2026-01-01": 0, "2026-01-01..": 1}]
    assert reduced(histogram(range(0, 20, 10)), [5]) == [{"..0": 0, "0..10": 1, "10..": 0}]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("two", "'two', of type str"), (None, "None"), (math.nan, "nan, of type float")],
)
def test_a_histogram_names_other_values(value: Any, shown: str) -> None:
    for values in ([1, value], [value], [1, value, 3]):
        with pytest.raises(TypeError) as caught:
            reduced(histogram([0, 10]), values)
        assert str(caught.value).startswith(
            f"histogram([0, 10]) takes values that compare with its edges, but was given {shown}."
        )


def test_a_histogram_of_values_that_do_not_compare() -> None:
    with pytest.raises(TypeError, match=r"takes values that compare, but was given \(1, 'a'\)"):
        reduced(histogram([(1,)]), [(1, "a"), (1, 2)])


@pytest.mark.parametrize("edges", [[], 10, "abc", [2, 1], [1, 1], [math.nan], [1, math.nan]])
def test_edges_are_ascending(edges: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"^histogram takes "):
        histogram(edges)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers() | st.text(), min_size=1), randoms)
def test_collect_keeps_the_order(values: list[Any], random: Random) -> None:
    assert same_in_any_grouping(collect, values, random, False) == [values]


def test_a_collected_list_is_one_cell_of_a_row() -> None:
    context = RowContext(JsonRows(("user", "events")))
    collect("key", [1, 2], context)
    assert context.written == ['{"user":"key","events":[1,2]}\n']
