"""The lock of ``daskmr run --lock``, which one run at a time holds.

It is a lock of flock(2), as that of the command `flock`: the kernel releases it when the process ends,
even by SIGKILL. The file stays, because removing a locked file lets two processes in.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime

from daskmr.config import SETTINGS
from daskmr.errors import InputError, LockHeldError
from daskmr.files import try_lock
from daskmr.text import printable, shorten

__all__ = ["held"]

_PAUSE = 0.2  # seconds between two attempts
_LONGEST = 1000  # characters of the command line in the file
_held: set[int] = set()  # descriptors, which forked processes close


@contextmanager
def held(path: str | None, wait: str | None, command: str, quiet: bool = False) -> Iterator[None]:
    """Hold the lock of the file `path` during the block; without a path, do nothing.

    - `wait`: how long to wait for another run; ``None`` means not at all.
    - `command`: the command line of this run, which others show.
    - `quiet`: do not say that the run waits.
    Raises `LockHeldError` if another run holds it, and `InputError` if the file cannot be locked.
    """
    if path is None:
        if wait is not None:
            raise InputError("--lock-wait has no effect without --lock. Name the lock: --lock FILE")
        yield
        return
    seconds = _seconds(wait)
    with ExitStack() as stack:
        try:
            descriptor = _open(path)
            stack.callback(os.close, descriptor)
            _take(descriptor, path, seconds, quiet)
        except OSError as error:
            raise InputError(
                f"The file {path!r} cannot be locked ({error.strerror}). Name another one, on a disk of this "
                "machine, with --lock."
            ) from None
        _held.add(descriptor)
        stack.callback(_held.discard, descriptor)
        _sign(descriptor, command)
        yield


def _close_in_child() -> None:
    """Close the locks in a forked process, which would otherwise keep them longer than this one."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _seconds(wait: str | None) -> float:
    if wait is None:
        return 0.0
    try:
        return float(SETTINGS["file_timeout"].parse(wait))
    except (ArithmeticError, KeyError, TypeError, ValueError):
        raise InputError(
            f"--lock-wait {wait!r} is not a time. One that works: --lock-wait '10 min'"
        ) from None


def _open(path: str) -> int:
    """Open a file to lock it; create it, and its folder, if it is missing."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with suppress(PermissionError):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # another user's, which can be locked, too


def _take(descriptor: int, path: str, seconds: float, quiet: bool) -> None:
    """Take the lock; wait for it for at most `seconds`."""
    start = time.monotonic()
    while not try_lock(descriptor):
        left = start + seconds - time.monotonic()
        if left <= 0:
            raise LockHeldError(
                f"Another run holds the lock {path!r}{_holder(descriptor)}. Nothing was done. Run this later, "
                f"or let it wait {'longer' if seconds else 'for the other'}: --lock-wait '10 min'"
            )
        if not quiet:
            text = f"daskmr: waiting for the lock {path!r}{_holder(descriptor)}"
            print(printable(text), file=sys.stderr, flush=True)
            quiet = True
        time.sleep(min(_PAUSE, left))


def _sign(descriptor: int, command: str) -> None:
    """Write who holds the lock into its file, unless that is a file with other content."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    text = json.dumps({"pid": os.getpid(), "since": now, "command": shorten(command, _LONGEST)})
    with suppress(OSError):  # read-only, or the disk is full: the lock holds nevertheless
        if not os.fstat(descriptor).st_size or _signature(descriptor) is not None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{text}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    """Describe the run that holds the lock, or return "" if another program holds it."""
    from daskmr.tasks.crashes import is_alive  # deferred: rarely needed

    found = _signature(descriptor)
    pid = found and found["pid"]
    if found is None or not isinstance(pid, int) or not is_alive(pid):
        return ""
    return ": process {pid}, since {since} ({command})".format(**found)


def _signature(descriptor: int) -> dict[str, object] | None:
    """Read what `_sign` has written; ``None`` if it is anything else."""
    with suppress(OSError, ValueError):
        found = json.loads(os.pread(descriptor, 20 * _LONGEST, 0))
        if isinstance(found, dict) and found.keys() == {"pid", "since", "command"}:
            return found
    return None
