"""An SQLite file that many threads and processes can use, even after a fork."""

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

_BUSY_SECONDS = 60.0  # a write takes less than a millisecond, so this suffices for many processes


class Database:
    """The file of a cache's manifest. A forked process opens its own connection.

    - `path`: the file, created on first use with the statements in `tables`.
    - `application`, `version`: identifiers for new files; those of an existing file must match.
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
        """Check for a database of this application at `path`, without creating or changing it.

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
            raise _damage(path, "it is not a database") from None

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next use opens a new one."""
        with _lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def read(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with _lock, self._explained():
            return self._connect().execute(query, parameters).fetchall()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run a transaction, after waiting for other transactions; an exception rolls it back."""
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
        if _is_empty(connection):  # check this first: another process may be creating the tables
            return
        application, version = _stamp(connection)
        if (application, version) == (self.application, self.version):
            return
        if application == self.application:
            raise InputError(
                f"The manifest of the cache, {self.path}, has version {version}, which this "
                "version of daskmr does not support. Use another --work-dir, or the version of "
                "daskmr that created it."
            )
        raise InputError(
            f"{self.path} should be the manifest of the cache, but is another database. "
            "Move it, or use another --work-dir."
        )

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if not _is_empty(connection):
            return
        connection.execute("BEGIN IMMEDIATE")
        if _is_empty(connection):  # check again: another process may have been faster
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
        f"The manifest of the cache, {path}, is damaged ({cause}). Remove it and its "
        "-wal and -shm files: the next run creates a new one, and keeps all files in the "
        "cache whose bytes it can verify."
    )


def _code(error: sqlite3.Error) -> int:
    # The primary result code; 0 if the error is not from SQLite itself
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _stamp(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return the identifiers of the application and the version of a file."""
    query = "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version"
    application, version = connection.execute(query).fetchone()
    return application, version


def _is_empty(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()


def choose_journal(connection: sqlite3.Connection, on_network: bool) -> str:
    """Select a write-ahead log, or if that is not possible a rollback journal; return the mode."""
    mode = "delete" if on_network else "wal"
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            actual: str = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
        except sqlite3.OperationalError as error:
            # Unlike other statements, a change of the mode does not wait for other processes.
            if _code(error) == sqlite3.SQLITE_BUSY and time.monotonic() < deadline:
                time.sleep(0.02)
            elif mode == "wal":
                mode = "delete"
            else:
                raise
        else:
            # A crash of the process loses nothing; a power failure may lose the latest rows, and
            # their files are then unknown to the manifest.
            connection.execute("PRAGMA synchronous = NORMAL")
            return actual


# A connection must not be used, or even closed, in a forked child. So all connections are closed
# before a fork; parent and child open new ones when they need them.
_lock = threading.RLock()
_living: weakref.WeakSet[Database] = weakref.WeakSet()


def _before_fork() -> None:
    _lock.acquire()
    for database in list(_living):
        database.close()


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
)
