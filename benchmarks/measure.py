"""Run a command to its end, and measure its time and the memory of it and its children."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.1
LEFT_BEHIND_SECONDS = 10.0
OUT_OF_MEMORY = re.compile(
    r"MemoryError|memory budget|memory limit|OutOfMemory|KilledWorker|Cannot allocate"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a command.

    Attributes
    ----------
    seconds : float
        Wall time.
    failure : str
        Empty if it exited with 0, otherwise the reason in a few words.
    stderr : str
        The end of its standard error.
    """

    seconds: float
    failure: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak memory in bytes, from samples.

    Attributes
    ----------
    together : int
        All processes of the command; shared pages count once (PSS).
    worker : int
        The largest process except the first (RSS).
    client : int
        The first process (RSS).
    """

    together: int = 0
    worker: int = 0
    client: int = 0


def run(
    command: Sequence[str],
    folder: Path,
    limit: float,
    stdout: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Outcome:
    """Run `command` in `folder`, for `limit` seconds at most, without sampling its memory."""
    outcome, _ = _run(command, folder, limit, stdout, env, measured=False)
    return outcome


def run_measured(
    command: Sequence[str],
    folder: Path,
    limit: float,
    stdout: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[Outcome, Peak]:
    """Run `command` and sample its memory, which takes time, so do not use its seconds."""
    return _run(command, folder, limit, stdout, env, measured=True)


def _run(
    command: Sequence[str],
    folder: Path,
    limit: float,
    stdout: Path | None,
    env: Mapping[str, str] | None,
    measured: bool,
) -> tuple[Outcome, Peak]:
    errors = folder / "stderr"
    started = time.perf_counter()
    with open(stdout or os.devnull, "wb") as out, open(errors, "wb") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    late = threading.Event()
    # Popen.wait with a timeout would poll, only every 50 ms.
    timer = threading.Timer(limit, _stop, (process.pid, late))
    timer.start()
    peak = Peak()
    try:
        if measured:
            peak = _watch(process)
        code = process.wait()
    finally:
        timer.cancel()
        seconds = time.perf_counter() - started
        _end_group(process)
    said = errors.read_text("utf-8", "replace")
    return Outcome(seconds, _failure(code, late.is_set(), limit, said), said[-4000:]), peak


def _failure(code: int, late: bool, limit: float, said: str) -> str:
    """Describe why the run failed; empty if it did not.

    >>> _failure(0, False, 30.0, ""), _failure(-9, True, 30.0, "")
    ('', 'over 30 s')
    """
    if late:
        return f"over {limit:.0f} s"
    if code == 0:
        return ""
    return "out of memory" if OUT_OF_MEMORY.search(said) else f"failed (exit {code})"


def _stop(pid: int, late: threading.Event) -> None:
    late.set()
    _kill(pid)


def _kill(pid: int) -> None:
    """Kill the process and its descendants, some of which have left its group."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Wait until all processes of the command have ended, so that they take no time from the next."""
    if process.poll() is None:
        _kill(process.pid)
        process.wait()
    deadline = time.monotonic() + LEFT_BEHIND_SECONDS
    while _group_lives(process.pid):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    living = (pid for pid in psutil.pids() if _group_of(pid) == group)
    return any(_status(pid) != psutil.STATUS_ZOMBIE for pid in living)


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return psutil.STATUS_ZOMBIE


def _watch(process: subprocess.Popen[bytes]) -> Peak:
    together = worker = client = 0
    seen: set[psutil.Process] = set()  # children() omits those whose parent has ended
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            seen |= {root, *root.children(recursive=True)}
        sizes = {other.pid: size for other in seen if (size := _size(other))}
        together = max(together, sum(shared for shared, _ in sizes.values()))
        client = max(client, sizes.pop(process.pid, (0, 0))[1])
        worker = max([worker, *(resident for _, resident in sizes.values())])
        time.sleep(SAMPLE_SECONDS)
    return Peak(together, worker, client)


def _size(process: psutil.Process) -> tuple[int, int] | None:
    """Return PSS (or RSS where there is none) and RSS of a process."""
    try:
        memory = process.memory_full_info()
    except psutil.Error:
        return None
    return getattr(memory, "pss", memory.rss), memory.rss
