"""Deliberate failures: each says what, where and what to do, and carries its exit code."""

from __future__ import annotations

# `python -m daskmr` would still take other modules from the working directory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Failure = TypeVar("_Failure", "JobError", "TaskFailed")

__all__ = [
    "DaskMRError", "InputError", "Interrupted", "JobError", "NothingMatchedError", "TaskFailed",
]  # fmt: skip


class DaskMRError(Exception):
    """A failure with a message for the user; base of all that daskmr raises on purpose.

    - `exit_code`: what the command line exits with.
    - `details`: the traceback of the user's own code, or ``""``; shown under the message.
    - `history`: what was recorded of the run until then, if there was one.
    """

    exit_code = 1
    history: object = None

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class JobError(DaskMRError):
    """The job started and failed: exit code 1, and no output.

    - `files`: input files, relative to the data dir, without which the job may succeed.
    - `file`: the input file at which it failed, relative to the data dir, or ``""``.
    - `record`: the beginning of the record, or ``""``.
    - `skip_reason`: why a run that skips `files` does so; ``""`` where their worker process died.
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

    - `message`: one paragraph for the user: what, where, what to do.
    - `details`: the traceback of the user's own code, or ``""``.
    - `files`, `file`, `record`, `skip_reason`: as those of `JobError`.
    """

    file = ""
    record = ""
    skip_reason = ""

    def __init__(self, message: str, details: str = "", files: tuple[str, ...] = ()) -> None:
        self.message, self.details, self.files = _capped(message), _capped(details), files
        super().__init__(self.message, self.details)

    def as_kind(self, kind: Callable[[str, str], _Failure]) -> _Failure:
        """Return an error of another kind that says the same, without this one's traceback."""
        failure = kind(self.message, self.details)
        failure.files, failure.file, failure.record = self.files, self.file, self.record
        failure.skip_reason = self.skip_reason
        return failure


_LONGEST_TEXT = 20_000


def _capped(text: str) -> str:
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"
