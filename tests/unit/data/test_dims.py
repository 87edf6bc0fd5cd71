"""Dimensions by position and by name."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest

from daskmr.data.dims import Dims, uses_positions

DIMS = Dims(("20240131", "web1", "x"), ("day", "host", "count"))


def test_a_list_with_names():
    day, host, other = DIMS
    assert (day, host, other) == ("20240131", "web1", "x")
    assert DIMS == ["20240131", "web1", "x"]
    assert isinstance(DIMS, list)
    assert DIMS.day == DIMS["day"] == DIMS[0] == DIMS[-3]
    assert DIMS[1:] == ["web1", "x"]
    assert repr(DIMS) == "['20240131', 'web1', 'x']"


def test_a_method_of_lists_goes_before_a_name():
    assert DIMS.count("x") == 1
    assert DIMS["count"] == "x"


def test_other_names():
    with pytest.raises(
        KeyError, match="'hst' is not a dimension of the layout, which has day, host"
    ):
        DIMS["hst"]
    with pytest.raises(AttributeError, match="the dimensions are day, host, count"):
        _ = DIMS.hst
    with pytest.raises(AttributeError, match="the dimensions are none"):
        _ = Dims().hst
    with pytest.raises(TypeError):
        DIMS[1.5]
    with pytest.raises(IndexError):
        DIMS[3]
    assert not hasattr(DIMS, "_repr_html_")


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))]
)
def test_copies_keep_the_names(again):
    assert again(DIMS) == DIMS
    assert again(DIMS).host == "web1"


def test_a_file_without_dimensions_has_no_names():
    with pytest.raises(KeyError, match="which has none"):
        Dims((), ("day",))["day"]


def test_changes_show_by_name():
    dims = Dims(("a",), ("x",))
    dims[0] = "b"
    assert dims.x == dims["x"] == "b"


def by_number(key, dims, value, context):
    first, *others = dims
    if value:
        context.write(dims[0] + first, (dims[-1], others))


def unused(key, dims, value, context):
    context.write(key, 1)


def by_name(key, dims, value, context):
    context.write(dims["day"], dims[0])


def by_attribute(key, dims, value, context):
    context.write(dims.day, 1)


def by_variable(key, dims, value, context):
    context.write(dims[value], 1)


def returned(key, dims, value, context):
    return dims


def passed_on(key, dims, value, context):
    context.write(tuple(dims), dims[0])


def enclosed(key, dims, value, context):
    context.write_each([(lambda: dims["day"])()], 1)


def chosen(key, dims, value, context):
    context.write((dims or [""])["day"], 1)


def assigned(key, dims, value, context):
    dims = dims[1:]
    context.write(dims[0], 1)


def by_scope(key, dims, value, context):
    context.write(locals()["dims"].day, 1)


def any_arguments(*arguments):
    arguments[3].write(arguments[1].day, 1)


@pytest.mark.parametrize("user_map", [by_number, unused])
def test_only_positions_are_used(user_map):
    assert uses_positions(user_map)


@pytest.mark.parametrize(
    "user_map",
    [
        by_name, by_attribute, by_variable, returned, passed_on, enclosed, chosen, assigned, by_scope,
        any_arguments, partial(by_number), len,
    ],
)  # fmt: skip
def test_other_uses_need_names(user_map):
    assert not uses_positions(user_map)


def test_a_name_that_occurs_twice_is_the_first():
    dims = Dims(("a", "b"), ("x", "x"))
    assert dims.x == dims["x"] == "a"
    assert pickle.loads(pickle.dumps(dims)).x == "a"
