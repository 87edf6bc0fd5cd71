"""The layout, and how filter and layout go together."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import pytest

from daskmr.data.layout import Layout, load_layout, load_schema, recorded_layout
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


# Templates, hive and flat


def filtering(*pairs):
    return {"dimensions": [{"field_name": name, "allowed_values": v} for name, v in pairs]}


@pytest.mark.parametrize(
    ("layout", "path", "dims", "reason"),
    [
        ("{day:date}/{host}.log", "20240131/a.log", ("20240131", "a"), ""),
        ("{day:date}/{host}.log", "x/a.log", None, "day 'x' is not a date"),
        ("{day}/{host}.log", "x/a.txt", None, "'a.txt' is not of the form {host}.log"),
        ("{day}/{host}.log", "a.log", None, "it is a file, where the layout has a directory {day}"),
        ("{day}/{host}.log", "x/a.log/b", None, "it is a directory, where the layout has files"),
        ("{day}/{rest...}", "x/y/z.log", ("x", "y/z.log"), ""),
        ("{day}/{rest...}", "x", None, "it is a file, where the layout has a directory {day}"),
        ("flat", "a/b/c.txt", (), ""),
        ("flat", "a/.b/c.txt", None, "its name begins with a dot"),
    ],
)
def test_paths_in_templates(layout, path, dims, reason):
    found = load_layout(layout)
    assert found.dims_of(path) == dims
    assert found.why_not(path).startswith(reason)
    assert bool(found.why_not(path)) == bool(reason)


def test_packaged_layout_as_a_template():
    packaged = load_layout()
    template = load_layout(packaged.template)
    assert template.levels == packaged.levels
    assert template.spec is not None


def test_layouts_that_do_not_exist(tmp_path):
    with pytest.raises(
        InputError, match=r"layout '\{a\}\{b\}' is not valid: \{a\} and \{b\} are adj"
    ):
        load_layout("{a}{b}")
    with pytest.raises(InputError, match=r"neither hive, flat, a template .* --layout flat"):
        load_layout("hyve")
    with pytest.raises(InputError, match="no such file"):
        load_layout(str(tmp_path / "none.json"))


def test_hive_names_are_discovered():
    schema = load_schema(filtering(("hour", "7")), "hive", ("dt=2024..",))
    assert schema.layout.is_undiscovered
    found = schema.discovered_in(["_SUCCESS", "dt=2024/hour=7/a.log"])
    assert found.layout == recorded_layout("hive", ["dt", "hour"])
    assert [each.describe() for each in found.dimensions] == [
        "'2024' and above, compared as text",
        "'7'",
    ]
    assert found.as_filter() == {"version": 1, **filtering(("dt", "*"), ("hour", ["7"]))}
    with pytest.raises(InputError, match="no dimension 'dt', only day"):
        schema.discovered(["day"])
    assert schema.discovered(None).layout.dims_of("a.log") is None


def test_extensions_are_kept_when_names_are_discovered():
    schema = load_schema(layout="hive").with_extensions(["avro"])
    assert "avro" not in load_schema().extensions
    for found in (schema, schema.discovered(["day"]), schema.discovered(None)):
        assert found.extensions == {"avro"}
    assert schema.without_dimensions().extensions == schema.extensions


def test_whether_a_layout_was_given(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"dimensions": [{"field_name": "a"}, {"field_name": "b"}]}')
    assert not load_schema().has_layout
    assert all(load_schema(layout=each).has_layout for each in ("flat", "{a}.log", str(path)))


def test_recorded_layouts():
    for spec in ("hive", "flat", "{a}/{b:int}.log", None):
        names = ("a", "b")
        assert recorded_layout(spec, names).field_names == (() if spec == "flat" else names)


# Filters by name


def described(filter_source, layout="{a}/{b}/{c}.log", *where):
    return [each.describe() for each in load_schema(filter_source, layout, where).dimensions]


def test_names_count_in_any_order():
    assert described(filtering(("c", "3"), ("a", "1"))) == ["'1'", "anything", "'3'"]


def test_order_counts_where_no_name_is_of_the_layout():
    assert described(filtering(("x", "1"), ("y", "2"))) == ["'1'", "'2'", "anything"]


def test_mixture_of_names_is_an_error():
    with pytest.raises(
        InputError, match=r"'x', 'y' are not names of the layout \(a, b, c\), but 'a' is"
    ):
        load_schema(filtering(("a", "1"), ("x", "2"), ("y", "2")), "{a}/{b}/{c}.log")
    with pytest.raises(InputError, match="'a' occurs 2 times"):
        load_schema(filtering(("a", "1"), ("a", "2")), "{a}/{b}/{c}.log")


def test_order_counts_where_a_layout_repeats_a_name():
    layout = Layout.of_names(("a", "b", "b"))
    path_free = load_schema(filtering(("a", "1"))).layout
    assert path_free.field_names == NAMES
    assert layout.field_names == ("a", "b", "b")


def test_where_narrows_the_filter():
    both = described(filtering(("a", ["1", "2"])), "{a}/{b}.log", "a=!1", "b=x")
    assert both == ["'1' or '2' and anything except '1'", "'x'"]
    schema = load_schema(filtering(("a", ["1", "2"])), "{a}/{b}.log", ("a=!1",))
    assert schema.as_filter() == {"version": 1, **filtering(("a", ["1", "2"]), ("b", "*"))}


def test_typed_ranges_of_a_filter():
    layout = "{day:date}/{hour:int}.log"
    schema = load_schema(filtering(("hour", {"min": 7, "max": 12})), layout)
    assert schema.dimensions[1].allows("09")
    assert schema.as_filter()["dimensions"][1]["allowed_values"] == {"min": "7", "max": "12"}
    assert load_schema(schema.as_filter(), layout) == schema
    with pytest.raises(
        InputError, match=r"dimension 1 \(hour\): 'noon' is not|hour 'noon' is not an"
    ):
        load_schema(filtering(("hour", {"min": "noon"})), layout)
    with pytest.raises(InputError, match=r"dimension 1 \(hour\): '12' is above '7'"):
        load_schema(filtering(("hour", {"min": 12, "max": 7})), layout)


def test_a_directory_is_no_layout(tmp_path, monkeypatch):
    (tmp_path / "csv").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"The layout 'csv' is neither hive, flat, a template"):
        load_schema(layout="csv")
