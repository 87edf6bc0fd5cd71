"""The rule for a record: what `map` is called with, and when a record is bad.

A line is split at its first tab; without one it is a bad record. So is one for which `map` raises a
``ValueError``, unless that comes from the process and not from the record: what was written for it is
then taken back. Anything else that `map` raises fails the job.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from daskmr.data.readers.lines import OversizedLine
from daskmr.job.process_errors import explain_process_error
from daskmr.tasks.guard import Returned
from daskmr.tasks.user_calls import Call, calls_user

__all__ = ["NO_TAB", "TOO_LONG", "Output", "RecordMapper"]

NO_TAB = "no tab in the line"
TOO_LONG = "longer than max-record-bytes"


class Output(Protocol):
    """What `map` writes to.

    - `context`: its `user` is given to `map`.
    - `pending`, `hurry`: what was written and is still to be taken, and whether that must not wait.
    - `batch`: pairs or lines that may wait.
    """

    @property
    def context(self) -> Any: ...
    @property
    def pending(self) -> list[Any]: ...
    @property
    def hurry(self) -> list[Any]: ...
    @property
    def batch(self) -> int: ...
    def take_back(self, mark: int) -> None: ...
    def flush(self) -> None: ...
    def hasten(self) -> None: ...


OnBad = Callable[[int, str, str, ValueError | None], object]


class RecordMapper:
    """Calls `map` for one line after the other.

    - `user_map`: the user's ``map(key, dims, value, context)``.
    - `output`: what it writes to.
    - `on_bad`: called as ``on_bad(number, line, reason, error)`` for a bad record; `error` is what
      `map` raised, if it was called.
    - `file`, `number`, `line`: the file that is mapped, and the last line that was begun with.
    """

    def __init__(self, user_map: Callable[..., Any], output: Output, on_bad: OnBad) -> None:
        self._map = user_map
        self._output = output
        self._on_bad = on_bad
        self.begin("")

    def begin(self, file: str) -> None:
        """Begin with a file."""
        self.file, self.number, self.line = file, 0, ""

    @calls_user(lambda local: Call("map", local["self"].file, local["number"]))
    def map(self, lines: Iterable[str], has_cr: bool, dims: list[str]) -> None:
        """Map lines; what `map` raises beside a bad record comes out, and `line` is where it was.

        - `lines`: the next lines of the file.
        - `has_cr`: they may end with a carriage return, which is no part of the value.
        - `dims`: dimensions of the file.
        """
        # Nothing here costs a call for each record but `map` itself.
        user_map, output = self._map, self._output
        user, pending, hurry = output.context.user, output.pending, output.hurry
        number, line = self.number, ""
        try:
            for line in lines:
                number += 1
                key, tab, value = line.partition("\t")
                if not tab:
                    reason = TOO_LONG if isinstance(line, OversizedLine) else NO_TAB
                    self._on_bad(number, line, reason, None)
                    continue
                if has_cr:
                    value = value.rstrip("\r")
                mark = len(pending)
                try:
                    returned = user_map(key, dims, value, user)
                    if returned is not None:
                        raise Returned(returned)
                except ValueError as error:
                    if explain_process_error(error):
                        raise
                    output.take_back(mark)
                    self._on_bad(number, line, type(error).__name__, error)
                if mark >= output.batch:
                    output.flush()
                elif hurry:
                    output.hasten()
        finally:
            self.number, self.line = number, line
