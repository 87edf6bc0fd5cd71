"""Verified local copies of remote files.

A cache is a plain data dir, ``<work-dir>/cache``, with a manifest next to it. A file in it is used
only while it is unchanged according to the manifest. It is fetched into a folder next to the cache,
verified, and renamed to its final path, by one process at a time.

A process that dies leaves behind at most an incomplete file in that folder, which is never read, or
a pending row in the manifest, whose file is either missing or in place and valid. `Cache.sweep`
removes both.
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
_USED_AGAIN = 3600.0  # seconds until another use is recorded
_LONGEST_POLL = 0.5  # seconds between checks while another process fetches a file
_STALLED = 900.0  # seconds without a byte, longer than all retries take, until this is an error


@dataclass(frozen=True, slots=True)
class Local:
    """A file that is in the cache."""

    path: str  # absolute
    fetched: bool = False  # whether it was just fetched from the store
    note: str = ""  # the reason that an earlier file at its path was replaced, or ""


@dataclass(frozen=True, slots=True)
class State:
    """The result of looking up files in the cache."""

    files: int  # number of files in the cache
    bytes: int  # their size
    absent: tuple[InputFile, ...]  # files that are not in the cache, in the given order
    absent_bytes: int  # their size
    replaced_bytes: int  # size of older versions of absent files, which will be replaced

    def explain_absent(self) -> str:
        """Describe the absent files, for a run that cannot fetch them.

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

    - `root`: the data dir of the copies; `of` selects it for a source.
    - `manifest`: the table of the copies; ``<root>.sqlite``.
    - `staging`: the folder into which files are fetched.
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

        Raises `InputError` if the work dir cannot be used.
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
        """Return the cache at `data_dir`; ``None`` if the folder is not a cache."""
        root = os.path.abspath(data_dir)
        path = root + ".sqlite"
        try:
            return cls(root) if Manifest.is_at(path) else None
        except InputError:
            if _NAME.search(path):
                raise  # otherwise the cache would be read as local data
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
        """Return the record of earlier listings."""
        return ListingRecord(self.manifest)

    def recording(self) -> ListingRecorder:
        """Return a recorder for one walk."""
        return ListingRecorder(self.manifest)

    def sweep(self) -> int:
        """Remove the files and pending rows that dead processes left; return the number of files."""
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
        """Look up which of `files` are in the cache as they were listed, without using the store.

        If `use` is true, record that a run uses the files in the cache.
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
        """Raise InputError if there is not enough space for the absent files of `state`.

        `most` is the size limit of the cache in bytes (``--cache-max``).
        """
        needed = (
            f"The files to fetch take {state.absent_bytes:,} bytes ({len(state.absent):,} files)"
        )
        advice = (
            "Narrow the filter, free space with `daskmr cache prune`, or keep no copies with "
            "--no-cache."
        )
        folder = os.path.dirname(self.staging.folder)
        free = shutil.disk_usage(folder).free
        if state.absent_bytes > free:
            raise InputError(
                f"{needed}, but only {free:,} bytes are free on the disk of {folder}. Use another "
                f"--work-dir. {advice}"
            )
        held = self.manifest.count()[1] - state.replaced_bytes
        if most is not None and state.absent and held + state.absent_bytes > most:
            raise InputError(
                f"{needed}. Together with {held:,} bytes kept in the cache {self.root}, this exceeds "
                f"the {most:,} bytes that --cache-max allows. {advice}"
            )

    def present(self, file: InputFile) -> str | None:
        """Return the path of `file` if the cache has it unmodified, without using the store."""
        copy = self.manifest.find(file.path)
        if copy and copy.is_of(file) and copy.is_unchanged(self.staging.found(file.path)):
            return os.path.join(self.root, file.path)
        return None

    def distrust(self, file: InputFile) -> bool:
        """Check whether the bytes of a copy are damaged; if so, mark it, so that it is not used."""
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
        """Fetch `file` unless it is in the cache; wait if another process is fetching it.

        Raises `Unplaceable` if the cache cannot store it; it can still be read from the store.
        Raises `StoreError` if it cannot be fetched.
        Raises `JobError` if the disk or the manifest fails.
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
    """Claim the path of a file; return ``None`` if another process has fetched it meanwhile."""
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
                f"Another process is fetching {file.path} into the cache {cache.root}, and has received "
                f"nothing for {_STALLED / 60:.0f} minutes. Resume or end that process, which has a "
                f"file in {cache.staging.folder} open."
            )
    return staged


def _reason_to_fetch(cache: Cache, file: InputFile) -> str | None:
    """Return the reason to replace a file, "" if there is no file; ``None`` if the file is valid.

    A file at its path may be unknown to the manifest, or its time may have changed; if its digest
    is right, it is added to the manifest.
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
    is_digest = _MD5.fullmatch(digest or "")  # unlike the ETag of a multipart upload
    if is_digest and stat.S_ISREG(found.st_mode) and found.st_size == file.size:
        read = read_digest(os.path.join(cache.root, path))
        if read is not None and read.digest == digest:
            own = known is not None and known.own
            cache.manifest.put(_copy(file, read.digest, read.mtime_ns, own))
            return None
    if known is not None:
        return f"{path} was modified in the cache: fetched again"
    if copy is not None:
        return f"{path} has changed in the store: fetched again"
    return f"{path} in the cache was not from the store: replaced by the store's"


def _check_place(cache: Cache, path: str) -> None:
    """Raise Unplaceable, before anything is fetched, if the file cannot be stored."""
    cache.staging.check(path)
    for twin in cache.manifest.twins(path) if cache.staging.case_blind else ():
        if twin.is_unchanged(cache.staging.found(twin.path)):
            raise Unplaceable(
                f"{path!r} has no place in the cache {cache.root}: its file system treats the name "
                f"as equal to {twin.path!r}."
            )


def _put_in_place(cache: Cache, file: InputFile, staged: Staged, digest: str) -> None:
    path, manifest = file.path, cache.manifest
    found = staged.seal()
    if found.st_size != file.size:
        raise StoreError(
            f"{path} came with {found.st_size:,} bytes instead of {file.size:,}. Run the job again; "
            "complete files are kept."
        )
    # This order ensures that a row never describes other bytes, even if the process is interrupted:
    # remove the old file, write the row, rename the file. While a row is pending, its file may be
    # missing.
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
    """Return all caches in a work dir, sorted by name."""
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
    """Run `work` in a thread, and wait for it even when cancelled, since it cannot be stopped."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # retrieve it, so that asyncio does not log it
        raise
