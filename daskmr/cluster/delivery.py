"""Bring what a job needs beside its source to the workers: environment variables and files."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from daskmr.cluster.session import Session
from daskmr.data.spill_dir import HostFolder
from daskmr.job.job import Job, forget
from daskmr.job.shipped.contents import Sent, Unpacker, entries_of, stream
from daskmr.job.shipped.places import Delivery
from daskmr.workdir import disk_error

__all__ = ["check_files", "delivered", "files_of"]

_END_SECONDS = 5.0  # the scheduler may be gone


@contextmanager
def delivered(
    job: Job, session: Session, pass_env: Sequence[str], run_dir: str, host: HostFolder | None
) -> Iterator[Job]:
    """Yield the job for its tasks; within the block, workers elsewhere have what it needs.

    Workers of this machine have the environment, and read files in place.

    - `pass_env`: names of environment variables.
    - `run_dir`: the folder of the run.
    - `host`: the folder on each host, if the workers do not see that.
    """
    sent, env, files, run = files_of(job), "", "", ""
    with ExitStack() as stack:
        if session.client is not None and session.is_elsewhere:
            run = secrets.token_hex(8)
            stack.callback(session.ask, forget, run, seconds=_END_SECONDS)
            # Deferred: they import distributed.
            if pass_env:
                from daskmr.cluster.env_plugin import passed_env

                env = stack.enter_context(passed_env(session.client, pass_env))
            if sent and host is None:
                files = os.path.join(run_dir, "files")
                stack.callback(shutil.rmtree, files, ignore_errors=True)
                _copy(sent, files)
            elif sent and host is not None:
                from daskmr.cluster.files_plugin import sent_files

                files = stack.enter_context(sent_files(session.client, sent, host))
        yield job.delivered(Delivery(env, files, run))


def files_of(job: Job) -> list[Sent]:
    """Return the files of all steps, those of equal content and name once."""
    return [*{each.place: each for each in job.sent}.values()]


def check_files(job: Job, session: Session) -> None:
    """Raise JobError if files that are read in place have changed during the run."""
    if not session.is_elsewhere:
        for shipped in {id(step.shipped): step.shipped for step in job.steps}.values():
            shipped.check()


def _copy(sent: Sequence[Sent], folder: str) -> None:
    """Copy files to a folder that all workers see.

    Raises `JobError` if one has changed, or there is no space.
    """
    try:
        os.mkdir(folder)
        unpacker = Unpacker(entries_of(sent), folder)
        try:
            for chunk in stream(sent):
                unpacker.feed(chunk)
            unpacker.finish(sent)
        finally:
            unpacker.close()
    except OSError as error:
        raise disk_error(error, folder, "the files of the job") from None
