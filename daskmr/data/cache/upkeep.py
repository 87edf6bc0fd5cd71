"""Maintain a cache: verify it, remove files from it, summarize its contents."""

from __future__ import annotations

import math
import operator
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import NamedTuple

from daskmr.data.cache.cache import Cache
from daskmr.data.cache.manifest import Copy, in_chunks
from daskmr.data.layout import Schema
from daskmr.data.paths import Unplaceable
from daskmr.files import read_digest

__all__ = ["Group", "Problem", "Removed", "group_by", "prune", "remove", "select", "verify"]

_CLAIMED = 100  # files that are claimed, and so open, at the same time


class Problem(NamedTuple):
    """A problem with the file at `path`, relative to the cache."""

    path: str
    description: str  # a predicate, such as "cannot be read"


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of a removal."""

    files: int = 0  # number of removed files
    bytes: int = 0  # their size
    kept: tuple[str, ...] = ()  # paths of files that were modified, or not fetched by the cache
    busy: int = 0  # number of files kept because they are being fetched again

    def __add__(self, other: Removed) -> Removed:
        return Removed(*map(operator.add, astuple(self), astuple(other)))


@dataclass(slots=True)
class Group:
    """The totals of copies that have the same `values` of some dimensions.

    `oldest` and `newest` are the times of the first and last fetch, `used` is the time of the last
    use, all in Unix seconds.
    """

    values: tuple[str, ...]
    files: int = 0
    bytes: int = 0
    oldest: float = math.inf
    newest: float = 0.0
    used: float = 0.0


def select(copies: Iterable[Copy], schema: Schema) -> Iterator[Copy]:
    """Yield the copies that the filter of `schema` allows."""
    for copy in copies:
        dims = schema.layout.dims_of(copy.path)
        if dims is not None and all(
            dimension.allows(value)
            for dimension, value in zip(schema.dimensions, dims, strict=True)
        ):
            yield copy


def group_by(copies: Iterable[Copy], schema: Schema, positions: tuple[int, ...]) -> list[Group]:
    """Summarize `copies` by the dimensions at `positions`, sorted by their values.

    Copies that are not in the layout come last, in a group without values.
    """
    groups: dict[tuple[str, ...], Group] = {}
    for copy in copies:
        dims = schema.layout.dims_of(copy.path)
        values = () if dims is None else tuple(dims[position] for position in positions)
        group = groups.setdefault(values, Group(values))
        group.files += 1
        group.bytes += copy.size
        group.oldest = min(group.oldest, copy.fetched)
        group.newest = max(group.newest, copy.fetched)
        group.used = max(group.used, copy.used)
    return sorted(groups.values(), key=lambda group: (not group.values, group.values))


def verify(
    cache: Cache, *, deep: bool = True, on_progress: Callable[[], object] | None = None
) -> Iterator[Problem]:
    """Check every file of a cache against the manifest.

    Files that a run is fetching are skipped. A file whose bytes are damaged is marked, so that the
    next run fetches it again; runs detect all other problems themselves.

    - `deep`: read every file, instead of only comparing its size and time.
    - `on_progress`: called after each file.
    """
    for copy in cache.manifest.copies():
        if _problem_of(cache, copy, deep) and (problem := _check_again(cache, copy.path, deep)):
            yield Problem(copy.path, problem)
        if on_progress is not None:
            on_progress()
    yield from _unknown(cache)


def _problem_of(cache: Cache, copy: Copy, deep: bool) -> str:
    found = cache.staging.found(copy.path)
    if found is None:
        return "" if copy.pending else "no longer exists"
    if copy.mtime_ns == -1:
        return "was already found to be damaged; it will be fetched again"
    if not stat.S_ISREG(found.st_mode):
        return "is no longer a plain file"
    if found.st_size != copy.size:
        return f"has {found.st_size:,} bytes instead of {copy.size:,}"
    if not copy.is_unchanged(found):
        return "was modified after it was fetched"
    if not deep:
        return ""
    read = read_digest(os.path.join(cache.root, copy.path))
    if read is None:
        return "cannot be read"
    return "" if read.digest == copy.digest else "is damaged: its bytes have changed"


def _check_again(cache: Cache, path: str, deep: bool) -> str:
    """Check `path` again, under a claim, so that no other process changes it meanwhile."""
    staged = cache.staging.claim(path)
    if staged is None:
        return ""
    try:
        copy = cache.manifest.find(path)
        problem = "" if copy is None else _problem_of(cache, copy, deep)
        if problem and copy is not None and copy.is_unchanged(cache.staging.found(path)):
            cache.manifest.distrust(path)  # a run would not detect the damage
        return problem
    finally:
        staged.release()


def _unknown(cache: Cache) -> Iterator[Problem]:
    """Yield the files that are not in the manifest, and the folders that are unreadable."""
    unreadable: list[OSError] = []
    for paths in in_chunks(_files_below(cache.root, unreadable)):
        known = cache.manifest.get(paths)
        for path in paths:
            if path not in known and not cache.manifest.find(path):  # it may have been added since
                yield Problem(path, "is not in the manifest: the cache has not fetched it")
    for error in unreadable:
        if error.filename != cache.root or not isinstance(error, FileNotFoundError):
            path = os.path.relpath(error.filename, cache.root)
            yield Problem(path, f"cannot be read: {error.strerror}")


def _files_below(root: str, unreadable: list[OSError]) -> Iterator[str]:
    """Yield the relative paths below `root` except directories, without following links."""
    for folder, directories, names in os.walk(root, onerror=unreadable.append):
        directories.sort()
        links = [name for name in directories if os.path.islink(os.path.join(folder, name))]
        for name in sorted([*names, *links]):
            yield os.path.join(folder, name)[len(root) + 1 :]


def prune(
    cache: Cache,
    *,
    fetched_before: float | None = None,
    schema: Schema | None = None,
    down_to: int | None = None,
    dry_run: bool = False,
) -> Removed:
    """Remove the files of a cache that meet all given conditions.

    - `fetched_before`: only files fetched before this time, in Unix seconds.
    - `schema`: only files that its filter allows.
    - `down_to`: only the least recently used files, until the cache has at most this many bytes.
    - `dry_run`: remove nothing, and return what would be removed.
    """
    copies: Iterable[Copy] = (copy for copy in cache.manifest.copies() if not copy.pending)
    if schema is not None:
        copies = select(copies, schema)
    if fetched_before is not None:
        copies = (copy for copy in copies if copy.fetched < fetched_before)
    if down_to:  # 0 removes all files, including empty ones
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
    """Remove the files at `paths` in the cache that were not modified after they were fetched."""
    removals = (_remove(cache, chunk, dry_run) for chunk in in_chunks(paths, _CLAIMED))
    return sum(removals, Removed())


def _remove(cache: Cache, paths: list[str], dry_run: bool) -> Removed:
    kept: list[str] = []
    busy = 0
    with ExitStack() as claims:
        chosen: dict[str, int] = {}  # sizes
        gone: list[str] = []
        for path in paths:
            try:
                staged = cache.staging.claim(path)
            except Unplaceable:
                continue  # no file with such a name was ever fetched
            if staged is None:
                busy += 1
                continue
            claims.callback(staged.release)
            copy = cache.manifest.find(path)  # under the claim, so that it cannot change
            if copy is not None and _is_as_fetched(cache, copy):
                chosen[path] = copy.size
            elif cache.staging.found(path) is not None:
                kept.append(path)
            else:
                gone.append(path)
        if not dry_run:
            # A pending file may be missing, so the manifest is valid wherever this is interrupted.
            cache.manifest.unsettle(chosen)
            for path in chosen:
                cache.staging.remove(path)
            cache.manifest.forget([*chosen, *gone])
            for path in chosen:
                cache.staging.prune(path)
    return Removed(len(chosen), sum(chosen.values()), tuple(kept), busy)


def _is_as_fetched(cache: Cache, copy: Copy) -> bool:
    try:
        cache.staging.check(copy.path)
    except Unplaceable:  # a parent is a link
        return False
    return copy.own and copy.is_unchanged(cache.staging.found(copy.path))
