"""Deliberate failures: each says what, where and what to do, and carries its exit code."""

from __future__ import annotations

# `python -m daskmr` would still take other modules from the working directory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Failure = TypeVar("_Failure", "JobError", "TaskFailed")

__all__ = [
    "DaskMRError",
    "InputError",
    "Interrupted",
    "JobError",
    "NothingMatchedError",
    "TaskFailed",
]


class DaskMRError(Exception):
    """A failure with a message for the user; base of all that daskmr raises on purpose.

    Attributes
    ----------
    exit_code : int
        What the command line exits with.
    details : str
        The traceback of the user's own code, or ``""``; shown under the message.
    history : daskmr.history.History or None
        What was recorded of the run until then, if there was one.
    """

    exit_code = 1
    history: object = None

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class JobError(DaskMRError):
    """The job started and failed: exit code 1, and no output.

    Attributes
    ----------
    files : tuple of str
        Input files, relative to the data dir, without which the job may succeed.
    file : str
        The input file at which it failed, relative to the data dir, or ``""``.
    record : str
        The beginning of the record, or ``""``.
    skip_reason : str
        Why a run that skips `files` does so; ``""`` where their worker process died.
    """

    files: tuple[str, ...] = ()
    file = ""
    record = ""
    skip_reason = ""


class InputError(DaskMRError):
    """Bad usage or input, found before any work: exit code 2."""

    exit_code = 2


class NothingMatchedError(DaskMRError):
    """The filter matched no file: exit code 3."""

    exit_code = 3


class Interrupted(BaseException):
    """A signal asked the job to stop; not an ``Exception``, so that no handler catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = 128 + signum


class TaskFailed(Exception):
    """Raised by a task on a worker; it holds capped strings only, so it pickles and stays small.

    Parameters
    ----------
    message : str
        One paragraph for the user: what, where, what to do.
    details : str
        The traceback of the user's own code, or ``""``.
    files : tuple of str
        Input files, relative to the data dir, without which the task may succeed.

    Attributes
    ----------
    file : str
        The input file that it failed at, relative to the data dir, or ``""``.
    record, skip_reason : str
        As those of `JobError`.
    """

    file = ""
    record = ""
    skip_reason = ""

    def __init__(self, message: str, details: str = "", files: tuple[str, ...] = ()) -> None:
        message, details = _capped(message), _capped(details)
        super().__init__(message, details)
        self.message = message
        self.details = details
        self.files = files

    def as_kind(self, kind: Callable[[str, str], _Failure]) -> _Failure:
        """Return a new error of this `kind` that says the same, without this one's traceback."""
        failure = kind(self.message, self.details)
        failure.files, failure.file, failure.record = self.files, self.file, self.record
        failure.skip_reason = self.skip_reason
        return failure


_LONGEST_TEXT = 20_000


def _capped(text: str) -> str:
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"
