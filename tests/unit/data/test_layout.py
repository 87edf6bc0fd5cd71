"""The layout, and how filter and layout go together."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from daskmr.data.layout import Layout, load_layout, load_schema
from daskmr.errors import InputError

NAMES = ("reason", "appName", "appUpdateChannel", "appVersion", "appBuildID", "submission_date")


# The layout, and how filter and layout go together


def test_packaged_layout():
    layout = load_layout()
    assert layout.field_names == NAMES
    assert layout.directories == 4
    assert layout.template == (
        "{reason}/{appName}/{appUpdateChannel}/{appVersion}/{appBuildID}.{submission_date}.{_}"
    )


def test_layout_without_directories(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"dimensions": [{"field_name": "a"}, {"field_name": "b"}]}')
    assert load_layout(path) == Layout.of_names(("a", "b"))
    assert load_layout(str(path)).directories == 0
    assert load_schema(None, path).layout.template == "{a}.{b}.{_}"


def test_no_filter_allows_everything():
    schema = load_schema()
    assert [dimension.field_name for dimension in schema.dimensions] == list(NAMES)
    assert all(dimension.allows("whatever") for dimension in schema.dimensions)


def test_fewer_dimensions_leave_the_others_open():
    schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]})
    assert len(schema.dimensions) == 6
    assert not schema.dimensions[0].allows("x")
    assert schema.dimensions[1].allows("x")
    assert len(load_schema({"dimensions": []}).dimensions) == 6


def test_field_names_are_labels():
    schema = load_schema({"dimensions": [{"field_name": "why", "allowed_values": "idle"}]})
    assert schema.dimensions[0].field_name == "why"
    assert schema.dimensions[0].allows("idle")
    assert schema.layout.field_names == NAMES


def test_filter_never_defines_the_layout():
    dimensions = [{"field_name": name, "allowed_values": "*"} for name in NAMES[:3]]
    assert load_schema({"dimensions": dimensions}).layout.directories == 4


@pytest.mark.parametrize("encode", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("path_type", [str, Path])
def test_filter_file_like_dict(tmp_path, encode, path_type):
    content = {"version": 1, "dimensions": [{"field_name": "reason", "allowed_values": "\xe9"}]}
    path = tmp_path / "my filter \xe9.json"
    path.write_bytes(json.dumps(content, ensure_ascii=False).encode(encode))
    assert load_schema(path_type(path)) == load_schema(content)


def test_values_are_frozen_and_travel():
    schema = load_schema(
        {
            "dimensions": [
                {"field_name": "a", "allowed_values": {"regex": "x"}},
                {"field_name": "b", "allowed_values": ["y"]},
            ]
        }
    )
    assert pickle.loads(pickle.dumps(schema)) == schema
    with pytest.raises(dataclasses.FrozenInstanceError):
        schema.layout = None


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("20131029.20131102.gz", ("20131029", "20131102")),
        ("20131029.20131102.4f.log.gz", ("20131029", "20131102")),
        ("a.b.", None),
        ("a.b", None),
        ("README.md", None),
        ("a..gz", None),
        (".b.gz", None),
        ("", None),
    ],
)
def test_file_names_of_the_packaged_layout(name, parts):
    assert load_layout().levels[-1].match(name) == parts


@pytest.mark.parametrize(
    ("raw", "mistake"),
    [
        ("", "is empty"),
        ("[]", "not an object"),
        ('{"version": 3, "dimensions": []}', "only version 1"),
        ('{"dimensions": [{"field_name": "a"}]}', "at least two dimensions, but has 1"),
        ('{"dimensions": [{"field_name": "a"}, {}]}', 'dimension 2: "field_name" is missing'),
        ('{"dimensions": [{"field_name": "a"}, "b"]}', "dimension 2: it is a text"),
    ],
)
def test_mistake_in_the_layout(tmp_path, raw, mistake):
    path = tmp_path / "schema.json"
    path.write_text(raw)
    with pytest.raises(InputError) as caught:
        load_schema(None, path)
    assert f"Schema {path}" in str(caught.value)
    assert mistake in str(caught.value)


def test_layout_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_layout(tmp_path / "none.json")


def test_a_schema_may_be_a_filter_and_may_hold_nothing_else(tmp_path):
    path = tmp_path / "schema.json"
    first, second = {"field_name": "a", "allowed_values": "*"}, {"field_name": "b"}
    path.write_text(json.dumps({"dimensions": [first, second]}))
    assert load_layout(path).field_names == ("a", "b")
    path.write_text(json.dumps({"dimensions": [first, {**second, "size": 3}]}))
    with pytest.raises(InputError, match=r'dimension 2 \(b\): "size" is not known'):
        load_layout(path)
