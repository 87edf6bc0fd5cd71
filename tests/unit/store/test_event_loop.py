"""Tests of `daskmr.store.event_loop`."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from daskmr.store.event_loop import LoopThread


def test_an_event_loop_waits_for_what_it_cancels() -> None:
    ended = threading.Event()
    begun = threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    loop = LoopThread("test")
    kept: list[Any] = []
    loop.call(lambda: kept.append(asyncio.ensure_future(work())))
    assert begun.wait(10)
    loop.close()
    assert ended.is_set()


def test_a_coroutine_may_drop_what_closes_its_loop() -> None:
    loop = LoopThread("test")

    async def close() -> None:
        loop.close()

    loop.run(close())
    deadline = time.monotonic() + 20
    while loop._thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loop._thread.is_alive()


def test_a_last_coroutine_that_hangs_does_not_keep_it_open() -> None:
    loop = LoopThread("test")
    loop.close(asyncio.sleep(60))
    assert not loop.usable
    loop.call(lambda: None)
