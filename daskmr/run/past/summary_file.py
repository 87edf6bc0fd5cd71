"""The summary of a run as a JSON file, for a scheduler: written whole, whatever the outcome."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr._version import __version__
from daskmr.diagnostics.report_file import SUMMARY, ReportFile
from daskmr.errors import JobError
from daskmr.run.past.outcome import describe_end, describe_result, exit_code_of
from daskmr.signals import hard_exit_code, on_hard_exit
from daskmr.text import masked

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["Summary", "summarised"]

_VERSION = 1


class Summary:
    """The summary of one command.

    Raises `InputError` if `path` cannot be a summary.

    - `scripts`: their paths.
    - `output`: the output as it was given.
    - `secrets`: values that the summary must not show.
    - `is_complete`: whether it is written, or must not be.
    - `problem`: why it could not be written; ``""`` if it could.
    """

    def __init__(
        self,
        path: str,
        scripts: Sequence[str] = (),
        output: str = "-",
        secrets: Iterable[str | None] = (),
    ) -> None:
        self.scripts, self.output = scripts, output
        self._file, self._secrets = ReportFile(path, kind=SUMMARY), tuple(secrets)
        self._started, self._result = clock.now(), dict[str, Any]()
        self._written: tuple[str | None, ...] = ()
        self.is_complete = False
        self.problem = ""

    def protect(self, *others: str | None) -> None:
        """Raise InputError if it would replace one of these files; then nothing is written to it."""
        self.is_complete = True
        self._file.protect(*others)
        self.is_complete = False

    def succeeded(self, result: Result) -> None:
        """Take the figures of a run that is complete."""
        self._started, self._result = result.history.started, describe_result(result)
        self._written = tuple(each.output for each in result.outputs.values())

    def put(self, exit_code: int = 0, error: BaseException | None = None) -> None:
        """Write it, once; set `problem` if that fails."""
        if self.is_complete:
            return
        self.is_complete = True
        paths = [os.path.abspath(script) for script in self.scripts]
        path = self.output
        if path != "-" and "://" not in path:
            path = os.path.abspath(path) + "/" * path.endswith("/")
        content: Mapping[str, Any] = {
            "daskmr": __version__,
            "version": _VERSION,
            **describe_end(self._started, clock.now(), exit_code, error, self._secrets),
            "script": paths[0] if len(paths) == 1 else paths or None,
            "output": {"path": masked(path)},
            **self._result,
        }
        try:
            self._file.put(json.dumps(content, indent=1) + "\n", self._written)
        except JobError as failure:
            self.problem = str(failure)


@contextmanager
def summarised(summary: Summary | None) -> Iterator[Summary | None]:
    """Write the summary at the end of the block, or at a hard exit of the process."""
    if summary is None:
        yield None
        return
    with ExitStack() as stack:
        stack.callback(on_hard_exit(lambda: summary.put(hard_exit_code())))
        try:
            yield summary
        except BaseException as error:
            summary.put(exit_code_of(error), error)
            raise
        summary.put()
