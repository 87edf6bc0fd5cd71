"""Calls of the user's functions: `combine`, `setup_reduce`, and what a call is for."""

from __future__ import annotations

import cProfile
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, TypeVar

from daskmr.errors import TaskFailed
from daskmr.job import contexts
from daskmr.job.contexts import CombineContext
from daskmr.job.job import Job
from daskmr.tasks.guard import Returned, is_interruption, shortened, user_failure
from daskmr.tasks.tally import Profile

__all__ = [
    "NO_KEY",
    "Call",
    "Combiner",
    "Held",
    "Profiling",
    "call_of",
    "calls_user",
    "combiner_of",
    "join_threads",
    "refuse_late_writes",
    "set_up",
]

_JOIN_SECONDS = 10.0  # for threads of the script that outlive their call
_JOIN_DAEMONS_SECONDS = 1.0  # Python itself does not wait for these
_POLL_SECONDS = 0.01
_IDLE_POLLS = 3
_F = TypeVar("_F", bound=Callable[..., Any])

NO_KEY: Any = object()
"""Stands for the key of a call that has none."""


class Call(NamedTuple):
    """A call of one of the user's functions."""

    function: str  # ``"map"``, ``"combine"``, ``"reduce"`` or ``"setup_reduce"``
    # The record that is mapped
    file: str = ""
    line: int = 0
    key: Any = NO_KEY  # the key whose values are given, or `NO_KEY`


_callers: dict[CodeType, Callable[[Mapping[str, Any]], Call]] = {}


def calls_user(describe: Callable[[Mapping[str, Any]], Call]) -> Callable[[_F], _F]:
    """Decorate what calls a function of the user's, without any cost to the call.

    - `describe`: tells what for, from the local variables of the decorated function.

    Examples
    --------
    >>> import sys
    >>> @calls_user(lambda local: Call("map", line=local["number"]))
    ... def call(function):
    ...     number = 7
    ...     return function()
    >>> call(lambda: call_of(sys._getframe(1)).line)
    7
    """

    def register(function: _F) -> _F:
        assert isinstance(function, FunctionType)
        _callers[function.__code__] = describe
        return function

    return register


def call_of(frame: FrameType) -> Call | None:
    """Tell which call of the user's functions a frame itself makes, if any."""
    describe = _callers.get(frame.f_code)
    return None if describe is None else describe(frame.f_locals)


class Profiling:
    """Profiles a block where that is wanted.

    - `profile`: what ``cProfile`` counted, once the block is left.

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


class Combiner:
    """Calls the user's `combine` as the contract says: one value, under the same key, or none.

    - `combine`: the user's ``combine(key, values, context)``.
    - `on_error`: called as ``on_error(exception, key)`` outside of the ``except`` block; has to
      raise.
    - `before`: called as ``before(key)`` first.
    """

    def __init__(
        self,
        combine: Callable[[Any, Any, Any], Any],
        on_error: Callable[[BaseException, Any], Any],
        before: Callable[[Any], object] | None = None,
    ) -> None:
        self.combine = combine
        self.on_error = on_error
        self.before = before

    @calls_user(lambda local: Call("combine", key=local["key"]))
    def __call__(self, key: Any, values: Sequence[Any]) -> Any:
        """Return what replaces `values`: a list of one combined value, or `values` as they are."""
        if self.before is not None:
            self.before(key)
        context = CombineContext(key)
        given = values[:] if type(values) is list else values  # it may sort or empty its list
        try:
            returned = self.combine(key, given, context)
            written = context.close()
            if returned is not None and not written:
                raise Returned(returned)
        except BaseException as error:
            failure = error
        else:
            return written or values
        return self.on_error(failure, key)


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
        returned = job.setup_reduce(context.user)
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


def refuse_late_writes(run: str) -> None:
    """Raise TaskFailed where the script has written to closed contexts of `run` in this process."""
    places = contexts.late_writes(run)
    if places:
        more = f" and at {len(places) - 1} more places" if len(places) > 1 else ""
        raise TaskFailed(
            f"The script wrote to the context of a task that had ended, at {places[0]}{more}: that "
            "cannot count, so the result would be short. Nothing was written. Use the context that "
            "each call is given, and join the threads that a call starts before it returns."
        )


class Held:
    """Counts the references to a context that the task itself does not hold.

    Without a reference to it, no code can write to it. A call that waits in a queue holds one, and so
    does a thread that runs the call, or a global variable.

    - `context`: of the task, before any function of the script has seen its `user`.

    Examples
    --------
    >>> context = contexts.TextContext()
    >>> held = Held(context)
    >>> queue = [context.user.write]
    >>> held.count()
    1
    >>> queue.clear()
    >>> held.count()
    0
    """

    def __init__(self, context: Any) -> None:
        self._writing = _what_writes(context.user)
        self._before = list(map(sys.getrefcount, self._writing))

    def count(self) -> int:
        """How many references there are beside those of the task itself."""
        now = map(sys.getrefcount, self._writing)
        # The script may have put something else in the place of one: that lets go of it.
        return sum(max(0, each - before) for each, before in zip(now, self._before, strict=True))


def _what_writes(user: Any) -> list[Any]:
    names = contexts.UserTextContext.FUNCTIONS
    return [user, *(getattr(user, name) for name in names if hasattr(user, name))]


def join_threads(job: Job, function: str, held: Held) -> str:
    """Wait until no thread of the script can write to the context of this task any more.

    What they write counts while their task is open, as Python's own exit waits for threads, too.
    Threads that hold nothing of the context are left alone, as are those of a pool that wait for work.
    The time limit starts again whenever a reference to it is dropped.

    - `function`: ``"map"`` or ``"reduce"``, which handed the context on.
    - `held`: tells of the context.
    Returns a note on daemon threads that go on, or ``""``.
    Raises `TaskFailed` for a thread that still runs after 10 s, as what it writes could not count.
    """
    changed, idle = time.monotonic(), 0
    fewest = held.count()
    # Between two calls, a thread of a pool runs no code of the script for a moment.
    while held.count() and idle < _IDLE_POLLS:
        busy = _busy_threads(job)
        idle = 0 if busy else idle + 1
        now, count = time.monotonic(), held.count()
        if count < fewest:
            changed, fewest = now, count
        lasting = [thread for thread in busy if not thread.daemon]
        waited = now - changed
        if busy and waited > (_JOIN_SECONDS if lasting else _JOIN_DAEMONS_SECONDS):
            names = ", ".join(thread.name for thread in (lasting or busy)[:3])
            if not lasting:
                return (
                    f"{function} left daemon threads running ({names}): what they write is refused"
                )
            raise TaskFailed(
                f"{function} gave its context to a thread that still runs {waited:.0f} s after the last "
                f"call of its task ({names}), so what it writes could not count. Nothing was written. "
                "Join threads before the function returns, as `with ThreadPoolExecutor() as pool:` does."
            )
        time.sleep(_POLL_SECONDS)
    return ""


def _busy_threads(job: Job) -> list[threading.Thread]:
    own = threading.current_thread()
    others = [thread for thread in threading.enumerate() if thread is not own]
    frames = sys._current_frames()
    return [t for t in others if t.ident in frames and _runs_script(job, frames[t.ident])]


def _runs_script(job: Job, frame: FrameType | None) -> bool:
    """Tell whether a thread runs code of the script, or writes, or begins or ends to do so."""
    at_an_end = True
    while frame is not None:
        filename = frame.f_code.co_filename
        if job.is_user_file(filename) or frame.f_globals.get("__package__") == contexts.__package__:
            return True
        at_an_end = at_an_end and filename == threading.__file__
        frame = frame.f_back
    return at_an_end
