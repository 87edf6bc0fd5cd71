"""Reading of records from bytes, for the tests of the formats."""

from __future__ import annotations

from itertools import islice
from typing import Any

from daskmr.data.readers.records import BadRecord, Reading, RecordFormat
from daskmr.data.readers.registry import reader_of
from support.compressed import NamedBytes

__all__ = ["bad_in", "pairs_in"]


def pairs_in(data: bytes, form: RecordFormat, **limits: Any) -> list[tuple[int, Any, Any]]:
    """Read records: the number, key and value of each."""
    reader = reader_of(form)
    assert reader is not None
    return [
        found
        for batch in reader.read(NamedBytes(data, "f"), form, Reading("f", (), **limits))
        for found in zip(
            batch.numbers, islice(batch.keys, len(batch.values)), batch.values, strict=True
        )
    ]


def bad_in(data: bytes, form: RecordFormat, **limits: Any) -> list[tuple[int, str, Any]]:
    """Read records: the number, reason and bytes of each bad one."""
    found = pairs_in(data, form, **limits)
    return [(n, v.reason, v.raw) for n, _, v in found if isinstance(v, BadRecord)]
