"""A file about a run that no setting names: checked before the run, and written whole after it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from typing import NamedTuple

from daskmr.errors import InputError, JobError
from daskmr.files import AtomicFile, take_access
from daskmr.signals import on_hard_exit

__all__ = ["HISTORY", "PAGE_BEGINS", "REPORT", "SUMMARY", "SUMMARY_BEGINS", "Kind", "ReportFile"]

PAGE_BEGINS = b"<!DOCTYPE html>"
"""The first bytes of a page."""
SUMMARY_BEGINS = b'{\n "daskmr": "'
"""The first bytes of a summary."""


class Kind(NamedTuple):
    """A kind of such files."""

    noun: str
    option: str
    begins: bytes  # by which an earlier one is recognised, which may be replaced


REPORT = Kind("report", "--report", PAGE_BEGINS)
SUMMARY = Kind("summary", "--summary-json", SUMMARY_BEGINS)
HISTORY = Kind("page", "--html", PAGE_BEGINS)


class ReportFile:
    """A report, or another `kind` of file, checked before the run.

    Raises `InputError` if `path` cannot be one. It must not replace any of the `others`, which
    are files of the job.
    """

    def __init__(
        self, path: str | os.PathLike[str], *others: str | None, kind: Kind = REPORT
    ) -> None:
        self.name, self._kind = os.fspath(path), kind
        self._path = os.path.realpath(self.name)
        folder, noun = os.path.dirname(self._path), kind.noun
        if self.name == "-":
            raise InputError(f"A {noun} cannot be written to standard output. {self._advice}")
        if os.path.isdir(self._path):
            self._refuse("is a directory")
        self.protect(*others)
        if os.path.lexists(self._path) and not _begins(self._path, kind.begins):
            self._refuse(f"would replace a file that is not a {noun}")
        if not os.path.isdir(folder):
            raise InputError(f"The {noun}'s directory {folder!r} does not exist. Create it first.")
        if not os.access(folder, os.W_OK):
            raise InputError(f"The {noun} cannot be written to {folder!r}. {self._advice}")

    def protect(self, *others: str | None) -> None:
        """Raise InputError if it would replace one of these files."""
        if any(other and os.path.realpath(other) == self._path for other in others):
            self._refuse("would replace a file of the job")

    @property
    def _advice(self) -> str:
        return f"Name another file with {self._kind.option}."

    def _refuse(self, problem: str) -> None:
        raise InputError(f"The {self._kind.noun} {self.name!r} {problem}. {self._advice}")

    def put(self, text: str, written: Iterable[str | None] = ()) -> None:
        """Write it atomically.

        - `written`: outputs of the run, whose names were not known before.
        Raises `JobError` if the disk is full or fails, or if it would replace one of those.
        """
        noun = self._kind.noun
        if any(path and os.path.realpath(path) == self._path for path in written):
            raise JobError(
                f"The {noun} {self.name!r} was not written, because the job has written an output to it. {self._advice}"
            )
        try:
            with AtomicFile(self._path) as file, ExitStack() as stack:
                stack.callback(on_hard_exit(file.discard))
                if os.path.exists(self._path):
                    take_access(file.file.fileno(), [os.stat(self._path)])
                file.file.write(text.encode())
                file.sync()
                file.commit()
            return
        except OSError as error:
            reason = error.strerror or error
        raise JobError(f"The {noun} {self.name!r} cannot be written: {reason}.")


def _begins(path: str, start: bytes) -> bool:
    """Check whether a file is empty or begins so; anything else may be input, and must be kept."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return start.startswith(file.read(len(start)))
    except OSError:
        return False
