"""Where a worker finds the files of a job: in place, in a folder, or where they are still to arrive."""

from __future__ import annotations

import threading
from typing import NamedTuple

from daskmr.errors import TaskFailed
from daskmr.worker import check_cancelled, describe_worker

__all__ = ["Arrival", "Delivery", "folder_of", "put", "take_back"]

_POLL_SECONDS = 0.5


class Delivery(NamedTuple):
    """How a process gets what a job needs beside its source."""

    env: str = ""  # the token of environment variables
    # The folder of its files, or the token of an `Arrival`; "" if they are in place
    files: str = ""
    # Names the run to workers that outlive it: what they have loaded for another is never used.
    run: str = ""


class Arrival:
    """The files of a run on their way to this process.

    - `folder`: where they will be.
    - `problem`: the reason why they are not; "" if there is none.
    - `ended`: set when they are complete, or will never be.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.problem = ""
        self.ended = threading.Event()


_arrivals: dict[str, Arrival] = {}


def put(token: str, arrival: Arrival) -> None:
    """Expect the files of a run in this process."""
    _arrivals[token] = arrival


def take_back(token: str) -> None:
    """Forget the files of a run."""
    _arrivals.pop(token, None)


def folder_of(files: str) -> str:
    """Return the folder of the files of a `Delivery`, once they are complete.

    Raises `TaskFailed` if they do not arrive, or the job has been cancelled.
    """
    if not files or files.startswith("/"):
        return files
    arrival = _arrivals.get(files)
    if arrival is None:
        raise TaskFailed(
            f"The files of the job (--file) were not sent to {describe_worker()}. Start the job again."
        )
    while not arrival.ended.wait(_POLL_SECONDS):
        check_cancelled()
    if arrival.problem:
        raise TaskFailed(
            f"The files of the job (--file) could not be copied to {describe_worker()}: {arrival.problem}"
        )
    return arrival.folder
