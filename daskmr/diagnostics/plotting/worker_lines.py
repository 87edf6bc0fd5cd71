"""One line of bytes per worker over time, and how workers are labelled and sorted."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from daskmr.diagnostics.plotting.base import Chart, Columns, TimeAxis
from daskmr.diagnostics.plotting.curves import Points, thinned
from daskmr.diagnostics.plotting.figures import (
    TEXT,
    add_hover,
    add_legend,
    empty_source,
    time_figure,
    value_range,
)
from daskmr.text import byte_unit, format_bytes, printable, shorten

if TYPE_CHECKING:
    from bokeh.models import Range1d
    from bokeh.plotting import figure as Figure

__all__ = ["LINES_HEIGHT", "highest", "lines_chart", "lines_figure", "natural", "worker_label"]

LINES_HEIGHT = 158  # pixels
_SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#4d4d4d")  # if there are so few
_LIMIT = "#d55e00"
_LABEL = 14  # characters


def worker_label(name: str, length: int = _LABEL) -> str:
    label = f"worker {name}" if name.isdigit() else printable(name)
    # Bokeh would read these as a formula, and load MathJax from the network.
    return shorten(label, length).replace("$$", "$ $").replace("\\", "∖")


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts worker-2 before worker-10."""
    parts = re.findall(r"\d+|\D+", name)
    return [(int(p), "") if p.isascii() and p.isdigit() else (0, p) for p in parts]


def highest(lines: Mapping[str, Points]) -> float:
    return max((value for points in lines.values() for _, value in points), default=0.0)


def lines_chart(
    lines: Mapping[str, Points], time: TimeAxis, note: str, limits: Sequence[int] = ()
) -> Chart:
    """Chart bytes by worker, and limits as dashed lines."""
    top = max([highest(lines), *map(float, limits)])
    scale, unit = byte_unit(top)
    workers = sorted(lines, key=natural)
    end = time.seconds / time.scale
    curves = [thinned(_extended(lines[worker], time)) for worker in workers]
    few = len(workers) <= len(_SERIES)
    columns: Columns = {
        "xs": [[time(at) for at, _ in points] for points in curves],
        "ys": [[value / scale for _, value in points] for points in curves],
        "worker": [worker_label(worker, 2 * _LABEL) for worker in workers],
        "colour": [_SERIES[n] if few else _SERIES[0] for n in range(len(workers))],
        "alpha": [0.9 if few else 0.45 for _ in workers],
        "most": [format_bytes(max(value for _, value in lines[worker])) for worker in workers],
    }
    limit_columns: Columns = {
        "x0": [0.0 for _ in limits],
        "x1": [end for _ in limits],
        "y": [limit / scale for limit in limits],
        "text": [f"limit {format_bytes(limit)}" for limit in limits],
    }
    settings = time.settings | value_range(top / scale) | {"legend": {"visible": few}}
    return Chart({"lines": columns, "limit": limit_columns}, settings, unit, note)


def _extended(points: Points, time: TimeAxis) -> Points:
    """Draw a single sample as a level line to the end."""
    return points if len(points) > 1 else [*points, (time.started + time.seconds, points[0][1])]


def lines_figure(time: Range1d) -> Figure:
    made = time_figure(LINES_HEIGHT, time)
    lines = made.multi_line(
        xs="xs",
        ys="ys",
        source=empty_source("xs ys worker colour alpha most"),
        name="lines",
        line_color="colour",
        line_alpha="alpha",
        line_width=1.8,
        line_join="round",
        legend_field="worker",
    )
    limit = empty_source("x0 x1 y text")
    made.segment(
        x0="x0",
        x1="x1",
        y0="y",
        y1="y",
        source=limit,
        name="limit",
        line_color=_LIMIT,
        line_dash=[6, 4],
        line_width=1.5,
    )
    made.text(
        x="x1",
        y="y",
        text="text",
        source=limit,
        y_offset=4,
        text_align="right",
        text_baseline="top",
        text_color=_LIMIT,
        **TEXT,
    )
    add_legend(made)
    add_hover(made, lines, ("worker", "@worker"), ("at most", "@most"), line_policy="nearest")
    return made
