"""The clock of a run: epoch seconds that never jump, the same in all processes of a machine.

It starts with the wall clock, so that times can be shown, and continues with the monotonic clock, which
the processes of a machine share. So tasks use the time of their run even if the wall clock is set.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Origin", "adopt", "now", "origin", "restart"]


class Origin(NamedTuple):
    """The offset of a run's clock."""

    machine: str  # identifies the monotonic clock; ``""`` if it is unknown
    offset: float  # seconds to add to the monotonic clock


def _here() -> Origin:
    machine = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        machine = f"{boot} {os.readlink('/proc/self/ns/time')}"
    return Origin(machine, time.time() - time.monotonic())


_origin = _here()


def now() -> float:
    """Return the time in seconds since the epoch."""
    return _origin.offset + time.monotonic()


def origin() -> Origin:
    """Return the origin of this clock, which another process can `adopt`."""
    return _origin


def restart() -> None:
    """Restart from the wall clock, at the start of a run."""
    global _origin
    _origin = _here()


def adopt(other: Origin) -> None:
    """Use the clock of a run, if it began on this machine."""
    global _origin
    if other.machine and other.machine == _origin.machine:
        _origin = other
