"""List a job's objects without access to the store, from the record of earlier listings."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from daskmr.data.dimensions.template import Level
from daskmr.data.filters import Dimension, join_values, sanitise
from daskmr.data.layout import Schema
from daskmr.data.listing import Listing
from daskmr.data.store_listing import (
    EntrySelection,
    Prefix,
    dimensions_by_level,
    known_names,
    name_starts,
)
from daskmr.errors import InputError
from daskmr.store.source import Entry

__all__ = ["Record", "list_recorded"]

_MAX_GAPS = 20
Values: TypeAlias = tuple[str, ...]
_PLAIN = re.compile(r"[\w.+-]+")


class Record(Protocol):
    """The recorded listings of one source."""

    def prefixes(self) -> Iterable[tuple[str, str]]:
        """Yield each completely listed prefix, with the name prefix that limited its listing."""

    def entries(self, prefix: str) -> Iterable[Entry]:
        """Return the entries that were listed directly below `prefix`."""


def list_recorded(
    record: Record, root: str, schema: Schema, allow_incomplete: bool = False
) -> tuple[Listing, tuple[str, ...]]:
    """List the files that a filter allows, from the recorded listings of the source at URL `root`.

    Return the listing and a short description of each gap: values that the filter allows but that
    were never listed. A gap raises InputError unless `allow_incomplete`.
    """
    if schema.layout.is_undiscovered:
        schema = _discover(record, schema)
    replay = _Replay(record, schema)
    level = [Prefix("", ())]
    for position in range(schema.layout.directories):
        level = [child for prefix in level for child in replay.descend(prefix, position)]
    for prefix in level:  # grows while the files are at any depth
        level += replay.collect(prefix)
    notes = replay.gaps.describe()
    if notes and not allow_incomplete:
        raise InputError(
            f"The recorded listing of {root} is incomplete for this filter: {'; '.join(notes)}. "
            "Run once without --local-only, narrow the filter, or use --allow-incomplete to "
            "continue without them."
        )
    return replay.selected.listing(root), notes


def _discover(record: Record, schema: Schema) -> Schema:
    """Discover the names of a `hive` layout in the deepest directories that were listed."""
    known: set[str] = set()
    for path, _ in record.prefixes():
        known.add(path)
        known |= {f"{path}{entry.name}/" for entry in record.entries(path) if entry.is_dir}
    partitions = {
        path for path in known if all(name.find("=") > 0 for name in path.split("/")[:-1])
    }
    deepest = min(partitions, key=lambda path: (-path.count("/"), path), default="")
    return schema.discovered_in([deepest])


class _Replay:
    """A walk over a record that also collects its gaps."""

    def __init__(self, record: Record, schema: Schema) -> None:
        self.selected = EntrySelection(schema)
        self.gaps = _Gaps(schema.dimensions)
        self._record = record
        self._levels = schema.layout.levels
        self._dimensions = dimensions_by_level(schema)
        last = self._levels[-1]
        self._starts = name_starts(last, self._dimensions[-1])
        # Whether each of them is for one value of the first dimension
        self._are_values = (
            bool(last.dimensions) and self._dimensions[-1][0].test.accepted is not None
        )
        self._listed: dict[str, set[str]] = defaultdict(set)
        self._below: dict[str, set[str]] = defaultdict(set)
        for path, name_prefix in record.prefixes():
            self._listed[path].add(name_prefix)
            while path:
                path, name = _split(path)
                self._below[path].add(name)

    def descend(self, prefix: Prefix, position: int) -> Iterator[Prefix]:
        """Yield the known directories in `prefix` that the filter allows."""
        level, dimensions = self._levels[position], self._dimensions[position]
        complete = level.start.startswith(tuple(self._listed.get(prefix.path, ())))
        below = self._below.get(prefix.path, set())
        self._visit(prefix, position - 1, complete or bool(below))
        if complete:
            entries = self._record.entries(prefix.path)
            yield from self.selected.directories(prefix, position, entries)
        elif below:
            names = known_names(level, dimensions)
            if names is None:
                matched = [level.match(name) for name in sorted(below)]
                values = [found[0] for found in matched if found]
                self.gaps.add_others(prefix, values if level.dimensions else sorted(below))
                names = tuple(sorted(below))
            for name in names:
                dims = level.match(name)
                if dims is not None and all(map(Dimension.allows, dimensions, dims)):
                    yield prefix.below(name, dims)

    def collect(self, prefix: Prefix) -> list[Prefix]:
        """Select the known files in `prefix`; return its directories if the last level spans several."""
        listed = self._listed.get(prefix.path)
        level = self._levels[-1]
        if prefix.rest:
            if listed is None:
                self.gaps.add_path(prefix.path)
        else:
            self._visit(prefix, len(self._levels) - 2, listed is not None)
        if listed is None:
            return []
        starts = tuple(listed)
        needed = ("",) if self._starts is None or prefix.rest else self._starts
        missing = [start for start in needed if not start.startswith(starts)]
        if missing and self._are_values:
            self.gaps.add_values(prefix, [_value_of(level, start) for start in missing])
        elif missing and level.dimensions:
            self.gaps.add_others(prefix, [s[:-1] if s[-1:] == "." else f"{s}..." for s in starts])
        elif missing:
            self.gaps.add_path(f"{prefix.path}{level.text}")
        return self.selected.select_files(prefix, self._record.entries(prefix.path))

    def _visit(self, prefix: Prefix, position: int, listed: bool) -> None:
        """Note whether a prefix was listed; `position` is that of its own level, -1 for the root."""
        if position < 0 or self._levels[position].dimensions:
            self.gaps.visit(prefix, listed)
        elif not listed:
            self.gaps.add_path(prefix.path)


def _value_of(level: Level, start: str) -> str:
    """Return the value of the first dimension in the start of a name."""
    if (values := level.match(start)) is not None:
        return values[0]
    after = "".join(str(part) for part in level.parts[bool(level.start) + 1 :][:1])
    return start.removeprefix(level.start).removesuffix(after)


class _Gaps:
    """The gaps of a record, described in terms of the dimensions."""

    def __init__(self, dimensions: tuple[Dimension, ...]) -> None:
        self._dimensions = dimensions
        self._nothing = False
        self._paths: list[str] = []
        self._listed: list[set[str]] = [set() for _ in dimensions]
        self._missing: list[dict[str, list[str]]] = [defaultdict(list) for _ in dimensions]
        self._others: list[dict[Values, list[str]]] = [defaultdict(list) for _ in dimensions]

    def visit(self, prefix: Prefix, listed: bool) -> None:
        if not prefix.path:
            self._nothing = not listed
            return
        position, value = len(prefix.dims) - 1, prefix.dims[-1]
        if listed:
            self._listed[position].add(value)
        else:
            self._missing[position][value].append(_split(prefix.path)[0])

    def add_values(self, prefix: Prefix, values: Iterable[str]) -> None:
        """Record that files in `prefix` with one of `values` were never listed."""
        position = len(prefix.dims)
        for value in values:
            self._listed[position].add(value)  # other directories may have been listed
            self._missing[position][value].append(prefix.path)

    def add_path(self, path: str) -> None:
        """Record that a directory without dimensions of its own was never listed."""
        self._paths.append(path)

    def add_others(self, prefix: Prefix, listed: Iterable[str]) -> None:
        if len(prefix.dims) < len(self._dimensions):
            self._others[len(prefix.dims)][tuple(sorted(listed))].append(prefix.path)
        else:
            self.add_path(prefix.path)

    def describe(self) -> tuple[str, ...]:
        if self._nothing:
            return ("nothing was ever listed",)
        gaps = [
            f"{dimension.field_name} {gap}"
            for position, dimension in enumerate(self._dimensions)
            for gap in self._describe_gaps(position, dimension)
        ]
        gaps += [f"{path!r} was never listed" for path in self._paths]
        if len(gaps) > _MAX_GAPS:
            gaps[_MAX_GAPS:] = [f"and {len(gaps) - _MAX_GAPS:,} more of this kind"]
        return tuple(gaps)

    def _describe_gaps(self, position: int, dimension: Dimension) -> Iterator[str]:
        listed, missing = self._listed[position], self._missing[position]
        nowhere = sorted(missing.keys() - listed)
        if listed and dimension.test.is_range:
            first, last = min(listed), max(listed)
            if nowhere and nowhere[0] < first:
                yield f"below {_show(first)} was never listed"
            if nowhere and nowhere[-1] > last:
                yield f"above {_show(last)} was never listed"
            nowhere = [value for value in nowhere if first < value < last]
        if nowhere:
            yield f"{_join(_as_given(dimension, nowhere))} was never listed"
        somewhere: dict[Values, list[str]] = defaultdict(list)
        for value in sorted(missing.keys() & listed):
            somewhere[tuple(missing[value])].append(value)
        for prefixes, values in somewhere.items():
            yield f"{_join(_as_given(dimension, values))} was never listed{_where(prefixes)}"
        for known, below in self._others[position].items():
            yield f"other than {_join(known)} was never listed{_where(below)}"


def _split(prefix: str) -> tuple[str, str]:
    """Split a prefix into its parent and its last name.

    >>> _split("idle/Firefox/")
    ('idle/', 'Firefox')
    """
    parent, slash, name = prefix[:-1].rpartition("/")
    return parent + slash, name


def _as_given(dimension: Dimension, values: list[str]) -> list[str]:
    """Drop the sanitised form of a value if the list also has the filter's own spelling."""
    if not dimension.test.given:
        return values
    spellings = {sanitise(value) for value in values if sanitise(value) != value}
    return [value for value in values if value not in spellings]


def _join(values: Sequence[str]) -> str:
    return join_values(values, _show)


def _show(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else repr(value)


def _where(prefixes: Sequence[str]) -> str:
    if list(prefixes) == [""]:
        return ""
    more = f" and {len(prefixes) - 1:,} more" if len(prefixes) > 1 else ""
    return f" below {prefixes[0]!r}{more}"
