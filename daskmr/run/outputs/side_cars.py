"""The side-cars of an output: its bad records and its provenance.

They are committed with the output, in an order that never leaves an output with the side-car of
another run: stale ones are deleted before the output is replaced, new ones are put in place after it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, NamedTuple

from daskmr._version import __version__
from daskmr.config import Config
from daskmr.data.bad_records import BAD_BEGINS, BAD_SUFFIX, SavedRecord, write_bad_records
from daskmr.data.output import OutputFile, StoreOutput, beside, is_stream
from daskmr.data.output_directory.base import Output, OutputDirectory, WrittenPart
from daskmr.data.parts import Part, named_parts
from daskmr.errors import InputError
from daskmr.files import locked
from daskmr.job.contexts import is_output_name
from daskmr.job.job import Job
from daskmr.signals import deferred, finished, patient, raise_again
from daskmr.store.source import StoreError
from daskmr.workdir import RunDir, disk_error

__all__ = [
    "FORMAT",
    "META_SUFFIX",
    "NamedOutput",
    "SideCars",
    "bad_records_path",
    "check_side_cars",
    "explain_alone",
    "is_meta",
    "meta_path_of",
    "named_outputs",
    "side_car_paths",
]

_COMMIT_SECONDS = 300.0  # that a directory in a store may take after an interruption
_LONGEST_META = 64 << 20
_LONGEST_ASIDE = 200  # bytes of a file name
META_SUFFIX = ".meta.json"
FORMAT = 1
META_BEGINS = b'{\n "daskmr": {'
"""The first bytes of a provenance file."""


def meta_path_of(bad_path: str) -> str:
    """Return the path of the provenance that belongs to saved bad records.

    >>> meta_path_of("counts.txt.bad.jsonl"), meta_path_of("out/_bad.jsonl")
    ('counts.txt.meta.json', 'out/_meta.json')
    """
    folder, name = os.path.split(bad_path)
    output = "" if name == beside("", BAD_SUFFIX) else name.removesuffix(BAD_SUFFIX)
    return beside(os.path.join(folder, output), META_SUFFIX)


def side_car_paths(output: str) -> tuple[str, str]:
    """Return the paths of an output's side-cars, which a run may replace.

    >>> side_car_paths("out/counts.txt")
    ('out/counts.txt.bad.jsonl', 'out/counts.txt.meta.json')
    """
    return beside(output, BAD_SUFFIX), beside(output, META_SUFFIX)


def bad_records_path(target: Output, config: Config, job: Job) -> str:
    """Return the path of saved bad records: beside an output file, otherwise in the work dir."""
    if target.is_file:
        return beside(target.name, BAD_SUFFIX)
    return os.path.join(config.work_dir, f"{job.name}{BAD_SUFFIX}")


def check_side_cars(bad_path: str, meta_path: str | None) -> None:
    """Raise InputError if a directory, or a file that daskmr did not write, would be replaced."""
    if os.path.isdir(bad_path):
        raise InputError(
            f"{bad_path} is a directory, but bad records are saved there. Name another output."
        )
    if os.path.isfile(bad_path) and not _begins(bad_path, BAD_BEGINS):
        raise InputError(
            f"{bad_path} would be replaced by the bad records of the run, but daskmr did not write it. "
            "Name another output."
        )
    if meta_path is not None and os.path.lexists(meta_path) and not is_meta(meta_path):
        raise InputError(
            f"{meta_path} would be replaced by the provenance of the output, but daskmr did not "
            "write it. Name another output, or omit the provenance with --no-meta."
        )


class SideCars:
    """The side-cars of one output that is already closed, and the commit of all of them.

    - `named`: the closed outputs of ``context.write_to`` by name, if they are files or objects.
    - `bad`, `meta`: the side-cars that were written.
    - `meta_path`: the path or URL of the provenance; ``None`` for a stream, which has none.
    - `described`: the description of the outcome, for the provenance.
    - `notes`: notes on side-cars of an object that failed without failing the run.
    """

    def __init__(
        self,
        target: Output,
        run_dir: RunDir,
        bad_path: str,
        named: Mapping[str, OutputFile] | None = None,
    ) -> None:
        self.target, self.bad_path, self.named = target, bad_path, named or {}
        self.meta_path = beside(target.name, META_SUFFIX) if target.has_companions else None
        self.bad: OutputFile | None = None
        self.meta: OutputFile | None = None
        self.described: Mapping[str, Any] = {}
        self.notes: tuple[str, ...] = ()
        self._earlier: dict[str, int] = {}  # sizes of an earlier object's named outputs
        self._run_dir = run_dir

    def write(self, saved: tuple[SavedRecord, ...], content: Mapping[str, Any] | None) -> None:
        """Write new files under temporary names, with the access rights of the output."""
        like, run_id = self.target.access, self._run_dir.run_id
        if saved:
            self.bad = write_bad_records(self._staged(self.bad_path), run_id, saved, like)
        if content is not None and self.meta_path is not None:
            path = self._staged(self.meta_path)
            if not self.target.is_file:
                path = os.path.join(self._run_dir.path, "meta.json")
            self.meta = OutputFile(path, run_id, like=like)
            mark = {"daskmr": {"meta": FORMAT, "version": __version__}}
            self.meta.write(json.dumps({**mark, **content}, indent=1) + "\n")
            self.meta.close()

    def _staged(self, path: str) -> str:
        """Return the path of a side-car until its output is in place, if that is a directory."""
        target = self.target
        if isinstance(target, OutputDirectory) and isinstance(target.place, str):
            return os.path.join(target.place, os.path.basename(path))
        return path

    def commit(self) -> None:
        """Put the output in place, and its side-cars with it."""
        raise_again()
        if isinstance(self.target, OutputDirectory):
            self._commit_directory(self.target)
            return
        is_object = isinstance(self.target, StoreOutput)
        if isinstance(self.target, StoreOutput):
            self._put_object(self.target)
        # Only one run at a time may commit an output and its side-cars in a folder.
        folder = os.path.dirname(self.target.path)
        with deferred(), locked(folder) if self.target.is_file else nullcontext():
            stale = self._stale_named()  # which the earlier provenance names
            self._remove_stale()
            self._replace(self.target, stale)
            finished()
            for file in (self.bad, None if is_object else self.meta):
                if file is not None:
                    file.state = f"the output {self.target.name} of this run is in place"
                    file.commit()

    def _commit_directory(self, target: OutputDirectory) -> None:
        """Complete a directory with its side-cars, then put it in place as a whole."""
        if self.meta is not None:
            self.meta.commit()
            target.meta = self.meta.path
        if self.bad is not None and target.is_file:
            self.bad.commit()
        lock = locked(os.path.dirname(target.path)) if target.is_file else nullcontext()
        # An interruption while objects are copied would leave an incomplete directory.
        with deferred(), patient(_COMMIT_SECONDS), lock:
            target.publish()
            target.commit()
            finished()
            if not target.is_file:
                self._remove_stale()
                if self.bad is not None:
                    self.bad.commit()

    def _stale_named(self) -> list[str]:
        """Return the outputs that an earlier run wrote to other names, if they are as it left them."""
        if self.meta_path is None or not self.target.is_file:
            return []
        sizes = _named_in(self.meta_path)
        paths = {beside(self.target.name, f".{name}"): size for name, size in sizes.items()}
        current = {file.name for file in self.named.values()}
        return [p for p, size in paths.items() if p not in current and _size_of(p) == size]

    def _replace(self, target: OutputFile, stale: Sequence[str]) -> None:
        """Put the output and the named ones in place together, and remove stale ones.

        Earlier files also get another name, from which they return if anything fails. None is ever
        missing, even if the process is killed. The output comes last.
        """
        folder, name = os.path.split(target.path)
        name = os.fsdecode(os.fsencode(name)[:_LONGEST_ASIDE])
        if self.named or stale:
            _sweep_aside(folder, name)
        aside: dict[str, str] = {}
        placed: list[str] = []
        try:
            for number, path in enumerate(file.path for file in self.named.values()):
                if os.path.isfile(path):
                    aside[path] = f"{folder}/.{name}.{number}.{self._run_dir.run_id}.old"
                    _name_also(path, aside[path])
            for file in self.named.values():
                file.commit()
                placed.append(file.path)
            target.commit()
        except BaseException as error:
            for path in placed:
                if path not in aside:
                    os.unlink(path)
            for path, kept in aside.items():
                with suppress(FileNotFoundError):
                    os.rename(kept, path)
                    os.unlink(kept)  # still there if it is the same file
            if isinstance(error, OSError):
                raise disk_error(error, target.path, "the output") from None
            raise
        for path in (*stale, *aside.values()):
            with suppress(OSError):
                os.unlink(path)

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
                raise disk_error(error, path, "a side-car of the output") from None

    def _put_object(self, target: StoreOutput) -> None:
        """Upload the output and its side-car; failures of the side-car become notes.

        The named outputs come first, so that they are there when the output is.
        """
        is_free = self._clear_object(target)
        placed: list[str] = []
        try:
            for name, file in self.named.items():
                is_new = target.size_beside(f".{name}") is None
                file.publish()
                placed += [name] * is_new
            target.publish()
        except BaseException:
            for name in placed:  # an earlier one that was replaced cannot return
                with suppress(StoreError):
                    target.remove_beside(f".{name}")
            raise
        for name, size in self._earlier.items():
            try:
                if name not in self.named and target.size_beside(f".{name}") == size:
                    target.remove_beside(f".{name}")
            except StoreError as error:
                self.notes += (
                    f"{target.name}.{name}, from an earlier run, is still there: {error}",
                )
        if not is_free or self.meta is None:
            return
        try:
            self.meta.commit()
            target.put_beside(META_SUFFIX, self.meta.path)
        except StoreError as error:
            self.notes += (f"{self.meta_path} could not be written: {error}",)
            self._drop_meta()

    def _clear_object(self, target: StoreOutput) -> bool:
        """Delete the provenance of an earlier output; return whether its name is now free."""
        try:
            there = target.begins_beside(META_SUFFIX, _LONGEST_META)
            if there is not None and there.startswith(META_BEGINS):
                self._earlier = _named_in_text(there)
                target.remove_beside(META_SUFFIX)
            elif there is not None:
                note = "was not written by daskmr and is kept; it does not describe this output"
                self.notes += (f"{self.meta_path} {note}",)
                self._drop_meta()
                return False
        except StoreError as error:
            self.notes += (f"{self.meta_path} may describe an earlier output: {error}",)
        return True

    def _drop_meta(self) -> None:
        if self.meta is not None:
            self.meta.discard()
            self.meta = None

    def discard(self) -> None:
        """Remove the side-cars that were not put in place."""
        for file in (self.bad, self.meta):
            if file is not None:
                file.discard()


def explain_alone(output: str | None) -> str:
    """Explain why there are no outputs beside the main one; return ``""`` if there may be."""
    if output is None or not is_stream(output):
        return ""
    return (
        "it writes a file beside the output, but the output is "
        f"{'standard output' if output == '-' else output}. Name a file: -o result.txt"
    )


class NamedOutput(NamedTuple):
    """An output of ``context.write_to``, as the result and the provenance describe it."""

    name: str
    output: str | None  # its path or URL; ``None`` without an output
    lines: int
    bytes: int
    sha256: str | None
    parts: tuple[WrittenPart, ...] = ()  # its files, if it is a directory


def named_outputs(parts: Sequence[Part], side_cars: SideCars | None) -> tuple[NamedOutput, ...]:
    """Describe the outputs of ``context.write_to``.

    - `side_cars`: ``None`` without an output.
    """
    found = []
    for name, own in named_parts(parts).items():
        lines = sum(part.lines for part in own)
        target = side_cars.target if side_cars is not None else None
        if isinstance(target, OutputDirectory):
            files = target.named[name]
            size = sum(each.bytes for each in files)
            found.append(NamedOutput(name, f"{target.name}{name}/", lines, size, None, files))
        elif side_cars is not None:
            if (file := side_cars.named.get(name)) is None:  # the output is /dev/null
                continue
            found.append(NamedOutput(name, file.name, lines, file.bytes, file.sha256))
        else:
            found.append(NamedOutput(name, None, lines, 0, None))
    return tuple(found)


def _named_in(path: str) -> dict[str, int]:
    try:
        with open(path, "rb") as file:
            return _named_in_text(file.read(_LONGEST_META))
    except OSError:
        return {}


def _named_in_text(text: bytes) -> dict[str, int]:
    """Return the sizes of the named outputs in the text of a provenance file."""
    try:
        named = json.loads(text)["output"].get("named", {}) if text.startswith(META_BEGINS) else {}
        return {name: each["bytes"] for name, each in named.items() if is_output_name(name)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _name_also(path: str, other: str) -> None:
    """Give a file another name; where the file system has no links, in place of its own."""
    try:
        os.link(path, other)
    except OSError:
        os.rename(path, other)


def _sweep_aside(folder: str, name: str) -> None:
    """Remove the other names that a killed run has left; the folder is locked."""
    pattern = re.compile(rf"\.{re.escape(name)}\.\d+\.[0-9a-f]{{12}}\.old")
    for entry in filter(pattern.fullmatch, os.listdir(folder)):
        with suppress(OSError):
            os.unlink(os.path.join(folder, entry))


def _size_of(path: str) -> int | None:
    try:
        return os.path.getsize(path) if os.path.isfile(path) else None
    except OSError:
        return None


def is_meta(path: str) -> bool:
    """Check whether a file is a provenance file that daskmr wrote."""
    return _begins(path, META_BEGINS)


def _begins(path: str, start: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(len(start)) == start
    except OSError:
        return False
