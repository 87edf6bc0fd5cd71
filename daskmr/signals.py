"""Orderly end of a job at SIGINT, SIGTERM or SIGHUP, with a watchdog in case that takes too long."""

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
    "clean_up", "deferred", "finished", "handlers_kept", "hard_exit_code", "kill_children", "on_hard_exit",
    "patient", "raise_again", "raises_interrupted", "signals",
]  # fmt: skip

_HARD_EXIT_SECONDS = 4.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_hard_exit_callbacks: list[Callable[[], object]] = []


def on_hard_exit(callback: Callable[[], object]) -> Callable[[], None]:
    """Register clean-up that must happen even if the watchdog ends the process.

    - `callback`: must be quick and idempotent; called in another thread, maybe during the ordinary
      clean-up.
    Returns a function that removes the registration.
    """
    _hard_exit_callbacks.append(callback)

    def forget() -> None:
        with suppress(ValueError):
            _hard_exit_callbacks.remove(callback)

    return forget


class _State:
    """The state of the handler that `signals` installs."""

    raised = False
    depth = 0
    pending: int | None = None
    finished = False
    patience = 0.0


_state = _State()


@contextmanager
def deferred() -> Iterator[None]:
    """Defer interruptions to the end of the block, for a few quick steps that belong together."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    if _state.depth or _state.raised or _state.finished:
        return
    if _state.pending is not None:
        _state.raised = True
        raise Interrupted(_state.pending)


def raises_interrupted() -> bool:
    """Check whether Ctrl-C raises `Interrupted`, so a KeyboardInterrupt must come from user code."""
    return signal.getsignal(signal.SIGINT) is _handle


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Restore the handlers of SIGINT, SIGTERM and SIGHUP that importing a library replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield  # other threads cannot set handlers
        return
    before = {s: signal.getsignal(s) for s in _STOP_SIGNALS}
    try:
        yield
    finally:
        for s, handler in before.items():
            if signal.getsignal(s) is not handler:
                signal.signal(s, handler)


@contextmanager
def patient(seconds: float) -> Iterator[None]:
    """Let clean-up in the block take longer, because an abandoned cloud cluster costs money."""
    before, _state.patience = _state.patience, _state.patience + seconds
    try:
        yield
    finally:
        _state.patience = before


def raise_again() -> None:
    """Raise `Interrupted` if a signal has raised it before, and a callback or finalizer swallowed it.

    Call it before anything is committed.
    """
    if _state.raised and not _state.finished and _state.pending is not None:
        raise Interrupted(_state.pending)


def finished() -> None:
    """Record that the output is committed, so signals do not interrupt the clean-up that follows."""
    _state.finished = True


@contextmanager
def signals() -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP raise `Interrupted`, once, in the main thread.

    Further signals are ignored, so they do not disturb the clean-up. If the process still runs
    4 seconds after the first one, a watchdog kills its child processes, runs the callbacks of
    `on_hard_exit`, and exits. It stays armed, so leave the process after an `Interrupted`. A signal
    that is ignored at the start (``nohup``) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    import psutil  # noqa: F401  # here, because the watchdog must not import anything

    caught = [s for s in _STOP_SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # C code notifies the watchdog of a signal, even if the main thread cannot run Python code.
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


def _handle(signum: int, frame: Any) -> None:
    if _state.raised or _state.finished:
        return
    _state.pending = _state.pending or signum
    if _state.depth:
        return
    _state.raised = True
    raise Interrupted(signum)


def _watchdog(read_end: int, caught: list[signal.Signals]) -> None:
    while True:
        received = os.read(read_end, 1)
        if not received:
            os.close(read_end)
            return  # closed, because the block has ended without a signal
        if received[0] in caught:
            since = time.monotonic()
            while time.monotonic() - since < _HARD_EXIT_SECONDS + _state.patience:
                time.sleep(0.1)
            _hard_exit(received[0])


def hard_exit_code() -> int:
    """Return the exit code of a hard exit: 0 once the output is committed."""
    return 0 if _state.finished else 128 + (_state.pending or signal.SIGTERM)


def _hard_exit(signum: int) -> None:
    _state.pending = _state.pending or signum
    kill_children()
    clean_up()
    kill_children()  # those that were started in the meantime
    os._exit(hard_exit_code())


def clean_up() -> None:
    """Run the callbacks of `on_hard_exit`, before the process exits without unwinding."""
    for callback in list(_hard_exit_callbacks):
        with suppress(Exception):
            callback()


def kill_children(pid: int | None = None) -> None:
    """Kill all descendants of process `pid`, by default those of this one.

    Each is suspended before its children are listed, so that it cannot start more of them.
    """
    import psutil

    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):
                if any("resource_tracker" in word for word in child.cmdline()):
                    continue  # it removes the others' semaphores, and then exits
                child.suspend()
                kill_children(child.pid)
                child.kill()
