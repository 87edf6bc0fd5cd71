"""Parts hold what was written, block by block, in memory or in a segment."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data.parts import Part, PartWriter, comparable, merge_parts, read_blocks
from daskmr.data.segments import Extent
from daskmr.job.keys import canonical, sort_key

KEYS = st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=2) | st.binary(max_size=2)
BLOCKS = st.lists(st.lists(st.tuples(KEYS, st.text(max_size=8)), max_size=5), max_size=8)


@settings(max_examples=30, deadline=None)
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


# Merging


ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-20, 20)
    | st.floats(-9, 9)
    | st.just(float("nan"))
    | st.text(max_size=2)
    | st.binary(max_size=2)
)
MIXED = ATOMS | st.lists(ATOMS, max_size=2).map(tuple)
MIXED_KEYS = st.sampled_from(
    [MIXED, st.text(max_size=3), st.integers(-99, 99), st.binary(max_size=3)]
)


def part_of(folder: str, blocks: Any, in_memory: int = 1 << 20) -> Part:
    writer = PartWriter(folder, in_memory)
    for keys, written in blocks:
        writer.add(keys, written, len(written))
    return writer.finish()


def blocks_of(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


@settings(max_examples=50, deadline=None)
@given(st.data(), st.integers(1, 9), st.sampled_from([1, 2, 5, 100]), st.sampled_from([0, 1 << 20]))
def test_merged_parts_equal_sorting_all(data: Any, count: int, size: int, in_memory: int) -> None:
    keys: dict[Any, Any] = {}
    for key in data.draw(st.lists(data.draw(MIXED_KEYS), max_size=60)):
        keys.setdefault(sort_key(canonical(key)), canonical(key))
    places = data.draw(st.lists(st.integers(0, count - 1), min_size=len(keys), max_size=len(keys)))
    with tempfile.TemporaryDirectory() as folder:
        parts = []
        for number in range(count):
            own = [key for key, place in zip(keys.values(), places, strict=True) if place == number]
            own.sort(key=sort_key)
            cut = [(block, [repr(key) for key in block]) for block in blocks_of(own, size)]
            parts.append(part_of(folder, cut, in_memory))
        got = [written for batch in merge_parts(parts) for written in batch]
    assert got == [repr(key) for key in sorted(keys.values(), key=sort_key)]


def test_many_parts_of_very_different_lengths() -> None:
    parts = [
        part_of("unused", [([n], [str(n)]) for n in range(start, 5000, 1 + start**2)])
        for start in range(60)
    ]
    expected = sorted(n for start in range(60) for n in range(start, 5000, 1 + start**2))
    got = [written for batch in merge_parts(parts) for written in batch]
    assert got == list(map(str, expected))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.text(max_size=3), max_size=6), max_size=6), st.sampled_from([1, 3]))
def test_map_only_parts_keep_their_order(texts: list[list[str]], size: int) -> None:
    parts = [part_of("unused", [(None, b) for b in blocks_of(own, size)]) for own in texts]
    got = [written for batch in merge_parts(parts) for written in batch]
    assert got == [text for own in texts for text in own]


def test_no_parts_and_empty_parts() -> None:
    empty = part_of("unused", [])
    assert list(merge_parts([])) == []
    assert list(merge_parts([empty])) == list(merge_parts([empty, empty])) == []
    some = part_of("unused", [(["a"], ["x"])])
    assert list(merge_parts([empty, some, empty])) == [["x"]]
