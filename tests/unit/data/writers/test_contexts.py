"""The contexts of the tasks, by the form of the output."""

from __future__ import annotations

import pickle

import pytest

from daskmr.data.writers.contexts import OutputKind, packed, report_of
from daskmr.job.contexts import ItemContext, TextContext
from daskmr.job.row_context import RowContext


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (OutputKind(), TextContext),
        (OutputKind(items=True), ItemContext),
        (OutputKind(items=True, format="csv"), ItemContext),
        (OutputKind(format="csv"), RowContext),
    ],
)
def test_a_context_for_each_kind(kind: OutputKind, expected: type) -> None:
    assert pickle.loads(pickle.dumps(kind)) == kind
    assert type(kind.context()) is expected


@pytest.mark.parametrize(
    ("kind", "output", "size", "report"),
    [
        (OutputKind(), "a\t1\n", 4, None),
        (OutputKind(items=True), [("a", 1)], 1, None),
        (OutputKind(format="csv", columns=("x", "y")), "a,1\r\n", 5, {("x", "y"): "a,1\r\n"}),
    ],
)
def test_what_a_part_keeps(kind: OutputKind, output: object, size: int, report: object) -> None:
    context = kind.context()
    context.write("a", 1)
    assert packed(context, context.written) == (output, size)
    assert report_of(context) == report
