"""Time that goes on evenly, whatever is done to the wall clock, and alike in all processes of a run.

Time of the epoch, so that it can be shown; yet it only begins with the wall clock, and goes on with
the monotonic one. That is one for all processes of a machine, so a task begins where its run has.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import NamedTuple

__all__ = ["Origin", "adopt", "now", "origin", "restart"]


class Origin(NamedTuple):
    """Where the time of a run begins."""

    machine: str  # tells whose monotonic clock it is; ``""`` is not known
    offset: float  # what to add to that, in seconds


def _machine() -> str:
    with suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/time')}"
    return ""


def _here() -> Origin:
    return Origin(_machine(), time.time() - time.monotonic())


_origin = _here()


def now() -> float:
    """Give seconds of the epoch that never jump."""
    return _origin.offset + time.monotonic()


def origin() -> Origin:
    """Give what another process needs to have the same time."""
    return _origin


def restart() -> None:
    """Begin with the wall clock as it is now, as a run does."""
    global _origin
    _origin = _here()


def adopt(other: Origin) -> None:
    """Take over the time of a run, if it began on this machine.

    >>> adopt(Origin("another machine", 0.0))
    >>> now() > 1e9
    True
    """
    global _origin
    if other.machine and other.machine == _origin.machine:
        _origin = other
