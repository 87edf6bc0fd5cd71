"""Exact sums: `count`, `total` and `mean`."""

from __future__ import annotations

import decimal
import math
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from operator import add
from typing import Any, NamedTuple

from daskmr.reducers.base import Partial, Reducer, plain, refuse

__all__ = ["count", "mean", "total"]

_INTS = frozenset((int, bool))
_FLOATS = frozenset((float,))
# Adds without rounding: a sum of more digits is an error.
_EXACT = decimal.Context(prec=10_000, Emin=-100_000, Emax=100_000, traps=[decimal.Inexact])
_DIVISION = decimal.Context(prec=28, traps=[])


class _Sum(NamedTuple):
    """The exact sum of numbers.

    - `kind`: the type of the result: `int`, `float`, `Fraction` or `Decimal`.
    - `exact`: the sum, of floats as a `Fraction`.
    - `special`: the sum of infinities and NaNs among floats.
    - `number`: how many numbers there are.
    """

    kind: type
    exact: Any
    special: float = 0.0
    number: int = 0


_NOTHING = _Sum(int, 0)


class _Count(Reducer):
    """Count the values, whatever they are.

    Writes an `int`.
    """

    name = "count"

    def _empty(self) -> int:
        return 0

    def _taken(self, values: list[Any], kinds: set[type]) -> int:
        return len(values)


class _Total(Reducer):
    """Add up numbers exactly; raise TypeError for other values.

    Writes an `int` for integers, and else a `float`, `Decimal` or `Fraction`. A float is the exact sum,
    rounded once, so that it does not depend on the order of additions. Integers and floats may be
    mixed; decimals only with integers, because Python does not add them to floats either. NaN, or both
    infinities, give NaN.
    """

    name = "total"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_in_memory(values)
        context.write(key, self._result(self._gather(values)) if added is None else added)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Replace `values` by their sum, which is a plain number if that is exact."""
        added: Any = _sum_of_integers(values)
        if added is None:
            state = self._gather(values)
            added = self._result(state)
            if state.kind is float and not state.special and not _is_same(added, state.exact):
                added = Partial("total", state)
        context.write(key, added)

    def _empty(self) -> _Sum:
        return _NOTHING

    def _taken(self, values: list[Any], kinds: set[type]) -> _Sum:
        return _Sum(*_sum(self, values, kinds)[:-1], len(values))

    def _merged(self, state: _Sum, more: _Sum) -> _Sum:
        return _both(self, state, more)

    def _result(self, state: _Sum) -> Any:
        if state.kind is Decimal:
            return Decimal("NaN") if state.exact.is_nan() else state.exact
        return state.special or _rounded(state.exact) if state.kind is float else state.exact


class _Mean(_Total):
    """Average numbers: their exact sum, as `total` gives it, divided by their number.

    Writes a `float`; for decimals a `Decimal` of 28 digits, for fractions a `Fraction`. Raises TypeError
    for other values.
    """

    name = "mean"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        added = _sum_in_memory(values)
        if added is None or abs(added) > 1e300:  # a larger integer may be no float
            added = self._result(self._gather(values))
        else:
            added /= len(values)
        context.write(key, added)

    combine = Reducer.combine

    def _result(self, state: _Sum) -> Any:
        if not state.number:
            raise self._no_values()
        result = super()._result(state)
        if state.kind is Decimal:
            return _DIVISION.divide(result, Decimal(state.number))
        try:
            if state.special or state.kind is not float or math.isfinite(result):
                return result / state.number
        except OverflowError:  # a very large integer
            pass
        return _rounded(Fraction(state.exact) / state.number)


def _sum_of_integers(values: Sequence[Any]) -> int | None:
    """Return the sum of integers that are in memory; ``None`` of other values."""
    if type(values) is list and values and type(values[0]) is int:
        with suppress(TypeError, OverflowError):  # a float cannot be added to a very large integer
            added = sum(values)
            return added if type(added) is int else None
    return None


def _sum_in_memory(values: Sequence[Any]) -> float | None:
    """Return the sum of integers, or of floats, that are in memory; ``None`` of other values."""
    added: float | None = _sum_of_integers(values)
    if added is None and type(values) is list and values and _FLOATS.issuperset(map(type, values)):
        added = _float_sum(values) + 0.0  # a zero without a sign
        return added if math.isfinite(added) else None
    return added


def _float_sum(values: Sequence[float]) -> float:
    """Return the exact sum, rounded; NaN also if there are infinities, or numbers that are too large."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def _sum(reducer: Reducer, values: list[Any], kinds: set[type]) -> _Sum:
    """Add up `values`, which have the types `kinds`, without rounding."""
    if kinds <= _FLOATS:
        return _sum_of_floats(values)
    if kinds <= _INTS:
        return _Sum(int, sum(values))
    values = plain(values, kinds)
    for value in values:
        if not isinstance(value, int | float | Fraction | Decimal):
            raise refuse(reducer, "numbers", value)
    found = _Sum(int, sum(value for value in values if isinstance(value, int)))
    if floats := [float(value) for value in values if isinstance(value, float)]:
        found = _both(reducer, found, _sum_of_floats(floats))
    if fractions := [value for value in values if isinstance(value, Fraction)]:
        found = _both(reducer, found, _Sum(Fraction, sum(fractions)))
    if decimals := [value for value in values if isinstance(value, Decimal)]:
        found = _both(reducer, found, _Sum(Decimal, _add_decimals(reducer, decimals)))
    return found


def _sum_of_floats(values: Sequence[float]) -> _Sum:
    left, found = [*values], []
    while (added := _float_sum(left)) and math.isfinite(added):
        found.append(Fraction(added))
        left.append(-added)  # what rounding has left is added next
    if math.isfinite(added):
        return _Sum(float, reduce(add, found) if found else Fraction())
    special = sum(value for value in values if not math.isfinite(value))
    return _Sum(float, Fraction() if special else sum(map(Fraction, values), Fraction()), special)


def _both(reducer: Reducer, one: _Sum, two: _Sum) -> _Sum:
    """Return the sum of both; raise TypeError for decimals along with floats or fractions."""
    if one is _NOTHING and two.kind is not Decimal:
        return two
    kinds = {one.kind, two.kind}
    if Decimal in kinds:
        if other := kinds - {int, Decimal}:
            both = f"decimals or {'floats' if float in other else 'fractions'}, not both"
            raise refuse(reducer, both, (one if one.kind is Decimal else two).exact)
        exact = _add_decimals(reducer, [Decimal(each.exact) for each in (one, two)])
        return _Sum(Decimal, exact, number=one.number + two.number)
    kind = max(kinds, key=(int, Fraction, float).index)
    special = one.special + two.special
    return _Sum(kind, one.exact + two.exact, special, one.number + two.number)


def _add_decimals(reducer: Reducer, values: Sequence[Decimal]) -> Decimal:
    try:
        return reduce(_EXACT.add, values)
    except decimal.Inexact:
        takes = "decimals whose exact sum has at most 10,000 digits"
        raise refuse(reducer, takes, values[-1], "Round it in map.") from None


def _is_same(number: float, exact: Fraction) -> bool:
    return math.isfinite(number) and number.as_integer_ratio() == exact.as_integer_ratio()


def _rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


count = _Count()
total = _Total()
mean = _Mean()
