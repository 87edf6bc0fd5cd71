"""Verified local copies of remote files.

A cache is a plain data dir, ``<work-dir>/cache``, with a manifest beside it. A file in it counts
only while it is exactly what the manifest says was fetched. It is fetched into a folder beside the
cache, verified, and renamed into its place, by one process at a time.

A process that dies at any moment leaves either an unfinished file in that folder, which nothing
reads; or a pending row of the manifest, whose file is in its place and right, or missing.
`Cache.sweep` removes both.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from daskmr.data.cache.listing_record import ListingRecord, ListingRecorder
from daskmr.data.cache.manifest import Copy, Manifest, in_chunks
from daskmr.data.cache.staging import Staged, Staging
from daskmr.data.listing import InputFile
from daskmr.data.paths import Unplaceable
from daskmr.errors import InputError, JobError
from daskmr.files import read_digest
from daskmr.store.store import Source, Store, StoreError
from daskmr.text import some

__all__ = ["Cache", "Local", "State", "caches"]

T = TypeVar("T")

_NAME = re.compile(r"/cache(@[^/]+)?\.sqlite$")
_MD5 = re.compile(r"[0-9a-f]{32}")
_USED_AGAIN = 3600.0  # seconds after which another use is recorded
_LONGEST_POLL = 0.5  # seconds, while another process fetches a file
_STALLED = 900.0  # seconds without a byte, which is beyond all retries, before that is an error


@dataclass(frozen=True, slots=True)
class Local:
    """A file that is in the cache now."""

    path: str  # absolute
    fetched: bool = False  # whether it came from the store just now
    note: str = ""  # why an earlier file in its place was of no use, or ""


@dataclass(frozen=True, slots=True)
class State:
    """Which of some files are in the cache."""

    # Those that are, by their listed sizes
    files: int
    bytes: int
    absent: tuple[InputFile, ...]  # those that are not, in the given order
    absent_bytes: int
    replaced_bytes: int  # size of older versions of these, which are still there

    def explain_absent(self) -> str:
        """Describe what is missing, for a run that cannot fetch it.

        >>> State(1, 5, (InputFile("idle/a.gz", 7, ()),), 7, 0).explain_absent()
        '1 of 2 files (7 bytes) are not in the cache, or changed since they were fetched: idle/a.gz'
        """
        return (
            f"{len(self.absent):,} of {self.files + len(self.absent):,} files "
            f"({self.absent_bytes:,} bytes) are not in the cache, or changed since they were "
            f"fetched: {some([file.path for file in self.absent])}"
        )


class Cache:
    """The local copies of one source. It may be pickled, and used by any number of processes.

    - `root`: the data dir that the copies are in; `of` chooses it for a source.
    - `manifest`: the table of these; ``<root>.sqlite``.
    - `staging`: the folder that files are fetched into.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.manifest = Manifest(self.root + ".sqlite")
        self.staging = Staging(self.root)
        if self.staging.case_blind:
            self.manifest.index_folded()

    @classmethod
    def of(cls, work_dir: str, source: Source) -> Cache:
        """Return the cache of `source` in a work dir: ``cache``, or ``cache@...`` if it is taken.

        Raises `InputError` when the work dir cannot be used.
        """
        first = os.path.join(work_dir, "cache")
        named = f"{first}@{_slug(source)}"
        try:
            os.makedirs(work_dir, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"The work dir {work_dir!r} cannot be used ({error.strerror}). "
                "Name another one with --work-dir."
            ) from None
        if os.path.exists(first + ".sqlite") or not os.path.exists(named + ".sqlite"):
            cache = cls(first)
            if cache.manifest.claim(source.identity, source.url):
                return cache
            cache.close()
        cache = cls(named)
        cache.manifest.claim(source.identity, source.url)
        return cache

    @classmethod
    def at(cls, data_dir: str) -> Cache | None:
        """Return the cache whose data dir this is; ``None`` for any other folder."""
        root = os.path.abspath(data_dir)
        path = root + ".sqlite"
        try:
            return cls(root) if Manifest.is_at(path) else None
        except InputError:
            if _NAME.search(path):
                raise  # otherwise it would pass for local data
            return None

    def __reduce__(self) -> Any:
        return Cache, (self.root,)

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the manifest; the next use opens it again."""
        self.manifest.close()

    @property
    def url(self) -> str:
        """The address of the source."""
        return self.manifest.meta("url")

    def recorded(self) -> ListingRecord:
        """Return the record of what was listed so far."""
        return ListingRecord(self.manifest)

    def recording(self) -> ListingRecorder:
        """Return a recorder for one walk."""
        return ListingRecorder(self.manifest)

    def sweep(self) -> int:
        """Remove what dead processes have left, and return how many files it was."""
        for copy in self.manifest.pending():
            staged = self.staging.claim(copy.path)
            if staged is not None:
                try:
                    if copy.is_unchanged(self.staging.found(copy.path)):
                        self.manifest.settle(copy.path)
                    else:
                        self.manifest.forget([copy.path])
                finally:
                    staged.release()
        return self.staging.sweep()

    def state(self, files: Iterable[InputFile], *, use: bool = True) -> State:
        """Look up which of `files` are here, as they were listed, without asking the store.

        `use` records that a run uses those that are here.
        """
        now = time.time()
        count = size = absent_bytes = replaced_bytes = 0
        absent: list[InputFile] = []
        for many in in_chunks(files, 50_000):
            used: list[str] = []
            copies = self.manifest.get([file.path for file in many])
            for file in many:
                copy = copies.get(file.path)
                if copy is not None and not copy.is_unchanged(self.staging.found(file.path)):
                    copy = None
                if copy is not None and copy.is_of(file):
                    count += 1
                    size += file.size
                    if now - copy.used > _USED_AGAIN:
                        used.append(file.path)
                else:
                    absent.append(file)
                    absent_bytes += file.size
                    replaced_bytes += copy.size if copy is not None else 0
            if use and used:
                self.manifest.touch(used, now)
        return State(count, size, tuple(absent), absent_bytes, replaced_bytes)

    def check_space(self, state: State, most: int | None = None) -> None:
        """Raise InputError if there is no room for what `state` lacks.

        `most` is the limit of the cache in bytes (``--cache-max``).
        """
        needed = (
            f"The files to fetch take {state.absent_bytes:,} bytes ({len(state.absent):,} files)"
        )
        advice = (
            "Narrow the filter, make room with `daskmr cache prune`, or leave nothing on the disk "
            "with --no-cache."
        )
        folder = os.path.dirname(self.staging.folder)
        free = shutil.disk_usage(folder).free
        if state.absent_bytes > free:
            raise InputError(
                f"{needed}, and only {free:,} bytes are free on the disk of {folder}. Use another "
                f"--work-dir. {advice}"
            )
        held = self.manifest.count()[1] - state.replaced_bytes
        if most is not None and state.absent and held + state.absent_bytes > most:
            raise InputError(
                f"{needed}, and the cache {self.root} holds {held:,} bytes that stay, together more "
                f"than the {most:,} bytes that --cache-max allows. {advice}"
            )

    def present(self, file: InputFile) -> str | None:
        """Return the path of `file` if it is here, as it was fetched, without asking the store."""
        copy = self.manifest.find(file.path)
        if copy and copy.is_of(file) and copy.is_unchanged(self.staging.found(file.path)):
            return os.path.join(self.root, file.path)
        return None

    def distrust(self, file: InputFile) -> bool:
        """Check whether the bytes of the copy are damaged; then it is not used any more."""
        copy = self.manifest.find(file.path)
        read = read_digest(os.path.join(self.root, file.path))
        if copy is None or read is None or read.digest == copy.digest:
            return False
        self.manifest.distrust(file.path)
        return True

    def fetch(self, store: Store, file: InputFile) -> Local:
        """Fetch `file` as `fetch_async` does, from sync code."""
        return store.run(self.fetch_async(store, file))

    async def fetch_async(self, store: Store, file: InputFile) -> Local:
        """Fetch `file` unless it is here, and wait where another process fetches it.

        Raises `Unplaceable` when the cache has no place for it; it can be read from the store all
        the same.
        Raises `StoreError` when it cannot be fetched.
        Raises `JobError` when the disk or the manifest refuses.
        """
        path = os.path.join(self.root, file.path)
        staged = await _claim(self, file)
        if staged is None:
            return Local(path)
        try:
            note = await _shielded(_reason_to_fetch, self, file)
            if note is None:
                return Local(path)
            digest = await store.fetch_async(file.path, file.etag, file.size, staged)
            await _shielded(_put_in_place, self, file, staged, digest)
            return Local(path, True, note)
        finally:
            staged.release()


async def _claim(cache: Cache, file: InputFile) -> Staged | None:
    """Claim the place of a file; ``None`` when another process has fetched it meanwhile."""
    poll, progress, since = 0.01, None, time.monotonic()
    while (staged := cache.staging.claim(file.path)) is None:
        await asyncio.sleep(poll)
        if await _shielded(cache.present, file) is not None:
            return None
        poll = min(1.5 * poll, _LONGEST_POLL)
        before, progress = progress, cache.staging.progress(file.path)
        if progress != before:
            since = time.monotonic()
        elif time.monotonic() - since > _STALLED:
            raise JobError(
                f"Another process fetches {file.path} into the cache {cache.root}, and has received "
                f"nothing for {_STALLED / 60:.0f} minutes. Continue or end that process, which has a "
                f"file in {cache.staging.folder} open."
            )
    return staged


def _reason_to_fetch(cache: Cache, file: InputFile) -> str | None:
    """Return why a file must be fetched, or "" where there was none; ``None`` if it is here.

    It may have been fetched just now, or touched since, or be older than the manifest: then its
    digest decides.
    """
    path = file.path
    copy, found = cache.manifest.find(path), cache.staging.found(path)
    known = copy if copy is not None and copy.is_of(file) else None
    if known is not None and known.is_unchanged(found):
        return None
    _check_place(cache, path)
    if found is None:
        return ""
    digest = known.digest if known is not None else file.etag
    is_digest = _MD5.fullmatch(digest or "")  # unlike the ETag of an upload in parts
    if is_digest and stat.S_ISREG(found.st_mode) and found.st_size == file.size:
        read = read_digest(os.path.join(cache.root, path))
        if read is not None and read.digest == digest:
            own = known is not None and known.own
            cache.manifest.put(_copy(file, read.digest, read.mtime_ns, own))
            return None
    if known is not None:
        return f"{path} in the cache was no longer what was fetched: fetched again"
    if copy is not None:
        return f"{path} has changed in the store: fetched again"
    return f"{path} was in the cache, but not from the store: replaced by the store's"


def _check_place(cache: Cache, path: str) -> None:
    """Raise Unplaceable before a byte is fetched that has no place."""
    cache.staging.check(path)
    for twin in cache.manifest.twins(path) if cache.staging.case_blind else ():
        if twin.is_unchanged(cache.staging.found(twin.path)):
            raise Unplaceable(
                f"{path!r} has no place in the cache {cache.root}: to its file system that is the "
                f"same name as {twin.path!r}."
            )


def _put_in_place(cache: Cache, file: InputFile, staged: Staged, digest: str) -> None:
    path, manifest = file.path, cache.manifest
    found = staged.seal()
    if found.st_size != file.size:
        raise StoreError(
            f"{path} came with {found.st_size:,} bytes instead of {file.size:,}. Run the job again; "
            "complete files are kept."
        )
    # In this order no row ever describes bytes that it was not written for, whenever the process
    # ends: remove the old file, write the row, rename the file. While a row is pending, its file may
    # be missing.
    if cache.staging.found(path) is not None:
        manifest.unsettle([path])
        cache.staging.remove(path)
    manifest.put(replace(_copy(file, digest, found.st_mtime_ns, True), pending=True))
    try:
        staged.place()
    except JobError:
        manifest.forget([path])
        raise
    manifest.settle(path)


def caches(work_dir: str) -> list[Cache]:
    """Return all caches in a work dir, by name."""
    paths = sorted(glob.glob(os.path.join(glob.escape(work_dir), "cache*.sqlite")))
    found = [Cache.at(path.removesuffix(".sqlite")) for path in paths if _NAME.search(path)]
    return [cache for cache in found if cache is not None]


def _copy(file: InputFile, digest: str, mtime_ns: int, own: bool) -> Copy:
    now = time.time()
    return Copy(file.path, file.size, file.etag, file.mtime, digest, mtime_ns, now, now, own)


def _slug(source: Source) -> str:
    """Return a short folder name that is unique to a source."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", source.url)[:60].strip("-.")
    unique = hashlib.blake2b(source.identity.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{readable}-{unique}"


async def _shielded(work: Callable[..., T], *arguments: Any) -> T:
    """Run `work` in a thread, and wait for its end even when cancelled: it cannot be stopped."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it
        raise
