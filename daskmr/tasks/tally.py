"""The counts of a task, which travel with its results, so a retry never counts twice."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any

import zstandard

from daskmr.counts import MOST_REASONS, NO_COUNTS, Counted, Counts, add_counts
from daskmr.data.bad_records import SavedRecord
from daskmr.data.readers.sniffing import LINE_CHARACTERS, describe_lines, format_of
from daskmr.history import HotKey, TaskSpan
from daskmr.tasks.hot_keys import merge_hot_keys
from daskmr.text import shell_word

__all__ = [
    "EXAMPLES",
    "OPENING_LINES",
    "SAVED_AT_MOST",
    "Opening",
    "Span",
    "Tallies",
    "Tally",
    "by_group",
    "explain_untabbed",
    "merge_profiles",
]

Profile = dict[Any, Any]

OPENING_LINES = 1000  # lines without a tab after which the input is not keyed records
EXAMPLES = 3  # bad records that a failure shows for each reason
_NOTES = 20
_SHOWN = 200  # characters of a line that a message shows
_LOOKED_AT = 10  # lines from which the format of the input is guessed
SAVED_AT_MOST = 10_000  # bad records, because short ones take much more than their bytes


@dataclass(frozen=True, slots=True)
class Span:
    """The time from the start of a phase's first task to the end of its last, in epoch seconds."""

    start: float
    end: float

    def __or__(self, other: Span) -> Span:
        return Span(min(self.start, other.start), max(self.end, other.end))


@dataclass(frozen=True, slots=True)
class Opening:
    """The lines of some partitions up to the first with a tab.

    Examples
    --------
    >>> Opening(2, False, "a", ("x", "y")) + Opening(3, True, "b", ("z",))
    Opening(untabbed=5, tabbed=True, path='a', lines=('x', 'y', 'z'))
    >>> Opening(0, True) + Opening(3, False, "b", ("z",))
    Opening(untabbed=0, tabbed=True, path='', lines=())
    """

    untabbed: int = 0  # number of lines before the first with a tab
    tabbed: bool = False  # there is a line with a tab
    path: str = ""  # the file of the first of `lines`
    lines: tuple[str, ...] = ()  # the first lines that are not blank, truncated

    def __add__(self, other: Opening) -> Opening:
        if self.tabbed:
            return self
        return Opening(
            self.untabbed + other.untabbed,
            other.tabbed,
            self.path if self.lines else other.path,
            (self.lines + other.lines)[:_LOOKED_AT],
        )

    def with_line(self, path: str, line: str) -> Opening:
        """Add a line without a tab."""
        lines = (line[:LINE_CHARACTERS],) if line.strip() else ()
        return self + Opening(1, False, path, lines)

    @property
    def is_foreign(self) -> bool:
        """Check whether the input begins with, or consists of, lines that are not records."""
        return self.untabbed >= OPENING_LINES or (self.untabbed > 0 and not self.tabbed)


def explain_untabbed(opening: Opening) -> str:
    """Describe the input, which has no records, and say what to do.

    >>> print(explain_untabbed(Opening(7, False, "a.log", ("a,b", "c,d"))))
    ... # doctest: +NORMALIZE_WHITESPACE
    None of the 7 lines of the input holds a tab, so there is no record (a key, a tab, a value).
    The input looks like CSV. The first, in a.log: 'a,b'. Nothing was written. To read it as such,
    pass --records csv. To skip such lines, use --max-bad-records 100%.
    """
    count = min(opening.untabbed, OPENING_LINES)
    first = "first " if count == OPENING_LINES else ""
    looks = describe_lines(opening.lines)
    text = f"None of the {first}{count:,} lines of the input holds a tab"
    if count == 1:
        text = "The only line of the input holds no tab"
    text += f", so there is no record (a key, a tab, a value). The input looks like {looks}."
    if opening.lines:
        text += f" The first, in {opening.path}: {opening.lines[0][:_SHOWN]!r}."
    records = format_of(looks)
    advice = f" To read it as such, pass --records {shell_word(records)}." if records else ""
    return f"{text} Nothing was written.{advice} To skip such lines, use --max-bad-records 100%."


@dataclass(frozen=True, slots=True)
class Tally(Counted):
    """The counts, skipped files and notes of some partitions."""

    counts: Counts = NO_COUNTS  # figures that add up; each is an attribute of the tally, too
    bad_files: Mapping[str, int] = field(default_factory=dict)  # bad records by file
    # The first bad records in input order, up to `save_limit` raw bytes and 10,000 records.
    saved: tuple[SavedRecord, ...] = ()
    save_limit: int = 0
    unsaved_files: frozenset[str] = frozenset()  # files with bad records that are not in `saved`
    corrupt: tuple[tuple[str, str], ...] = ()  # corrupt files that were skipped, and why
    mapping: Span | None = None
    profile: Profile | None = None
    truncated: bool = False  # a limit was reached, so later bad records are not saved
    # Objects that were skipped because they could not be fetched, and why.
    missing: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()  # notes on the input
    # Files that were skipped because they crash their worker, and how.
    poisoned: tuple[tuple[str, str], ...] = ()
    # The script's own counters, by group and name.
    counters: Mapping[tuple[str, str], int] = field(default_factory=dict)
    tasks: tuple[TaskSpan, ...] = ()  # the tasks themselves
    hot_keys: tuple[HotKey, ...] = ()  # keys with many values, the hottest first
    # Plain files that have grown since they were listed, and their size when they were read.
    grown: tuple[tuple[str, int], ...] = ()
    opening: Opening = Opening()  # how the input begins
    # The first bad records for each reason, in the form that a failure shows.
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __add__(self, other: Tally) -> Tally:
        limit = max(self.save_limit, other.save_limit)
        both = self.saved + other.saved
        saved, dropped = _within(both, limit)
        if self.truncated:
            saved, dropped = self.saved, other.saved
        return Tally(
            counts=self.counts + other.counts,
            bad_files=add_counts(self.bad_files, other.bad_files),
            saved=saved,
            save_limit=limit,
            unsaved_files=self.unsaved_files | other.unsaved_files | {b.file for b in dropped},
            truncated=self.truncated or other.truncated or bool(dropped),
            corrupt=self.corrupt + other.corrupt,
            mapping=self.mapping | other.mapping
            if self.mapping and other.mapping
            else self.mapping or other.mapping,
            profile=merge_profiles(self.profile, other.profile),
            missing=self.missing + other.missing,
            notes=(self.notes + other.notes)[:_NOTES],
            poisoned=self.poisoned + other.poisoned,
            counters=add_counts(self.counters, other.counters),
            tasks=self.tasks + other.tasks,
            hot_keys=merge_hot_keys(self.hot_keys, other.hot_keys),
            grown=self.grown + other.grown,
            opening=self.opening + other.opening,
            examples=_merge_examples(self.examples, other.examples),
        )

    def first_bad(self) -> list[str]:
        """Return a few bad records: one for each reason, the most frequent first, then more."""
        counts = self.bad_reasons
        reasons = sorted(self.examples, key=lambda reason: (-counts.get(reason, 0), reason))
        rounds = zip_longest(*(self.examples[reason] for reason in reasons))
        return [example for each in rounds for example in each if example][:EXAMPLES]


@dataclass(frozen=True, slots=True)
class Tallies:
    """Packed tallies of several partitions, which only the client unpacks and adds.

    A tally names each file that has a bad record. All together may name a million files, which would
    not fit in the memory of a worker.

    Examples
    --------
    >>> (Tallies.of(Tally(Counts(1))) + Tallies.of(Tally(Counts(2)))).total().files
    3
    """

    packed: tuple[bytes, ...] = ()  # in input order

    @classmethod
    def of(cls, tally: Tally) -> Tallies:
        return cls((zstandard.ZstdCompressor(level=1).compress(pickle.dumps(tally, 5)),))

    def __add__(self, other: Tallies) -> Tallies:
        return Tallies(self.packed + other.packed)

    def __sizeof__(self) -> int:  # what Dask counts
        return 100 + sum(map(len, self.packed))

    def total(self) -> Tally:
        """Return the sum; added in halves, so that names are not copied for each partition."""
        count = len(self.packed)
        if count > 1:
            first, second = self.packed[: count // 2], self.packed[count // 2 :]
            return Tallies(first).total() + Tallies(second).total()
        if not count:
            return Tally()
        tally: Tally = pickle.loads(zstandard.ZstdDecompressor().decompress(self.packed[0]))
        return tally


def _within(
    records: tuple[SavedRecord, ...], limit: int
) -> tuple[tuple[SavedRecord, ...], tuple[SavedRecord, ...]]:
    """Split `records` before the first one that exceeds a total of `limit` raw bytes or the count."""
    size = 0
    for count, record in enumerate(records):
        size += len(record.raw)
        if size > limit or count == SAVED_AT_MOST:
            return records[:count], records[count:]
    return records, ()


def _merge_examples(
    first: Mapping[str, tuple[str, ...]], second: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    reasons = islice({**first, **second}, 4 * MOST_REASONS)
    return {r: (first.get(r, ()) + second.get(r, ()))[:EXAMPLES] for r in reasons}


def by_group(counters: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    """Arrange counters by group.

    >>> by_group({("b", "x"): 1, ("a", "y"): 2, ("b", "a"): 3})
    {'a': {'y': 2}, 'b': {'a': 3, 'x': 1}}
    """
    groups: dict[str, dict[str, int]] = {}
    for (group, name), count in sorted(counters.items()):
        groups.setdefault(group, {})[name] = count
    return groups


def merge_profiles(first: Profile | None, second: Profile | None) -> Profile | None:
    """Add two tables of ``cProfile``."""
    if first is None or second is None:
        return first or second
    import pstats  # deferred: few jobs are profiled

    total, other = pstats.Stats(), pstats.Stats()
    total.stats, other.stats = {**first}, second  # type: ignore[attr-defined]
    merged: Profile = total.add(other).stats  # type: ignore[attr-defined]
    return merged
