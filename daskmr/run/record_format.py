"""Choose the format of the records: command line over script over configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from daskmr.config import Config
from daskmr.data.readers.records import KEYED, Reader, RecordFormat
from daskmr.data.readers.registry import reader_of, text_extensions
from daskmr.errors import InputError
from daskmr.job.declared import Declared, names_of, paths_of
from daskmr.job.job import Job
from daskmr.job.tracebacks import short_repr

__all__ = ["RecordFormat", "choose_format", "extensions_of"]


def choose_format(job: Job, options: Mapping[str, Any], config: Config) -> RecordFormat:
    """Return the format of the records that `job` reads.

    - `options`: the settings given explicitly.
    - `config`: these and all other settings.
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
    reader = reader_of(RecordFormat(name), job.read)
    assert reader is not None
    form = RecordFormat(
        name,
        _key(key_given) if key_given is not None else None,
        names_of(declared.columns, "columns") if _heeds(reader, declared, "columns") else None,
        paths_of(declared.fields) if _heeds(reader, declared, "fields") else None,
    )
    if form.key is None and "key" in reader.options:
        key = declared.key if declared.key is not None else config.key
        form = replace(form, key=None if key is None else _key(key))
    reader.check(form)
    return form


def extensions_of(form: RecordFormat, job: Job) -> tuple[str, ...]:
    """Return the extensions of files of a format, in addition to those of all formats.

    A format of text that is named reads files with the extension of any format of text.
    """
    reader = reader_of(form, job.read)
    if reader is None or reader.name == "parquet":
        return () if reader is None else reader.extensions
    return (*reader.extensions, *sorted(text_extensions()))


def _heeds(reader: Reader, declared: Declared, option: str) -> bool:
    return option in reader.options and getattr(declared, option) is not None


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key or "" in key.split("."):
        raise InputError(
            f'`key` must be the name of a field, such as "user.id", not {short_repr(key)}.'
        )
    return key
