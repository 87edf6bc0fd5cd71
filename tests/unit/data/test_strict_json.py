"""Mistakes in the form of filter and schema files."""

from __future__ import annotations

import json

import pytest

from daskmr.data.layout import load_schema
from daskmr.errors import InputError

# Mistakes: the message names the file, the dimension and the mistake


def second(allowed):
    return [{"field_name": "a", "allowed_values": "*"}, {"field_name": "b", **allowed}]


MISTAKES = [
    ([], "a list, not an object"),
    ("text", "a text, not an object"),
    (None, "null, not an object"),
    ({}, '"dimensions" is missing'),
    ({"dimensions": {}}, "an object, not a list"),
    ({"version": 2, "dimensions": []}, "only version 1"),
    ({"version": True, "dimensions": []}, "only version 1"),
    ({"version": "1", "dimensions": []}, "only version 1"),
    ({"dimensions": ["reason"]}, "dimension 1: it is a text, not an object"),
    ({"dimensions": [{"allowed_values": "*"}]}, 'dimension 1: "field_name" is missing'),
    ({"dimensions": [{"field_name": 1}]}, 'dimension 1: "field_name" is a number'),
    ({"dimensions": second({})}, 'dimension 2 (b): "allowed_values" is missing'),
    (
        {"dimensions": [{"field_name": f"d{n}", "allowed_values": "*"} for n in range(1, 8)]},
        "dimension 7 (d7): the filter has 7 dimensions, the layout only 6 (reason, appName",
    ),
    ({"dimensions": second({"allowed_values": "*", "max": "x"})}, '"max" is outside of'),
    ({"dimension": []}, '"dimension" is not known; write "dimensions"'),
    ({"dimensions": [], "limit": 5}, '"limit" is not known; use version and dimensions'),
    ({"dimensions": second({"alowed_values": "*"})}, '(b): "alowed_values" is not known; write'),
    ({"dimensions": [{"fieldname": "a"}]}, 'dimension 1: "fieldname" is not known; write'),
]


@pytest.mark.parametrize(("content", "mistake"), MISTAKES)
def test_mistake_in_the_form(tmp_path, content, mistake):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_schema(path)
    assert f"Filter {path}" in str(caught.value)
    assert mistake in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "mistake"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b'{"dimensions": "\xff"}', "not UTF-8 text (byte 17)"),
        ("{}".encode("utf-16"), "not UTF-8"),
        (b'{"version": 1,\n "dimensions": [,]}', "line 2, column 17"),
        (b"{'version': 1}", "line 1, column 2"),
        (b'{"version": NaN}', "NaN is not a JSON number"),
        (b"1" * 5000, "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"version": 1e99999999999999999999}', "JSON"),
    ],
)
def test_mistake_in_the_file(tmp_path, raw, mistake):
    path = tmp_path / "filter.json"
    path.write_bytes(raw)
    with pytest.raises(InputError) as caught:
        load_schema(str(path))
    assert f"Filter {path}" in str(caught.value)
    assert mistake in str(caught.value)


def test_filter_that_cannot_be_read(tmp_path):
    for source, mistake in [
        (tmp_path / "none.json", "no such file"),
        (tmp_path, "a directory"),
        ("a\0b", "cannot be read"),
        (7, "cannot be read"),
    ]:
        with pytest.raises(InputError, match=mistake) as caught:
            load_schema(source)
        assert caught.value.exit_code == 2


# What would be passed over


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('{"dimensions": [], "dimensions": []}', '"dimensions" is repeated in one object; remove'),
        (
            '{"dimensions": [{"field_name": "a", "allowed_values": "x", "allowed_values": "*"}]}',
            "\"allowed_values\" is repeated in one object of dimension 'a'",
        ),
        (
            '{"dimensions": [{"field_name": "a", "allowed_values": {"min": "1", "min": "2"}}]}',
            '"min" is repeated',
        ),
    ],
)
def test_a_key_that_stands_twice_is_an_error(tmp_path, text, mistake):
    path = tmp_path / "filter.json"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_schema(path)
    assert mistake in str(caught.value)
    assert "filter.json" in str(caught.value)


def test_comments_are_passed_over(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text(
        '{"//": "one", "//": "two", "_author": "me", "dimensions": [{"_why": 1, "field_name": "a",'
        ' "allowed_values": {"_until": "then", "max": "5"}}]}'
    )
    assert load_schema(path).dimensions[0].describe() == "up to '5', compared as text"
