"""What stands beside an output: its bad records, and where it is from.

They are put in place with the output, in an order in which no moment leaves one beside it that is
of another run: what is stale goes before the output changes, what is new comes after.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from daskmr.data.bad_records import BAD_SUFFIX, BadRecord, write_bad_records
from daskmr.data.output import OutputFile, StoreOutput, beside
from daskmr.errors import InputError
from daskmr.run.provenance import BEGINS, SUFFIX, is_meta, write_meta
from daskmr.signals import deferred, finished
from daskmr.store.source import StoreError
from daskmr.workdir import disk_error

__all__ = ["Companions", "check_beside", "check_companions", "companion_paths"]


def companion_paths(output: str) -> tuple[str, str]:
    """Name the files that may stand beside an output, which a run may replace.

    >>> companion_paths("out/counts.txt")
    ('out/counts.txt.bad.jsonl', 'out/counts.txt.meta.json')
    """
    return beside(output, BAD_SUFFIX), beside(output, SUFFIX)


def check_companions(target: OutputFile, meta: bool, bad_path: str) -> None:
    """Raise InputError where a file that is not daskmr's, or a directory, would be replaced."""
    _check_bad_path(bad_path)
    if target.is_file:
        check_beside(target.name, meta)


def check_beside(output: str, meta: bool) -> None:
    """The same for an output by its name.

    Parameters
    ----------
    output : str
        A file, or the name of one.
    meta : bool
        Whether there is to be an ``OUTPUT.meta.json``.
    """
    bad_path, path = companion_paths(output)
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
class Companions:
    """What is to be put in place with an output.

    Parameters
    ----------
    target : OutputFile
        The output, closed.
    run_id, folder : str
        Make temporary names; for what is beside an object.
    bad_path : str
        Where bad records go.

    Attributes
    ----------
    meta_path : str or None
        Where it is told where the output is from; ``None`` beside a stream.
    bad, meta : OutputFile or None
        What is written of them.
    notes : tuple of str
        What could not be done beside an object.
    """

    target: OutputFile
    run_id: str
    folder: str
    bad_path: str
    bad: OutputFile | None = None
    meta: OutputFile | None = None
    notes: tuple[str, ...] = ()
    meta_path: str | None = field(init=False)

    def __post_init__(self) -> None:
        told = self.target.has_companions
        self.meta_path = beside(self.target.name, SUFFIX) if told else None

    def write(self, saved: tuple[BadRecord, ...], content: Mapping[str, Any] | None) -> None:
        """Write new files under temporary names, readable only by those who may read the output."""
        like = self.target.access
        if saved:
            self.bad = write_bad_records(self.bad_path, self.run_id, saved, like)
        if content is not None and self.meta_path is not None:
            path = self.meta_path
            if isinstance(self.target, StoreOutput):
                path = os.path.join(self.folder, "meta.json")
            self.meta = write_meta(path, self.run_id, content, like)

    def put_in_place(self) -> None:
        """Put the output in place, and all that stands beside it."""
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
        """Let one run at a time put what belongs together in a folder."""
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
        """Upload the output; what stands beside it is not worth a failure."""
        free = self._clear_object(target)
        target.publish()
        if not free or self.meta is None:
            return
        try:
            self.meta.commit()
            target.put_beside(SUFFIX, self.meta.path)
        except StoreError as error:
            self.notes += (f"{self.meta_path} could not be written: {error}",)
            self._drop_meta()

    def _clear_object(self, target: StoreOutput) -> bool:
        """Remove the object that tells of an earlier output; whether its name is free now."""
        try:
            there = target.begins_beside(SUFFIX, len(BEGINS))
            if there is None:
                return True
            if there != BEGINS:
                self.notes += (
                    f"{self.meta_path} is not daskmr's, and was left as it is: it does not tell of "
                    "this output",
                )
                self._drop_meta()
                return False
            target.remove_beside(SUFFIX)
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
