"""What `map` writes is grouped by key, and taken back where the record is bad."""

from __future__ import annotations

import collections
from copy import copy as copied
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.job.keys import UnsupportedKeyError
from daskmr.job.map_context import MapContext


def test_map_writes_pairs_in_order() -> None:
    context = MapContext()
    for key in ("b", 1, (1, "x"), None):
        context.write(key, "v")
    assert context.keys == ["b", 1, (1, "x"), None]
    assert list(context.groups.items()) == [(key, ["v"]) for key in context.keys]


def test_map_groups_equal_keys_under_the_first() -> None:
    context = MapContext()
    for number, key in enumerate((1, "1", True, 1.0, b"1")):
        context.write(key, number)
    assert list(context.groups.items()) == [(1, [0, 2, 3]), ("1", [1]), (b"1", [4])]
    assert type(next(iter(context.groups))) is int


def test_map_takes_back_what_a_bad_record_wrote() -> None:
    context = MapContext()
    context.write("a", 1)
    mark = len(context.keys)
    for key, value in (("a", 2), (True, 3), ("a", 4), ("b", 5)):
        context.write(key, value)
    context.take_back(mark)
    context.write(1, 6)
    assert dict(context.groups) == {"a": [1], 1: [6]}
    assert [type(key) for key in context.groups] == [str, int]  # not the True that was taken back
    assert context.keys == ["a", 1]


def test_map_makes_nan_one_key() -> None:
    context = MapContext()
    context.write(float("nan"), 1)
    context.write((float("nan"),), 2)
    context.write(float("nan"), 3)
    first, inside, second = context.keys
    assert first is second is inside[0]
    assert context.groups[first] == [1, 3]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ([1], r"Write tuple\(key\)"),
        ({2, 1}, r"Write tuple\(sorted\(key\)\)"),
        ({"a": 1}, r"sorted\(key.items\(\)\)"),
        ((1, [2]), r"Write tuple\(key\)"),
        (1j, r"Write str\(key\)"),
    ],
)
def test_map_refuses_other_keys(key: Any, advice: str) -> None:
    context = MapContext()
    with pytest.raises(UnsupportedKeyError, match=advice):
        context.write(key, 1)
    assert not context.groups
    assert not context.keys


KEYS = st.sampled_from(["a", "b", "c", 1, True, ("a", 1), None, b"a"])


VALUES = st.sampled_from([1, 2, 1.5, True, None, "v", b"v", "v" * 5000, (1, 2), [1, 2]])


WRITES = st.tuples(KEYS | st.lists(KEYS, max_size=6) | st.just(["a", "b"]), VALUES)


# Of each record, what it writes, and whether it turns out to be bad; and where all is put in place.
RECORDS = st.lists(
    st.tuples(st.lists(WRITES, max_size=5), st.booleans(), st.booleans()), max_size=12
)


@settings(deadline=None)
@given(RECORDS)
def test_writing_under_each_of_several_keys_is_writing_under_one_after_the_other(
    records: list[tuple[list[tuple[Any, Any]], bool, bool]],
) -> None:
    one, many = MapContext(), MapContext()
    for writes, is_bad, placed in records:
        marks = len(one.keys), len(many.keys)
        for keys, value in writes:
            if isinstance(keys, list):
                for key in keys:
                    one.write(key, value)
                many.write_each(iter(keys), value)
            else:
                one.write(keys, value)
                many.write(keys, value)
        if is_bad:
            one.take_back(marks[0])
            many.take_back(marks[1])
        many.commit()
        if placed:
            many.place()
            assert collections.Counter(map(repr, many.keys)) == collections.Counter(
                map(repr, one.keys)
            )
            assert dict(many.groups) == dict(one.groups)
            assert {key: list(map(type, values)) for key, values in many.groups.items()} == {
                key: list(map(type, values)) for key, values in one.groups.items()
            }
            one.keys.clear()
            many.clear()
    many.place()
    assert dict(many.groups) == dict(one.groups)


def test_many_keys_left_for_later_are_in_a_hurry() -> None:
    one, many = MapContext(), MapContext()
    one.write_each(["a"] * (one.most_later + 1), 1)
    assert None in one.hurry
    many.most_later = 5000
    number = 0
    while None not in many.hurry:
        number += 1
        many.write_each([f"{number}", "a"], 1)
        many.commit()
    assert many.is_full
    assert many.most_later <= number < many.most_later + 1024
    many.place()
    assert not many.is_full
    assert len(many.groups["a"]) == number
    assert len(many.keys) == 2 * number


def test_many_values_left_for_later_are_in_a_hurry() -> None:
    context = MapContext()
    context.most_later = 100
    number = 0
    while None not in context.hurry:
        number += 1
        context.write_each(["a", "b"], 1)
        context.commit()
    assert 1600 < 2 * number <= 3072
    context.place()
    assert {key: len(values) for key, values in context.groups.items()} == {
        "a": number,
        "b": number,
    }


def test_long_keys_left_for_later_are_in_a_hurry() -> None:
    """However few they are: what waits takes memory that nobody else counts."""
    context = MapContext()
    number = 0
    while None not in context.hurry:
        number += 1
        context.write_each([f"{number:0100000}"], 1)
        context.commit()
    assert number < 100
    context.place()
    context.clear()
    context.hurry.clear()
    context.write_each(["a"], 1)
    assert None not in context.hurry


@pytest.mark.parametrize("before", [[], ["a"], ["a", "b"]])
def test_keys_of_a_subclass_of_str_are_refused_as_write_does(before: list[str]) -> None:
    """Then and there, so that the failure names the record; equal text before does not hide them."""

    class Text(str):
        __slots__ = ()

    context = MapContext()
    context.write_each(before, 1)
    with pytest.raises(UnsupportedKeyError, match=r"Write str\(key\) instead"):
        context.write_each(["a", Text("b"), "c"], 1)
    context.place()
    assert sorted(context.keys) == sorted([*before, "a"])


def test_keys_that_cannot_be_had_write_nothing() -> None:
    context = MapContext()
    with pytest.raises(ValueError, match="invalid literal"):
        context.write_each((str(int(text)) for text in ("1", "x")), 1)
    context.place()
    assert not context.keys


def test_a_copy_writes_to_the_same_task() -> None:
    context = MapContext()
    copied(context.user).write("a", 1)
    assert context.groups == {"a": [1]}
