"""The lock of a run: one run at a time, and never that of a process that has ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.jobs import daskmr, write_tree

from daskmr.cli.lock import held
from daskmr.errors import InputError, LockHeldError
from daskmr.files import try_lock

JOB = """
import time
from pathlib import Path

def map(key, dims, value, context):
    context.write(key, int(value))

def setup_map(context):
    while Path("wait").exists():
        time.sleep(0.05)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1"], ["b\t2"]])
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    path = str(tmp_path / "new" / "a.lock")
    with held(path, None, "daskmr run one.py"):
        for wait in (None, "0.3s"):
            with (
                pytest.raises(
                    LockHeldError, match=rf"process {os.getpid()}, .*one\.py\)\. Nothing"
                ),
                held(path, wait, "daskmr run two.py", quiet=True),
            ):
                raise AssertionError
    with held(path, None, "daskmr run two.py"):
        pass


def test_a_run_waits_for_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "a.lock")
    taken, leave = threading.Event(), threading.Event()

    def other() -> None:
        with held(path, None, "daskmr run other.py"):
            taken.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait(30)
    threading.Timer(0.5, leave.set).start()
    with held(path, "60 s", "daskmr run job.py"):
        assert leave.is_set()
    thread.join()
    assert "waiting for the lock" in capsys.readouterr().err


def test_a_file_of_the_user_is_locked_but_not_written(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine\n")
    with held(str(tmp_path / "notes.txt"), None, "daskmr run job.py"):
        assert (tmp_path / "notes.txt").read_text() == "mine\n"


@pytest.mark.parametrize(
    ("path", "wait", "message"),
    [
        (None, "5s", "no effect without --lock"),
        ("a.lock", "soon", "'soon' is not a time. One that works: --lock-wait '10 min'"),
        (".", None, "cannot be locked"),
    ],
)
def test_mistakes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    wait: str | None,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message), held(path, wait, ""):
        raise AssertionError


def test_a_run_that_finds_the_lock_taken_does_nothing(place: Path) -> None:
    with open(place / "a.lock", "w") as file:
        assert try_lock(file.fileno())
        options = ("run", "job.py", "-d", "data", "-o", "out.txt", "--inline", "--lock", "a.lock")
        done = daskmr(*options, cwd=place)
        assert done.returncode == 4
        assert done.stderr.endswith("or let it wait for the other: --lock-wait '10 min'\n")
        assert not (place / "out.txt").exists()
    done = daskmr(*options, cwd=place)
    assert (done.returncode, (place / "out.txt").read_text()) == (0, "a\t1\nb\t2\n")


def test_who_has_ended_is_not_named(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = {"pid": ended.pid, "since": "yesterday", "command": "daskmr run job.py"}
    path.write_text(json.dumps(left))
    with open(path) as file:
        assert try_lock(file.fileno())  # as another program may
        with (
            pytest.raises(LockHeldError, match=r"holds the lock '[^']*'\. Nothing was done"),
            held(str(path), None, "daskmr run two.py"),
        ):
            raise AssertionError


def test_a_run_that_was_killed_holds_no_lock(place: Path) -> None:
    """Neither do its workers, which may take longer to end."""
    options = ("run", "job.py", "-d", "data", "-o", "out.txt", "--lock", "a.lock", "-m", "1")
    (place / "wait").touch()
    command = [sys.executable, "-m", "daskmr", *options]
    log = place / "log.txt"
    with log.open("w") as file:
        running = subprocess.Popen(command, cwd=place, stderr=file)
    try:
        deadline = time.monotonic() + 60
        while not list(place.glob(".daskmr/*/marks/*")) and time.monotonic() < deadline:
            assert running.poll() is None, log.read_text()
            time.sleep(0.05)
        assert f'"pid": {running.pid}' in (place / "a.lock").read_text()
        assert daskmr(*options, cwd=place).returncode == 4
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        with open(place / "a.lock") as file:
            assert try_lock(file.fileno())
    finally:
        (place / "wait").unlink()
        running.kill()
        running.wait()
    done = daskmr(*options, cwd=place)
    assert done.returncode == 0, done.stderr
