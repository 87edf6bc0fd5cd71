"""Records that a function yields."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, BinaryIO

import pytest
from support.compressed import NamedBytes

from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import BadRecord, Reading, RecordFormat
from daskmr.data.readers.streams import StreamReader

FORM = RecordFormat("read")


def read(function: Any, data: bytes, **limits: Any) -> list[Any]:
    reader = StreamReader("read", function)
    batches = reader.read(NamedBytes(data, "f"), FORM, Reading("f", ["d"], **limits))
    return [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]


def test_the_stream_is_decompressed_and_ends() -> None:
    def whole(stream: BinaryIO, dims: list[str]) -> Iterator[Any]:
        yield dims[0], (stream.readline(), stream.read(), stream.read(1), stream.name)

    assert read(whole, gzip.compress(b"a\nb\nc")) == [("d", (b"a\n", b"b\nc", b"", "f"))]


def test_a_fault_that_the_function_swallows_still_counts() -> None:
    def careless(stream: BinaryIO, dims: list[str]) -> Iterator[Any]:
        with suppress(Exception):
            yield "k", stream.read()

    with pytest.raises(CorruptFileError):
        read(careless, gzip.compress(b"a" * 1000)[:-4])


@pytest.mark.parametrize("found", ["ab", ("a",), None, BadRecord("text", "r")])  # type: ignore[arg-type]
def test_what_is_no_record_is_an_error(found: Any) -> None:
    with pytest.raises(TypeError, match=r"pair|BadRecord takes"):
        read(lambda stream, dims: [("k", 1), found], b"x")


def test_values_that_are_not_json_cannot_be_read_again() -> None:
    reader = StreamReader("read", lambda stream, dims: [("k", b"\xff"), ("k", {"a": 1})])
    (batch,) = reader.read(NamedBytes(b"x", "f"), FORM, Reading("f"))
    again = [reader.reread(batch.raw(n), FORM, Reading("f"), ()).values[0] for n in range(2)]  # type: ignore[arg-type]
    assert again[0].reason == "not saved as JSON"
    assert again[1] == {"a": 1}


def test_long_bad_records_are_cut() -> None:
    ((_, bad),) = read(lambda stream, dims: [BadRecord(b"x" * 99, "r")], b"", max_record_bytes=9)
    assert (bad.reason, bad.raw.length) == ("longer than max-record-bytes", 99)
