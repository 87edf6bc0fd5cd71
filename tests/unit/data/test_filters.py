"""What each form of a filter allows."""

from __future__ import annotations

import json
import re
import unicodedata
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.filters import sanitise
from daskmr.data.layout import load_schema
from daskmr.errors import InputError


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
    assert load_schema(schema.as_filter()).as_filter() == schema.as_filter()


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
def test_variant_is_what_the_filter_would_allow_in_another_form(value, form):
    other = unicodedata.normalize(form, value)
    for allowed in (value, [value, "x"], {"regex": re.escape(value)}, {"min": value, "max": value}):
        dimension = one(allowed)
        if dimension.allows(other):
            assert dimension.variant_of(other) is None
        elif isinstance(allowed, dict):
            assert dimension.variant_of(other) in (None, value)
        else:
            assert dimension.variant_of(other) == value
        assert dimension.variant_of(f"{value}y") is None


def test_describe_stays_short():
    text = one([f"value{n}" for n in range(1000)]).describe()
    assert text.endswith("... (1,000 values)")
    assert len(text) < 200


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
    ({"regex": "x", "min": "y"}, "'min' cannot be combined with \"regex\""),
]


@pytest.mark.parametrize(("allowed", "mistake"), BAD_VALUES)
def test_mistake_in_a_dimension(allowed, mistake):
    with pytest.raises(InputError) as caught:
        load_schema(
            {
                "version": 1,
                "dimensions": [
                    {"field_name": "a", "allowed_values": "*"},
                    {"field_name": "b", "allowed_values": allowed},
                ],
            }
        )
    assert str(caught.value).startswith("The filter, dimension 2 (b): ")
    assert mistake in str(caught.value)
