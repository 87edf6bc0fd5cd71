"""The names of the parts of a row."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.data.writers.rows import check_columns, fields_of, named, object_of
from daskmr.job.json_text import RowError


@pytest.mark.parametrize(
    ("key", "value", "columns", "names", "cells"),
    [
        ("a", 1, None, ("key", "value"), ("a", 1)),
        (("a", 2), [3, 4], None, ("key", "key_2", "value", "value_2"), ("a", 2, 3, 4)),
        (None, None, None, ("key", "value"), (None, None)),
        ((), (), None, (), ()),
        ("a", [], None, ("key",), ("a",)),
        ("a", {"n": 1, 2: 3}, None, ("key", "n", "2"), ("a", 1, 3)),
        ("a", {}, None, ("key",), ("a",)),
        (("a", "b"), 1, ("x", "y", "z"), ("x", "y", "z"), ("a", "b", 1)),
        ("a", {"n": 1}, ("id",), ("id", "n"), ("a", 1)),
        ("a", {"n": 1}, ("id", "m", "n"), ("id", "m", "n"), ("a", None, 1)),
    ],
)
def test_named(key: Any, value: Any, columns: Any, names: Any, cells: Any) -> None:
    found, values = named(key, value, columns)
    assert (found, tuple(values)) == (names, cells)


@pytest.mark.parametrize(
    ("key", "value", "columns", "match"),
    [
        ("a", 1, ("x",), "2 parts, but the script names 1 column of the output: x"),
        (("a", "b"), {"n": 1}, ("x",), "2 parts, but the script names 1 column"),
        ("a", {"key": 1}, None, r"called key: .*: output_columns = \('id_1',\)$"),
        (("a", "b"), {"key": 1, "id_1": 2}, None, r"output_columns = \('id_2', 'id_3'\)$"),
        ("a", {1: 1, "1": 2}, None, "called the same: .*Rename the entry$"),
        ("a", {"n": 1, "o": 2}, ("id", "n"), "id, n, but not 'o', an entry .*out.$"),
        ("a", {"cuont": 2}, ("id", "count"), r"out\. Did you mean 'count'\?$"),
    ],
)
def test_rows_that_do_not_fit(key: Any, value: Any, columns: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        named(key, value, columns)


def test_rows_without_a_key() -> None:
    assert fields_of([1, 2], ("a", "b")) == ("a", "b")
    with pytest.raises(RowError, match="1 part, "):
        fields_of([1], ("a", "b"))
    assert object_of({"b": 1}, ("a", "b")) == (("a", "b"), (None, 1))
    with pytest.raises(RowError, match="given a str, which has no columns"):
        object_of("text", None)


def test_columns_are_distinct_names() -> None:
    assert check_columns(None) is None
    assert check_columns(()) is None
    assert check_columns(["a", "b"]) == ("a", "b")
    for wrong in ("ab", {"a"}, ("a", ""), (1,), ("a", "a"), 5):
        with pytest.raises(ValueError, match=r"must be|not the name|twice"):
            check_columns(wrong)
