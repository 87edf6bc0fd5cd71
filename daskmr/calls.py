"""Loading the script, calling `combine` and `setup_reduce`, and profiling, as all tasks do."""

from __future__ import annotations

import cProfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from daskmr.callers import Call, calls_user
from daskmr.deaths import refuse_third_load
from daskmr.failures import is_interruption, shortened, user_failure
from daskmr.job import Job
from daskmr.marks import Marker
from daskmr.runs import Combiner
from daskmr.tally import Profile


class Profiling:
    """Profiles a block where that is wanted.

    Attributes
    ----------
    profile : dict or None
        What ``cProfile`` counted, once the block is left.

    Examples
    --------
    >>> with Profiling(wanted=False) as profiling:
    ...     pass
    >>> profiling.profile is None
    True
    """

    def __init__(self, wanted: bool) -> None:
        self.profile: Profile | None = None
        self._profiler = cProfile.Profile() if wanted else None

    def __enter__(self) -> Profiling:
        if self._profiler is not None:
            self._profiler.enable()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._profiler is not None:
            self._profiler.disable()
            self._profiler.create_stats()
            self.profile = self._profiler.stats


__all__ = ["Profiling", "activated", "combiner_of", "load", "set_up"]


def load(job: Job, run_dir: str, number: int) -> None:
    """Load the script unless that is done, with a mark meanwhile: it may end the process.

    Parameters
    ----------
    job : Job
    run_dir : str
        The run's folder.
    number : int
        The task's, as in its own marks.
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


def combiner_of(job: Job, before: Callable[[Any], object] | None = None) -> Combiner | None:
    """Wrap the job's `combine` so that what it raises names the key, and `before` is told it."""
    if job.combine is None:
        return None

    def on_error(error: BaseException, key: Any) -> Any:
        if is_interruption(error):
            raise error
        raise user_failure(job, "combine", f"for the key {shortened(key)}", error)

    return Combiner(job.combine, on_error, before)


@calls_user(lambda local: Call("setup_reduce"))
def set_up(job: Job, context: Any) -> tuple[Any, ...]:
    """Call `setup_reduce` on a fresh context and return what it wrote there: the header."""
    if job.setup_reduce is None:
        return ()
    try:
        job.setup_reduce(context)
        context.check_separators()
    except BaseException as error:
        if is_interruption(error):
            raise
        failure = error
    else:
        header = tuple(context.written)
        context.written.clear()
        return header
    raise user_failure(job, "setup_reduce", "before the first key", failure)
