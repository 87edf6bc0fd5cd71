"""Marks: files that record what a task is doing, and outlive its process.

When a worker dies, its mark shows what it was doing. On the first try it names only the file that is
read, which costs next to nothing. If a task is retried because its process died, the mark follows it
from line to line, or from key to key. Code that kills a process leaves a note beside the marks.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import length_hint
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from daskmr import clock
from daskmr.errors import JobError
from daskmr.files import AtomicFile
from daskmr.memory import limit
from daskmr.tasks.guard import shortened
from daskmr.workdir import disk_error
from daskmr.worker import describe_worker, worker_address

if TYPE_CHECKING:
    from daskmr.data.readers.records import Records

__all__ = [
    "COMBINING",
    "FETCHING",
    "Kills",
    "Mark",
    "Marker",
    "by_task",
    "clear_marks",
    "describe_line",
    "describe_reading",
    "is_alive",
    "note_kill",
    "process_name",
    "read_kills",
    "read_marks",
]

_KILLED = "killed."  # with the process id appended, the name of a note
FETCHING = "the fetch of that file"
"""The place in the mark of a task that waits for its next file."""

COMBINING = "its end, where the mapped pairs are combined"
"""The place in the mark of a task that has read all of its files."""

_LONG = 1_000_000  # characters from which on the length of a line is mentioned

Kills = Mapping[int | tuple[str, int], int]
"""Bytes that processes used when they were killed for it, by process id on this machine; elsewhere by
the worker's address and process id, because all processes in containers may have the same id."""


class Mark(NamedTuple):
    """The current activity of a task."""

    phase: str  # ``"load"``, ``"map"``, ``"merge"`` or ``"reduce"``
    number: int  # the partition, the bucket that is merged, or the first bucket of the reducer
    pid: int  # the process that runs the task
    since: float  # when it began the file, or the reduce phase, in seconds since the epoch
    path: str = ""  # the file that is read, relative to the data dir; ``""`` when reducing
    # Such as ``"line 7"``, if an earlier process crashed in this task; `FETCHING`; or ``""``.
    place: str = ""
    limit: int | None = None  # bytes beyond which the process is killed
    host: str = ""  # the name of its machine; ``""`` means this one
    process: str = ""  # unique among all processes, unlike a process id in a container
    # The file, as listed, whose records `map` processes; ``""`` at any other time.
    file: str = ""
    worker: str = ""  # the address of its worker; ``""`` without one

    @property
    def is_local(self) -> bool:
        """Check whether its process is, or was, on this machine."""
        return self.host in ("", _host())

    def killed_with(self, kills: Kills) -> int | None:
        """Return how many bytes its process used when it was killed for it; ``None`` if it was not."""
        return kills.get((self.worker, self.pid), kills.get(self.pid))


_numbers = itertools.count()


@functools.cache
def _host() -> str:
    return socket.gethostname()


@functools.cache
def process_name() -> str:
    """Return a name of this process that is unique forever."""
    return uuid.uuid4().hex[:12]


os.register_at_fork(after_in_child=process_name.cache_clear)


class Marker:
    """The mark of one task, which is kept until its block is left or the process ends.

    - `phase`, `number`: as in a `Mark`.
    - `earlier`: marks of processes that died during this task.
    """

    def __init__(self, run_dir: str, phase: str, number: int) -> None:
        pid = os.getpid()
        process = process_name()
        self._mark = Mark(
            phase, number, pid, clock.now(), limit=limit(), host=_host(), process=process,
            worker=worker_address(),
        )  # fmt: skip
        task = f"{phase}-{number}."
        try:
            self.earlier = [m for m in read_marks(run_dir, task) if m.process != process]
        except FileNotFoundError:
            raise JobError(
                f"The run's folder {run_dir} does not exist for {describe_worker()}. A worker that "
                "joins while a job runs needs access to the work dir of the others, or to the spill dir "
                "(--spill-dir)."
            ) from None
        if phase in ("merge", "load"):  # other processes may use the same number
            self.earlier = [m for m in self.earlier if m.is_local and not is_alive(m.pid)]
        self._path = os.path.join(run_dir, "marks", f"{task}{pid}-{process}-{next(_numbers)}")
        try:
            self._file = os.open(self._path, os.O_CREAT | os.O_WRONLY, 0o600)
        except OSError as error:
            raise disk_error(error, self._path, "what a task does") from None
        self._write()

    def __enter__(self) -> Marker:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Remove the mark: the task is done, or has failed in a way that explains itself."""
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):  # the run's folder may be gone
            os.unlink(self._path)

    def begin(self, path: str, file: str = "") -> None:
        """Record the file that is read from now on."""
        self._write(since=clock.now(), path=path, place="", file=file)

    def at_end(self, place: str = COMBINING) -> None:
        """Record that all files are read, or none yet; or all keys are reduced.

        - `place`: where the task is.
        """
        self._write(since=clock.now(), place=place, file="")

    def fetch(self, path: str) -> None:
        """Record the file that the task waits for."""
        self._write(since=clock.now(), path=path, place=FETCHING, file="")

    def lines(
        self, batches: Iterable[tuple[list[str], bool]], before: Callable[[], int] | None = None
    ) -> Iterable[tuple[list[str], bool]]:
        """Pass on the lines of that file, and record each one if an earlier process died.

        - `before`: counts the lines before the part of the file that is read, if it is only a part.
        """
        return self._follow_lines(batches, before) if self.earlier else batches

    def records(
        self, batches: Iterable[Records], before: Callable[[], int] | None = None
    ) -> Iterable[Records]:
        """Pass on the records of a reader like `lines`."""
        return self._follow_records(batches, before) if self.earlier else batches

    def groups(
        self, groups: Iterable[tuple[Any, Sequence[Any]]]
    ) -> Iterable[tuple[Any, Sequence[Any]]]:
        """Pass on groups, and record each one if an earlier process died."""
        return self._follow_groups(groups) if self.earlier else groups

    def key(self, key: Any) -> None:
        """Record the key whose values are combined, if an earlier process died."""
        if self.earlier:
            self._write(place=f"the key {shortened(key)}")

    def _write(self, **changes: Any) -> None:
        self._mark = self._mark._replace(**changes)
        # Readers stop at the newline, and so ignore the rest of a longer mark.
        content = json.dumps(self._mark._asdict()).encode() + b"\n"
        try:
            os.pwrite(self._file, content, 0)
        except OSError as error:
            raise disk_error(error, self._path, "what a task does") from None

    def _follow_lines(
        self, batches: Iterable[tuple[list[str], bool]], before: Callable[[], int] | None
    ) -> Iterator[tuple[list[str], bool]]:
        def mark(number: int, line: str) -> None:
            self._write(place=describe_line(number, line))

        number = 0 if before is None else before()
        self._write(place=describe_reading(number + 1))
        for lines, has_cr in batches:
            # Keep the batches unchanged, because pairs are folded in batches.
            yield _MarkedLines(lines, number + 1, mark), has_cr
            number += len(lines)
            self._write(place=describe_reading(number + 1))

    def _follow_records(
        self, batches: Iterable[Records], before: Callable[[], int] | None
    ) -> Iterator[Records]:
        def mark(index: int, _: Any) -> None:
            self._write(place=describe_line(first + numbers[index], ""))

        last = first = 0 if before is None else before()
        self._write(place=describe_reading(last + 1))
        for batch in batches:
            numbers = batch.numbers
            yield batch._replace(values=_MarkedLines(batch.values, 0, mark))
            last = first + numbers[-1] if numbers else last
            self._write(place=describe_reading(last + 1))

    def _follow_groups(
        self, groups: Iterable[tuple[Any, Sequence[Any]]]
    ) -> Iterator[tuple[Any, Sequence[Any]]]:
        self._write(place="the first key, whose values it was gathering")
        for key, values in groups:
            name = shortened(key)
            self._write(place=f"the key {name}, which has {len(values):,} values")
            yield key, values
            self._write(place=f"the key after {name}, whose values it was gathering")


class _MarkedLines(list[Any]):
    """Lines that call `mark` with the number and text of each line that an iteration reaches."""

    def __init__(self, lines: list[Any], first: int, mark: Callable[[int, Any], object]) -> None:
        super().__init__(lines)
        self._first = first
        self._mark = mark

    def __iter__(self) -> Iterator[Any]:
        return _MarkedIterator(super().__iter__(), self._first, self._mark)


class _MarkedIterator(Iterator[Any]):
    def __init__(
        self, lines: Iterator[Any], first: int, mark: Callable[[int, Any], object]
    ) -> None:
        self._lines = lines
        self._numbers = itertools.count(first)
        self._mark = mark

    def __next__(self) -> Any:
        line = next(self._lines)
        self._mark(next(self._numbers), line)
        return line

    def __length_hint__(self) -> int:
        return length_hint(self._lines)


def describe_line(number: int, line: str) -> str:
    """Describe a line, with its length if it is very long.

    >>> describe_line(7, "short"), describe_line(8, "x" * 1_000_000)
    ('line 7', 'line 8, which has 1,000,000 characters')
    """
    length = len(line)
    return f"line {number}" + (f", which has {length:,} characters" if length >= _LONG else "")


def describe_reading(number: int) -> str:
    """Describe the line that is being read."""
    return f"line {number}, which it was reading"


def read_marks(run_dir: str, task: str = "") -> list[Mark]:
    """Return the marks of running tasks and of tasks whose process died, the latest last.

    - `task`: the prefix of their names, such as ``"map-7."``.
    """
    folder = os.path.join(run_dir, "marks")
    marks = []
    for name in os.listdir(folder):
        if name.startswith(task) and not name.startswith((_KILLED, ".")):
            with contextlib.suppress(FileNotFoundError):  # the task is done
                with open(os.path.join(folder, name), "rb") as file:
                    content = file.read().partition(b"\n")[0]
                if content:  # else it was only just created
                    marks.append(Mark(**json.loads(content)))
    return sorted(marks, key=lambda mark: mark.since)


def clear_marks(run_dir: str) -> None:
    """Remove the marks of all tasks: those of the next step have the same numbers."""
    folder = os.path.join(run_dir, "marks")
    with contextlib.suppress(FileNotFoundError):  # no task has run on this host
        for name in os.listdir(folder):
            if not name.startswith(_KILLED):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def note_kill(run_dir: str, pid: int, held: int) -> None:
    """Record that a process is killed because it uses `held` bytes of memory; 0 if unknown.

    A process that the system kills when the machine is out of memory may use less than its limit.
    """
    path = os.path.join(run_dir, "marks", f"{_KILLED}{pid}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with AtomicFile(path, sweep_dead=False) as note:
        note.file.write(b"%d" % held)
        note.sync()
        note.commit()


def read_kills(run_dir: str) -> Kills:
    """Return how many bytes processes used when they were killed for it, by process id."""
    kills: dict[int | tuple[str, int], int] = {}
    for path in Path(run_dir, "marks").glob(f"{_KILLED}*"):
        kills[int(path.name.removeprefix(_KILLED))] = int(path.read_text())
    return kills


def by_task(marks: Iterable[Mark]) -> list[list[Mark]]:
    """Group marks by their task."""
    tasks: dict[tuple[str, int], list[Mark]] = defaultdict(list)
    for mark in marks:
        tasks[mark.phase, mark.number].append(mark)
    return list(tasks.values())


def is_alive(pid: int) -> bool:
    """Check whether a process runs; a zombie, for which its parent has not waited yet, does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
