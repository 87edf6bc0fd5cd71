"""The script that is active in this process: its modules, its environment, its working directory."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from daskmr.job.params.passed_env import applied
from daskmr.job.shipped.places import folder_of

if TYPE_CHECKING:
    from daskmr.job.script import Source

__all__ = ["activated"]

_ACTIVATION = threading.RLock()
_active: Source | None = None


@contextmanager
def activated(source: Source) -> Iterator[None]:
    global _active
    with _ACTIVATION:
        before = _active
        if before is source:
            yield
            return
        if before is not None:
            before.leave()
        source.enter()
        _active = source
        try:
            with applied(source.delivery.env), _working_directory_of(source):
                _arrive(source)
                yield
        finally:
            source.leave()
            if before is not None:
                before.enter()
            _active = before


def _arrive(source: Source) -> None:
    """Wait for the files of a script, and for those of the steps before it, whose classes it reads."""
    each: Source | None = source
    while each is not None:
        if each.shipped.is_expected:
            each.shipped.arrive(folder_of(source.delivery.files) if each.shipped.sent else "")
        each = each.before


@contextmanager
def _working_directory_of(source: Source) -> Iterator[None]:
    """Hide a script's changes of the working directory from the run, whose paths may be relative."""
    before = _working_directory()
    if source.directory is not None:
        with suppress(FileNotFoundError):  # the script will notice when it opens a file there
            os.chdir(source.directory)
    try:
        yield
    finally:
        directory = _working_directory()
        source.directory = None if directory == before else directory
        if before is not None and directory != before:
            os.chdir(before)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the directory has been removed
        return None
