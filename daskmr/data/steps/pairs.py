"""The pairs that a step has written, as the records of the next one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from daskmr.data.output_directory.slices import Slice
from daskmr.data.readers.records import Reader, Reading, RecordFormat, Records
from daskmr.job.pickling import ATOMS

__all__ = ["PAIRS", "PairReader", "Pairs", "batched", "raw_pair"]

PAIRS = RecordFormat("(pairs)")
"""The format of the records of each step but the first."""

# Batches must not depend on the blocks that pairs are read from, because what `combine` gets does.
_BATCH = 1024  # pairs
_BATCH_BYTES = 1 << 20
_NESTED = 4096  # bytes that a value is taken for which is no text, number or flat container
_SHOWN = 10_000  # characters of a pair


@dataclass(frozen=True, slots=True)
class Pairs:
    """A share of the pairs of a step.

    - `name`: how messages call the pairs.
    """

    name: str
    slice: Slice

    def read(self) -> Iterator[tuple[Any, Any]]:
        """Yield the pairs in the order of the output of the step."""
        batches: Iterable[Any] = chain.from_iterable(self.slice.read())
        grouped = any(part.kinds for part in self.slice.parts)  # a list for each key
        return iter(chain.from_iterable(batches) if grouped else batches)


class PairReader(Reader):
    """The reader of `Pairs`."""

    name = PAIRS.name
    unit = "pair"

    def read(self, source: Any, form: RecordFormat, file: Reading) -> Iterator[Records]:
        pairs: Pairs = source
        return batched(pairs.read())


def batched(pairs: Iterable[tuple[Any, Any]]) -> Iterator[Records]:
    """Yield pairs as batches of records."""
    keys: list[Any] = []
    values: list[Any] = []
    first, held = 1, 0
    for key, value in pairs:
        keys.append(key)
        values.append(value)
        held += _size(key) + _size(value)
        if len(keys) == _BATCH or held > _BATCH_BYTES:
            yield _records(first, keys, values, held)
            first, keys, values, held = first + len(keys), [], [], 0
    if keys:
        yield _records(first, keys, values, held)


def _records(first: int, keys: list[Any], values: list[Any], held: int) -> Records:
    def raw(index: int) -> bytes:
        return raw_pair(keys[index], values[index])

    return Records(range(first, first + len(keys)), keys, values, raw, held)


def raw_pair(key: Any, value: Any) -> bytes:
    """Return a pair as a message shows it."""
    try:
        text = repr((key, value))
    except Exception as error:  # a class of the script, or an integer with too many digits
        text = f"a pair without a repr ({type(error).__name__})"
    return text[:_SHOWN].encode("utf-8", "replace")


def _size(value: Any) -> int:
    """Estimate the bytes of a value, from its type and length alone."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    if kind in ATOMS:
        return 0
    if kind is dict:
        return 2 * sum(map(_flat_size, value.values()))
    return sum(map(_flat_size, value)) if kind is tuple or kind is list else _NESTED


def _flat_size(value: Any) -> int:
    kind = type(value)
    if kind is str or kind is bytes:
        return 8 + len(value)
    return 8 if kind in ATOMS else _NESTED
