"""Compressed input in every codec, and short ways to read it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random

import pytest
import zstandard

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.lines import read_lines

TEXT = "".join(f"key{i % 7}\t{{'n': {i * i}}}\n" for i in range(12)).encode()


def to_gz(data):
    return gzip.compress(data, mtime=0)


def to_xz(data):
    return lzma.compress(data)


def to_lzma(data):
    return lzma.compress(data, lzma.FORMAT_ALONE)


def to_zst(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


CODECS = {"gz": to_gz, "xz": to_xz, "lzma": to_lzma, "bz2": bz2.compress, "zst": to_zst}
FORMS = {"gz": "gzip", "xz": "xz", "lzma": "lzma", "bz2": "bzip2", "zst": "zstd"}
PLAIN = ("log", "txt", "json", "jsonl", "tsv")
ON_EVERY_CODEC = pytest.mark.parametrize("codec", CODECS)


class NamedBytes(io.BytesIO):
    def __init__(self, data, name="a/b/c"):
        super().__init__(data)
        self.name = name


def read(data, name="a/b/c", **options):
    return b"".join(read_chunks(NamedBytes(data, name), **options))


def lines_of(data, max_record_bytes=1 << 30, name="a.log", **options):
    batches = read_lines(NamedBytes(data, name), max_record_bytes, **options)
    return [line for lines, _ in batches for line in lines]


def noise(size):
    return random.Random(size).randbytes(size)


def zstd_with_window(text, window_log):
    settings = zstandard.ZstdCompressionParameters(window_log=window_log)
    writer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    return writer.compress(text) + writer.flush()  # of a size not known before
