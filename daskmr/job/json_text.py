"""JSON text for the output: always valid, and the same for equal values."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import uuid
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["Cell", "RowError", "from_numpy", "is_missing", "is_numpy", "to_json"]

_TEXT = frozenset((str,))
_FLAT = frozenset((str, int, float, bool, type(None)))

_DEEPEST = 500
_TOO_DEEP = "A value that contains itself, or is nested too deeply, cannot be written as JSON."
_AS_TEXT = (decimal.Decimal, uuid.UUID, fractions.Fraction)


class Cell(list[Any]):
    """A list that is one cell of a row, where others have a cell for each element."""


class RowError(TypeError):
    """A row that the output cannot hold; not a ValueError, as this makes no record bad."""


def _convert(value: Any) -> Any:
    """Return what stands for a value that JSON does not know."""
    if is_missing(value):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, _AS_TEXT):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if is_numpy(value):
        return from_numpy(value)
    advice = "Write plain data instead: numbers, text, lists, dicts"
    if isinstance(value, set | frozenset):
        advice = "Its order differs from run to run: write sorted(...) of it"
    elif isinstance(value, bytes | bytearray):
        advice = 'Write text instead, such as value.decode("utf-8", "surrogateescape")'
    raise RowError(f"A value of type {type(value).__name__} cannot be written as JSON. {advice}.")


def is_missing(value: Any) -> bool:
    """Check for ``NaT`` and ``NA`` of pandas, which outputs have as ``None``."""
    kind = type(value)
    return kind.__name__ in ("NaTType", "NAType") and kind.__module__.startswith("pandas.")


def is_numpy(value: Any) -> bool:
    """Check for a scalar or an array of NumPy."""
    return type(value).__module__ == "numpy" and hasattr(value, "tolist")


def from_numpy(value: Any) -> Any:
    """Return a scalar or an array of NumPy as Python data; raise `RowError` if that has no such time."""
    kind = value.dtype.kind
    if kind not in "mM" or int not in map(type, value.reshape(-1).tolist()):
        return value.tolist()
    exact = value.astype(f"{kind}8[us]")  # nanoseconds, and times far from now, became integers
    if ((exact != value) & (value == value)).any() or int in map(type, exact.reshape(-1).tolist()):
        raise RowError(
            f"{value!r:.80} is no time of Python, which has microseconds. Write str(...) of it."
        )
    return exact.tolist()


_UTF8 = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_convert
).encode
_ASCII = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_convert).encode


def to_json(value: Any) -> str:
    r"""Return `value` as JSON, without spaces.

    NaN and infinities are ``null``, as JSON has none; bytes of the input that were not valid UTF-8
    are escaped, as ``\udcff``. Dates are in ISO 8601; decimals, fractions and UUIDs are text.
    Raises `RowError` for a value that has no form in JSON.

    >>> to_json({"day": datetime.date(2013, 11, 4), "share": float("nan"), "os": ["é", "\udcff"]})
    '{"day":"2013-11-04","share":null,"os":["\\u00e9","\\udcff"]}'
    """
    if type(value) is dict and _is_flat(value):
        try:  # several times as fast; NaN and infinities are null here, too
            return _encoder()(value).decode()
        except (OverflowError, TypeError, ValueError):
            pass  # an integer of more than 64 bits, or text that is not Unicode
    try:
        text = _UTF8(value)
    except RecursionError:
        raise RowError(_TOO_DEEP) from None
    except ValueError:
        text = _UTF8(_plain(value))
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _ASCII(_plain(value))
    return text


@lru_cache(1)
def _encoder() -> Callable[[Any], bytes]:
    import msgspec  # deferred: most outputs are text

    return msgspec.json.Encoder().encode


def _is_flat(value: dict[Any, Any]) -> bool:
    return _TEXT.issuperset(map(type, value)) and _FLAT.issuperset(map(type, value.values()))


def _plain(value: Any) -> Any:
    """Copy a value with ``None`` in place of numbers that JSON does not have."""
    try:
        return _finite(value, 0)
    except RecursionError:
        raise RowError(_TOO_DEEP) from None


def _finite(value: Any, depth: int) -> Any:
    if depth > _DEEPEST:
        raise RowError(_TOO_DEEP)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {
            (_finite(name, depth) if isinstance(name, float | int) else name): _finite(
                each, depth + 1
            )
            for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_finite(each, depth + 1) for each in value]
    if value is None or isinstance(value, str | int):
        if isinstance(value, int) and value.bit_length() > 13_000:
            raise RowError("A number of more than 4,000 digits cannot be written as JSON.")
        return value
    return _finite(_convert(value), depth + 1)
