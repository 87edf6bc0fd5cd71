from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.job.keys import (
    Ending,
    UnsupportedKeyError,
    bucket_of,
    canonical,
    canonical_all,
    sort_key,
    sorted_keys,
)

atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.binary()
)
keys = st.recursive(atoms, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)


@given(keys, keys, st.integers(1, 50))
def test_equal_keys_share_bucket_and_place(first: Any, second: Any, buckets: int) -> None:
    first, second = canonical(first), canonical(second)
    if first == second or first is second:
        assert bucket_of(first, buckets) == bucket_of(second, buckets)
        assert sort_key(first) == sort_key(second)
    else:
        assert (sort_key(first) < sort_key(second)) != (sort_key(second) < sort_key(first))


@given(st.integers(-(2**60), 2**60), st.integers(1, 50))
def test_numbers_that_are_equal_share_a_bucket(number: int, buckets: int) -> None:
    if float(number) == number:
        assert bucket_of(number, buckets) == bucket_of(float(number), buckets)
        assert bucket_of((number, "x"), buckets) == bucket_of((float(number), "x"), buckets)


@given(st.lists(keys, max_size=8))
def test_sorted_keys_is_sorting_by_sort_key(some: list[Any]) -> None:
    some = canonical_all(some)
    assert list(map(sort_key, sorted_keys(some))) == sorted(map(sort_key, some))


def test_order_across_types() -> None:
    ordered = [
        None,
        float("-inf"),
        -1,
        False,
        0.5,
        True,
        2,
        float("inf"),
        float("nan"),
        "",
        "1",
        "B",
        "a",
        "\ue000",
        "\U00010000",
        b"",
        b"1",
        (),
        (None,),
        (1, "x"),
        (2,),
        ("a",),
        (b"a",),
        ((),),
    ]
    again = sorted(reversed(ordered), key=sort_key)
    assert list(map(repr, again)) == list(map(repr, ordered))


def test_text_bytes_and_numbers_are_three() -> None:
    assert len({sort_key("1"), sort_key(b"1"), sort_key(1)}) == 3


def test_every_nan_is_one_key() -> None:
    first, second = canonical(float("nan")), canonical(-float("nan"))
    assert len({first: 1, second: 2}) == 1
    assert len({canonical(("a", float("nan"))): 1, canonical(("a", float("nan"))): 2}) == 1


def test_unsupported_keys_say_what_to_write_instead() -> None:
    class Name(str):
        pass

    for key, advice in [
        ({"b", "a"}, "tuple(sorted(key))"),
        (["a"], "tuple(key)"),
        ({"a": 1}, "tuple(sorted(key.items()))"),
        (Name("x"), "str(key)"),
        (object(), "Write a tuple of its fields instead"),
        (filter(str.isalpha, "a1"), "''.join(key)"),
        ({1: 2}.keys(), "Write tuple(key) instead"),
        (bytearray(b"x"), "bytes(key)"),
        (("a", [1]), "tuple(key)"),
    ]:
        with pytest.raises(UnsupportedKeyError, match="A key can be") as caught:
            canonical(key)
        assert advice in str(caught.value)


def test_buckets_do_not_depend_on_the_hash_seed() -> None:
    code = (
        "from daskmr.job.keys import bucket_of\n"
        "keys = [None, 1, 2.5, -7, 10**30, 'a', 'é', '\\ud800', b'a', ('a', 1, None), float('nan')]\n"
        "print([bucket_of(key, 97) for key in keys])"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(answers) == 1


@given(st.lists(keys))
def test_endings_come_after_all_keys(some: list[Any]) -> None:
    endings = [Ending(2), Ending(0), Ending(1)]
    found = sorted([*endings, *map(canonical, some)], key=sort_key)
    assert [ending.reducer for ending in found[-3:]] == [0, 1, 2]
    copy = pickle.loads(pickle.dumps(found[-1]))
    assert (copy.reducer, bucket_of(copy, 97)) == (2, bucket_of(found[-1], 97))
