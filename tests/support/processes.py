"""Processes that are found again, with all that they have started."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import psutil

__all__ = ["SessionProcess", "wait_until"]


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "it") -> None:
    """Wait for what will come true, however slow the machine is."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in time"
        time.sleep(0.02)


class SessionProcess:
    """A process in a session of its own, so that whatever it leaves can be found."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self.popen = subprocess.Popen(command, start_new_session=True, **options)

    def left(self) -> list[psutil.Process]:
        """Return the processes of the session that still run."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.popen.pid:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    def kill(self) -> None:
        """Kill all processes of the session."""
        for process in self.left():
            process.kill()
        self.popen.communicate()
