"""The keys with the most values and the most bytes."""

from __future__ import annotations

from functools import partial

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import COLOURS, Chart, Picture, RunView
from daskmr.history import HotKey
from daskmr.text import format_bytes

__all__ = ["PICTURES"]


def _chart(run: RunView, measure: str) -> Chart | None:
    keys = sorted(run.history.hot_keys, key=lambda key: -getattr(key, measure))[: plots.MAX_ROWS]
    amounts = [float(getattr(key, measure)) for key in keys]
    if not any(amounts):
        return None
    write = _bytes_text if measure == "bytes" else _values_text
    return plots.ranking_chart(
        [key.key for key in keys], amounts, list(map(write, keys)), COLOURS["map"]
    )


def _bytes_text(key: HotKey) -> str:
    return f"about {format_bytes(key.bytes)}"


def _values_text(key: HotKey) -> str:
    return f"{key.values:,}" if key.exact else f"about {float(f'{key.values:.2g}'):,.0f}"


PICTURES = tuple(
    Picture(
        name=f"key-{measure}",
        title=f"By {measure}",
        section="Hottest keys",
        position=position,
        chart=partial(_chart, measure=measure),
        figure=plots.ranking_figure,
        half_width=True,
    )
    for position, measure in ((30, "values"), (31, "bytes"))
)
