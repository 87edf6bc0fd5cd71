import dataclasses
import json
import pickle
import re
import unicodedata
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.layout import Layout, load_layout, load_schema, sanitise
from daskmr.errors import InputError

NAMES = ("reason", "appName", "appUpdateChannel", "appVersion", "appBuildID", "submission_date")


def one(allowed):
    """The first dimension of a filter that allows `allowed`."""
    return load_schema(
        {"version": 1, "dimensions": [{"field_name": "reason", "allowed_values": allowed}]}
    ).dimensions[0]


# What a filter allows


@pytest.mark.parametrize("value", ["", "*", "saved_session", "\xe9", "\udcff"])
def test_star_allows_anything(value):
    assert one("*").allows(value)
    assert one("*").known_values is None


def test_string_matches_as_it_stands_and_sanitised():
    dimension = one("saved-session")
    assert dimension.allows("saved-session")
    assert dimension.allows("saved_session")
    assert not dimension.allows("saved.session")
    assert not dimension.allows("saved_session_")
    assert dimension.known_values == ("saved-session", "saved_session")


def test_only_the_filter_is_sanitised():
    assert not one("saved_session").allows("saved-session")


def test_list_matches_any_as_it_stands_and_sanitised():
    dimension = one(["nightly", "pre-beta"])
    assert [v for v in ("nightly", "pre-beta", "pre_beta", "beta") if dimension.allows(v)] == [
        "nightly",
        "pre-beta",
        "pre_beta",
    ]
    assert dimension.known_values == ("nightly", "pre-beta", "pre_beta")


def test_known_values_are_safe_in_a_path():
    assert one(["a/b", "..", ".", "", ".git", "ok"]).known_values == ("ok",)


@pytest.mark.parametrize(
    ("value", "stored"),
    [("saved-session", "saved_session"), ("a/b.c_D9", "a/b.c_D9"), ("\xe9 +", "___"), ("", "")],
)
def test_sanitise(value, stored):
    assert sanitise(value) == stored


@given(st.text(), st.text())
def test_string_and_list_mean_the_same(allowed, value):
    if allowed != "*":
        assert one(allowed).allows(value) == one([allowed]).allows(value)
        assert one(allowed).allows(value) == (value in (allowed, sanitise(allowed)))


def test_bounds_are_inclusive_and_compared_as_text():
    dimension = one({"min": "20130601", "max": "20130607"})
    assert dimension.allows("20130601")
    assert dimension.allows("20130607")
    assert not dimension.allows("20130607030202")
    assert not dimension.allows("20130531")
    assert dimension.known_values is None


@pytest.mark.parametrize(
    ("bounds", "allowed", "excluded"),
    [
        ({"min": "b"}, ["b", "c", "ba"], ["a", "", "B"]),
        ({"max": "b"}, ["b", "a", ""], ["ba", "c"]),
        ({"min": 20130601, "max": 20130607}, ["20130601", "20130607"], ["20130608", "2013060"]),
        ({"min": 24.5}, ["24.5", "24.6", "3"], ["24", "24.4", "100"]),
        ({"min": 1e22}, ["10000000000000000000000"], ["1", "0"]),
        ({"min": Decimal("24.10")}, ["24.10"], ["24.1"]),
        ({}, ["", "a", "\U0001f600"], []),
    ],
)
def test_bounds(bounds, allowed, excluded):
    dimension = one(bounds)
    assert all(map(dimension.allows, allowed))
    assert not any(map(dimension.allows, excluded))


@pytest.mark.parametrize("allowed", [{}, {"_": "a comment"}, {"//": {"min": "z"}}])
def test_range_without_bounds_is_open(tmp_path, allowed):
    content = {"dimensions": [{"field_name": "v", "allowed_values": allowed}]}
    path = tmp_path / "filter.json"
    path.write_text(json.dumps(content))
    schema = load_schema(path)
    assert schema == load_schema({"dimensions": [{"field_name": "v", "allowed_values": "*"}]})
    assert load_schema(schema.as_filter()) == schema


@given(st.text())
def test_range_without_bounds_allows_anything(value):
    assert one({}).allows(value)


def test_number_in_a_file_is_the_text_written_there(tmp_path):
    path = tmp_path / "filter.json"
    path.write_text('{"dimensions": [{"field_name": "v", "allowed_values": {"min": 24.10}}]}')
    dimension = load_schema(path).dimensions[0]
    assert dimension.describe().startswith("'24.10'")


def test_regex_is_a_full_match():
    dimension = one({"regex": "2[0-9]|30"})
    assert dimension.allows("24")
    assert dimension.allows("30")
    assert not dimension.allows("24.0")
    assert not dimension.allows("130")
    assert not dimension.allows("24\n")


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        ("*", "anything"),
        ("a", "'a'"),
        (["a", "b"], "'a' or 'b'"),
        (["a", "b", "c"], "'a', 'b', 'c'"),
        ({"min": "a"}, "'a' and above, compared as text"),
        ({"max": "b"}, "up to 'b', compared as text"),
        ({"min": "a", "max": "b"}, "'a' to 'b', compared as text"),
        ({"regex": "a+"}, "full matches of the regex 'a+'"),
    ],
)
def test_describe(allowed, text):
    assert one(allowed).describe() == text


@given(
    st.text(st.sampled_from("ae\xe9\u0301\u212b\xc5-"), min_size=1), st.sampled_from(["NFC", "NFD"])
)
def test_twin_is_what_the_filter_would_allow_in_another_form(value, form):
    other = unicodedata.normalize(form, value)
    for allowed in (value, [value, "x"], {"regex": re.escape(value)}, {"min": value, "max": value}):
        dimension = one(allowed)
        if dimension.allows(other):
            assert dimension.twin_of(other) is None
        elif isinstance(allowed, dict):
            assert dimension.twin_of(other) in (None, value)
        else:
            assert dimension.twin_of(other) == value
        assert dimension.twin_of(f"{value}y") is None


def test_describe_stays_short():
    text = one([f"value{n}" for n in range(1000)]).describe()
    assert text.endswith("... (1000 values)")
    assert len(text) < 200


# The layout, and how filter and layout go together


def test_packaged_layout():
    layout = load_layout()
    assert layout.field_names == NAMES
    assert layout.directories == 4
    assert layout.template == (
        "<reason>/<appName>/<appUpdateChannel>/<appVersion>/<appBuildID>.<submission_date>.<rest>"
    )


def test_layout_without_directories(tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"dimensions": [{"field_name": "a"}, {"field_name": "b"}]}')
    assert load_layout(path) == Layout(("a", "b"))
    assert load_layout(str(path)).directories == 0
    assert load_schema(None, path).layout.template == "<a>.<b>.<rest>"


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
        ("a.b.", ("a", "b")),
        ("a.b", None),
        ("README.md", None),
        ("a..gz", None),
        (".b.gz", None),
        ("", None),
    ],
)
def test_parse_name(name, parts):
    assert load_schema().parse_name(name) == parts


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
    ({"dimensions": second({"allowed_values": "*", "max": "x"})}, '"max" stands beside'),
    ({"dimension": []}, '"dimension" is not known; write "dimensions"'),
    ({"dimensions": [], "limit": 5}, '"limit" is not known; there are version and dimensions'),
    ({"dimensions": second({"alowed_values": "*"})}, '(b): "alowed_values" is not known; write'),
    ({"dimensions": [{"fieldname": "a"}]}, 'dimension 1: "fieldname" is not known; write'),
]

BAD_VALUES = [
    (None, "is null; write"),
    (True, "is true; write"),
    (20130607, "is a number; write"),
    ({"x"}, "is a Python set; write"),
    ([], "the list is empty"),
    (["x", 3], "value 2 of the list is a number"),
    (["x", None], "value 2 of the list is null"),
    ([["x"]], "value 1 of the list is a list"),
    (["x", "*"], 'value 2 of the list is "*"'),
    ({"minimum": "x"}, "'minimum' is not known"),
    ({"min": "x", "step": "y"}, "'step' is not known"),
    ({"min": None}, '"min" is null'),
    ({"max": False}, '"max" is false'),
    ({"max": ["x"]}, '"max" is a list'),
    ({"min": "b", "max": "a"}, "min 'b' is above max 'a'"),
    ({"min": 9, "max": 10}, "compared as text"),
    ({"max": Decimal("1e999999")}, "cannot be written out"),
    ({"max": float("inf")}, "cannot be written out"),
    ({"regex": "("}, "the regex '(' is not valid"),
    ({"regex": 7}, '"regex" is a number'),
    ({"regex": "x", "min": "y"}, "'min' stands beside \"regex\""),
]


@pytest.mark.parametrize(("content", "mistake"), MISTAKES)
def test_mistake_in_the_form(tmp_path, content, mistake):
    path = tmp_path / "filter.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError) as caught:
        load_schema(path)
    assert f"Filter {path}" in str(caught.value)
    assert mistake in str(caught.value)


@pytest.mark.parametrize(("allowed", "mistake"), BAD_VALUES)
def test_mistake_in_a_dimension(allowed, mistake):
    with pytest.raises(InputError) as caught:
        load_schema({"version": 1, "dimensions": second({"allowed_values": allowed})})
    assert str(caught.value).startswith("The filter, dimension 2 (b): ")
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
        (b'{"version": NaN}', "NaN is not a number"),
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


@pytest.mark.parametrize(
    ("raw", "mistake"),
    [
        ("", "is empty"),
        ("[]", "not an object"),
        ('{"version": 3, "dimensions": []}', "only version 1"),
        ('{"dimensions": [{"field_name": "a"}]}', "at least two dimensions, here there are 1"),
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


# What would be passed over


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ('{"dimensions": [], "dimensions": []}', '"dimensions" stands twice in one object, and'),
        (
            '{"dimensions": [{"field_name": "a", "allowed_values": "x", "allowed_values": "*"}]}',
            "\"allowed_values\" stands twice in one object of dimension 'a'",
        ),
        (
            '{"dimensions": [{"field_name": "a", "allowed_values": {"min": "1", "min": "2"}}]}',
            '"min" stands twice',
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


def test_a_schema_may_be_a_filter_and_may_hold_nothing_else(tmp_path):
    path = tmp_path / "schema.json"
    first, second = {"field_name": "a", "allowed_values": "*"}, {"field_name": "b"}
    path.write_text(json.dumps({"dimensions": [first, second]}))
    assert load_layout(path).field_names == ("a", "b")
    path.write_text(json.dumps({"dimensions": [first, {**second, "size": 3}]}))
    with pytest.raises(InputError, match=r'dimension 2 \(b\): "size" is not known'):
        load_layout(path)
