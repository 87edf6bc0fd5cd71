"""Batches of records, and their keys."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from daskmr.data.readers.records import (
    MISSING,
    BadRecord,
    OversizedLine,
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


@pytest.mark.parametrize(
    ("key", "value", "detail"),
    [
        ("user", {"user": {"id": 1, "name": "x"}}, "the field user is not a scalar: it is an object, so name one of its fields, as with --key user.id"),
        ("user", {"user": {}}, ""),
        ("user", {"user": [1]}, ""),
        ("usr", {"user": 1, "time": 2}, "no field usr. Did you mean 'user'?"),
        ("user.idd", {"user": {"id": 1}}, "no field user.idd. Did you mean 'user.id'?"),
        ("user.id", {"user": None}, ""),
        ("user", [1], ""),
        ("user", {"x": 1}, ""),
    ],
)  # fmt: skip
def test_a_key_that_is_missing_comes_with_advice(key: str, value: Any, detail: str) -> None:
    records = Records((1, 2), (), [value, value], lambda index: b"")
    for found in with_keys(records, key, "f").values:
        assert found.detail == detail
        assert found.reason == (detail or found.reason).partition(": ")[0].partition(". ")[0]


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


def test_a_bad_record_in_its_two_forms() -> None:
    class NoUser(BadRecord):
        pass

    for bad, expected in (
        (BadRecord("why"), (None, "why", "")),
        (BadRecord("why", "more"), (None, "why", "more")),
        (BadRecord(b"raw", "why"), (b"raw", "why", "")),
        (BadRecord(b"raw", "why", "more"), (b"raw", "why", "more")),
        (BadRecord(raw=b"raw", reason="why"), (b"raw", "why", "")),
        (BadRecord(b"raw", reason="why"), (b"raw", "why", "")),
        (BadRecord("why", detail="more"), (None, "why", "more")),
        (BadRecord(OversizedLine(7), "why"), (OversizedLine(7), "why", "")),
        (NoUser(), (None, "NoUser", "")),
        (NoUser("why"), (None, "why", "")),
    ):
        assert (bad.raw, bad.reason, bad.detail) == expected
        copy = pickle.loads(pickle.dumps(bad)) if type(bad) is BadRecord else bad
        assert copy == bad
        assert bad != BadRecord(b"other", "why")
    assert str(BadRecord("why", "more")) == "why: more"
    for about in ((1, 2, 3), ("a", "b", "c"), (b"", "a", "b", "c")):
        with pytest.raises(TypeError, match="takes a reason and a detail"):
            BadRecord(*about)
    with pytest.raises(TypeError, match="takes a reason and a detail"):
        BadRecord("why", why="more")
