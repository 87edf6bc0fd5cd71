"""A SQLite file that any number of threads and processes use, also across forks."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, ClassVar
from urllib.parse import quote

from daskmr.errors import InputError, JobError
from daskmr.files import is_on_network

__all__ = ["Database"]

_BUSY_SECONDS = 60.0  # a write takes less than a millisecond, so this is many processes' worth


class Database:
    """The manifest of a cache as a file. A forked process opens a connection of its own.

    - `path`: the file, created at its first use with the statements `tables`.
    - `application`, `version`: the stamp that a new one gets, and that an existing one must have.
    """

    tables: ClassVar[tuple[str, ...]]
    application: ClassVar[int]
    version: ClassVar[int]

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: sqlite3.Connection | None = None
        _living.add(self)

    @classmethod
    def is_at(cls, path: str) -> bool:
        """Check for a database of this application at `path`, without making or changing it.

        Raises `InputError` for a file that SQLite cannot read.
        """
        uri = f"file:{quote(os.fsencode(os.path.abspath(path)))}?mode=ro"
        try:
            with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS)) as connection:
                _is_empty(connection)  # reads the schema, which may be damaged
                return _stamp(connection)[0] == cls.application
        except sqlite3.OperationalError:  # no such file, or no permission
            return False
        except sqlite3.DatabaseError:
            raise _damage(path, "it is no database") from None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with _lock, self._explained():
            return self._connect().execute(query, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, after waiting for others; an exception rolls it back."""
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
        if _is_empty(connection):  # checked first: another process may just be making the tables
            return
        application, version = _stamp(connection)
        if (application, version) == (self.application, self.version):
            return
        if application == self.application:
            raise InputError(
                f"The manifest of the cache, {self.path}, is of version {version}, which this "
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
        if _is_empty(connection):  # still: another process may have been faster
            for table in self.tables:
                connection.execute(table)
            connection.execute(f"PRAGMA application_id = {self.application}")
            connection.execute(f"PRAGMA user_version = {self.version}")
        connection.execute("COMMIT")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if _code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise _damage(self.path, str(error)) from None
            raise JobError(
                f"The manifest of the cache, {self.path}, cannot be used: {error}. Check the disk "
                "and the permissions there, or use another --work-dir."
            ) from None


def _damage(path: str, cause: str) -> InputError:
    return InputError(
        f"The manifest of the cache, {path}, is damaged ({cause}). Remove it, and its "
        "-wal and -shm files: the next run makes another, and adopts those files of the "
        "cache whose bytes it can verify."
    )


def _code(error: sqlite3.Error) -> int:
    # 0 where the error is not from SQLite itself; without the bits of an extended code
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the application that a file belongs to, and its version."""
    query = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
    application, version = connection.execute(query).fetchone()
    return application, version


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()


def choose_journal(connection: sqlite3.Connection, on_network: bool) -> str:
    """Set up a write-ahead log, or else the old rollback journal, and return the mode."""
    mode = "delete" if on_network else "wal"
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            actual: str = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
        except sqlite3.OperationalError as error:
            # A change of the mode does not wait for other processes as statements do.
            if _code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < deadline:
                time.sleep(0.02)
            elif mode == "wal":
                mode = "delete"
            else:
                raise
        else:
            # The log loses nothing with the process, and with the power at most the latest rows,
            # whose files then count as unknown.
            connection.execute("PRAGMA synchronous = NORMAL")
            return actual


# A connection must not be used, nor even closed, on the other side of a fork. So none is open at
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
