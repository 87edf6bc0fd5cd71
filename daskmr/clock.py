"""The clock of a run: seconds of the epoch that never jump, alike in all processes of a machine.

It starts with the wall clock, so that times can be shown, and goes on with the monotonic clock, which
the processes of a machine share. So a task begins where its run does, whatever sets the wall clock.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Origin", "adopt", "now", "origin", "restart"]


class Origin(NamedTuple):
    """Where the time of a run begins."""

    machine: str  # identifies the monotonic clock; ``""`` if it is unknown
    offset: float  # what to add to it, in seconds


def _here() -> Origin:
    machine = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/time')}"
    return Origin(machine, time.time() - time.monotonic())


_origin = _here()


def now() -> float:
    """Return the seconds of the epoch."""
    return _origin.offset + time.monotonic()


def origin() -> Origin:
    """Return what another process needs to have the same time."""
    return _origin


def restart() -> None:
    """Start again from the wall clock, as a run does."""
    global _origin
    _origin = _here()


def adopt(other: Origin) -> None:
    """Take over the time of a run, if it began on this machine."""
    global _origin
    if other.machine and other.machine == _origin.machine:
        _origin = other
