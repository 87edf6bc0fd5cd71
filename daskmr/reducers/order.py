"""Values by their order: `minimum`, `maximum` and `top`."""

from __future__ import annotations

import datetime
import heapq
import math
import numbers
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from operator import itemgetter, ne
from typing import Any

from daskmr.job.keys import sort_key
from daskmr.reducers.base import Partial, Reducer, plain, refuse

__all__ = ["maximum", "minimum", "top"]

_ADVICE = "Write values of one kind in map: numbers, or text, or dates, or tuples of the same form."
# Types whose equal values are written alike.
_CLEAR = frozenset((int, str, bytes, bool, datetime.date))
# Types whose subclasses compare with each other.
_KINDS: tuple[type, ...] = (
    numbers.Number, str, bytes, tuple, datetime.datetime, datetime.date, datetime.time,
    datetime.timedelta,
)  # fmt: skip


def _are_clear(values: Sequence[Any]) -> bool:
    """Check whether values compare as they are, and those that are equal are written alike.

    Mixed numbers, NaN, zeros with a sign, and times in several zones are not clear.
    """
    kinds = {*map(type, values)}
    if len(kinds) != 1:
        return False
    (kind,) = kinds
    if kind is float:
        return not any(map(ne, values, values)) and 0.0 not in values
    if kind is tuple:
        lengths = {*map(len, values)}
        columns = ([*map(itemgetter(place), values)] for place in range(min(lengths)))
        return len(lengths) == 1 and all(map(_are_clear, columns))
    return kind in _CLEAR


def _rank(value: Any) -> tuple[Any, ...]:
    """Return a sort key that is different for values that are written differently.

    Numbers that are equal are in the order of their types, and NaN is after all numbers.
    """
    written = tuple(map(_rank, value)) if type(value) is tuple else repr(value)
    return (sort_key(value), type(value).__name__, written)


def _numbers_first(value: Any) -> tuple[Any, ...]:
    """Return a sort key like `_rank`, but with NaN before all numbers."""
    return (value == value, _rank(value))


def _picked(
    reducer: Reducer, values: list[Any], pick: Callable[..., list[Any]], rank: Callable[[Any], Any]
) -> list[Any]:
    """Return what `pick` selects from `values`, with zeros that have no sign.

    - `pick`: takes values, and as `key` their sort key, or ``None`` if they compare as they are.
    - `rank`: the sort key of values that do not.
    """
    kinds = {*map(type, values)}
    if len(kinds) == 1 and kinds <= _CLEAR:
        return pick(values, key=None)
    families = {next((each for each in _KINDS if issubclass(kind, each)), None) for kind in kinds}
    try:
        if None in families or len(families) > 1:
            raise TypeError
        # A sum is the fastest test for NaN.
        is_clear = kinds == {float} and not math.isnan(sum(values))
        values = plain(values, kinds)
        found = pick(values, key=None if is_clear or _are_clear(values) else rank)
    except (TypeError, ArithmeticError) as error:
        raise _misfit(reducer, values) or error from None
    return [
        value if value or not isinstance(value, float | Decimal) else abs(value) for value in found
    ]


def _misfit(reducer: Reducer, values: Sequence[Any]) -> TypeError | None:
    """Return the error that names the first value that does not compare with the first one."""
    for value in values:
        if type(value) is Partial:
            reducer._state_of(value)
        if not isinstance(plain([value], {type(value)})[0], _KINDS):
            return refuse(reducer, "numbers, text, dates, times or tuples", value)
    first = values[0]
    for value in values:
        try:
            first < value  # noqa: B015
        except (TypeError, ArithmeticError):
            return refuse(reducer, f"values of one kind, such as {first!r:.80}", value, _ADVICE)
    return None


class _Extreme(Reducer):
    """Find one value by its order; raise TypeError for values that cannot be compared.

    Values are numbers, text, dates or times, or tuples, which compare as keys do. NaN gives NaN. Of values
    that are equal but not written alike (``1`` and ``1.0``), the choice is always the same.

    Writes the value.
    """

    def __init__(
        self, name: str, pick: Callable[..., list[Any]], rank: Callable[[Any], Any]
    ) -> None:
        self.name, self._pick = name, partial(pick, 1)
        self._rank = rank  # has NaN where it is picked

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        if type(values) is not list:
            values = [self._of(chunk) for chunk, _, _ in self._chunks(values)]
        if not values:
            raise self._no_values()
        context.write(key, self._of(values))

    combine = __call__  # the smallest of the smallest is the smallest

    def _of(self, values: list[Any]) -> Any:
        (found,) = _picked(self, values, self._pick, self._rank)
        return found if found == found else math.nan


class top(Reducer):
    """Write the `n` largest values of a key, a line each, largest first: ``reduce = top(10)``.

    Values are those that `maximum` takes: for the pages with the most views, write ``(views, page)``. NaN
    comes last. The order of equal values that are not written alike is always the same.
    """

    name = "top"

    def __init__(self, n: int) -> None:
        if type(n) is not int or n < 1:
            raise ValueError(
                f"top takes a number of values from 1 on, as in `reduce = top(10)`, not {n!r:.80}."
            )
        self.args = (n,)
        self._pick = partial(heapq.nlargest, n)

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        for value in self._gather(values):
            context.write(key, value)

    def _empty(self) -> list[Any]:
        return []

    def _taken(self, values: list[Any], kinds: set[type]) -> list[Any]:
        return _picked(self, values, self._pick, _numbers_first)

    def _merged(self, state: list[Any], more: list[Any]) -> list[Any]:
        return self._taken(state + more, set()) if state else more


minimum = _Extreme("minimum", heapq.nsmallest, _numbers_first)
maximum = _Extreme("maximum", heapq.nlargest, _rank)
