"""The HTML of the page ``/daskmr``, and the JSON updates that a browser draws on it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from daskmr.diagnostics.pace import Pace
from daskmr.diagnostics.page import embed, render
from daskmr.diagnostics.pictures import draw_charts
from daskmr.history import History, Progress
from daskmr.text import format_bytes, format_seconds, printable

__all__ = ["render_page", "render_update"]


def render_page(name: str) -> bytes:
    """Return the page without any content."""
    sections, script = embed({}, keep_empty=True)
    shown = {"title": f"{name} · daskmr", "heading": name, "pictures": sections}
    return render("live.html", scripts=[script], connects=True, **shown).encode("utf-8")


def render_update(history: History, *, ended: bool = False) -> bytes:
    """Return the current content of the page as JSON."""
    charts = draw_charts(history, ended=False)
    update = {
        "ended": ended,
        "state": _state(history, ended),
        "tiles": [tuple(map(printable, tile)) for tile in _tiles(history)],
        "pictures": {name: chart and asdict(chart) for name, chart in charts.items()},
    }
    return json.dumps(update, separators=(",", ":")).encode("ascii")


def _state(history: History, ended: bool) -> str:
    took = format_seconds(history.ended - history.started)
    if ended:
        return f"The workers have ended after {took}. This is the last known state."
    phase = history.looks[-1].phase if history.looks else "list"
    return f"Running for {took}. Current phase: {phase}."


def _tiles(history: History) -> Iterator[tuple[str, str, str]]:
    """Yield the figures shown in large type: name, figure, note."""
    if not history.looks:
        return
    pace = Pace()
    for look in history.looks:
        pace.add(look)
    speed, look = pace.records, history.looks[-1]
    mapped = look.progress.get("map", Progress())
    if mapped.bytes_total:
        of = f"{format_bytes(mapped.bytes)} of {format_bytes(mapped.bytes_total)}"
        yield "Mapped", f"{100 * mapped.bytes / mapped.bytes_total:.0f}%", of
    yield "Files", f"{mapped.files:,}", f"of {mapped.files_total:,}"
    yield "Records", f"{look.records:,}", "" if speed is None else f"{speed:,.0f} per second"
    yield "Bad records", f"{look.bad_records:,}", ""
    if look.workers:
        paused = sum(worker.status == "paused" for worker in look.workers)
        yield "Workers", f"{len(look.workers):,}", f"{paused:,} paused" if paused else ""
        most = max(worker.memory for worker in look.workers)
        yield "Memory", format_bytes(most), "of the fullest worker"
    if look.spilled:
        yield "Spilled", format_bytes(look.spilled), ""
    if look.fetched_bytes:
        yield "Fetched", format_bytes(look.fetched_bytes), ""
