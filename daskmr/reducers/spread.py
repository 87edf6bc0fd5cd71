"""Values of a key as a whole: `quantiles`, `histogram` and `collect`."""

from __future__ import annotations

import decimal
import math
import numbers
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from operator import ne
from typing import Any

from daskmr.job.json_text import Cell
from daskmr.reducers.base import Partial, Reducer, plain, refuse

__all__ = ["collect", "histogram", "quantiles"]

_DECIMALS = decimal.Context(prec=28, traps=[])
_NUMBERS = frozenset((int, float, bool, Fraction))
_Counts = tuple[Counter[Any], Counter[Any]]
"""How often each number occurs, and each decimal."""


class quantiles(Reducer):
    """Find quantiles: the median is ``quantiles(0.5)``.

    They are exact: between two values, they are interpolated linearly, as NumPy, pandas and Spark's
    ``percentile`` do. Writes a `float`, of decimals a `Decimal` of 28 digits; for several probabilities
    a dict such as ``{"p50": 3.0, "p99": 7.5}``. NaN among the values gives NaN.

    Memory grows with the *different* values of a key, by about 100 bytes each.
    """

    name = "quantiles"

    def __init__(self, *probabilities: float) -> None:
        is_fit = all(type(each) in (int, float) and 0 <= each <= 1 for each in probabilities)
        if not probabilities or not is_fit or len({*probabilities}) < len(probabilities):
            given = ", ".join(f"{each!r:.40}" for each in probabilities) or "nothing"
            raise ValueError(
                "quantiles takes different probabilities from 0 to 1, as in `reduce = quantiles(0.5, 0.99)`, "
                f"not {given:.200}."
            )
        self.args = probabilities
        # Of the decimal text, so that 0.07 of 101 values is exactly the seventh.
        self._places = [Fraction(repr(each)) for each in probabilities]
        self._names = [f"p{Decimal(100 * p.numerator) / p.denominator:f}" for p in self._places]

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        if type(values) is list and values and _NUMBERS.issuperset(map(type, values)):
            context.write(key, self._of(values))  # faster than counting
        else:
            super().__call__(key, values, context)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Count equal values, unless most of them are different."""
        state = self._gather(values)
        if 2 * sum(map(len, state)) <= len(values) or Partial in map(type, values):
            context.write(key, Partial(repr(self), state))

    def _empty(self) -> _Counts:
        return Counter(), Counter()

    def _taken(self, values: list[Any], kinds: set[type]) -> _Counts:
        if kinds <= _NUMBERS:
            return Counter(values), Counter()
        counts = self._empty()
        for value in plain(values, kinds):
            if not isinstance(value, numbers.Real | Decimal):
                raise refuse(self, "numbers", value)
            counts[isinstance(value, Decimal)][value] += 1
        return counts

    def _merged(self, state: _Counts, more: _Counts) -> _Counts:
        for mine, others in zip(state, more, strict=True):
            mine.update(others)
        return state

    def _result(self, state: _Counts) -> Any:
        numbers, decimals = state
        if numbers and decimals:
            raise refuse(self, "decimals or other numbers, not both", next(iter(decimals)))
        counts = numbers or decimals
        if not counts:
            raise self._no_values()
        return self._of(counts, counts)

    def _of(self, values: Collection[Any], counts: Counter[Any] | None = None) -> Any:
        """Return the quantiles of numbers, of which each occurs once, or as often as in `counts`."""
        if any(map(ne, values, values)):
            is_decimal = isinstance(next(iter(values)), Decimal)
            found = [Decimal("NaN") if is_decimal else math.nan] * len(self._places)
        else:
            ordered = sorted(values)
            ends: Sequence[int] = range(1, len(ordered) + 1)  # the places that each fills
            if counts:
                ends = [*accumulate(map(counts.__getitem__, ordered))]
            found = [_quantile(ordered, ends, place) for place in self._places]
        return found[0] if len(found) == 1 else dict(zip(self._names, found, strict=True))


def _quantile(ordered: Sequence[Any], ends: Sequence[int], place: Fraction) -> Any:
    index, rest = divmod(place.numerator * (ends[-1] - 1), place.denominator)
    low = _as_result(ordered[bisect_right(ends, index)])
    if not rest:
        return low
    high = _as_result(ordered[bisect_right(ends, index + 1)])
    return _between(low, high, Fraction(rest, place.denominator))


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
        with decimal.localcontext(_DECIMALS):
            return _tidy(low + (high - low) * share.numerator / share.denominator)
    width = high - low
    if math.isinf(width) and math.isfinite(low) and math.isfinite(high):
        return float(Fraction(low) + (Fraction(high) - Fraction(low)) * share)
    return min(low + width * float(share), high) if math.isfinite(width) else low + high


class histogram(Reducer):
    """Count the values between edges: ``histogram([0, 10, 100])``, or ``histogram(range(0, 100, 10))``.

    Edges are numbers, text or dates in ascending order. A bin includes its lower edge. The first and the
    last one are open, so that every value is counted; one that does not compare with the edges, such as
    NaN, raises TypeError. Writes a dict such as ``{"..0": 0, "0..10": 3, "10..100": 1, "100..": 0}``.
    """

    name = "histogram"

    def __init__(self, edges: Iterable[Any]) -> None:
        chosen = [*edges] if isinstance(edges, Iterable) and not isinstance(edges, str) else []
        chosen = plain(chosen, {*map(type, chosen)})
        is_ascending = all(low < high for low, high in pairwise(chosen))
        if not chosen or not is_ascending or chosen[0] != chosen[0]:
            raise ValueError(
                f"histogram takes edges in ascending order, as in histogram([0, 10]), not {edges!r:.80}."
            )
        self.args, self._edges = (chosen,), chosen
        between = [f"{low}..{high}" for low, high in pairwise(chosen)]
        self._names = [f"..{chosen[0]}", *between, f"{chosen[-1]}.."]

    def _empty(self) -> Counter[str]:
        return Counter()

    def _taken(self, values: list[Any], kinds: set[type]) -> Counter[str]:
        try:
            ordered = sorted(values)
            if any(map(ne, values, values)):
                raise TypeError
            ends = [bisect_left(ordered, edge) for edge in self._edges]
        except (TypeError, ArithmeticError):
            misfits = [*filter(self._is_misfit, values)]
            takes = "values that compare with its edges" if misfits else "values that compare"
            raise refuse(self, takes, (misfits or values)[0]) from None
        bounds = pairwise([0, *ends, len(values)])
        return Counter(
            {name: high - low for name, (low, high) in zip(self._names, bounds, strict=True)}
        )

    def _is_misfit(self, value: Any) -> bool:
        try:
            bisect_right(self._edges, value)
            return bool(value != value)
        except (TypeError, ArithmeticError):
            return True

    def _result(self, state: Counter[str]) -> dict[str, int]:
        return {name: state[name] for name in self._names}


class _Collect(Reducer):
    """Write all values of a key as one list, in the order of the input.

    In an output with columns it is one cell: a list in Parquet, JSON elsewhere. It takes the memory of
    all of a key's values. `combine` does nothing, because there is nothing to save.
    """

    name = "collect"

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        found = Cell(values)
        if Partial in map(type, found):
            [*self._chunks(found)]  # raises, because another reducer made it
        context.write(key, found)

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Write nothing, which keeps the values as they are."""


collect = _Collect()
