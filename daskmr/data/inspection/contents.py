"""Recognise the format of a file from the start of its content."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.sniffing import (
    HEAD_BYTES,
    LINE_CHARACTERS,
    PARQUET,
    describe_lines,
    form_of,
    format_of,
    unpack_command,
)
from daskmr.errors import InputError, TaskFailed
from daskmr.job.declared import names_of

__all__ = ["Content", "kind_of_text", "look"]

_BYTES = 1 << 18  # of data that are looked at
_LINES = 500
_ROWS = 200  # of Parquet
_ENOUGH = 0.95  # share of the lines that must have a form
_CELLS = ("int", "float", "date", "bool")
_TEXT_FILES = {"csv": ",", "tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file.

    - `records`: the format that reads it, ``"read"`` if a function in the script may; ``""`` if none.
    - `looks`: a noun phrase for it.
    - `compression`: its name, or ``""``.
    - `problem`: why it cannot be read, and what to do.
    - `lines`: its first lines, or rows as JSON.
    - `values`: the values of its first records, as `map` gets them.
    - `columns`: names for the columns of a file without a header.
    - `header`: the names of its columns.
    - `separator`: that of the columns, where only the script can read them.
    """

    records: str = ""
    looks: str = "no data"
    compression: str = ""
    problem: str = ""
    lines: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    columns: tuple[str, ...] = ()
    header: tuple[str, ...] = ()
    separator: str = ""


def look(source: str | BinaryIO, path: str, limit: int = _BYTES) -> Content:
    """Look at the start of a file.

    - `source`: its path, or a stream with random access.
    - `path`: its name, for its extension and for messages.
    """
    codec: list[str] = []

    def join(
        streams: Iterator[Iterator[bytes]], _: str, name: str, continues: bool
    ) -> Iterator[bytes]:
        codec.append(name)
        return chain.from_iterable(streams)

    data, ended, fault = bytearray(), True, ""
    try:
        for chunk in read_chunks(source, read_bytes=1 << 14, join=join):
            data += chunk
            if len(data) >= limit:
                ended = False
                break
    except CorruptFileError as error:
        fault = f"it is damaged: after {error.data_bytes:,} bytes of data, {error.reason}"
    except TaskFailed as error:
        fault = error.message
    except OSError as error:
        fault = f"it cannot be read: {error.strerror or error}"
    name = codec[0] if codec else ""
    if fault and not data:
        return Content(looks="data that cannot be read", problem=fault)
    content = _recognise(bytes(data), source, path, name, ended and not fault)
    if fault and not content.problem:
        content = _with(content, problem=fault)
    return _with(content, compression=name)


def _with(content: Content, **values: Any) -> Content:
    from dataclasses import replace

    return replace(content, **values)


def _recognise(data: bytes, source: str | BinaryIO, path: str, codec: str, ended: bool) -> Content:
    if not data:
        return Content()
    form = form_of(data[:HEAD_BYTES])
    if form is not None and form.name == PARQUET and not codec:
        return _look_at_parquet(source)
    if form is not None:
        command = unpack_command(form, path, codec)
        remedy = f". Extract or convert it: {command}" if command else "; convert it to text"
        return Content(looks=form.name, problem=f"it is {form.name}{remedy}")
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    if ended and not lines[-1]:
        lines.pop()
    elif not ended and len(lines) > 1:
        lines.pop()  # it is not complete
    if text.lstrip()[:1] in ("[", "{") and ended and (items := _document(text)) is not None:
        shown = tuple(json.dumps(item, ensure_ascii=False) for item in items[:10])
        return Content("read", _DOCUMENT, lines=shown, values=tuple(items))
    return _recognise_lines([line.rstrip("\r") for line in lines[:_LINES]], path)


def _document(text: str) -> list[Any] | None:
    """Return the items of a JSON document over several lines; ``None`` if it is none."""
    if isinstance(_json(text.lstrip().split("\n", 1)[0]), dict | list):
        return None
    document = _json(text)
    return document if isinstance(document, list) else None if document is None else [document]


def _recognise_lines(lines: list[str], path: str) -> Content:
    filled = [line for line in lines if line.strip()]
    first = tuple(filled[:10])
    if not filled:
        return Content("lines", "empty lines", lines=tuple(lines[:3]))
    if _is_binary(filled):
        problem = "it is binary data; write `read(stream, dims)` in the script (docs/records.md)"
        return Content(looks="binary data", problem=problem)
    documents = [value for line in filled if (value := _json(line)) is not None]
    if len(documents) >= _ENOUGH * len(filled):
        return Content("jsonl", "JSON lines", lines=first, values=tuple(documents))
    tabbed = [line for line in filled if "\t" in line]
    extension = path.lower().split(".")
    for name, separator in _TEXT_FILES.items():
        if name in extension[-2:] and (table := _table(lines, separator, 2)):
            return table
    if len(tabbed) == len(filled):
        return _recognise_tabs(lines, filled)
    looks = describe_lines([line[:LINE_CHARACTERS] for line in filled[:50]])
    rows = _table(lines, ",", 3)
    if looks not in _NO_TABLES and (looks == "CSV" or rows) and (rows or _table(lines, ",", 2)):
        return rows or _table(lines, ",", 2) or Content()
    separator = _SEPARATED.get(looks, "")
    if separator and (table := _table(lines, separator, 2)):
        return _with(table, records="read", looks=looks, separator=separator)
    if looks == "CSV":
        looks = "text without tabs"
    if tabbed:
        looks = f"lines, of which {len(tabbed):,} of {len(filled):,} hold a tab"
    return Content(format_of(looks), looks, lines=first, values=tuple(filled))


_DOCUMENT = "a JSON document over several lines"
_NO_TABLES = ("the access log of a web server", "XML or HTML", _DOCUMENT)
_SEPARATED = {"CSV with semicolons": ";", "columns separated by |": "|"}


def _recognise_tabs(lines: list[str], filled: list[str]) -> Content:
    """Distinguish TSV from lines of key, tab and value."""
    widths = Counter(line.count("\t") for line in filled)
    if len(widths) == 1 and (table := _table(lines, "\t", 2)):
        rows = [line.split("\t") for line in filled]
        if 1 not in widths or (table.header and _is_telling(rows)):
            return table
    values = [line.partition("\t")[2] for line in filled]
    documents = [value for text in values if (value := _json(text)) is not None]
    is_json = len(documents) >= _ENOUGH * len(filled)
    looks = "lines of key, tab and value"
    return Content(
        "keyed",
        f"{looks}, the value in JSON" if is_json else looks,
        lines=tuple(filled[:10]),
        values=tuple(documents if is_json else values),
    )


def _is_binary(lines: Sequence[str]) -> bool:
    text = "".join(lines)[:4096]
    odd = sum((c < " " and c not in "\t\r\x1b\x0b\x0c") or "\udc80" <= c <= "\udcff" for c in text)
    return 10 * odd > len(text) or "\0" in text


def _json(line: str) -> Any:
    """Return the object or array in a line; ``None`` if there is none."""
    if not line.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# --- tables ---------------------------------------------------------------------------------------


def _table(lines: Sequence[str], separator: str, least: int) -> Content | None:
    """Return the content of rows of the same width; ``None`` if they are not a table.

    - `least`: the smallest number of columns.
    """
    try:
        found = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
        rows = [row for row in found if row]
    except csv.Error:
        return None
    widths = Counter(map(len, rows))
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    if width < least or count < _ENOUGH * (len(rows) - 1) or (len(rows) < 2 and least > 1):
        return None
    if len(rows[0]) != width:
        return None
    name = "tsv" if separator == "\t" else "csv"
    has_header = _has_header([row for row in rows if len(row) == width])
    header = rows[0] if has_header else [f"column{n}" for n in range(1, width + 1)]
    body = [row for row in rows[has_header:] if len(row) == width]
    return Content(
        name,
        f"{name.upper()} with{'' if has_header else 'out'} a header",
        lines=tuple(lines[has_header : 10 + has_header]),
        values=tuple(dict(zip(header, row, strict=True)) for row in body),
        columns=() if has_header else tuple(header),
        header=tuple(header) if has_header else (),
    )


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    first, rest = rows[0], rows[1:]
    try:
        names_of(list(first), "columns")
    except InputError:  # one is empty, or occurs twice
        return False
    if any(kind_of_text(cell) in _CELLS for cell in first):
        return False
    if _is_telling(rows):
        return True
    plain = all(re.fullmatch(r"[^\W\d][\w .()/%#-]{0,60}", cell) for cell in first)
    return plain and not any(cell in {row[n] for row in rest} for n, cell in enumerate(first))


def _is_telling(rows: Sequence[Sequence[str]]) -> bool:
    """Check for a column of numbers or dates below a text."""
    rest = rows[1:]
    return any(
        kind_of_text(cell) not in _CELLS and {kind_of_text(row[n]) for row in rest} <= {*_CELLS, ""}
        for n, cell in enumerate(rows[0])
        if rest and any(row[n] for row in rest)
    )


def kind_of_text(text: str) -> str:
    """Return the type that a text may be converted to; ``""`` for the empty text.

    >>> [kind_of_text(text) for text in ("7", "7.5", "2024-01-31 10:00:00", "true", "web1")]
    ['int', 'float', 'date', 'bool', 'str']
    """
    if not text:
        return ""
    if re.fullmatch(r"[+-]?\d+", text):
        return "int"
    if re.fullmatch(r"[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?", text):
        return "float"
    if re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", text):
        return "date"
    return "bool" if text.lower() in ("true", "false") else "str"


# --- Parquet --------------------------------------------------------------------------------------


def _look_at_parquet(source: str | BinaryIO) -> Content:
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        problem = "reading it needs pyarrow: pip install 'daskmr[parquet]'"
        return Content("parquet", PARQUET, problem=problem)
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        if not isinstance(source, str):
            source.seek(0)
        with ParquetFile(source) as parquet:
            schema = parquet.schema_arrow
            batch = next(parquet.iter_batches(_ROWS, use_threads=False), None)
            rows = batch.to_pylist() if batch is not None else []
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        return Content("parquet", PARQUET, problem=f"it cannot be read: {reason}")
    shown = tuple(json.dumps(row, default=str, ensure_ascii=False) for row in rows[:10])
    return Content("parquet", "Parquet", lines=shown, values=tuple(rows), header=(*schema.names,))
