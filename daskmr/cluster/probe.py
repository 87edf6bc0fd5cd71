"""What the workers of somebody's cluster see of the files that a job is about.

The client writes a file with random content, and each worker is asked to read it; and whether the
input files have the sizes that were listed. A worker that joins later finds out with its tasks.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from daskmr.data.listing import InputFile
from daskmr.data.spill_dir import HostFolder, SpillStore
from daskmr.errors import DaskMRError, InputError
from daskmr.tasks.crashes import Mark, is_alive, read_marks

__all__ = ["RESTART_SECONDS", "Ask", "HostMarks", "check_data", "check_spill_store", "sees_all"]

_SAMPLE = 8  # input files that each worker looks at
_SHOWN = 3
_POLL_SECONDS = 0.1

RESTART_SECONDS = 10.0
"""How long a worker that has died is waited for, until its nanny has started another."""

Ask = Callable[..., Mapping[str, Any]]
"""Calls a function with arguments on each worker; gives the answers by the worker's address."""


@dataclass(frozen=True, slots=True)
class _Sight:
    """What one worker sees: its host, what is wrong or ``""``, and what has more bytes there."""

    host: str
    problem: str
    larger: tuple[tuple[str, int], ...] = ()


def check_data(ask: Ask, root: str, files: Sequence[InputFile]) -> None:
    """See whether each worker sees the local files among `files`.

    Parameters
    ----------
    ask : callable
        Asks the workers.
    root : str
        The data dir.
    files : sequence of InputFile
        What the job reads, in input order.

    Raises
    ------
    InputError
        Naming a worker that does not see them, and the ways out.
    """
    local = [file for file in files if not file.is_remote]
    if not local:
        return
    step = max(1, len(local) // (_SAMPLE - 1))
    sample = [*local[::step][: _SAMPLE - 1], local[-1]]
    sights = ask(_look_at_sizes, [(os.path.join(root, f.path), f.size) for f in sample])
    blind = _blind({address: _with_growth(sight) for address, sight in sights.items()})
    if blind:
        raise InputError(
            f"The input files in {root} are not what {_name(blind)} sees: "
            f"{next(iter(blind.values())).problem}. Put the data where all workers see it under the "
            "same path (a shared file system), read it from a store (--bucket), or run without the "
            "cluster."
        )


def sees_all(ask: Ask, folder: str) -> bool:
    """Tell whether each worker sees what this process writes to `folder`, and can write there.

    Without any worker yet, that is not known, and so not said.
    """
    name = f"seen-{secrets.token_hex(8)}"
    path, content = os.path.join(folder, name), secrets.token_hex(32)
    with open(path, "w") as file:
        file.write(content)
    try:
        sights = ask(_look_at_content, path, content)
    finally:
        os.unlink(path)
    return bool(sights) and not _blind(sights)


def check_spill_store(ask: Ask, store: SpillStore) -> None:
    """See whether each worker can write to the spill dir and read there.

    Raises
    ------
    InputError
        Naming a worker that cannot.
    """
    blind = _blind(ask(_look_at_store, store))
    if blind:
        raise InputError(
            f"The spill dir is of no use to {_name(blind)}: {next(iter(blind.values())).problem} "
            "Workers need credentials of their own for a store, from their environment or a role."
        )


class HostMarks:
    """What tasks leave on the hosts of the workers: the marks of processes that died, and folders.

    Parameters
    ----------
    ask : callable
        Asks the workers.
    host : HostFolder
        Where they keep it.
    """

    def __init__(self, ask: Ask, host: HostFolder) -> None:
        self._ask = ask
        self._host = host
        self._folders: set[str] = set()
        self._marks: set[Mark] = set()
        ask(_sweep, host)
        self._look()

    def read(self) -> list[Mark]:
        """Give all marks that were found, now and before; the latest last.

        The worker that has just died may have left what matters, so it is waited for until its
        nanny has started another, for a few seconds.
        """
        deadline = time.monotonic() + RESTART_SECONDS
        known = set(self._folders)
        missing = known - self._look()
        while missing and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            missing -= self._look()
        return sorted(self._marks, key=lambda mark: mark.since)

    def _look(self) -> set[str]:
        answers = self._ask(_read_marks, self._host).values()
        told = [answer for answer in answers if not isinstance(answer, Exception)]
        folders = {folder for folder, _ in told}
        self._folders |= folders
        self._marks.update(mark for _, marks in told for mark in marks)
        return folders

    def renew(self) -> None:
        """Say on all hosts that the run lives."""
        self._ask(_renew, self._host)

    def forget(self) -> None:
        """Remove what the run has left on the hosts.

        A worker that has just died is waited for like in `read`; if none comes, it is left to a
        later run.
        """
        deadline = time.monotonic() + RESTART_SECONDS
        missing = self._folders - self._remove()
        while missing and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            missing -= self._remove()

    def _remove(self) -> set[str]:
        answers = self._ask(_remove, self._host).values()
        return {answer for answer in answers if not isinstance(answer, Exception)}


def _with_growth(sight: Any) -> Any:
    """Take a file that is larger on a worker for another one, unless it has grown here too."""
    for path, size in () if isinstance(sight, Exception) else sight.larger:
        here = os.stat(path).st_size if os.path.exists(path) else 0
        if here < size:
            return replace(sight, problem=f"{path} has {size:,} bytes there and {here:,} here")
    return sight


def _blind(answers: Mapping[str, Any]) -> dict[str, _Sight]:
    blind = {}
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            answer = _Sight("that cannot tell", f"{type(answer).__name__}: {answer}")
        if answer.problem:
            blind[address] = answer
    return blind


def _name(blind: Mapping[str, _Sight]) -> str:
    names = [f"the worker {address} on host {s.host}" for address, s in blind.items()][:_SHOWN]
    more = f" and {len(blind) - _SHOWN:,} more" if len(blind) > _SHOWN else ""
    return ", ".join(names) + more


# --- on a worker --------------------------------------------------------------------------------


def _look_at_sizes(files: list[tuple[str, int]]) -> _Sight:
    larger = []
    for path, size in files:
        try:
            found = os.stat(path).st_size
        except OSError as error:
            return _sight(f"{path} cannot be read there ({error.strerror})")
        if found < size:
            return _sight(f"{path} has {found:,} bytes there and {size:,} here")
        if found > size:
            larger.append((path, found))
    return replace(_sight(), larger=tuple(larger))


def _look_at_content(path: str, content: str) -> _Sight:
    try:
        with open(path) as file:
            if file.read() != content:
                return _sight("it reads something else there")
        if not os.access(os.path.dirname(path), os.W_OK):
            return _sight("it cannot write there")
    except OSError as error:
        return _sight(str(error.strerror))
    return _sight()


def _look_at_store(store: SpillStore, dask_worker: Any = None) -> _Sight:
    try:
        folder = os.path.join(store.host.make(dask_worker), "segments")
        path, content = os.path.join(folder, secrets.token_hex(16)), secrets.token_bytes(32)
        with open(path, "xb") as file:
            file.write(content)
        store.upload(path)
        if store.read(path, 0, len(content)) != content:
            return _sight("it reads something else than it wrote.")
        store.remove(path)
    except OSError as error:
        return _sight(f"its own folder cannot be written ({error}).")
    except DaskMRError as error:
        return _sight(str(error))
    return _sight()


def _read_marks(host: HostFolder, dask_worker: Any = None) -> tuple[str, list[Mark]]:
    folder = host.path(dask_worker)
    place = _place(host, dask_worker)
    if not os.path.isdir(os.path.join(folder, "marks")):
        return place, []
    return place, [mark for mark in read_marks(folder) if not is_alive(mark.pid)]


def _remove(host: HostFolder, dask_worker: Any = None) -> str:
    host.remove(dask_worker)
    return _place(host, dask_worker)


def _renew(host: HostFolder, dask_worker: Any = None) -> None:
    host.renew(dask_worker)


def _sweep(host: HostFolder, dask_worker: Any = None) -> None:
    host.sweep(dask_worker)


def _place(host: HostFolder, dask_worker: Any = None) -> str:
    return f"{socket.gethostname()}:{host.path(dask_worker)}"


def _sight(problem: str = "") -> _Sight:
    return _Sight(socket.gethostname(), problem)
