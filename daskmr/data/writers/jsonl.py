"""JSON lines: each row is an object with a name for each part of the key and the value."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat
from daskmr.data.writers.rows import fields_of, named
from daskmr.data.writers.text import TextWriter, joined
from daskmr.job.json_text import RowError, to_json

__all__ = ["FORMAT", "JsonRows"]

# An escape that is not the second half of a pair; after a backslash it is text.
_BYTE = r"(?<!\\)(?<!\\ud[89ab][0-9a-f]{2})(?:\\\\)*\\udc[89a-f]"


class JsonRows:
    """Rows as lines of JSON."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._has_escapes = False

    def pair(self, key: Any, value: Any) -> tuple[str, int]:
        names, cells = named(key, value, self._columns)
        return self.json(dict(zip(names, cells, strict=True)))

    def fields(self, values: Sequence[Any]) -> tuple[str, int]:
        return self.json(dict(zip(fields_of(values, self._columns), values, strict=True)))

    def line(self, text: str) -> tuple[str, int]:
        try:
            return self.json(json.loads(text))
        except ValueError:
            raise RowError(
                f"An output of JSON lines cannot hold the line {text!r:.80}, which is not JSON. Use "
                "context.write(key, value) or context.writejson(object)."
            ) from None

    def json(self, value: Any) -> tuple[str, int]:
        line = f"{to_json(value)}\n"
        return line, len(line)

    def pack(self, entries: Sequence[str]) -> str:
        text = "".join(entries)
        self._has_escapes = self._has_escapes or ("\\udc" in text and bool(re.search(_BYTE, text)))
        return text

    def report(self) -> bool | None:
        """Return whether a row has bytes that are not UTF-8, escaped like a lone surrogate."""
        found, self._has_escapes = self._has_escapes, False
        return found or None


FORMAT = OutputFormat("jsonl", (".jsonl", ".ndjson"), JsonRows, joined, TextWriter)
