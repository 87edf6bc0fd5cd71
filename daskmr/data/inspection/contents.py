"""Recognise the format of a file from the start of its content."""

from __future__ import annotations

import codecs
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from os.path import basename
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.sniffing import (
    ACCESS_LOG_NAME,
    HEAD_BYTES,
    LINE_CHARACTERS,
    PARQUET,
    SEPARATED,
    describe_lines,
    form_of,
    format_of,
    recode_command,
    unpack_command,
)
from daskmr.errors import TaskFailed
from daskmr.job.declared import distinct_names
from daskmr.text import shell_path

__all__ = ["Content", "kind_of_text", "look"]

_BYTES = 1 << 18  # of data that are looked at
_LINES = 500
_ROWS = 200  # of Parquet
_TITLE_LINES = 5  # that may stand above a header
_ENOUGH = 0.95  # share of the lines that must have a form
_CELLS = ("int", "float", "date", "bool")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a file.

    - `records`: the format that reads it, ``"read"`` if a function in the script may; ``""`` if none.
    - `looks`: a noun phrase for it.
    - `compression`: its name, or ``""``.
    - `problem`: why it cannot be read, and what to do; may end in a command line.
    - `is_damaged`: it is, so that ``--skip-corrupt-files`` skips it.
    - `lines`: its first lines, or rows as JSON.
    - `values`: the values of its first records, as `map` gets them.
    - `header`: the names of the columns.
    - `columns`: the same, if the script must name them; `why`, in a few words.
    """

    records: str = ""
    looks: str = "no data"
    compression: str = ""
    problem: str = ""
    is_damaged: bool = False
    lines: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    header: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    why: str = ""

    @property
    def kind(self) -> tuple[str, bool]:
        """What files that are read together have in common."""
        return self.records, self.looks == ACCESS_LOG_NAME


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

    data, ended, fault, is_damaged = bytearray(), True, "", False
    try:
        for chunk in read_chunks(source, read_bytes=1 << 14, join=join):
            data += chunk
            if len(data) >= limit:
                ended = False
                break
    except CorruptFileError as error:
        fault = f"it is damaged: after {error.data_bytes:,} bytes of data, {error.reason}"
        is_damaged = True
    except TaskFailed as error:
        fault = error.message
    except OSError as error:
        fault = f"it cannot be read: {error.strerror or error}"
    name = codec[0] if codec else ""
    content = Content(looks="data that cannot be read")
    if data or not fault:
        content = _recognise(bytes(data), source, path, name, ended and not fault)
    problem = content.problem or fault
    return replace(content, compression=name, problem=problem, is_damaged=is_damaged)


def _recognise(data: bytes, source: str | BinaryIO, path: str, codec: str, ended: bool) -> Content:
    if not data:
        return Content()
    form = form_of(data[:HEAD_BYTES])
    if form is not None and form.name == PARQUET and not codec:
        return _look_at_parquet(source)
    if form is not None:
        command = unpack_command(form, path, codec)
        remedy = f". Convert it: {command}" if command else "; convert it to text"
        if command and form.extract:
            remedy = (
                f". Extract it: {command} && daskmr inspect {shell_path(f'{basename(path)}.d')}"
            )
        return Content(looks=form.name, problem=f"it is {form.name}{remedy}")
    text = data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    lines = text.split("\n")
    if len(lines) > 1 and not (ended and lines[-1]):
        lines.pop()  # it is empty, or not complete
    lines = [line.rstrip("\r") for line in lines[:_LINES]]
    content = (
        _json_lines(lines) or _document(text, path, ended) or _recognise_lines(lines, path, codec)
    )
    if content.records and not content.problem:
        return replace(content, problem=_explain_encoding(data, path, codec, ended))
    return content


def _explain_encoding(data: bytes, path: str, codec: str, ended: bool) -> str:
    """Explain what to do with text that is not UTF-8; ``""`` if it is."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, ended)
        return ""
    except UnicodeDecodeError:
        high = sum(byte > 0x7F for byte in data)
    if 4 * high > len(data) or "://" in path:
        return "it is not UTF-8. Convert it by iconv, from the encoding that it is in"
    undefined = b"\x81\x8d\x8f\x90\x9d"  # in Windows-1252
    encoding = "ISO-8859-1" if any(byte in data for byte in undefined) else "WINDOWS-1252"
    command = recode_command(path, codec, f"iconv -f {encoding} -t UTF-8")
    return f"it is not UTF-8, but {encoding} or similar. Convert it: {command}"


def _json_lines(lines: Sequence[str]) -> Content | None:
    """Return the content of lines of JSON; ``None`` if it is none, or a single array."""
    filled = [line for line in lines if line.strip()]
    documents = [value for line in filled if (value := _json(line)) is not None]
    if len(documents) < _ENOUGH * len(filled) or not documents:
        return None
    if len(filled) == 1 and isinstance(documents[0], list):
        return None
    return Content("jsonl", "JSON lines", lines=tuple(filled[:10]), values=tuple(documents))


_DOCUMENT = "a JSON document"


def _document(text: str, path: str, ended: bool) -> Content | None:
    """Return the content of a JSON document; ``None`` if it is none."""
    text = text.strip()
    if text[:1] not in ("{", "["):
        return None
    items: list[Any] = []
    try:
        document = json.loads(text)
        items = document if isinstance(document, list) else [document]
    except (ValueError, RecursionError) as error:
        is_one = describe_lines([text.partition("\n")[0]]) == _DOCUMENT_LINES
        if ended and not is_one:
            return None
        if ended:
            command = "" if "://" in path else f": jq -c . {shell_path(path)} > {shell_path(path)}l"
            remedy = f"If it holds several documents, put each into a line{command}"
            return Content(looks=_DOCUMENT, problem=f"it is not valid JSON: {error}. {remedy}")
        items = [*_first_items(text)]
        if not items and not is_one:
            return None
    shown = tuple(json.dumps(item, ensure_ascii=False) for item in items[:10])
    return Content("read", _DOCUMENT, lines=shown, values=tuple(items))


def _first_items(text: str) -> Iterator[Any]:
    """Yield the first items of an array, of which the rest may be missing."""
    end, decode = 1, json.JSONDecoder().raw_decode
    with suppress(ValueError, IndexError, RecursionError):
        while text[0] == "[":
            while text[end] in " \n\r\t,":
                end += 1
            item, end = decode(text, end)
            yield item


def _recognise_lines(lines: list[str], path: str, codec: str) -> Content:
    filled = [line for line in lines if line.strip()]
    first = tuple(filled[:10])
    if not filled:
        return Content("lines", "empty lines", lines=tuple(lines[:3]))
    if _is_binary(filled):
        problem = "it is binary data; write `read(stream, dims)` in the script (docs/records.md)"
        return Content(looks="binary data", problem=problem)
    looks = describe_lines([line[:LINE_CHARACTERS] for line in filled[:50] if line[0] != "#"])
    is_named = bool({"csv", "tsv"} & {*path.lower().split(".")[-2:]})
    tabbed = [line for line in filled if "\t" in line]
    if len(tabbed) == len(filled) and not is_named:
        return _recognise_tabs(lines, filled)
    if is_named or looks not in _NO_TABLES:
        table = _best_table(lines, is_named, looks)
        if table := table or _below_a_title(lines, is_named, looks, path, codec):
            return table
    if looks in SEPARATED:
        looks = "text without tabs"
    if tabbed:
        looks = f"lines, of which {len(tabbed):,} of {len(filled):,} hold a tab"
    return Content(format_of(looks) or "lines", looks, lines=first, values=tuple(filled))


_DOCUMENT_LINES = "a JSON document over several lines"
_NO_TABLES = (ACCESS_LOG_NAME, "XML or HTML", _DOCUMENT_LINES)


def _recognise_tabs(lines: list[str], filled: list[str]) -> Content:
    """Distinguish TSV from lines of key, tab and value."""
    widths = Counter(line.count("\t") for line in filled)
    if len(widths) == 1 and (table := _table(lines, "\t")):
        rows = [line.split("\t") for line in filled]
        if 1 not in widths or (table.header and not table.columns and _is_telling(rows)):
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
    odd = sum(c < " " and c not in "\t\r\x1b\x0b\x0c" for c in text)
    return 20 * odd > len(text) or "\0" in text


def _json(line: str) -> Any:
    """Return the object or array in a line; ``None`` if there is none."""
    if not line.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


# --- tables ---------------------------------------------------------------------------------------


def _best_table(lines: list[str], is_named: bool, looks: str) -> Content | None:
    """Return the content of the table with the most columns that lines may be; ``None`` if they are none.

    - `is_named`: the extension says that they are a table.
    - `looks`: what `describe_lines` says.
    """
    least = 2 if is_named or looks in SEPARATED else 3
    separators = ",;|\t" if is_named else ",;|" if least == 2 else ","
    if excel := re.fullmatch("sep=(.)", lines[0]):
        lines, separators, least = lines[1:], excel[1], 1
    plain = ["" if line.startswith("#") else line for line in lines]
    tables = [] if lines[1:] != plain[1:] else [_table(lines, each) for each in separators]
    for found in (tables, [_table(plain, each, "#") for each in separators]):
        wide = [t for t in found if t and (len(t.header) >= least or (is_named and _is_list(t)))]
        if wide:  # commas may be those of decimals
            return max(wide, key=lambda t: (n := len(t.header), n > 1 and t.records != "csv"))
    return None


def _is_list(table: Content) -> bool:
    """Check for a header and one column, which hold no comma; other marks may be in none of the lines."""
    return table.records in ("csv", "csv:#") and not table.columns


def _below_a_title(
    lines: list[str], is_named: bool, looks: str, path: str, codec: str
) -> Content | None:
    """Return the content of a table with a header below lines of title; ``None`` if it is none."""
    for above in range(1, min(_TITLE_LINES, len(lines) - 2) + 1):
        table = _best_table(lines[above:], is_named, looks) if lines[above].strip() else None
        if table and len(table.header) > 1 and not table.columns:
            first = "first line" if above == 1 else f"first {above} lines"
            remedy = f"drop the {first} above the header ({lines[0][:60]!r})"
            if "://" not in path:
                remedy += f": {recode_command(path, codec, f'tail -n +{above + 1}')}"
            return Content(
                "lines",
                f"{table.looks}, below a title",
                problem=remedy,
                lines=tuple([line for line in lines if line.strip()][:10]),
                values=tuple(lines),
            )
    return None


def _table(lines: Sequence[str], separator: str, comment: str = "") -> Content | None:
    """Return the content of rows of the same width; ``None`` if they are not a table."""
    try:
        found = csv.reader((f"{line}\n" for line in lines), delimiter=separator)
        rows = [row for row in found if row]
    except csv.Error:
        return None
    widths = Counter(map(len, rows))
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    if len(rows) < 2 or count < _ENOUGH * (len(rows) - 1) or len(rows[0]) != width:
        return None
    body = [row for row in rows if len(row) == width]
    has_header = _has_header(body)
    header = distinct_names(rows[0] if has_header else [""] * width)
    why = "" if has_header else "the file has no header"
    if has_header and len({*rows[0]}) < width:
        why = "the header names a column twice"
    if not why:
        header = tuple(rows[0])
    base, usual = ("tsv", "\t") if separator == "\t" else ("csv", ",")
    marks = separator.replace(usual, "") + comment
    said = ", ".join({"#": "comments", ";": "semicolons"}.get(mark, mark) for mark in marks)
    return Content(
        f"{base}:{marks}" if marks else base,
        f"{base.upper()} {f'({said}) ' if said else ''}with{'' if has_header else 'out'} a header",
        lines=tuple([line for line in lines if line][has_header : 10 + has_header]),
        values=tuple(dict(zip(header, row, strict=True)) for row in body[has_header:]),
        header=header,
        columns=header if why else (),
        why=why,
    )


def _has_header(rows: Sequence[Sequence[str]]) -> bool:
    first, rest = rows[0], rows[1:]
    if any(kind_of_text(cell) in _CELLS for cell in first):
        return False
    if _is_telling(rows):
        return True
    plain = all(re.fullmatch(r"[^\W\d][\w .()/%#-]{0,60}", cell) for cell in first)
    is_used = any(cell in {row[n] for row in rest} for n, cell in enumerate(first))
    return plain and not is_used and len({*first}) == len(first)


def _is_telling(rows: Sequence[Sequence[str]]) -> bool:
    """Check for a column of numbers or dates below a text, or below the first cell, which may be empty."""
    rest = rows[1:]
    return any(
        kind_of_text(cell) not in _CELLS and {kind_of_text(row[n]) for row in rest} <= {*_CELLS, ""}
        for n, cell in enumerate(rows[0])
        if (cell or not n) and any(row[n] for row in rest)
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
