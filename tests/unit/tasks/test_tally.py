"""Tallies add up to the same whatever the tree in which they meet."""

from __future__ import annotations

import copy
import cProfile
import marshal
import pickle
import pstats
import sys
from collections import Counter
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.counts import Counts
from daskmr.tasks.tally import (
    Opening,
    SavedRecord,
    Span,
    Tallies,
    Tally,
    explain_untabbed,
    merge_profiles,
)

COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9))


@st.composite
def tallies(draw: Any) -> Tally:
    """What mappers give: each saves its first bad records up to the limit, and none after that."""
    limit = 20
    tally = []
    for number in range(draw(st.integers(0, 4))):
        saved, unsaved, size = [], set(), 0
        for line in range(draw(st.integers(0, 4))):
            raw = b"x" * draw(st.integers(0, 12))
            size += len(raw)
            record = SavedRecord(f"{number}.{draw(st.integers(0, 1))}", line, "r", "", raw)
            if size <= limit:
                saved.append(record)
            else:
                unsaved.add(record.file)
        tally.append(
            Tally(
                Counts(
                    files=draw(st.integers(0, 5)),
                    bytes=draw(st.integers(0, 5)),
                    records=draw(st.integers(0, 5)),
                    bad_reasons=draw(COUNTS),
                    spilled=draw(st.integers(0, 5)),
                ),
                bad_files=draw(COUNTS),
                saved=tuple(saved),
                save_limit=limit,
                unsaved_files=frozenset(unsaved),
                corrupt=tuple(draw(st.lists(st.just((f"{number}", "why")), max_size=1))),
                mapping=draw(st.none() | st.builds(Span, st.integers(0, 9), st.integers(0, 9))),
            )
        )
    return tally


def equal(first: Tally, second: Tally, *names: str) -> bool:
    return all(getattr(first, name) == getattr(second, name) for name in names)


COUNTED = ("counts", "bad_files", "corrupt", "mapping")


def trees(items: list[Tally]) -> list[Tally]:
    """Add `items` from the left, from the right, and by halves."""
    left = right = Tally()
    for item in items:
        left = left + item
    for item in reversed(items):
        right = item + right

    def halves(part: list[Tally]) -> Tally:
        middle = len(part) // 2
        return halves(part[:middle]) + halves(part[middle:]) if middle else part[0]

    return [left, right, halves(items or [Tally()])]


@settings(max_examples=50, deadline=None)
@given(tallies())
def test_counts_add_up_in_any_tree(items: list[Tally]) -> None:
    left, right, halves = trees(items)
    assert equal(left, right, *COUNTED)
    assert equal(left, halves, *COUNTED)
    assert left.bad_reasons == dict(sum((Counter(item.bad_reasons) for item in items), Counter()))
    assert left.bad_records == sum(item.bad_records for item in items)


@settings(max_examples=50, deadline=None)
@given(tallies())
def test_no_bad_record_is_lost_unseen_and_no_more_than_the_limit_is_saved(
    items: list[Tally],
) -> None:
    for total in trees(items):
        assert sum(len(record.raw) for record in total.saved) <= 20
        given_records = [record for item in items for record in item.saved]
        kept = iter(given_records)
        assert all(record in kept for record in total.saved), "in input order"
        lost = {r.file for r in given_records if r not in total.saved}
        lost |= {file for item in items for file in item.unsaved_files}
        assert total.unsaved_files == lost


@settings(max_examples=50, deadline=None)
@given(tallies())
def test_the_first_bad_records_are_saved_whatever_the_tree(items: list[Tally]) -> None:
    """They do not depend on how the input is partitioned: nothing follows what was left out."""
    left, right, halves = trees(items)
    assert left.saved == right.saved == halves.saved
    assert left.unsaved_files == right.unsaved_files == halves.unsaved_files


def test_no_more_than_10_000_are_saved() -> None:
    """Empty lines are no bytes to save, and yet each takes memory."""
    halves = [
        Tally(
            saved=tuple(SavedRecord(f"{half}", n, "r", "", b"") for n in range(6000)), save_limit=1
        )
        for half in "ab"
    ]
    total = halves[0] + halves[1]
    assert total.saved == (halves[0].saved + halves[1].saved)[:10_000]
    assert total.truncated
    assert total.unsaved_files == {"b"}


def test_nothing_is_saved_behind_what_was_left_out() -> None:
    def one(name: str, size: int) -> Tally:
        return Tally(saved=(SavedRecord(name, 1, "r", "", b"x" * size),), save_limit=10)

    first, large, small = one("first", 3), one("large", 8), one("small", 5)
    for total in (first + large + small, first + (large + small)):
        assert [record.file for record in total.saved] == ["first"]
        assert total.unsaved_files == {"large", "small"}


def test_an_empty_tally_changes_nothing() -> None:
    saved = (SavedRecord("f", 1, "r", "", b"abc"),)
    tally = Tally(Counts(1, 2, 3, {"a": 1}), {"f": 1}, saved, 3, frozenset("g"), (("c", "w"),))
    assert tally + Tally() == Tally() + tally == tally


def test_spans_unite() -> None:
    assert Span(1, 5) | Span(0, 3) == Span(0, 5)
    assert (Tally(mapping=Span(1, 2)) + Tally()).mapping == Span(1, 2)
    assert (Tally(mapping=Span(1, 2)) + Tally(mapping=Span(5, 6))).mapping == Span(1, 6)


# --- profiles --------------------------------------------------------------------------------


def _leaf(n: int) -> int:
    return sum(range(n))


def _branch(n: int) -> int:
    return _leaf(n) + (_branch(n - 1) if n else 0)


def _other(n: int) -> int:
    return _leaf(n) + len(sorted(str(n)))


def profile_of(*functions: Any) -> dict[Any, Any]:
    profiler = cProfile.Profile()
    for function in functions:
        profiler.runcall(function, 5)
    profiler.create_stats()
    stats: dict[Any, Any] = profiler.stats  # type: ignore[attr-defined]
    return stats


def as_file(path: Path, stats: dict[Any, Any]) -> str:
    path.write_bytes(marshal.dumps(stats))
    return str(path)


def test_merged_profiles_equal_those_of_pstats(tmp_path: Path) -> None:
    profiles = [
        profile_of(_branch, _other),
        profile_of(_other),
        profile_of(_leaf, _branch, _branch),
        profile_of(abs),
    ]
    files = [as_file(tmp_path / f"{n}.prof", stats) for n, stats in enumerate(profiles)]
    copies = copy.deepcopy(profiles)
    merged: Any = None
    expected = pstats.Stats(files[0])
    for number, stats in enumerate(profiles):
        merged = merge_profiles(merged, stats)
        if number:
            expected.add(files[number])
        assert merged == expected.stats  # type: ignore[attr-defined]
    assert profiles == copies, "none is changed"
    assert pstats.Stats(as_file(tmp_path / "merged", merged)).total_calls > 20  # type: ignore[attr-defined]


def test_merging_with_no_profile() -> None:
    stats = profile_of(_leaf)
    assert merge_profiles(None, None) is None
    assert merge_profiles(stats, None) == merge_profiles(None, stats) == stats
    assert (Tally(profile=stats) + Tally()).profile == stats


@settings(max_examples=50, deadline=None)
@given(tallies())
def test_tallies_that_travel_packed_add_up_to_the_same(items: list[Tally]) -> None:
    packed = [Tallies.of(item) for item in items]
    total = sum(pickle.loads(pickle.dumps(packed)), Tallies()).total()
    assert equal(total, sum(items, Tally()), *COUNTED, "saved", "unsaved_files", "truncated")
    assert sys.getsizeof(sum(packed, Tallies())) > sum(len(p) for t in packed for p in t.packed)


# --- how the input begins, and what is bad of it --------------------------------------------------

LINES = st.lists(st.sampled_from(["k\t1", "", "{}", "x"]), max_size=12)


def opening_of(lines: list[str]) -> Opening:
    """The definition: all lines before the first with a tab."""
    first = next((n for n, line in enumerate(lines) if "\t" in line), len(lines))
    shown = tuple(line for line in lines[:first] if line)[:10]
    return Opening(first, first < len(lines), "a" if shown else "", shown)


@given(st.lists(LINES, max_size=6))
def test_how_the_input_begins_does_not_depend_on_how_it_is_cut(parts: list[list[str]]) -> None:
    whole = opening_of([line for part in parts for line in part])
    openings = [opening_of(part) for part in parts]
    added = reduce(add, openings, Opening())
    assert (added.untabbed, added.tabbed, added.lines) == (
        whole.untabbed,
        whole.tabbed,
        whole.lines,
    )
    packed = sum((Tallies.of(Tally(opening=each)) for each in openings), Tallies())
    assert packed.total().opening.lines == whole.lines


def test_what_is_foreign() -> None:
    assert not Opening().is_foreign
    assert not Opening(999, True).is_foreign
    assert not Opening(0, True).is_foreign
    assert Opening(1000, True).is_foreign
    assert Opening(1).is_foreign


def reasons(**reasons: int) -> Counts:
    return Counts(bad_reasons=reasons)


def test_what_is_shown_of_bad_records() -> None:
    first = Tally(reasons(a=5, b=1), examples={"a": ("a1", "a2", "a3"), "b": ("b1",)})
    second = Tally(reasons(a=1, c=9), examples={"a": ("a4",), "c": ("c1",)})
    assert first.first_bad() == ["a1", "b1", "a2"]
    assert (first + second).first_bad() == ["c1", "a1", "b1"]
    assert (first + second).examples["a"] == ("a1", "a2", "a3")
    assert Tally().first_bad() == []


def test_the_explanation_names_the_format() -> None:
    text = explain_untabbed(Opening(7, False, "a b.log", ("a,b", "c,d")))
    assert "The first, in a b.log: 'a,b'." in text
    assert "pass --records csv." in text


def test_lines_that_are_empty_get_no_command() -> None:
    text = explain_untabbed(Opening(1000, False))
    assert text.startswith("None of the first 1,000 lines of the input holds a tab")
    assert "The input looks like empty lines. Nothing was written." in text
    assert text.endswith("--max-bad-records 100%.")


def test_a_single_line_is_told_as_one() -> None:
    text = explain_untabbed(Opening(1, False, "a.log", ("x",)))
    assert text.startswith("The only line of the input holds no tab, so there is no record")
