"""Verified local copies of remote files.

A cache is a plain data dir, ``<work-dir>/cache``, with a manifest beside it. A file in it counts
only as long as it is just what the manifest says was fetched. It is fetched into a folder of its
own beside the cache, checked, and renamed into its place, by one process at a time.

What a process leaves that dies at any moment is one of these: an unfinished file in that folder,
which nothing looks for; or a row of the manifest that is pending, whose file either is in its place
and right, or isn't there. `Cache.sweep` clears both away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from daskmr.data.cache.database import damage, is_damaged
from daskmr.data.cache.listing_record import Recorded, Recording
from daskmr.data.cache.manifest import Copy, Manifest, in_chunks, is_manifest
from daskmr.data.cache.staging import Staged, Staging
from daskmr.data.listing import InputFile
from daskmr.data.paths import Unplaceable
from daskmr.errors import InputError, JobError
from daskmr.store.store import Source, Store, StoreError

__all__ = ["Cache", "Local", "State", "caches"]

T = TypeVar("T")

_NAME = re.compile(r"cache(@.+)?\.sqlite")
_MD5 = re.compile(r"[0-9a-f]{32}")
_USED_AGAIN = 3600.0  # seconds after which a use is written down again
_LONGEST_POLL = 0.5  # seconds between looks at what another process fetches
_STALLED = 900.0  # seconds without a byte, which is beyond all retries, before that is an error


@dataclass(frozen=True, slots=True)
class Local:
    """A file that is in the cache now.

    Parameters
    ----------
    path : str
        Absolute.
    fetched : bool
        Whether it came from the store just now.
    note : str
        Why something that was in its place already did not do; "" where there is nothing to say.
    """

    path: str
    fetched: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What of some files is in the cache.

    Parameters
    ----------
    files, bytes : int
        What is there, and as it was listed.
    absent : tuple of InputFile
        What is not, in the order that was asked for.
    absent_bytes : int
    replaced_bytes : int
        Size of older versions of those, which are still there.
    """

    files: int
    bytes: int
    absent: tuple[InputFile, ...]
    absent_bytes: int
    replaced_bytes: int

    def explain_absent(self) -> str:
        """Say what is missing, for a run that cannot fetch it.

        >>> State(1, 5, (InputFile("idle/a.gz", 7, ()),), 7, 0).explain_absent()
        '1 of 2 files (7 bytes) are not in the cache, or changed since they were fetched: idle/a.gz'
        """
        names = ", ".join(file.path for file in self.absent[:3])
        more = f" and {len(self.absent) - 3:,} more" if len(self.absent) > 3 else ""
        return (
            f"{len(self.absent):,} of {self.files + len(self.absent):,} files "
            f"({self.absent_bytes:,} bytes) are not in the cache, or changed since they were "
            f"fetched: {names}{more}"
        )


class Cache:
    """The local copies of one source. It may be pickled, and used by any number of processes.

    Parameters
    ----------
    root : str
        The data dir that the copies are in; `of` chooses it for a source.

    Attributes
    ----------
    manifest : Manifest
        What the cache holds; ``<root>.sqlite``.
    staging : Staging
        How files come into it.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.manifest = Manifest(self.root + ".sqlite")
        self.staging = Staging(self.root)
        if self.staging.case_blind:
            self.manifest.index_folded()

    @classmethod
    def of(cls, work_dir: str, source: Source) -> Cache:
        """The cache of `source` in a work dir: ``cache``, or ``cache@...`` if that is another's.

        Raises
        ------
        InputError
            When the work dir cannot be used.
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
        """The cache whose data dir this is; ``None`` for any other folder."""
        root = os.path.abspath(data_dir)
        path = root + ".sqlite"
        if is_manifest(path):
            return cls(root)
        if _NAME.fullmatch(os.path.basename(path)) and is_damaged(path):
            raise damage(path, "it is no database")  # else a cache would pass for local data
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

    def recorded(self) -> Recorded:
        """What was listed of the source so far."""
        return Recorded(self.manifest)

    def recording(self) -> Recording:
        """What writes down what one walk lists."""
        return Recording(self.manifest)

    def sweep(self) -> int:
        """Clear away what dead processes have left; return how many files that were.

        What living ones are at is left alone.
        """
        for copy in self.manifest.pending():
            staged = self.staging.claim(copy.path)
            if staged is not None:
                try:
                    if copy.lies_as(self.staging.found(copy.path)):
                        self.manifest.settle(copy.path)
                    else:
                        self.manifest.forget([copy.path])
                finally:
                    staged.release()
        return self.staging.sweep()

    def state(self, files: Iterable[InputFile], *, use: bool = True) -> State:
        """Which of `files` are here, as they were listed. The store is not asked.

        Parameters
        ----------
        files : iterable of InputFile
        use : bool
            Whether to note that a run uses those that are here.
        """
        now = time.time()
        count = size = absent_bytes = replaced_bytes = 0
        absent: list[InputFile] = []
        for many in in_chunks(files, 50_000):
            used: list[str] = []
            copies = self.manifest.get([file.path for file in many])
            for file in many:
                copy = copies.get(file.path)
                there = copy is not None and copy.lies_as(self.staging.found(file.path))
                if copy is not None and there and _is_of(copy, file):
                    count += 1
                    size += file.size
                    if now - copy.used > _USED_AGAIN:
                        used.append(file.path)
                else:
                    absent.append(file)
                    absent_bytes += file.size
                    replaced_bytes += copy.size if copy is not None and there else 0
            if use and used:
                self.manifest.touch(used, now)
        return State(count, size, tuple(absent), absent_bytes, replaced_bytes)

    def check_space(self, state: State, most: int | None = None) -> None:
        """See whether what `state` lacks will find room.

        Parameters
        ----------
        state : State
        most : int, optional
            Bytes that the cache may hold (``--cache-max``).

        Raises
        ------
        InputError
            Naming what is needed and what there is.
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
        """The path of `file` if it is here, and is what was fetched; the store is not asked."""
        copy = self.manifest.get([file.path]).get(file.path)
        if copy is None or not _is_of(copy, file):
            return None
        return self._at(file) if copy.lies_as(self.staging.found(file.path)) else None

    def was_fetched_since(self, file: InputFile, moment: float) -> bool:
        """Whether the copy of `file` came from the store after `moment`, in seconds since 1970."""
        copy = self.manifest.get([file.path]).get(file.path)
        return copy is not None and copy.own and copy.fetched >= moment

    def distrust(self, file: InputFile) -> bool:
        """Whether the bytes of the copy are not those that were fetched; it is not used then."""
        copy = self.manifest.get([file.path]).get(file.path)
        read = read_digest(self._at(file))
        if copy is None or read is None or read.digest == copy.digest:
            return False
        self.manifest.distrust(file.path)
        return True

    def fetch(self, store: Store, file: InputFile) -> Local:
        """Have `file` here, and fetch it if it isn't; from sync code."""
        return store.run(self.fetch_async(store, file))

    async def fetch_async(self, store: Store, file: InputFile) -> Local:
        """Have `file` here, and fetch it if it isn't. What another process fetches is waited for.

        Raises
        ------
        Unplaceable
            When the cache has no place for it; it can be read from the store all the same.
        StoreError
            When it can't be fetched.
        JobError
            When the disk or the manifest refuses.
        """
        staged = await self._claim(file)
        if isinstance(staged, Local):
            return staged
        try:
            local, note = await _undisturbed(self._take_over, file)
            if local is not None:
                return local
            digest = await store.fetch_async(file.path, file.etag, file.size, staged)
            await _undisturbed(self._put_in_place, staged, file, digest)
            return Local(self._at(file), True, note)
        finally:
            staged.release()

    async def _claim(self, file: InputFile) -> Staged | Local:
        """Claim the place of `file`, or wait for another who has claimed it."""
        poll, progress, since = 0.01, None, time.monotonic()
        while (staged := self.staging.claim(file.path)) is None:
            await asyncio.sleep(poll)
            if await _undisturbed(self.present, file) is not None:
                return Local(self._at(file))
            poll = min(1.5 * poll, _LONGEST_POLL)
            before, progress = progress, self.staging.progress(file.path)
            if progress != before:
                since = time.monotonic()
            elif time.monotonic() - since > _STALLED:
                raise JobError(
                    f"Another process fetches {file.path} into the cache {self.root}, and has got "
                    f"nothing for {_STALLED / 60:.0f} minutes. Continue or end that process, which "
                    f"has a file in {self.staging.folder} open."
                )
        return staged

    def _take_over(self, file: InputFile) -> tuple[Local | None, str]:
        """What is in the place of `file`, if it is right; else why it is not.

        It may have been fetched just now, or long ago and touched since, or have been there before
        the manifest was: then its digest decides.
        """
        path = file.path
        copy = self.manifest.get([path]).get(path)
        found = self.staging.found(path)
        known = copy if copy is not None and _is_of(copy, file) else None
        if known is not None and known.lies_as(found):
            return Local(self._at(file)), ""
        self._check_place(file)
        if found is None:
            return None, ""
        digest = known.digest if known is not None else _md5_of(file.etag)
        if digest is not None and stat.S_ISREG(found.st_mode) and found.st_size == file.size:
            read = read_digest(self._at(file))
            if read is not None and read.digest == digest:
                own = known is not None and known.own
                self.manifest.put(_copy(file, digest, read.mtime_ns, own))
                return Local(self._at(file)), ""
        if known is not None:
            return None, f"{path} in the cache was no longer what was fetched: fetched again"
        if copy is not None:
            return None, f"{path} has changed in the store: fetched again"
        return None, f"{path} was in the cache, but not from the store: replaced by what is there"

    def _check_place(self, file: InputFile) -> None:
        """Raise Unplaceable before a byte is fetched that has no place."""
        self.staging.check(file.path)
        if self.staging.case_blind:
            for twin in self.manifest.twins(file.path):
                if twin.lies_as(self.staging.found(twin.path)):
                    raise Unplaceable(
                        f"{file.path!r} has no place in the cache {self.root}: to its file system "
                        f"that is the same name as {twin.path!r}."
                    )

    def _put_in_place(self, staged: Staged, file: InputFile, digest: str) -> None:
        found = staged.seal()
        if found.st_size != file.size:
            raise StoreError(
                f"{file.path} came with {found.st_size:,} bytes instead of {file.size:,}. Run the "
                "job again; what was fetched whole is kept."
            )
        # First what was there goes, then the row comes, then the file: so no row ever stands for
        # bytes that it was not written for, whenever this ends. While a row is pending, its file
        # may be missing.
        if self.staging.found(file.path) is not None:
            self.manifest.unsettle([file.path])
            self.staging.remove(file.path)
        self.manifest.put(replace(_copy(file, digest, found.st_mtime_ns, True), pending=True))
        try:
            staged.place()
        except JobError:
            self.manifest.forget([file.path])
            raise
        self.manifest.settle(file.path)

    def _at(self, file: InputFile) -> str:
        return os.path.join(self.root, file.path)


def caches(work_dir: str) -> list[Cache]:
    """All caches in a work dir, by name."""
    try:
        names = sorted(os.listdir(work_dir))
    except FileNotFoundError:
        return []
    roots = [
        os.path.join(work_dir, name.removesuffix(".sqlite"))
        for name in names
        if _NAME.fullmatch(name)
    ]
    return [cache for root in roots if (cache := Cache.at(root)) is not None]


@dataclass(frozen=True, slots=True)
class Digest:
    """What a file holds, and when it was last changed before it was read."""

    digest: str
    mtime_ns: int


def read_digest(path: str) -> Digest | None:
    """Read a file, and no other behind a link, for its MD5; ``None`` if it can't be read."""
    md5 = hashlib.md5(usedforsecurity=False)
    buffer = memoryview(bytearray(1 << 18))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            mtime_ns = os.fstat(descriptor).st_mtime_ns
            while count := file.readinto(buffer):
                md5.update(buffer[:count])
    except OSError:
        return None
    return Digest(md5.hexdigest(), mtime_ns)


def _copy(file: InputFile, digest: str, mtime_ns: int, own: bool) -> Copy:
    now = time.time()
    return Copy(file.path, file.size, file.etag, file.mtime, digest, mtime_ns, now, now, own)


def _is_of(copy: Copy, file: InputFile) -> bool:
    return copy.is_of(file.size, file.etag, file.mtime)


def _md5_of(etag: str | None) -> str | None:
    """The digest that an ETag may be: not one of several parts, and not surely one otherwise."""
    return etag if etag is not None and _MD5.fullmatch(etag) else None


def _slug(source: Source) -> str:
    """A folder's name for a source, short and yet its own."""
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", source.url)[:60].strip("-.")
    unique = hashlib.blake2b(source.identity.encode("utf-8", "replace"), digest_size=4).hexdigest()
    return f"{readable}-{unique}"


async def _undisturbed(work: Callable[..., T], *arguments: Any) -> T:
    """Do `work` in a thread, and wait for its end even when cancelled: it can't be stopped."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # it is nobody's now
        raise
