"""Dimensions by position and by name."""

from __future__ import annotations

import copy
import pickle

import pytest

from daskmr.data.dims import Dims

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
