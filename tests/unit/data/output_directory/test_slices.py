"""An output is divided by its index, so that the slices in order are the output."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data import parts
from daskmr.data.output_directory import slices
from daskmr.data.output_directory.slices import divide
from daskmr.data.parts import Part, PartWriter, merge_parts
from daskmr.data.segments import Extent
from daskmr.data.steps import cuts
from daskmr.job.keys import canonical, sort_key

TEXT = st.text("ab", max_size=6)
MIXED = st.none() | st.booleans() | st.floats() | TEXT | st.binary(max_size=4) | st.tuples(TEXT)
KEYS = st.one_of(st.lists(TEXT), st.lists(st.integers(-9, 99)), st.lists(MIXED))


def written(slices: Any) -> list[Any]:
    return [line for each in slices for batch in each.read() for line in batch]


def reduced(folder: str, keys: list[Any], buckets: int, lines: int) -> list[Part]:
    """Write parts as reducers do, with blocks of two keys, and a key in several blocks."""
    ordered = sorted({sort_key(k): k for k in map(canonical, keys)}.values(), key=sort_key)
    found = []
    for bucket in range(buckets):
        writer = PartWriter(folder, 1 << 20, indexed=True)
        own = [key for number, key in enumerate(ordered) if number % buckets == bucket]
        for start in range(0, len(own), 2):
            block = own[start : start + 2]
            for line in range(lines):
                writer.add(block[-1:], [f"{block[-1]!r} {line} "], 1) if line else writer.add(
                    block, [f"{key!r} 0 " for key in block], len(block)
                )
        found.append(writer.finish())
    return found


@settings(max_examples=60, deadline=None)
@given(KEYS, st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 60, 300, 1 << 20]))
def test_slices_by_key_are_the_output(keys: Any, buckets: int, lines: int, size: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(parts, "_INDEXED_BYTES", 80),
        patch.object(cuts, "BOUND", 3),
        patch.object(slices, "_FILE_BYTES", size),
    ):
        found = reduced(folder, keys, buckets, lines)
        pieces = pickle.loads(pickle.dumps(divide(found)))
        assert [piece.number for piece in pieces] == list(range(len(pieces)))
        assert written(pieces) == [line for batch in merge_parts(found) for line in batch]
        homes: dict[str, set[int]] = {}
        for piece in pieces:
            for line in written([piece]):
                homes.setdefault(line.rsplit(" ", 2)[0], set()).add(piece.number)
        assert all(len(numbers) == 1 for numbers in homes.values()), "a key is in one slice"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.text(max_size=30))), st.sampled_from([1, 60, 300]))
def test_slices_of_a_map_only_job_are_the_output(blocks: list[list[str]], size: int) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(parts, "_INDEXED_BYTES", 50),
        patch.object(slices, "_FILE_BYTES", size),
    ):
        found = []
        for block in blocks:
            writer = PartWriter(folder, 1 << 20, indexed=True)
            for line in block:
                writer.add(None, [line], 1)
            found.append(writer.finish())
        assert written(divide(found)) == [line for block in blocks for line in block]


def test_an_indexed_part_is_on_disk(tmp_path: Path) -> None:
    writer = PartWriter(str(tmp_path), 1 << 20, indexed=True)
    writer.add(["a", "x" * 1000], ["1", "2"], 2)
    part = writer.finish()
    assert isinstance(part.frames, Extent)
    ((bound, extent),) = part.index
    assert bound == "x" * 256
    assert (extent.offset, extent.length) == (0, part.frames.length)
    assert PartWriter(str(tmp_path), 0, indexed=True).finish().index == ()


def test_files_are_few_and_of_similar_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_INDEXED_BYTES", 100)
    monkeypatch.setattr(slices, "_FILE_BYTES", 1000)
    found = reduced(str(tmp_path), list(range(2000)), 3, 1)
    sizes = [sum(map(len, written([piece]))) for piece in divide(found)]
    assert len(sizes) > 20
    assert max(sizes[:-1]) < 2 * min(sizes[:-1])
    monkeypatch.setattr(slices, "_MOST_FILES", 5)
    assert len(divide(found)) == 5


def test_without_any_output_there_is_one_slice() -> None:
    assert [list(piece.read()) for piece in divide([])] == [[]]
