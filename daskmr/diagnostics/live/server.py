"""Serve the page of a run and its updates on the HTTP server of a Dask scheduler.

This runs in the scheduler and renders nothing: the client sends the page, and updates while a browser
shows it. Browsers use long polling: a request for an update is answered once there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from distributed.diagnostics.plugin import SchedulerPlugin
from tornado import web

__all__ = ["PagePlugin", "PageServer", "Request", "exchange_on", "finish_on"]

_PATH = "daskmr"
_HELD_SECONDS = 20.0  # longest wait of a browser's request
_WATCHED_SECONDS = 30.0  # updates are sent for this long after the last request
_FLUSH_SECONDS = 2.0  # for browsers to receive the last update
_RECENT_SECONDS = 3.0
_MAX_VIEWERS = 1000


class Request(NamedTuple):
    """The data that browsers wait for: the page, if it is missing, or updates."""

    page: bool
    updates: bool


class PageServer:
    """Serves one page, in the event loop of a scheduler.

    >>> PageServer().request()
    Request(page=False, updates=False)
    """

    def __init__(self) -> None:
        self._page: bytes | None = None
        self._update = b""
        self._number = 0  # of the update
        self._asked = -float("inf")
        self._page_asked = False
        self._changed = asyncio.Condition()
        # The time of each viewer's last request, and the number of its update.
        self._viewers: dict[str, tuple[float, int]] = {}
        self._scheduler: Any = None
        self._application: Any = None

    def mount(self, scheduler: Any) -> None:
        """Add the page to the HTTP server of `scheduler`, and a link to the menu of its dashboard."""
        routes = [
            # The server may have a prefix, which is unknown here.
            (rf"(?:/.*)?/{_PATH}/?", _Page, {"server": self}),
            (rf"(?:/.*)?/{_PATH}/data", _Update, {"server": self}),
        ]
        self._scheduler, self._application = scheduler, web.Application(routes, daskmr=True)
        scheduler.http_application.add_application(self._application)
        for pages in _menus(scheduler):
            if _PATH not in pages:
                pages.append(_PATH)

    def unmount(self) -> None:
        """Remove the page and the link."""
        if self._application is None:
            return
        applications = self._scheduler.http_application.applications
        if self._application in applications:
            applications.remove(self._application)
        self._application = None
        if any(application.settings.get("daskmr") for application in applications):
            return  # another run has a page there
        for pages in _menus(self._scheduler):
            if _PATH in pages:
                pages.remove(_PATH)

    # --- for the client -----------------------------------------------------------------------------

    def request(self) -> Request:
        """Return the data that browsers wait for."""
        is_shown = time.monotonic() - self._asked < _WATCHED_SECONDS
        return Request(self._page is None and self._page_asked, is_shown)

    async def exchange(self, page: bytes | None, update: bytes | None) -> Request:
        """Receive a page or an update, and return the data that browsers wait for next."""
        if page is not None:
            self._page = page
        if update is not None:
            self._update, self._number = update, self._number + 1
        if page is not None or update is not None:
            async with self._changed:
                self._changed.notify_all()
        return self.request()

    async def finish(self, update: bytes | None) -> None:
        """Receive the last update, and give browsers time to fetch it."""
        await self.exchange(None, update)
        deadline = time.monotonic() + _FLUSH_SECONDS
        while (now := time.monotonic()) < deadline and any(
            number < self._number and now - asked < _RECENT_SECONDS
            for asked, number in self._viewers.values()
        ):
            await asyncio.sleep(0.01)

    # --- for browsers -----------------------------------------------------------------------------

    async def page(self) -> bytes | None:
        """Return the page once it exists; ``None`` to ask again."""
        self._asked, self._page_asked = time.monotonic(), True
        await self._wait_until(lambda: self._page is not None)
        return self._page

    async def update_after(self, number: int, viewer: str) -> tuple[int, bytes] | None:
        """Return an update newer than `number`, once there is one; ``None`` to ask again."""
        self._asked = time.monotonic()
        if len(self._viewers) < _MAX_VIEWERS or viewer in self._viewers:
            self._viewers[viewer] = self._asked, number
        await self._wait_until(lambda: self._number > number)
        self._asked = time.monotonic()
        return (self._number, self._update) if self._number > number else None

    def delivered(self, viewer: str, number: int) -> None:
        """Note that a browser has received an update."""
        if viewer in self._viewers:
            self._viewers[viewer] = time.monotonic(), number

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HELD_SECONDS), self._changed:
                await self._changed.wait_for(condition)


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
            raise web.HTTPError(503, reason="There is no page yet")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        await self.finish(page)


class _Update(_Handler):
    async def get(self) -> None:
        number, viewer = self.get_argument("after", "0"), self.get_argument("viewer", "")[:40]
        if not number.isdecimal():
            raise web.HTTPError(400)
        update = await self.server.update_after(int(number), viewer)
        if update is None:
            self.set_status(204)
            return
        latest, content = update
        self.set_header("Content-Type", "application/json")
        self.set_header("X-Number", str(latest))
        await self.finish(content)
        self.server.delivered(viewer, latest)


def _menus(scheduler: Any) -> list[list[str]]:
    """Return the lists of pages in the menu of Dask's dashboard, if it has one.

    They are not documented. If they are missing, the page works but has no link.
    """
    module = sys.modules.get("distributed.dashboard.scheduler")
    variables = getattr(module, "template_variables", None)
    pages = variables(scheduler).get("pages") if variables is not None else None
    return [pages] if isinstance(pages, list) else []


class PagePlugin(SchedulerPlugin):  # type: ignore[misc]
    """A plugin that adds a page to an existing scheduler, and removes it when its client is gone."""

    def __init__(self, name: str, client: str) -> None:
        self.name = name
        self.client = client
        self.server: PageServer | None = None

    async def start(self, scheduler: Any) -> None:
        self.server = PageServer()
        self.server.mount(scheduler)

    def remove_client(self, scheduler: Any, client: str) -> None:
        if client == self.client:
            self.remove(scheduler)

    def remove(self, scheduler: Any) -> None:
        """Remove the page and the plugin from the scheduler."""
        if self.server is not None:
            self.server.unmount()
        if self.name in scheduler.plugins:
            scheduler.remove_plugin(self.name)


async def exchange_on(
    name: str, page: bytes | None, update: bytes | None, dask_scheduler: Any = None
) -> Request:
    """Call `PageServer.exchange` on a scheduler; runs there."""
    request: Request = await dask_scheduler.plugins[name].server.exchange(page, update)
    return request


async def finish_on(name: str, update: bytes | None, dask_scheduler: Any = None) -> None:
    """Call `PageServer.finish` on a scheduler, and remove the page; runs there."""
    plugin = dask_scheduler.plugins[name]
    try:
        await plugin.server.finish(update)
    finally:
        plugin.remove(dask_scheduler)
