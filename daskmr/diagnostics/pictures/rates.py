"""Draw rates over time: bytes and records mapped, and bytes fetched from the store, per second."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from daskmr.diagnostics import plotting
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.history import History, Look, Progress
from daskmr.text import byte_unit, count_unit, format_bytes

__all__ = ["PICTURES", "rate_chart"]

_MAX_BINS = 120
_BIN_SECONDS = 0.25
_FEWEST = 4  # different totals; with fewer, tasks are more precise than snapshots


def rate_chart(run: RunView, points: plotting.Points, measure: str, note: str) -> Chart:
    """Chart the growth per second of a running total of ``"bytes"`` or ``"records"``."""
    count = max(1, min(_MAX_BINS, int(run.time.seconds / _BIN_SECONDS)))
    edges = [run.time.started + run.time.seconds * i / count for i in range(count + 1)]
    rates = plotting.increases(points, edges)
    scale, unit = (byte_unit if measure == "bytes" else count_unit)(max(rates))
    unit += "/s" if measure == "bytes" else f"{measure}/s"
    at = list(map(run.time, edges))
    scaled = [rate / scale for rate in rates]
    text = [f"{rate:,.4g} {unit}" for rate in scaled]
    columns: plotting.Columns = {"left": at[:-1], "right": at[1:], "top": scaled, "text": text}
    settings = run.time.settings | plotting.value_range(max(scaled))
    return Chart({"bars": columns}, settings, unit, note)


def _mapped_chart(run: RunView, measure: str) -> Chart | None:
    points = _mapped(run.history, measure)
    if not points or points[-1][1] <= 0:
        return None
    first, last = points[0], points[-1]
    began = next((at for (at, value), (_, later) in pairwise(points) if later > value), first[0])
    average = (last[1] - first[1]) / max(last[0] - began, plotting.INSTANT)
    text = format_bytes(average) if measure == "bytes" else f"{average:,.0f} records"
    return rate_chart(run, points, measure, f"{text}/s on average")


def _mapped(history: History, measure: str) -> plotting.Points:
    """Return the total mapped over time, from snapshots if there are enough, else from tasks."""
    mapped = [task for task in history.tasks if task.phase == "map"]
    seen = plotting.monotonic((look.at, float(_mapped_by(look, measure))) for look in history.looks)
    if len({value for _, value in seen}) < _FEWEST:
        return plotting.spread(mapped, lambda task: getattr(task, measure))
    total = float(sum(getattr(task, measure) for task in mapped))
    if total > seen[-1][1]:  # the last snapshot was taken before the end
        seen.append((max(seen[-1][0] + plotting.INSTANT, max(task.end for task in mapped)), total))
    if seen[0][1]:
        seen.insert(0, (min(seen[0][0] - plotting.INSTANT, history.started), 0.0))
    return seen


def _mapped_by(look: Look, measure: str) -> int:
    return look.records if measure == "records" else look.progress.get("map", Progress()).bytes


def _fetched_chart(run: RunView) -> Chart | None:
    points = plotting.monotonic((look.at, float(look.fetched_bytes)) for look in run.history.looks)
    if not points or points[-1][1] <= 0:
        return None
    points.insert(0, (min(run.history.started, points[0][0] - plotting.INSTANT), 0.0))
    return rate_chart(run, points, "bytes", f"{format_bytes(points[-1][1])} in total")


def _figure(time: Range, phase: str) -> Figure:
    made = plotting.time_figure(plotting.HEIGHT, time)
    source = plotting.empty_source("left right top text")
    box = {"left": "left", "right": "right", "bottom": 0, "top": "top", "line_color": None}
    style = {"fill_color": plotting.COLOURS[phase], "fill_alpha": 0.55}
    bars = made.quad(source=source, name="bars", **box, **style)
    plotting.add_hover(made, bars, ("rate", "@text"), mode="vline")
    return made


_MAPPED = partial(_figure, phase="map")
_BYTES, _RECORDS = (partial(_mapped_chart, measure=name) for name in ("bytes", "records"))
_FETCHED = partial(_figure, phase="fetch")

PICTURES = (
    Picture("throughput", "Bytes mapped, as stored", 10, _BYTES, _MAPPED),
    Picture("records", "Records mapped", 11, _RECORDS, _MAPPED),
    Picture("fetched", "Fetched from the store", 12, _fetched_chart, _FETCHED),
)
