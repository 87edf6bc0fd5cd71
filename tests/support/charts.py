"""Charts of made-up tasks, and what they add up to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from daskmr.counts import Counts
from daskmr.diagnostics.plotting import Chart
from daskmr.history import History, TaskSpan
from support.histories import STARTED

__all__ = ["BYTE_UNITS", "bytes_of", "history_of", "records_of", "spans"]

BYTE_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
COUNT_UNITS = {"": 1, "thousand ": 1e3, "million ": 1e6, "billion ": 1e9}


def area(chart: Chart) -> float:
    """What the bars of a rate add up to, in the unit of the axis times seconds."""
    bars = chart.sources["bars"]
    seconds = {"s": 1, "min": 60, "h": 3600}[chart.settings["x-format"]["format"].split()[-1]]
    return sum(
        (right - left) * seconds * top
        for left, right, top in zip(bars["left"], bars["right"], bars["top"], strict=True)
    )


def bytes_of(chart: Chart) -> float:
    return area(chart) * BYTE_UNITS[chart.unit.removesuffix("/s")]


def records_of(chart: Chart) -> float:
    return area(chart) * COUNT_UNITS[chart.unit.removesuffix("records/s")]


spans = st.builds(
    lambda number, worker, start, seconds, size, records, spilled, memory: TaskSpan(
        "map",
        number,
        f"w{worker}",
        STARTED + start,
        STARTED + start + seconds,
        Counts(1, size, records),
    ),
    st.integers(0, 10_000),
    st.integers(0, 5),
    st.integers(0, 500_000).map(lambda n: n / 100),
    st.integers(0, 50_000).map(lambda n: n / 100),
    st.integers(0, 10**12),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.integers(0, 10**10),
)


def history_of(tasks: Iterable[TaskSpan], **fields: Any) -> History:
    tasks = tuple(tasks)
    ended = max((task.end for task in tasks), default=STARTED) + 0.5
    return History(STARTED, ended, tasks, **fields)
