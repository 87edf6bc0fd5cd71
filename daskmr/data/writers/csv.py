"""CSV as RFC 4180 has it: commas, quotes where needed, lines that end in CR LF, and a header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat, Sink
from daskmr.data.writers.separated import SeparatedRows, open_separated
from daskmr.data.writers.text import TextWriter

__all__ = ["FORMAT"]


def _rows(columns: Columns) -> SeparatedRows:
    return SeparatedRows(columns, ",", "\r\n")


def _open(
    sink: Sink, header: Sequence[Any], reports: Sequence[Any], columns: Columns
) -> TextWriter:
    return open_separated(sink, header, reports, columns, _rows(columns))


FORMAT = OutputFormat("csv", (".csv",), _rows, _open)
