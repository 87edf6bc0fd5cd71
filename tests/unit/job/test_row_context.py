"""The context of an output with columns."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.job.contexts import HUGE, ItemContext, StaleContextError, TextContext
from daskmr.job.json_text import RowError
from daskmr.job.row_context import RowContext


class Recorded:
    """Rows that record the calls that make them."""

    def pair(self, key: Any, value: Any) -> tuple[Any, int]:
        return ("pair", key, value), len(str(value))

    def fields(self, values: Any) -> tuple[Any, int]:
        return ("fields", values), 1

    def line(self, text: str) -> tuple[Any, int]:
        return ("line", text), 1

    def json(self, value: Any) -> tuple[Any, int]:
        return ("json", value), 1

    def pack(self, entries: Any) -> Any:
        return entries

    def report(self) -> Any:
        return None


def test_each_function_makes_an_entry() -> None:
    context = RowContext(Recorded())
    user = context.user
    user.write("a", 12)
    user.write_each(["b", "c"], 3)
    user.writeline(4)
    user.writecsv(iter([5, 6]))
    user.writejson({"d": 7})
    assert context.written == [
        ("pair", "a", 12), ("pair", "b", 3), ("pair", "c", 3), ("line", "4"), ("fields", [5, 6]),
        ("json", {"d": 7}),
    ]  # fmt: skip
    assert context.size == 7
    assert context.hurry == []
    user.write("large", "x" * (HUGE + 1))
    assert context.hurry == [None]


@pytest.mark.parametrize("values", ["text", b"bytes", {"a": 1}, {"a", "b"}])
def test_writecsv_takes_the_values_of_a_row(values: Any) -> None:
    with pytest.raises(RowError, match="takes the values of a row"):
        RowContext(Recorded()).user.writecsv(values)


def test_a_closed_context_refuses_rows() -> None:
    context = RowContext(Recorded())
    context.close("run of test_row_context")
    with pytest.raises(StaleContextError):
        context.user.write("a", 1)


def test_writejson_of_the_other_contexts() -> None:
    text, items = TextContext(), ItemContext()
    value: Any = {"a": [1]}
    for context in (text, items):
        context.user.writejson(value)
        context.user.writejson((1, 2))
    value["a"].append(2)
    assert text.written == ['{"a":[1]}\n', "[1,2]\n"]
    assert items.written == [{"a": [1]}, [1, 2]]
    with pytest.raises(RowError):
        items.user.writejson({1, 2})
