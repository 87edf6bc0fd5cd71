"""Browsers wait for what is new, and the end waits for browsers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from daskmr.diagnostics.live.server import PageServer, Request


def in_loop(test: Callable[[PageServer], Awaitable[None]]) -> None:
    async def run() -> None:
        await asyncio.wait_for(test(PageServer()), 20)

    asyncio.run(run())


def test_nothing_is_requested_before_a_browser_asks() -> None:
    async def test(server: PageServer) -> None:
        assert server.request() == Request(False, False)
        asking = asyncio.ensure_future(server.page())
        await asyncio.sleep(0)
        assert server.request() == Request(True, True)
        assert await server.exchange(b"page", None) == Request(False, True)
        assert await asking == b"page"

    in_loop(test)


def test_all_waiting_viewers_get_an_update() -> None:
    async def test(server: PageServer) -> None:
        waiting = [asyncio.ensure_future(server.update_after(0, str(n))) for n in range(3)]
        await asyncio.sleep(0)
        await server.exchange(None, b"1")
        assert await asyncio.gather(*waiting) == [(1, b"1")] * 3
        late = await server.update_after(0, "late")
        assert late == (1, b"1")
        next_one = asyncio.ensure_future(server.update_after(1, "late"))
        await asyncio.sleep(0)
        assert not next_one.done()
        await server.exchange(None, b"2")
        assert await next_one == (2, b"2")

    in_loop(test)


def test_the_end_waits_for_present_viewers_only() -> None:
    async def test(server: PageServer) -> None:
        await server.exchange(None, b"1")
        await server.update_after(0, "a")
        server.delivered("a", 1)
        ending = asyncio.ensure_future(server.finish(b"end"))
        await asyncio.sleep(0.05)
        assert not ending.done()
        assert await server.update_after(1, "a") == (2, b"end")
        server.delivered("a", 2)
        await ending
        server._viewers["gone"] = (-1e9, 1)
        await server.finish(b"again")

    in_loop(test)
