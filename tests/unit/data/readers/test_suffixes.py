"""The table of compressions, and that there is a decoder for each."""

from __future__ import annotations

from daskmr.cli.sample import files
from daskmr.data.readers import decompression
from daskmr.data.readers.suffixes import COMPRESSIONS, EXTENSIONS, compression_of


def test_each_compression_can_be_read_and_written() -> None:
    decoders = {codec.name for codec in (*decompression._CODECS, decompression._LZMA)}
    assert decoders == COMPRESSIONS.keys()
    assert {row.extension for row in COMPRESSIONS.values()} <= files._CODECS.keys()
    assert {row.extension for row in COMPRESSIONS.values()} <= EXTENSIONS


def test_names_indicate_a_compression() -> None:
    for row in COMPRESSIONS.values():
        assert compression_of(f"a.b/c.{row.extension.upper()}") is row
    assert compression_of("gz") is None
    assert compression_of("a.txt") is None
