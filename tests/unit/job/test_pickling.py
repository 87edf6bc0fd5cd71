"""Snapshots share nothing that can change; what has no module is pickled by value."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import fractions
import io
import pickle
import subprocess
import sys
import threading
import types
import uuid
import zoneinfo
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.job.contexts import ItemContext
from daskmr.job.map_context import MapContext
from daskmr.job.pickling import (
    UnpicklableValueError,
    dumps,
    dumps_by_value,
    measured,
    snapshot,
    tree_size,
)
from daskmr.tasks.frames import estimate_size
from daskmr.tasks.spilled_values import on_disk


@dataclasses.dataclass
class Row:
    """A class of the user's."""

    cells: list[Any]


Pair = collections.namedtuple("Pair", "left right")


class Cells(list[Any]):
    """A list of another type."""


ATOMS = [
    *(None, True, 7, 10**30, 2.5, 1j, "text", "\ud800", b"bytes"),
    datetime.date(2013, 10, 29),
    datetime.timedelta(1),
    decimal.Decimal("0.1"),
    fractions.Fraction(1, 3),
    uuid.UUID(int=1),
]


CLOCKS = [
    datetime.datetime(2013, 10, 29),
    datetime.datetime(2013, 10, 29, tzinfo=datetime.UTC),
    datetime.datetime(2013, 10, 29, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.time(3, 2),
]


# What can change, and a change of it.
MUTABLE: list[tuple[Any, Any]] = [
    ([1, "a"], lambda v: v.clear()),
    ([[1], 2], lambda v: v[0].append(3)),
    ({"a": 1}, lambda v: v.update(a=2)),
    ({"a": {"b": [1]}}, lambda v: v["a"]["b"].append(2)),
    ({1, 2}, lambda v: v.add(3)),
    (bytearray(b"ab"), lambda v: v.extend(b"c")),
    ((1, [2]), lambda v: v[1].append(3)),
    (((1, [2]),), lambda v: v[0][1].append(3)),
    (collections.Counter("aab"), lambda v: v.update("b")),
    (collections.defaultdict(list, a=[1]), lambda v: v["a"].append(2)),
    (collections.deque([1, 2]), lambda v: v.append(3)),
    (collections.OrderedDict(a=1), lambda v: v.update(b=2)),
    (array.array("i", [1, 2]), lambda v: v.append(3)),
    (Row([1]), lambda v: v.cells.append(2)),
    (Pair([1], 2), lambda v: v.left.append(2)),
    (Cells([1]), lambda v: v.append(2)),
    (frozenset([Pair(1, 2)]), lambda v: None),
]


@pytest.mark.parametrize("value", CLOCKS, ids=repr)
def test_times_are_kept(value: Any) -> None:
    assert snapshot(value) is value
    assert snapshot((value,)) == (value,)


def test_a_time_of_a_zone_that_does_not_pickle_is_refused() -> None:
    class Zone(datetime.tzinfo):
        pass

    with pytest.raises(UnpicklableValueError, match="datetime"):
        snapshot(datetime.datetime(2013, 10, 29, tzinfo=Zone()))


@pytest.mark.parametrize("value", ATOMS, ids=repr)
def test_what_cannot_change_is_kept(value: Any) -> None:
    assert snapshot(value) is value
    whole = (value, value)
    assert snapshot(whole) is whole


@pytest.mark.parametrize(("value", "change"), MUTABLE, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize("context", [MapContext, ItemContext])
def test_what_is_written_stays_as_it_was(value: Any, change: Any, context: Any) -> None:
    value = pickle.loads(pickle.dumps(value))
    before = pickle.loads(pickle.dumps(value))
    kept = snapshot(value)
    written = context()
    written.write("k", value)
    change(value)
    (inside,) = written.groups["k"] if context is MapContext else written.written[0][1:]
    for copy in (kept, inside):
        assert copy == before
        assert type(copy) is type(before)


@settings(max_examples=80, deadline=None)
@given(
    st.recursive(
        st.integers() | st.text() | st.none(),
        lambda inner: (
            st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.integers(), inner)
        ),
        max_leaves=12,
    )
)
def test_a_snapshot_is_equal_and_shares_nothing_that_can_change(value: Any) -> None:
    def parts(tree: Any) -> list[int]:
        inside = tree.values() if isinstance(tree, dict) else tree
        nested = [id(tree)] if isinstance(tree, list | dict) else []
        return nested + [
            part for item in inside if isinstance(item, list | dict | tuple) for part in parts(item)
        ]

    copy = snapshot(value)
    assert copy == value
    assert type(copy) is type(value)
    if isinstance(value, list | dict | tuple):
        assert not set(parts(copy)) & set(parts(value))


@pytest.mark.parametrize("values", [[1] * 99, ["ab", b"c"], [1.5, [2]], [{"a": [1]}]])
def test_values_on_disk_are_as_large_as_in_memory(values: list[Any]) -> None:
    with on_disk(values) as stored:
        for wrap in (lambda each: each, lambda each: (len(each), each), lambda each: {"a": [each]}):
            assert measured(wrap(stored)) == measured(wrap(values))
            assert type(measured(stored)[0]) is list
    kept, size = measured(collections.defaultdict(list, {"a": [1, [2]]}))
    assert (kept, type(kept)) == ({"a": [1, [2]]}, collections.defaultdict)
    assert size == measured(kept)[1]


@pytest.mark.parametrize("empty", [set(), frozenset()])
@pytest.mark.parametrize("count", [1, 48, 60, 500])
def test_any_number_of_sets(empty: Any, count: int) -> None:
    """Whether or not one object is many of them, and whatever was written before."""
    kind, inner = type(empty), frozenset(["a", (1, 2)])
    sets = [kind([number, inner, 0, "text"]) for number in range(count)]
    for value in (
        sets,
        (*sets,),
        {"a": [*sets, empty]},
        [sets[0], empty] * count,
        Pair(sets, inner),
    ):
        for _ in range(60 if count == 1 else 2):
            kept, size = measured(value)
        assert kept == value
        assert type(kept) is type(value)
        assert measured(kept)[1] == tree_size(kept) == size
    for value in sets:
        assert snapshot(value) == value


def test_a_class_of_main_is_as_large_in_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it can be imported, and on workers, where it cannot."""
    main = sys.modules["__main__"]

    class Thing:
        def __init__(self, content: Any) -> None:
            self.content = content

    class Other(Thing):
        pass

    for kind in (Thing, Other):
        kind.__module__, kind.__qualname__ = "__main__", kind.__name__
    things = [Thing([1, "text"]), Other({"a": Thing(2)}), [Thing(3)] * 3, {"types": (Thing, Other)}]
    sets = [
        frozenset([Thing(n), 1, 2, 3]) for n in range(60)
    ]  # their order differs when read again
    sizes = []
    for is_importable in (True, False):
        for kind in (Thing, Other):
            if is_importable:
                monkeypatch.setattr(main, kind.__name__, kind, raising=False)
            else:
                monkeypatch.delattr(main, kind.__name__)
        with on_disk(things) as stored:
            each_of = (*things, things, stored, {"a": stored}, sets)
            sizes.append([measured(each)[1] for each in each_of])
        sizes[-1].append(estimate_size(things))
        assert type(measured(things)[0][1].content["a"]) is Thing
    assert sizes[0] == sizes[1]


def test_a_value_that_refers_to_itself() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    with pytest.raises(
        UnpicklableValueError, match="type list cannot be written, because it contains itself"
    ):
        snapshot(loop)
    parent: dict[str, Any] = {"children": [{}]}
    parent["children"][0]["parent"] = parent
    with pytest.raises(UnpicklableValueError, match=r"type dict .* contains itself"):
        snapshot(parent)


class Unwilling:
    """Raises whatever it is asked to when it is pickled."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> Any:
        raise self.error


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda: 0, "function"),
        (iter([1]), "generator|list_iterator"),
        ((n for n in [1]), "generator"),
        (threading.Lock(), "lock"),
        ([1, threading.Lock()], "list"),
        (Unwilling(ValueError("no")), "Unwilling"),
        (Unwilling(KeyError("no")), "Unwilling"),
        (deep(), "list"),
        (io.StringIO, None),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_what_cannot_be_pickled_is_named(value: Any, name: str | None) -> None:
    if name is None or type(value).__name__ == "list_iterator":
        snapshot(value)  # classes and iterators of lists do pickle
        return
    with pytest.raises(UnpicklableValueError, match=f"type ({name}) cannot be written") as caught:
        snapshot(value)
    assert not isinstance(caught.value, ValueError), "it must fail the job, not be a bad record"
    assert len(str(caught.value)) < 500
    assert caught.value.__cause__ is caught.value.__context__ is None


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_named() -> None:
    with pytest.raises(UnpicklableValueError, match="nested too deeply"):
        snapshot(nested(sys.getrecursionlimit()))


def test_what_could_be_written_can_be_pickled_where_more_calls_are_under_way() -> None:
    def can_be_written(levels: int) -> bool:
        try:
            snapshot(nested(levels))
        except UnpicklableValueError:
            return False
        return True

    def in_calls(number: int, value: Any) -> bytes:
        return in_calls(number - 1, value) if number else dumps([value])

    limit = sys.getrecursionlimit()
    value = nested(next(filter(can_be_written, range(limit, 0, -1))))
    assert pickle.loads(in_calls(limit // 2, value))
    assert sys.getrecursionlimit() == limit


# --- by value


def made(source, filename):
    namespace = {"__name__": "__main__"}
    exec(compile(source, filename, "exec"), namespace)
    return namespace


def codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def test_code_keeps_the_names_of_its_files():
    source = "def outer(x):\n    def inner(y):\n        return x + y\n    return inner\n"
    function = made(source, "cell one")["outer"]
    again = pickle.loads(dumps_by_value(function))
    assert again(2)(3) == 5
    assert {code.co_filename for code in codes(again.__code__)} == {"cell one"}
    assert len(list(codes(again.__code__))) == 2


def test_each_function_keeps_its_own():
    helper = made("def add(x):\n    return x + 1\n", "cell one")["add"]
    namespace = made("def twice(x):\n    return add(add(x))\n", "cell two")
    namespace["add"] = helper
    again = pickle.loads(dumps_by_value(namespace["twice"]))
    assert again(0) == 2
    assert again.__code__.co_filename == "cell two"
    assert again.__globals__["add"].__code__.co_filename == "cell one"


def test_a_class_of_main_in_another_process(tmp_path):
    script = (
        "import sys\nfrom daskmr.job.pickling import dumps_by_value\n"
        "class Point:\n    def __init__(self, x):\n        self.x = x\n"
        "    def double(self):\n        return 2 * self.x\n"
        "open(sys.argv[1], 'wb').write(dumps_by_value(Point(21)))\n"
    )
    (tmp_path / "main.py").write_text(script)
    subprocess.run([sys.executable, tmp_path / "main.py", tmp_path / "blob"], check=True)
    point = pickle.loads((tmp_path / "blob").read_bytes())
    assert point.double() == 42
    assert type(point).double.__code__.co_filename == str(tmp_path / "main.py")
