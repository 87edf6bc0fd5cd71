"""Encode the results of reducers as bytes: one module for each output format.

`text` leaves what reducers write as it is; `jsonl`, `csv`, `tsv` and `parquet` make rows of it.
`contexts` passes them to the tasks, `compression` compresses the output as its suffix says, and
`output` decides where the bytes go. A new format is a new module with an `OutputFormat` called ``FORMAT``.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from daskmr.errors import InputError

if TYPE_CHECKING:
    from daskmr.job.row_context import Rows

__all__ = [
    "COMPRESSED",
    "FileWriter",
    "OutputFormat",
    "Sink",
    "choose_format",
    "format_called",
    "format_names",
    "notes_on",
]

Columns = tuple[str, ...] | None

_HELPERS = {"arrow_types", "compression", "contexts", "encoding", "named", "rows", "separated"}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
_OTHER_FORMATS = {
    ".arrow", ".avro", ".db", ".feather", ".html", ".ipc", ".json", ".ods", ".orc", ".parq", ".pickle",
    ".pkl", ".pq", ".sqlite", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zip",
}  # fmt: skip


class Sink(Protocol):
    """The output, as the writer of a format sees it."""

    def write(self, text: str) -> None:
        """Append text, as UTF-8."""

    def write_bytes(self, data: bytes) -> None:
        """Append bytes."""


class FileWriter(Protocol):
    """Writes one file of an output, in order."""

    def write(self, batch: Sequence[Any]) -> None:
        """Write what `Rows.pack` has returned, several at a time."""

    def close(self) -> None:
        """Write what is left; the sink stays open."""


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """An output format.

    - `name`: for ``--output-format``.
    - `suffixes`: the suffixes of outputs that are in this format.
    - `rows`: makes the rows, from the names of the columns if the script gives any; ``None`` leaves
      the text as it is.
    - `prepare`: called as ``prepare(header, reports, columns)``; `header` has the entries that
      `setup_reduce` wrote, and `reports` those of all parts, in order. It returns what all files of
      an output have in common, which can be pickled.
    - `open`: called as ``open(sink, prepared, first)`` to write a file; only the first file of an
      output has the header.
    - `is_binary`: whether it garbles a terminal.
    - `extra`: the module that it needs, and the extra that installs it.
    """

    name: str
    suffixes: tuple[str, ...]
    rows: Callable[[Columns], Rows] | None
    prepare: Callable[[Sequence[Any], Sequence[Any], Columns], Any]
    open: Callable[[Sink, Any, bool], FileWriter]
    is_binary: bool = False
    extra: tuple[str, str] | None = None

    def check(self) -> None:
        """Raise InputError if this installation lacks what the format needs."""
        if self.extra is not None:
            module, extra = self.extra
            try:
                importlib.import_module(module)
            except ImportError as error:
                raise InputError(
                    f"The output format {self.name} needs {module}, which cannot be imported "
                    f"({error}). Install it: pip install 'daskmr[{extra}]'"
                ) from None


@cache
def format_names() -> tuple[str, ...]:
    """Return the names of all formats, text first.

    >>> format_names()
    ('text', 'csv', 'jsonl', 'parquet', 'tsv')
    """
    names = {module.name for module in pkgutil.iter_modules(__path__)} - _HELPERS
    return ("text", *sorted(names - {"text"}))


@cache
def format_called(name: str) -> OutputFormat:
    """Return a format by its name; raise InputError if there is none."""
    if name not in format_names():
        raise InputError(
            f"There is no output format {name!r}. Give --output-format one of: "
            f"{', '.join(format_names())}."
        )
    found: OutputFormat = importlib.import_module(f"{__name__}.{name}").FORMAT
    return found


def choose_format(output: str | None, name: str | None) -> OutputFormat:
    """Return the format of an output: the one called `name`, else by the suffix of the output.

    >>> choose_format("counts.csv.gz", None).name, choose_format("counts.csv/", None).name
    ('csv', 'csv')
    """
    if name is not None:
        return format_called(name)
    suffix = _suffix_of(output)
    if suffix in ("", ".txt"):
        return format_called("text")
    formats = map(format_called, format_names())
    return next((f for f in formats if suffix in f.suffixes), format_called("text"))


def _suffix_of(output: str | None) -> str:
    base, suffix = os.path.splitext((output or "").rstrip("/").lower())
    return os.path.splitext(base)[1] if suffix in COMPRESSED else suffix


def notes_on(output: str | None, name: str | None) -> tuple[str, ...]:
    """Return a note if an output is text, although its suffix means something else.

    >>> notes_on("counts.json", "text"), notes_on("counts.jsonl", None)
    ((), ())
    """
    suffix = _suffix_of(output)
    if name is not None or suffix not in _OTHER_FORMATS:
        return ()
    *others, last = (format_called(name).suffixes[0] for name in format_names()[1:])
    return (
        f"{output} holds text, since there is no output format for {suffix}: let its name end in "
        f"{', '.join(others)} or {last}, or give --output-format",
    )
