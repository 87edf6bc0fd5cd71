from __future__ import annotations

import datetime
import math
import subprocess
import sys
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reducing import combined, reduced, same_in_any_grouping

from daskmr.reducers import different, distinct

LIMIT = 10_000
atoms = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | st.dates()
    | st.text(st.characters(codec=None)) | st.decimals(allow_nan=False) | st.uuids() | st.fractions()
    | st.timedeltas() | st.datetimes() | st.datetimes(timezones=st.timezones())
    | st.sampled_from([1, 1.0, True, Decimal(1), Fraction(1), 0, -0.0, math.nan, -1, -2])
)  # fmt: skip
values_ = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)
randoms = st.randoms(use_true_random=False)


def identity(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(identity, value))
    return value if value == value else "NaN itself"


@settings(max_examples=50, deadline=None)
@given(st.lists(values_, min_size=1, max_size=20), randoms)
def test_equal_values_count_once(values: list[Any], random: Random) -> None:
    found = same_in_any_grouping(distinct, values, random, True)
    assert found == [len({*map(identity, values)})]


@settings(max_examples=50, deadline=None)
@given(values_, values_)
def test_a_sketch_takes_equal_values_for_the_same_only(first: Any, second: Any) -> None:
    equal = identity(first) == identity(second)
    assert (different._text(first) == different._text(second)) == equal


def test_a_sketch_does_not_depend_on_the_process() -> None:
    values = ["é", "\udcff", b"x", None, 2.5, Decimal("1.1"), (1, "a"), datetime.date(2026, 1, 1)]
    code = (
        "import datetime; from decimal import Decimal; from daskmr.reducers.different import _text; "
        f"print(ascii([*map(_text, {values!r})]))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, env={"PYTHONHASHSEED": seed}, capture_output=True, text=True)
        assert done.stdout.strip() == ascii([*map(different._text, values)]), done.stderr


def test_exact_up_to_the_limit_and_then_close() -> None:
    assert reduced(distinct, [*range(LIMIT)]) == [LIMIT]
    for number in (LIMIT + 1, 50_000, 200_000):
        (found,) = reduced(distinct, [f"user {n}" for n in range(number)])
        assert found > LIMIT
        assert abs(found / number - 1) < 4 * 0.0082


@pytest.mark.parametrize("seed", range(5))
def test_an_estimate_is_the_same_in_any_grouping(seed: int) -> None:
    values = [n % 15_000 for n in range(20_000)]
    same_in_any_grouping(distinct, values, Random(seed), True)


def test_a_higher_limit() -> None:
    more = distinct.up_to(20_000)
    assert repr(more) == "distinct.up_to(20000)"
    assert reduced(more, [*range(15_000)]) == [15_000]
    for limit in (10, "all", None, 1e6):
        with pytest.raises(ValueError, match="from 10,000 on"):
            distinct.up_to(limit)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketches", None)
    assert reduced(distinct, [*range(LIMIT)]) == [LIMIT]
    with pytest.raises(ImportError) as caught:
        reduced(distinct, [*range(LIMIT + 1)])
    assert "pip install 'daskmr[distinct]'" in str(caught.value)
    assert "distinct.up_to(10_000_000)" in str(caught.value)


@pytest.mark.parametrize("value", [[1], {1}, {"a": 1}, object, (1, [2])])
def test_other_values_are_named(value: Any) -> None:
    for call in (reduced, combined):
        with pytest.raises(TypeError) as caught:
            call(distinct, [1, value])
        message = str(caught.value)
        assert message.startswith(
            "distinct takes numbers, text, bytes, dates and tuples of those, but"
        )
        assert type(value).__name__ in message


def test_numbers_of_numpy_equal_those_of_python() -> None:
    numpy = pytest.importorskip("numpy")
    assert reduced(distinct, [numpy.int64(1), 1, numpy.float64("nan"), math.nan]) == [2]


def test_no_values() -> None:
    assert reduced(distinct, []) == [0]
