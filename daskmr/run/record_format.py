"""Choose the format of the records: command line over script over configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from daskmr.config import Config
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import KEYED, Reading, RecordFormat
from daskmr.data.readers.registry import FORMATS, reader_of, text_extensions
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.errors import DaskMRError, InputError, TaskFailed
from daskmr.job.declared import Declared, names_of, paths_of
from daskmr.job.job import Job
from daskmr.job.tracebacks import short_repr
from daskmr.text import inspect_line

if TYPE_CHECKING:
    from daskmr.data.inputs import Inputs
    from daskmr.data.sources.given import Sources

__all__ = [
    "RecordFormat", "check_header", "choose_format", "extensions_of", "pointing_to_inspect",
    "splits_of",
]  # fmt: skip

_GIVEN = 5  # values of ``-d`` that a command line repeats


def choose_format(
    job: Job,
    options: Mapping[str, Any],
    config: Config,
    in_rows: bool = False,
    data: Sequence[str] = (),
) -> RecordFormat:
    """Return the format of the records that `job` reads.

    - `options`: the settings given explicitly.
    - `config`: these and all other settings.
    - `in_rows`: whether the output has columns, which `columns` of the script may name.
    - `data`: where the input is.
    Raises `InputError` if the format is not installed, or something that it needs is missing.
    """
    declared = job.declared
    given = options.get("records")
    if given is None and job.read is not None:
        if declared.records not in (None, "read"):
            raise InputError(
                f"{job.path or 'The job'} defines `read`, and `records = {declared.records!r}`. "
                "Remove one of them, since each says how records are read."
            )
        name = "read"
    else:
        name = given or declared.records or config.records or "keyed"
    key_given = options.get("key")
    if name == "keyed":
        if key_given is not None:
            raise InputError(
                f"--key {key_given} does not apply to keyed records, whose key is before the tab. "
                f"Name their format: --records jsonl --key {key_given}"
            )
        return KEYED
    try:
        reader = reader_of(RecordFormat(name), job.read)
    except InputError as error:
        if not data or name in (*FORMATS, "read"):
            raise
        raise InputError(f"{error} To see which one fits:{inspect_line(data[0])}") from None
    assert reader is not None
    fields = declared.fields if "fields" in reader.options else None
    form = RecordFormat(
        name,
        _key(key_given) if key_given is not None else None,
        fields=None if fields is None else paths_of(fields),
    )
    if "columns" in reader.options:
        form = _with_columns(form, declared, in_rows)
    if form.key is None and "key" in reader.options:
        key = declared.key if declared.key is not None else config.key
        form = replace(form, key=None if key is None else _key(key))
    reader.check(form)
    return form


def extensions_of(form: RecordFormat, job: Job) -> frozenset[str]:
    """Return the extensions of files of a format, in small letters and without the dot.

    A format of text that is named reads files with the extension of any format of text.
    """
    reader = reader_of(form, job.read)
    own = frozenset(each.lower() for each in reader.extensions) if reader else frozenset()
    if form.name == "parquet":
        return own
    return EXTENSIONS | own | (text_extensions() if reader else own)


def splits_of(form: RecordFormat, job: Job) -> str:
    """Return where large files of a format are cut, as `Reader.splits`."""
    reader = reader_of(form, job.read)
    return "lines" if reader is None else reader.splits


def _with_columns(form: RecordFormat, declared: Declared, in_rows: bool) -> RecordFormat:
    if declared.input_columns is not None:
        return replace(form, columns=names_of(declared.input_columns, "input_columns"))
    if declared.columns is None:
        return form
    columns = names_of(declared.columns, "columns")
    if in_rows and declared.output_columns is None:
        return replace(form, maybe_columns=columns)
    return replace(form, columns=columns)


def check_header(inputs: Inputs, form: RecordFormat) -> None:
    """Raise InputError if the first file does not show which columns `columns` of the script names.

    An object in a store is not fetched for this check; the task that maps it checks it.
    """
    first = next(iter(inputs.listing.files), None)
    if form.maybe_columns is None or first is None or first.is_remote:
        return
    reader = reader_of(form)
    assert reader is not None
    path = os.path.join(inputs.root, first.path)
    try:
        next(reader.read(path, form, Reading(first.path)), None)
        return
    except TaskFailed as error:
        failure = InputError(error.message)
        failure.is_foreign = error.is_foreign
    except (OSError, CorruptFileError):
        return  # the task that maps the file reports it
    raise failure


@contextmanager
def pointing_to_inspect(sources: Sources, root: str) -> Iterator[None]:
    """End an error of input that is not as it was said to be in the command line that looks at it.

    - `root`: the data dir.
    """
    try:
        yield
    except DaskMRError as error:
        if error.is_foreign and sources.reads_stdin:
            look = "To see what the input is, and the line that reads it, pipe it into `daskmr inspect -`."
            error.args = (f"{error}\n{look}",)
        elif error.is_foreign:
            is_given = 0 < len(sources.given) <= _GIVEN and "@-" not in sources.given
            look = inspect_line(*(sources.given if is_given else (root,)))
            text = f"{error}\nTo see what the input is, and the line that reads it:{look}"
            error.args = (text,)
        raise


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key or "" in key.split("."):
        raise InputError(
            f'`key` must be the name of a field, such as "user.id", not {short_repr(key)}.'
        )
    return key
