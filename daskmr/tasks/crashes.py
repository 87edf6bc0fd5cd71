"""Marks: what a task says of itself while it runs, in a file that outlives its process.

When a worker dies, its mark tells what it was doing. The first time that is little, the file that is
read, and costs next to nothing. A task that is tried again because its process died leaves a mark
that follows it from line to line, or from key to key. Whoever kills a process leaves a note beside.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import socket
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from daskmr import clock
from daskmr.errors import JobError
from daskmr.memory import limit
from daskmr.tasks.guard import shortened
from daskmr.workdir import disk_error
from daskmr.worker import describe_worker, worker_address

__all__ = [
    "COMBINING",
    "FETCHING",
    "Kills",
    "Mark",
    "Marker",
    "by_task",
    "describe_line",
    "describe_reading",
    "is_alive",
    "note_kill",
    "process_name",
    "read_kills",
    "read_marks",
]

_KILLED = "killed."  # what the name of a note begins with
FETCHING = "the fetch of it"
"""The place of a task that waits for its next file."""

COMBINING = "its end, where what was mapped is combined"
"""The place of a task that has read all of its files."""

_LONG = 1_000_000  # characters from which on it matters how many there are


Kills = Mapping[int | tuple[str, int], int]
"""What processes held when they were killed for it: on this machine by their id, elsewhere by the
address of the worker and its id, which in containers are all alike."""


@dataclass(frozen=True, slots=True)
class Mark:
    """What a task says of itself."""

    phase: str  # ``"load"``, ``"map"``, ``"merge"`` or ``"reduce"``
    number: int  # the partition, the bucket that is merged, or the first bucket of the reducer
    pid: int  # the process that runs the task
    since: float  # when it began with the file, or to reduce, in seconds of the epoch
    path: str = ""  # the file that is read, relative to the data dir; ``""`` when reducing
    # Where it is, as ``"line 7"``; ``""`` unless an earlier process died of this task, or
    # `FETCHING`.
    place: str = ""
    limit: int | None = None  # bytes beyond which the process is killed
    host: str = ""  # the name of the machine that it is on; ``""`` is this one
    # Tells it from all processes there ever were: in a container, all have the same number.
    process: str = ""
    # The file whose records `map` is given, as it was listed; ``""`` at any other time.
    file: str = ""
    worker: str = ""  # the address of its worker; ``""`` where there is none

    @property
    def is_local(self) -> bool:
        """Whether its process is, or was, on this machine."""
        return self.host in ("", _host())

    def killed_with(self, kills: Kills) -> int | None:
        """Bytes that its process held when it was killed for that; ``None`` where it was not."""
        return kills.get((self.worker, self.pid), kills.get(self.pid))


_FIELDS = tuple(field.name for field in fields(Mark))
_numbers = itertools.count()


@functools.cache
def _host() -> str:
    return socket.gethostname()


@functools.cache
def _process_of(pid: int) -> str:
    """Name this process; by its number, since what is forked has what its parent remembers."""
    return uuid.uuid4().hex[:12]


def process_name() -> str:
    """Name this process by what no other ever has."""
    return _process_of(os.getpid())


class Marker:
    """Writes the mark of one task, until its block is left or the process ends.

    - `run_dir`: the run's folder.
    - `phase`: ``"load"``, ``"map"``, ``"merge"`` or ``"reduce"``.
    - `number`: the partition, the bucket that is merged, or the first bucket of the reducer.
    - `earlier`: those of processes that died of this task.
    """

    def __init__(self, run_dir: str, phase: str, number: int) -> None:
        pid = os.getpid()
        process = _process_of(pid)
        self._mark = Mark(
            phase, number, pid, clock.now(), limit=limit(), host=_host(), process=process,
            worker=worker_address(),
        )  # fmt: skip
        task = f"{phase}-{number}."
        self.earlier = [m for m in _read_marks(run_dir, task) if m.process != process]
        if phase in ("merge", "load"):  # others may have something of the same number to do now
            self.earlier = [m for m in self.earlier if m.is_local and not is_alive(m.pid)]
        self._path = os.path.join(run_dir, "marks", f"{task}{pid}-{process}-{next(_numbers)}")
        try:
            self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError as error:
            raise disk_error(error, self._path, "what a task does") from None
        self._write()

    def begin(self, path: str, file: str = "") -> None:
        """Say which file is read from now on."""
        self._mark = replace(self._mark, since=clock.now(), path=path, place="", file=file)
        self._write()

    def at_end(self) -> None:
        """Say that all files are read."""
        self._mark = replace(self._mark, since=clock.now(), place=COMBINING, file="")
        self._write()

    def fetch(self, path: str) -> None:
        """Say which file it waits for."""
        self._mark = replace(self._mark, since=clock.now(), path=path, place=FETCHING, file="")
        self._write()

    def lines(self, batches: Iterable[tuple[list[str], bool]]) -> Iterable[tuple[list[str], bool]]:
        """Pass on the lines of that file, saying where it stands if that may matter."""
        return self._follow_lines(batches) if self.earlier else batches

    def groups(
        self, groups: Iterable[tuple[Any, Sequence[Any]]]
    ) -> Iterable[tuple[Any, Sequence[Any]]]:
        """Pass on groups, saying which one it is if that may matter."""
        return self._follow_groups(groups) if self.earlier else groups

    def key(self, key: Any) -> None:
        """Say which key's values are combined, if that may matter."""
        if self.earlier:
            self.at(f"the key {shortened(key)}")

    def __enter__(self) -> Marker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the mark: the task is done, or has failed in a way that explains itself."""
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):  # the run's folder may be gone
            os.unlink(self._path)

    def at(self, place: str) -> None:
        """Say where the task is."""
        self._mark = replace(self._mark, place=place)
        self._write()

    def _write(self) -> None:
        # What is left of a longer mark stands behind the newline, where nobody looks.
        # Not by `asdict`, which copies deeply: of many small files, that would be half of the work.
        content = json.dumps({name: getattr(self._mark, name) for name in _FIELDS}).encode() + b"\n"
        try:
            os.pwrite(self._file, content, 0)
        except OSError as error:
            raise disk_error(error, self._path, "what a task does") from None

    def _follow_lines(
        self, batches: Iterable[tuple[list[str], bool]]
    ) -> Iterator[tuple[list[str], bool]]:
        number = 0
        self.at(describe_reading(1))
        for lines, has_cr in batches:
            # Batches stay as they are: pairs are folded by the batch.
            yield _Followed(lines, self, number), has_cr
            number += len(lines)
            self.at(describe_reading(number + 1))

    def _follow_groups(
        self, groups: Iterable[tuple[Any, Sequence[Any]]]
    ) -> Iterator[tuple[Any, Sequence[Any]]]:
        self.at("the first key, whose values it was gathering")
        for key, values in groups:
            name = shortened(key)
            self.at(f"the key {name}, which has {len(values):,} values")
            yield key, values
            self.at(f"the key after {name}, whose values it was gathering")


class _Followed(list[str]):
    """Lines that say when they are reached."""

    def __init__(self, lines: list[str], marker: Marker, before: int) -> None:
        super().__init__(lines)
        self._marker = marker
        self._before = before

    def __iter__(self) -> Iterator[str]:
        for number, line in enumerate(super().__iter__(), self._before + 1):
            self._marker.at(describe_line(number, line))
            yield line


def describe_line(number: int, line: str) -> str:
    """Name a line, with its length where that matters.

    >>> describe_line(7, "short"), describe_line(8, "x" * 1_000_000)
    ('line 7', 'line 8, which has 1,000,000 characters')
    """
    length = len(line)
    return f"line {number}" + (f", which has {length:,} characters" if length >= _LONG else "")


def describe_reading(number: int) -> str:
    """Name the line that is read, as the place of whatever goes wrong then."""
    return f"line {number}, which it was reading"


def read_marks(run_dir: str, task: str = "") -> list[Mark]:
    """Return the marks of tasks that run, or whose process died; the latest comes last.

    - `run_dir`: the run's folder.
    - `task`: what their names begin with, as ``"map-7."``.
    """
    folder = os.path.join(run_dir, "marks")
    marks = []
    for name in os.listdir(folder):
        if name.startswith(task) and not name.startswith(_KILLED):
            with contextlib.suppress(FileNotFoundError):  # the task is done
                with open(os.path.join(folder, name), "rb") as file:
                    content = file.read().partition(b"\n")[0]
                if content:  # else it has only just been made
                    marks.append(Mark(**json.loads(content)))
    return sorted(marks, key=lambda mark: mark.since)


def _read_marks(run_dir: str, task: str) -> list[Mark]:
    try:
        return read_marks(run_dir, task)
    except FileNotFoundError:
        raise JobError(
            f"The run's folder {run_dir} is not there for {describe_worker()}. A worker that joins "
            "while a job runs must see what the others see: the work dir, or the spill dir "
            "(--spill-dir)."
        ) from None


def note_kill(run_dir: str, pid: int, held: int) -> None:
    """Note that a process is killed since it holds `held` bytes of memory; 0 is not known.

    What the system kills when the machine is out of memory may hold less than it was allowed to.
    """
    path = os.path.join(run_dir, "marks", f"{_KILLED}{pid}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(f"{path}.new", "w") as file:
        file.write(str(held))
    os.rename(f"{path}.new", path)


def read_kills(run_dir: str) -> Kills:
    """Return what processes held when they were killed for it, by process id."""
    folder = os.path.join(run_dir, "marks")
    kills: dict[int | tuple[str, int], int] = {}
    for name in os.listdir(folder):
        pid = name.removeprefix(_KILLED)
        if pid != name and pid.isdecimal():
            with open(os.path.join(folder, name)) as file:
                kills[int(pid)] = int(file.read())
    return kills


def by_task(marks: Iterable[Mark]) -> list[list[Mark]]:
    """Bring the marks of each task together."""
    tasks: dict[tuple[str, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        tasks[mark.phase, mark.number].append(mark)
    return list(tasks.values())


def is_alive(pid: int) -> bool:
    """Tell a task at work from the mark of one whose process died."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Tell a process that has died, though its parent has not looked yet."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return True
