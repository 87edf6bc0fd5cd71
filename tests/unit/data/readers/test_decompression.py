"""Every way a file can be compressed and damaged."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from support.compressed import (
    CODECS,
    ON_EVERY_CODEC,
    PLAIN,
    TEXT,
    NamedBytes,
    lines_of,
    noise,
    read,
    to_gz,
    to_lzma,
    to_xz,
    to_zst,
    zstd_with_window,
)

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines
from daskmr.errors import TaskFailed

# What is inside decides


@ON_EVERY_CODEC
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000])
def test_every_codec_from_a_path(tmp_path, codec, size):
    path = tmp_path / f"data.{codec}"
    path.write_bytes(CODECS[codec](noise(size)))
    assert b"".join(read_chunks(path)) == noise(size)
    assert b"".join(read_chunks(str(path))) == noise(size)


@ON_EVERY_CODEC
@pytest.mark.parametrize("extension", CODECS)
def test_names_may_be_wrong(codec, extension):
    assert read(CODECS[codec](TEXT), f"x.{extension}") == TEXT


@pytest.mark.parametrize("codec", sorted(CODECS.keys() - {"lzma"}))
@pytest.mark.parametrize("extension", [*PLAIN, "LOG", "unknown"])
def test_plain_names_may_hold_compressed_data(codec, extension):
    assert read(CODECS[codec](TEXT), f"x.{extension}") == TEXT


@pytest.mark.parametrize("extension", PLAIN)
@pytest.mark.parametrize("data", [TEXT, b"]\0\0x", b"BZh9 is a name", b"\x1f", b"\0\0", noise(99)])
def test_plain_data_is_read_as_it_is(extension, data):
    assert read(data, f"x.{extension}") == data


@pytest.mark.parametrize("extension", [*CODECS, "GZ"])
@pytest.mark.parametrize("data", [TEXT, b"\x1f", b"\0", b"\n", b"BZh9 is a name"])
def test_compressed_names_without_compressed_data(extension, data):
    with pytest.raises(
        CorruptFileError, match=r"look like gzip, xz.*(says|renamed to x)\.$"
    ) as caught:
        read(data, f"x.{extension}")
    assert caught.value.data_bytes == 0


@pytest.mark.parametrize("extension", [*PLAIN, *CODECS, "unknown"])
def test_no_bytes_are_no_records(tmp_path, extension):
    path = tmp_path / f"x.{extension}"
    path.touch()
    assert list(read_chunks(path)) == []
    assert list(read_lines(path)) == []


@ON_EVERY_CODEC
@pytest.mark.parametrize("chunk_bytes", [1, 7, 100_000])
@pytest.mark.parametrize("read_bytes", [1, 2, 13, 100_000])
def test_sizes_of_chunks_and_reads_do_not_matter(codec, chunk_bytes, read_bytes):
    data = CODECS[codec](TEXT)
    if codec != "lzma":
        data *= 3
    options = {"chunk_bytes": chunk_bytes, "read_bytes": read_bytes}
    assert read(data, f"x.{codec}", **options) == TEXT * (1 if codec == "lzma" else 3)


# Streams that follow one another


@ON_EVERY_CODEC
def test_concatenated_streams(codec):
    parts = [b"", b"one\n", b"", b"", TEXT, b"last", b""]
    data = b"".join(map(CODECS[codec], parts))
    assert read(data, f"x.{codec}") == b"".join(parts)


@ON_EVERY_CODEC
def test_nothing_but_empty_streams(codec):
    assert read(CODECS[codec](b"") * 3, f"x.{codec}") == b""
    assert lines_of(CODECS[codec](b"") * 3, name=f"x.{codec}") == []


def test_zeros_after_gzip():
    one = to_gz(TEXT)
    assert read(one + b"\0" * 300_001) == TEXT
    assert read(one + b"\0" * 7 + one) == TEXT * 2


def test_stream_padding_of_xz():
    one = to_xz(TEXT)
    assert read(one + b"\0" * 8) == TEXT
    assert read(one + b"\0" * 4 + one + b"\0" * 262_144, read_bytes=3) == TEXT * 2
    with pytest.raises(CorruptFileError):
        read(one + b"\0" * 6)
    with pytest.raises(CorruptFileError):
        read(one + b"\0" * 3 + one)


@pytest.mark.parametrize("codec", ["bz2", "zst", "lzma"])
def test_no_zeros_after_the_others(codec):
    with pytest.raises(CorruptFileError):
        read(CODECS[codec](TEXT) + b"\0\0\0\0", f"x.{codec}")


@ON_EVERY_CODEC
@pytest.mark.parametrize("garbage", [b"x", b"\n", b"\0\0\0\0x", b"garbage" * 9999, to_gz(b"")[:1]])
@pytest.mark.parametrize("read_bytes", [1 << 16, 5])
def test_trailing_garbage(codec, garbage, read_bytes):
    with pytest.raises(CorruptFileError, match="followed by something else") as caught:
        read(CODECS[codec](TEXT) + garbage, f"x.{codec}", read_bytes=read_bytes)
    assert caught.value.data_bytes == len(TEXT)


@ON_EVERY_CODEC
def test_another_codec_is_garbage(codec):
    other = to_gz if codec != "gz" else to_xz
    with pytest.raises(CorruptFileError, match="followed by something else"):
        read(CODECS[codec](TEXT) + other(TEXT), f"x.{codec}")


def skippable(content, nibble=0):
    return struct.pack("<II", 0x184D2A50 + nibble, len(content)) + content


@pytest.mark.parametrize("nibble", [0, 7, 15])
def test_skippable_frames_of_zstd(nibble):
    extra = skippable(b"anything", nibble)
    data = extra + to_zst(b"one\n") + extra + skippable(b"") + to_zst(TEXT) + extra
    assert read(data) == b"one\n" + TEXT
    assert read(data, read_bytes=1) == b"one\n" + TEXT
    assert read(extra) == b""


def test_zstd_without_its_size_and_in_blocks():
    writer = zstandard.ZstdCompressor().compressobj()
    pieces = [noise(70_000), b"", b"a" * 300_000, TEXT]
    data = b"".join(
        writer.compress(p) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for p in pieces
    )
    assert read(data + writer.flush()) == b"".join(pieces)


def test_lzma_with_its_size_in_the_header():
    data = to_lzma(TEXT)
    sized = data[:5] + struct.pack("<Q", len(TEXT)) + data[13:]
    assert read(sized, "x.lzma") == TEXT


def gzip_member(data, flags):
    """A member with the optional fields of `flags`, whose bits are those of the format."""
    header = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    header += b"\x03\0abc" if flags & 4 else b""
    header += b"name\0" if flags & 8 else b""
    header += b"comment\0" if flags & 16 else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    body = zlib.compressobj(wbits=-15)
    deflated = body.compress(data) + body.flush()
    return header + deflated + struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("flags", range(0, 32, 2))
def test_gzip_with_every_header_field(flags):
    data = gzip_member(TEXT, flags)
    assert gzip.decompress(data) == TEXT
    for read_bytes in (1, 11, 1000):
        assert read(data * 2, read_bytes=read_bytes) == TEXT * 2


@pytest.mark.parametrize("offset", range(0, 40, 3))
def test_gzip_headers_across_reads(offset):
    first = gzip.compress(noise(65_536 - 60 + offset), 0, mtime=0)
    data = first + gzip_member(TEXT, 30)
    assert read(data, read_bytes=65_536) == gzip.decompress(data)


@pytest.mark.parametrize("read_bytes", [100, 4097, 65_536])
@pytest.mark.parametrize("chunk_bytes", [999, 65_536])
def test_many_members_of_all_levels(read_bytes, chunk_bytes):
    numbers = random.Random(1)
    members = [
        numbers.choice([noise, lambda size: (TEXT * 200)[:size]])(numbers.randrange(60_000))
        for _ in range(20)
    ]
    data = b"".join(gzip.compress(m, i % 10) for i, m in enumerate(members))
    assert read(data, read_bytes=read_bytes, chunk_bytes=chunk_bytes) == b"".join(members)


def test_gzip_headers_of_any_length():
    def member(extra, name, comment):
        header = b"\x1f\x8b\x08" + bytes([4 + 8 + 16 + 2]) + bytes(6)
        header += struct.pack("<H", len(extra)) + extra + name + b"\0" + comment + b"\0"
        header += struct.pack("<H", zlib.crc32(header) & 0xFFFF)
        return header + gzip.compress(TEXT, mtime=0)[10:]

    sizes = [(65_535, 0, 0), (0, 70_000, 300_000), (65_535, 8_192, 131_072), (3, 8_175, 1)]
    data = b"".join(member(b"\1" * e, b"n" * n, b"c" * c) for e, n, c in sizes)
    assert gzip.decompress(data) == TEXT * len(sizes)
    for read_bytes in (1000, 65_536):
        assert read(data, read_bytes=read_bytes) == TEXT * len(sizes)
    for end in (5, 11, 40_000, 65_560):
        with pytest.raises(CorruptFileError, match="ends in the middle"):
            read(data[:end])


def test_a_gzip_header_without_an_end():
    with pytest.raises(CorruptFileError, match="the header of its gzip data has more than"):
        read(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * (40 << 20), read_bytes=1 << 20)


@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("dictionary", [1, 4096, 100_000, 1 << 23, (1 << 32) - 1])
@pytest.mark.parametrize(("lc", "lp", "pb"), [(3, 0, 2), (4, 0, 0), (0, 4, 4), (0, 0, 0)])
def test_lzma_with_every_header(lc, lp, pb, dictionary, sized):
    settings = {"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": 4096}
    data = bytearray(lzma.compress(TEXT, lzma.FORMAT_ALONE, filters=[settings]))
    data[1:5] = struct.pack("<I", dictionary)
    if sized:
        data[5:13] = struct.pack("<Q", len(TEXT))
    for name in ("x.lzma", "x.xz", "x.gz"):
        assert read(bytes(data * 2), name) == TEXT * 2


@pytest.mark.parametrize("data", [bytes(2000), b"a" + bytes(2000), b"]\0\0\1\0" + b"\1" * 2000])
def test_what_only_looks_like_lzma_is_not_empty(data):
    with pytest.raises(CorruptFileError):
        read(data, "x.lzma")


@pytest.mark.parametrize("check", [lzma.CHECK_NONE, lzma.CHECK_CRC32, lzma.CHECK_SHA256])
def test_xz_with_every_check_and_with_filters(check):
    chain = [
        {"id": lzma.FILTER_DELTA, "dist": 4},
        {"id": lzma.FILTER_X86},
        {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 20},
    ]
    data = lzma.compress(TEXT, check=check) + lzma.compress(TEXT, check=check, filters=chain)
    assert read(data) == TEXT * 2


@pytest.mark.parametrize("window_log", [10, 27, 28, 31])
def test_windows_of_every_size(window_log):
    data = zstd_with_window(TEXT, window_log)
    assert zstandard.get_frame_parameters(data).window_size == 1 << window_log
    assert read(data * 2) == TEXT * 2


# Damage


def read_or_none(data, name):
    try:
        return read(data, name)
    except (CorruptFileError, TaskFailed):
        return None


@ON_EVERY_CODEC
def test_truncation_at_every_byte(codec):
    first, second = CODECS[codec](TEXT), CODECS[codec](b"second\n")
    whole = {0: b"", len(first): TEXT, len(first) + len(second): TEXT + b"second\n"}
    if codec == "xz":  # the same file with stream padding is cut in the padding too
        first += b"\0\0\0\0"
        whole = {0: b"", len(first) - 4: TEXT, len(first): TEXT}
    data = first + second
    for end in range(len(data)):
        assert read_or_none(data[:end], f"x.{codec}") == whole.get(end), end


def test_truncation_within_padding_of_gzip_is_no_loss():
    data = to_gz(TEXT) + bytes(5)
    for end in range(len(data) - 5, len(data) + 1):
        assert read(data[:end]) == TEXT


@pytest.mark.parametrize("codec", ["gz", "xz", "zst", "bz2"])
def test_no_flipped_bit_changes_the_data_silently(codec):
    data = CODECS[codec](TEXT)
    missed = set()
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            result = read_or_none(bytes(flipped), f"x.{codec}")
            assert result in (None, TEXT), (position, bit)
            if result is not None:
                missed.add(position)
    # fields that carry no data: flags, time and system of gzip; level of bzip2; window of zstd;
    # the bits that fill the last byte
    assert len(missed) <= 10, missed


def test_trailer_of_gzip_is_checked():
    data = to_gz(TEXT)
    for position in range(len(data) - 8, len(data)):
        flipped = bytearray(data)
        flipped[position] ^= 1
        with pytest.raises(CorruptFileError, match="not valid"):
            read(bytes(flipped))


@ON_EVERY_CODEC
def test_how_far_it_got(tmp_path, codec):
    text = noise(2_000_000)
    path = tmp_path / f"spéci al.{codec}"
    path.write_bytes(CODECS[codec](text)[:-1000])
    chunks = []
    with pytest.raises(CorruptFileError, match="ends in the middle") as caught:
        chunks.extend(read_chunks(path))
    error = caught.value
    assert error.path == str(path)
    assert 0 < error.data_bytes <= len(text)
    assert f"{error.data_bytes:,} bytes" in str(error)


def test_a_hostile_dictionary_size_is_refused():
    data = b"\x5d\0\0\0\xf0" + b"\xff" * 8 + b"\0" * 100
    with pytest.raises(CorruptFileError):
        read(data, "x.lzma")


class FailingStream(NamedBytes):
    def read(self, size=-1):
        if self.tell():
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_failing_read_is_not_taken_for_damage(tmp_path):
    data = bz2.compress(noise(1000))
    with pytest.raises(OSError, match="Input/output"):
        list(read_chunks(FailingStream(data), read_bytes=100))
    with pytest.raises(FileNotFoundError) as caught:
        list(read_chunks(tmp_path / "gone.gz"))
    assert caught.value.filename == str(tmp_path / "gone.gz")


def test_a_path_is_named_when_its_read_fails(tmp_path, monkeypatch):
    path = tmp_path / "x.log"
    path.write_bytes(b"a\tb\n")
    stream = FailingStream(path.read_bytes())
    stream.seek(1)
    monkeypatch.setattr("builtins.open", lambda *args, **options: stream)
    with pytest.raises(OSError, match="Input/output error") as caught:
        list(read_chunks(path))
    assert caught.value.filename == str(path)


# Memory


@ON_EVERY_CODEC
def test_bombs_are_unpacked_bit_by_bit(codec):
    data = CODECS[codec](bytes(64 << 20))
    assert len(data) < 80_000
    tracemalloc.start()
    try:
        sizes = [len(chunk) for chunk in read_chunks(NamedBytes(data, f"x.{codec}"))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 5 << 20
    assert peak < 12 << 20


@ON_EVERY_CODEC
def test_a_small_file_is_asked_for_its_end_but_once(codec):
    """Of many small files, that would be most of the calls."""

    class Counting(NamedBytes):
        ends = 0

        def read(self, size=-1):
            data = super().read(size)
            self.ends += not data
            return data

    file = Counting(CODECS[codec](b"a\t1\n"), f"x.{codec}")
    assert b"".join(read_chunks(file)) == b"a\t1\n"
    assert file.ends == 1
