"""A page of ours on the HTTP server of a Dask scheduler, and what is new on it.

It runs in the scheduler, and draws nothing: the client sends the page, and then what changes, but
only while somebody looks. A browser asks for what is new and is answered once there is something.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado import web

__all__ = ["PagePlugin", "PageServer", "Wanted", "exchange_on", "finish_on"]

PATH = "daskmr"
_HELD_SECONDS = 20.0  # for which a browser waits before it asks again
_WATCHED_SECONDS = 30.0  # since somebody has asked
_FLUSH_SECONDS = 0.5  # in which browsers take the end of it
_LATELY = 3.0
_MOST_VIEWERS = 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What browsers wait for.

    Attributes
    ----------
    page : bool
        Somebody has asked for the page, and it is not there.
    news : bool
        Somebody looks.
    """

    page: bool
    news: bool


class PageServer:
    """Serves one page, in the event loop of a scheduler.

    Examples
    --------
    >>> PageServer().wanted()
    Wanted(page=False, news=False)
    """

    def __init__(self) -> None:
        self._page: bytes | None = None
        self._news = b""
        self._number = 0
        self._asked = -float("inf")
        self._page_asked = False
        self._changed = asyncio.Event()
        self._viewers: dict[str, tuple[float, int]] = {}  # when it asked last, and what it has
        self._application: Any = None
        self._scheduler: Any = None
        self._own: Any = None

    # --- on a scheduler ---------------------------------------------------------------------------

    def mount(self, scheduler: Any) -> None:
        """Add the page to the server of `scheduler`, and a link to it to the menu of Dask's."""
        routes = [
            # The server may have a prefix, which it does not tell.
            (rf"(?:/.*)?/{PATH}/?", _Page, {"server": self}),
            (rf"(?:/.*)?/{PATH}/data", _News, {"server": self}),
        ]
        self._scheduler, self._own = scheduler, web.Application(routes, daskmr=True)
        scheduler.http_application.add_application(self._own)
        for pages in _menus(scheduler):
            if PATH not in pages:
                pages.append(PATH)

    def unmount(self) -> None:
        """Take both away again."""
        if self._own is None:
            return
        applications = self._scheduler.http_application.applications
        if self._own in applications:
            applications.remove(self._own)
        self._own = None
        if any(application.settings.get("daskmr") for application in applications):
            return  # another run has a page there
        for pages in _menus(self._scheduler):
            if PATH in pages:
                pages.remove(PATH)

    # --- for the client ---------------------------------------------------------------------------

    def wanted(self) -> Wanted:
        """Tell what somebody waits for."""
        looked_at = time.monotonic() - self._asked < _WATCHED_SECONDS
        return Wanted(self._page is None and self._page_asked, looked_at)

    async def exchange(self, page: bytes | None, news: bytes | None) -> Wanted:
        """Take a page, or what is new on it; tell what is wanted next."""
        if page is not None:
            self._page = page
        if news is not None:
            self._news, self._number = news, self._number + 1
        if page is not None or news is not None:
            self._changed.set()
            self._changed = asyncio.Event()
        return self.wanted()

    async def finish(self, news: bytes | None) -> None:
        """Take the end of it, and let those who look see it."""
        await self.exchange(None, news)
        deadline = time.monotonic() + _FLUSH_SECONDS
        while time.monotonic() < deadline and self._has_waiting():
            await asyncio.sleep(0.01)

    def _has_waiting(self) -> bool:
        now = time.monotonic()
        return any(
            number < self._number and now - asked < _LATELY
            for asked, number in self._viewers.values()
        )

    # --- for browsers -----------------------------------------------------------------------------

    async def page(self) -> bytes | None:
        """Return the page once it is there."""
        self._asked, self._page_asked = time.monotonic(), True
        await self._wait_until(lambda: self._page is not None)
        return self._page

    async def news_after(self, number: int, viewer: str) -> tuple[int, bytes] | None:
        """Return what is newer than `number`, once there is something; ``None`` to ask again."""
        self._asked = time.monotonic()
        if len(self._viewers) < _MOST_VIEWERS or viewer in self._viewers:
            self._viewers[viewer] = self._asked, number
        await self._wait_until(lambda: self._number > number)
        self._asked = time.monotonic()
        return (self._number, self._news) if self._number > number else None

    def delivered(self, viewer: str, number: int) -> None:
        """Note that it has got there."""
        if viewer in self._viewers:
            self._viewers[viewer] = time.monotonic(), number

    async def _wait_until(self, condition: Any) -> None:
        deadline = time.monotonic() + _HELD_SECONDS
        while not condition() and (left := deadline - time.monotonic()) > 0:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), left)


class _Handler(web.RequestHandler):
    def initialize(self, server: PageServer) -> None:
        self.server = server

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")


class _Page(_Handler):
    async def get(self) -> None:
        page = await self.server.page()
        if page is None:
            raise web.HTTPError(503, reason="Nothing is shown yet")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        await self.finish(page)


class _News(_Handler):
    async def get(self) -> None:
        number, viewer = self.get_argument("after", "0"), self.get_argument("viewer", "")[:40]
        if not number.isdecimal():
            raise web.HTTPError(400)
        news = await self.server.news_after(int(number), viewer)
        if news is None:
            self.set_status(204)
            return
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Number", str(news[0]))
        await self.finish(news[1])
        self.server.delivered(viewer, news[0])


def _menus(scheduler: Any) -> list[list[str]]:
    """The lists of pages that the menu of Dask's dashboard is made of; none where it has none.

    There is no documented way to them. Without, the page is there, and has no link to it.
    """
    module = sys.modules.get("distributed.dashboard.scheduler")
    variables = getattr(module, "template_variables", None)
    if variables is None:
        return []
    pages = variables(scheduler).get("pages")
    return [pages] if isinstance(pages, list) else []


# --- on somebody's scheduler ----------------------------------------------------------------------


class PagePlugin(SchedulerPlugin):  # type: ignore[misc]
    """Brings a page to a scheduler, and takes it away when its client is gone.

    Parameters
    ----------
    name : str
        Of the plugin.
    client : str
        Id of the client.
    """

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self.client = client
        self.server: PageServer | None = None

    async def start(self, scheduler: Any) -> None:
        """Show the page."""
        self.server = PageServer()
        self.server.mount(scheduler)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """Remove the page of a client that is gone."""
        if client == self.client:
            self.remove(scheduler)

    def remove(self, scheduler: Any) -> None:
        """Leave the scheduler as it was."""
        if self.server is not None:
            self.server.unmount()
        if self.name in scheduler.plugins:
            scheduler.remove_plugin(self.name)


async def exchange_on(
    name: str, page: bytes | None, news: bytes | None, dask_scheduler: Any = None
) -> tuple[bool, bool]:
    """Exchange with the page on a scheduler; run there."""
    server = dask_scheduler.plugins[name].server
    wanted = await server.exchange(page, news)
    return wanted.page, wanted.news


async def finish_on(name: str, news: bytes | None, dask_scheduler: Any = None) -> None:
    """End the page on a scheduler, and remove it; run there."""
    plugin = dask_scheduler.plugins[name]
    try:
        await plugin.server.finish(news)
    finally:
        plugin.remove(dask_scheduler)
