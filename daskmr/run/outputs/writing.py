"""Let the workers write the parts of an output directory; only an index of the result comes here."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from daskmr.cluster.probe import sees_all
from daskmr.cluster.session import Session
from daskmr.cluster.versions import Pinned
from daskmr.data.output_directory.base import Output, OutputDirectory, WrittenPart
from daskmr.data.output_directory.slices import Slice, divide
from daskmr.data.parts import Part, named_parts
from daskmr.data.readers.decompression import codec_of
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.lines import read_lines
from daskmr.data.readers.sniffing import HEAD_BYTES, recode_command
from daskmr.data.writers.named import of_named
from daskmr.errors import InputError, JobError, TaskFailed
from daskmr.tasks.write import WriteTask, write_part
from daskmr.workdir import NOTHING_REPLACED, disk_error

if TYPE_CHECKING:
    from daskmr.data.inputs import Inputs
    from daskmr.diagnostics.collector import Collector
    from daskmr.run.execution import Outcome
    from daskmr.run.request import Request
    from daskmr.run.workspace import Placement

__all__ = ["check_reach", "notes_on_bytes", "prepared", "write_directory"]

_SEARCHED = 100  # files, and batches of lines in each, that are searched for what is not UTF-8
_SURROGATE = re.compile("[\udc80-\udcff]").search


def check_reach(target: Output | None, session: Session, placement: Placement) -> None:
    """Raise InputError if `target` is a directory that workers elsewhere cannot write."""
    if not isinstance(target, OutputDirectory) or not session.is_elsewhere:
        return
    advice = "or name a file instead of a directory, which this machine writes"
    if placement.store is not None and placement.store.source is None:
        raise InputError(
            f"Workers write the output {target.name} from data that they keep for each other, but they "
            "share neither their disks nor the work dir. Give --spill-dir, a path that all workers "
            f"and this machine share, or a URL such as s3://BUCKET/spill; {advice}."
        )
    if isinstance(target.place, str) and not sees_all(session.ask, target.place):
        raise InputError(
            f"Workers write the output {target.name}, but some do not see its directory "
            f"{os.path.dirname(target.path)!r} of this machine, or cannot write to it. Give one that "
            f"all share, or a URL such as s3://BUCKET/result/; {advice}."
        )


def write_directory(
    outcome: Outcome,
    request: Request,
    target: Output | None,
    session: Session,
    placement: Placement,
    collector: Collector,
) -> bool:
    """Write the parts of `target` if it is a directory; return whether it is.

    Raises `JobError` if a task fails, or the rows do not fit the format.
    """
    if not isinstance(target, OutputDirectory):
        return False
    task = WriteTask(
        scratch=placement.scratch,
        place=target.place,
        suffix=target.suffix,
        format=request.output_format.name,
        prepared=prepared(outcome.parts, request),
        hashed=request.config.meta,
        like=target.like,
    )
    slices = divide(outcome.parts)
    total = outcome.keys if request.job.reduce is not None else len(slices)

    def show(done: int) -> None:
        collector.wrote(total * done // len(slices), total)

    show(0)
    name = f"write-{placement.run_dir.run_id}"
    write = Pinned(partial(write_part, task=task))
    target.parts = tuple(_computed(slices, write, name, session, show))
    for number, (folder, parts) in enumerate(named_parts(outcome.parts).items()):
        if isinstance(target.place, str):
            _make_folder(os.path.join(target.place, folder))
        other = replace(task, folder=folder, prepared=prepared(parts, request, folder))
        write = Pinned(partial(write_part, task=other))
        written = _computed(divide(parts), write, f"{name}-{number}", session, lambda done: None)
        target.named = {**target.named, folder: tuple(written)}
    return True


def _make_folder(path: str) -> None:
    try:
        os.mkdir(path)
    except OSError as error:
        raise disk_error(error, path, "the output", NOTHING_REPLACED) from None


def prepared(parts: Sequence[Part], request: Request, name: str | None = None) -> Any:
    """Return what the writers of the output that consists of `parts` need to know about all of it.

    - `name`: its name in the script; ``None`` for the main output.
    Raises `JobError` if the rows do not fit the format.
    """
    header = parts[0].header if parts else ()
    reports = [part.report for part in parts if part.report is not None]
    columns = request.columns if name is None else None
    try:
        return request.output_format.prepare(header, reports, columns)
    except JobError as error:
        if name is None:
            raise
        message = of_named(name, str(error))
    raise JobError(message)


def notes_on_bytes(outcome: Outcome, request: Request, inputs: Inputs) -> tuple[str, ...]:
    """Return a note if JSON lines have bytes of the input that are not UTF-8, with a file that has them."""
    parts = chain(outcome.parts, *named_parts(outcome.parts).values())
    reports = (part.report for part in parts)
    if request.output_format.name != "jsonl" or not any(reports):
        return ()
    note = "bytes of the input that are not UTF-8 are escapes in the output, such as \\udcf6"
    paths = (inputs.locate(file.path) for file in inputs.listing.files[:_SEARCHED])
    found = next(filter(_is_not_utf8, paths), None)
    if found is None:
        return (note,)
    with open(found, "rb") as file:
        codec = codec_of(file.read(HEAD_BYTES))
    command = recode_command(found, codec, "iconv -f WINDOWS-1252 -t UTF-8")
    return (f"{note}; if {found} is in Windows-1252, replace it with the output of: {command}",)


def _is_not_utf8(path: str) -> bool:
    """Check whether the start of a local file is not UTF-8."""
    try:
        for lines, _ in islice(read_lines(path), _SEARCHED):
            if any(map(_SURROGATE, lines)):
                return True
    except (CorruptFileError, OSError, TaskFailed):
        pass
    return False


def _computed(
    slices: Sequence[Slice],
    write: Callable[[bytes], list[WrittenPart]],
    name: str,
    session: Session,
    show: Callable[[int], None],
) -> list[WrittenPart]:
    """Compute a task for each slice; show how many are done."""
    from dask.bag import Bag  # imported only after a cluster has been started

    packed = [pickle.dumps(one, 5) for one in slices]
    if session.client is None:
        written: list[WrittenPart] = []
        for one in packed:
            written += session.compute(Bag({(name, 0): (write, one)}, name, 1))
            show(len(written))
        return written
    futures = session.submit({(name, number): (write, one) for number, one in enumerate(packed)})
    session.watch(lambda: show(sum(f.status == "finished" for f in futures.values())))
    try:
        for failed in session.wait_for(futures.values()):
            raise session.failure_of(failed)
        # Another graph, since a result may have been lost with its worker.
        graph = {(f"{name}-all", number): future for (_, number), future in futures.items()}
        return list(session.compute(Bag(graph, f"{name}-all", len(graph))))
    except BaseException:
        session.cancel(futures.values())
        raise
