"""Being stopped: SIGINT, SIGTERM and SIGHUP end a job in order, and in any case."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from daskmr.errors import Interrupted

__all__ = [
    "clean_up",
    "deferred",
    "finished",
    "handlers_kept",
    "kill_children",
    "on_hard_exit",
    "patient",
    "raises_interrupted",
    "signals",
]

_HARD_EXIT_SECONDS = 4.0

_hard_exit_callbacks: list[Callable[[], object]] = []


def on_hard_exit(callback: Callable[[], object]) -> Callable[[], None]:
    """Register what must happen even when the process has to be ended the hard way.

    Parameters
    ----------
    callback : callable
        Quick and idempotent; called in another thread, maybe during the ordinary clean-up.

    Returns
    -------
    callable
        Takes the registration back.

    Examples
    --------
    >>> forget = on_hard_exit(lambda: print("removing temporary files"))
    >>> forget()
    """
    _hard_exit_callbacks.append(callback)

    def forget() -> None:
        with suppress(ValueError):
            _hard_exit_callbacks.remove(callback)

    return forget


class _State:
    """What the handler of `signals` has seen, and what it may do."""

    def __init__(self) -> None:
        self.raised = False
        self.depth = 0
        self.pending: int | None = None
        self.finished = False
        self.patience = 0.0


_state = _State()


@contextmanager
def deferred() -> Iterator[None]:
    """Hold an interruption back until the end of the block, which it would otherwise cut in two.

    For a few quick steps that belong together: making something and noting that it is there.
    """
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    if not _state.depth and _state.pending is not None and not _state.finished:
        _state.raised = True
        raise Interrupted(_state.pending)


def raises_interrupted() -> bool:
    """Tell whether Ctrl-C raises `Interrupted`, so that a KeyboardInterrupt is somebody's own."""
    return signal.getsignal(signal.SIGINT) is _handle


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Undo what a library does to the handlers of SIGINT, SIGTERM and SIGHUP when it is imported."""
    if threading.current_thread() is not threading.main_thread():
        yield  # then it can do nothing to them
        return
    before = {s: signal.getsignal(s) for s in _stop_signals()}
    try:
        yield
    finally:
        for s, handler in before.items():
            if signal.getsignal(s) is not handler:
                signal.signal(s, handler)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let the clean-up after a signal take so much longer, while the block lasts.

    For what would go on, and cost, were it not ended in order: as a cluster elsewhere.
    """
    before, _state.patience = _state.patience, _state.patience + seconds
    try:
        yield
    finally:
        _state.patience = before


def finished() -> None:
    """Say that the result is in place: what comes now is cleaning up, and no signal undoes it."""
    _state.finished = True


@contextmanager
def signals() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP raise `Interrupted`, once, in the main thread.

    Further signals are ignored, so that they do not disturb the clean-up. If 4 seconds after
    the first one the process is still there, whatever it does, its child processes are killed,
    the callbacks of `on_hard_exit` run, and the process exits. So leave the process after an
    `Interrupted`: this last resort stays armed. A signal that is ignored at the start
    (``nohup``) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import psutil  # noqa: F401  # here, as the last resort must not import anything

    caught = [s for s in _stop_signals() if signal.getsignal(s) is not signal.SIG_IGN]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # The watchdog hears of a signal from C code: also when the main thread cannot run Python.
    threading.Thread(target=_watchdog, args=(read_end, caught), daemon=True).start()
    before_fd = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    global _state
    _state = _State()
    before = {s: signal.signal(s, _handle) for s in caught}
    try:
        yield
    finally:
        if not _state.raised:
            for s, handler in before.items():
                signal.signal(s, handler)
            signal.set_wakeup_fd(before_fd)
            os.close(write_end)


def _stop_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _handle(signum: int, frame: Any) -> None:
    if _state.raised or _state.finished:
        return
    if _state.depth:
        _state.pending = _state.pending or signum
        return
    _state.raised = True
    raise Interrupted(signum)


def _watchdog(read_end: int, caught: list[signal.Signals]) -> None:
    while True:
        received = os.read(read_end, 1)
        if not received:
            os.close(read_end)
            return  # all went well, and the other end is closed
        if received[0] in caught:
            since = time.monotonic()
            while time.monotonic() - since < _HARD_EXIT_SECONDS + _state.patience:
                time.sleep(0.1)
            _hard_exit(received[0])


def _hard_exit(signum: int) -> None:
    kill_children()
    clean_up()
    kill_children()  # what was started meanwhile
    os._exit(0 if _state.finished else 128 + signum)


def clean_up() -> None:
    """Do what was registered with `on_hard_exit`, before the process is left without more ado."""
    for callback in list(_hard_exit_callbacks):
        with suppress(Exception):
            callback()


def kill_children(pid: int | None = None) -> None:
    """Kill all processes below process `pid`, or below this one.

    Each is stopped before its own children are looked up, so that it cannot start others meanwhile.
    """
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):
                if any("resource_tracker" in word for word in child.cmdline()):
                    continue  # it removes the semaphores of the others, and then ends by itself
                child.suspend()
                kill_children(child.pid)
                child.kill()
