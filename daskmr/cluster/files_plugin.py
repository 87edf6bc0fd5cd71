"""Send files to the workers of a cluster that shares no disk with the client, also to late ones.

The client streams them, a chunk at a time, to an unnamed file on the scheduler's disk. A plugin of each
worker fetches them from there to a folder on its host, unless another worker of the host has done so.
Nothing passes through the graph. If the client is killed, the scheduler notices, and removes all copies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from distributed import Client, SchedulerPlugin, WorkerPlugin

from daskmr.cluster.dask_internals import ask_scheduler, register_plugin
from daskmr.data.spill_dir import HostFolder
from daskmr.errors import DaskMRError, JobError
from daskmr.files import try_lock
from daskmr.job.job import forget
from daskmr.job.shipped.contents import CHUNK, Sent, Unpacker, entries_of, stream
from daskmr.job.shipped.places import Arrival, put, take_back
from daskmr.job.tracebacks import describe_exception
from daskmr.signals import deferred

__all__ = ["FilesPlugin", "FilesRelay", "sent_files"]

logger = logging.getLogger(__name__)

_START_SECONDS = 20.0
_CHUNK_SECONDS = 120.0  # a scheduler that unpacks a large graph may be silent for seconds
_END_SECONDS = 5.0  # the scheduler may be gone
_LOCK_SECONDS = 0.05
_TRIES = 3


class FilesRelay(SchedulerPlugin):  # type: ignore[misc]
    """The files of one run, on the scheduler.

    - `name`: that of the operation by which the client and the workers call `handle`, and of the
      plugins on scheduler and workers.
    - `client`: the id of the client; when it disconnects, everything is removed.
    """

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self._client = client

    async def start(self, scheduler: Any) -> None:
        """Create the file; it has no name, so that it ends with this process at the latest."""
        import dask.config

        self._scheduler = scheduler
        folder = dask.config.get("temporary-directory", default=None)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        scheduler.handlers[self.name] = self.handle

    async def handle(
        self, offset: int = 0, data: bytes | None = None, ends: bool = False
    ) -> bytes | None:
        """Write `data` at `offset`, or return the chunk there; or end the run."""
        if ends:
            await self._end()
        elif data is not None:
            os.pwrite(self._file.fileno(), data, offset)
        else:
            return os.pread(self._file.fileno(), CHUNK, offset)
        return None

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Remove everything if the client has been killed."""
        if client == self._client:
            self._ending = asyncio.get_running_loop().create_task(self._end())

    async def close(self) -> None:
        """Close the file when the scheduler ends."""
        self._file.close()

    async def _end(self) -> None:
        scheduler, name = self._scheduler, self.name
        self._file.close()
        scheduler.handlers.pop(name, None)
        with suppress(ValueError):  # it has ended already
            scheduler.remove_plugin(name)
        with suppress(ValueError):
            await scheduler.unregister_worker_plugin(comm=None, name=name)


class FilesPlugin(WorkerPlugin):  # type: ignore[misc]
    """The files of one run, on a worker.

    - `name`: as in `FilesRelay`.
    - `host`: the folder of the run on each host.
    """

    def __init__(self, name: str, token: str, host: HostFolder, sent: Sequence[Sent]) -> None:
        self.name = name
        self._token = token
        self._host = host
        self._sent = [each._replace(entries=()) for each in sent]
        self._entries = entries_of(sent)

    def __repr__(self) -> str:
        return f"<FilesPlugin {', '.join(each.name for each in self._sent)}>"

    async def setup(self, worker: Any) -> None:
        """Begin to fetch the files, unless another worker of this host has done so."""
        arrival = Arrival(os.path.join(self._host.path(worker), "files", self._token))
        put(self._token, arrival)
        self._fetching = asyncio.get_running_loop().create_task(self._fetch(worker, arrival))

    async def teardown(self, worker: Any) -> None:
        """Remove the files at the end of the run, but not at that of the worker: others use them."""
        self._fetching.cancel()
        take_back(self._token)
        forget(self._token)
        if worker.status.name in ("running", "paused"):
            folder = os.path.join(self._host.path(worker), "files", self._token)
            shutil.rmtree(folder, ignore_errors=True)

    async def _fetch(self, worker: Any, arrival: Arrival) -> None:
        arrival.problem = "the worker has stopped to fetch them."
        try:
            await self._place(worker, arrival.folder)
            arrival.problem = ""
        except Exception as error:
            known = isinstance(error, DaskMRError)
            arrival.problem = str(error) if known else f"{describe_exception(error)}."
        finally:
            arrival.ended.set()

    async def _place(self, worker: Any, folder: str) -> None:
        base = os.path.join(self._host.make(worker), "files")
        lock = os.open(base, os.O_RDONLY)
        try:
            while not try_lock(lock):
                await asyncio.sleep(_LOCK_SECONDS)
            if os.path.isdir(folder):
                return
            new = f"{folder}.new"
            shutil.rmtree(new, ignore_errors=True)  # of a worker that was killed
            await self._unpack(worker, new)
            os.rename(new, folder)
        finally:
            os.close(lock)

    async def _unpack(self, worker: Any, folder: str) -> None:
        size, offset = sum(entry.size for entry in self._entries), 0
        os.mkdir(folder)
        unpacker = Unpacker(self._entries, folder)
        try:
            while offset < size:
                data = await self._read(worker, offset)
                unpacker.feed(data)
                offset += len(data)
            unpacker.finish(self._sent)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            unpacker.close()

    async def _read(self, worker: Any, offset: int) -> bytes:
        for left in reversed(range(_TRIES)):
            try:
                data: bytes = await getattr(worker.scheduler, self.name)(offset=offset)
            except OSError:  # the connection broke
                if not left:
                    raise
                await asyncio.sleep(1)
            else:
                if data:
                    return data
                break
        raise JobError("the scheduler does not have them any more. Start the job again.")


@contextmanager
def sent_files(client: Client, sent: Sequence[Sent], host: HostFolder) -> Iterator[str]:
    """Send files to all workers of `client` for the duration of the block.

    Yields a token for `daskmr.job.shipped.places.Delivery`.
    Raises `JobError` if the scheduler cannot take them, or one has changed.
    """
    token = secrets.token_hex(8)
    name = f"daskmr-files-{token}"
    relay = pickle.dumps(FilesRelay(name, client.id))
    try:
        _tell(client, "register_scheduler_plugin", plugin=relay, name=name, idempotent=True)
        offset = 0
        for chunk in stream(sent):
            _tell(client, name, offset=offset, data=chunk)
            offset += len(chunk)
        try:
            register_plugin(client, _START_SECONDS, name, FilesPlugin(name, token, host, sent))
        except TimeoutError:  # a task on a worker without the files explains it
            logger.info("Some workers do not answer.")
        yield token
    finally:
        with deferred(), suppress(Exception):
            ask_scheduler(client, _END_SECONDS, name, ends=True)


def _tell(client: Client, operation: str, **arguments: Any) -> None:
    try:
        ask_scheduler(client, _CHUNK_SECONDS, operation, **arguments)
        return
    except Exception as error:
        reason = describe_exception(error)
    raise JobError(
        f"The files of the job (--file) could not be sent to the scheduler: {reason}. It keeps them in its "
        "folder for temporary files (temporary-directory in Dask's configuration, or TMPDIR). Nothing "
        "was written."
    )
