"""Contexts take what is written as it is then, and say where a call does not belong."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

<<<<<<< HEAD
from daskmr.job.contexts import CombineContext, CombineError, ItemContext, TextContext
from daskmr.job.map_context import MapContext
=======
from daskmr.job.contexts import (
    CombineContext,
    CombineError,
    ItemContext,
    MapContext,
    TextContext,
    UnpicklableValueError,
    dumps,
    snapshot,
)
from daskmr.job.keys import UnsupportedKeyError


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


def test_a_value_that_refers_to_itself() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    with pytest.raises(
        UnpicklableValueError, match="type list cannot be written, as it holds itself"
    ):
        snapshot(loop)
    parent: dict[str, Any] = {"children": [{}]}
    parent["children"][0]["parent"] = parent
    with pytest.raises(UnpicklableValueError, match=r"type dict .* holds itself"):
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


# --- map -------------------------------------------------------------------------------------


def test_map_writes_pairs_in_order() -> None:
    context = MapContext()
    for key in ("b", 1, (1, "x"), None):
        context.write(key, "v")
    assert context.keys == ["b", 1, (1, "x"), None]
    assert list(context.groups.items()) == [(key, ["v"]) for key in context.keys]


def test_map_groups_equal_keys_under_the_first() -> None:
    context = MapContext()
    for number, key in enumerate((1, "1", True, 1.0, b"1")):
        context.write(key, number)
    assert list(context.groups.items()) == [(1, [0, 2, 3]), ("1", [1]), (b"1", [4])]
    assert type(next(iter(context.groups))) is int


def test_map_takes_back_what_a_bad_record_wrote() -> None:
    context = MapContext()
    context.write("a", 1)
    mark = len(context.keys)
    for key, value in (("a", 2), (True, 3), ("a", 4), ("b", 5)):
        context.write(key, value)
    context.take_back(mark)
    context.write(1, 6)
    assert dict(context.groups) == {"a": [1], 1: [6]}
    assert [type(key) for key in context.groups] == [str, int]  # not the True that was taken back
    assert context.keys == ["a", 1]


def test_map_makes_nan_one_key() -> None:
    context = MapContext()
    context.write(float("nan"), 1)
    context.write((float("nan"),), 2)
    context.write(float("nan"), 3)
    first, inside, second = context.keys
    assert first is second is inside[0]
    assert context.groups[first] == [1, 3]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ([1], r"Write tuple\(key\)"),
        ({2, 1}, r"Write tuple\(sorted\(key\)\)"),
        ({"a": 1}, r"sorted\(key.items\(\)\)"),
        ((1, [2]), r"Write tuple\(key\)"),
        (1j, r"Write str\(key\)"),
    ],
)
def test_map_refuses_other_keys(key: Any, advice: str) -> None:
    context = MapContext()
    with pytest.raises(UnsupportedKeyError, match=advice):
        context.write(key, 1)
    assert not context.groups
    assert not context.keys


KEYS = st.sampled_from(["a", "b", "c", 1, True, ("a", 1), None, b"a"])
VALUES = st.sampled_from([1, 2, 1.5, True, None, "v", b"v", "v" * 5000, (1, 2), [1, 2]])
WRITES = st.tuples(KEYS | st.lists(KEYS, max_size=6) | st.just(["a", "b"]), VALUES)
# Of each record, what it writes, and whether it turns out to be bad; and where all is put in place.
RECORDS = st.lists(
    st.tuples(st.lists(WRITES, max_size=5), st.booleans(), st.booleans()), max_size=12
)


@settings(deadline=None)
@given(RECORDS)
def test_writing_under_each_of_several_keys_is_writing_under_one_after_the_other(
    records: list[tuple[list[tuple[Any, Any]], bool, bool]],
) -> None:
    one, many = MapContext(), MapContext()
    for writes, is_bad, placed in records:
        marks = len(one.keys), len(many.keys)
        for keys, value in writes:
            if isinstance(keys, list):
                for key in keys:
                    one.write(key, value)
                many.write_each(iter(keys), value)
            else:
                one.write(keys, value)
                many.write(keys, value)
        if is_bad:
            one.take_back(marks[0])
            many.take_back(marks[1])
        many.commit()
        if placed:
            many.place()
            assert collections.Counter(map(repr, many.keys)) == collections.Counter(
                map(repr, one.keys)
            )
            assert dict(many.groups) == dict(one.groups)
            assert {key: list(map(type, values)) for key, values in many.groups.items()} == {
                key: list(map(type, values)) for key, values in one.groups.items()
            }
            one.keys.clear()
            many.clear()
    many.place()
    assert dict(many.groups) == dict(one.groups)


def test_many_keys_left_for_later_are_in_a_hurry() -> None:
    one, many = MapContext(), MapContext()
    one.write_each(["a"] * (one.most_later + 1), 1)
    assert None in one.hurry
    many.most_later = 5000
    number = 0
    while None not in many.hurry:
        number += 1
        many.write_each([f"{number}", "a"], 1)
        many.commit()
    assert many.is_full
    assert many.most_later <= number < many.most_later + 1024
    many.place()
    assert not many.is_full
    assert len(many.groups["a"]) == number
    assert len(many.keys) == 2 * number


def test_many_values_left_for_later_are_in_a_hurry() -> None:
    context = MapContext()
    context.most_later = 100
    number = 0
    while None not in context.hurry:
        number += 1
        context.write_each(["a", "b"], 1)
        context.commit()
    assert 1600 < 2 * number <= 3072
    context.place()
    assert {key: len(values) for key, values in context.groups.items()} == {
        "a": number,
        "b": number,
    }


def test_long_keys_left_for_later_are_in_a_hurry() -> None:
    """However few they are: what waits takes memory that nobody else counts."""
    context = MapContext()
    number = 0
    while None not in context.hurry:
        number += 1
        context.write_each([f"{number:0100000}"], 1)
        context.commit()
    assert number < 100
    context.place()
    context.clear()
    context.hurry.clear()
    context.write_each(["a"], 1)
    assert None not in context.hurry


@pytest.mark.parametrize("before", [[], ["a"], ["a", "b"]])
def test_keys_of_a_subclass_of_str_are_refused_as_write_does(before: list[str]) -> None:
    """Then and there, so that the failure names the record; equal text before does not hide them."""

    class Text(str):
        __slots__ = ()

    context = MapContext()
    context.write_each(before, 1)
    with pytest.raises(UnsupportedKeyError, match=r"Write str\(key\) instead"):
        context.write_each(["a", Text("b"), "c"], 1)
    context.place()
    assert sorted(context.keys) == sorted([*before, "a"])
>>>>>>> w-tests


@pytest.mark.parametrize("make", [MapContext, TextContext, ItemContext])
@pytest.mark.parametrize("keys", ["word", b"word"])
def test_one_text_is_not_several_keys(make: Any, keys: Any) -> None:
    with pytest.raises(TypeError, match=r"for one key write context.write\(key, value\)"):
        make().write_each(keys, 1)


def test_a_line_or_pair_for_each_of_several_keys() -> None:
    text, items = TextContext(), ItemContext()
    for context in (text, items):
        context.write_each((key for key in ("a", 1)), "v")
    assert text.written == ["a\tv\n", "1\tv\n"]
    assert items.written == [("a", "v"), (1, "v")]


def test_map_says_what_it_has() -> None:
    for name in ("writeline", "writecsv"):
        with pytest.raises(AttributeError, match=f"context.{name} writes to the output"):
            getattr(MapContext().user, name)
    with pytest.raises(AttributeError, match=r"no attribute 'emit': it has write\(\), write_each"):
        MapContext().user.emit  # noqa: B018
    with pytest.raises(AttributeError, match=r"no attribute 'emit': it has .*writecsv\(\)"):
        TextContext().user.emit  # noqa: B018


def test_combine_writes_one_value_under_its_key() -> None:
    context = CombineContext("k")
    with pytest.raises(CombineError, match="given the key 'k' and wrote under another, 'j'"):
        context.write("j", 1)
    values = [1, 2]
    context.write("k", values)
    values.clear()
    with pytest.raises(CombineError, match="wrote twice"):
        context.write("k", 1)
    assert context.close() == [[1, 2]]


@pytest.mark.parametrize(
    ("key", "other"), [("1", 1), (1, "1"), ("a", b"a"), (1, 2), ((1,), [1]), (None, "")]
)
def test_combine_tells_keys_apart(key: Any, other: Any) -> None:
    with pytest.raises(TypeError):
        CombineContext(key).write(other, 1)


def test_text_follows_the_separators() -> None:
    context = TextContext()
    context.write("k", [1])
    context.user.field_separator, context.user.record_separator = "|", ";\n"
    context.write(1.0, None)
    context.writeline(5)
    context.writecsv(n for n in (1, 2))
    context.check_separators()
    assert context.written == ["k\t[1]\n", "1.0|None;\n", "5;\n", "1,2\r\n"]
    assert TextContext().user.field_separator == "\t", "others are not changed"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text() | st.integers() | st.floats() | st.none() | st.sampled_from(['"', ",", "\r\n"]),
        min_size=1,
        max_size=6,
    )
)
def test_csv_is_the_default_dialect(row: Any) -> None:
    expected = io.StringIO(newline="")
    csv.writer(expected).writerow(row)
    text, items = TextContext(), ItemContext()
    text.writecsv(row)
    items.writecsv(tuple(row))
    assert "".join(text.written) == expected.getvalue()
    assert items.written == [expected.getvalue()[:-2]]


def test_a_row_that_is_none() -> None:
    for context in (TextContext(), ItemContext()):
        with pytest.raises(csv.Error, match="iterable"):
            context.writecsv(5)
        assert context.written == []


def test_items_are_pairs_and_lines() -> None:
    context = ItemContext()
    context.field_separator = "|"
    context.write("k", [1])
    context.writeline(5)
    context.writecsv(["a\r\n", "b"])
    assert context.written == [("k", [1]), "5", '"a\r\n",b']


@pytest.mark.parametrize("make", [TextContext, ItemContext])
@pytest.mark.parametrize("name", ["field_separator", "record_separator"])
@pytest.mark.parametrize("separator", [b"|", None, 1, ["|"]])
def test_a_separator_is_text(make: Any, name: str, separator: Any) -> None:
    context = make()
    setattr(context.user, name, separator)
    with pytest.raises(TypeError, match=f"context.{name} was set to .* must be a str"):
        context.check_separators()
    setattr(context.user, name, "")
    context.check_separators()
