"""JSON text of rows."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.job.json_text import RowError, to_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@settings(deadline=None)
@given(JSON)
def test_any_json_survives_as_one_line_of_unicode(value: Any) -> None:
    text = to_json(value)
    assert json.loads(text) == value
    assert "\n" not in text
    assert text.encode()


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (float("nan"), "null"),
        ({"a": [float("inf"), (1, 2)]}, '{"a":[null,[1,2]]}'),
        ([float("nan"), datetime.date(2013, 1, 2)], '[null,"2013-01-02"]'),
        (datetime.datetime(2013, 1, 2, 3), '"2013-01-02T03:00:00"'),
        (decimal.Decimal("1.50"), '"1.50"'),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Color.RED, '"red"'),
        (Point(1), '{"x":1}'),
        (Counter("aab"), '{"a":2,"b":1}'),
        ({1: None}, '{"1":null}'),
        ("\udcff", '"\\udcff"'),
    ],
)
def test_what_json_does_not_know(value: Any, text: str) -> None:
    assert to_json(value) == text


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize("value", [{1}, b"x", object(), circular(), {(1, 2): 3}])
def test_what_has_no_form_in_json(value: Any) -> None:
    with pytest.raises(TypeError):
        to_json(value)


def test_a_number_of_too_many_digits() -> None:
    with pytest.raises(RowError, match="4,000 digits"):
        to_json([10**5000])


def test_deep_nesting() -> None:
    value = nested()
    with pytest.raises(RowError, match="nested too deeply"):
        to_json(value)
    while value:  # or freeing it recurses
        value = value.pop()
