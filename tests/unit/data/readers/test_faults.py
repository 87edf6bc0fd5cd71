"""Errors about input that cannot be read."""

from __future__ import annotations

import lzma
import pickle
import struct

import pytest
import zstandard
from support.compressed import (
    TEXT,
    NamedBytes,
    read,
    to_gz,
    to_lzma,
    zstd_with_window,
)

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.errors import TaskFailed


def test_settings_that_liblzma_lacks_are_no_damage():
    data = to_lzma(TEXT)
    with pytest.raises(TaskFailed, match="7-Zip") as caught:
        read(bytes([8]) + data[1:], "x.lzma")  # lc=8
    assert "xz" not in caught.value.message  # which cannot read it either


def test_a_window_beyond_the_format_is_damage():
    data = bytearray(zstd_with_window(TEXT, 31))
    data[5] = 22 << 3  # 4 GiB
    with pytest.raises(CorruptFileError, match="larger than the maximum of 2 GiB"):
        read(bytes(data))


def test_a_missing_dictionary_is_named():
    dictionary = zstandard.train_dictionary(2000, [b"key%d\tvalue" % n * 5 for n in range(500)])
    data = zstandard.ZstdCompressor(dict_data=dictionary).compress(TEXT)
    with pytest.raises(TaskFailed, match=f"dictionary {dictionary.dict_id()}, without which"):
        read(data)


def xz_with_dictionary(text, size, chain=()):
    chain = [*chain, {"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": size}]
    return lzma.compress(text, filters=chain)


LARGE_TEXT = b"key\tvalue\n" * (1 << 20)


@pytest.mark.parametrize("codec", ["zstd", "xz", "xz with a filter", "lzma"])
def test_a_window_that_outgrows_the_memory_is_no_damage(codec, monkeypatch):
    monkeypatch.setattr("daskmr.data.readers.faults._USUAL_WINDOW", 1 << 22)
    window = 1 << 24
    if codec == "zstd":
        data = zstd_with_window(LARGE_TEXT, 24)
    elif codec == "lzma":
        data = bytearray(lzma.compress(LARGE_TEXT, lzma.FORMAT_ALONE, preset=0))
        data[1:5] = struct.pack("<I", window)
    else:
        chain = [{"id": lzma.FILTER_DELTA}] if "filter" in codec else []
        data = xz_with_dictionary(LARGE_TEXT, window, chain)
    name = codec.split()[0]

    def size():
        return sum(map(len, read_chunks(NamedBytes(data, f"a b.{name}"))))

    monkeypatch.setattr("daskmr.memory.limit", lambda: 1 << 40)
    assert size() == len(LARGE_TEXT)
    monkeypatch.setattr("daskmr.memory.limit", lambda: 200 << 20)
    monkeypatch.setattr("daskmr.memory.resident", lambda: 170 << 20)
    with pytest.raises(TaskFailed) as caught:
        size()
    message = caught.value.message
    assert "is not damaged, but needs more memory" in message
    assert f"its {name} data has a window of 17 MB, and the limit is 210 MB" in message
    assert "Raise --memory-limit to 300 MB or more" in message
    assert message.splitlines()[-1].endswith(f" > 'a b.{name}.new'")
    # What is small is read, whatever its header asks for.
    data = zstd_with_window(TEXT, 24) if codec == "zstd" else xz_with_dictionary(TEXT, window)
    assert size() == len(TEXT)


def test_the_error_survives_pickling():
    with pytest.raises(CorruptFileError) as caught:
        read(to_gz(TEXT)[:-3], "x.gz")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
    assert (copy.path, copy.data_bytes, copy.reason) == caught.value.args
    assert caught.value.__cause__ is None
