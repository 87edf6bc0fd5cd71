"""Counts of a run: one type, from the tasks that count to the summary.

To add a figure, add a field to `Counts`, and count it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

__all__ = [
    "MOST_REASONS", "NO_COUNTS", "OTHER_REASONS", "Counted", "Counts", "add_counts",
    "most_frequent_first",
]  # fmt: skip

MOST_REASONS = 100
"""Different reasons for bad records that are counted, since a script may give each its own."""

OTHER_REASONS = "other reasons"
"""The reason for all others."""

_Name = TypeVar("_Name")
_EMPTY: Mapping[str, int] = {}  # never changed


class Counts(NamedTuple):  # faster to define than a data class, in each process
    """Counts of some files, tasks or phases.

    - `files`, `bytes`, `records`: files mapped, their size as stored, and their lines, including
      bad ones. For reducers, `records` are keys, and `files` are buckets.
    - `bad_reasons`: bad records by reason.
    - `fetched`, `fetched_bytes`: objects fetched from a store, and their size.
    - `spilled`: bytes written to segments.
    - `waited`: seconds spent waiting for files from a store.
    - `values`: values that `map` wrote for `reduce`.

    Examples
    --------
    >>> both = Counts(files=1, bad_reasons={"a": 2}) + Counts(files=2, bad_reasons={"a": 1})
    >>> both.files, both.bad_records
    (3, 3)
    """

    files: int = 0
    bytes: int = 0
    records: int = 0
    bad_reasons: Mapping[str, int] = _EMPTY
    fetched: int = 0
    fetched_bytes: int = 0
    spilled: int = 0
    waited: float = 0.0
    values: int = 0

    @property
    def bad_records(self) -> int:
        return sum(self.bad_reasons.values())

    def __add__(self, other: Counts) -> Counts:  # type: ignore[override]
        return Counts(*map(_add, self, other))

    def as_dict(self) -> dict[str, Any]:
        """Return all figures by name, including the number of bad records."""
        return {**self._asdict(), "bad_records": self.bad_records}


NO_COUNTS = Counts()


def _add(first: Any, second: Any) -> Any:
    return _fewer(add_counts(first, second)) if isinstance(first, Mapping) else first + second


def _fewer(reasons: Mapping[str, int]) -> Mapping[str, int]:
    """Add up all reasons for bad records except for the most frequent."""
    if len(reasons) <= MOST_REASONS:
        return reasons
    others = {**reasons}
    own = others.pop(OTHER_REASONS, 0)
    kept = dict(islice(most_frequent_first(others).items(), MOST_REASONS - 1))
    return {**kept, OTHER_REASONS: own + sum(others.values()) - sum(kept.values())}


def add_counts(first: Mapping[_Name, int], second: Mapping[_Name, int]) -> dict[_Name, int]:
    """Add two mappings of counts.

    >>> add_counts({"a": 1}, {"a": 2, "b": 3})
    {'a': 3, 'b': 3}
    """
    return {**first, **{name: first.get(name, 0) + count for name, count in second.items()}}


def most_frequent_first(counts: Mapping[str, int]) -> dict[str, int]:
    """Sort by count, and by name if counts are equal.

    >>> most_frequent_first({"b": 1, "a": 1, "c": 2})
    {'c': 2, 'a': 1, 'b': 1}
    """
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


class Counted:
    """A value that holds `Counts`, each figure of which is an attribute of the value, too."""

    __slots__ = ()
    counts: Counts

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


for _figure in (*Counts._fields, "bad_records"):
    setattr(Counted, _figure, property(attrgetter(f"counts.{_figure}")))
