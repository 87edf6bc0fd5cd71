"""Draw rankings as horizontal bars, the largest first: the hottest keys, bad records by reason."""

from __future__ import annotations

from functools import partial
from typing import Any

from daskmr.counts import most_frequent_first
from daskmr.diagnostics import plotting
from daskmr.diagnostics.plotting import Chart, Figure, Picture, Range, RunView
from daskmr.history import HotKey
from daskmr.text import format_bytes, printable, shorten

__all__ = ["PICTURES", "ranking_chart", "ranking_figure"]

_MAX_ROWS = 12
_ROW_PIXELS = 36
_LABEL = 64  # characters
_COLUMNS = "label full right text label_y y colour"


def ranking_chart(rows: list[tuple[str, float, str]], colour: str, note: str = "") -> Chart:
    """Chart rows of a label above the bar, an amount, and a text after the bar."""
    bars = [
        (shorten(printable(label), _LABEL), printable(label), amount, text, n - 0.22, n + 0.2)
        for n, (label, amount, text) in enumerate(rows)
    ]
    columns = plotting.columns_of(_COLUMNS, [(*bar, colour) for bar in bars])
    settings = {
        "x": {"start": 0.0, "end": 1.3 * max(columns["right"])},  # with room for the text
        "y": {"start": len(rows) - 0.4, "end": -0.6},
        "figure": {"height": _ROW_PIXELS * len(rows) + 12},
    }
    return Chart({"bars": columns}, settings, "", note)


def ranking_figure(time: Range) -> Figure:
    """Return an empty figure for a ranking."""
    made = plotting.new_figure(200)
    made.update(min_border_left=8, min_border_bottom=4)
    made.xaxis.visible = made.yaxis.visible = False
    made.ygrid.grid_line_color = None
    source = plotting.empty_source(_COLUMNS)
    bar = {"y": "y", "right": "right", "left": 0, "height": 0.3, "line_color": None}
    style = {"fill_color": "colour", "fill_alpha": 0.8}
    bars = made.hbar(source=source, name="bars", **bar, **style)
    words = {"source": source, "text_baseline": "middle"}
    made.text(x=0, y="label_y", text="label", text_color=plotting.INK, **words)
    made.text(x="right", y="y", text="text", x_offset=6, text_color="#767676", **words)
    plotting.add_hover(made, bars, ("", "@full"), ("", "@text"))
    return made


def _hot_keys(run: RunView, measure: str) -> Chart | None:
    keys = sorted(run.history.hot_keys, key=lambda key: -getattr(key, measure))[:_MAX_ROWS]
    write = _bytes_text if measure == "bytes" else _values_text
    rows = [(key.key, float(getattr(key, measure)), write(key)) for key in keys]
    return (
        ranking_chart(rows, plotting.COLOURS["map"])
        if any(amount for _, amount, _ in rows)
        else None
    )


def _bytes_text(key: HotKey) -> str:
    return f"about {format_bytes(key.bytes)}"


def _values_text(key: HotKey) -> str:
    return f"{key.values:,}" if key.exact else f"about {float(f'{key.values:.2g}'):,.0f}"


def _bad_records(run: RunView) -> Chart | None:
    shown = list(most_frequent_first(run.bad_reasons).items())
    if not shown:
        return None
    if len(shown) > _MAX_ROWS:
        shown, others = shown[: _MAX_ROWS - 1], shown[_MAX_ROWS - 1 :]
        shown.append((f"{len(others):,} other reasons", sum(count for _, count in others)))
    rows = [(reason, float(count), f"{count:,}") for reason, count in shown]
    return ranking_chart(rows, plotting.STRAGGLER, f"{sum(run.bad_reasons.values()):,} in total")


_VALUES, _BYTES = (partial(_hot_keys, measure=name) for name in ("values", "bytes"))
_KEYS: dict[str, Any] = {"section": "Hottest keys", "half_width": True}

PICTURES = (
    Picture("key-values", "By values", 30, _VALUES, ranking_figure, **_KEYS),
    Picture("key-bytes", "By bytes", 31, _BYTES, ranking_figure, **_KEYS),
    Picture("bad-records", "By reason", 40, _bad_records, ranking_figure, "Bad records"),
)
