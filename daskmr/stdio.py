"""Standard output, kept for the result alone."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TypeVar

from daskmr.errors import JobError

__all__ = ["keep_standard_output", "outlasting", "say", "standard_output"]

_T = TypeVar("_T")

_kept: int | None = None
_outlasting: deque[object] = deque(maxlen=64)


def outlasting(stream: _T) -> _T:
    """Keep what is about to stand for ``sys.stdout`` or ``sys.stderr``, and return it.

    ``print`` holds no reference to the stream that it writes to. Were it gone when a thread of a
    script is in the middle of a ``print`` and the other stream is put back, the process would crash.
    """
    _outlasting.append(stream)
    return stream


def keep_standard_output() -> None:
    """Have what is printed from now on go to standard error; idempotent.

    At the level of descriptors, so that it holds in C code, and in all processes that are started
    later: so it comes before the first of them.
    """
    global _kept
    if _kept is not None:
        return
    if sys.stderr is None:  # closed too; what would be said is said to nobody
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        _kept = os.dup(1)
    except OSError:  # closed, as some supervisors do; a result for it has nowhere to go
        os.dup2(2, 1)  # first: the number 1 must not be given to another file
        _kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(_kept, False)
    os.dup2(2, 1)
    if sys.stdout is None:
        sys.stdout = sys.stderr


@contextmanager
def standard_output() -> Iterator[IO[bytes]]:
    """Give the stream of the result, and keep all else away from it."""
    global _kept
    keep_standard_output()
    assert _kept is not None
    kept, _kept = _kept, None
    with os.fdopen(kept, "wb") as stdout:
        yield stdout


def say(stdout: IO[bytes], text: str) -> None:
    """Write text for people, or for programs, to standard output at once.

    Raises
    ------
    JobError
        When it cannot be written; a pipe that nobody reads is a BrokenPipeError.
    """
    try:
        stdout.write(text.encode("utf-8", "backslashreplace"))
        stdout.flush()
        return
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror
    raise JobError(f"Standard output cannot be written: {reason}.")
