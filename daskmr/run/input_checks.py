"""Check that the input consists of records, and that workers read the files that were listed."""

from __future__ import annotations

import os

from daskmr.config import Config
from daskmr.data.inputs import Inputs
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import KEYED, OversizedLine, RecordFormat
from daskmr.errors import JobError, TaskFailed
from daskmr.run.record_format import check_header
from daskmr.tasks.tally import OPENING_LINES, Opening, Tally, explain_untabbed
from daskmr.text import counted, some

__all__ = ["check_grown", "check_opening", "describe_grown"]

_LONGEST_LOOKED_AT = 1 << 20  # bytes; longer lines are not checked


def check_opening(inputs: Inputs, config: Config, form: RecordFormat = KEYED) -> None:
    """Raise JobError before any work if the input begins with lines that are not records.

    Of records that are not keyed, only the header is checked, by `check_header`.

    Objects in a store are not fetched for this check; the task that maps them checks them. The same
    applies if corrupt files may be skipped, because the first lines do not show if a file is corrupt.
    """
    if not form.is_keyed:
        check_header(inputs, form)
        return
    if not config.limits_bad_records or config.skip_corrupt_files:
        return
    opening = Opening()
    for file in inputs.listing.files:
        if file.is_remote:
            return
        path = os.path.join(inputs.root, file.path)
        try:
            for lines, _ in read_lines(path, _LONGEST_LOOKED_AT):
                for line in lines:
                    if "\t" in line or isinstance(line, OversizedLine):
                        return
                    opening = opening.with_line(path, line)
                    if opening.untabbed == OPENING_LINES:
                        raise JobError(explain_untabbed(opening))
        except (OSError, CorruptFileError, TaskFailed):
            return  # the task that maps the file reports it
    if opening.untabbed:
        raise JobError(explain_untabbed(opening))


def check_grown(inputs: Inputs, tally: Tally) -> None:
    """Raise JobError if a file grew on a worker but not here: then the worker read another file."""
    for path, size in tally.grown:
        where = inputs.locate(path)
        try:
            here = os.stat(where).st_size
        except OSError:
            here = 0
        if here < size:
            failure = JobError(
                f"The input file {where} had {size:,} bytes for the worker that read it, but has "
                f"{here:,} here. Nothing was written. Put the data where all workers see it under "
                "the same path (a shared file system), and run the job again."
            )
            failure.file = path
            raise failure


def describe_grown(tally: Tally) -> tuple[str, ...]:
    """Return a note that names the files that grew while the job ran, if there are any."""
    paths = [path for path, _ in tally.grown]
    if not paths:
        return ()
    return (
        f"{counted(len(paths), 'file')} grew while the job ran, like a log that is still being "
        "written: it was read up to its size in the listing, except for an incomplete last line: "
        f"{some(paths)}",
    )
