"""Errors for the user: each says what failed, where and what to do, and has an exit code."""

from __future__ import annotations

# Nothing is imported: `python -m daskmr` would still find modules in the working directory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    _Failure = TypeVar("_Failure", "JobError", "TaskFailed")
    _AnyFailure = TypeVar("_AnyFailure", "DaskMRError", "TaskFailed")

__all__ = [
    "DaskMRError", "InputError", "Interrupted", "JobError", "LockHeldError", "NothingMatchedError",
    "TaskFailed", "foreign",
]  # fmt: skip


class DaskMRError(Exception):
    """A failure with a message for the user; the base of all errors that daskmr raises on purpose.

    - `exit_code`: the exit code of the command line.
    - `details`: the traceback of the user's own code, or ``""``; shown under the message.
    - `history`: the history of the run so far, if there was one.
    - `is_foreign`: the input is not as it was said to be, so ``daskmr inspect`` helps.
    """

    exit_code = 1
    is_foreign = False
    history: object = None

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
        if details:  # so that Python shows the user's own code, too
            self.add_note(details.rstrip())

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the cells, the user's own frames, and the message."""
        import os
        import traceback

        own, lines = os.path.dirname(os.path.abspath(__file__)), []
        for frame in traceback.extract_tb(self.__traceback__):
            if frame.filename.startswith(own + os.sep):
                break
            if "IPython" not in frame.filename and "ipykernel" not in frame.filename:
                lines += traceback.format_list([frame])[0].splitlines()
        notes = "\n".join(getattr(self, "__notes__", ())).splitlines()
        return [*lines, f"{type(self).__name__}: {self}", *notes]


class JobError(DaskMRError):
    """The job failed after it was started: exit code 1, and no output.

    - `files`: input files, relative to the data dir; the job may succeed without them.
    - `file`: the input file at which it failed, relative to the data dir, or ``""``.
    - `record`: the beginning of the record, or ``""``.
    - `skip_reason`: the reason for a run to skip `files`; ``""`` if they crash their worker.
    - `is_death`: whether a worker died at the file, or took too long for it.
    """

    files: tuple[str, ...] = ()
    file = ""
    record = ""
    skip_reason = ""
    is_death = False


class InputError(DaskMRError):
    """Bad usage or input, found before any work: exit code 2."""

    exit_code = 2


class NothingMatchedError(DaskMRError):
    """The layout fits, but the filter matched no file: exit code 3."""

    exit_code = 3


class LockHeldError(DaskMRError):
    """Another run holds the lock: exit code 4."""

    exit_code = 4


class Interrupted(BaseException):
    """A signal asked the job to stop; not an ``Exception``, so ``except Exception`` does not catch it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum
        self.exit_code = 128 + signum


class TaskFailed(Exception):
    """Raised by a task on a worker; contains only short strings, so it is small and can be pickled.

    - `message`: one paragraph for the user: what failed, where, and what to do.
    - `details`: the traceback of the user's own code, or ``""``.
    - `files`, `file`, `record`, `skip_reason`, `is_foreign`: as in `JobError`.
    """

    file = ""
    record = ""
    skip_reason = ""
    is_foreign = False

    def __init__(self, message: str, details: str = "", files: tuple[str, ...] = ()) -> None:
        self.message, self.details, self.files = _capped(message), _capped(details), files
        super().__init__(self.message, self.details)

    def as_kind(self, kind: Callable[[str, str], _Failure]) -> _Failure:
        """Return an error of another class with the same contents, without this one's traceback."""
        failure = kind(self.message, self.details)
        failure.files, failure.file, failure.record = self.files, self.file, self.record
        failure.skip_reason, failure.is_foreign = self.skip_reason, self.is_foreign
        if self.record:
            failure.add_note(f"The record: {self.record}")
        return failure


def foreign(error: _AnyFailure) -> _AnyFailure:
    """Mark an error of input that is not as it was said to be, and return it."""
    error.is_foreign = True
    return error


_LONGEST_TEXT = 20_000


def _capped(text: str) -> str:
    half = _LONGEST_TEXT // 2
    return text if len(text) <= _LONGEST_TEXT else f"{text[:half]} ... {text[-half:]}"
