"""One SQLite file for threads, processes and both sides of a fork."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from support.jobs import ROOT

from daskmr.data.cache import database as module
from daskmr.data.cache.database import Database, choose_journal
from daskmr.errors import InputError, JobError


class Counts(Database):
    tables = ("CREATE TABLE counts (name TEXT PRIMARY KEY, value INTEGER)",)
    application = 7
    version = 1


class LaterCounts(Counts):
    version = 9


class Others(Counts):
    application = 8


def opened(path: Path) -> Database:
    return Counts(str(path / "x.sqlite"))


def add(database: Database) -> None:
    with database.writing() as connection:
        connection.execute("INSERT OR IGNORE INTO counts VALUES ('n', 0)")
        connection.execute("UPDATE counts SET value = value + 1")


def count(database: Database) -> int:
    rows = database.read("SELECT value FROM counts")
    return rows[0][0] if rows else 0


ADDING = """
import sys
from test_database import add, opened, Path
database = opened(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    add(database)
    print(flush=True)
database.close()
"""


def adding(folder: Path, times: int) -> subprocess.Popen[bytes]:
    path = os.pathsep.join(map(str, (Path(__file__).parent, ROOT / "tests", ROOT)))
    return subprocess.Popen(
        [sys.executable, "-c", ADDING, str(folder), str(times)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_many_processes_and_threads_lose_nothing(tmp_path: Path) -> None:
    processes = [adding(tmp_path, 200) for _ in range(3)]
    database = opened(tmp_path)
    threads = [
        threading.Thread(target=lambda: [add(database) for _ in range(100)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.communicate()[0].count(b"\n") == 200
    assert count(database) == 900
    database.close()
    assert sorted(os.listdir(tmp_path)) == ["x.sqlite"]


def test_what_was_said_to_be_written_outlives_a_kill(tmp_path: Path) -> None:
    with adding(tmp_path, 10_000) as process:
        assert process.stdout is not None
        said = sum(1 for _ in zip(range(50), process.stdout, strict=False))
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().count(b"\n")
    with closing(opened(tmp_path)) as database:
        assert said <= count(database) <= said + 1


def test_two_that_make_the_tables_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_empty, asked = module._is_empty, []

    def overtaken(connection: sqlite3.Connection) -> bool:
        empty = is_empty(connection)
        asked.append(empty)
        if len(asked) == 2:  # before the transaction that makes them
            with closing(opened(tmp_path)) as other:
                add(other)
        return empty

    monkeypatch.setattr(module, "_is_empty", overtaken)
    with closing(opened(tmp_path)) as database:
        add(database)
        assert count(database) == 2
    assert asked[:2] == [True, True]


def test_an_exception_takes_a_transaction_back(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        add(database)
        with pytest.raises(KeyboardInterrupt), database.writing() as connection:
            connection.execute("UPDATE counts SET value = 50")
            raise KeyboardInterrupt
        assert count(database) == 1
        add(database)
        assert count(database) == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_takes_no_connection_with_it(tmp_path: Path) -> None:
    with closing(opened(tmp_path)) as database:
        add(database)
        pid = os.fork()
        if pid == 0:
            try:
                before = database._connection is None
                add(database)
                database.close()
                os._exit(0 if before else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        add(database)
        assert count(database) == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_beside_busy_threads_neither_hangs_nor_breaks(tmp_path: Path) -> None:
    ended = threading.Event()
    with closing(opened(tmp_path)) as database:
        added: list[int] = []

        def work() -> None:
            while not ended.is_set():
                add(database)
                added.append(1)
                time.sleep(0.001)  # no lock is fair

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    try:
                        add(database)
                        os._exit(0)
                    finally:
                        os._exit(2)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert count(database) == len(added) + 20


def test_a_log_where_it_works_and_the_old_journal_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        assert choose_journal(connection, on_network=False) == "wal"
        assert choose_journal(connection, on_network=True) == "delete"
    # locks by files, as on a disk where neither shared memory nor locks of bytes work
    uri = f"file:{tmp_path / 'y.sqlite'}?vfs=unix-dotfile"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        assert choose_journal(connection, on_network=False) == "delete"
        connection.execute("CREATE TABLE t (x)")


class _NoLog(sqlite3.Connection):
    """Fails as SQLite does on some network file systems."""

    def execute(self, query: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
        if query.endswith("= wal"):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR
            raise error
        return super().execute(query, *arguments)  # type: ignore[arg-type]


def test_a_log_that_fails_is_done_without(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite", factory=_NoLog)) as connection:
        assert choose_journal(connection, on_network=False) == "delete"


class _Locked(sqlite3.Connection):
    """Another process is at it, for a moment or for good."""

    times = 3.0

    def execute(self, query: str, *arguments: object) -> sqlite3.Cursor:  # type: ignore[override]
        if "journal_mode" in query and self.times > 0:
            self.times -= 1
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        return super().execute(query, *arguments)  # type: ignore[arg-type]


def test_the_journal_of_a_file_that_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "x.sqlite", factory=_Locked)) as connection:
        assert choose_journal(connection, on_network=False) == "wal"
        assert connection.times == 0
        connection.times = float("inf")
        monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            choose_journal(connection, on_network=True)


def test_the_stamp_tells_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    assert not Counts.is_at(str(path))
    assert not path.exists()
    database = opened(tmp_path)
    add(database)
    assert Counts.is_at(str(path))
    assert not Others.is_at(str(path))
    database.close()
    assert Counts.is_at(str(path))
    (tmp_path / "text.sqlite").write_text("not a database at all" * 100)
    with pytest.raises(InputError, match=r"text\.sqlite, is damaged \(it is not a database\)"):
        Counts.is_at(str(tmp_path / "text.sqlite"))


def test_somebody_elses_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    before = path.read_bytes()
    with pytest.raises(InputError, match="another database"):
        add(opened(tmp_path))
    assert path.read_bytes() == before


def test_another_version_is_refused(tmp_path: Path) -> None:
    with closing(LaterCounts(str(tmp_path / "x.sqlite"))) as database:
        add(database)
    with pytest.raises(InputError, match="version 9"):
        add(opened(tmp_path))


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_bytes(b"\xff" * 5000)
    with pytest.raises(InputError, match=r"is damaged .*Remove it"):
        add(opened(tmp_path))


def test_a_place_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="cannot be used"):
        add(Counts(str(tmp_path / "missing/x.sqlite")))
