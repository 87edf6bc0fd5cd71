"""Bad records are counted all, saved up to a limit, and refused where they are too many."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.errors import TaskFailed
from daskmr.tasks.bad_lines import BadRecords
from daskmr.tasks.record_rule import NO_TAB


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


def test_more_than_the_limit_fail_at_once_unless_the_file_may_be_corrupt() -> None:
    bad = bad_records(most=1)
    bad.add(1, "x", NO_TAB, None)
    with pytest.raises(TaskFailed, match=r"The last one: a\.gz, line 2: no tab in the line"):
        bad.add(2, "x", NO_TAB, None)
    later = bad_records(most=0, may_be_corrupt=True)
    later.add(1, "x", NO_TAB, None)
    with pytest.raises(TaskFailed):
        later.check_limit()


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
