"""Blocks of compressed files are found from any offset on, and nothing else is taken for one."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest
import zstandard
from support.blocks import bgzf_block, pieces, to_bgzf, to_frames, to_skippable_frames, to_streams
from support.compressed import to_gz

from daskmr.data.splits import blocks
from daskmr.data.splits.blocks import find_block, has_blocks

LINES = b"".join(b"k%d\t%d\n" % (n, n * n) for n in range(4000))
FORMS = {"gzip": to_bgzf, "zstd": to_frames, "bzip2": to_streams}
MAGIC = {"gzip": b"\x1f\x8b\x08\x04", "zstd": b"\x28\xb5\x2f\xfd", "bzip2": b"BZh9"}


def find_all(path: Path, codec: str, start: int = 0) -> list[int]:
    """Find all blocks of a file."""
    size, found = path.stat().st_size, []
    with path.open("rb") as file:
        while (at := find_block(file.fileno(), codec, start, size, size)) is not None:
            found.append(at)
            start = at + 1
    return found


def starts(data: list[bytes]) -> list[int]:
    return [sum(map(len, data[:n])) for n in range(len(data))]


@pytest.mark.parametrize("window", [40, 1 << 18])
@pytest.mark.parametrize("codec", FORMS)
def test_all_blocks_and_nothing_else(
    tmp_path: Path, codec: str, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "_WINDOW_BYTES", window)
    packed = [FORMS[codec](piece, len(piece)) for piece in pieces(LINES, 3000)]
    path = tmp_path / "f"
    path.write_bytes(b"".join(packed))
    found = find_all(path, codec)
    if codec == "gzip":  # each has an empty block after it
        found = found[::2]
    assert found == starts(packed)


def test_frames_after_their_length(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(to_skippable_frames(LINES, 3000))
    assert len(find_all(path, "zstd")) == len(pieces(LINES, 3000))


@pytest.mark.parametrize("codec", FORMS)
def test_the_first_bytes_of_a_block_by_chance(tmp_path: Path, codec: str) -> None:
    """Data that cannot be compressed is stored as it is."""
    noise = random.Random(0).randbytes(50)
    inner = MAGIC[codec] + noise + MAGIC[codec] + b"\x00\x58" + noise + bgzf_block(b"k\tv\n")[:20]
    data = [FORMS[codec](inner * 3 + LINES[:500], 10_000) for _ in range(9)]
    path = tmp_path / "f"
    path.write_bytes(b"".join(data))
    found = find_all(path, codec)
    assert (found[::2] if codec == "gzip" else found) == starts(data)


def test_a_file_of_blocks_in_blocks(tmp_path: Path) -> None:
    """The outer blocks are between the inner ones, which are stored as they are."""
    level = [os.urandom(700) for _ in range(100)]
    inner = b"".join(map(bgzf_block, level))
    outer = [bgzf_block(piece) for piece in pieces(inner, 5000)]
    path = tmp_path / "f"
    path.write_bytes(b"".join(outer))
    assert find_all(path, "gzip") == starts(outer)


def test_stops_where_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(to_frames(LINES, 3000))
    second = find_all(path, "zstd")[1]
    with path.open("rb") as file:
        size = path.stat().st_size
        assert find_block(file.fileno(), "zstd", 1, second, size) is None
        assert find_block(file.fileno(), "zstd", 1, second + 1, size) == second


def test_a_frame_that_is_cut_short_is_none(tmp_path: Path) -> None:
    path = tmp_path / "f"
    frames = to_frames(LINES, 3000)
    for cut in (1, 2, 5, 100):
        path.write_bytes(frames[:-cut])
        assert len(find_all(path, "zstd")) == len(pieces(LINES, 3000)) - 1


def test_raw_and_repeated_blocks_of_zstd(tmp_path: Path) -> None:
    data = [os.urandom(300_000), b"x" * 300_000, b"", os.urandom(10)]
    frames = [zstandard.ZstdCompressor(write_content_size=False).compress(each) for each in data]
    path = tmp_path / "f"
    path.write_bytes(b"".join(frames))
    assert find_all(path, "zstd") == starts(frames)


def test_which_files_may_have_blocks() -> None:
    assert has_blocks("gzip", bgzf_block(b"a"))
    assert not has_blocks("gzip", to_gz(b"a"))
    assert not has_blocks("gzip", bgzf_block(b"a")[:17])
    assert not has_blocks("xz", b"\xfd7zXZ\x00")
    assert has_blocks("zstd", to_frames(b"a", 1))
    assert has_blocks("bzip2", to_streams(b"a", 1))


def test_a_block_of_bgzf_is_what_its_header_says() -> None:
    block = bgzf_block(LINES)
    assert struct.unpack("<H", block[16:18])[0] + 1 == len(block)
