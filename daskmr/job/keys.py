"""The identity, hash and order of keys, which are the same in every process.

Keys that are equal in Python are one key (``1``, ``1.0`` and ``True``), and NaN is one key too.
Nothing here depends on ``PYTHONHASHSEED``: ``hash()`` is used for numbers only.
"""

from __future__ import annotations

import enum
import numbers
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any, TypeAlias
from zlib import crc32

from daskmr.job.tracebacks import elide, short_repr

__all__ = [
    "Ending", "Key", "UnsupportedKeyError", "bucket_of", "canonical", "canonical_all", "name_key",
    "sort_key", "sorted_keys", "stable_hash", "value_key", "value_keys",
]  # fmt: skip

Key: TypeAlias = bool | int | float | str | bytes | tuple["Key", ...] | None

_DEEPEST = 50  # levels of tuples; Python cannot pickle or compare more than a few hundred
_PLAIN = frozenset((str, int, bool, bytes, type(None)))  # types that cannot contain NaN
_NAME = 120  # characters of a key in a message
_NAMED = 20  # elements of a tuple in a message
_LONGEST_INT = 10_000  # maximum bits to show in decimal; Python supports about 14,000
_COMPARABLE = (frozenset((str,)), frozenset((bytes,)), frozenset((int,)), frozenset((int, bool)))


class UnsupportedKeyError(TypeError):
    """A key of a type that has no place in the order of keys."""


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """The key of what `finish_reduce` writes, which comes after all keys of a script.

    Like NaN, it is not equal to itself, so that `sort_key` need not test each number.

    - `reducer`: orders the endings of several reducers.
    """

    reducer: int

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__


def canonical(key: Any, depth: int = 0) -> Key:
    """Return `key` with one object for all NaNs, and plain values for numpy scalars.

    Raises `UnsupportedKeyError` if the key is not None, bool, int, float, str, bytes or a tuple
    of those.

    >>> canonical(float("nan")) is canonical(float("nan"))
    True
    """
    kind = type(key)
    if kind in _PLAIN:
        return key  # type: ignore[no-any-return]
    if kind is float:
        return key if key == key else nan  # one object, because dicts compare identity first
    if kind is tuple:
        if depth == _DEEPEST:
            raise UnsupportedKeyError(f"A key has more than {_DEEPEST} levels of nested tuples.")
        return tuple([canonical(item, depth + 1) for item in key])
    plain = _from_numpy(key)
    if plain is not key:
        return canonical(plain, depth)
    raise UnsupportedKeyError(
        f"A key can be None, bool, int, float, str, bytes or a tuple of those, not "
        f"{kind.__name__}: {short_repr(key)}.{_advice(key)}"
    )


def _from_numpy(key: Any) -> Any:
    """Return the plain value of a numpy scalar if that loses nothing; anything else unchanged."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(key, numpy.number | numpy.bool_ | numpy.character):
        return key
    # A time would become a number in one of its units.
    plain = key if isinstance(key, numpy.timedelta64) else key.item()
    return plain if type(plain) in _PLAIN or type(plain) is float else key


def name_key(key: Any) -> str:
    """Return the ``repr`` of a key in at most about 130 characters, shortened in the middle."""
    return elide(_name(key), _NAME, " ... ({:,} characters) ... ")


def _name(key: Any) -> str:
    if isinstance(key, str | bytes) and len(key) > 4 * _NAME:  # an escape takes four
        head, tail = key[:_NAME], key[-_NAME:]
        return elide(repr(head + tail), _NAME, " ... ")  # type: ignore[operator]
    if isinstance(key, int) and key.bit_length() > _LONGEST_INT:
        return hex(key)  # Python limits the digits of a decimal conversion
    if type(key) is tuple:
        names = [_name(item) for item in key[:_NAMED]]
        if len(key) > _NAMED:
            names.append(f"... ({len(key):,} elements)")
        return f"({', '.join(names)}{',' * (len(key) == 1)})"
    return repr(key)


_INSTEAD: tuple[tuple[Any, str], ...] = (  # the first type that fits
    (set | frozenset, "tuple(sorted(key)) instead: a set has no order of its own"),
    (list, "tuple(key) instead"),
    (dict, "tuple(sorted(key.items())) instead"),
    *((kind, f"{kind.__name__}(key) instead") for kind in (str, bytes, int, float)),
    (complex, "str(key), or a tuple of its fields, instead"),
    (numbers.Number, "int(key) or float(key) instead: as text, 10 comes before 9"),
    (enum.Enum, "key.value or key.name instead"),
    (bytearray | memoryview, "bytes(key) instead"),
    # In Python 2, `filter` of text returned text, and `zip` returned a list.
    (Iterable, "tuple(key) instead, or ''.join(key) for text"),
)


def _advice(key: Any) -> str:
    advice = next((advice for kind, advice in _INSTEAD if isinstance(key, kind)), "")
    if not advice:
        kind: Any = type(key)
        advice = "str(key), or a tuple of its fields, instead"
        if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
            advice = "a tuple of its fields instead"  # its text is an address in memory
    return f" Write {advice}."


def canonical_all(keys: list[Any]) -> list[Key]:
    """Make unpickled keys canonical again, which is fast for types that cannot contain NaN."""
    return keys if _PLAIN.issuperset(map(type, keys)) else list(map(canonical, keys))


def sort_key(key: Key) -> tuple[Any, ...]:
    """Return a sort key that orders None, numbers (NaN last), text, bytes, tuples.

    >>> sorted(["b", None, (1, "x"), 2, b"z", True, float("-inf"), (1,)], key=sort_key)
    [None, -inf, True, 2, 'b', b'z', (1,), (1, 'x')]
    """
    if isinstance(key, str):
        return (2, key)
    if key is None:
        return (0,)
    if isinstance(key, bytes):
        return (3, key)
    if isinstance(key, tuple):
        return (4, tuple(map(sort_key, key)))
    if key == key:
        return (1, 0, key)
    return (5, key.reducer) if isinstance(key, Ending) else (1, 1)


def value_key(value: Any) -> tuple[Any, ...]:
    """Return a sort key for any value: like `sort_key`, with lists as tuples; others come last.

    Only values of other types may fail to compare.

    >>> sorted([(1, None), "b", 2.5, [1, "x"], None, float("nan")], key=value_key)
    [None, 2.5, nan, 'b', (1, None), [1, 'x']]
    """
    kind = type(value)
    if kind is str or kind is bytes or value is None:
        return sort_key(value)
    if isinstance(value, tuple | list):
        return (4, tuple(map(value_key, value)))
    if isinstance(value, str | bytes | int | float | numbers.Number):
        return sort_key(value)  # type: ignore[arg-type]
    return (5, value)


def value_keys(values: list[Any]) -> Sequence[Any]:
    """Return sort keys for values; the values themselves, if their types allow comparing them."""
    kinds = set(map(type, values))
    return values if kinds in _COMPARABLE else list(map(value_key, values))


def sorted_keys(keys: Iterable[Key]) -> list[Any]:
    """Sort keys by `sort_key`, or compare them directly if their types allow it.

    >>> sorted_keys({"b": 1, "a": 2})
    ['a', 'b']
    """
    keys = list(keys)
    if set(map(type, keys)) in _COMPARABLE or not keys:
        keys.sort()
    else:
        keys.sort(key=sort_key)
    return keys


def bucket_of(key: Key, buckets: int) -> int:
    """Return the bucket, from 0 to `buckets` - 1, that `key` belongs to in every process.

    >>> bucket_of(1, 8) == bucket_of(1.0, 8) == bucket_of(True, 8)
    True
    """
    return stable_hash(key) % buckets


def stable_hash(key: Key) -> int:
    """Return a 32-bit number, which is the same for equal keys in every process."""
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return crc32(key, 1)
    if isinstance(key, tuple):
        digest = len(key)
        for element in key:
            digest = crc32(stable_hash(element).to_bytes(4, "little"), digest)
        return digest
    if key is None or key != key:
        return 2 if key is None else 3
    return crc32(hash(key).to_bytes(8, "little", signed=True), 4)
