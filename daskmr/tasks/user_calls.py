"""Calls of the user's functions, and a record of the current call of each thread."""

from __future__ import annotations

import cProfile
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from operator import length_hint
from traceback import walk_stack
from types import FrameType
from typing import Any

from daskmr.errors import DaskMRError, TaskFailed
from daskmr.job import contexts
from daskmr.job.contexts import CombineContext
from daskmr.job.job import Job
from daskmr.job.keys import value_key, value_keys
from daskmr.job.tracebacks import describe_exception
from daskmr.memory import OutOfMemory
from daskmr.tasks.guard import Returned, is_interruption, shortened, user_failure
from daskmr.tasks.tally import Profile

__all__ = [
    "AT_RECORDS",
    "NO_KEY",
    "Call",
    "Combiner",
    "ContextReferences",
    "Sorter",
    "call_hook",
    "combiner_of",
    "current_call",
    "join_threads",
    "read_profile",
    "refuse_late_writes",
    "set_up",
    "sorter_of",
]

_JOIN_SECONDS = 10.0  # for threads of the script that outlive their call
_JOIN_DAEMONS_SECONDS = 1.0  # for daemon threads, for which Python itself does not wait
_POLL_SECONDS = 0.01
_IDLE_POLLS = 3

NO_KEY: Any = object()
"""Placeholder for the key of a call that has none."""

AT_RECORDS = {"setup_map": "before the first record", "finish_map": "after the last record"}
"""When the hooks of a partition are called."""

_NO_LINES: Iterator[str] = iter(())


@dataclass(slots=True)
class Call:
    """A call of one of the user's functions, updated in place for each record or key.

    Examples
    --------
    >>> call = Call("map", last_line=3, rest=iter(["third", "second"]))
    >>> line = next(call.rest)
    >>> call.line
    2
    """

    function: str  # ``"map"``, ``"combine"``, ``"reduce"``, ``"setup_reduce"`` or a hook
    file: str = ""  # the file whose records are mapped
    source: str = ""  # the value of ``--data-dir`` that it is from
    last_line: int = 0  # the line number in `file` of the last line of the current batch
    rest: Iterator[Any] = _NO_LINES  # lines of that batch that are not yet mapped
    key: Any = NO_KEY  # the key whose values are reduced or combined, or `NO_KEY`
    # The numbers of the records of a batch, if they are not those of its lines.
    numbers: Sequence[int] | None = None
    # Counts the lines of the file before the part that is mapped, if it is only a part.
    before: Callable[[], int] | None = None

    @property
    def line(self) -> int:
        """Number of the current line in the file."""
        return self.count if self.before is None else self.count + self.before()

    @property
    def count(self) -> int:
        """The same in the part, read from the iterator to save work for each record."""
        if self.numbers is None:
            return self.last_line - length_hint(self.rest)
        index = self.index
        return self.numbers[index] if index >= 0 else 0

    @property
    def index(self) -> int:
        """Index of the current record in a batch with `numbers`."""
        return len(self.numbers or ()) - length_hint(self.rest) - 1


class CurrentCall:
    """The call of a user's function that a thread is making, if any.

    Examples
    --------
    >>> current = current_call()
    >>> with current.making(Call("reduce", key="k")):
    ...     current.call.key
    'k'
    >>> current.call is None
    True
    """

    __slots__ = ("call",)

    def __init__(self) -> None:
        self.call: Call | None = None

    @contextmanager
    def making(self, call: Call) -> Iterator[None]:
        """Record that the thread makes `call` in the block; calls nest, because a task may run a job."""
        outer, self.call = self.call, call
        try:
            yield
        finally:
            self.call = outer


_thread = threading.local()


def current_call() -> CurrentCall:
    """Return the `CurrentCall` of this thread, always the same object, so it can be kept."""
    try:
        current: CurrentCall = _thread.current
    except AttributeError:
        current = _thread.current = CurrentCall()
    return current


def read_profile(profiler: cProfile.Profile | None) -> Profile | None:
    """Return the data of a profiler in the form of `pstats`; ``None`` without a profiler."""
    if profiler is None:
        return None
    profiler.create_stats()
    profile: Profile = profiler.stats
    return profile


class Combiner:
    """Calls the user's `combine` and checks its output: one value under the same key, or none.

    - `combine`: the user's ``combine(key, values, context)``.
    - `on_error`: called as ``on_error(exception, key)`` outside of the ``except`` block; must raise.
    - `before`: called as ``before(key)`` first.
    """

    def __init__(
        self,
        combine: Callable[[Any, Any, Any], Any],
        on_error: Callable[[BaseException, Any], Any],
        before: Callable[[Any], object] | None = None,
    ) -> None:
        self._combine = combine
        self._on_error = on_error
        self._before = before
        self._call = Call("combine")
        self._current = current_call()

    def __call__(self, key: Any, values: Sequence[Any]) -> Any:
        """Return the replacement of `values`: a list of one combined value, or `values` unchanged."""
        if self._before is not None:
            self._before(key)
        context = CombineContext(key)
        given = values[:] if type(values) is list else values  # `combine` may change its list
        current, call = self._current, self._call
        outer, current.call, call.key = current.call, call, key
        try:
            returned = self._combine(key, given, context)
            written = context.close()
            if returned is not None and not written:
                raise Returned(returned)
        except BaseException as error:
            failure = error
        else:
            return written or values
        finally:
            current.call = outer
        return self._on_error(failure, key)


def combiner_of(job: Job, before: Callable[[Any], object] | None = None) -> Combiner | None:
    """Wrap the job's `combine` so that its failures name the key; `before(key)` is called first."""
    if job.combine is None:
        return None

    def on_error(error: BaseException, key: Any) -> Any:
        if is_interruption(error):
            raise error
        raise user_failure(job, "combine", f"for the key {shortened(key)}", error)

    return Combiner(job.combine, on_error, before)


class Sorter:
    """Sorts the values of a key as `sort_values` of a script asks; equal ones stay in their order.

    - `job`: the job, whose `sort_values` is ``True``, or a function of a value.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._function = None if job.sort_values is True else job.sort_values

    def _key_of(self, value: Any) -> Any:
        return value_key(value if self._function is None else self._function(value))

    def sorted(self, key: Any, values: Iterable[Any]) -> list[Any]:
        """Return the values of `key` in order."""
        values, function = list(values), self._function
        try:
            orders = iter(value_keys(values if function is None else [*map(function, values)]))
            return sorted(values, key=lambda _: next(orders))
        except BaseException as error:
            if is_interruption(error) or isinstance(error, OutOfMemory):
                raise
            failure = error
        raise self._explain(key, lambda order: sorted(values, key=order), failure)

    def merged(self, key: Any, streams: Callable[[], Iterable[Iterator[Any]]]) -> Iterator[Any]:
        """Merge sorted streams of the values of `key`, of which an earlier one goes first.

        - `streams`: opens the streams.
        """
        try:
            yield from merge(*streams(), key=self._key_of)
            return
        except (DaskMRError, TaskFailed):
            raise  # the pages cannot be read
        except Exception as error:
            failure = error
        raise self._explain(
            key, lambda order: deque(merge(*streams(), key=order), maxlen=0), failure
        )

    def _explain(
        self, key: Any, sort: Callable[[Callable[[Any], Any]], object], error: BaseException
    ) -> BaseException:
        """Sort once more, to learn at which value, or which two, it fails."""
        current: list[Any] = []

        def order(value: Any) -> _Watched:
            current[:] = [value]
            return _Watched(value, self._key_of(value))

        where = f"for the key {shortened(key)}"
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return user_failure(self._job, "sort_values", where, error)
        try:
            sort(order)
        except _Incomparable as failure:
            one, other = map(shortened, failure.args)
            return TaskFailed(
                f"sort_values failed {where}: {one} and {other} cannot be compared "
                f"({describe_exception(error)}). Let sort_values return a number, text, or a tuple or list of "
                "those: "
                '`sort_values = lambda value: value["time"]`.'
            )
        except BaseException as failure:
            if is_interruption(failure):
                raise
            where = f"for the value {shortened(current[0])} of the key {shortened(key)}"
            return user_failure(self._job, "sort_values", where, failure)
        return user_failure(self._job, "sort_values", where, error)


class _Incomparable(Exception):
    """Two values whose sort keys cannot be compared."""


@dataclass(slots=True, eq=False)
class _Watched:
    """The sort key of a value, which raises `_Incomparable` if it cannot be compared."""

    value: Any
    order: Any

    def __lt__(self, other: _Watched) -> bool:
        try:
            return bool(self.order < other.order)
        except Exception as error:
            raise _Incomparable(self.value, other.value) from error


def sorter_of(job: Job) -> Sorter | None:
    """Return what sorts the values of each key before `reduce`; ``None`` if the job asks for no order."""
    return Sorter(job) if job.sort_values else None


def set_up(job: Job, context: Any) -> tuple[Any, ...]:
    """Call `setup_reduce` on a new context and return the header that it wrote."""
    if job.setup_reduce is None:
        return ()
    try:
        with current_call().making(Call("setup_reduce")):
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
        for named in context.named.values():
            named.header = tuple(named.written)
            named.written.clear()
        return header
    raise user_failure(job, "setup_reduce", "before the first key", failure)


def call_hook(job: Job, name: str, context: Any, where: str) -> None:
    """Call the hook `name`, which the job has, once no record is mapped.

    - `where`: the place for a failure, such as ``"after the last key"``.
    """
    context.user.at(None)
    try:
        with current_call().making(Call(name)):
            returned = getattr(job, name)(context.user)
        if returned is None:
            return
        raise Returned(returned)
    except BaseException as error:
        if is_interruption(error):
            raise
        failure = error
    raise user_failure(job, name, where, failure)


def refuse_late_writes(run: str) -> None:
    """Raise TaskFailed if the script has written to closed contexts of `run` in this process."""
    places = contexts.late_writes(run)
    if places:
        more = f" and at {len(places) - 1} more places" if len(places) > 1 else ""
        raise TaskFailed(
            f"The script wrote to the context of a task that had ended, at {places[0]}{more}: this "
            "cannot count, so the result would be incomplete. Nothing was written. Use the context that each "
            "call receives, and join the threads that a call starts before it returns."
        )


class ContextReferences:
    """Counter of the references to a context, except those that the task itself holds.

    Without a reference to it, no code can write to it. References may be held by a call that waits in
    a queue, a thread that runs the call, or a global variable.

    - `context`: the task's context, before any function of the script has received its `user`.

    Examples
    --------
    >>> context = contexts.TextContext()
    >>> references = ContextReferences(context)
    >>> queue = [context.user.write]
    >>> references.count()
    1
    >>> queue.clear()
    >>> references.count()
    0
    """

    def __init__(self, context: Any) -> None:
        user, names = context.user, contexts.UserTextContext.FUNCTIONS
        self._writers = [user, *(getattr(user, name) for name in names if hasattr(user, name))]
        del user
        self._before = list(map(sys.getrefcount, self._writers))

    def count(self) -> int:
        """Return the number of references, except those of the task itself."""
        now = map(sys.getrefcount, self._writers)
        # The script may have replaced one of the functions, which releases it.
        return sum(max(0, each - before) for each, before in zip(now, self._before, strict=True))


def join_threads(job: Job, function: str, references: ContextReferences) -> str:
    """Wait until no thread of the script can still write to the context of this task.

    Their output counts while their task is open, just as Python waits for threads when it exits.
    Threads without a reference to the context are ignored, like those of a pool that wait for work.
    The time limit starts again whenever a reference is dropped.

    - `function`: ``"map"`` or ``"reduce"``, which passed the context to the threads.
    Returns a note on daemon threads that keep running, or ``""``.
    Raises `TaskFailed` for a thread that still runs after 10 s, because its output would be lost.
    """
    changed, idle = time.monotonic(), 0
    fewest = references.count()
    # Between two calls, a thread of a pool briefly runs no code of the script.
    while references.count() and idle < _IDLE_POLLS:
        busy = _busy_threads(job)
        idle = 0 if busy else idle + 1
        now, count = time.monotonic(), references.count()
        if count < fewest:
            changed, fewest = now, count
        lasting = [thread for thread in busy if not thread.daemon]
        waited = now - changed
        if busy and waited > (_JOIN_SECONDS if lasting else _JOIN_DAEMONS_SECONDS):
            names = ", ".join(thread.name for thread in (lasting or busy)[:3])
            if not lasting:
                return f"{function} left daemon threads running ({names}): their writes are refused"
            raise TaskFailed(
                f"{function} gave its context to a thread that still runs {waited:.0f} s after the last "
                f"call of its task ({names}), so its output would be lost. Nothing was written. "
                "Join threads before the function returns, as `with ThreadPoolExecutor() as pool:` does."
            )
        time.sleep(_POLL_SECONDS)
    return ""


def _busy_threads(job: Job) -> list[threading.Thread]:
    frames = sys._current_frames()
    # This frame would refer to itself, and keep all of them, and so contexts, until garbage is collected.
    del frames[threading.get_ident()]
    return [
        thread
        for thread in threading.enumerate()
        if thread.ident in frames and _runs_script(job, frames[thread.ident])
    ]


def _runs_script(job: Job, frame: FrameType) -> bool:
    """Check whether a thread runs code of the script, writes, or is just starting or ending."""
    at_an_end = True
    for each, _ in walk_stack(frame):
        filename = each.f_code.co_filename
        # A script of ``python -c`` has the name of the command with which a worker starts.
        is_script = job.is_user_file(filename) and each.f_code.co_name != "<module>"
        if is_script or each.f_globals.get("__package__") == contexts.__package__:
            return True
        at_an_end = at_an_end and filename == threading.__file__
    return at_an_end
