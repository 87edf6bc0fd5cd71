"""JSON lines: each row is an object with a name for each part of the key and the value."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from daskmr.data.writers import Columns, OutputFormat
from daskmr.data.writers.rows import fields_of, named
from daskmr.data.writers.text import TextWriter, joined
from daskmr.job.json_text import RowError, to_json

__all__ = ["FORMAT", "JsonRows"]


class JsonRows:
    """Rows as lines of JSON."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

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
        return "".join(entries)

    def report(self) -> None:
        return None


FORMAT = OutputFormat("jsonl", (".jsonl", ".ndjson"), JsonRows, joined, TextWriter)
