"""Calling `combine` and `setup_reduce`, and profiling, which mappers and reducers both do."""

from __future__ import annotations

import cProfile
from collections.abc import Callable
from typing import Any

from daskmr.callers import Call, calls_user
from daskmr.failures import Returned, is_interruption, shortened, user_failure
from daskmr.job import Job
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


__all__ = ["Profiling", "combiner_of", "set_up"]


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
        returned = job.setup_reduce(context)
        if isinstance(returned, str | list | tuple) and not context.written:
            raise Returned(returned)
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
