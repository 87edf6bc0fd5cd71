"""List the objects that a job reads: a walk as in `listing`, with many concurrent requests."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from daskmr.data.dimensions.template import Field, Level, level_of
from daskmr.data.filters import Dimension
from daskmr.data.layout import Schema
from daskmr.data.listing import InputFile, Listing, Selection
from daskmr.normal_forms import forms_of
from daskmr.store.source import Entry, Page
from daskmr.store.store import Store

__all__ = [
    "EntrySelection", "Prefix", "Recorder", "dimensions_by_level", "known_names",
    "list_store", "name_starts",
]  # fmt: skip

T = TypeVar("T")

_AT_ONCE = 16
# If the allowed values are known, request their prefixes directly: at most this many below an
# existing prefix, and in total at one level. A prefix that does not exist also costs a request.
_NAMED_BELOW = 64
_NAMED = 1024
_FEW = 4  # at most this many starts of file names are worth a request each
_EXPLAINED = 4  # directories listed completely to explain why none has a file of the layout
_PROGRESS_SECONDS = 0.25
_LONGEST_NAME = 255  # limit of file systems, in bytes
_SURROGATE = re.compile("[\ud800-\udfff]")


class Recorder(Protocol):
    """Records the entries that a walk lists.

    It is called on the store's own thread; calls for several prefixes may be interleaved.
    """

    def entries_listed(self, prefix: str, entries: Sequence[Entry]) -> None:
        """Add some of the entries directly below `prefix`; an entry may be repeated."""

    def prefix_listed(self, prefix: str, name_prefix: str) -> None:
        """Mark the names below `prefix` that start with `name_prefix` as completely listed.

        All of them were passed to `entries_listed` during this walk.
        """


def list_store(
    store: Store,
    schema: Schema,
    *,
    recorder: Recorder | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Listing:
    """List the objects of a store that a filter allows.

    The walk goes level by level, lists many prefixes concurrently, and requests no prefix that the
    filter excludes. If the allowed values are known and few, their prefixes are requested directly;
    a directory with many files is listed by the starts of their names if that takes fewer requests.
    Excluded names may therefore not be seen, and are then not counted as skipped.

    Keys that could not be files below a directory are skipped: those with an empty part, a NUL or
    a newline, or a name of more than 255 bytes. Empty objects whose key ends in "/" are ignored. An
    object that the store lists twice counts once.

    `recorder` receives all listed entries. `on_progress` is called on the store's thread, at most
    a few times a second, with the numbers of prefixes listed and files found.

    Raises `StoreError` if a prefix cannot be listed, or its listing goes backwards or does not
    end.
    """
    if schema.layout.is_undiscovered:
        names, path = _names_below(store, "") or ([], "")
        schema = schema.discovered(names or None, path)
    walk = _Walk(store, schema, recorder, on_progress)
    store.run(walk.run())
    listing = walk.selected.listing(store.source.url)
    files, repeated = listing.files, walk.repeated
    if any(file.path == after.path for file, after in pairwise(files)):
        files = tuple({file.path: file for file in files}.values())  # keep the last listed entry
        repeated += len(listing.files) - len(files)
    return replace(listing, files=files, repeated=repeated)


def _names_below(store: Store, path: str) -> tuple[list[str], str] | None:
    """Return the names of a `hive` layout in the first directory below `path` that holds a file.

    Also returns the path of that directory. Only the first page of a directory is listed.
    """
    entries = store.run(store.page_async(path, "")).entries
    below = sorted(entry.name for entry in entries if entry.is_dir and entry.name.find("=") > 0)
    for name in below:
        if deeper := _names_below(store, f"{path}{name}/"):
            return [name.partition("=")[0], *deeper[0]], deeper[1]
    # An object whose key ends in "/" stands for an empty directory, and has no name there.
    holds_file = any(entry.name[:1] not in ("", "_", ".") for entry in entries)
    return ([], path) if holds_file and not below else None


@dataclass(frozen=True, slots=True)
class Prefix:
    """A directory to list: its path below the root, with "/" at the end, or ""."""

    path: str
    dims: tuple[str, ...]
    rest: str = ""  # path below the directory of the last level, if that spans several

    def below(self, name: str, dims: tuple[str, ...] = ()) -> Prefix:
        """Return the prefix of a directory in this one, whose name has `dims`."""
        return Prefix(f"{self.path}{name}/", (*self.dims, *dims))


class EntrySelection(Selection):
    """A selection from the entries of a store, which are either just listed or recorded."""

    def directories(
        self, prefix: Prefix, position: int, entries: Iterable[Entry]
    ) -> Iterator[Prefix]:
        """Yield the directories in `prefix`, at a level of directories, that the filter allows."""
        for entry in entries:
            name = entry.name
            if not entry.is_dir:
                self._skip_object(prefix, entry, position)
            elif fault := _name_fault(name):
                self._skip_fault(f"{prefix.path}{name}/", fault)
            elif (dims := self.pick_directory(position, name, prefix.path + name)) is not None:
                yield prefix.below(name, dims)

    def select_files(
        self,
        prefix: Prefix,
        entries: Iterable[Entry],
    ) -> list[Prefix]:
        """Select the files in `prefix`; return its directories if the last level spans several."""
        path, dims, rest = prefix.path, prefix.dims, prefix.rest
        pick_file, append = self.pick_file, self.files.append
        position = len(self.levels) - 1
        deeper: list[Prefix] = []
        for entry in entries:
            name = entry.name
            fault = _name_fault(name)
            if entry.is_dir:
                below = rest + name
                if fault:
                    self._skip_fault(f"{path}{name}/", fault)
                elif self.enters(name, below):
                    deeper.append(Prefix(f"{path}{name}/", dims, f"{below}/"))
                else:
                    self.skip_directory(path + name, name, position)
            elif fault:
                self._skip_object(prefix, entry, position)
            elif (picked := pick_file(dims, rest + name, path + name)) is not None:
                append(InputFile(path + name, entry.size, picked, entry.etag, entry.mtime))
        return deeper

    def _skip_object(self, prefix: Prefix, entry: Entry, position: int) -> None:
        if not entry.name:
            if entry.size:
                self._skip_fault(prefix.path or "/", 'its key ends in "/", but it is not empty')
        elif fault := _name_fault(entry.name):
            self._skip_fault(prefix.path + entry.name, fault)
        else:
            self.skip_file(prefix.path + entry.name, position)

    def _skip_fault(self, path: str, fault: str) -> None:
        self.skip(f"{repr(path)[1:-1]} ({fault})", fault)


def _name_fault(name: str) -> str | None:
    """Return the reason that no file or directory can have this name, or ``None``.

    >>> _name_fault("20131029.20131102.4f2e.log.gz")
    >>> _name_fault("")
    'an empty name between two "/"'
    """
    if name.isascii() and name.isprintable() and 0 < len(name) <= _LONGEST_NAME:
        return None
    if not name:
        return 'an empty name between two "/"'
    if "\0" in name:
        return "a NUL in its name"
    if "\n" in name:
        return "a newline in its name"
    try:
        length = len(os.fsencode(name))
    except UnicodeEncodeError:
        return "its name is not text"
    if length > _LONGEST_NAME:
        return f"a name of {length} bytes, while file systems allow {_LONGEST_NAME}"
    return None


def known_names(level: Level, dimensions: Sequence[Dimension]) -> tuple[str, ...] | None:
    """Return all names at a level that can match and can exist; ``None`` if they are not known.

    - `dimensions`: those of the level, and perhaps others after them.

    >>> from daskmr.data.dimensions.template import Field, level_of
    >>> from daskmr.data.filters import OneOf
    >>> reason = Dimension("reason", OneOf(("idle", "a/b")))
    >>> known_names(level_of("why-", Field("reason")), [reason])
    ('why-idle',)
    """
    choices: list[Sequence[str]] = []
    remaining = iter(dimensions)
    for part in level.parts:
        if isinstance(part, str):
            choices.append((part,))
            continue
        accepted = next(remaining).test.accepted if part.is_dimension else None
        if accepted is None or any(_SURROGATE.search(value) for value in accepted):
            return None  # a surrogate is invalid in a request
        if level.decodes and any(quote(value, safe="") != value for value in accepted):
            return None  # there are several ways to encode it
        if level.decodes and "" in accepted:
            return None
        choices.append(sorted(accepted))
    if math.prod(map(len, choices)) > _NAMED:
        return None

    def is_read_back(name: str) -> bool:  # "{a}-{b}" reads another `a` in the name of "x-y" and "z"
        values = level.match(name)
        return values is not None and all(
            value in (dimension.test.accepted or ())
            for value, dimension in zip(values, dimensions, strict=False)
        )

    names = map("".join, product(*choices))
    return tuple(n for n in names if _name_fault(n) is None and is_read_back(n))


def name_starts(level: Level, dimensions: Sequence[Dimension]) -> tuple[str, ...] | None:
    """Return the possible starts of allowed names, from the first dimension; ``None``: any.

    >>> from daskmr.data.dimensions.template import Field, level_of
    >>> from daskmr.data.filters import Between, OneOf
    >>> level = level_of(Field("buildID"), ".", Field("_"))
    >>> name_starts(level, [Dimension("buildID", OneOf(("2013", "2014")))])
    ('2013.', '2014.')
    >>> name_starts(level, [Dimension("buildID", Between("20131101", "20131130"))])
    ('201311',)
    """
    names = known_names(level, dimensions)
    if names is not None:
        return names
    first = level.parts[bool(level.start) :][:1]
    if first and isinstance(first[0], Field) and first[0].is_dimension and not first[0].spans:
        after = "".join(str(part) for part in level.parts[bool(level.start) + 1 :][:1])
        known = known_names(level_of(*level.parts[: bool(level.start) + 1]), dimensions)
        if known is not None and not level.decodes:
            length = len(level.start)
            return tuple(name + after for name in known if not after or after not in name[length:])
        start = "" if level.decodes else dimensions[0].test.common_start()
        if start:
            return (level.start + start,)
    return (level.start,) if level.start else None


def dimensions_by_level(schema: Schema) -> tuple[tuple[Dimension, ...], ...]:
    """Return the dimensions of each level of the layout."""
    remaining = iter(schema.dimensions)
    return tuple(tuple(islice(remaining, len(level.dimensions))) for level in schema.layout.levels)


class _Walk:
    """A walk of a store. Its coroutines run on the store's loop."""

    def __init__(
        self,
        store: Store,
        schema: Schema,
        recorder: Recorder | None,
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._store = store
        self._schema = schema
        self._recorder = recorder
        self._on_progress = on_progress
        self._reported = time.monotonic()
        self._prefixes_listed = 0
        self._unseen: list[tuple[int, list[Prefix]]] = []  # levels that were not listed completely
        self.repeated = 0
        self._levels = schema.layout.levels
        self._dimensions = dimensions_by_level(schema)
        last = self._levels[-1]
        starts = name_starts(last, self._dimensions[-1]) if store.ordered else None
        few = starts is not None and len(starts) <= _FEW and _are_plain(starts)
        self._starts = starts if few and not last.spans else None
        self.selected = EntrySelection(schema)

    async def run(self) -> None:
        level = [Prefix("", ())]
        discovered = 1  # number of prefixes at the last level that was listed
        for position in range(self._schema.layout.directories):
            names = known_names(self._levels[position], self._dimensions[position])
            # A single name never costs more requests than listing. Several names may, if most of
            # them do not exist.
            most = max(len(level), min(_NAMED, _NAMED_BELOW * discovered))
            if names is not None and _are_plain(names) and len(names) * len(level) <= most:
                self._unseen.append((position, level))
                level = self._named(level, position, names)
            else:
                above, start = level, self._start_of(position)
                level = await self._descend(above, position, start)
                if not level and start:
                    self._unseen.append((position, above))
                discovered = len(level)
        start = self._start_of(-1)
        await self._collect_all(level, start)
        if not self.selected.files:
            if start and self.selected.skipped_count == 0:
                await self._collect_all(level[:_EXPLAINED], "")
            await self._discover_unseen()
        self._report(last=True)

    def _named(self, level: list[Prefix], position: int, names: Sequence[str]) -> list[Prefix]:
        values = [(name, self._levels[position].match(name) or ()) for name in names]
        return [prefix.below(name, dims) for prefix in level for name, dims in values]

    def _start_of(self, position: int) -> str:
        """Return the literal that the names at a level begin with, for requests."""
        level = self._levels[position]
        if level.decodes:  # directories with other names are an error
            return ""
        return level.start if _are_plain((level.start,)) else ""

    async def _discover_unseen(self) -> None:
        """List the levels that were not listed completely, to explain an empty result."""
        there: set[str] | None = None
        depth = 0
        for position, level in self._unseen:
            if there is not None:
                level = [p for p in level if "/".join(p.path.split("/")[:depth]) + "/" in there]
            there = {prefix.path for prefix in await self._descend(level, position)}
            depth = position + 1

    async def _descend(self, level: list[Prefix], position: int, start: str = "") -> list[Prefix]:
        below: list[Prefix] = []

        async def discover(prefix: Prefix) -> None:
            async for page in self._pages(prefix, start):
                below.extend(self.selected.directories(prefix, position, page.entries))
            self._listed(prefix, (start,))

        await _for_each(discover, level)
        return below

    async def _collect_all(self, level: list[Prefix], start: str) -> None:
        """Select the files in some directories, and below them if the last level spans several."""
        while level:
            deeper: list[Prefix] = []

            async def collect(prefix: Prefix, start: str = start, into: Any = deeper) -> None:
                await self._collect(prefix, start, into)

            await _for_each(collect, level)
            level, start = deeper, ""

    async def _collect(self, prefix: Prefix, first: str, deeper: list[Prefix]) -> None:
        """Select the files in a directory: by one flat listing, or by the starts of their names.

        The flat listing continues until it has taken as many requests as there are starts left, so
        that both together take at most twice as many requests as the better one.

        - `first`: the text that all names begin with.
        """
        requests = 0
        async for page in self._pages(prefix, first):
            deeper += self.selected.select_files(prefix, page.entries)
            requests += 1
            if page.token is None or self._starts is None or (last := _last_name(page)) is None:
                continue
            left = [start for start in self._starts if start > last or last.startswith(start)]
            if len(left) <= requests and left != [first]:
                await self._collect_by_starts(prefix, left, last)
                return
        self._listed(prefix, (first,))

    async def _collect_by_starts(
        self,
        prefix: Prefix,
        starts: list[str],
        last: str,
    ) -> None:
        """Select the files after `last` whose names start with one of `starts`."""
        for start in starts:
            after = last if last.startswith(start) else ""
            async for page in self._pages(prefix, start, after):
                # A server that ignores `after` repeats entries that are already selected.
                entries = [entry for entry in page.entries if entry.name > after]
                self.selected.select_files(prefix, entries)
        self._listed(prefix, self._starts or ())

    async def _pages(
        self, prefix: Prefix, name_prefix: str = "", after: str = ""
    ) -> AsyncIterator[Page]:
        pagination = self._store.pagination(prefix.path, name_prefix)
        token = None
        while True:
            given = await self._store.page_async(prefix.path, name_prefix, start=after, token=token)
            page = pagination.advance(given)
            self.repeated += len(given.entries) - len(page.entries)
            if self._recorder is not None:
                self._recorder.entries_listed(prefix.path, page.entries)
            self._report()
            yield page
            token = page.token
            if token is None:
                return

    def _listed(self, prefix: Prefix, starts: tuple[str, ...] = ("",)) -> None:
        self._prefixes_listed += 1
        if self._recorder is not None:
            for start in starts:
                self._recorder.prefix_listed(prefix.path, start)

    def _report(self, last: bool = False) -> None:
        if self._on_progress is None:
            return
        now = time.monotonic()
        if last or now - self._reported >= _PROGRESS_SECONDS:
            self._reported = now
            self._on_progress(self._prefixes_listed, len(self.selected.files))


def _are_plain(names: Sequence[str]) -> bool:
    """Check that each name has only one Unicode normal form; others can only be found by listing."""
    return not any(True for name in names for _ in forms_of(name))


def _last_name(page: Page) -> str | None:
    """Return the last name of a page; ``None`` if the page is not sorted by name."""
    names = [entry.name for entry in page.entries if not entry.is_dir]
    if names != sorted(names):
        return None
    return max((f"{e.name}/" if e.is_dir else e.name for e in page.entries), default=None)


async def _for_each(work: Callable[[T], Awaitable[None]], items: Iterable[T]) -> None:
    """Call `work` for each of `items`, several at once; the first failure cancels the others."""
    import asyncio

    waiting = iter(items)

    async def take_turns() -> None:
        for item in waiting:
            await work(item)

    tasks = [asyncio.ensure_future(take_turns()) for _ in range(_AT_ONCE)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
