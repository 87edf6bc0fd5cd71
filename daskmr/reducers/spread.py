"""Values of a key as a whole: `quantiles`, `histogram` and `collect`."""

from __future__ import annotations

import decimal
import math
import numbers
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import ne
from typing import Any

from daskmr.job.row_context import RowContext
from daskmr.reducers.base import Partial, Reducer, plain, refuse

__all__ = ["collect", "histogram", "quantiles"]

_DECIMALS = decimal.Context(prec=28, traps=[])
_NUMBERS = frozenset((int, float, bool, Fraction))


class _Quantiles(Reducer):
    name = "quantiles"

    def __init__(self, probabilities: tuple[float, ...]) -> None:
        self.probabilities = probabilities
        # Of the decimal text, so that 0.07 of 101 values is exactly the seventh.
        self._places = [Fraction(repr(each)) for each in probabilities]
        self._names = [f"p{float(100 * place):g}" for place in self._places]

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        if type(values) is list and _NUMBERS.issuperset(map(type, values)) and values:
            if any(map(ne, values, values)):
                found = [math.nan] * len(self._places)
            else:
                found = self._found(sorted(values).__getitem__, len(values))
        else:
            found = self._counted(self._gather(values))
        context.write(
            key, found[0] if len(found) == 1 else dict(zip(self._names, found, strict=True))
        )

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Count equal values, unless most of them are different."""
        counts, _ = state = self._gather(values)
        if 2 * len(counts) <= len(values) or any(type(value) is Partial for value in values):
            context.write(key, Partial(repr(self), state))

    def _taken(self, values: list[Any], kinds: set[type]) -> tuple[Counter[Any], bool]:
        if kinds <= _NUMBERS:
            return Counter(values), False
        values = plain(values, kinds)
        decimals = [isinstance(value, Decimal) for value in values]
        for value in values:
            if not isinstance(value, numbers.Real | Decimal):
                raise refuse(self, "numbers", value)
        if any(decimals) and not all(decimals):
            raise self._mixed(values[decimals.index(True)])
        return Counter(values), any(decimals)

    def _mixed(self, value: Any) -> TypeError:
        return refuse(self, "decimals or other numbers, not both", value)

    def _merged(self, state: Any, more: tuple[Counter[Any], bool]) -> tuple[Counter[Any], bool]:
        if state is None:
            return more
        counts, decimals = state
        if decimals != more[1]:
            raise self._mixed(next(iter(state[0] if decimals else more[0])))
        for value, count in more[0].items():
            counts[value] += count
        return counts, decimals

    def _counted(self, state: tuple[Counter[Any], bool] | None) -> list[Any]:
        if state is None:
            raise TypeError(f"{self!r} was given no values.")
        counts, decimals = state
        if any(map(ne, counts, counts)):
            return [Decimal("NaN") if decimals else math.nan] * len(self._places)
        ordered = sorted(counts)
        ends = [*accumulate(map(counts.__getitem__, ordered))]
        return self._found(lambda index: ordered[bisect_right(ends, index)], ends[-1])

    def _found(self, value_at: Callable[[int], Any], number: int) -> list[Any]:
        """Return the quantiles of `number` values, from the lowest one, at 0, on."""
        found = []
        for place in self._places:
            index, rest = divmod(place.numerator * (number - 1), place.denominator)
            low = _as_result(value_at(index))
            if rest:
                low = _between(
                    low, _as_result(value_at(index + 1)), Fraction(rest, place.denominator)
                )
            found.append(low)
        return found

    def __repr__(self) -> str:
        return f"quantiles({', '.join(map(repr, self.probabilities))})"

    def __reduce__(self) -> Any:
        return quantiles, self.probabilities


def _as_result(value: Any) -> Any:
    if isinstance(value, Decimal):
        return _tidy(value)
    try:
        return float(value) + 0.0  # a zero without a sign
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _tidy(value: Decimal) -> Decimal:
    """Return a decimal without trailing zeros, in which equal ones differ, and without an exponent."""
    value = _DECIMALS.add(_DECIMALS.normalize(value), 0)  # a zero without a sign
    is_round = value.as_tuple().exponent in range(1, 28) and value.adjusted() < 28
    return _DECIMALS.quantize(value, Decimal(1)) if is_round else value


def _between(low: Any, high: Any, share: Fraction) -> Any:
    """Return the number at `share` of the way from `low` to `high`."""
    if low == high:
        return low
    if isinstance(low, Decimal):
        step = _DECIMALS.multiply(
            _DECIMALS.subtract(high, low),
            _DECIMALS.divide(Decimal(share.numerator), Decimal(share.denominator)),
        )
        return _tidy(_DECIMALS.add(low, step))
    width = high - low
    if math.isinf(width) and math.isfinite(low) and math.isfinite(high):
        return float(Fraction(low) + (Fraction(high) - Fraction(low)) * share)
    return min(low + width * float(share), high) if math.isfinite(width) else low + high


def quantiles(*probabilities: float) -> Reducer:
    """Return a reducer that finds quantiles: the median is ``quantiles(0.5)``.

    They are exact: between two values, they are interpolated linearly, as NumPy, pandas and Spark's
    ``percentile`` do. With one probability, the result is a `float`; with several, a dict such as
    ``{"p50": 3.0, "p99": 7.5}``, so a column for each. Decimals give a `Decimal` of 28 digits. NaN
    among the values gives NaN.

    Equal values are counted together, so memory grows with the *different* values of a key, by about
    100 bytes each. Round values in `map` if there are too many.

    Parameters
    ----------
    *probabilities : float
        At least one, each from 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If there are no such probabilities; and, in a run, for a value that is no real number.

    Examples
    --------
    >>> from daskmr.reducers import quantiles
    >>> reduce = quantiles(0.5, 0.99)
    >>> combine = reduce.combine
    """
    if not probabilities or not all(type(each) in (int, float) for each in probabilities):
        raise TypeError(
            "quantiles takes probabilities from 0 to 1, as in `reduce = quantiles(0.5, 0.99)`, not "
            f"{', '.join(f'{each!r:.40}' for each in probabilities[:3]) or 'nothing'}."
        )
    if not all(0 <= each <= 1 for each in probabilities):
        raise ValueError(f"quantiles takes probabilities from 0 to 1, not {max(probabilities)}.")
    if len({*probabilities}) < len(probabilities):
        raise ValueError(
            f"quantiles was given {max(probabilities, key=probabilities.count)} twice."
        )
    return _Quantiles(probabilities)


class _Histogram(Reducer):
    name = "histogram"

    def __init__(self, edges: tuple[Any, ...]) -> None:
        self.edges = edges
        between = [f"{low}..{high}" for low, high in pairwise(edges)]
        self._names = [f"..{edges[0]}", *between, f"{edges[-1]}.."]

    def _taken(self, values: list[Any], kinds: set[type]) -> tuple[int, ...]:
        try:
            ordered = sorted(values)
            if any(map(ne, values, values)):
                raise TypeError
            ends = [bisect_left(ordered, edge) for edge in self.edges]
        except (TypeError, ArithmeticError):
            raise self._misfit(values) from None
        return tuple(high - low for low, high in pairwise([0, *ends, len(values)]))

    def _misfit(self, values: list[Any]) -> TypeError:
        for value in values:
            try:
                bisect_right(self.edges, value)
            except (TypeError, ArithmeticError):
                break
            if value != value:
                break
        return refuse(self, "values that compare with its edges", value)

    def _merged(self, state: tuple[int, ...] | None, more: tuple[int, ...]) -> tuple[int, ...]:
        return more if state is None else tuple(map(int.__add__, state, more))

    def _result(self, state: tuple[int, ...]) -> dict[str, int]:
        return dict(zip(self._names, state, strict=True))

    def __repr__(self) -> str:
        return f"histogram([{', '.join(map(repr, self.edges))}])"

    def __reduce__(self) -> Any:
        return histogram, (self.edges,)


def histogram(edges: Iterable[Any]) -> Reducer:
    """Return a reducer that counts the values between edges.

    ``histogram([0, 10, 100])`` has four bins: below 0, from 0 to below 10, from 10 to below 100, and
    from 100 on, so that no value is left out. The result is a dict from each bin to its count, such as
    ``{"..0": 0, "0..10": 3, "10..100": 1, "100..": 0}``, so a column for each.

    Parameters
    ----------
    edges : iterable
        Numbers in ascending order, such as ``range(0, 100, 10)``; or text, or dates.

    Raises
    ------
    TypeError, ValueError
        If `edges` is empty or not in ascending order; and, in a run, for NaN or a value that does not
        compare with them.

    Examples
    --------
    >>> from daskmr.reducers import histogram
    >>> reduce = histogram([0, 10, 100])
    >>> combine = reduce.combine
    """
    if isinstance(edges, str) or not isinstance(edges, Iterable):
        raise TypeError(
            f"histogram takes a list of edges, as in histogram([0, 10]), not {edges!r:.80}."
        )
    chosen = tuple(edges)
    chosen = tuple(plain([*chosen], {*map(type, chosen)}))
    if not chosen or not all(low < high for low, high in pairwise(chosen)):
        raise ValueError(f"histogram takes edges in ascending order, not {chosen!r:.80}.")
    if chosen[0] != chosen[0]:
        raise ValueError("histogram takes edges in ascending order, not NaN.")
    return _Histogram(chosen)


class _Collect(Reducer):
    """Write all values of a key as one list, in the order of the input.

    In an output with columns it is one cell: a list in Parquet, JSON elsewhere. It takes the memory of
    all of a key's values. `combine` does nothing, because there is nothing to save.
    """

    name = "collect"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        found = [*values]
        if Partial in map(type, found):
            self._gather(found)  # raises, because another reducer made it
        # A list is a row with a cell for each element.
        in_columns = isinstance(getattr(context.write, "__self__", None), RowContext)
        context.write(key, [found] if in_columns else found)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Write nothing, which keeps the values as they are."""


collect = _Collect()
