"""List the objects that a job reads: a walk as in `listing`, with many concurrent requests."""

from __future__ import annotations

import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, TypeVar

from daskmr.data.filters import Dimension
from daskmr.data.layout import Schema
from daskmr.data.listing import InputFile, Listing, Selection
from daskmr.data.sources.own_files import why_own
from daskmr.normal_forms import forms_of
from daskmr.store.source import Entry, Page
from daskmr.store.store import Store

__all__ = ["EntrySelection", "Prefix", "Recorder", "known_names", "list_store", "name_starts"]

T = TypeVar("T")

_AT_ONCE = 16
# If the allowed values are known, request their prefixes directly: at most this many below an
# existing prefix, and in total at one level. A prefix that does not exist also costs a request.
_NAMED_BELOW = 64
_NAMED = 1024
_FEW = 4  # at most this many starts of file names are worth a request each
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
    walk = _Walk(store, schema, recorder, on_progress)
    store.run(walk.run())
    listing = walk.selected.listing(store.source.url)
    files, repeated = listing.files, walk.repeated
    if any(file.path == after.path for file, after in pairwise(files)):
        files = tuple({file.path: file for file in files}.values())  # keep the last listed entry
        repeated += len(listing.files) - len(files)
    return replace(listing, files=files, repeated=repeated)


@dataclass(frozen=True, slots=True)
class Prefix:
    """A directory to list: its path below the root, with "/" at the end, or ""."""

    path: str
    dims: tuple[str, ...]

    def below(self, name: str) -> Prefix:
        return Prefix(f"{self.path}{name}/", (*self.dims, name))


class EntrySelection(Selection):
    """A selection from the entries of a store, which are either just listed or recorded."""

    def directories(
        self, prefix: Prefix, position: int, entries: Iterable[Entry]
    ) -> Iterator[Prefix]:
        for entry in entries:
            name = entry.name
            if not entry.is_dir:
                self._skip_object(prefix, entry)
            elif (fault := _name_fault(name)) or name.startswith("."):
                self._skip_name(f"{prefix.path}{name}/", fault)
            elif why := why_own(name):
                self.skip(f"{prefix.path}{name}/ ({why})")
            elif (value := self.pick(position, name)) is not None:
                yield prefix.below(value)

    def select_files(
        self,
        prefix: Prefix,
        entries: Iterable[Entry],
        known: dict[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        """Select the files in `prefix`; `known` interns the tuples of dimensions."""
        path, dims = prefix.path, prefix.dims
        pick_file, append = self.pick_file, self.files.append
        for entry in entries:
            name = entry.name
            if entry.is_dir:
                self._skip_name(f"{path}{name}/", _name_fault(name))
            elif _name_fault(name):
                self._skip_object(prefix, entry)
            elif (picked := pick_file(dims, name, path + name)) is not None:
                picked = known.setdefault(picked, picked)
                append(InputFile(path + name, entry.size, picked, entry.etag, entry.mtime))

    def _skip_object(self, prefix: Prefix, entry: Entry) -> None:
        if entry.name:
            self._skip_name(prefix.path + entry.name, _name_fault(entry.name))
        elif entry.size:
            self._skip_name(prefix.path or "/", 'its key ends in "/", but it is not empty')

    def _skip_name(self, path: str, fault: str | None) -> None:
        self.skip(f"{repr(path)[1:-1]} ({fault})" if fault else path)


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


def known_names(dimension: Dimension) -> tuple[str, ...] | None:
    """Return all names that can match and can exist; ``None`` if they are not known.

    >>> from daskmr.data.filters import OneOf
    >>> known_names(Dimension("reason", OneOf(("idle", "a/b"))))
    ('idle',)
    """
    known = dimension.known_values
    if known is None or any(_SURROGATE.search(name) for name in known):  # invalid in a request
        return None
    return tuple(name for name in known if _name_fault(name) is None)


def name_starts(dimension: Dimension) -> tuple[str, ...] | None:
    """Return the possible starts of allowed file names, from their first dimension; ``None``: any.

    >>> from daskmr.data.filters import Between, OneOf
    >>> name_starts(Dimension("buildID", OneOf(("2013", "2014"))))
    ('2013.', '2014.')
    >>> name_starts(Dimension("buildID", Between("20131101", "20131130")))
    ('201311',)
    """
    known = known_names(dimension)
    if known is not None:
        return tuple(f"{name}." for name in known if "." not in name)
    start = dimension.test.common_start()
    return (start,) if start else None


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
        self._named: list[tuple[int, list[Prefix]]] = []
        self.repeated = 0
        starts = name_starts(schema.dimensions[-2]) if store.ordered else None
        few = starts is not None and len(starts) <= _FEW and _are_plain(starts)
        self._starts = starts if few else None
        self.selected = EntrySelection(schema)

    async def run(self) -> None:
        level = [Prefix("", ())]
        discovered = 1  # number of prefixes at the last level that was listed
        for position in range(self._schema.layout.directories):
            names = known_names(self._schema.dimensions[position])
            # A single name never costs more requests than listing. Several names may, if most of
            # them do not exist.
            most = max(len(level), min(_NAMED, _NAMED_BELOW * discovered))
            if names is not None and _are_plain(names) and len(names) * len(level) <= most:
                self._named.append((position, level))
                level = [prefix.below(name) for prefix in level for name in names]
            else:
                level = await self._descend(level, position)
                discovered = len(level)
        await _for_each(self._collect, level)
        if not self.selected.files:
            await self._discover_named()
        self._report(last=True)

    async def _discover_named(self) -> None:
        """List the levels that were not listed, to explain an empty result."""
        there: set[tuple[str, ...]] | None = None
        depth = 0
        for position, level in self._named:
            if there is not None:
                level = [prefix for prefix in level if prefix.dims[:depth] in there]
            there = {prefix.dims for prefix in await self._descend(level, position)}
            depth = position + 1

    async def _descend(self, level: list[Prefix], position: int) -> list[Prefix]:
        below: list[Prefix] = []

        async def discover(prefix: Prefix) -> None:
            async for page in self._pages(prefix):
                below.extend(self.selected.directories(prefix, position, page.entries))
            self._listed(prefix)

        await _for_each(discover, level)
        return below

    async def _collect(self, prefix: Prefix) -> None:
        """Select the files in a directory: by one flat listing, or by the starts of their names.

        The flat listing continues until it has taken as many requests as there are starts left, so
        that both together take at most twice as many requests as the better one.
        """
        known: dict[tuple[str, ...], tuple[str, ...]] = {}
        requests = 0
        async for page in self._pages(prefix):
            self.selected.select_files(prefix, page.entries, known)
            requests += 1
            if page.token is None or self._starts is None or (last := _last_name(page)) is None:
                continue
            left = [start for start in self._starts if start > last or last.startswith(start)]
            if len(left) <= requests:
                await self._collect_by_starts(prefix, left, last, known)
                return
        self._listed(prefix)

    async def _collect_by_starts(
        self,
        prefix: Prefix,
        starts: list[str],
        last: str,
        known: dict[tuple[str, ...], tuple[str, ...]],
    ) -> None:
        """Select the files after `last` whose names start with one of `starts`."""
        for start in starts:
            after = last if last.startswith(start) else ""
            async for page in self._pages(prefix, start, after):
                # A server that ignores `after` repeats entries that are already selected.
                entries = [entry for entry in page.entries if entry.name > after]
                self.selected.select_files(prefix, entries, known)
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
