"""Check the input as it is read: that it is records, and that workers read the files that were listed."""

from __future__ import annotations

import os

from daskmr.config import Config
from daskmr.data.inputs import Inputs
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import OversizedLine, read_lines
from daskmr.errors import JobError, TaskFailed
from daskmr.tasks.tally import OPENING_LINES, Opening, Tally, explain_untabbed
from daskmr.text import counted, some

__all__ = ["check_grown", "check_opening", "describe_grown"]

_LONGEST_LOOKED_AT = 1 << 20  # bytes of a line


def check_opening(inputs: Inputs, config: Config) -> None:
    """Raise JobError before any work where the input begins with lines that are no records.

    Objects in a store are not fetched for that: the task that maps them checks. So it does where
    files may be left out as corrupt, which their first lines cannot show.
    """
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
    """Raise JobError where a file grew on a worker and not here: then the worker read another file."""
    for path, size in tally.grown:
        where = inputs.locate(path)
        try:
            here = os.stat(where).st_size
        except OSError:
            here = 0
        if here < size:
            failure = JobError(
                f"The input file {where} had {size:,} bytes for the worker that read it, and has "
                f"{here:,} here. Nothing was written. Put the data where all workers see it under "
                "the same path (a shared file system), and run the job again."
            )
            failure.file = path
            raise failure


def describe_grown(tally: Tally) -> tuple[str, ...]:
    """Name the files that grew while the job ran, in one note or none."""
    paths = [path for path, _ in tally.grown]
    if not paths:
        return ()
    return (
        f"{counted(len(paths), 'file')} grew while the job ran, as a log does that is still being "
        "written: what was listed of it was read, but for a last line that was not complete then: "
        f"{some(paths)}",
    )
