"""Exact sums: `count`, `total` and `mean`."""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from operator import countOf
from typing import Any

from daskmr.reducers.base import Partial, Reducer, chunks, part_state, plain, refuse

__all__ = ["count", "mean", "total"]

# A sum: of the integers; of the floats, as floats whose exact sum it is, or None without any; and of
# decimals or fractions, or None.
Sum = tuple[int, tuple[float, ...] | None, Any]

_LARGE = 1e300  # beyond, an integer may be no float

_NOTHING: Sum = (0, None, None)
_INTS = frozenset((int, bool))
_FLOATS = frozenset((float,))
# Adds without rounding: a sum of more digits is an error.
_EXACT = decimal.Context(prec=10_000, Emin=-100_000, Emax=100_000, traps=[decimal.Inexact])
_DIVISION = decimal.Context(prec=28, traps=[])


class _Count(Reducer):
    """Count the values, whatever they are.

    Writes an `int`.
    """

    name = "count"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        context.write(key, self._gather(values))

    def _gather(self, values: Sequence[Any]) -> int:
        if type(values) is list and Partial not in map(type, values):
            return len(values)
        counted = 0
        for chunk in chunks(values):
            parts = countOf(map(type, chunk), Partial)
            counted += len(chunk) - parts
            if parts:
                for part in chunk:
                    if type(part) is Partial:
                        counted = part_state(part, "count", counted, int.__add__)
        return counted


class _Total(Reducer):
    """Add up numbers exactly.

    Writes an `int` for integers, and else a `float`, `Decimal` or `Fraction`. A float is the exact sum,
    rounded once, so that it does not depend on the order of additions. Integers and floats may be
    mixed; decimals only with integers, because Python does not add them to floats either. NaN, or both
    infinities, give NaN.

    Raises
    ------
    TypeError
        For a value that is no real number, or decimals along with floats or fractions.
    """

    name = "total"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_in_memory(values)
        if added is None:
            added = _result_of(self._gather(values) or _NOTHING)
        context.write(key, added)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_of_integers(values)
        context.write(key, self._part(self._gather(values)) if added is None else added)

    def _part(self, state: Sum) -> Any:
        """Return a sum as a plain number if that is the same."""
        whole, floats, other = state
        if floats is None:
            return _result_of(state)
        if whole == 0 and other is None and len(floats) < 2:
            return floats[0] if floats else 0.0
        return Partial("total", state)

    def _taken(self, values: list[Any], kinds: set[type]) -> Sum:
        return sum_of(self, values, kinds)

    def _merged(self, state: Sum | None, more: Sum) -> Sum:
        return _both(self, state or _NOTHING, more)

    def _result(self, state: Sum) -> Any:
        return _result_of(state)


class _Mean(Reducer):
    """Average numbers: their exact sum, as `total` gives it, divided by their number.

    Writes a `float`; for decimals a `Decimal` of 28 digits, for fractions a `Fraction`.

    Raises
    ------
    TypeError
        For a value that is no real number, or decimals along with floats or fractions.
    """

    name = "mean"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_in_memory(values)
        if added is None or abs(added) > _LARGE:
            super().__call__(key, values, context)
        else:
            context.write(key, added / len(values))

    def _taken(self, values: list[Any], kinds: set[type]) -> tuple[int, Sum]:
        return len(values), sum_of(self, values, kinds)

    def _merged(self, state: Any, more: Any) -> tuple[int, Sum]:
        return more if state is None else (state[0] + more[0], _both(self, state[1], more[1]))

    def _result(self, state: tuple[int, Sum]) -> Any:
        number, added = state
        result = _result_of(added)
        if type(result) is Decimal:
            return _DIVISION.divide(result, Decimal(number))
        try:
            if type(result) is float and math.isinf(result):
                return _rounded(_fraction_of(added) / number)  # if only the sum is too large
            return result / number
        except OverflowError:  # an infinity among the values, or a very large integer
            return result if type(result) is float else _rounded(Fraction(result, number))


def _sum_of_integers(values: Sequence[Any]) -> int | None:
    """Return the sum of integers that are in memory; ``None`` of other values."""
    if type(values) is list and values and type(values[0]) is int:
        try:
            added = sum(values)
        except TypeError:
            return None
        return added if type(added) is int else None
    return None


def _sum_in_memory(values: Sequence[Any]) -> float | None:
    """Return the sum of integers, or of floats, that are in memory; ``None`` of other values."""
    added = _sum_of_integers(values)
    if added is None and type(values) is list and values and _FLOATS.issuperset(map(type, values)):
        return _float_of(values)
    return added


def _float_of(values: list[float]) -> float | None:
    """Return the sum of floats if no number of them is too large, infinite or NaN."""
    try:
        added = math.fsum(values) + 0.0  # a zero without a sign
    except (OverflowError, ValueError):
        return None
    return added if math.isfinite(added) else None


def sum_of(reducer: Reducer, values: list[Any], kinds: set[type]) -> Sum:
    """Return the exact sum of `values`, which have the types `kinds`."""
    if kinds <= _FLOATS:
        return _sum_of_floats(values)
    if kinds <= _INTS:
        return sum(values), None, None
    values = plain(values, kinds)
    whole, floats, other = 0, [], []
    for value in values:
        if isinstance(value, float):
            floats.append(float(value))
        elif isinstance(value, int):
            whole += int(value)
        elif isinstance(value, Decimal | Fraction):
            other.append(value)
        else:
            raise refuse(reducer, "numbers", value)
    state: Sum = (whole, None, None)
    if floats:
        state = _both(reducer, state, _sum_of_floats(floats))
    for value in other:
        state = _both(reducer, state, (0, None, value))
    return state


def _sum_of_floats(values: Sequence[float]) -> Sum:
    """Return floats with the same exact sum: that sum rounded, what is left of it rounded, and so on."""
    left = [*values]
    found: list[float] = []
    try:
        while (added := math.fsum(left)) and math.isfinite(added):
            found.append(added)
            left.append(-added)
    except (OverflowError, ValueError):  # very large numbers, or both infinities
        added = math.nan
    if math.isfinite(added):
        return 0, (*found,), None
    special = [value for value in values if not math.isfinite(value)]
    if special:
        return 0, (sum(special),), None
    return 0, (), sum(map(Fraction, values), Fraction())


def _both(reducer: Reducer, one: Sum, two: Sum) -> Sum:
    whole = one[0] + two[0]
    other = one[2] if two[2] is None else two[2]
    if one[2] is not None and two[2] is not None:
        other = _add(reducer, one[2], two[2])
    if one[1] is None or two[1] is None:
        floats = two[1] if one[1] is None else one[1]
    else:
        _, floats, large = _sum_of_floats(one[1] + two[1])
        if large is not None:
            other = large if other is None else _add(reducer, other, large)
    if isinstance(other, Decimal) and floats is not None:
        raise refuse(reducer, "decimals or floats, not both", other)
    return whole, floats, other


def _add(reducer: Reducer, one: Any, two: Any) -> Any:
    if isinstance(one, Decimal) != isinstance(two, Decimal):
        raise refuse(reducer, "decimals or fractions, not both", one)
    if isinstance(one, Fraction):
        return one + two
    return _add_decimals(reducer, one, two)


def _add_decimals(reducer: Reducer, one: Any, two: Any) -> Decimal:
    try:
        return _EXACT.add(one, two)
    except decimal.Inexact:
        raise refuse(
            reducer, "decimals whose exact sum has at most 10,000 digits", two, "Round it in map."
        ) from None


def _result_of(state: Sum) -> Any:
    whole, floats, other = state
    if floats is None:
        if other is None:
            return whole
        if isinstance(other, Fraction):
            return whole + other
        # The integers count even if there are none, so that the digits do not depend on grouping.
        result = _add_decimals(total, Decimal(whole), other)
        return Decimal("NaN") if result.is_nan() else result
    if floats and not math.isfinite(floats[0]):
        return floats[0]
    if whole == 0 and other is None:
        return floats[0] if floats else 0.0  # the first one is their sum, rounded
    return _rounded(_fraction_of(state))


def _fraction_of(state: Sum) -> Fraction:
    whole, floats, other = state
    return sum(map(Fraction, floats or ()), Fraction(whole) + (other or 0))


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


count = _Count()
total = _Total()
mean = _Mean()
