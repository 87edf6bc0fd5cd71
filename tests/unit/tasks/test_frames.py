"""Estimates of memory are the same for equal values, and of the right order."""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
import threading
from collections import Counter, deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.tasks.frames import estimate_size

# --- estimates -------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_estimates_are_the_same_for_equal_values_made_differently(value: Any) -> None:
    before = estimate_size(value)
    assert before > 0
    assert estimate_size(pickle.loads(pickle.dumps(value))) == before
    str(value).encode("utf-8", "surrogatepass")
    assert estimate_size(value) == before


def test_an_estimate_does_not_see_a_cached_encoding_or_spare_room() -> None:
    text = "\u00e9" * 1000
    plain, size = sys.getsizeof(text), estimate_size(text)
    ctypes.pythonapi.PyUnicode_AsUTF8(ctypes.py_object(text))
    assert sys.getsizeof(text) > plain, "otherwise this tests nothing"
    assert estimate_size(text) == size

    grown: list[int] = []
    for n in range(100):
        grown.append(n)
    assert sys.getsizeof(grown) != sys.getsizeof(list(range(100)))
    assert estimate_size(grown) == estimate_size(list(range(100)))


@pytest.mark.parametrize(
    "value",
    [
        "'x' * 100",
        "'\\u00e9' * 100",
        "[1, 2.5, 'a', None, b'x']",
        "{'a': 1, 'b': [1, 2]}",
        "{f'{n}' * (n % 9) for n in range(40)}",
        "{f'{n}' * (n % 9) for n in range(1000)}",
        "frozenset(f'{n}' * (n % 9) for n in range(1000))",
        "{f'{n}': 'x' * n for n in range(300)}",
        "Counter(f'{n % 50}' for n in range(300))",
        "[{f'{n}' * (n % 9) for n in range(1000)}]",
    ],
)
def test_an_estimate_does_not_depend_on_the_hash_seed(value: str) -> None:
    code = (
        "from collections import Counter; from daskmr.tasks.frames import estimate_size; "
        f"print(estimate_size({value}))"
    )
    sizes = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(sizes) == 1


def test_estimates_are_of_the_right_order() -> None:
    for value in ("x" * 5000, [1.5] * 2000, {str(n): n for n in range(500)}, b"x" * 9000):
        real = sys.getsizeof(value)
        assert real / 3 < estimate_size(value) < real * 8
    assert 5000 < estimate_size(Counter("x" * n for n in range(100))) < 50_000
    assert 1000 < estimate_size(deque(range(1000))) < 100_000
    assert estimate_size([[1] * 100] * 1000) > 1_000_000, "elements of elements count"


def test_an_estimate_of_what_holds_itself_comes_to_an_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    nested: Any = 1
    for _ in range(60):
        nested = [nested, nested]
    assert estimate_size(endless) < 1000
    assert estimate_size(nested) < 100_000


def test_an_estimate_sees_more_than_the_first_elements() -> None:
    assert estimate_size(["a"] * 200 + ["x" * 1_000_000] * 200) > 50_000_000


def test_what_does_not_pickle_has_an_estimate_too() -> None:
    assert estimate_size(threading.Lock()) == 1000
