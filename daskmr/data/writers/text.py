"""Text as the script writes it: the default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat, Sink

__all__ = ["FORMAT", "TextWriter", "joined"]


class TextWriter:
    """Writes lines of text, which rows of a text format are, too."""

    def __init__(self, sink: Sink, header: str, first: bool) -> None:
        self._sink = sink
        sink.write(header if first else "")

    def write(self, batch: Sequence[str]) -> None:
        self._sink.write("".join(batch))

    def close(self) -> None:
        """Do nothing, because all is written."""


def joined(header: Sequence[str], reports: Sequence[Any], columns: Columns) -> str:
    """Return a header that is text."""
    return "".join(header)


FORMAT = OutputFormat("text", (".txt",), None, joined, TextWriter)
