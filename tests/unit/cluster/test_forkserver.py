"""The process that workers are forked from: its environment, and the folder of its socket."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import ROOT

from daskmr.environment import environment, set_environment

PREWARM = """
import os, psutil
from daskmr.cluster import forkserver
before = dict(os.environ)
forkserver.prewarm({arguments})
assert dict(os.environ) == before
print(forkserver.is_available(), len(psutil.Process().children()))
"""


def prewarm(temporary: Path, arguments: str = "", **variables: str) -> tuple[str, str]:
    """Prewarm a process with a folder for temporary files; return what it prints and its errors."""
    done = subprocess.run(
        [sys.executable, "-c", PREWARM.format(arguments=arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(temporary), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip(), done.stderr


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path is short enough for a socket."""
    return tmp_path_factory.mktemp("t")


def socket_folder(temporary: Path, name: str) -> Path:
    folder = temporary / f"pymp-{name}"
    folder.mkdir()
    (folder / "listener-x").touch()
    (folder / "daskmr-lock").touch()
    return folder


def test_it_starts_and_leaves_nothing(temporary: Path) -> None:
    assert prewarm(temporary) == ("True 2", "")  # with the resource tracker
    assert os.listdir(temporary) == []


def test_nothing_is_started_for_a_run_in_this_process(temporary: Path) -> None:
    assert prewarm(temporary, "False") == ("True 0", "")
    assert os.listdir(temporary) == []


def test_folders_of_killed_runs_are_removed_and_no_others(temporary: Path) -> None:
    dead, living = socket_folder(temporary, "dead"), socket_folder(temporary, "living")
    (temporary / "pymp-other").mkdir()  # of a program that is not daskmr
    with open(living / "daskmr-lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert prewarm(temporary) == ("True 2", "")
    assert not dead.exists()
    assert sorted(os.listdir(temporary)) == ["pymp-living", "pymp-other"]


def test_folders_are_removed_where_the_path_is_too_long_for_a_socket(temporary: Path) -> None:
    deep = temporary / ("x" * 100)
    deep.mkdir()
    socket_folder(deep, "dead")
    printed, errors = prewarm(deep)
    assert printed.startswith("False ")
    assert "No forkserver (AF_UNIX path too long); workers will take longer to start." in errors
    assert os.listdir(deep) == []


def test_a_folder_for_temporary_files_that_cannot_be_used(temporary: Path) -> None:
    script = (
        "import tempfile\n"
        "from daskmr.cluster import forkserver\n"
        f"tempfile.tempdir = {str(temporary / 'missing')!r}\n"
        "forkserver.prewarm()\n"
        "print(forkserver.is_available())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (0, "False\n")
    assert "No forkserver ([Errno 2]" in done.stderr


def test_credentials_are_kept_from_it(temporary: Path) -> None:
    show = "); [print(open(f'/proc/{c.pid}/environ').read()) for c in psutil.Process().children()"
    printed, _ = prewarm(
        temporary, show + "] and (", AWS_SECRET_ACCESS_KEY="the secret", OTHER="it"
    )
    assert "OTHER=it" in printed
    assert "the secret" not in printed


def test_variables_are_set_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRESENT", "before")
    monkeypatch.delenv("ABSENT", raising=False)
    with (
        pytest.raises(ZeroDivisionError),
        environment({"PRESENT": None, "ABSENT": "within"}),
    ):
        assert "PRESENT" not in os.environ
        assert os.environ["ABSENT"] == "within"
        raise ZeroDivisionError
    assert os.environ["PRESENT"] == "before"
    assert "ABSENT" not in os.environ
    set_environment({"PRESENT": "after", "ABSENT": None})
    assert os.environ["PRESENT"] == "after"
