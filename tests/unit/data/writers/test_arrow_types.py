"""The types of columns."""

from __future__ import annotations

import datetime
import decimal
import enum
from itertools import permutations
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.data.writers.arrow_types import MixedTypes, arrow_type, kind_of, unite
from daskmr.job.json_text import RowError

VALUES = st.recursive(
    st.none() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=4,
)


def united(values: Any) -> Any:
    kind = kind_of(values[0])
    for value in values[1:]:
        kind = unite(kind, kind_of(value))
    return kind


@settings(deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=4))
def test_the_order_of_rows_does_not_matter(values: list[Any]) -> None:
    found = set()
    for order in permutations(values):
        try:
            found.add(united(order))
        except MixedTypes:
            found.add("mixed")
        except RowError:
            return
    assert len(found) == 1


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None], pa.int64()),
        ([1, -1, 1 << 62], pa.int64()),
        ([1, 1 << 63], pa.uint64()),
        ([1, 2.5], pa.float64()),
        ([True], pa.bool_()),
        (["a"], pa.string()),
        ([None], pa.null()),
        ([datetime.datetime(2013, 1, 1)], pa.timestamp("us")),
        ([datetime.timedelta(1)], pa.duration("us")),
        ([datetime.time(1)], pa.time64("us")),
        ([decimal.Decimal("1.5"), decimal.Decimal("200")], pa.decimal128(4, 1)),
        ([decimal.Decimal("1e40")], pa.decimal256(41, 0)),
        ([[], [1]], pa.list_(pa.int64())),
        ([{"a": 1}, {"b": "x"}], pa.struct([("a", pa.int64()), ("b", pa.string())])),
    ],
)
def test_types(values: list[Any], expected: Any) -> None:
    assert arrow_type(united(values)) == expected
    assert pa.array(values, expected).to_pylist() is not None


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (datetime.time(1, tzinfo=datetime.UTC), "has a time zone.* value.isoformat"),
        (pd.Timestamp("2024-01-02 03:04:05.000000006"), "has nanoseconds.* value.isoformat"),
        (decimal.Decimal("NaN"), "Write None"),
    ],
)
def test_values_that_would_lose_something(value: Any, match: str) -> None:
    with pytest.raises(RowError, match=match):
        kind_of([value])


def test_dicts_without_entries_have_no_type() -> None:
    with pytest.raises(ValueError, match="write None instead"):
        arrow_type(united([[{}]]))
    assert arrow_type(united([{}, {"a": 1}])) == pa.struct([("a", pa.int64())])


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, "1"), (1, True), (1 << 60, 0.5), (-1, 1 << 63), ([1], 1), ({"a": 1}, {"a": "x"})],
)
def test_mixed_types(one: Any, other: Any) -> None:
    with pytest.raises(MixedTypes):
        unite(kind_of(one), kind_of(other))


class Color(enum.Enum):
    RED = 1


@pytest.mark.parametrize(
    "value", [1 << 64, -(1 << 63) - 1, "\ud800", {1}, Color.RED, {1: 2}, 1j, decimal.Decimal("NaN")]
)
def test_values_without_a_type(value: Any) -> None:
    with pytest.raises(RowError):
        kind_of(value)
