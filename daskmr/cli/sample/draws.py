"""Draw random integers that are the same for a seed on every machine and Python version.

Random numbers are 32-bit words of SHAKE-128, from which only integers are drawn.
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
"""An endless stream of random 32-bit words."""


def random_words(seed: int, purpose: str) -> Words:
    """Yield an endless stream of 32-bit words, a separate one for each purpose."""
    keys = (f"daskmr sample {purpose} {seed} {block}".encode() for block in count())
    return chain.from_iterable(
        struct.unpack("<2048I", hashlib.shake_128(key).digest(8192)) for key in keys
    )


def below(words: Words, limit: int) -> int:
    """Draw an integer below `limit`."""
    return next(words) * limit >> 32


def log_uniform(words: Words, bits: int) -> int:
    """Draw a number of up to `bits` bits; all lengths are equally likely."""
    return next(words) >> 32 - (next(words) * (bits + 1) >> 32)


def pick(words: Words, values: Sequence[T]) -> T:
    """Draw one of `values`."""
    return values[next(words) * len(values) >> 32]


def hexadecimal(words: Words, digits: int) -> str:
    """Draw hexadecimal digits."""
    return "".join(f"{next(words):08x}" for _ in range(-(-digits // 8)))[:digits]


def weighted(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Repeat each value as many times as its weight.

    >>> weighted({"release": 3, "beta": 1})
    ('release', 'release', 'release', 'beta')
    """
    return tuple(value for value, weight in weights.items() for _ in range(weight))
