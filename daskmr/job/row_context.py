"""The context of functions that write to an output with columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from daskmr.job.contexts import HUGE, OutputContext
from daskmr.job.json_text import RowError
from daskmr.job.tracebacks import short_repr

__all__ = ["RowContext", "Rows"]


class Rows(Protocol):
    """The rows of one output format, made where the script writes them.

    Each function returns an entry, whose form is the format's own, and its size in bytes; each raises
    `RowError` for what the format cannot hold.
    """

    def pair(self, key: Any, value: Any) -> tuple[Any, int]:
        """Make a row of the parts of a key and of a value."""

    def fields(self, values: Sequence[Any]) -> tuple[Any, int]:
        """Make a row of values, from ``writecsv``."""

    def line(self, text: str) -> tuple[Any, int]:
        """Make a row of a line, from ``writeline``."""

    def json(self, value: Any) -> tuple[Any, int]:
        """Make a row of an object, from ``writejson``."""

    def pack(self, entries: Sequence[Any]) -> Any:
        """Return what a part keeps of entries that are certain."""

    def report(self) -> Any:
        """Return what the client must know of all packed entries since the last call."""


class RowContext(OutputContext):
    """Collector of the rows of an output with columns.

    - `rows`: makes the entries.
    - `size`: bytes in `written`, until the caller resets it.
    """

    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        self.size = 0

    def _add(self, made: tuple[Any, int]) -> None:
        entry, size = made
        self._append(entry)
        self.size += size
        if size > HUGE:
            self.hurry.append(None)

    def write(self, key: Any, value: Any) -> None:
        """Write the parts of `key` and `value` as a row."""
        self._add(self.rows.pair(key, value))

    def writeline(self, text: Any) -> None:
        """Write a row that is `text`, in the form that the format has for it."""
        self._add(self.rows.line(str(text)))

    def writecsv(self, values: Any) -> None:
        """Write `values` as a row."""
        if isinstance(values, str | bytes | dict | set | frozenset):
            raise RowError(
                "context.writecsv takes the values of a row in order, but was given "
                f"{short_repr(values)}."
            )
        self._add(self.rows.fields([*values]))

    def writejson(self, value: Any) -> None:
        """Write an object as a row."""
        self._add(self.rows.json(value))
