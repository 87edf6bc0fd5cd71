"""An event loop in its own thread, on which sync code runs coroutines."""

from __future__ import annotations

import asyncio
import os
import selectors
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["LoopThread", "is_loop_thread"]

T = TypeVar("T")

_SECONDS_TO_CLOSE = 3.0
_SECONDS_TO_CANCEL = 1.0


class LoopThread:
    """An event loop that runs in a daemon thread until it is closed.

    It can only be used in the process that created it. A forked child does not close it or free
    `held`, because they share sockets with the parent.

    >>> import asyncio
    >>> loop = LoopThread("example")
    >>> loop.run(asyncio.sleep(0, "done"))
    'done'
    >>> loop.close()
    """

    def __init__(self, name: str, held: object = None) -> None:
        self._pid = os.getpid()
        self._selector = selectors.DefaultSelector()
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._held = held
        self._lock = threading.RLock()
        self._closed = False
        _open.add(self)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        _idents.add(threading.get_ident())
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()
            _idents.discard(threading.get_ident())

    @property
    def usable(self) -> bool:
        """Whether it is open, and this is the process that created it."""
        return not self._closed and self._pid == os.getpid()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result; an interruption cancels it.

        Raises `RuntimeError`: in a process other than the one that created the loop, in the loop's
        own thread, or after `close`.
        """
        if not self.usable or self._thread.ident == threading.get_ident():
            coroutine.close()
            if self._pid != os.getpid():
                reason = "belongs to another process: create one in this process"
            elif self._closed:
                reason = "was closed"
            else:
                reason = "would wait for itself: await the coroutine instead"
            raise RuntimeError(f"This event loop {reason}.")
        ended = threading.Event()
        future = asyncio.run_coroutine_threadsafe(_signalling_end(coroutine, ended), self._loop)
        try:
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(_SECONDS_TO_CANCEL)  # it may still be using its arguments
            raise

    def call(self, function: Callable[[], object]) -> None:
        """Schedule a call of a fast function on the loop, unless the loop is closed."""
        if not self.usable:
            return
        with self._lock:
            if not self._closed:
                self._loop.call_soon_threadsafe(function)

    def close(self, last: Coroutine[Any, Any, object] | None = None) -> None:
        """Cancel all tasks, run `last` for at most a few seconds, end the thread; idempotent."""
        if self.usable and self._thread.ident == threading.get_ident():
            # One of its coroutines held the last reference to its owner; it cannot wait for itself.
            threading.Thread(target=self.close, args=(last,), daemon=True).start()
            return
        if not self._mark_closed():
            if last is not None:
                last.close()
            return
        future = asyncio.run_coroutine_threadsafe(_finish(last), self._loop)
        try:
            future.result(_SECONDS_TO_CLOSE + 2)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_SECONDS_TO_CLOSE)
            _open.discard(self)

    def _mark_closed(self) -> bool:
        if not self.usable:  # in a forked child, the lock may never be released
            return False
        with self._lock:
            is_first, self._closed = not self._closed, True
        return is_first


async def _signalling_end(coroutine: Coroutine[Any, Any, T], ended: threading.Event) -> T:
    try:
        return await coroutine
    finally:
        ended.set()


async def _finish(last: Coroutine[Any, Any, object] | None) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_SECONDS_TO_CLOSE / 2)
    if last is not None:
        with suppress(TimeoutError):
            await asyncio.wait_for(last, _SECONDS_TO_CLOSE / 2)
    loop = asyncio.get_running_loop()
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()  # used by `asyncio.to_thread` and name lookups


def is_loop_thread(ident: int | None) -> bool:
    """Check whether the thread with this `threading.get_ident` runs one of these loops."""
    return ident in _idents


_open: set[LoopThread] = set()
_idents: set[int] = set()


def _close_selectors() -> None:
    """Close the selectors in a forked child, where changes to them would affect the parent."""
    _idents.clear()
    for loop in _open:
        loop._selector.close()


os.register_at_fork(after_in_child=_close_selectors)
