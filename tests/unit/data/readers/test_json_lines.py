"""JSON lines are what ``json.loads`` says they are."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.records import bad_in, pairs_in

from daskmr.data.readers.records import BadRecord, RecordFormat

JSONL = RecordFormat("jsonl")
LINES = st.binary(max_size=30) | st.text(max_size=20).map(
    lambda text: json.dumps(text).encode()
) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())  # fmt: skip


@given(
    LINES.filter(
        lambda line: b"\n" not in line and line.strip(b" \t\r\f\v") and not line.startswith(b"\xef")
    )
)
@example(b'{"a": 1, "a": 2}')
@example(b"[NaN, -Infinity, 1e400, -0.0, -0]")
@example(b'"\\ud800"')
@example(b'"\xff"')
@example(b'{"\xff": 1}')
@example(b"1" * 5000)
@example(b"123456789012345678901234567890")
@example(b"[1,]")
@example(b"01")
@example(b"[" * 100_000)
def test_values_and_errors_are_those_of_json(line: bytes) -> None:
    try:
        expected: Any = json.loads(line.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        expected = None, "bad"
    # The line is not the first, or it would be looked at for the form of the file.
    data = b"1\n" * 300 + line + b"\n2\n"
    ((number, key, value),) = pairs_in(data, JSONL)[300:-1]
    assert (number, key) == (301, "f")
    if expected == (None, "bad"):
        assert isinstance(value, BadRecord)
        assert (value.reason, value.raw) == ("not JSON", line)
    else:
        assert repr(value) == repr(expected)
        assert type(value) is type(expected)


def test_blank_lines_are_not_records() -> None:
    assert [(n, v) for n, _, v in pairs_in(b"\n1\n \r\n2\r\n\n", JSONL)] == [(2, 1), (4, 2)]


def test_a_truncated_last_line_is_bad() -> None:
    assert bad_in(b'{"a": 1}\n{"a": ', JSONL) == [(2, "not JSON", b'{"a": ')]


def test_key_of_a_field() -> None:
    form = RecordFormat("jsonl", "u.id")
    data = b'{"u": {"id": 7}}\n{"u": 1}\n{"u": {"id": {}}}\n[]\n{"u.id": null}\n'
    found = pairs_in(data, form)
    assert [(n, k) for n, k, v in found if not isinstance(v, BadRecord)] == [(1, 7), (5, None)]
    assert [reason for _, reason, _ in bad_in(data, form)] == [
        "no field u.id", "the field u.id is not a scalar", "no field u.id",
    ]  # fmt: skip


@pytest.mark.parametrize("key", [None, "id"])
def test_fields_replace_the_value(key: str | None) -> None:
    form = RecordFormat("jsonl", key, None, (("a", "b"), ("c",)))
    data = (
        b'{"id": "x", "a": {"b": 1}, "c": null}\n{"id": "y", "a": 5}\nno\n{"id": "z", "c": NaN}\n'
    )
    found = pairs_in(data, form)
    assert [v for _, _, v in found[:2]] == [(1, None), (None, None)]
    assert math.isnan(found[3][2][1])
    assert [k for _, k, v in found if not isinstance(v, BadRecord)] == (
        ["x", "y", "z"] if key else ["f"] * 3
    )
    assert bad_in(data, form) == [(3, "not JSON", b"no")]


def test_a_missing_key_is_bad_with_fields_too() -> None:
    form = RecordFormat("jsonl", "id", None, (("a",),))
    assert bad_in(b'{"a": 1}\n', form) == [(1, "no field id", b'{"a": 1}')]


def test_fields_of_a_long_document() -> None:
    form = RecordFormat("jsonl", None, None, (("a",),))
    data = b'{"a": 1, "b": "' + b"x" * 200_000 + b'"}\n{"a": 2, "b": ' + b"9" * 5000 + b"}\n"
    (first, second) = pairs_in(data, form)
    assert first[2] == (1,)
    assert second[2].reason == "not JSON"  # as for json: too many digits


def test_a_key_of_null_is_not_missing() -> None:
    form = RecordFormat("jsonl", "u.id", None, (("a",),))
    data = b'{"a": 1, "u": {"id": null}}\n{"a": 2, "u": {}}\n{"a": 3, "u": {"id": []}}\n'
    found = pairs_in(data, form)
    assert found[0] == (1, None, (1,))
    assert [reason for _, reason, _ in bad_in(data, form)] == [
        "no field u.id", "the field u.id is not a scalar",
    ]  # fmt: skip


@pytest.mark.parametrize("fields", [None, (("a",),)])
def test_a_line_that_is_too_long_is_bad(fields: Any) -> None:
    data = b'{"a": 1}\n{"a": 2, "b": "' + b"x" * 100 + b'"}\n{"a": 3}\n'
    found = pairs_in(data, RecordFormat("jsonl", None, None, fields), max_record_bytes=50)
    assert [isinstance(value, BadRecord) for _, _, value in found] == [False, True, False]


NAMES = st.sampled_from(["u", "id", "u.id", "a", '"', "u\u00e9"])
VALUES = st.sampled_from([None, 1, "x", [1], math.inf, "\ud800"])
DOCUMENTS = st.lists(
    VALUES
    | st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES, max_size=3), max_size=4),
    max_size=5,
)


@given(DOCUMENTS, st.sampled_from(["id", "u.id", "u", '"', "u.id.u"]), st.lists(NAMES, max_size=2))
@example([{"u.id": "flat", "u": {"id": "nested"}}, {"u.id": None, "u": {"id": 1}}], "u.id", ["a"])
def test_fields_do_not_change_the_key(documents: list[Any], key: str, fields: list[str]) -> None:
    data = "\n".join(map(json.dumps, documents)).encode()
    paths = tuple(tuple(field.split(".")) for field in fields)
    whole, plucked = (
        pairs_in(data, RecordFormat("jsonl", key, None, each)) for each in (None, paths)
    )
    assert [(n, isinstance(v, BadRecord) or k) for n, k, v in plucked] == [
        (n, isinstance(v, BadRecord) or k) for n, k, v in whole
    ]
    assert [(v.raw, v.reason) for _, _, v in plucked if isinstance(v, BadRecord)] == [
        (v.raw, v.reason) for _, _, v in whole if isinstance(v, BadRecord)
    ]
