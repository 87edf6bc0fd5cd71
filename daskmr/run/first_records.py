"""The first records of the input, read in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import BinaryIO

from daskmr.config import Config
from daskmr.data.dims import Dims
from daskmr.data.inputs import Inputs
from daskmr.data.listing import InputFile
from daskmr.data.readers.records import Reading
from daskmr.errors import JobError
from daskmr.run.trial import Record, Trial, read_records

__all__ = ["first_records"]


def first_records(
    inputs: Inputs, config: Config, trial: Trial
) -> Iterator[tuple[InputFile, str, int, Record]]:
    """Yield the records in order, each with its file, the file's location, and its number."""
    names = inputs.listing.layout.field_names
    for file, source in _sources(inputs):
        place = source if isinstance(source, str) else source.name
        try:
            limit = config.max_record_bytes
            about = Reading(file.path, Dims(file.dims, names), limit)
            for number, record in read_records(source, limit, trial.reader, trial.form, about):
                yield file, place, number, record
        except OSError as error:
            reason = error.strerror or error
            raise JobError(f"The input file {place} cannot be read: {reason}.") from None


def _sources(inputs: Inputs) -> Iterator[tuple[InputFile, str | BinaryIO]]:
    """Yield the files in order, each with its local path or a stream from the store."""
    with inputs.open_cache() or nullcontext() as cache:
        for file in inputs.listing.files:
            if not file.is_remote or inputs.remote is None:
                yield file, os.path.join(inputs.root, file.path)
                continue
            path = cache.present(file) if cache is not None else None
            yield file, path or inputs.remote.open_store().open(file.path, file.etag, file.size)
