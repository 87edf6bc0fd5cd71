"""What is a bad record, what is a failure, and what is taken back."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr import Job
from daskmr.run.trial import TrialOutput
from daskmr.tasks.guard import Returned
from daskmr.tasks.record_rule import NO_TAB, RecordMapper


def parse(key: str, dims: list[str], value: str, context: Any) -> Any:
    context.write(key, "before")
    if value == "return":
        return value
    if value == "closed":
        raise ValueError("I/O operation on closed file.")
    context.write(key, int(value))
    return None


def nothing(key: str, values: Any, context: Any) -> None: ...


class Mapping:
    def __init__(self, reduce: Any = nothing) -> None:
        self.output = TrialOutput(Job(map=parse, reduce=reduce))
        self.bad: list[tuple[int, str, str, bool]] = []
        self.mapper = RecordMapper(parse, self.output, self.note)

    def note(self, number: int, line: str, reason: str, error: ValueError | None) -> None:
        self.bad.append((number, line, reason, error is not None))


def test_what_a_bad_record_has_written_is_taken_back() -> None:
    at = Mapping()
    at.mapper.map(["a\t1\r", "no tab\r"], True, [])
    at.mapper.map(["b\tx", "a\t2"], False, [])
    assert at.bad == [(2, "no tab\r", NO_TAB, False), (3, "b\tx", "ValueError", True)]
    assert dict(at.output.context.groups) == {"a": ["before", 1, "before", 2]}  # type: ignore[union-attr]
    assert at.output.pending == ["a"] * 4
    assert (at.mapper.number, at.mapper.line) == (4, "a\t2")


@pytest.mark.parametrize(
    ("value", "error"), [("return", Returned), ("closed", ValueError), ("", ValueError)]
)
def test_what_is_no_fault_of_the_record_comes_out(value: str, error: type[Exception]) -> None:
    at = Mapping()
    if not value:  # which is a bad record
        at.mapper.map(["a\t"], False, [])
        assert [reason for _, _, reason, _ in at.bad] == ["ValueError"]
        return
    with pytest.raises(error):
        at.mapper.map(["a\t1", f"b\t{value}", "c\t2"], False, [])
    assert (at.mapper.number, at.mapper.line, at.bad) == (2, f"b\t{value}", [])


def test_lines_are_numbered_from_the_start_of_each_file() -> None:
    at = Mapping()
    for file in ("first", "second"):
        at.mapper.begin(file)
        at.mapper.map(["a\t1", "none"], False, [])
        assert (at.mapper.file, at.mapper.number) == (file, 2)
    assert [number for number, *_ in at.bad] == [2, 2]
