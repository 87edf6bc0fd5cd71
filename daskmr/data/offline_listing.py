"""Which objects a job reads when it may not ask the store: a walk over what was listed before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from daskmr.data.filters import Between, Dimension, OneOf, sanitise
from daskmr.data.layout import Schema
from daskmr.data.listing import Listing
from daskmr.data.store_listing import Prefix, Take, known_names, name_starts
from daskmr.errors import InputError
from daskmr.store.source import Entry

__all__ = ["Record", "list_recorded"]

_SHOWN = 10  # values in a gap
_MOST = 20  # gaps
_PLAIN = re.compile(r"[\w.+-]+")


class Record(Protocol):
    """What walks of one source have recorded."""

    def prefixes(self) -> Iterable[tuple[str, str]]:
        """The prefixes that were listed to the end, each with what the names listed begin with."""

    def entries(self, prefix: str) -> Iterable[Entry]:
        """What was listed directly below `prefix`."""


def list_recorded(
    record: Record, root: str, schema: Schema, allow_incomplete: bool = False
) -> tuple[Listing, tuple[str, ...]]:
    """List what a filter allows of what earlier walks have recorded, without the store.

    Parameters
    ----------
    record : Record
        What walks of the same source have recorded.
    root : str
        Where the data is, for the listing and for messages.
    schema : Schema
        The layout and the filter.
    allow_incomplete : bool
        Whether to go on without what was never listed.

    Returns
    -------
    Listing
        What was recorded and the filter allows.
    tuple of str
        What was never listed although the filter allows it, a few words for each gap; empty
        unless `allow_incomplete`.

    Raises
    ------
    InputError
        If something was never listed, saying what, unless `allow_incomplete`.
    """
    replay = _Replay(record, schema)
    level = [Prefix("", ())]
    for position in range(schema.layout.directories):
        level = [child for prefix in level for child in replay.descend(prefix, position)]
    for prefix in level:
        replay.collect(prefix)
    notes = replay.gaps.describe()
    if notes and not allow_incomplete:
        raise InputError(
            f"What is known of {root} is less than the filter allows: {'; '.join(notes)}. "
            "Run it once without --local-only, narrow the filter, or use --allow-incomplete to go "
            "on without."
        )
    return replay.take.gathering.listing(root), notes


class _Replay:
    """A walk over what was recorded, which notes where the record ends."""

    def __init__(self, record: Record, schema: Schema) -> None:
        self.take = Take(schema)
        self.gaps = _Gaps(schema.dimensions)
        self._record = record
        self._schema = schema
        self._starts = name_starts(schema.dimensions[-2])
        self._listed: dict[str, set[str]] = {}
        self._below: dict[str, set[str]] = {}
        for prefix, name_prefix in record.prefixes():
            self._listed.setdefault(prefix, set()).add(name_prefix)
            self._note_parents(prefix)

    def _note_parents(self, prefix: str) -> None:
        while prefix:
            prefix, name = _split(prefix)
            names = self._below.setdefault(prefix, set())
            if name in names:
                return
            names.add(name)

    def descend(self, prefix: Prefix, position: int) -> Iterator[Prefix]:
        """The directories in `prefix` that the filter allows, as far as they are known."""
        whole = "" in self._listed.get(prefix.path, ())
        below = self._below.get(prefix.path, set())
        self.gaps.visit(prefix, whole or bool(below))
        if whole:
            entries = self._record.entries(prefix.path)
            yield from self.take.directories(prefix, position, entries)
        elif below:
            dimension = self._schema.dimensions[position]
            names = known_names(dimension)
            if names is None:
                self.gaps.add_others(prefix, below)
                names = tuple(filter(dimension.allows, sorted(below)))
            yield from map(prefix.below, names)

    def collect(self, prefix: Prefix) -> None:
        """Select the files in `prefix`, as far as they are known."""
        listed = self._listed.get(prefix.path)
        self.gaps.visit(prefix, listed is not None)
        if listed is None:
            return
        starts = tuple(listed)
        wanted = ("",) if self._starts is None else self._starts
        missing = [start.removesuffix(".") for start in wanted if not start.startswith(starts)]
        if missing and isinstance(self._schema.dimensions[-2].test, OneOf):
            self.gaps.add_values(prefix, missing)
        elif missing:
            self.gaps.add_others(prefix, map(_describe_start, starts))
        self.take.files(prefix, self._record.entries(prefix.path), {})


class _Gaps:
    """What was never listed, to be told in terms of the dimensions."""

    def __init__(self, dimensions: tuple[Dimension, ...]) -> None:
        self._dimensions = dimensions
        self._nothing = False
        self._listed: list[set[str]] = [set() for _ in dimensions]
        self._missing: list[dict[str, list[str]]] = [{} for _ in dimensions]
        self._others: list[dict[tuple[str, ...], list[str]]] = [{} for _ in dimensions]

    def visit(self, prefix: Prefix, listed: bool) -> None:
        """Note whether anything in `prefix` was ever listed."""
        if not prefix.dims:
            self._nothing = not listed
            return
        position, value = len(prefix.dims) - 1, prefix.dims[-1]
        if listed:
            self._listed[position].add(value)
        else:
            self._missing[position].setdefault(value, []).append(_split(prefix.path)[0])

    def add_values(self, prefix: Prefix, values: Iterable[str]) -> None:
        """Note that files in `prefix` with one of `values` were never listed."""
        position = len(prefix.dims)
        for value in values:
            self._listed[position].add(value)  # it may well be known of other directories
            self._missing[position].setdefault(value, []).append(prefix.path)

    def add_others(self, prefix: Prefix, listed: Iterable[str]) -> None:
        """Note that in `prefix` only the values `listed` were listed."""
        self._others[len(prefix.dims)].setdefault(tuple(sorted(listed)), []).append(prefix.path)

    def describe(self) -> tuple[str, ...]:
        """A few words for each gap; nothing for none."""
        if self._nothing:
            return ("nothing was ever listed",)
        gaps = [
            f"{dimension.field_name} {gap}"
            for position, dimension in enumerate(self._dimensions)
            for gap in self._describe_gaps(position, dimension)
        ]
        if len(gaps) > _MOST:
            gaps[_MOST:] = [f"and {len(gaps) - _MOST:,} more of this kind"]
        return tuple(gaps)

    def _describe_gaps(self, position: int, dimension: Dimension) -> Iterator[str]:
        listed, missing = self._listed[position], self._missing[position]
        nowhere = sorted(missing.keys() - listed)
        if listed and isinstance(dimension.test, Between):
            first, last = min(listed), max(listed)
            if nowhere and nowhere[0] < first:
                yield f"below {_show(first)} was never listed"
            if nowhere and nowhere[-1] > last:
                yield f"above {_show(last)} was never listed"
            nowhere = [value for value in nowhere if first < value < last]
        if nowhere:
            yield f"{_join(_as_given(dimension, nowhere))} was never listed"
        somewhere: dict[tuple[str, ...], list[str]] = {}
        for value in sorted(missing.keys() & listed):
            somewhere.setdefault(tuple(missing[value]), []).append(value)
        for prefixes, values in somewhere.items():
            yield f"{_join(_as_given(dimension, values))} was never listed{_where(prefixes)}"
        for known, below in self._others[position].items():
            yield f"other than {_join(known)} was never listed{_where(below)}"


def _split(prefix: str) -> tuple[str, str]:
    """The prefix above, and the name in it.

    >>> _split("idle/Firefox/")
    ('idle/', 'Firefox')
    """
    parent, slash, name = prefix[:-1].rpartition("/")
    return parent + slash, name


def _as_given(dimension: Dimension, values: list[str]) -> list[str]:
    """Leave out the spelling of the storage where the filter's own stands beside it."""
    if not isinstance(dimension.test, OneOf):
        return values
    spellings = {sanitise(value) for value in values if sanitise(value) != value}
    return [value for value in values if value not in spellings]


def _describe_start(start: str) -> str:
    return start[:-1] if start.endswith(".") else f"{start}..."


def _join(values: Sequence[str]) -> str:
    shown = [_show(value) for value in values[:_SHOWN]]
    if len(values) > _SHOWN:
        shown.append(f"... ({len(values):,} values)")
    return " or ".join(shown) if len(shown) < 3 else ", ".join(shown)


def _show(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else repr(value)


def _where(prefixes: Sequence[str]) -> str:
    if list(prefixes) == [""]:
        return ""
    more = f" and {len(prefixes) - 1:,} more" if len(prefixes) > 1 else ""
    return f" below {prefixes[0]!r}{more}"
