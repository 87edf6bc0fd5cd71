"""The memory limit of a worker process: raise `OutOfMemory` in a task before Dask kills the worker.

A killed worker loses all of its results, its task is retried elsewhere, and nothing shows where the
memory went. So while a task runs, a watchdog thread measures the process, and raises the exception
slightly below the limit. Code that holds the GIL while it allocates memory (such as one huge
``json.loads``) is still killed.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from daskmr.worker import current_worker

__all__ = [
    "NEAR_LIMIT", "WORKER_BASE", "OutOfMemory", "advice", "bounded", "describe_size",
    "explain_shortage", "held_by_task", "kill_counters", "limit", "limit_for_line", "longest_line", "peak",
    "resident", "room", "system_kills",
]  # fmt: skip

WORKER_BASE = 150_000_000
"""Bytes that a worker takes without any data."""

_SHARE = 0.9  # share of the limit to use: Dask kills at 0.95, and measures ten times a second
_SHORTEST_PAUSE = 0.005  # seconds between two measurements
_LONGEST_PAUSE = 0.05
_FASTEST_GROWTH = 2e9  # bytes per second; at faster growth, a measurement may be too late
_IDLE_SECONDS = 2.0  # without a task, after which the thread ends
_LINE_COPIES = 2.2  # copies of a line: its bytes and text, later its text and value
_LINE_SHARE = 4  # recommended multiple of a long line's length, with room for `map`
_ANY_LINE = 1 << 24  # lines up to this many bytes are always read
_PAGE = os.sysconf("SC_PAGE_SIZE")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OutOfMemory(BaseException):
    """Raised in a task whose process is about to be killed for its memory use.

    Not an ``Exception``: a script that skips records with ``except Exception`` would silently produce
    an incomplete result.

    - `passed_over`: the script caught the exception all the same, and continued.
    """

    def __init__(self, passed_over: bool = False) -> None:
        super().__init__()
        self.passed_over = passed_over
        watch = _watches.get(threading.get_ident())
        if watch is not None:
            watch.arrived = True


class _Request:
    """A request to raise one exception in a task."""

    made = False  # the request was passed to Python


class _Watch:
    """A watched task.

    Only one thread can take the single request from `open`, and that thread decides whether to make it.
    So a task that ends knows whether an exception is still pending. A lock would not work, because the
    exception can be raised when it has just been acquired.
    """

    __slots__ = ("arrived", "ended", "held", "most", "open", "request")

    def __init__(self, most: float) -> None:
        self.most = most
        self.held = 0
        self.arrived = self.ended = False
        self.renew()

    def renew(self) -> None:
        """Allow a request; call this in the thread of the task."""
        self.request = _Request()
        self.open = [self.request]

    def take(self) -> _Request | None:
        """Return the request to the first caller, ``None`` to others."""
        try:
            return self.open.pop()
        except IndexError:
            return None


_watches: dict[int, _Watch] = {}  # by the thread of the task
_lock = threading.Lock()  # held to start and to end the watchdog thread
_thread: threading.Thread | None = None
_needed = 0.0  # time when the thread was last needed, by the monotonic clock
_hook_before: Callable[[sys.UnraisableHookArgs], Any] | None = None


def limit() -> int | None:
    """Return the bytes beyond which Dask kills this task's process; ``None`` without a limit."""
    worker = current_worker()
    if worker is None or not worker.nanny:
        return None
    return worker.memory_manager.memory_limit or None


def bounded(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call `function`, and raise `OutOfMemory` in it if the process comes near its limit.

    Without a limit, or within another such call, nothing is raised.
    """
    # Not a context manager, because the exception could be raised before its code is complete.
    thread, most = threading.get_ident(), limit()
    if most is None or thread in _watches:
        return function(*args, **kwargs)
    watch = _Watch(_SHARE * most)
    _keep_watching()
    try:
        _watches[thread] = watch
        result = function(*args, **kwargs)
    finally:
        try:
            _end(thread, watch)
        except OutOfMemory:  # it was raised before `_end` could do anything
            _end(thread, watch)
            watch.arrived = False
    if watch.arrived:
        raise OutOfMemory(passed_over=True)
    return result


def _keep_watching() -> None:
    """Start the watchdog thread, or keep it from ending."""
    global _thread, _needed, _hook_before
    with _lock:
        _needed = time.monotonic()
        if _thread is None or not _thread.is_alive():  # not alive in a forked process
            if _hook_before is None:
                _hook_before, sys.unraisablehook = sys.unraisablehook, _renew_lost_request
            _thread = threading.Thread(target=_watch_memory, name="daskmr-memory", daemon=True)
            _thread.start()


def _end(thread: int, watch: _Watch) -> None:
    """Make sure that no exception can still be raised."""
    watch.ended = True
    try:
        if watch.take() is None:
            while not watch.request.made:
                time.sleep(0)
            # A pending exception is raised when the thread gets the GIL back. It could be cancelled, but
            # then CPython 3.11 would look for it forever, and under cProfile loop endlessly.
            for _ in range(3):
                time.sleep(0)
    except OutOfMemory:
        watch.arrived = False  # not in code of the task, which is done
    _watches.pop(thread, None)


def _renew_lost_request(lost: sys.UnraisableHookArgs) -> None:
    """Allow another exception after Python dropped one, in ``__del__`` or a callback of the GC.

    A task that fills the memory with objects spends much time there, because Dask has such a
    callback.
    """
    if lost.exc_type is not OutOfMemory:
        assert _hook_before is not None
        _hook_before(lost)
        return
    watch = _watches.get(threading.get_ident())
    if watch is not None and not watch.ended:
        watch.arrived = False
        watch.renew()


def _watch_memory() -> None:
    global _thread
    pause = _LONGEST_PAUSE
    while True:
        time.sleep(pause)
        if _watches:
            pause = _check(resident())
        else:
            with _lock:
                if time.monotonic() - _needed > _IDLE_SECONDS:
                    _thread = None
                    return


def _check(held: int) -> float:
    """Raise `OutOfMemory` in the tasks that hold too much; return the seconds until the next check."""
    room = math.inf
    for thread, watch in list(_watches.items()):
        room = min(room, watch.most - held)
        watch.held = max(watch.held, held)
        if held >= watch.most and (request := watch.take()) is not None:
            # The thread raises it when it next runs Python code.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread), ctypes.py_object(OutOfMemory)
            )
            request.made = True
    return min(_LONGEST_PAUSE, max(_SHORTEST_PAUSE, room / _FASTEST_GROWTH))


# --- figures ------------------------------------------------------------------------------------


def resident() -> int:
    """Return the bytes of memory that this process uses now."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:
            return int(file.read().split()[1]) * _PAGE
    except FileNotFoundError:  # no Linux
        import psutil

        return int(psutil.Process().memory_info().rss)


def held_by_task() -> int:
    """Return the most bytes that this process was seen to use during the task of this thread."""
    watch = _watches.get(threading.get_ident())
    return max(resident(), watch.held if watch is not None else 0)


def peak() -> int:
    """Return the most bytes of memory that this process has used."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(most if sys.platform == "darwin" else most << 10, resident())


def system_kills() -> int:
    """Count the processes that the kernel has killed because memory ran out; 0 if unknown.

    Counts only those in the cgroup of this process and its workers, or on the machine without one.
    """
    return _count_kills(_kill_counter())


@functools.cache
def _kill_counter() -> str:
    paths = []
    with suppress(OSError), open("/proc/self/cgroup") as file:  # exists only on Linux
        paths = kill_counters(file.read())
    return next((path for path in paths if os.access(path, os.R_OK)), "/proc/vmstat")


def kill_counters(cgroups: str, mount: str = "/sys/fs/cgroup") -> list[str]:
    """Return the files in which the kernel may count the kills in a cgroup, the best one first.

    - `cgroups`: the content of ``/proc/PID/cgroup``. In a container it may name a path that exists
      only on the host; then the container's cgroup is mounted at the root.
    - `mount`: the path where cgroups are mounted.

    >>> kill_counters("4:memory:/a\\n0::/b\\n", "/c")[:2]
    ['/c/b/memory.events', '/c/memory.events']
    """
    files = []
    for controllers, path in sorted(line.split(":", 2)[1:] for line in cgroups.splitlines()):
        if controllers and "memory" not in controllers.split(","):
            continue
        name = "memory.oom_control" if controllers else "memory.events"  # of version 2
        parts = [part for part in path.split("/") if part]
        for depth in range(len(parts), -1, -1):  # a cgroup may leave memory to the one above it
            files.append(os.path.normpath(os.path.join(mount, controllers, *parts[:depth], name)))
    return files


def _count_kills(path: str) -> int:
    with suppress(OSError), open(path, "rb") as file:
        return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    return 0


def room() -> int | None:
    """Return how many more bytes the process of this task may use; ``None`` without a limit."""
    most = limit()
    return None if most is None else int(_SHARE * most - resident())


def longest_line() -> int | None:
    """Return the maximum bytes of a line that can be read within the limit; ``None`` without one."""
    free = room()
    return None if free is None else max(_ANY_LINE, int(free / _LINE_COPIES))


def limit_for_line(length: int) -> int:
    """Return a memory limit for mapping a line of `length` bytes, about four times as much."""
    least = (_LINE_COPIES * length + resident()) / _SHARE
    return math.ceil(max(_LINE_SHARE * length, least) / 1e7) * 10_000_000


# --- words --------------------------------------------------------------------------------------

NEAR_LIMIT = "the worker process is near its memory limit"
"""Text of the `MemoryError` that replaces an `OutOfMemory`."""

_ADVICE = {
    "load": (
        "Keep less at the top level of the script, which every worker process loads for itself "
        "(look up large tables in a file, with sqlite3, say)"
    ),
    "map": "Keep less in memory in map, which may accumulate objects across records",
    "combine": "Have combine return something smaller than its values",
    "merge": "Have combine return something smaller than its values",
    "reduce": (
        "Iterate over the values instead of making a list of them (sorted, list), keep nothing "
        "from one key to the next, or give the job a combine"
    ),
}


def advice(phase: str, limited: bool = True) -> str:
    """Return advice if `phase` (a function's name, ``"load"`` or ``"merge"``) ran out of memory."""
    first = _ADVICE.get(phase, f"Keep less in memory in {phase}")
    if not limited:
        return f"{first}, or use fewer --num-mappers, or a machine with more memory."
    return f"{first}, or raise --memory-limit, with fewer --num-mappers if the machine has no more."


def explain_shortage(phase: str) -> str:
    """Describe how much memory this process used when `phase` ran out of it, and what to do."""
    held, most = describe_size(peak()), limit()
    figures = f"The process held {held} at most, and the system refused more."
    if most is not None:
        size = describe_size(most)
        figures = (
            f"The worker process held {held} at most, and its limit is {size} (--memory-limit)."
        )
    return f"{figures} {advice(phase, limited=most is not None)}"


def describe_size(size: float) -> str:
    """Format a number of bytes in a form that ``--memory-limit`` accepts.

    >>> describe_size(12_345_678_901)
    '12.3 GB'
    """
    return f"{size / 1e6:,.0f} MB" if size < 1e10 else f"{size / 1e9:,.1f} GB"
