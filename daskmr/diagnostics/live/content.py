"""The HTML of the page ``/daskmr``, and the JSON updates that a browser draws on it."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from daskmr.diagnostics.page import embed, live_script, render
from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.plotting.base import Chart
from daskmr.history import History, Progress
from daskmr.text import format_bytes, format_seconds, printable

__all__ = ["render_page", "render_update"]

_RECENT_SECONDS = 5.0  # over which speed is measured


def render_page(name: str) -> bytes:
    """Return the page, with nothing drawn on it yet."""
    sections, script = embed({}, keep_empty=True)
    page = render(
        "live.html",
        scripts=[script, live_script()],
        connects=True,
        title=f"{name} · daskmr",
        heading=name,
        pictures=sections,
    )
    return page.encode("utf-8")


def render_update(history: History, *, ended: bool = False) -> bytes:
    """Return what the page is to show now, as JSON."""
    charts = draw_charts(history, ended=False)
    update = {
        "ended": ended,
        "state": _state(history, ended),
        "tiles": _tiles(history),
        "pictures": {name: chart and _chart(chart) for name, chart in charts.items()},
    }
    return json.dumps(update, separators=(",", ":")).encode("ascii")


def _chart(chart: Chart) -> dict[str, Any]:
    return {field.name: getattr(chart, field.name) for field in fields(chart)}


def _state(history: History, ended: bool) -> str:
    took = format_seconds(history.ended - history.started)
    if ended:
        return f"The workers have ended, after {took}. This is the last state that was seen."
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
    """Return the recent speed."""
    last = history.looks[-1]
    before = next((look for look in history.looks if last.at - look.at <= _RECENT_SECONDS), last)
    if last.at - before.at <= 0:
        return ""
    return f"{(last.records - before.records) / (last.at - before.at):,.0f} a second"
