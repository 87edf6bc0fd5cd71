"""Probe which files of a job the workers of a cluster see.

The client writes a file with random content, which each worker reads. Each worker also compares the
sizes of input files with the listing. A worker that joins later is checked only by its tasks.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from daskmr.data.listing import InputFile
from daskmr.data.spill_dir import HostFolder, SpillStore
from daskmr.errors import DaskMRError, InputError
from daskmr.tasks.crashes import Mark, clear_marks, is_alive, read_marks
from daskmr.text import some

__all__ = ["RESTART_SECONDS", "Ask", "HostMarks", "check_data", "check_spill_store", "sees_all"]

_SAMPLE = 8  # input files that each worker probes
_SHOWN = 3
_POLL_SECONDS = 0.1

RESTART_SECONDS = 10.0
"""The time in which a nanny replaces a worker that died."""

Ask = Callable[..., Mapping[str, Any]]
"""A function that calls another with arguments on each worker; it returns answers by worker address."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The answer of one worker: a problem or ``""``, and files that are larger for it."""

    problem: str = ""
    larger: tuple[tuple[str, int], ...] = ()
    host: str = field(default_factory=socket.gethostname)


def check_data(ask: Ask, root: str, files: Sequence[InputFile]) -> None:
    """Check that each worker sees the local input files below `root`.

    Raises `InputError` with the names of workers that do not, and with advice.
    """
    local = [file for file in files if not file.is_remote]
    if not local:
        return
    step = max(1, len(local) // (_SAMPLE - 1))
    sample = [*local[::step][: _SAMPLE - 1], local[-1]]
    found = ask(_probe_sizes, [(os.path.join(root, f.path), f.size) for f in sample])
    failure = _failure({address: _with_growth(found) for address, found in found.items()})
    if failure is not None:
        raise InputError(
            f"The input files in {root} look different to {failure.workers}: {failure.problem}. Put "
            "the data where all workers see it under the same path (a shared file system), read it "
            "from a store (--bucket), or run without the cluster."
        )


def sees_all(ask: Ask, folder: str) -> bool:
    """Check whether each worker can read what this process writes to `folder`, and can write there.

    ``False`` if there is no worker.
    """
    path, content = os.path.join(folder, f"seen-{secrets.token_hex(8)}"), secrets.token_hex(32)
    with open(path, "w") as file:
        file.write(content)
    try:
        found = ask(_probe_content, path, content)
    finally:
        os.unlink(path)
    return bool(found) and _failure(found) is None


def check_spill_store(ask: Ask, store: SpillStore) -> None:
    """Check that each worker can write to the spill dir and read from it.

    Raises `InputError` with the names of workers that cannot.
    """
    failure = _failure(ask(_probe_store, store))
    if failure is not None:
        raise InputError(
            f"The spill dir cannot be used by {failure.workers}: {failure.problem} For a store, "
            "workers need their own credentials, from their environment or a role."
        )


class HostMarks:
    """The folders that tasks leave on the hosts of workers, and the marks of processes that died."""

    def __init__(self, ask: Ask, host: HostFolder) -> None:
        self._ask = ask
        self._host = host
        self._folders: set[str] = set()
        self._marks: set[Mark] = set()
        ask(host.sweep)
        self._collect()

    def read(self) -> list[Mark]:
        """Return all marks found so far, the latest last."""
        self._ask_all_hosts(self._collect)
        return sorted(self._marks, key=lambda mark: mark.since)

    def renew(self) -> None:
        """Note on all hosts that the run is alive."""
        self._ask(self._host.renew)

    def clear(self) -> None:
        """Remove the marks of all tasks, between two steps of a job."""
        self._answers(_clear_marks)
        self._marks.clear()

    def forget(self) -> None:
        """Remove the run's folders; a later run removes those on hosts that do not answer."""
        self._ask_all_hosts(self._remove)

    def _ask_all_hosts(self, ask: Callable[[], set[str]]) -> None:
        """Ask until the hosts of all known folders have answered, or time is up.

        The host of a worker that has just died answers once its nanny has started another worker.
        """
        deadline = time.monotonic() + RESTART_SECONDS
        missing = set(self._folders) - ask()
        while missing and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            missing -= ask()

    def _collect(self) -> set[str]:
        found = self._answers(_read_marks)
        folders = {folder for folder, _ in found}
        self._folders |= folders
        self._marks.update(mark for _, marks in found for mark in marks)
        return folders

    def _remove(self) -> set[str]:
        return set(self._answers(_remove))

    def _answers(self, function: Callable[..., Any]) -> list[Any]:
        answers = self._ask(function, self._host).values()
        return [answer for answer in answers if not isinstance(answer, Exception)]


def _with_growth(found: Any) -> Any:
    """Report a file that is larger for a worker as a different file, unless it has grown here too."""
    for path, size in () if isinstance(found, Exception) else found.larger:
        here = os.stat(path).st_size if os.path.exists(path) else 0
        if here < size:
            return replace(found, problem=f"{path} has {size:,} bytes there and {here:,} here")
    return found


class _Failure(NamedTuple):
    """The names of the workers that found a problem, and the problem of the first one."""

    workers: str
    problem: str


def _failure(answers: Mapping[str, Any]) -> _Failure | None:
    names, problems = [], []
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            problem = f"{type(answer).__name__}: {answer}"
            answer = _Found(problem, host="(unknown)")
        if answer.problem:
            names.append(f"the worker {address} on host {answer.host}")
            problems.append(answer.problem)
    return _Failure(some(names, _SHOWN), problems[0]) if names else None


# --- on a worker --------------------------------------------------------------------------------


def _probe_sizes(files: list[tuple[str, int]]) -> _Found:
    larger = []
    for path, size in files:
        try:
            found = os.stat(path).st_size
        except OSError as error:
            return _Found(f"{path} cannot be read there ({error.strerror})")
        if found < size:
            return _Found(f"{path} has {found:,} bytes there and {size:,} here")
        if found > size:
            larger.append((path, found))
    return _Found(larger=tuple(larger))


def _probe_content(path: str, content: str) -> _Found:
    try:
        with open(path) as file:
            if file.read() != content:
                return _Found("it reads different content there")
        if not os.access(os.path.dirname(path), os.W_OK):
            return _Found("it cannot write there")
    except OSError as error:
        return _Found(str(error.strerror))
    return _Found()


def _probe_store(store: SpillStore, dask_worker: Any = None) -> _Found:
    try:
        folder = os.path.join(store.host.make(dask_worker), "segments")
        path, content = os.path.join(folder, secrets.token_hex(16)), secrets.token_bytes(32)
        with open(path, "xb") as file:
            file.write(content)
        store.upload(path)
        if store.read(path, 0, len(content)) != content:
            return _Found("it does not read back what it wrote.")
        store.remove(path)
    except OSError as error:
        return _Found(f"its own folder cannot be written ({error}).")
    except DaskMRError as error:
        return _Found(str(error))
    return _Found()


def _read_marks(host: HostFolder, dask_worker: Any = None) -> tuple[str, list[Mark]]:
    folder = host.path(dask_worker)
    has_marks = os.path.isdir(os.path.join(folder, "marks"))
    marks = [mark for mark in read_marks(folder) if not is_alive(mark.pid)] if has_marks else []
    return _place(host, dask_worker), marks


def _clear_marks(host: HostFolder, dask_worker: Any = None) -> None:
    clear_marks(host.path(dask_worker))


def _remove(host: HostFolder, dask_worker: Any = None) -> str:
    host.remove(dask_worker)
    return _place(host, dask_worker)


def _place(host: HostFolder, dask_worker: Any = None) -> str:
    return f"{socket.gethostname()}:{host.path(dask_worker)}"
