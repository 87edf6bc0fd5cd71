"""The page ``/daskmr`` of a run, beside Dask's dashboard, with its pictures as they are now.

Nothing is drawn, nor computed, while nobody looks.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from daskmr.charts import Chart, draw_up
from daskmr.figures import draw
from daskmr.history import History, Progress
from daskmr.pageserver import PagePlugin, PageServer, Wanted, exchange_on, finish_on
from daskmr.units import format_bytes, format_seconds, printable
from daskmr.webpage import assemble, figures_html, text

if TYPE_CHECKING:
    from daskmr.cluster import Session

__all__ = ["LivePage", "live_page", "news_of", "render_page"]

logger = logging.getLogger(__name__)

_EVERY = 1.0  # seconds between two pictures
_ASKED_EVERY = 2.0  # seconds between two questions to another scheduler whether somebody looks
_END_SECONDS = 2.0
_LATELY = 5.0  # seconds that a speed is of


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
        self._asking: Future[Wanted] | None = None
        self._wanted = Wanted(False, False)
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
        now = time.monotonic()
        due = self._wanted.news and now - self._told >= _EVERY
        if not (due or self._wanted.page or now - self._asked >= place.asked_every):
            return
        page = render_page(self._name) if self._wanted.page else None
        news = news_of(self._history(), self._name) if due else None
        self._asked = now
        self._told = now if due else self._told
        self._asking = place.exchange(page, news)

    def end(self) -> None:
        """Show the last state, and take the page away where the scheduler goes on."""
        place, self._place = self._place, None
        if place is None:
            return
        try:
            self._take_answer()
            news = news_of(self._history(), self._name, ended=True) if self._wanted.news else None
            place.finish(news)
        except Exception as error:
            logger.info("The page of the run could not be ended: %s", error)


class _Place:
    """Where the page is served."""

    asked_every = 0.0

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted]:
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
        server = PageServer()
        server.mount(scheduler)
        self._server = server

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted]:
        if self._server is None:  # there is no dashboard yet
            nothing: Future[Wanted] = Future()
            nothing.set_result(Wanted(False, False))
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
        plugin = PagePlugin(self._name, client.id)
        # Not by the client's own lock, and not waited for: the page is no reason to be late.
        self._adding: Future[Any] | None = asyncio.run_coroutine_threadsafe(
            self._add(plugin), self._loop
        )

    async def _add(self, plugin: PagePlugin) -> None:
        # Waited for in the client's loop, where `register_plugin` gives a coroutine.
        await self._client.register_plugin(plugin, name=self._name)

    def exchange(self, page: bytes | None, news: bytes | None) -> Future[Wanted]:
        return asyncio.run_coroutine_threadsafe(self._exchange(page, news), self._loop)

    async def _exchange(self, page: bytes | None, news: bytes | None) -> Wanted:
        if self._adding is not None:
            await asyncio.wrap_future(self._adding)
            self._adding = None
        told = await self._client.run_on_scheduler(exchange_on, self._name, page, news)
        return Wanted(*told)

    def finish(self, news: bytes | None) -> None:
        async def finish() -> None:
            if self._adding is not None:
                await asyncio.wrap_future(self._adding)
            await self._client.run_on_scheduler(finish_on, self._name, news)

        asyncio.run_coroutine_threadsafe(finish(), self._loop).result(_END_SECONDS)


# --- what is on it ------------------------------------------------------------------------------


def render_page(name: str) -> bytes:
    """Return the page, with nothing drawn on it yet."""
    charts: dict[str, Chart | None] = {}
    pictures, script = figures_html(draw(charts), charts, keep_empty=True)
    links = "".join(
        f'<a href="{page}">{label}</a>'
        for page, label in (("status", "Dask"), ("workers", "Workers"), ("tasks", "Tasks"))
    )
    body = (
        f"<header><nav>{links}</nav><h1>{text(name)}</h1>"
        '<p id="state" role="status">Waiting for the first look.</p></header>\n'
        f'<dl class="tiles" id="tiles"></dl>\n{pictures}'
    )
    page = assemble(f"{name} · daskmr", body, [script, _SCRIPT], talks=True)
    return page.encode("utf-8")


def news_of(history: History, name: str, *, ended: bool = False) -> bytes:
    """Return what the page is to show, as JSON."""
    charts = draw_up(history, ended=False)
    news = {
        "ended": ended,
        "state": _state(history, ended),
        "tiles": _tiles(history),
        "pictures": {picture: _chart(chart) for picture, chart in charts.items()},
    }
    return json.dumps(news, separators=(",", ":")).encode("ascii")


def _chart(chart: Chart | None) -> dict[str, Any] | None:
    if chart is None:
        return None
    return {
        "sources": chart.sources,
        "settings": chart.settings,
        "unit": chart.unit,
        "note": chart.note,
    }


def _state(history: History, ended: bool) -> str:
    took = format_seconds(history.ended - history.started)
    if ended:
        return f"The workers have ended, after {took}. This is how the run was last seen."
    phase = history.looks[-1].phase if history.looks else "list"
    return f"Running for {took}, now in the phase: {phase}."


def _tiles(history: History) -> list[tuple[str, str, str]]:
    if not history.looks:
        return []
    look = history.looks[-1]
    mapped = look.progress.get("map", Progress())
    tiles = []
    if mapped.bytes_total:
        share = f"{100 * mapped.bytes / mapped.bytes_total:.0f}%"
        of = f"{format_bytes(mapped.bytes)} of {format_bytes(mapped.bytes_total)}"
        tiles.append(("Mapped", share, of))
    tiles += [
        ("Files", f"{mapped.files:,}", f"of {mapped.files_total:,}"),
        ("Records", f"{look.records:,}", _speed(history)),
        ("Bad records", f"{look.bad_records:,}", ""),
    ]
    if look.workers:
        most = max(worker.memory for worker in look.workers)
        paused = sum(worker.status == "paused" for worker in look.workers)
        tiles += [
            ("Workers", f"{len(look.workers):,}", f"{paused:,} paused" if paused else ""),
            ("Memory", format_bytes(most), "of the fullest worker"),
        ]
    if look.spilled:
        tiles.append(("Spilled", format_bytes(look.spilled), ""))
    if look.fetched_bytes:
        tiles.append(("Fetched", format_bytes(look.fetched_bytes), ""))
    return [(name, printable(value), printable(note)) for name, value, note in tiles]


def _speed(history: History) -> str:
    """How fast it was lately."""
    last = history.looks[-1]
    before = next((look for look in history.looks if last.at - look.at <= _LATELY), last)
    if last.at - before.at <= 0:
        return ""
    return f"{(last.records - before.records) / (last.at - before.at):,.0f} a second"


_SCRIPT = r"""
"use strict";
(() => {
  const viewer = Math.random().toString(36).slice(2);
  const ranges = new Map();

  const parts = figure => ({
    "figure": figure, "x": figure.x_range, "y": figure.y_range,
    "x-format": figure.below[0].formatter, "y-axis": figure.left[0],
    "y-ticks": figure.left[0].ticker,
    "legend": figure.above.find(part => part.type === "Legend"),
  });

  const settable = properties => {
    const {major_label_overrides: labels, ...rest} = properties;
    if (labels === undefined) return rest;
    return {...rest, major_label_overrides: new Map(Object.entries(labels).map(([k, v]) => [Number(k), v]))};
  };

  // A range that somebody has zoomed into is left as it is.
  const zoomed = (range, name) => {
    const last = ranges.get(range);
    return name === "x" && last !== undefined && (range.start !== last.start || range.end !== last.end);
  };

  const draw = (figure, chart) => {
    for (const [name, columns] of Object.entries(chart.sources))
      figure.renderers.find(renderer => renderer.name === name).data_source.data = columns;
    const of = parts(figure);
    for (const [name, properties] of Object.entries(chart.settings)) {
      const part = of[name];
      if (part === undefined || zoomed(part, name)) continue;
      part.setv(settable(properties));
      if (name === "x") ranges.set(part, properties);
    }
  };

  const words = (tag, content, kind) => {
    const element = document.createElement(tag);
    element.textContent = content;
    if (kind) element.className = kind;
    return element;
  };

  const tell = news => {
    document.getElementById("state").textContent = news.state;
    document.getElementById("tiles").replaceChildren(...news.tiles.map(([name, value, note]) => {
      const tile = words("div", "", "tile");
      tile.append(words("dt", name), words("dd", value), words("dd", note, "note"));
      return tile;
    }));
  };

  const show = (doc, news) => {
    tell(news);
    for (const [name, chart] of Object.entries(news.pictures)) {
      const place = document.getElementById(name);
      if (chart !== null) {
        place.hidden = false;
        place.closest("section").hidden = false;
        place.querySelector(".unit").textContent = chart.unit;
        place.querySelector("figcaption .note").textContent = chart.note;
        draw(doc.get_model_by_name(name), chart);
      }
    }
    document.body.dataset.state = news.ended ? "ended" : "running";
  };

  const documents = () => new Promise(resolve => {
    const look = () => Bokeh.documents.length ? resolve(Bokeh.documents[0]) : setTimeout(look, 20);
    look();
  });

  const follow = async () => {
    const doc = await documents();
    for (let number = 0; ;) {
      let news;
      try {
        const answer = await fetch(`daskmr/data?after=${number}&viewer=${viewer}`, {cache: "no-store"});
        if (answer.status === 204) continue;
        if (!answer.ok) throw new Error(answer.statusText);
        number = Number(answer.headers.get("X-Number"));
        news = await answer.json();
      } catch (error) {
        document.getElementById("state").textContent =
          "There is no connection any more. This is how the run was last seen.";
        document.body.dataset.state = "lost";
        return;
      }
      show(doc, news);
      if (news.ended) return;
    }
  };
  follow();
})();
"""
