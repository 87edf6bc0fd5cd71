"""CSV as RFC 4180 has it: commas, quotes where needed, lines that end in CR LF, and a header."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat
from daskmr.data.writers.separated import SeparatedRows, header_of
from daskmr.data.writers.text import TextWriter

__all__ = ["FORMAT"]


def _rows(columns: Columns) -> SeparatedRows:
    return SeparatedRows(columns, ",", "\r\n")


def _prepare(header: Sequence[Any], reports: Sequence[Any], columns: Columns) -> str:
    return header_of(header, reports, columns, _rows(columns))


FORMAT = OutputFormat("csv", (".csv",), _rows, _prepare, TextWriter)
