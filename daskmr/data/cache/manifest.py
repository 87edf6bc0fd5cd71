"""The SQLite tables of a cache: its files, its listings, and the store that they are from."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeVar

from daskmr.data.cache.database import Database
from daskmr.data.listing import InputFile
from daskmr.data.paths import decode_path, encode_path, fold

__all__ = ["Copy", "Manifest", "in_chunks"]

T = TypeVar("T")

_CHUNK = 500  # parameters of one query; SQLite before 3.32 allows 999
_TABLES = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
    # Paths are bytes, so that they sort in input order and need not be valid UTF-8.
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
    """Split `items` into lists of at most `count` items.

    >>> list(in_chunks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    rest = iter(items)
    while chunk := list(islice(rest, count)):
        yield chunk


@dataclass(frozen=True, slots=True)
class Copy:
    """A row of the manifest: the local copy of an object, as it was put in place."""

    path: str  # relative to the cache, and to the source
    size: int  # of the object, as it was listed
    etag: str | None  # of the object, as it was listed
    mtime: float | None  # of the object, as it was listed
    digest: str  # MD5 of the bytes, as hex digits
    mtime_ns: int  # modification time of the copy; -1, which matches no file, if it is damaged
    fetched: float  # time of the fetch, in Unix seconds
    used: float  # time of the last use by a run, in Unix seconds
    own: bool = True  # whether the cache fetched the file, rather than finding it with these bytes
    pending: bool = False  # whether the file may be missing

    def is_of(self, file: InputFile) -> bool:
        """Check that it is a copy of the object as listed, by the ETag or, without one, the time."""
        same_time = file.etag is not None or self.mtime == file.mtime
        return self.size == file.size and self.etag == file.etag and same_time

    def is_unchanged(self, found: os.stat_result | None) -> bool:
        """Check that the file with the status `found` was not modified since it was put in place."""
        return (
            found is not None
            and found.st_mtime_ns == self.mtime_ns
            and found.st_size == self.size
            and stat.S_ISREG(found.st_mode)
        )


def _copy(row: tuple[Any, ...]) -> Copy:
    path, size, etag, mtime, digest, *times, own, pending = row
    listed = [decode_path(path), size, etag, mtime, digest.hex()]
    values: list[Any] = [*listed, *times, bool(own), bool(pending)]
    return Copy(*values)


class Manifest(Database):
    """The tables of the files in a cache and of its listing record.

    Each method is one transaction. The SQLite file at `path` is created on first use.
    """

    tables = _TABLES
    application = 0x6461736B  # "dask"
    version = 1

    def claim(self, identity: str, url: str) -> bool:
        """Assign this manifest to a store unless it has one; check that the store is `identity`."""
        with self.writing() as connection:
            for name, value in (("identity", identity), ("url", url)):
                connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, value))
        return self.meta("identity") == identity

    def meta(self, name: str) -> str:
        """Return the ``"identity"`` or ``"url"`` of the store; "" if none is assigned yet."""
        rows = self.read("SELECT value FROM meta WHERE name = ?", (name,))
        return rows[0][0] if rows else ""

    def find(self, path: str) -> Copy | None:
        """Return the copy of `path`, if any."""
        return self.get([path]).get(path)

    def get(self, paths: Sequence[str]) -> dict[str, Copy]:
        """Return the existing copies of `paths`."""
        found: dict[str, Copy] = {}
        for chunk in in_chunks(paths):
            condition = f"path IN ({','.join('?' * len(chunk))})"
            found.update(
                (copy.path, copy) for copy in self._select(condition, map(encode_path, chunk))
            )
        return found

    def _select(self, condition: str, parameters: Iterable[object] = ()) -> Iterator[Copy]:
        query = f"SELECT {_COLUMNS} FROM files WHERE {condition}"
        return map(_copy, self.read(query, tuple(parameters)))

    def copies(self) -> Iterator[Copy]:
        """Yield all copies, sorted by path; changes made during the iteration may be seen."""
        last = ""  # no path is empty
        while some := [*self._select("path > ? ORDER BY path LIMIT 5000", [encode_path(last)])]:
            yield from some
            last = some[-1].path

    def pending(self) -> list[Copy]:
        """Return the copies that are being put in place, or whose process died while doing so."""
        return [*self._select("pending")]

    def count(self) -> tuple[int, int]:
        """Return the number of copies and their total size in bytes."""
        rows = self.read("SELECT COUNT(*), TOTAL(size) FROM files WHERE NOT pending")
        return rows[0][0], int(rows[0][1])

    def twins(self, path: str) -> list[Copy]:
        """Return copies of other paths that differ from `path` only in case."""
        return [*self._select("folded = ? AND path != ?", (_folded(path), encode_path(path)))]

    def index_folded(self) -> None:
        """Create the index that makes `twins` fast."""
        with self.writing() as connection:
            connection.execute("CREATE INDEX IF NOT EXISTS folded ON files (folded)")

    def put(self, copy: Copy) -> None:
        """Write the row of `copy`, replacing an earlier one for its path."""
        _, size, etag, mtime, digest, *rest = astuple(copy)
        path = encode_path(copy.path)
        row = (path, size, etag, mtime, bytes.fromhex(digest), *rest, _folded(copy.path))
        with self.writing() as connection:
            connection.execute(f"INSERT OR REPLACE INTO files VALUES ({','.join('?' * 11)})", row)

    def settle(self, path: str) -> None:
        """Record that the copy of `path` is in place."""
        self._each("UPDATE files SET pending = 0", [path])

    def unsettle(self, paths: Iterable[str]) -> None:
        """Record that the copies of `paths` are about to be removed, and may be missing."""
        self._each("UPDATE files SET pending = 1", paths)

    def touch(self, paths: Iterable[str], now: float) -> None:
        """Record a use of the copies of `paths`."""
        self._each("UPDATE files SET used = ?", paths, now)

    def distrust(self, path: str) -> None:
        """Record that the copy of `path` is damaged, even if its size and time match."""
        self._each("UPDATE files SET mtime_ns = -1", [path])

    def forget(self, paths: Iterable[str]) -> None:
        """Delete the rows of `paths`."""
        self._each("DELETE FROM files", paths)

    def _each(self, statement: str, paths: Iterable[str], *values: object) -> None:
        with self.writing() as connection:
            connection.executemany(
                f"{statement} WHERE path = ?", [(*values, encode_path(path)) for path in paths]
            )


def _folded(path: str) -> int:
    """Return a hash of the folded path."""
    digest = blake2b(encode_path(fold(path)), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
