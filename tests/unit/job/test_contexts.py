"""Contexts take what is written as it is then, and say where a call does not belong."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.job.contexts import CombineContext, CombineError, ItemContext, TextContext
from daskmr.job.map_context import MapContext


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
    with pytest.raises(AttributeError, match=r"no attribute 'write_to': combine may call context"):
        context.write_to("name", "k", 1)
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
