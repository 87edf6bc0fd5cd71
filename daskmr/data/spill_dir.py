"""Scratch space for the intermediate files of a run, which are removed when the run ends.

If all workers share the run's folder, tasks write there. Otherwise, a task's reports, and files for
itself, go to a folder on its host, next to the worker's own. Segments for other tasks or the client
go to a store (``--spill-dir``): each is written to the host's folder first, then uploaded.
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
from collections.abc import Callable, Collection
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

_ALIVE = "alive"  # the object that a run renews, to mark that it is alive
RENEWED_EVERY = 3600.0
"""Seconds between renewals of a run's mark in a store."""

HOST_RENEWED_EVERY = 600.0
"""Seconds between renewals of a run's mark on the hosts of the workers."""

_STALE_AFTER = 24 * 3600.0
_HOST_STALE_AFTER = 3600.0
_RUN = "run-"  # prefix of the names of runs' folders
_FOLDERS = ("marks", "live", "segments", "cache", "files")
_RENEWED = "renewed"  # the file that a run renews on a host
_HOST_FOLDER = re.compile(r"daskmr-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class HostFolder:
    """A run's folder on a host that does not share the run's main folder.

    Methods use the worker of the current task, or `dask_worker`, which ``Client.run`` passes.
    """

    run_id: str  # part of the folder's name

    def path(self, dask_worker: Any = None) -> str:
        """Return its path, next to the workers' folders, which nannies remove when workers die."""
        worker = dask_worker or current_worker()
        base = tempfile.gettempdir() if worker is None else os.path.dirname(worker.local_directory)
        return os.path.join(base, f"daskmr-{self.run_id}")

    def make(self, dask_worker: Any = None) -> str:
        """Create the folder if it is missing, and return its path."""
        folder = self.path(dask_worker)
        try:
            for name in _FOLDERS:
                os.makedirs(os.path.join(folder, name), exist_ok=True)
            if not os.path.exists(os.path.join(folder, _RENEWED)):
                _renew_mark(folder)
        except OSError as error:
            raise disk_error(error, folder, "a task's files on its host") from None
        return folder

    def work_dir(self) -> str:
        """Return this host's folder for copies of remote files.

        If the host's own Dask configuration has a work dir, it is that; else in the run's folder.
        """
        import dask.config

        own = dask.config.get("daskmr.work-dir", default=None)
        if own and os.path.isabs(own):  # the packaged default is relative
            with contextlib.suppress(OSError):
                os.makedirs(own, exist_ok=True)
                if os.access(own, os.W_OK):
                    return str(own)
        return os.path.join(self.make(), "cache")

    def remove(self, dask_worker: Any = None) -> None:
        shutil.rmtree(self.path(dask_worker), ignore_errors=True)

    def renew(self, dask_worker: Any = None) -> None:
        """Renew the mark of a live run; must be called every ten minutes."""
        with contextlib.suppress(FileNotFoundError):  # no task has run on this host yet
            _renew_mark(self.path(dask_worker))

    def sweep(self, dask_worker: Any = None) -> None:
        """Remove the folders of dead runs from a host: those whose marks are no longer renewed."""
        base = os.path.dirname(self.path(dask_worker))
        for name in os.listdir(base) if os.path.isdir(base) else ():
            folder = os.path.join(base, name)
            with contextlib.suppress(OSError):  # another worker on this host may remove it too
                if _HOST_FOLDER.fullmatch(name) and _is_stale(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class SpillStore:
    """A run's segments in a store, if a spill dir is given. It may be pickled: it holds no secret."""

    run_id: str  # part of the folder's name
    source: Source | None  # the spill dir; ``None`` if none is given
    retries: int  # maximum number of retries of a request
    role: str = "spill dir"  # for messages

    @property
    def host(self) -> HostFolder:
        return HostFolder(self.run_id)

    @property
    def prefix(self) -> str:
        """The name of the run's folder, which ends in "/"."""
        return f"{_RUN}{self.run_id}/"

    def folder(self) -> str:
        """Return the local folder for incomplete segments.

        Raises `JobError` if there is no spill dir.
        """
        if self.source is None:
            raise JobError(
                "The job must keep data on disk for other workers, but the workers share neither "
                "their disks nor the work dir. Give --spill-dir, a path that all workers and "
                "this machine share, or a URL such as s3://BUCKET/spill; or allow more memory per "
                "partition (daskmr.spill-bytes). Nothing was written."
            )
        return os.path.join(self.host.path(), "segments")

    def upload(self, local: str) -> None:
        """Move a complete segment to the store."""
        self._try(lambda store: store.write_object(self._name(local), local))
        os.unlink(local)

    def read(self, name: str, offset: int, length: int) -> bytes:
        return self._try(lambda store: store.read(self._name(name), offset, length))

    def remove(self, name: str) -> None:
        with contextlib.suppress(StoreError):  # `clear` removes it at the latest
            self._store().delete([self._name(name)])

    def begin(self) -> None:
        """Create the run's folder, and remove those of dead runs; called by the client.

        Raises `InputError` if the spill dir is not writable.
        """
        try:
            self.renew()
            self._sweep()
        except StoreError as error:
            raise InputError(
                f"The {self.role} {self._url} cannot be used: {error} Name another one with "
                f"--{self.role.replace(' ', '-')}."
            ) from None

    def renew(self) -> None:
        """Renew the mark of a live run; must be called every hour."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"A run of daskmr keeps segments here. See its documentation.\n")
            file.flush()
            self._store().write_object(self.prefix + _ALIVE, file.name)

    def clear(self) -> None:
        """Remove the run's folder."""
        with contextlib.suppress(StoreError):  # a later run removes it
            self._clear(self.prefix)

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all segments but those of these names."""
        kept = {_ALIVE, *map(os.path.basename, names)}
        with contextlib.suppress(StoreError):  # `clear` removes them at the latest
            entries = chain.from_iterable(self._store().list(self.prefix))
            extra = [e.name for e in entries if not e.is_dir and e.name not in kept]
            self._store().delete([self.prefix + name for name in extra])

    def _sweep(self) -> None:
        """Remove the folders of dead runs: those whose marks are no longer renewed."""
        newest: dict[str, float] = {}
        for entry in chain.from_iterable(self._store().list("")):
            if entry.is_dir and entry.name.startswith(_RUN):
                folder = f"{entry.name}/"
                times = [e.mtime for e in chain.from_iterable(self._store().list(folder))]
                if times:
                    newest[folder] = max(math.inf if t is None else t for t in times)
        # The time by the store's own clock, because this run has just renewed its mark.
        now = newest.get(self.prefix, -math.inf)
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
        return self.prefix + os.path.basename(path)

    def _try(self, action: Callable[[Store], T]) -> T:
        try:
            return action(self._store())
        except StoreError as error:
            # Not a StoreError, because those from the input's store allow to skip the object.
            raise JobError(f"The {self.role} {self._url} failed: {error}") from None


@dataclass(frozen=True, slots=True)
class Scratch:
    """The scratch space of a run, which is passed to all its tasks."""

    run_dir: str  # the run's folder, on the client and on the hosts that share it
    store: SpillStore | None = None  # used instead if some workers do not share the folder

    @property
    def is_shared(self) -> bool:
        """Whether all workers share the run's folder."""
        return self.store is None

    def folder(self, dask_worker: Any = None) -> str:
        """Return the run's folder for this process; create it if it is on this host only."""
        return self.run_dir if self.store is None else self.store.host.make(dask_worker)

    def segments(self) -> str | SpillStore:
        """Return the place for segments of map and merge tasks."""
        return self.store or os.path.join(self.run_dir, "segments")

    def parts(self) -> str | SpillStore:
        """Return the place for parts of the output."""
        return self.store or os.path.join(self.run_dir, "parts")

    def keep_only(self, paths: Collection[str]) -> None:
        """Remove all segments but these, between two steps of a job."""
        if self.store is not None:
            if self.store.source is not None:
                self.store.keep_only(paths)
            return
        for folder in (os.path.join(self.run_dir, name) for name in ("segments", "parts")):
            for path in (entry.path for entry in os.scandir(folder)):
                if path not in paths:
                    with contextlib.suppress(OSError):  # the folder is removed at the end
                        os.unlink(path)


def _is_stale(folder: str) -> bool:
    """Check that a folder belongs to a dead run, and is not a user's folder with a similar name."""
    age = min(time.time() - os.stat(folder).st_mtime, _monotonic_age(folder))
    return age > _HOST_STALE_AFTER and {*_FOLDERS, _RENEWED}.issuperset(os.listdir(folder))


def _renew_mark(folder: str) -> None:
    """Record the current time of the wall clock and of the monotonic clock."""
    with open(os.path.join(folder, _RENEWED), "w") as file:
        json.dump([clock.origin().machine, time.monotonic()], file)
    os.utime(folder)


def _monotonic_age(folder: str) -> float:
    """Return the seconds since the mark was renewed; infinite unless on this machine and boot."""
    try:
        with open(os.path.join(folder, _RENEWED)) as file:
            machine, renewed = json.load(file)
    except (FileNotFoundError, ValueError):  # it does not exist, or is being written
        return math.inf
    return time.monotonic() - renewed if machine == clock.origin().machine else math.inf
