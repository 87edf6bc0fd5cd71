"""Loading the script in a task, under a mark of its own: it may end the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from daskmr.job.job import Job
from daskmr.tasks.crashes import Marker
from daskmr.tasks.deaths import refuse_third_load

__all__ = ["activated", "load"]


def load(job: Job, run_dir: str, number: int) -> None:
    """Load the script unless that is done, with a mark meanwhile: it may end the process.

    - `run_dir`: the run's folder.
    - `number`: the task's, as in its own marks.
    """
    if not job.is_loaded:
        with Marker(run_dir, "load", number) as marker:
            refuse_third_load(marker, run_dir)
            with job.activate():
                pass


@contextmanager
def activated(job: Job, run_dir: str, number: int) -> Iterator[None]:
    """`load` a job and enter `Job.activate`."""
    load(job, run_dir, number)
    with job.activate():
        yield
