"""The parts of named outputs: their order, what bad records undo, and their memory."""

from __future__ import annotations

import os
from itertools import chain
from types import SimpleNamespace
from typing import Any

import pytest

from daskmr.data.parts import Part, merge_parts, named_parts
from daskmr.data.segments import Extent
from daskmr.data.writers import named
from daskmr.data.writers.contexts import OutputKind
from daskmr.data.writers.named import NamedParts
from daskmr.job.contexts import NAMED, NamedOutputError


def read(part: Part) -> list[Any]:
    written = chain.from_iterable(merge_parts([part]))
    return [*written] if not part.kinds else [*chain.from_iterable(written)]


def test_what_is_not_used_has_no_parts(tmp_path: Any) -> None:
    context = OutputKind().context()
    assert NamedParts(context, str(tmp_path), 1 << 20).finish() == ()
    assert os.listdir(tmp_path) == []


def test_a_part_of_keys(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output of a key stays together, in the order of writing, however often it is taken."""
    monkeypatch.setattr(named, "_BATCH", 2)
    context, call = OutputKind(items=True).context(), SimpleNamespace(key=None)
    parts = NamedParts(context, str(tmp_path), 1 << 20, call=call)
    for key in (None, 1, "k"):
        call.key = key
        for n in range(5):
            context.write_to("a", key, n)
            if key == 1:
                context.write_to("b", n, n)
    found = dict(parts.finish())
    assert read(found["a"]) == [(key, n) for key in (None, 1, "k") for n in range(5)]
    assert read(found["b"]) == [(n, n) for n in range(5)]
    assert found["a"].lines == 15
    assert found["a"].kinds == {"NoneType", "int", "str"}


@pytest.mark.parametrize("kind", [OutputKind(), OutputKind(items=True), OutputKind(format="csv")])
def test_records_are_kept_or_undone(tmp_path: Any, kind: OutputKind) -> None:
    context = kind.context()
    parts = NamedParts(context, str(tmp_path), 1 << 20)
    for n in range(4):
        context.write_to("a", n, "x")
        context.write_to("a", n, "y")
        assert context.hurry == [NAMED]  # once a record
        if n % 2:
            context.undo_named()
        if n == 3:
            context.write_to("b", 3, "z")
            context.undo_named()
        assert not parts.keep()
        context.hurry.clear()
    ((name, part),) = parts.finish()  # "b" has nothing
    assert (name, part.lines) == ("a", 4)


def test_large_output_moves_to_disk(tmp_path: Any) -> None:
    context, call = OutputKind().context(), SimpleNamespace(key=0)
    parts = NamedParts(context, str(tmp_path), 1 << 16, call=call)
    for call.key in range(300):
        context.write_to("a", call.key, "x" * 100)
        assert sum(map(len, context.named["a"].written)) < 4096
    ((_, part),) = parts.finish()
    assert isinstance(part.frames, Extent)
    assert len(read(part)) == sum(len(f"{n}\t{'x' * 100}\n") for n in range(300))
    other = NamedParts(context, str(tmp_path), 1 << 16, call=call)
    for call.key in range(300):
        context.write_to("b", call.key, "x" * 100)
    other.discard()
    assert len(os.listdir(tmp_path)) == 1


def test_later_writes_are_refused(tmp_path: Any) -> None:
    context = OutputKind().context()
    NamedParts(context, str(tmp_path), 1 << 20).finish()
    with pytest.raises(NamedOutputError, match="was called after the last key"):
        context.write_to("a", 1, 1)
    assert not context.named["a"].written


def test_named_parts_are_found_by_name() -> None:
    one, other = (Part((), (), frozenset(), n) for n in (1, 2))
    main = [
        Part((), (), frozenset(), 0, named=each)
        for each in ((("b", one),), (("a", other), ("b", other)))
    ]
    assert named_parts(main) == {"a": (other,), "b": (one, other)}
