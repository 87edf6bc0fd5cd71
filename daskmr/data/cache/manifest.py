"""What a cache holds, and of which store: the tables beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeVar

from daskmr.data.cache.database import Database, is_stamped
from daskmr.data.paths import decode_path, encode_path, fold

__all__ = ["Copy", "Manifest", "in_chunks", "is_manifest"]

T = TypeVar("T")

_VERSION = 1
_APPLICATION = 0x6461736B  # "dask": what SQLite keeps in a file to tell whose it is
_CHUNK = 500  # parameters of one query; SQLite before 3.32 takes 999
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    # Paths as bytes: they sort in input order, and what is not UTF-8 has its place.
    "CREATE TABLE files (path BLOB PRIMARY KEY, size INTEGER, etag TEXT, mtime REAL, digest BLOB,"
    " mtime_ns INTEGER, fetched REAL, used REAL, own INTEGER, pending INTEGER, folded INTEGER)"
    " WITHOUT ROWID",
    "CREATE INDEX pending ON files (path) WHERE pending",
    "CREATE TABLE listings (id INTEGER PRIMARY KEY AUTOINCREMENT, prefix BLOB, name_prefix BLOB,"
    " checked REAL)",
    "CREATE INDEX listings_prefix ON listings (prefix)",
    "CREATE TABLE pages (listing INTEGER, number INTEGER, entries BLOB,"
    " PRIMARY KEY (listing, number))",
)
_COLUMNS = "path, size, etag, mtime, digest, mtime_ns, fetched, used, own, pending"


def in_chunks(items: Iterable[T], count: int = _CHUNK) -> Iterator[list[T]]:
    """Cut `items` into lists of at most `count`.

    >>> list(in_chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == count:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


@dataclass(frozen=True, slots=True)
class Copy:
    """The local copy of an object, as it was when it was put in place.

    Parameters
    ----------
    path : str
        Relative to the cache, and to the source.
    size, etag, mtime
        Of the object, as it was listed.
    digest : str
        MD5 of the bytes, as hex digits.
    mtime_ns : int
        When the copy was last changed, as its file system has it; -1 for one that was found to be
        damaged, which is like no file.
    fetched, used : float
        When it was fetched, and when a run last asked for it; seconds since 1970.
    own : bool
        Whether the cache made the file; else it was found there, with the right bytes.
    pending : bool
        Whether it may still be on its way into its place.
    """

    path: str
    size: int
    etag: str | None
    mtime: float | None
    digest: str
    mtime_ns: int
    fetched: float
    used: float
    own: bool = True
    pending: bool = False

    def is_of(self, size: int, etag: str | None, mtime: float | None) -> bool:
        """Whether it is a copy of the object that is listed like this.

        The ETag decides; for a store that has none, the time of the last change.
        """
        return self.size == size and self.etag == etag and (etag is not None or self.mtime == mtime)

    def lies_as(self, found: os.stat_result | None) -> bool:
        """Whether `found` is what it was when it was put in place."""
        return (
            found is not None
            and found.st_mtime_ns == self.mtime_ns
            and found.st_size == self.size
            and stat.S_ISREG(found.st_mode)
        )


def _copy(row: tuple[Any, ...]) -> Copy:
    path, size, etag, mtime, digest, mtime_ns, fetched, used, own, pending = row
    return Copy(
        decode_path(path),
        size,
        etag,
        mtime,
        digest.hex(),
        mtime_ns,
        fetched,
        used,
        bool(own),
        bool(pending),
    )


class Manifest:
    """The table of what a cache holds; every method is one transaction.

    Parameters
    ----------
    path : str
        The SQLite file, made when it is first used.

    Attributes
    ----------
    database : Database
        That file; other tables in it are other modules' subject.
    """

    def __init__(self, path: str) -> None:
        self.database = Database(path, _TABLES, _APPLICATION, _VERSION)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self.database.close()

    # --- of which store ------------------------------------------------------------------------

    def claim(self, identity: str, url: str) -> bool:
        """Whether this manifest is that of the store `identity`; one that has no store becomes so."""
        with self.database.writing() as connection:
            for name, value in (("identity", identity), ("url", url)):
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        return self.meta("identity") == identity

    def meta(self, name: str) -> str:
        """``"identity"`` or ``"url"`` of the store; "" where there is none yet."""
        rows = self.database.read("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else ""

    # --- what it holds -------------------------------------------------------------------------

    def get(self, paths: Sequence[str]) -> dict[str, Copy]:
        """The copies of those `paths` that have one."""
        found: dict[str, Copy] = {}
        for chunk in in_chunks(paths):
            marks = ",".join("?" * len(chunk))
            rows = self.database.read(
                f"SELECT {_COLUMNS} FROM files WHERE path IN ({marks})",
                [encode_path(path) for path in chunk],
            )
            found.update((copy.path, copy) for copy in map(_copy, rows))
        return found

    def copies(self) -> Iterator[Copy]:
        """All copies in the order of their paths, as they are when their turn comes."""
        last = b""  # no path is empty
        while rows := self.database.read(
            f"SELECT {_COLUMNS} FROM files WHERE path > ? ORDER BY path LIMIT 5000", (last,)
        ):
            yield from map(_copy, rows)
            last = rows[-1][0]

    def pending(self) -> list[Copy]:
        """The copies that may still be on their way, or whose process died under way."""
        return [*map(_copy, self.database.read(f"SELECT {_COLUMNS} FROM files WHERE pending"))]

    def count(self) -> tuple[int, int]:
        """How many copies there are, and their bytes."""
        rows = self.database.read("SELECT COUNT(*), TOTAL(size) FROM files WHERE NOT pending")
        return rows[0][0], int(rows[0][1])

    def twins(self, path: str) -> list[Copy]:
        """Copies of other paths that are one name to a file system that is blind to case."""
        rows = self.database.read(
            f"SELECT {_COLUMNS} FROM files WHERE folded = ? AND path != ?",
            (_folded(path), encode_path(path)),
        )
        return [*map(_copy, rows)]

    def index_folded(self) -> None:
        """Make `twins` quick."""
        with self.database.writing() as connection:
            connection.execute("CREATE INDEX IF NOT EXISTS folded ON files (folded)")

    def put(self, copy: Copy) -> None:
        """Write down `copy`, in place of an earlier one of its path."""
        row = (
            encode_path(copy.path),
            copy.size,
            copy.etag,
            copy.mtime,
            bytes.fromhex(copy.digest),
            copy.mtime_ns,
            copy.fetched,
            copy.used,
            copy.own,
            copy.pending,
            _folded(copy.path),
        )
        with self.database.writing() as connection:
            connection.execute(f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * 11)})", row)

    def settle(self, path: str) -> None:
        """Note that the copy of `path` has come to its place."""
        with self.database.writing() as connection:
            connection.execute("UPDATE files SET pending = 0 WHERE path = ?", (encode_path(path),))

    def unsettle(self, paths: Iterable[str]) -> None:
        """Note that the copies of `paths` are about to go, and may be gone."""
        with self.database.writing() as connection:
            connection.executemany(
                "UPDATE files SET pending = 1 WHERE path = ?",
                [(encode_path(path),) for path in paths],
            )

    def touch(self, paths: Iterable[str], now: float) -> None:
        """Note that the copies of `paths` are used."""
        with self.database.writing() as connection:
            connection.executemany(
                "UPDATE files SET used = ? WHERE path = ?",
                [(now, encode_path(path)) for path in paths],
            )

    def distrust(self, path: str) -> None:
        """Note that the copy of `path` is damaged, whatever it looks like."""
        with self.database.writing() as connection:
            connection.execute(
                "UPDATE files SET mtime_ns = -1 WHERE path = ?", (encode_path(path),)
            )

    def forget(self, paths: Iterable[str]) -> None:
        """Strike out the copies of `paths`."""
        with self.database.writing() as connection:
            connection.executemany(
                "DELETE FROM files WHERE path = ?", [(encode_path(path),) for path in paths]
            )


def _folded(path: str) -> int:
    """A number that is equal for the paths of which `fold` makes one."""
    digest = blake2b(encode_path(fold(path)), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def is_manifest(path: str) -> bool:
    """Whether there is a manifest at `path`; nothing is made or changed."""
    return is_stamped(path, _APPLICATION)
