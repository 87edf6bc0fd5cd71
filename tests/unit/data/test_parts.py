"""Parts hold what was written, block by block, in memory or in a segment."""

from __future__ import annotations

import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data.parts import Part, PartWriter, comparable, read_blocks
from daskmr.data.segments import Extent
from daskmr.job.keys import sort_key

KEYS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2) | st.binary(max_size=2)
BLOCKS = st.lists(st.lists(st.tuples(KEYS, st.text(max_size=8)), max_size=5), max_size=8)


@settings(max_examples=80, deadline=None)
@given(BLOCKS, st.sampled_from([0, 1, 50, 1 << 20]), st.booleans())
def test_blocks_come_back_in_order(blocks: Any, in_memory: int, keyed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = PartWriter(folder, in_memory, ("header",))
        for block in blocks:
            keys, written = [key for key, _ in block], [text for _, text in block]
            writer.add(keys if keyed else None, written, 2 * len(block))
        part = writer.finish()
        stored = pickle.loads(pickle.dumps(part))
        assert stored == part
        given_blocks = [
            ([key for key, _ in block] if keyed else None, [text for _, text in block])
            for block in blocks
            if block
        ]
        got = list(read_blocks(part, direct=True))
        assert [(repr(keys), written) for keys, written in got] == [
            (repr(keys), written) for keys, written in given_blocks
        ]
        assert part.header == ("header",)
        assert part.lines == 2 * sum(map(len, blocks))
        assert len(os.listdir(folder)) == isinstance(part.frames, Extent)
        if not in_memory and given_blocks:
            assert isinstance(part.frames, Extent)
        for (keys, _), (plain, _) in zip(
            read_blocks(part, direct=False), given_blocks, strict=True
        ):
            assert keys == (None if plain is None else list(map(sort_key, plain)))


def test_a_part_in_memory_stays_below_its_limit(tmp_path: Path) -> None:
    for limit in (100, 5000):
        writer = PartWriter(str(tmp_path), limit)
        for n in range(20):
            writer.add(None, ["x" * n * 10], 1)
        part = writer.finish()
        if isinstance(part.frames, Extent):
            assert limit == 100
            assert part.__sizeof__() < 1000
        else:
            assert limit == 5000
            assert sum(map(len, part.frames)) <= limit < part.__sizeof__() * 3


def test_discard_removes_the_segment(tmp_path: Path) -> None:
    for finish in (False, True):
        writer = PartWriter(str(tmp_path), 0)
        writer.add(["a"], ["x"], 1)
        assert len(os.listdir(tmp_path)) == 1
        if finish:
            writer.finish()
        writer.discard()
        assert os.listdir(tmp_path) == []
    PartWriter(str(tmp_path), 1 << 20).discard()


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([["a"], ["b", "c"]], True),
        ([[1], [2]], True),
        ([[b"a"], []], True),
        ([[], []], True),
        ([[1], [True]], False),
        ([[1], [1.5]], False),
        ([[1.5], [2.5]], False),
        ([["a"], [b"a"]], False),
        ([["a"], [None]], False),
        ([[("a",)]], False),
    ],
)
def test_keys_of_one_kind_are_compared_directly(kinds: Any, expected: bool) -> None:
    parts = []
    for keys in kinds:
        writer = PartWriter("unused", 1 << 20)
        writer.add(keys, ["x"] * len(keys), len(keys))
        parts.append(writer.finish())
    assert comparable(parts) is expected


def test_an_empty_part() -> None:
    part = PartWriter("unused", 1 << 20, ("h",)).finish()
    assert part == Part(("h",), (), frozenset(), 0)
    assert list(read_blocks(part, direct=True)) == []
