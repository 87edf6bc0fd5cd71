"""The number of different values: `distinct`, exact up to a limit, and then an estimate."""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

from daskmr.reducers.base import Reducer, plain, refuse

__all__ = ["distinct"]

_LIMIT = 10_000
_LOG_REGISTERS = 14  # of one byte each: a standard error of 0.81 %
_NUMBERS = (int, float, complex, Decimal, Fraction)
_ATOMS = (
    *_NUMBERS, str, bytes, datetime.date, datetime.time, datetime.timedelta, uuid.UUID, type(None)
)  # fmt: skip
_PLAIN = frozenset((int, bool, str, bytes, type(None)))


class _Distinct(Reducer):
    """Count different values.

    Values that are equal in Python count once, also ``1``, ``1.0`` and ``True``; NaN counts once. They
    are numbers, text, bytes, ``None``, dates, times, UUIDs, or tuples of those.

    Writes an `int`. It is exact up to 10,000 different values of a key. Beyond, it is an estimate by
    HyperLogLog, with a standard error of 0.81 %, that takes 16 KiB and depends only on the set of
    values. The estimate needs ``pip install 'daskmr[distinct]'``, or raises ImportError.
    """

    name = "distinct"

    def __init__(self, limit: int = _LIMIT) -> None:
        self.limit = limit
        if limit != _LIMIT:
            self.name, self.args = "distinct.up_to", (limit,)

    def up_to(self, limit: int) -> Reducer:
        """Return a reducer that is exact up to `limit` different values of a key.

        It takes the memory of as many values, in each partial result as well.
        """
        if type(limit) is not int or limit < _LIMIT:
            raise ValueError(
                f"distinct is exact up to a number of values from {_LIMIT:,} on, not {limit!r:.40}."
            )
        return _Distinct(limit)

    def _gather(self, values: Sequence[Any]) -> tuple[Any, ...] | bytes:
        seen: set[Any] = set()
        estimate: _Estimate | None = None
        for chunk, _, states in self._chunks(values):
            for state in (chunk, *states):
                if isinstance(state, bytes):
                    estimate = estimate or _Estimate()
                    estimate.add_sketch(state)
                    continue
                seen |= self._different(state)
                if len(seen) > self.limit:
                    estimate = estimate or _Estimate()
                    estimate.add(seen)
                    seen.clear()
        if estimate is None:
            return (*seen,)
        estimate.add(seen)
        return estimate.sketch()

    def _different(self, values: Iterable[Any]) -> set[Any]:
        """Return the values without repetitions, and with one object for all NaNs."""
        with suppress(TypeError):  # for a value that is not hashable
            found = {*values}
            if _PLAIN.issuperset(map(type, found)):
                return found
            values = found
        return {*map(self._canonical, values)}

    def _canonical(self, value: Any) -> Any:
        """Return a value, with one object for all NaNs; raise TypeError for another type."""
        if type(value) is tuple:
            return tuple(map(self._canonical, value))
        (value,) = plain([value], {type(value)})
        if not isinstance(value, _ATOMS):
            takes = "numbers, text, bytes, dates and tuples of those"
            advice = "Write a tuple of its parts, or of sorted(...) of a set."
            raise refuse(self, takes, value, advice)
        return value if value == value else math.nan

    def _result(self, state: tuple[Any, ...] | bytes) -> int:
        if isinstance(state, tuple):
            return len(state)
        return max(self.limit + 1, _Estimate(state).number())


class _Estimate:
    """A HyperLogLog of any number of values, the same in whatever order they were added."""

    def __init__(self, sketch: bytes = b"") -> None:
        try:
            import datasketches
        except ImportError:
            raise ImportError(
                "A key has more different values than distinct counts exactly. It estimates their number with "
                "the library datasketches, which is not installed here: pip install 'daskmr[distinct]' on every "
                "machine of the job. To hold and count all of them instead, reduce = distinct.up_to(10_000_000)"
            ) from None
        self._library = datasketches
        self._union = datasketches.hll_union(_LOG_REGISTERS)
        if sketch:
            self.add_sketch(sketch)

    def add(self, values: Iterable[Any]) -> None:
        sketch = self._library.hll_sketch(_LOG_REGISTERS)
        for text in map(_text, values):
            sketch.update(text)
        self._union.update(sketch)

    def add_sketch(self, sketch: bytes) -> None:
        self._union.update(self._library.hll_sketch.deserialize(sketch))

    def sketch(self) -> bytes:
        return bytes(self._union.get_result().serialize_compact())

    def number(self) -> int:
        # The union of two equal sketches does not use the order in which values were added.
        self._union.update(self._union.get_result())
        return int(self._union.get_estimate() + 0.5)


def _text(value: Any) -> str:
    """Return a text that is the same for equal values only, in every process."""
    if isinstance(value, str | bytes):
        return ascii(value[:])  # a subclass may have another one
    if isinstance(value, tuple):
        texts = [*map(_text, value)]
        return "".join(["t", *(f"{len(text)}:{text}" for text in texts)])
    if isinstance(value, _NUMBERS):
        return _text_of_number(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        value = value.astimezone(datetime.UTC)
    return f"{type(value).__name__} {value}"


def _text_of_number(value: Any) -> str:
    if value != value:
        return "nan"
    with suppress(TypeError, OverflowError):  # a complex number, an infinity
        whole = int(value)
        if whole == value:
            return f"i{whole:x}"
    return f"n{hash(value)}"  # that of numbers does not depend on the process


distinct = _Distinct()
