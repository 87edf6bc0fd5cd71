"""Tab-separated values: like CSV, with tabs, and lines that end in LF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat
from daskmr.data.writers.separated import SeparatedRows, header_of
from daskmr.data.writers.text import TextWriter

__all__ = ["FORMAT"]


def _rows(columns: Columns) -> SeparatedRows:
    return SeparatedRows(columns, "\t", "\n")


def _prepare(header: Sequence[Any], reports: Sequence[Any], columns: Columns) -> str:
    return header_of(header, reports, columns, _rows(columns))


FORMAT = OutputFormat("tsv", (".tsv", ".tab"), _rows, _prepare, TextWriter)
