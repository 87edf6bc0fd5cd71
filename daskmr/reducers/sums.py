"""Exact sums: `count`, `total` and `mean`."""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from operator import countOf
from typing import Any

from daskmr.reducers.base import Partial, Reducer, chunks, part_state, plain, refuse

__all__ = ["count", "mean", "total"]

# Numbers with the same exact sum: floats, of which the first is their sum, rounded; then at most one of
# each other type: an integer, a decimal, a fraction
Sum = tuple[Any, ...]

_LARGE = 1e300  # beyond, an integer may be no float

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
            added = _result_of(self._gather(values) or ())
        context.write(key, added)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_of_integers(values)
        context.write(key, self._part(self._gather(values)) if added is None else added)

    def _part(self, state: Sum) -> Any:
        """Return a sum as a plain number if that is the same."""
        is_plain = len(state) == 1 or type(state[0]) is not float
        return _result_of(state) if is_plain else Partial("total", state)

    def _taken(self, values: list[Any], kinds: set[type]) -> Sum:
        return _added(self, values, kinds)

    def _merged(self, state: Sum | None, more: Sum) -> Sum:
        return more if state is None else _both(self, state, more)

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
        return len(values), _added(self, values, kinds)

    def _merged(self, state: Any, more: Any) -> tuple[int, Sum]:
        return more if state is None else (state[0] + more[0], _both(self, state[1], more[1]))

    def _result(self, state: tuple[int, Sum]) -> Any:
        number, added = state
        result = _result_of(added)
        if type(result) is Decimal:
            return _DIVISION.divide(result, Decimal(number))
        try:
            if type(result) is float and math.isinf(result):
                return _rounded(_exact(added) / number)  # if only the sum is too large
            return result / number
        except OverflowError:  # an infinity among the values, or a very large integer
            return result if type(result) is float else _rounded(Fraction(result, number))


def _sum_of_integers(values: Sequence[Any]) -> int | None:
    """Return the sum of integers that are in memory; ``None`` of other values."""
    if type(values) is list and values and type(values[0]) is int:
        try:
            added = sum(values)
        except (TypeError, OverflowError):  # a float cannot be added to a very large integer
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


def _added(reducer: Reducer, values: Sequence[Any], kinds: set[type]) -> Sum:
    """Add up `values`, which have the types `kinds`, without rounding."""
    if kinds <= _FLOATS:
        return _added_floats(values)
    if kinds <= _INTS:
        return (sum(values),)
    values = plain([*values], kinds)
    floats = [float(value) for value in values if isinstance(value, float)]
    whole = [int(value) for value in values if isinstance(value, int)]
    others = []
    if len(floats) + len(whole) < len(values):
        others = [value for value in values if not isinstance(value, float | int)]
    for value in others:
        if not isinstance(value, Decimal | Fraction):
            raise refuse(reducer, "numbers", value)
    decimals = [value for value in others if isinstance(value, Decimal)]
    fractions = [value for value in others if isinstance(value, Fraction)]
    if decimals and (floats or fractions):
        both = f"decimals or {'floats' if floats else 'fractions'}, not both"
        raise refuse(reducer, both, decimals[0])
    found = [*_added_floats(floats)] if floats else []
    if found and type(found[-1]) is Fraction:
        fractions.append(found.pop())
    found += [sum(whole)] if whole else []
    found += [_add_decimals(reducer, decimals)] if decimals else []
    return (*found, sum(fractions)) if fractions else (*found,)


def _both(reducer: Reducer, one: Sum, two: Sum) -> Sum:
    values = one + two
    return _added(reducer, values, {*map(type, values)})


def _added_floats(values: Sequence[float]) -> Sum:
    """Return the sum of floats, rounded, what is left of it, rounded, and so on."""
    left = [*values]
    found: list[float] = []
    try:
        while (added := math.fsum(left)) and math.isfinite(added):
            found.append(added)
            left.append(-added)
    except (OverflowError, ValueError):  # very large numbers, or both infinities
        added = math.nan
    if math.isfinite(added):
        return (*found,) or (0.0,)
    special = [value for value in values if not math.isfinite(value)]
    return (sum(special),) if special else (0.0, sum(map(Fraction, values), Fraction()))


def _add_decimals(reducer: Reducer, values: Sequence[Any]) -> Decimal:
    try:
        added: Decimal = functools.reduce(_EXACT.add, values)
        return added
    except decimal.Inexact:
        takes = "decimals whose exact sum has at most 10,000 digits"
        raise refuse(reducer, takes, values[-1], "Round it in map.") from None


def _result_of(state: Sum) -> Any:
    others = [value for value in state if type(value) is not float]
    if len(others) < len(state):
        if not any(others) or not math.isfinite(state[0]):
            return state[0]
        return _rounded(_exact(state))
    if others and type(others[-1]) is Decimal:
        # An integer counts even if there is none, so that the digits do not depend on grouping.
        result = _add_decimals(total, [Decimal(0), *map(Decimal, others)])
        return Decimal("NaN") if result.is_nan() else result
    return sum(others)


def _exact(state: Sum) -> Fraction:
    return sum(map(Fraction, state), Fraction())


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


count = _Count()
total = _Total()
mean = _Mean()
