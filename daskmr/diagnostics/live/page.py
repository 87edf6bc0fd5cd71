"""The page ``/daskmr`` of a run beside Dask's dashboard: rendered here, served by the scheduler.

While no browser shows the page, nothing is rendered, and Bokeh is not imported.
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
    from daskmr.diagnostics.live.server import PageServer, Request
    from daskmr.history import History

__all__ = ["live_page"]

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two updates
_POLL_SECONDS = 2.0  # between two requests to a remote scheduler for what browsers wait for
_END_SECONDS = 4.0


@contextmanager
def live_page(session: Session, history: Callable[[], History], name: str) -> Iterator[None]:
    """Show a run on a page of the dashboard, if possible, for the duration of the block.

    - `history`: returns the history so far; called in the thread that waits for the run.
    - `name`: the name of the job.
    """
    if session.client is None:
        yield
        return
    host = _RemoteHost(session.client) if session.is_elsewhere else _LocalHost(session)
    page = _LivePage(host, history, name)
    session.watch(page.turn)
    try:
        yield
    finally:
        page.end()


class _LivePage:
    """The page of one run; see `live_page`."""

    def __init__(
        self, host: _LocalHost | _RemoteHost, history: Callable[[], History], name: str
    ) -> None:
        self._host: _LocalHost | _RemoteHost | None = host
        self._history = history
        self._name = name
        self._exchange: Future[Request] | None = None
        self._request: Request | None = None
        self._updated = self._asked = -float("inf")

    def turn(self) -> None:
        """Send browsers what they wait for. This is quick, and called several times a second."""
        if self._host is None:
            return
        try:
            self._take_answer()
            if self._exchange is None:
                self._send_if_due(self._host)
        except Exception as error:  # it must not fail the run
            logger.info("The page of the run cannot be shown any more: %s", error)
            self._host = None

    def _take_answer(self) -> None:
        if self._exchange is not None and self._exchange.done():
            exchange, self._exchange = self._exchange, None
            self._request = exchange.result()

    def _send_if_due(self, host: _LocalHost | _RemoteHost) -> None:
        now, request = time.monotonic(), self._request
        update_due = request is not None and request.updates and now - self._updated >= _EVERY
        page_due = request is not None and request.page
        if update_due or page_due or now - self._asked >= host.poll_seconds:
            self._asked = now
            self._updated = now if update_due else self._updated
            update = self._update(ended=False) if update_due else None
            self._exchange = host.exchange(self._page() if page_due else None, update)

    def _page(self) -> bytes:
        from daskmr.diagnostics.live.content import render_page

        return render_page(self._name)

    def _update(self, ended: bool) -> bytes:
        from daskmr.diagnostics.live.content import render_update

        return render_update(self._history(), ended=ended)

    def end(self) -> None:
        """Show the last state, and remove the page if the scheduler keeps running."""
        host, self._host = self._host, None
        if host is None:
            return
        try:
            self._take_answer()
            is_shown = self._request is not None and self._request.updates
            host.finish(self._update(ended=True) if is_shown else None)
        except Exception as error:
            logger.info("The page of the run could not be ended: %s", error)


class _LocalHost:
    """The scheduler of a LocalCluster, in another thread of this process."""

    poll_seconds = 0.0

    def __init__(self, session: Session) -> None:
        assert session.client is not None
        self._loop = session.client.loop.asyncio_loop
        self._server: PageServer | None = None
        session.add_page(self._mount)

    def _mount(self, application: Any, http_server: Any, scheduler: Any) -> None:
        from daskmr.diagnostics.live.server import PageServer

        self._server = PageServer()
        self._server.mount(scheduler)

    def exchange(self, page: bytes | None, update: bytes | None) -> Future[Request] | None:
        if self._server is None:  # there is no dashboard yet
            return None
        return asyncio.run_coroutine_threadsafe(self._server.exchange(page, update), self._loop)

    def finish(self, update: bytes | None) -> None:
        if self._server is not None:
            finishing = asyncio.run_coroutine_threadsafe(self._server.finish(update), self._loop)
            finishing.result(_END_SECONDS)


class _RemoteHost:
    """An existing scheduler, which must be able to import daskmr."""

    poll_seconds = _POLL_SECONDS

    def __init__(self, client: Any) -> None:
        from daskmr.diagnostics.live import server

        self._server = server
        self._client = client
        self._name = f"daskmr-page-{client.id}-{time.time_ns()}"
        # Call it in the client's loop, where `register_plugin` returns a coroutine, and do not wait
        # for it, because the page must not delay the run.
        self._adding: Future[Any] | None = self._submit(
            client.register_plugin, server.PagePlugin(self._name, client.id), name=self._name
        )

    def _submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        async def call() -> Any:
            return await function(*args, **kwargs)

        return asyncio.run_coroutine_threadsafe(call(), self._client.loop.asyncio_loop)

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """Run a function on the scheduler once the page exists there."""
        if self._adding is not None:
            await asyncio.wrap_future(self._adding)
            self._adding = None
        return await self._client.run_on_scheduler(function, self._name, *args)

    def exchange(self, page: bytes | None, update: bytes | None) -> Future[Request]:
        return self._submit(self._run, self._server.exchange_on, page, update)

    def finish(self, update: bytes | None) -> None:
        self._submit(self._run, self._server.finish_on, update).result(_END_SECONDS)
