"""Random numbers for sample data: the same for the same seed on every machine and Python.

They are 32-bit words of SHAKE-128, and everything that is drawn from them is an integer.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, count
from typing import TypeVar

__all__ = ["Words", "below", "hexadecimal", "log_uniform", "pick", "random_words", "weighted"]

T = TypeVar("T")
Words = Iterator[int]


def random_words(seed: int, purpose: str) -> Words:
    """An endless stream of 32-bit words, one of its own for each purpose."""
    keys = (f"daskmr sample {purpose} {seed} {block}".encode() for block in count())
    return chain.from_iterable(
        struct.unpack("<2048I", hashlib.shake_128(key).digest(8192)) for key in keys
    )


def below(words: Words, limit: int) -> int:
    return next(words) * limit >> 32


def log_uniform(words: Words, bits: int) -> int:
    """A number of up to `bits` bits, small ones as often as large ones."""
    return next(words) >> 32 - (next(words) * (bits + 1) >> 32)


def pick(words: Words, values: Sequence[T]) -> T:
    return values[next(words) * len(values) >> 32]


def hexadecimal(words: Words, digits: int) -> str:
    return "".join(f"{next(words):08x}" for _ in range(-(-digits // 8)))[:digits]


def weighted(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Each value as many times as it weighs.

    >>> weighted({"release": 3, "beta": 1})
    ('release', 'release', 'release', 'beta')
    """
    return tuple(value for value, weight in weights.items() for _ in range(weight))
