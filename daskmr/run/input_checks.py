"""Check that the input consists of records, workers read what was listed, and the output replaces none."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from daskmr.config import Config
from daskmr.data.inputs import Inputs
from daskmr.data.output import StoreOutput
from daskmr.data.output_directory.base import Output, OutputDirectory
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.records import KEYED, OversizedLine, RecordFormat
from daskmr.errors import InputError, JobError, TaskFailed, foreign
from daskmr.run.outputs.side_cars import META_SUFFIX, side_car_paths
from daskmr.run.record_format import check_header
from daskmr.store.source import Source
from daskmr.tasks.tally import OPENING_LINES, Opening, Tally, explain_untabbed
from daskmr.text import counted, some

if TYPE_CHECKING:
    from daskmr.run.request import Request

__all__ = [
    "check_grown",
    "check_kept",
    "check_opening",
    "describe_grown",
    "refuse_input_as_output",
    "refuse_to_replace_input",
]

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
                        raise foreign(JobError(explain_untabbed(opening)))
        except (OSError, CorruptFileError, TaskFailed):
            return  # the task that maps the file reports it
    if opening.untabbed:
        raise foreign(JobError(explain_untabbed(opening)))


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
    paths = list(dict.fromkeys(path for path, _ in tally.grown))  # its parts name a file each
    if not paths:
        return ()
    return (
        f"{counted(len(paths), 'file')} grew while the job ran, like a log that is still being "
        "written: it was read up to its size in the listing, except for an incomplete last line: "
        f"{some(paths)}",
    )


def refuse_input_as_output(inputs: Inputs, target: Output | None) -> None:
    """Raise InputError if the output would replace an input file or an input object."""
    if isinstance(target, StoreOutput):
        _refuse_objects(inputs, target.name, target.source, [target.key, target.key + META_SUFFIX])
    elif isinstance(target, OutputDirectory) and target.source is not None:
        _refuse_objects(inputs, target.name, target.source, target.there)
    elif target is not None:
        refuse_to_replace_input(inputs, target.name, target.path)


def _refuse_objects(inputs: Inputs, name: str, source: Source, keys: Sequence[str]) -> None:
    if inputs.remote is None:
        return
    names = set(map(os.path.basename, keys))
    addresses = set(map(source.address, keys))
    address = inputs.remote.source.address
    for file in inputs.listing.files:
        if file.path.rpartition("/")[2] in names and address(file.path) in addresses:
            raise _replaces_input(name)


def refuse_to_replace_input(inputs: Inputs, name: str, path: str) -> None:
    """Raise InputError if the output at `path`, or one of its side-cars, is an input file."""
    there = [p for p in (path, *side_car_paths(path)) if os.path.isfile(p)]
    if os.path.isdir(path):  # all files of an output directory are replaced, and of those in it
        inside = (glob.escape(path) + "/*", glob.escape(path) + "/*/*")
        there = [p for pattern in inside for p in glob.iglob(pattern) if os.path.isfile(p)]
    sizes, real = {os.path.getsize(p) for p in there}, set(map(os.path.realpath, there))
    for file in inputs.listing.files if there else ():
        # A link may have another name; resolving the links of all files would take too long.
        if file.size in sizes and os.path.realpath(inputs.locate(file.path)) in real:
            raise _replaces_input(name)


def check_kept(request: Request, inputs: Inputs) -> None:
    """Raise InputError if an output of ``--keep-steps`` would replace something else."""
    for number, step in enumerate(request.job.steps[:-1] if request.keep_steps else (), 1):
        path = request.kept_path(number, step)
        try:
            if os.path.isdir(path):
                raise InputError("That is a directory.")
            output = request.output
            if output is not None and _is_in_way(path, output):
                raise InputError(f"That is in the way of the output {output!r}.")
            request.refuse_to_overwrite(path)
            refuse_to_replace_input(inputs, path, path)
            continue
        except InputError as error:
            reason = str(error).replace(" Name another output with --output.", "")
        raise InputError(
            f"--keep-steps {request.keep_steps} writes {path}. {reason} Name another directory."
        )


def _is_in_way(path: str, output: str) -> bool:
    """Check whether one of two paths is that of the other, or of a folder that the other is in."""
    places = [os.path.join(os.path.realpath(each), "") for each in (path, output)]
    shorter, longer = sorted(places, key=len)
    return longer.startswith(shorter)


def _replaces_input(name: str) -> InputError:
    return InputError(
        f"The output {name!r}, or one of its side-cars, would replace one of the input files. Name "
        "another output with --output."
    )
