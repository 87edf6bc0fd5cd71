"""Values by their order: `minimum`, `maximum` and `top`."""

from __future__ import annotations

import datetime
import heapq
import math
import numbers
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter, ne
from typing import Any

from daskmr.job.keys import sort_key
from daskmr.reducers.base import Partial, Reducer, chunks, part_state, plain, refuse

__all__ = ["maximum", "minimum", "top"]

_TAKES = "values of one kind"
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
    kind = type(value)
    return (sort_key(value), kind.__name__, _written(value))


def _written(value: Any) -> Any:
    return tuple(map(_rank, value)) if type(value) is tuple else repr(value)


def _numbers_first(value: Any) -> tuple[Any, ...]:
    """Return a sort key like `_rank`, but with NaN before all numbers."""
    return (value == value, _rank(value))


def _picked(
    reducer: Reducer, values: list[Any], pick: Callable[..., list[Any]], rank: Callable[[Any], Any]
) -> list[Any]:
    """Return what `pick` selects from `values` by their order.

    - `pick`: takes values, and a sort key, or ``None`` if they compare as they are.
    - `rank`: the sort key of values that do not.
    """
    kinds = {*map(type, values)}
    if len(kinds) == 1 and kinds <= _CLEAR:
        return pick(values, None)
    # A sum is the fastest test for NaN.
    if kinds == {float} and not math.isnan(sum(values)):
        return [value + 0.0 for value in pick(values, None)]  # a zero without a sign
    try:
        values = _comparable(reducer, values, kinds)
        return pick(values, None if _are_clear(values) else rank)
    except (TypeError, ArithmeticError):
        _refuse_mixed(reducer, values)
        raise


def _comparable(reducer: Reducer, values: list[Any], kinds: set[type]) -> list[Any]:
    """Return plain values, with zeros that have no sign; raise TypeError for values of several kinds."""
    families = {next((each for each in _KINDS if issubclass(kind, each)), None) for kind in kinds}
    if None in families or len(families) > 1:
        _refuse_mixed(reducer, values)
    values = plain(values, kinds)
    if float not in {*map(type, values)}:
        return values
    return [value + 0.0 if type(value) is float else value for value in values]


def _refuse_mixed(reducer: Reducer, values: Sequence[Any]) -> None:
    """Raise TypeError that names a value that does not compare with the first one."""
    for value in values:
        if type(value) is Partial:
            part_state(value, repr(reducer), None, lambda *_: None)
        if not isinstance(plain([value], {type(value)})[0], _KINDS):
            raise refuse(reducer, "numbers, text, dates, times or tuples", value)
    first = values[0]
    for value in values:
        try:
            first < value  # noqa: B015
        except (TypeError, ArithmeticError):
            raise refuse(reducer, f"{_TAKES}, such as {first!r:.80}", value, _ADVICE) from None


class _Extreme(Reducer):
    """Find one value by its order.

    Values are numbers, text, dates or times, or tuples, which compare as keys do. NaN gives NaN. Of values
    that are equal but not written alike (``1`` and ``1.0``), the choice is always the same.

    Writes the value.

    Raises
    ------
    TypeError
        For ``None``, and for values that cannot be compared, such as text and numbers.
    """

    pick: Callable[..., list[Any]]
    rank: Callable[[Any], Any]  # has NaN where it is picked

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        if type(values) is not list:
            values = [self._of(chunk) for chunk in chunks(values)]
        context.write(key, self._of(values))

    combine = __call__  # the smallest of the smallest is the smallest

    def _of(self, values: list[Any]) -> Any:
        if not values:
            raise TypeError(f"{self!r} was given no values.")
        found = _picked(self, values, self.pick, self.rank)[0]
        return found if found == found else math.nan


class _Minimum(_Extreme):
    __doc__ = _Extreme.__doc__
    name = "minimum"
    pick = staticmethod(lambda values, key: [min(values, key=key)])
    rank = staticmethod(_numbers_first)


class _Maximum(_Extreme):
    __doc__ = _Extreme.__doc__
    name = "maximum"
    pick = staticmethod(lambda values, key: [max(values, key=key)])
    rank = staticmethod(_rank)


class _Top(Reducer):
    name = "top"

    def __init__(self, n: int) -> None:
        self.n = n

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        for value in self._gather(values) or ():
            context.write(key, value)

    def _taken(self, values: list[Any], kinds: set[type] | None = None) -> list[Any]:
        return _picked(self, values, partial(heapq.nlargest, self.n), _numbers_first)

    def _merged(self, state: list[Any] | None, more: list[Any]) -> list[Any]:
        return more if state is None else self._taken(state + more)

    def __repr__(self) -> str:
        return f"top({self.n})"

    def __reduce__(self) -> Any:
        return top, (self.n,)


def top(n: int) -> Reducer:
    """Return a reducer that writes the `n` largest values of a key, a line each, largest first.

    Values are numbers, text, dates or times, or tuples, which compare as keys do: for the pages with the
    most views, write ``(views, page)``. NaN comes last. The order of equal values that are not written
    alike (``1`` and ``1.0``) is always the same.

    Parameters
    ----------
    n : int
        Number of values, at least 1; a key with fewer has fewer lines.

    Raises
    ------
    TypeError, ValueError
        If `n` is not such a number; and, in a run, for values that cannot be compared.

    Examples
    --------
    >>> from daskmr.reducers import top
    >>> reduce = top(10)
    >>> combine = reduce.combine
    """
    if type(n) is not int:
        raise TypeError(f"top takes a number of values, as in `reduce = top(10)`, not {n!r:.80}.")
    if n < 1:
        raise ValueError(f"top takes a number of values from 1 on, not {n}.")
    return _Top(n)


minimum = _Minimum()
maximum = _Maximum()
