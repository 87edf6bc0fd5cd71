"""Types of columns, found from Python values without pyarrow, which workers need not have.

A kind is a name, or a tuple: ``("int", lowest, highest)``, ``("decimal", digits, scale)``,
``("list", kind)``, ``("struct", ((name, kind), ...))``.
"""

from __future__ import annotations

import datetime
import decimal
import re
from collections.abc import Mapping
from functools import reduce
from typing import Any

from daskmr.job.json_text import RowError
from daskmr.job.tracebacks import short_repr

__all__ = ["MixedTypes", "advice_on", "arrow_type", "kind_of", "unite"]

Kind = str | tuple[Any, ...]

_EXACT = 1 << 53  # integers up to here are exact as floats
_SMALL: Kind = ("int", 0, _EXACT)
_LOWS = (0, -_EXACT, -(1 << 63))
_HIGHS = (_EXACT, (1 << 63) - 1, (1 << 64) - 1)
_ATOMS: dict[type, Kind] = {
    type(None): "null",
    bool: "bool",
    float: "double",
    bytes: "binary",
    datetime.date: "date",
    datetime.timedelta: "duration",
}
_MOMENTS = {"date", "time", "timestamp", "timestamp in UTC"}
_NAMES = {
    "int": "integers", "double": "floats", "string": "text", "null": "None", "binary": "bytes",
    "struct": "dicts", "timestamp in UTC": "timestamps in UTC",
}  # fmt: skip
_HALF = "[\ud800-\udc7f\udd00-\udfff]"  # other surrogates stand for bytes of the input
_ISO = "Write value.isoformat()"
_OF_JSON = 'it has half of a surrogate pair. Write bytes: value.encode("utf-8", "surrogatepass")'
# At most 300 characters of a message are shown.
_OF_BYTES = (
    'it is not UTF-8. Write bytes: value.encode("utf-8", "surrogateescape"); or text, if it is in '
    'Windows-1252: value.encode("utf-8", "surrogateescape").decode("cp1252")'
)


class MixedTypes(Exception):
    """Two kinds that no column can hold together."""


def kind_of(value: Any) -> Kind:
    """Return the kind of a value; raise `RowError` if no column can hold it.

    >>> kind_of([1, None, 2.5])
    ('list', 'double')
    """
    kind = type(value)
    if kind is int:
        return _SMALL if 0 <= value <= _EXACT else _kind_of_int(value)
    if kind is str:
        return "string" if value.isascii() else _kind_of_text(value)
    found = _ATOMS.get(kind)
    return _kind_of_other(value) if found is None else found


def _kind_of_int(value: int) -> Kind:
    low = next((low for low in _LOWS if low <= value), None)
    high = next((high for high in _HIGHS if value <= high), None)
    if low is None or high is None or (low < 0 and high > _HIGHS[1]):
        shown = short_repr(value)  # a ValueError would make the record bad
        raise RowError(f"A column holds integers of 64 bits, but not {shown}. Write it as text.")
    return ("int", low, high)


def _kind_of_text(value: str) -> Kind:
    try:
        value.encode()
    except UnicodeEncodeError:
        advice = _OF_JSON if re.search(_HALF, value) else _OF_BYTES
        raise RowError(f"{value!r:.60} cannot be in a column of text, since {advice}") from None
    return "string"


def _kind_of_other(value: Any) -> Kind:
    if isinstance(value, datetime.datetime):
        if getattr(value, "nanosecond", 0):
            raise RowError(f"{value!r} has nanoseconds, but a column has microseconds. {_ISO}")
        return "timestamp" if value.tzinfo is None else "timestamp in UTC"
    if isinstance(value, datetime.time):
        if value.tzinfo is not None:
            raise RowError(f"{value!r} has a time zone, which a column of times has not. {_ISO}")
        return "time"
    if isinstance(value, decimal.Decimal):
        return _kind_of_decimal(value)
    if isinstance(value, bytearray):
        return "binary"
    if isinstance(value, Mapping):
        return ("struct", tuple((_name(name), kind_of(each)) for name, each in value.items()))
    if isinstance(value, list | tuple):
        try:
            nothing: Kind = "null"
            return ("list", reduce(unite, map(kind_of, value), nothing))
        except MixedTypes as error:
            raise RowError(f"A list of mixed types has no type: {error}.") from None
    if isinstance(value, str):
        return _kind_of_text(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return _kind_of_int(int(value))
    advice = "Write its fields, or str(...) of it"
    if isinstance(value, set | frozenset):
        advice = "Write sorted(...) of it"
    raise RowError(
        f"A column of Parquet cannot hold a value of type {type(value).__name__}. {advice}."
    )


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise RowError(
            f"A dict inside of a column has names of text, but {short_repr(name)} is none."
        )
    return name


def _kind_of_decimal(value: decimal.Decimal) -> Kind:
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        raise RowError(f"A column of decimals cannot hold {value}. Write None instead.")
    scale = max(0, -exponent)
    return ("decimal", max(0, len(digits) + exponent), scale)


def unite(one: Kind, other: Kind) -> Kind:
    """Return the kind of a column that holds both, in any order of calls.

    Integers and floats unite to floats, unless an integer would not be exact.
    Raises `MixedTypes`.

    >>> unite(kind_of(1), kind_of(2.5)), unite("null", "bool")
    ('double', 'bool')
    """
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if "double" in (one, other):
        number = other if one == "double" else one
        if number in (_SMALL, ("int", -_EXACT, _EXACT)):
            return "double"
    elif one[0] == other[0] and isinstance(one, tuple) and isinstance(other, tuple):
        return _unite_alike(one, other)
    raise MixedTypes(f"{describe(one)} and {describe(other)}")


def _unite_alike(one: tuple[Any, ...], other: tuple[Any, ...]) -> Kind:
    family = one[0]
    if family == "int":
        low, high = min(one[1], other[1]), max(one[2], other[2])
        if low < 0 and high > _HIGHS[1]:
            raise MixedTypes("negative integers and integers of 64 bits without a sign")
        return (family, low, high)
    if family == "decimal":
        return (family, max(one[1], other[1]), max(one[2], other[2]))
    if family == "list":
        return (family, unite(one[1], other[1]))
    first, second = dict(one[1]), dict(other[1])
    names = [*first] if [*first] == [*second] else sorted(first.keys() | second.keys())
    kinds = (unite(first.get(name, "null"), second.get(name, "null")) for name in names)
    return (family, tuple(zip(names, kinds, strict=True)))


def describe(kind: Kind) -> str:
    """Name a kind in a message.

    >>> describe(("list", "string"))
    'lists'
    """
    family = _family(kind)
    return _NAMES.get(family, f"{family}s")


def _family(kind: Kind) -> str:
    return kind if isinstance(kind, str) else str(kind[0])


def advice_on(one: Kind, other: Kind) -> str:
    """Return an expression that gives values of both kinds one type.

    >>> advice_on("date", "timestamp"), advice_on("bool", kind_of(7)), advice_on("bool", "string")
    ('value.isoformat()', 'float(value)', 'str(value)')
    """
    both = {_family(one), _family(other)}
    if both == {"binary", "string"}:
        return "value if isinstance(value, bytes) else value.encode()"
    if both <= {"int", "double", "decimal", "bool"}:
        return "float(value)"
    return "value.isoformat()" if both <= _MOMENTS else "str(value)"


def arrow_type(kind: Kind) -> Any:
    """Return the type of pyarrow for a kind."""
    import pyarrow as pa

    if isinstance(kind, str):
        utc = pa.timestamp("us", tz="UTC")
        special = {
            "double": pa.float64(), "bool": pa.bool_(), "string": pa.string(), "date": pa.date32(),
            "time": pa.time64("us"), "timestamp": pa.timestamp("us"), "timestamp in UTC": utc,
            "duration": pa.duration("us"), "binary": pa.binary(), "null": pa.null(),
        }  # fmt: skip
        return special[kind]
    family = kind[0]
    if family == "int":
        return pa.uint64() if kind[2] > _HIGHS[1] else pa.int64()
    if family == "decimal":
        digits = max(1, kind[1] + kind[2])
        return pa.decimal128(digits, kind[2]) if digits <= 38 else pa.decimal256(digits, kind[2])
    if family == "list":
        return pa.list_(arrow_type(kind[1]))
    if not kind[1]:
        raise ValueError("it has only dicts without entries; write None instead")
    return pa.struct([pa.field(name, arrow_type(each)) for name, each in kind[1]])
