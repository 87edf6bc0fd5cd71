"""Batches of records, and their keys."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.data.readers.records import (
    MISSING,
    BadRecord,
    RecordFormat,
    Records,
    dicts_of,
    field_of,
    with_keys,
)


def test_keys_of_fields_replace_bad_values() -> None:
    records = Records(
        [1, 2, 3], [], [{"a": 1}, {}, BadRecord(b"z", "bad")], [b"x", b"y", b"z"].__getitem__
    )
    found = with_keys(records, "a", "f")
    assert next(iter(found.keys)) == 1
    assert found.values == [{"a": 1}, BadRecord(b"y", "no field a"), BadRecord(b"z", "bad")]


def test_a_format_is_recorded_as_json() -> None:
    form = RecordFormat("csv", "a", ("a", "b"), (("b",),))
    assert form.as_dict() == {"name": "csv", "key": "a", "columns": ["a", "b"], "fields": [["b"]]}
    assert RecordFormat().is_keyed


@pytest.mark.parametrize("name", ["u", "u.id", "u.id.x", "v.w"])
def test_keys_are_those_of_each_record_alone(name: str) -> None:
    values: list[Any] = [
        {"u": {"id": 7}}, {"u": 1}, {"u": {"id": {"x": True}}}, [], "u", None, {"u.id": 2.5},
        {"u": {"id": [1]}}, {"v.w": "a"}, {"v": {"w": "b"}}, {"v": {"w": "b"}, "v.w": "c"},
    ]  # fmt: skip
    for first in range(len(values)):
        for last in range(first, len(values) + 1):
            batch = [*values[first:last]]
            numbers = range(len(batch))
            found = with_keys(Records(numbers, [], batch, lambda n: b"%d" % n), name, "f")
            for value, key, given in zip(found.values, found.keys, values[first:last], strict=True):
                expected = field_of(given, name)
                if isinstance(value, BadRecord):
                    assert expected is MISSING or isinstance(expected, dict | list)
                else:
                    assert (value, key) == (given, expected)
                    assert not isinstance(key, dict | list)


def test_dicts_of_any_names() -> None:
    names = ("a", 'quote"', "'\n", "\udcff", "")
    assert dicts_of(names)([(1, 2, 3, 4, 5)]) == [dict(zip(names, range(1, 6), strict=True))]
    assert dicts_of(())([(), ()]) == [{}, {}]
    many = tuple(map(str, range(2000)))
    assert dicts_of(many)([many]) == [dict(zip(many, many, strict=True))]
