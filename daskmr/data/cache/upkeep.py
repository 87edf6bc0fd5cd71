"""Looking after a cache: checking it, removing from it, saying what is in it."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from daskmr.data.cache.cache import Cache, read_digest
from daskmr.data.cache.manifest import Copy, in_chunks
from daskmr.data.layout import Schema
from daskmr.data.paths import Unplaceable

__all__ = ["Group", "Problem", "Removed", "group_by", "prune", "remove", "select", "verify"]

_CLAIMED = 100  # files that are open at once while they are removed


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file of a cache.

    Parameters
    ----------
    path : str
        Relative to the cache.
    what : str
        A few words.
    """

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed from a cache.

    Parameters
    ----------
    files, bytes : int
        What was removed.
    kept : tuple of str
        Paths of what was to be removed and is no longer, or never was, what the cache fetched.
    busy : int
        How many are just being fetched again, and stay.
    """

    files: int = 0
    bytes: int = 0
    kept: tuple[str, ...] = ()
    busy: int = 0

    def plus(self, other: Removed) -> Removed:
        """Both together."""
        return Removed(
            self.files + other.files,
            self.bytes + other.bytes,
            self.kept + other.kept,
            self.busy + other.busy,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Some copies in a cache, summed up.

    Parameters
    ----------
    values : tuple of str
        What they have in common, dimension by dimension.
    files, bytes : int
    oldest, newest : float
        When they were fetched, in seconds since 1970.
    used : float
        When one of them was last used.
    """

    values: tuple[str, ...]
    files: int
    bytes: int
    oldest: float
    newest: float
    used: float


def dims_of(path: str, schema: Schema) -> tuple[str, ...] | None:
    """The dimensions of a file by its path; ``None`` if it is not in the layout.

    >>> from daskmr.data.layout import load_schema
    >>> dims_of("idle/Firefox/beta/24.0/2013.1102.log.gz", load_schema())
    ('idle', 'Firefox', 'beta', '24.0', '2013', '1102')
    """
    *directories, name = path.split("/")
    parts = schema.layout.parse_name(name)
    if parts is None or len(directories) != schema.layout.directories:
        return None
    return (*directories, *parts)


def select(copies: Iterable[Copy], schema: Schema) -> Iterator[Copy]:
    """Those of `copies` that the filter of `schema` allows."""
    for copy in copies:
        dims = dims_of(copy.path, schema)
        if dims is not None and all(
            dimension.allows(value)
            for dimension, value in zip(schema.dimensions, dims, strict=True)
        ):
            yield copy


def group_by(copies: Iterable[Copy], schema: Schema, positions: tuple[int, ...]) -> list[Group]:
    """Sum `copies` up by the dimensions at `positions`, in the order of their values.

    What is not in the layout comes last, under no values.
    """
    groups: defaultdict[tuple[str, ...], list[float]]
    groups = defaultdict(lambda: [0, 0, float("inf"), 0.0, 0.0])
    for copy in copies:
        dims = dims_of(copy.path, schema)
        group = groups[() if dims is None else tuple(dims[position] for position in positions)]
        group[0] += 1
        group[1] += copy.size
        group[2] = min(group[2], copy.fetched)
        group[3] = max(group[3], copy.fetched)
        group[4] = max(group[4], copy.used)
    return [
        Group(values, int(files), int(size), oldest, newest, used)
        for values, (files, size, oldest, newest, used) in sorted(
            groups.items(), key=lambda item: (not item[0], item[0])
        )
    ]


def verify(
    cache: Cache, *, deep: bool = True, on_progress: Callable[[], object] | None = None
) -> Iterator[Problem]:
    """Check every file of a cache against the manifest.

    What a run is fetching meanwhile is left out. A file whose bytes are damaged is no longer
    trusted from then on, so that the next run fetches it again; the other problems it finds itself.

    Parameters
    ----------
    cache : Cache
    deep : bool
        Whether to read every file, and not only to look at its size and time.
    on_progress : callable, optional
        Called after each file.

    Yields
    ------
    Problem
    """
    for copy in cache.manifest.copies():
        problem = _problem_of(cache, copy, deep)
        if problem:
            problem = _again(cache, copy.path, deep)
        if problem:
            yield Problem(copy.path, problem)
        if on_progress is not None:
            on_progress()
    yield from _unknown(cache)


def _problem_of(cache: Cache, copy: Copy, deep: bool) -> str:
    found = cache.staging.found(copy.path)
    if found is None:
        return "" if copy.pending else "is not there any more"
    if copy.mtime_ns == -1:
        return "is damaged, as was found before; it will be fetched again"
    if not stat.S_ISREG(found.st_mode):
        return "is no longer a plain file"
    if found.st_size != copy.size:
        return f"has {found.st_size:,} bytes instead of {copy.size:,}"
    if not copy.lies_as(found):
        return "was changed since it was fetched"
    if not deep:
        return ""
    read = read_digest(os.path.join(cache.root, copy.path))
    if read is None:
        return "cannot be read"
    return "" if read.digest == copy.digest else "is damaged: its bytes are not what was fetched"


def _again(cache: Cache, path: str, deep: bool) -> str:
    """Look once more while nobody else is at work on `path`."""
    staged = cache.staging.claim(path)
    if staged is None:
        return ""
    try:
        copy = cache.manifest.get([path]).get(path)
        problem = "" if copy is None else _problem_of(cache, copy, deep)
        if problem and copy is not None and copy.lies_as(cache.staging.found(path)):
            cache.manifest.distrust(path)  # a run would not notice by itself
        return problem
    finally:
        staged.release()


def _unknown(cache: Cache) -> Iterator[Problem]:
    """What the manifest does not know."""
    unreadable: list[OSError] = []
    for paths in in_chunks(_files_below(cache.root, unreadable)):
        known = cache.manifest.get(paths)
        for path in paths:
            # a second look: it may have come since
            if path not in known and not cache.manifest.get([path]):
                yield Problem(path, "is not in the manifest: the cache has not fetched it")
    for error in unreadable:
        if error.filename != cache.root or not isinstance(error, FileNotFoundError):
            path = os.path.relpath(error.filename, cache.root)
            yield Problem(path, f"cannot be read: {error.strerror}")


def _files_below(root: str, unreadable: list[OSError]) -> Iterator[str]:
    """The paths below `root` of all that is not a directory; no link is followed."""
    above = len(root) + 1
    for folder, directories, names in os.walk(root, onerror=unreadable.append):
        directories.sort()
        links = [name for name in directories if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            yield os.path.join(folder, name)[above:]


def prune(
    cache: Cache,
    *,
    fetched_before: float | None = None,
    schema: Schema | None = None,
    down_to: int | None = None,
    dry_run: bool = False,
) -> Removed:
    """Remove from a cache what meets all conditions that are given.

    Parameters
    ----------
    cache : Cache
    fetched_before : float, optional
        Only what was fetched before this time, in seconds since 1970.
    schema : Schema, optional
        Only what its filter allows.
    down_to : int, optional
        Only until the cache holds no more bytes than this: what was not used for longest, first.
    dry_run : bool
        Remove nothing, and say what would be removed.
    """
    copies: Iterable[Copy] = (copy for copy in cache.manifest.copies() if not copy.pending)
    if schema is not None:
        copies = select(copies, schema)
    if fetched_before is not None:
        copies = (copy for copy in copies if copy.fetched < fetched_before)
    if down_to:  # and for 0 all of them, empty ones too
        copies = _least_recent(copies, cache.manifest.count()[1] - down_to)
    return remove(cache, [copy.path for copy in copies], dry_run=dry_run)


def _least_recent(copies: Iterable[Copy], surplus: int) -> Iterator[Copy]:
    for copy in sorted(copies, key=lambda copy: (copy.used, copy.path)):
        if surplus <= 0:
            return
        if copy.own:
            surplus -= copy.size
            yield copy


def remove(cache: Cache, paths: Iterable[str], *, dry_run: bool = False) -> Removed:
    """Remove files that the cache fetched, and that are still what it fetched.

    Parameters
    ----------
    cache : Cache
    paths : iterable of str
        Relative to the cache.
    dry_run : bool
        Only say what would be removed.
    """
    total = Removed()
    for chunk in in_chunks(paths, _CLAIMED):
        total = total.plus(_remove(cache, chunk, dry_run))
    return total


def _remove(cache: Cache, paths: list[str], dry_run: bool) -> Removed:
    kept: list[str] = []
    busy = 0
    with ExitStack() as claims:
        chosen: list[Copy] = []
        gone: list[str] = []
        for path in paths:
            try:
                staged = cache.staging.claim(path)
            except Unplaceable:
                continue  # nothing of this name was ever fetched
            if staged is None:
                busy += 1
                continue
            claims.callback(staged.release)
            copy = cache.manifest.get([path]).get(path)  # now that nobody changes it
            if copy is not None and _is_as_fetched(cache, copy):
                chosen.append(copy)
            elif cache.staging.found(path) is not None:
                kept.append(path)
            else:
                gone.append(path)
        if not dry_run:
            _strike(cache, [copy.path for copy in chosen])
            cache.manifest.forget(gone)
    return Removed(len(chosen), sum(copy.size for copy in chosen), tuple(kept), busy)


def _is_as_fetched(cache: Cache, copy: Copy) -> bool:
    if not copy.own or not copy.lies_as(cache.staging.found(copy.path)):
        return False
    try:
        cache.staging.check(copy.path)
    except Unplaceable:  # a link leads there
        return False
    return True


def _strike(cache: Cache, paths: list[str]) -> None:
    # Pending means "maybe not there": what an end in the middle leaves is right, too.
    cache.manifest.unsettle(paths)
    for path in paths:
        cache.staging.remove(path)
    cache.manifest.forget(paths)
    for path in paths:
        cache.staging.prune(path)
