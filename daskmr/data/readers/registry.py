"""The readers of all record formats, by name: those here, and those of other packages."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, cast

from daskmr.data.readers.records import Reader, RecordFormat
from daskmr.errors import InputError
from daskmr.job.tracebacks import describe_exception

__all__ = ["FORMATS", "GROUP", "formats_by_extension", "reader_of", "text_extensions"]

GROUP = "daskmr.records"
"""The entry point group of the formats of other packages."""

_READERS = {  # imported when they are needed
    "lines": "plain_lines:READER",
    "jsonl": "json_lines:READER",
    "csv": "delimited:CSV",
    "tsv": "delimited:TSV",
    "parquet": "parquet:READER",
}
_PAIRS = "(pairs)"  # between the steps of a job, see `daskmr.data.steps`; no plug-in has this name
FORMATS = ("keyed", *_READERS)
"""The names of the formats that need no other package."""


def text_extensions() -> frozenset[str]:
    """Return the extensions of the files of all formats of text, without the dot.

    >>> sorted(text_extensions())
    ['csv', 'json', 'jsonl', 'log', 'ndjson', 'tsv', 'txt']
    """
    return frozenset(formats_by_extension()) - {"parquet"}


def formats_by_extension() -> dict[str, str]:
    """Return the format that the extension of a file indicates.

    >>> formats_by_extension()["ndjson"]
    'jsonl'
    """
    return {extension: name for name in _READERS for extension in _named(name).extensions}


def reader_of(form: RecordFormat, own: Callable[..., Any] | None = None) -> Reader | None:
    """Return the reader of a format; ``None`` for keyed records, which have a faster path.

    - `own`: the script's `read`.
    Raises `InputError` if no such format is installed, or it cannot be read with these options.
    """
    if form.is_keyed:
        return None
    if form.name == "read":
        if own is None:
            raise InputError(
                "The script does not define `read(stream, dims)`. Name a format with --records: "
                f"{', '.join(FORMATS)}."
            )
        reader = _stream_reader("read", own)
    elif form.name == _PAIRS:
        return _pair_reader()
    else:
        reader = _named(form.name)
    reader.check(form)
    return reader


def _stream_reader(name: str, read: Callable[..., Any]) -> Reader:
    from daskmr.data.readers.streams import StreamReader  # deferred, as other readers are

    return StreamReader(name, read)


def _pair_reader() -> Reader:
    from daskmr.data.steps.pairs import PairReader  # deferred: most jobs have one step

    return PairReader()


@cache
def _named(name: str) -> Reader:
    if name in _READERS:
        module, _, attribute = _READERS[name].partition(":")
        reader: Reader = getattr(import_module(f"daskmr.data.readers.{module}"), attribute)
        return reader
    if ":" in name and (marked := import_module("daskmr.data.readers.delimited").with_marks(name)):
        return cast(Reader, marked)
    found = entry_points(group=GROUP)
    if name not in found.names:
        known = [*FORMATS, *sorted(found.names)]
        like = difflib.get_close_matches(name, known, 1)
        hint = f"Did you mean --records {like[0]}?" if like else f"There are {', '.join(known)}."
        raise InputError(f"There is no record format {name!r}. {hint}")
    try:
        loaded: Any = found[name].load()
    except Exception as error:
        failure = describe_exception(error)
    else:
        if isinstance(loaded, Reader):
            return loaded
        if callable(loaded):
            return _stream_reader(name, loaded)
        failure = "it is neither a function read(stream, dims) nor a Reader"
    raise InputError(
        f"The record format {name!r} of {found[name].value} cannot be used: {failure}."
    )
