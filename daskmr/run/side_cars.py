"""The side-cars of an output: its bad records and its provenance.

They are committed with the output, in an order that never leaves the side-car of another run beside
it: a stale one is deleted before the output is replaced, a new one is put in place afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskmr._version import __version__
from daskmr.config import Config
from daskmr.data.bad_records import BadRecord
from daskmr.data.output import OutputFile, StoreOutput, beside, write_bad_records
from daskmr.errors import InputError
from daskmr.job.job import Job
from daskmr.signals import deferred, finished
from daskmr.store.source import StoreError
from daskmr.workdir import disk_error

__all__ = [
    "BAD_SUFFIX",
    "FORMAT",
    "META_SUFFIX",
    "SideCars",
    "bad_records_path",
    "check_beside",
    "check_side_cars",
    "is_meta",
    "side_car_paths",
]

BAD_SUFFIX = ".bad.jsonl"
META_SUFFIX = ".meta.json"
FORMAT = 1
META_BEGINS = b'{\n "daskmr": {'
"""The first bytes of such a file."""


def side_car_paths(output: str) -> tuple[str, str]:
    """Name the side-cars of an output, which a run may replace.

    >>> side_car_paths("out/counts.txt")
    ('out/counts.txt.bad.jsonl', 'out/counts.txt.meta.json')
    """
    return beside(output, BAD_SUFFIX), beside(output, META_SUFFIX)


def bad_records_path(target: OutputFile, config: Config, job: Job) -> str:
    """Say where bad records are saved: beside the output, or in the work dir for a stream or an object."""
    if target.is_file:
        return beside(target.name, BAD_SUFFIX)
    return os.path.join(config.work_dir, f"{job.name}{BAD_SUFFIX}")


def check_side_cars(target: OutputFile, meta: bool, bad_path: str) -> None:
    """Raise InputError where a file that is not daskmr's, or a directory, would be replaced."""
    _check_bad_path(bad_path)
    if target.is_file:
        check_beside(target.name, meta)


def check_beside(output: str, meta: bool) -> None:
    """The same for an output by its name.

    - `output`: a file, or the name of one.
    - `meta`: whether there is to be an ``OUTPUT.meta.json``.
    """
    bad_path, path = side_car_paths(output)
    _check_bad_path(bad_path)
    if meta and os.path.lexists(path) and not is_meta(path):
        raise InputError(
            f"{path} would be replaced by what daskmr writes beside its output, and is not daskmr's. "
            "Name another output, or leave that file out with --no-meta."
        )


def _check_bad_path(path: str) -> None:
    if os.path.isdir(path):
        raise InputError(
            f"{path} is a directory, and bad records are saved there. Name another output."
        )


@dataclass(slots=True)
class SideCars:
    """The side-cars of one output, and their commit."""

    target: OutputFile  # the output, closed
    # The name of temporary files, and where those of objects are written
    run_id: str
    folder: str
    bad_path: str  # where bad records are saved
    # Those that were written
    bad: OutputFile | None = None
    meta: OutputFile | None = None
    # What failed beside an object, where it is not worth failing the run.
    notes: tuple[str, ...] = ()
    # The provenance of the output; ``None`` for a stream, which has none.
    meta_path: str | None = field(init=False)

    def __post_init__(self) -> None:
        has_meta = self.target.has_companions
        self.meta_path = beside(self.target.name, META_SUFFIX) if has_meta else None

    def write(self, saved: tuple[BadRecord, ...], content: Mapping[str, Any] | None) -> None:
        """Write new files under temporary names, readable only by those who may read the output."""
        like = self.target.access
        if saved:
            self.bad = write_bad_records(self.bad_path, self.run_id, saved, like)
        if content is not None and self.meta_path is not None:
            path = self.meta_path
            if isinstance(self.target, StoreOutput):
                path = os.path.join(self.folder, "meta.json")
            self.meta = _write_meta(path, self.run_id, content, like)

    def commit(self) -> None:
        """Put the output in place, and its side-cars with it."""
        if isinstance(self.target, StoreOutput):
            self._put_object(self.target)
        with deferred(), self._alone():
            self._remove_stale()
            self.target.commit()
            finished()
            beside = [self.bad]
            if not isinstance(self.target, StoreOutput):
                beside.append(self.meta)
            for file in beside:
                if file is not None:
                    file.state = f"the output {self.target.name} of this run is in place"
                    file.commit()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Lock the folder, so that one run at a time commits there."""
        if not self.target.is_file:
            yield
            return
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a folder that may not be read, or not be locked
                folder = os.open(os.path.dirname(self.target.path), os.O_RDONLY)
                stack.callback(os.close, folder)
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield

    def _remove_stale(self) -> None:
        stale = [self.bad_path]
        if self.target.is_file and self.meta_path is not None and is_meta(self.meta_path):
            stale.append(self.meta_path)
        for path in stale:
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass
            except OSError as error:
                raise disk_error(error, path, "what stands beside the output") from None

    def _put_object(self, target: StoreOutput) -> None:
        """Upload the output; a side-car that fails is a note."""
        free = self._clear_object(target)
        target.publish()
        if not free or self.meta is None:
            return
        try:
            self.meta.commit()
            target.put_beside(META_SUFFIX, self.meta.path)
        except StoreError as error:
            self.notes += (f"{self.meta_path} could not be written: {error}",)
            self._drop_meta()

    def _clear_object(self, target: StoreOutput) -> bool:
        """Delete the provenance of an earlier output, and return whether its name is free."""
        try:
            there = target.begins_beside(META_SUFFIX, len(META_BEGINS))
            if there is None:
                return True
            if there != META_BEGINS:
                self.notes += (
                    f"{self.meta_path} is not daskmr's, and was left as it is: it does not tell of "
                    "this output",
                )
                self._drop_meta()
                return False
            target.remove_beside(META_SUFFIX)
        except StoreError as error:
            self.notes += (f"{self.meta_path} may tell of an earlier output: {error}",)
        return True

    def _drop_meta(self) -> None:
        if self.meta is not None:
            self.meta.discard()
            self.meta = None

    def discard(self) -> None:
        """Remove what was not put in place."""
        for file in (self.bad, self.meta):
            if file is not None:
                file.discard()


def _write_meta(
    path: str, run_id: str, content: Mapping[str, Any], like: os.stat_result | None = None
) -> OutputFile:
    """Write a provenance file, ready to be committed."""
    file = OutputFile(path, run_id, like=like)
    try:
        whole = {"daskmr": {"meta": FORMAT, "version": __version__}, **content}
        file.write(json.dumps(whole, indent=1) + "\n")
        file.close()
    except BaseException:
        file.discard()
        raise
    return file


def is_meta(path: str) -> bool:
    """Whether there is a provenance file that daskmr wrote."""
    try:
        with open(path, "rb") as file:
            return file.read(len(META_BEGINS)) == META_BEGINS
    except OSError:
        return False
