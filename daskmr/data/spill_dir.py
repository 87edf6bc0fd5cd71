"""Scratch space: where the tasks of a run keep what they write until the run is over.

That is the run's folder, where all workers see it. Where they do not, what only a task itself reads,
and what it reports of itself, goes to a folder on its host, below the worker's own. What other tasks
and the client read goes to a store (``--spill-dir``), one object a segment, which is written to the
host's folder first and uploaded when it is complete.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

from daskmr import clock
from daskmr.errors import InputError, JobError
from daskmr.store.open_stores import shared_store
from daskmr.store.source import Source, StoreError
from daskmr.workdir import disk_error
from daskmr.worker import current_worker

if TYPE_CHECKING:
    from daskmr.store.store import Store

__all__ = ["HOST_RENEWED_EVERY", "RENEWED_EVERY", "HostFolder", "Scratch", "SpillStore"]

T = TypeVar("T")

_ALIVE = "alive"  # the object that a run renews
RENEWED_EVERY = 3600.0
"""Seconds between two renewals of a run's mark in a store."""

HOST_RENEWED_EVERY = 600.0
"""Seconds between two renewals of its mark on the hosts of the workers."""

_STALE_AFTER = 24 * 3600.0
_HOST_STALE_AFTER = 3600.0
_RUN = "run-"  # what the names of folders begin with
_FOLDERS = ("marks", "live", "segments", "cache")
_RENEWED = "renewed"  # the mark on a host
_HOST_FOLDER = re.compile(r"daskmr-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class HostFolder:
    """A run's folder on a host that does not see the run's own.

    On a worker, methods take it from the current task, or from `dask_worker`, as ``Client.run`` gives it.
    """

    run_id: str  # of the run: in the name of the folder

    def path(self, dask_worker: Any = None) -> str:
        """Return its path: beside the folders of the workers.

        Not in the folder of one worker, which its nanny removes when the worker dies.
        """
        worker = dask_worker or current_worker()
        base = tempfile.gettempdir() if worker is None else os.path.dirname(worker.local_directory)
        return os.path.join(base, f"daskmr-{self.run_id}")

    def make(self, dask_worker: Any = None) -> str:
        folder = self.path(dask_worker)
        try:
            for name in _FOLDERS:
                os.makedirs(os.path.join(folder, name), exist_ok=True)
            if not os.path.exists(os.path.join(folder, _RENEWED)):
                _renew_mark(folder)
        except OSError as error:
            raise disk_error(error, folder, "what a task keeps on its host") from None
        return folder

    def work_dir(self) -> str:
        """Return the folder where this host keeps copies of remote files.

        The one that its own configuration of Dask names, which outlives the run; or the run's
        folder.
        """
        import dask.config

        own = dask.config.get("daskmr.work-dir", default=None)
        if own and os.path.isabs(own):  # else it is the packaged default, and of no place
            with contextlib.suppress(OSError):
                os.makedirs(own, exist_ok=True)
                if os.access(own, os.W_OK):
                    return str(own)
        return os.path.join(self.make(), "cache")

    def remove(self, dask_worker: Any = None) -> None:
        shutil.rmtree(self.path(dask_worker), ignore_errors=True)

    def renew(self, dask_worker: Any = None) -> None:
        """Renew the mark that the run lives; to be called every ten minutes."""
        with contextlib.suppress(FileNotFoundError):  # it has had no task yet
            _renew_mark(self.path(dask_worker))

    def sweep(self, dask_worker: Any = None) -> None:
        """Remove the folders of killed runs from a host: their marks are no longer renewed."""
        base = os.path.dirname(self.path(dask_worker))
        for name in os.listdir(base) if os.path.isdir(base) else ():
            folder = os.path.join(base, name)
            with contextlib.suppress(OSError):  # another worker of this host removes it too
                if _HOST_FOLDER.fullmatch(name) and _is_stale(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class SpillStore:
    """A run's segments in a store, if it was given one. It may be pickled: it holds no secret."""

    run_id: str  # of the run: in the name of its folder
    source: Source | None  # the spill dir; ``None`` where none was given
    retries: int  # how often a request is tried again

    @property
    def host(self) -> HostFolder:
        return HostFolder(self.run_id)

    def folder(self) -> str:
        """Return the folder for a segment that is not complete.

        Raises `JobError` when there is no spill dir.
        """
        if self.source is None:
            raise JobError(
                "The job must keep data on disk for other workers, and the workers do not see each "
                "other's disks, nor the work dir. Give --spill-dir, a path that all workers and "
                "this machine share, or a URL such as s3://BUCKET/spill; or more memory to a "
                "partition (daskmr.spill-bytes). Nothing was written."
            )
        return os.path.join(self.host.path(), "segments")

    def upload(self, local: str) -> None:
        self._try(lambda store: store.write_object(self._name(local), local))
        os.unlink(local)

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._try(lambda store: store.read(self._name(name), offset, length))

    def remove(self, name: str) -> None:
        with contextlib.suppress(StoreError):  # it goes with the run's folder at the latest
            self._store().delete([self._name(name)])

    def begin(self) -> None:
        """Claim the run's folder, and remove those of runs that died: from the client.

        Raises `InputError` when the spill dir cannot be written.
        """
        try:
            self.renew()
            self._sweep()
        except StoreError as error:
            raise InputError(
                f"The spill dir {self._url} cannot be used: {error} Name another one with "
                "--spill-dir."
            ) from None

    def renew(self) -> None:
        """Renew the mark that the run lives; to be called every hour."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"A run of daskmr keeps segments here. See its documentation.\n")
            file.flush()
            self._store().write_object(f"{_RUN}{self.run_id}/{_ALIVE}", file.name)

    def clear(self) -> None:
        with contextlib.suppress(StoreError):  # the next run does it
            self._clear(f"{_RUN}{self.run_id}/")

    def _sweep(self) -> None:
        """Remove what killed runs left: their marks are no longer renewed."""
        newest: dict[str, float] = {}
        for entry in chain.from_iterable(self._store().list("")):
            if entry.is_dir and entry.name.startswith(_RUN):
                folder = f"{entry.name}/"
                times = [e.mtime for e in chain.from_iterable(self._store().list(folder))]
                if times:
                    newest[folder] = max(math.inf if t is None else t for t in times)
        # By the store's own clock, as this run has just written there.
        now = newest.get(f"{_RUN}{self.run_id}/", -math.inf)
        for folder, written in newest.items():
            if now - written > _STALE_AFTER:
                self._clear(folder)

    def _clear(self, folder: str) -> None:
        entries = chain.from_iterable(self._store().list(folder))
        self._store().delete([folder + entry.name for entry in entries if not entry.is_dir])

    def _store(self) -> Store:
        assert self.source is not None
        return shared_store(self.source, self.retries)

    @property
    def _url(self) -> str:
        return self.source.url if self.source is not None else ""

    def _name(self, path: str) -> str:
        return f"{_RUN}{self.run_id}/{os.path.basename(path)}"

    def _try(self, action: Callable[[Store], T]) -> T:
        try:
            return action(self._store())
        except StoreError as error:
            # Not as an error of the input's store, whose objects may be left out.
            raise JobError(f"The spill dir {self._url} failed: {error}") from None


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where the tasks of a run write. It is given to each of them."""

    run_dir: str  # the run's folder, on the client and wherever else it is seen
    store: SpillStore | None = None  # used in its place where some workers do not see it

    @property
    def is_shared(self) -> bool:
        return self.store is None

    def folder(self, dask_worker: Any = None) -> str:
        """Return the run's folder for this process, which a host makes when it is missing."""
        return self.run_dir if self.store is None else self.store.host.make(dask_worker)

    def segments(self) -> str | SpillStore:
        return self.store or os.path.join(self.run_dir, "segments")

    def parts(self) -> str | SpillStore:
        return self.store or os.path.join(self.run_dir, "parts")


def _is_stale(folder: str) -> bool:
    """Check that a folder is of a dead run, and no folder of the user's that has such a name."""
    age = min(time.time() - os.stat(folder).st_mtime, _monotonic_age(folder))
    return age > _HOST_STALE_AFTER and {*_FOLDERS, _RENEWED}.issuperset(os.listdir(folder))


def _renew_mark(folder: str) -> None:
    """Record the time, by the wall clock and by the monotonic clock."""
    with open(os.path.join(folder, _RENEWED), "w") as file:
        json.dump([clock.origin().machine, time.monotonic()], file)
    os.utime(folder)


def _monotonic_age(folder: str) -> float:
    """Seconds since a run of this machine, in this boot, renewed its mark."""
    try:
        with open(os.path.join(folder, _RENEWED)) as file:
            machine, renewed = json.load(file)
    except (FileNotFoundError, ValueError):  # there is none, or it is being written
        return math.inf
    return time.monotonic() - renewed if machine == clock.origin().machine else math.inf
