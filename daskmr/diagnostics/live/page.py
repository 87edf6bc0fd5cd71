"""The page ``/daskmr`` of a run, beside Dask's dashboard, with its pictures as they are now.

Nothing is drawn, nor computed, while nobody looks; nor is what draws imported.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from daskmr.cluster.session import Session
    from daskmr.diagnostics.live.server import PagePlugin, PageServer, Wanted
    from daskmr.history import History

__all__ = ["LivePage", "live_page"]

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two pictures
_ASKED_EVERY = 2.0  # seconds between two questions to another scheduler whether somebody looks
_END_SECONDS = 2.0


@contextmanager
def live_page(session: Session, history: Callable[[], History], name: str) -> Iterator[None]:
    """Show a run on a page of the dashboard, as far as there can be one, while the block lasts.

    Parameters
    ----------
    session : Session
    history : callable
        Gives what is known of the run now; called in the thread that waits for the run.
    name : str
        Of the job.
    """
    page = LivePage(session, history, name)
    try:
        page.begin()
        yield
    finally:
        page.end()


class LivePage:
    """Shows one run: see `live_page`."""

    def __init__(self, session: Session, history: Callable[[], History], name: str) -> None:
        self._session = session
        self._history = history
        self._name = name
        self._place: _Place | None = None
        self._asking: Future[Wanted | None] | None = None
        self._wanted: Wanted | None = None
        self._told = self._asked = -float("inf")

    def begin(self) -> None:
        """Have the page added, now or when there is a dashboard."""
        if self._session.client is None:
            return
        if self._session.is_elsewhere:
            self._place = _Elsewhere(self._session.client)
        else:
            self._place = _Here(self._session)
        self._session.watch(self.turn)

    def turn(self) -> None:
        """Give browsers what they wait for; quick, and called several times a second."""
        if self._place is None:
            return
        try:
            self._take_answer()
            if self._asking is None:
                self._ask(self._place)
        except Exception as error:  # a page is not worth a failure
            logger.info("The page of the run cannot be shown any more: %s", error)
            self._place = None

    def _take_answer(self) -> None:
        if self._asking is not None and self._asking.done():
            asking, self._asking = self._asking, None
            self._wanted = asking.result()

    def _ask(self, place: _Place) -> None:
        now, wanted = time.monotonic(), self._wanted
        due = wanted is not None and wanted.news and now - self._told >= _EVERY
        wants_page = wanted is not None and wanted.page
        if not (due or wants_page or now - self._asked >= place.asked_every):
            return
        page = self._page() if wants_page else None
        news = self._news() if due else None
        self._asked = now
        self._told = now if due else self._told
        self._asking = place.exchange(page, news)

    def _page(self) -> bytes:
        from daskmr.diagnostics.live.content import render_page

        return render_page(self._name)

    def _news(self, *, ended: bool = False) -> bytes:
        from daskmr.diagnostics.live.content import render_update

        return render_update(self._history(), ended=ended)

    def end(self) -> None:
        """Show the last state, and take the page away where the scheduler goes on."""
        place, self._place = self._place, None
        if place is None:
            return
        try:
            self._take_answer()
            looked_at = self._wanted is not None and self._wanted.news
            news = self._news(ended=True) if looked_at else None
            place.finish(news)
        except Exception as error:
            logger.info("The page of the run could not be ended: %s", error)


class _Place:
    """Where the page is served."""

    asked_every = 0.0

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted | None]:
        raise NotImplementedError

    def finish(self, news: bytes | None) -> None:
        raise NotImplementedError


class _Here(_Place):
    """The scheduler of a LocalCluster, in another thread of this process."""

    def __init__(self, session: Session) -> None:
        assert session.client is not None
        self._loop = session.client.loop.asyncio_loop
        self._server: PageServer | None = None
        session.add_page(self._mount)

    def _mount(self, application: Any, http_server: Any, scheduler: Any) -> None:
        from daskmr.diagnostics.live.server import PageServer

        server = PageServer()
        server.mount(scheduler)
        self._server = server

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted | None]:
        if self._server is None:  # there is no dashboard yet
            nothing: Future[Wanted | None] = Future()
            nothing.set_result(None)
            return nothing
        return asyncio.run_coroutine_threadsafe(self._server.exchange(page, news), self._loop)

    def finish(self, news: bytes | None) -> None:
        if self._server is not None:
            finishing = asyncio.run_coroutine_threadsafe(self._server.finish(news), self._loop)
            finishing.result(_END_SECONDS)


class _Elsewhere(_Place):
    """Somebody's scheduler, which must be able to import daskmr."""

    asked_every = _ASKED_EVERY

    def __init__(self, client: Any) -> None:
        self._client = client
        self._name = f"daskmr-page-{client.id}-{time.time_ns()}"
        self._loop = client.loop.asyncio_loop
        from daskmr.diagnostics.live.server import PagePlugin

        plugin = PagePlugin(self._name, client.id)
        # Not by the client's own lock, and not waited for: the page is no reason to be late.
        self._adding: Future[Any] | None = asyncio.run_coroutine_threadsafe(
            self._add(plugin), self._loop
        )

    async def _add(self, plugin: PagePlugin) -> None:
        # Waited for in the client's loop, where `register_plugin` gives a coroutine.
        await self._client.register_plugin(plugin, name=self._name)

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted | None]:
        return asyncio.run_coroutine_threadsafe(self._exchange(page, news), self._loop)

    async def _exchange(self, page: bytes | None, news: bytes | None) -> Wanted:
        if self._adding is not None:
            await asyncio.wrap_future(self._adding)
            self._adding = None
        from daskmr.diagnostics.live.server import Wanted, exchange_on

        told = await self._client.run_on_scheduler(exchange_on, self._name, page, news)
        return Wanted(*told)

    def finish(self, news: bytes | None) -> None:
        from daskmr.diagnostics.live.server import finish_on

        async def finish() -> None:
            if self._adding is not None:
                await asyncio.wrap_future(self._adding)
            await self._client.run_on_scheduler(finish_on, self._name, news)

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result(_END_SECONDS)
