"""Calling `combine` and `setup_reduce`, which mappers and reducers both do."""

from __future__ import annotations

from typing import Any

from daskmr.failures import is_interruption, shortened, user_failure
from daskmr.job import Job
from daskmr.runs import Combiner

__all__ = ["combiner_of", "set_up"]


def combiner_of(job: Job) -> Combiner | None:
    """Wrap the job's `combine` so that what it raises names the key."""
    if job.combine is None:
        return None

    def on_error(error: BaseException, key: Any) -> Any:
        if is_interruption(error):
            raise error
        raise user_failure(job, "combine", f"for the key {shortened(key)}", error)

    return Combiner(job.combine, on_error)


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
