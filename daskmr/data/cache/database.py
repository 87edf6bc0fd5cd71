"""A SQLite file that any number of threads and processes use, also across forks."""

from __future__ import annotations

import os
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote

from daskmr.errors import InputError, JobError

__all__ = ["Database", "damage", "is_damaged", "is_on_network", "is_stamped"]

_BUSY_SECONDS = 60.0  # a write takes less than a millisecond, so this is many processes' worth
# File systems without the shared memory between machines that SQLite's write-ahead log needs.
_NETWORK = re.compile(
    "9p|afs|beegfs|ceph|cifs|fuse[.].*|glusterfs|gpfs|lustre|nfs4?|ocfs2|panfs|smb.*|virtiofs"
)


class Database:
    """The manifest of a cache as a file. A process that forks takes no connection with it.

    Parameters
    ----------
    path : str
        The file, made when it is first used.
    tables : tuple of str
        What makes the tables of a new one.
    application, version : int
        The stamp that a new one is given, and that any other must have.
    """

    def __init__(self, path: str, tables: tuple[str, ...], application: int, version: int) -> None:
        self.path = path
        self._tables = tables
        self._application = application
        self._version = version
        self._connection: sqlite3.Connection | None = None
        _living.add(self)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of one query."""
        with _lock, self._explained():
            return self._connect().execute(query, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that waits for its turn, and is taken back on an exception."""
        with _lock, self._explained():
            connection = self._connect()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                self._refuse_others(connection)
                choose_journal(connection, is_on_network(self.path))
                self._make_tables(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _refuse_others(self, connection: sqlite3.Connection) -> None:
        if _is_empty(connection):  # asked first: another process may just be making the tables
            return
        stamp = _stamp(connection)
        if stamp == (self._application, self._version):
            return
        if stamp[0] == self._application:
            raise InputError(
                f"The manifest of the cache, {self.path}, is of version {stamp[1]}, which this "
                "version of daskmr does not know. Use another --work-dir, or the daskmr that made "
                "it."
            )
        raise InputError(
            f"{self.path} is where the manifest of the cache would be, and is another database. "
            "Move it, or use another --work-dir."
        )

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if not _is_empty(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        if _is_empty(connection):  # still: another process may have been quicker
            for table in self._tables:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {self._application}")
            connection.execute(f"PRAGMA user_version = {self._version}")
        connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            cause = str(error)
        else:
            return
        if "not a database" in cause or "malformed" in cause:
            raise damage(self.path, cause)
        raise JobError(
            f"The manifest of the cache, {self.path}, cannot be used: {cause}. Check the disk and "
            "the permissions there, or use another --work-dir."
        )


def damage(path: str, cause: str) -> InputError:
    """The failure that a damaged manifest is."""
    return InputError(
        f"The manifest of the cache, {path}, is damaged ({cause}). Remove it, and its "
        "-wal and -shm files: the next run makes another, and takes over those files of "
        "the cache whose bytes it can check."
    )


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    """Whose file it is, and of which version."""
    names = ("application_id", "user_version")
    application, version = (connection.execute(f"PRAGMA {n}").fetchone()[0] for n in names)
    return application, version


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()


def is_stamped(path: str, application: int) -> bool:
    """Whether there is a database of this stamp at `path`; nothing is made or changed."""
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            return _stamp(connection)[0] == application
    except sqlite3.Error:  # no such file, or none of SQLite's
        return False


def is_damaged(path: str) -> bool:
    """Whether there is something at `path` that SQLite cannot read; nothing is made or changed."""
    uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
            _is_empty(connection)
    except sqlite3.OperationalError:  # no such file, or it may not be read
        return False
    except sqlite3.DatabaseError:
        return True
    return False


def choose_journal(connection: sqlite3.Connection, on_network: bool) -> str:
    """Set up a write-ahead log, or where there can be none the old rollback journal.

    Returns
    -------
    str
        The journal mode that is now in use.
    """
    wanted = "delete" if on_network else "wal"
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            mode: str = connection.execute(f"PRAGMA journal_mode = {wanted}").fetchone()[0]
        except sqlite3.OperationalError as error:
            # The change of the mode does not wait for other processes as statements do.
            if "locked" in str(error) and time.monotonic() < deadline:
                time.sleep(0.02)
            elif wanted == "wal":
                wanted = "delete"
            else:
                raise
        else:
            # With a write-ahead log nothing is lost with the process, and after a power failure
            # at most the latest rows are, whose files count as unknown then.
            connection.execute("PRAGMA synchronous = NORMAL")
            return mode


def is_on_network(path: str) -> bool:
    """Whether `path` is on a file system that several machines may share."""
    try:
        with open("/proc/self/mounts", "rb") as file:
            mounts = [line.split(b" ") for line in file]
    except OSError:  # not Linux; a log that fails there is noticed all the same
        return False
    real, form, longest = os.fsencode(os.path.realpath(path)), "", -1
    for mount in mounts:
        point = mount[1].decode("unicode_escape").encode("latin-1")  # a space is written \040
        below = point if point.endswith(b"/") else point + b"/"
        if real.startswith(below) and len(below) >= longest:
            form, longest = mount[2].decode("latin-1"), len(below)
    return _NETWORK.fullmatch(form) is not None


# A connection must not be used, nor even closed, on the other side of a fork. So there is none at
# that moment: each side opens its own when it needs one.
_lock = threading.RLock()
_living: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    _lock.acquire()
    for database in list(_living):
        database.close()


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
)
