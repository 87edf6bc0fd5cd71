"""Write one part of an output directory."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import uuid
from dataclasses import dataclass
from typing import Any

from daskmr.data.output import OutputFile
from daskmr.data.output_directory.base import WrittenPart
from daskmr.data.output_directory.names import part_name, staged_name
from daskmr.data.output_directory.slices import Slice
from daskmr.data.spill_dir import Scratch, SpillStore
from daskmr.data.writers import format_called
from daskmr.errors import JobError
from daskmr.tasks.guard import guarded
from daskmr.workdir import disk_error

__all__ = ["WriteTask", "write_part"]


@dataclass(frozen=True, slots=True)
class WriteTask:
    """The arguments that all writers share."""

    scratch: Scratch  # destination of temporary files
    place: str | SpillStore  # destination of the parts
    suffix: str  # of their names
    format: str  # name of the output format
    prepared: Any  # what `OutputFormat.prepare` has returned
    hashed: bool  # compute the digests of the parts
    like: os.stat_result | None  # as in `OutputFile`
    folder: str = ""  # of the parts, within `place`: the name of an output of ``context.write_to``


@guarded("write")
def write_part(packed: bytes, *, task: WriteTask) -> list[WrittenPart]:
    """Write the part of a pickled slice, which appears only once it is complete."""
    piece: Slice = pickle.loads(packed)
    name, place = _name(piece, task), task.place
    if isinstance(place, str):
        return [_write(piece, os.path.join(place, name), task)]
    folder = _folder(task.scratch)
    try:
        local = os.path.join(folder, staged_name(name))
        written = _write(piece, local, task)
        place.upload(local)
        return [written]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(piece: Slice, path: str, task: WriteTask) -> WrittenPart:
    if not os.path.isdir(folder := os.path.dirname(path)):  # an `InputError` of `OutputFile`
        raise JobError(f"The directory of the output, {folder}, is gone. Nothing was written.")
    # The name is unique to the attempt, because Dask may run a task twice at the same time.
    file = OutputFile(path, uuid.uuid4().hex[:12], hashed=task.hashed, like=task.like)
    try:
        writer = format_called(task.format).open(file, task.prepared, piece.number == 0)
        for written in piece.read():
            writer.write(written)
        writer.close()
        file.close()
        file.commit()
    finally:
        file.discard()
    return WrittenPart(_name(piece, task), file.bytes, file.sha256)


def _name(piece: Slice, task: WriteTask) -> str:
    return os.path.join(task.folder, part_name(piece.number, task.suffix))


def _folder(scratch: Scratch) -> str:
    """Create a folder for one part, which will be uploaded."""
    place = scratch.parts()
    within = place if isinstance(place, str) else os.path.join(place.host.make(), "segments")
    try:
        return tempfile.mkdtemp(dir=within)
    except OSError as error:
        raise disk_error(error, within, "a part of the output") from None
