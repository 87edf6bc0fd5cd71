"""Turning what a user's function raised into one message of plain, capped strings."""

from __future__ import annotations

import functools
import gc
import inspect
import os
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
    """Tell a real Ctrl-C or signal from an exception of that type raised by the user's code.

    Signals reach the main thread only; Dask's workers run tasks in another.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    return isinstance(error, Interrupted) or (
        isinstance(error, KeyboardInterrupt) and not raises_interrupted()
    )


class Returned(TypeError):
    """One of the user's functions returned a value, which nothing reads.

    - `value`: what it returned.

    Examples
    --------
    >>> Returned(("a", 1)).explain("map")
    "it returned ('a', 1), which is written nowhere. In place of `return key, value` call `context.write(key, value)`"
    """

    def __init__(self, value: Any) -> None:
        if inspect.iscoroutine(value):
            value.close()  # or Python warns that it was never awaited
        super().__init__(f"returned {shortened(value)}")
        self.value = value

    def explain(self, function: str) -> str:
        """Say what was returned, and how to write it."""
        kind = type(self.value).__name__
        if isinstance(self.value, Iterator | Awaitable):
            what = f"a {kind}, of which nothing has run"
        else:
            what = f"{shortened(self.value)}, which is written nowhere"
        return f"it returned {what}. {_how_to_write(function, self.value)}"


def _how_to_write(function: str, value: Any) -> str:
    if isinstance(value, Awaitable):
        return "Make it a plain function, and call `context.write(key, value)` in it"
    if isinstance(value, Iterator):
        return "In place of `yield key, value` call `context.write(key, value)`"
    if function == "setup_reduce":
        return "In place of `return header` call `context.writeline(header)`"
    if function != "map":
        return "In place of `return result` call `context.write(key, result)`"
    if isinstance(value, bool):
        return "Leave out what follows `return`: `return` alone ends the call"
    if isinstance(value, Mapping):
        loop = "for key, value in result.items(): context.write(key, value)"
        return f"In place of `return result` write `{loop}`"
    if isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], tuple | list):
        return "In place of `return key, value` call `context.write(key, value)`"
    if isinstance(value, tuple | list | set | frozenset):
        loop = "for key, value in pairs: context.write(key, value)"
        return f"In place of `return pairs` write `{loop}`"
    return "In place of `return result` call `context.write(key, result)`"


def user_failure(job: Job, function: str, where: str, error: BaseException) -> TaskFailed:
    """Say which of the user's functions failed, where, and over what.

    - `job`: knows which frames of the traceback are the user's.
    - `function`: ``"map"``, ``"combine"``, ``"reduce"`` or ``"setup_reduce"``.
    - `where`: the record or the key, as ``"at FILE, line 7"``.
    - `error`: what was raised.
    """
    kind = TaskFailed
    if isinstance(error, OutOfMemory):
        kind = _NearLimit
        trace = error.__traceback__
        traceback.clear_frames(trace)  # what they hold must not be in the way of the rest
        error = MemoryError(NEAR_LIMIT).with_traceback(trace)
    location = user_location(job, error)
    place = f" ({location})" if location else ""
    if isinstance(error, Returned):
        return kind(f"{function} failed {printable(where)}: {error.explain(function)}.")
    reason = describe_exception(error).removesuffix(".")
    message = f"{function} failed {printable(where)}: {reason}{place}."
    if isinstance(error, SystemExit):
        message += f" Return from {function} instead of leaving the program."
    elif isinstance(error, MemoryError):
        message += f" {explain_shortage(function)}"
    elif hint := job.hint(error):
        message += hint
    elif _is_left_debugger(error):
        return kind(f"{message} {_explain_debugger()}")
    elif explanation := explain_process_error(error):
        message += f" {explanation}"
    else:
        from daskmr.job.porting_errors import advice_for  # deferred: only a failure needs it

        message += advice_for(error)
    return kind(message, format_user_traceback(job, error))


def _is_left_debugger(error: BaseException) -> bool:
    """Tell what ``breakpoint()`` raises when its debugger ends; the traceback is of the debugger."""
    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(error, bdb.BdbQuit)


def _explain_debugger() -> str:
    if current_worker() is not None:
        return (
            "A worker process has no terminal, so a debugger ends there at once: run the job with "
            "--inline to stop at breakpoint()."
        )
    return "The debugger was left before the job was done: `continue` goes on with it."


@contextmanager
def no_exit() -> Iterator[None]:
    """Have ``os._exit`` in the user's code fail an inline job, which would end as if it were done.

    In a worker it ends the worker, and that is noticed.
    """
    if current_worker() is not None:
        yield
        return
    process, thread, leave = os.getpid(), threading.get_ident(), os._exit

    def refuse(status: int) -> NoReturn:
        ours = os.getpid() == process and threading.get_ident() == thread
        if not ours:  # a child that the script forked, our last resort
            leave(status)
        raise SystemExit(f"os._exit({status}) was called")

    os._exit = refuse
    try:
        yield
    finally:
        os._exit = leave


def in_thread(function: Callable[[], _T]) -> _T:
    """Call `function` in another thread than this one: as in a worker, it cannot set signal handlers.

    An interruption ends the wait for it.
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


# Held by the task that runs: of those on a worker with several threads, only one takes memory, and
# calls functions of a script, which are written for one thread. Reentrant, as a task may run a job.
_RUNNING = threading.RLock()


class _NearLimit(TaskFailed):
    """The user's function was about to have its process killed for the memory that it took."""


def _twice(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Try again, once, what came near the limit of memory: as Dask does with what it kills.

    What a task before this one left behind may have been a part of it.
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
        # What the first one left behind is in the way of the second, which may not even come to the
        # user's function: the first says where it was.
        if failure is None or (isinstance(error, OutOfMemory) and error.passed_over):
            raise
    raise failure


def guarded(phase: str) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]:
    """Decorate a task of `phase`, to let only `TaskFailed` out of it, and to run one at a time.

    Anything else may not pickle, may hold all of the data, or may hang the client; so it is
    described in strings, and raised when the ``except`` block is left and nothing refers to it.
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
            f"The script ran out of memory in the {phase} phase, and caught the exception that says "
            f"so (with a bare `except:`, say), so its result may be short. {explanation}"
        )
    return TaskFailed(
        f"A task of the {phase} phase ran out of memory, in none of the script's functions. "
        f"{explanation}"
    )


def _internal(error: BaseException) -> TaskFailed:
    details = "".join(traceback.format_exception(error, limit=-12))[-8000:]
    return TaskFailed(
        f"daskmr itself failed: {describe_exception(error)}. This is a defect of daskmr; "
        "please report it with the lines below.",
        details,
    )
