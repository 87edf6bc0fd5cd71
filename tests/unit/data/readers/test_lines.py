"""Data split into lines and decoded; byte order marks; data that is no text."""

from __future__ import annotations

import io
import json
import os
import pickle
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.compressed import (
    CODECS,
    FORMS,
    TEXT,
    NamedBytes,
    lines_of,
    to_gz,
    to_zst,
)

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines, read_raw_lines
from daskmr.data.readers.records import OversizedLine, raw_bytes
from daskmr.data.readers.sniffing import form_of
from daskmr.errors import TaskFailed

# Byte order marks, and what is no text

BOM = b"\xef\xbb\xbf"
FILES = ("gz", "xz", "lzma")  # whose streams may be files; those of the others are blocks


@pytest.mark.parametrize("chunk_bytes", [1, 2, 1000])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (BOM + b"a\t1\nb", ["a\t1", "b"]),
        (BOM, []),
        (BOM + b"\n", [""]),
        (BOM + b"\na\t1", ["", "a\t1"]),
        (BOM * 2 + b"a", ["a"]),
        (BOM[:2], ["\udcef\udcbb"]),
        (b"a\t" + BOM + b"\n" + BOM + b"b", ["a\t\ufeff", "\ufeffb"]),
        (b"\n" + BOM, ["", "\ufeff"]),
    ],
)
def test_a_byte_order_mark_is_no_part_of_the_first_line(data, lines, chunk_bytes):
    assert lines_of(data, chunk_bytes=chunk_bytes, read_bytes=chunk_bytes) == lines
    for compress in CODECS.values():
        assert lines_of(compress(data), name="x.gz", chunk_bytes=chunk_bytes) == lines
    assert b"".join(read_chunks(NamedBytes(data))) == data  # they are the data as it is


@pytest.mark.parametrize("codec", FILES)
def test_byte_order_marks_of_streams_that_were_put_together(codec):
    parts = [b"", BOM + b"a\t1\n", BOM, BOM + b"b\t2", BOM + b"c\n", BOM + b"d", b"", BOM]
    data = b"".join(map(CODECS[codec], parts))
    for chunk_bytes in (1, 1000):
        lines = lines_of(data, name=f"x.{codec}", chunk_bytes=chunk_bytes)
        assert lines == ["a\t1", "b\t2\ufeffc", "d\ufeff"]


@pytest.mark.parametrize("outer", ["", *CODECS])
@pytest.mark.parametrize("inner", CODECS)
def test_a_compression_within_another_is_refused(outer, inner):
    data = CODECS[inner](TEXT)
    if not outer and inner != "lzma":
        assert lines_of(data, name="x.log") == naive(TEXT)
        return
    name = f"x.{outer or 'log'}"
    data = CODECS[outer](data) if outer else data
    with pytest.raises(TaskFailed) as caught:
        lines_of(data, name=name, read_bytes=100, chunk_bytes=7)
    assert f"The input file {name}" in caught.value.message
    assert " data, not lines of text." in caught.value.message
    assert caught.value.message.endswith(f" > {name}.new")


@pytest.mark.parametrize("codec", FILES)
@pytest.mark.parametrize(
    ("inner", "name"), [(to_gz(TEXT), "gzip data"), (TEXT.decode().encode("utf-16"), "UTF-16")]
)
def test_a_later_stream_that_is_no_text_is_refused(codec, inner, name):
    compress = CODECS[codec]
    with pytest.raises(TaskFailed, match=f"After {len(TEXT):,} bytes of lines .* {name}") as caught:
        lines_of(compress(TEXT) + compress(b"") + compress(inner), name=f"x.{codec}")
    assert f"several streams of {FORMS[codec]} data" in caught.value.message
    # What goes on with a line is its end, whatever it looks like.
    data = TEXT + b"k\t" + inner
    assert lines_of(compress(TEXT + b"k\t") + compress(inner), name=f"x.{codec}") == naive(data)


def test_damage_is_met_while_reading_lines():
    text = b"a line\n" * 100_000
    batches = read_lines(NamedBytes(to_gz(text)[:-4], "x.gz"))
    with pytest.raises(CorruptFileError):
        list(batches)


def test_a_file_is_closed_when_reading_stops_early(tmp_path):
    path = tmp_path / "x.log"
    path.write_bytes(TEXT * 100_000)
    before = len(os.listdir("/dev/fd"))
    batches = read_lines(path)
    next(batches)
    batches.close()
    assert len(os.listdir("/dev/fd")) == before


# Lines


def naive(data):
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.decode("utf-8", "surrogateescape") for line in lines]


pieces = st.sampled_from(
    [b"\n", b"\n\n", b"\r\n", b"\r", b"\t", b"a", b"key\tvalue", b"\x0b", b"\x0c", b"\x1c", b"\x85"]
    + [text.encode() for text in ("é", "\u2028", "\x85", "日本", "😀")]
    + [b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"x" * 40]
)
contents = (st.lists(pieces, max_size=60).map(b"".join) | st.binary(max_size=100)).filter(
    lambda data: not data.startswith(BOM) and form_of(data) is form_of(b"\n" + data) is None
)
small_sizes = st.integers(1, 70)


@given(contents, small_sizes, small_sizes)
def test_lines_are_those_of_a_naive_splitter(data, chunk_bytes, read_bytes):
    data = b"\n" + data  # never looks compressed
    lines = lines_of(data, chunk_bytes=chunk_bytes, read_bytes=read_bytes)
    assert lines == naive(data)
    assert [raw_bytes(line) for line in lines] == [raw_bytes(line) for line in naive(data)]


@given(contents, small_sizes)
def test_lines_of_compressed_data(data, chunk_bytes):
    assert lines_of(to_zst(data), chunk_bytes=chunk_bytes) == naive(data)


@given(contents, small_sizes)
def test_a_line_to_strip_is_announced(data, read_bytes):
    for lines, has_cr in read_lines(NamedBytes(b"\n" + data), read_bytes=read_bytes):
        assert lines
        assert has_cr or not any(line.endswith("\r") for line in lines)


def test_data_without_returns_announces_none():
    assert not any(has_cr for _, has_cr in read_lines(NamedBytes(TEXT), read_bytes=5))


@given(contents, small_sizes, st.integers(0, 12))
def test_lines_beyond_the_limit(data, read_bytes, limit):
    data = b"\n" + data
    lines = lines_of(data, limit, read_bytes=read_bytes)
    expected = naive(data)
    assert len(lines) == len(expected)
    for line, full in zip(lines, expected, strict=True):
        length = len(raw_bytes(full))
        if length > limit:
            assert isinstance(line, OversizedLine)
            assert line.length == length
        else:
            assert line == full
            assert type(line) is str


class _Piecemeal(io.BytesIO):
    """Returns a few bytes a read, as a pipe does."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self.most = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.most)


@given(contents, small_sizes, st.integers(0, 12))
def test_raw_lines_are_those_of_the_text(data, size, limit):
    data = b"\n" + data  # so that it does not begin with a byte order mark
    lines = [line for lines in read_raw_lines(_Piecemeal(data, size), limit) for line in lines]
    expected = [raw_bytes(line) for line in naive(data)]
    assert len(lines) == len(expected)
    for line, full in zip(lines, expected, strict=True):
        if len(full) > limit:
            assert isinstance(line, OversizedLine)
            assert line.length == len(full)
        else:
            assert line in (full, full + b"\n")


@given(st.binary(max_size=50))
def test_raw_bytes_is_the_inverse_of_decoding(data):
    assert raw_bytes(data.decode("utf-8", "surrogateescape")) == data


@pytest.mark.parametrize(
    ("text", "text_bytes"),
    [
        ("x" * 99_990, 99_990),
        ("caf\xe9 " * 19_998, 99_990),
        ("x" * 99_989 + "\u20ac", 199_980),
        ("x" * 99_989 + "\U0001f4a9", 399_960),
        ("\udcff" * 99_990, 199_980),
    ],
)
def test_a_line_counts_by_the_memory_that_its_text_takes(text, text_bytes):
    data = raw_bytes(f"a\t1\n{text}\nb\t2")
    assert lines_of(data, max_text_bytes=text_bytes) == ["a\t1", text, "b\t2"]
    first, line, last = lines_of(data, max_text_bytes=text_bytes - 1)
    assert (first, last) == ("a\t1", "b\t2")
    assert isinstance(line, OversizedLine)
    assert (line.length, line.text_bytes) == (len(raw_bytes(text)), text_bytes)


def test_an_oversized_line_has_no_tab_and_travels():
    line = OversizedLine(7, 28)
    assert line.partition("\t") == ("", "", "")
    copy = pickle.loads(pickle.dumps(line))
    assert isinstance(copy, OversizedLine)
    assert (copy.length, copy.text_bytes) == (7, 28)


def test_a_huge_line():
    value = json.dumps({"text": "x" * 30_000_000})
    data = to_gz(f"short\t1\nhuge\t{value}\nafter\t2".encode())
    assert lines_of(data) == ["short\t1", f"huge\t{value}", "after\t2"]


def test_a_huge_line_is_held_twice_at_most():
    """As the bytes that have come, and as the text that they are decoded to."""
    size = 32 << 20
    data = to_gz(b"short\t1\nhuge\t" + bytes(size) + b"\nafter\t2\n")
    tracemalloc.start()
    try:
        lengths = [len(line) for lines, _ in read_lines(NamedBytes(data)) for line in lines]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lengths == [7, 5 + size, 7]
    assert peak < 2.25 * size + (2 << 20)


def test_a_line_beyond_the_limit_is_not_held():
    data = to_gz(b"short\t1\n" + bytes(64 << 20) + b"\nafter\t2\n")
    tracemalloc.start()
    try:
        lines = lines_of(data, 1 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert lines == ["short\t1", "", "after\t2"]
    assert lines[1].length == 64 << 20
    assert peak < 8 << 20
