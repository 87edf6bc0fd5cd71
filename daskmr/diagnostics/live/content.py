"""What is on the page ``/daskmr``: its HTML, and the news that it is brought up to date with."""

from __future__ import annotations

import json
from typing import Any

from daskmr.diagnostics.charts import Chart, draw_up
from daskmr.diagnostics.figures import draw
from daskmr.diagnostics.page import assemble, figures_html, text
from daskmr.history import History, Progress
from daskmr.text import format_bytes, format_seconds, printable

__all__ = ["news_of", "render_page"]

_LATELY = 5.0  # seconds that a speed is of


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


def news_of(history: History, *, ended: bool = False) -> bytes:
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
