"""Which records are bad, counted, saved and refused; which failures are not theirs; what is undone."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr import Job
from daskmr.errors import TaskFailed
from daskmr.run.trial import TrialOutput
from daskmr.tasks.guard import Returned
from daskmr.tasks.record_rule import (
    NO_TAB,
    BadRecords,
    RecordMapper,
    advice_to_skip,
    skipped_errors,
)
from daskmr.tasks.user_calls import current_call


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
    """Maps lines, and notes what is bad."""

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
        assert (at.mapper.number, at.mapper.line) == (2, "none")
    assert [number for number, *_ in at.bad] == [2, 2]


def test_the_line_that_is_mapped_is_known_at_any_time() -> None:
    seen: list[tuple[str, int]] = []

    def look(key: str, dims: list[str], value: str, context: Any) -> None:
        call = current_call().call
        assert call is not None
        seen.append((call.file, call.line))

    mapper = RecordMapper(look, TrialOutput(Job(map=look)), lambda *bad: None)
    for file in ("first", "second"):
        mapper.begin(file)
        mapper.map(["a\t1", "none", "b\t2"], False, [])
        mapper.map(["c\t3"], False, [])
    assert seen == [(file, number) for file in ("first", "second") for number in (1, 3, 4)]
    assert current_call().call is None


def test_errors_that_are_skipped() -> None:
    def fail(key: str, dims: list[str], value: str, context: Any) -> Any:
        context.write(key, 1)
        if key == "counter":
            context.counter("group", "name", 1.5)
        if key == "returns":
            return 1
        raise {"key": KeyError, "index": IndexError, "other": RuntimeError}[key](value)

    bad: list[tuple[int, str, str]] = []
    output = TrialOutput(Job(map=fail, reduce=nothing))
    lines = ["key\tx", "index\ty", "nowhere\tz"]
    mapper = RecordMapper(fail, output, lambda *why: bad.append(why[:3]), skipped_errors("skip"))
    mapper.map(lines, False, [])
    assert [reason for *_, reason in bad] == [
        "KeyError: 'x'",
        "IndexError: y",
        "KeyError: 'nowhere'",
    ]
    assert not output.pending
    for line, error in (
        ("other\t", RuntimeError),
        ("counter\t", TypeError),
        ("returns\t", Returned),
    ):
        with pytest.raises(error):
            mapper.map([line], False, [])
    with pytest.raises(KeyError) as caught:
        RecordMapper(fail, output, print, skipped_errors("fail")).map(lines, False, [])
    assert "--on-error skip" in advice_to_skip(caught.value)
    assert advice_to_skip(Returned(1)) == advice_to_skip(RuntimeError()) == ""


# --- bad records --------------------------------------------------------------------------------


def bad_records(**changes: Any) -> BadRecords:
    options: dict[str, Any] = {
        "save_limit": 100,
        "most": None,
        "max_record_bytes": 1000,
        "may_be_corrupt": False,
        "needs_tabs": False,
        "sampled": None,
    }
    bad = BadRecords(**{**options, **changes})
    bad.begin("a.gz", "/data/a.gz", 0)
    return bad


def test_all_are_counted_and_the_first_are_saved() -> None:
    bad = bad_records(save_limit=5)
    for number, line in enumerate(["abc", "ab", "c"], 1):
        bad.add(number, line, NO_TAB, None)
    bad.begin("b.gz", "/data/b.gz", 3)
    bad.add(1, "k\tx", "ValueError", ValueError("odd"))
    assert dict(bad.reasons) == {NO_TAB: 3, "ValueError": 1}
    assert dict(bad.files) == {"a.gz": 3, "b.gz": 1}
    assert [record.line for record in bad.saved] == [1, 2]
    assert (bad.unsaved, bad.truncated) == ({"a.gz", "b.gz"}, True)
    assert bad.examples["ValueError"][0].startswith("b.gz, line 1: ValueError: odd; it begins with")


def test_a_bad_record_that_never_fits_leaves_room_for_others() -> None:
    bad = bad_records(save_limit=5)
    for number, line in enumerate(["a", "too long", "abcd", "x", "y"], 1):
        bad.add(number, line, NO_TAB, None)
    assert [record.raw for record in bad.saved] == [b"a", b"abcd"]
    assert (bad.unsaved, bad.truncated) == ({"a.gz"}, True)


def test_more_than_the_limit_fail_at_once_unless_the_file_may_be_corrupt() -> None:
    bad = bad_records(most=1)
    bad.add(1, "x", NO_TAB, None)
    with pytest.raises(TaskFailed, match=r"The last one: a\.gz, line 2: no tab in the line"):
        bad.add(2, "x", NO_TAB, None)
    later = bad_records(most=0, may_be_corrupt=True)
    later.add(1, "x", NO_TAB, None)
    with pytest.raises(TaskFailed):
        later.check()


def test_an_input_of_no_records_fails_in_its_first_partition_only() -> None:
    for needs_tabs in (False, True):
        bad = bad_records(needs_tabs=needs_tabs)
        for number in range(1, 1000):
            bad.add(number, "x", NO_TAB, None)
        if not needs_tabs:
            bad.add(1000, "x", NO_TAB, None)
            continue
        with pytest.raises(TaskFailed, match="None of the first 1,000 lines"):
            bad.add(1000, "x", NO_TAB, None)
