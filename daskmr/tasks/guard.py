"""Protection against the user's code: interrupt it, keep the process alive, describe failures."""

from __future__ import annotations

import functools
import gc
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar

from daskmr.errors import DaskMRError, Interrupted, TaskFailed
from daskmr.job.keys import name_key
from daskmr.job.process_errors import explain_process_error, no_children
from daskmr.job.tracebacks import describe_exception, format_user_traceback, user_location
from daskmr.memory import NEAR_LIMIT, OutOfMemory, bounded, explain_shortage
from daskmr.signals import raises_interrupted
from daskmr.text import printable
from daskmr.worker import check_cancelled, current_worker

if TYPE_CHECKING:
    from daskmr.job.job import Job

__all__ = [
    "Returned",
    "TimeIsUp",
    "alarm",
    "guarded",
    "in_thread",
    "is_interruption",
    "no_exit",
    "shortened",
    "user_failure",
]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def shortened(value: Any, limit: int = 120) -> str:
    """Return the ``repr`` of `value`, cut to `limit` characters; never raises.

    >>> shortened("x" * 200, 10)
    "'xxxxxx..."
    """
    if isinstance(value, str | bytes) and len(value) > limit:
        value = value[:limit]
        return repr(value)[: limit - 3] + "..."
    try:
        text = name_key(value) if type(value) in (int, tuple) else repr(value)
    except Exception as error:
        return f"<a {type(value).__name__} whose repr raises {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


def is_interruption(error: BaseException) -> bool:
    """Check whether an exception is a real Ctrl-C or signal, rather than raised by the user's code.

    Signals reach only the main thread; Dask workers run tasks in another one.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, Interrupted) or (
        isinstance(error, KeyboardInterrupt) and not raises_interrupted()
    )


class Returned(TypeError):
    """One of the user's functions returned a value, which would be ignored.

    Examples
    --------
    >>> Returned(("a", 1)).explain("map")
    "it returned ('a', 1), which is not written. Instead of `return key, value` call `context.write(key, value)`"
    """

    def __init__(self, value: Any) -> None:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that it was never awaited
        super().__init__(f"returned {shortened(value)}")
        self.value = value

    def explain(self, function: str) -> str:
        """Describe the value that was returned, and how to write it."""
        kind = type(self.value).__name__
        if isinstance(self.value, Iterator | Awaitable):
            what = f"a {kind}, which was never run"
        else:
            what = f"{shortened(self.value)}, which is not written"
        return f"it returned {what}. {_how_to_write(function, self.value)}"


def _how_to_write(function: str, value: Any) -> str:
    if isinstance(value, Awaitable):
        return "Make it a plain function that calls `context.write(key, value)`"
    if isinstance(value, Iterator):
        return "Instead of `yield key, value` call `context.write(key, value)`"
    if function == "setup_map":
        return "To keep it for `map`, set an attribute: `context.state = ...`"
    if function == "setup_reduce":
        return "Instead of `return header` call `context.writeline(header)`"
    if function != "map":
        return "Instead of `return result` call `context.write(key, result)`"
    if isinstance(value, bool):
        return "Drop the value after `return`: `return` alone ends the call"
    if isinstance(value, Mapping):
        loop = "for key, value in result.items(): context.write(key, value)"
        return f"Instead of `return result` write `{loop}`"
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], tuple | list):
        return "Instead of `return key, value` call `context.write(key, value)`"
    if isinstance(value, tuple | list | set | frozenset):
        loop = "for key, value in pairs: context.write(key, value)"
        return f"Instead of `return pairs` write `{loop}`"
    return "Instead of `return result` call `context.write(key, result)`"


def user_failure(job: Job, function: str, where: str, error: BaseException) -> TaskFailed:
    """Describe which of the user's functions failed, where and why.

    - `where`: the record or the key, such as ``"at FILE, line 7"``.
    """
    if isinstance(error, TaskFailed):  # of the rows of an output that the function writes to
        return error
    kind = TaskFailed
    if isinstance(error, OutOfMemory):
        kind = _NearLimit
        trace = error.__traceback__
        traceback.clear_frames(trace)  # free the memory that their variables hold
        error = MemoryError(NEAR_LIMIT).with_traceback(trace)
    location = user_location(job, error)
    place = f" ({location})" if location else ""
    if isinstance(error, Returned):
        return kind(f"{function} failed {printable(where)}: {error.explain(function)}.")
    reason = describe_exception(error).removesuffix(".")
    message = f"{function} failed {printable(where)}: {reason}{place}."
    if isinstance(error, SystemExit):
        message += f" Return from {function} instead of ending the program."
    elif isinstance(error, MemoryError):
        message += f" {explain_shortage(function)}"
    elif hint := job.hint(error):
        message += hint
    elif (bdb := sys.modules.get("bdb")) and isinstance(error, bdb.BdbQuit):
        if current_worker() is None:
            advice = "The debugger was quit before the job was done: leave it with `continue`."
        else:
            advice = (
                "A worker process has no terminal, so a debugger ends there at once: run the job with "
                "--inline to stop at breakpoint()."
            )
        return kind(f"{message} {advice}")  # the traceback would be that of the debugger
    elif explanation := explain_process_error(error):
        message += f" {explanation}"
    else:
        from daskmr.job.porting_errors import advice_for  # deferred: only a failure needs it

        message += advice_for(error)
    return kind(message, format_user_traceback(job, error))


class TimeIsUp(BaseException):
    """Raised when the alarm goes off; not an ``Exception``, which a script may catch."""


@contextmanager
def alarm(seconds: float | None) -> Iterator[list[None]]:
    """Raise TimeIsUp in the block after `seconds`, if this thread can receive a signal.

    - `seconds`: ``None`` sets no alarm.
    Yields a list that is not empty once the alarm has gone off, even if the script swallows it.

    Examples
    --------
    >>> try:
    ...     with alarm(0.01) as rung:
    ...         while True:
    ...             pass
    ... except TimeIsUp:
    ...     bool(rung)
    True
    """
    rung: list[None] = []
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield rung
        return

    def ring(signum: int, frame: object) -> None:
        rung.append(None)
        raise TimeIsUp

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # repeated in case the script swallows it
    try:
        yield rung
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def no_exit() -> Iterator[None]:
    """Make ``os._exit`` in the user's code fail an inline job, which would seem to succeed.

    In a worker it ends the worker, which Dask notices.
    """
    if current_worker() is not None:
        yield
        return
    process, thread, leave = os.getpid(), threading.get_ident(), os._exit

    def refuse(status: int) -> NoReturn:
        if (os.getpid(), threading.get_ident()) != (process, thread):
            leave(status)  # a child that the script forked, or our own last resort
        raise SystemExit(f"os._exit({status}) was called")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = leave


def in_thread(function: Callable[[], _T]) -> _T:
    """Call `function` in another thread, where it cannot set signal handlers, as in a worker.

    An interruption ends the wait for the thread.
    """
    future: Future[_T] = Future()

    def call() -> None:
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name="daskmr-trial", daemon=True).start()
    return future.result()


# Held by the running task: on a worker with several threads, only one task at a time takes memory and
# calls functions of a script, which are written for one thread. Reentrant, because a task may run a job.
_RUNNING = threading.RLock()


class _NearLimit(TaskFailed):
    """The user's function used so much memory that its process was about to be killed."""


def _twice(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a task, and retry it once if it came near the memory limit.

    Garbage of an earlier task may have taken part of the memory.
    """
    failure: _NearLimit | None = None
    try:
        return bounded(function, *args, **kwargs)
    except _NearLimit as error:
        failure = error
    except OutOfMemory as error:
        if error.passed_over:
            raise
    gc.collect()
    try:
        return bounded(function, *args, **kwargs)
    except (_NearLimit, OutOfMemory) as error:
        # With the garbage of the first try, the second may not even reach the user's function, so
        # report the first failure, which names the place.
        if failure is None or (isinstance(error, OutOfMemory) and error.passed_over):
            raise
    raise failure


def guarded(phase: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Decorate a task of `phase`, so that it raises only `TaskFailed`, and tasks run one at a time.

    Any other exception may fail to pickle, refer to all of the data, or hang the client. So it is
    replaced by strings, raised after the ``except`` block, where nothing refers to the original.
    """

    def decorate(function: Callable[_P, _T]) -> Callable[_P, _T]:
        @functools.wraps(function)
        def task(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            try:
                with _RUNNING, no_exit(), no_children():
                    check_cancelled()
                    return _twice(function, *args, **kwargs)
            except TaskFailed as error:
                failure = error.as_kind(TaskFailed)
            except DaskMRError as error:
                failure = TaskFailed(str(error), error.details)
            except (MemoryError, OutOfMemory) as error:
                failure = _out_of_memory(phase, error)
            except BaseException as error:
                if is_interruption(error):
                    raise
                failure = _internal(error)
            raise failure

        return task

    return decorate


def _out_of_memory(phase: str, error: BaseException) -> TaskFailed:
    explanation = explain_shortage(phase)
    if isinstance(error, OutOfMemory) and error.passed_over:
        return TaskFailed(
            f"The script ran out of memory in the {phase} phase and caught the exception, for example "
            f"with a bare `except:`, so its result may be incomplete. {explanation}"
        )
    return TaskFailed(
        f"A task of the {phase} phase ran out of memory outside of the script's functions. "
        f"{explanation}"
    )


def _internal(error: BaseException) -> TaskFailed:
    details = "".join(traceback.format_exception(error, limit=-12))[-8000:]
    return TaskFailed(
        f"daskmr itself failed: {describe_exception(error)}. This is a bug in daskmr; "
        "please report it with the lines below.",
        details,
    )
