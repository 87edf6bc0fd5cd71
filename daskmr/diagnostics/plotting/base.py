"""What a picture is: a chart made from a run's history, and the Bokeh figure that shows it.

A chart is plain data (columns and settings), so the report draws it once and the live page sends it
to browsers again and again. Charts import no Bokeh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from daskmr.history import History
from daskmr.text import time_unit

__all__ = [
    "COLOURS",
    "STRAGGLER",
    "Chart",
    "Columns",
    "Figure",
    "Picture",
    "Range",
    "RunView",
    "Settings",
    "TimeAxis",
    "columns_of",
]

Figure: TypeAlias = Any  # bokeh.plotting.figure
Range: TypeAlias = Any  # bokeh.models.Range1d
Columns = dict[str, list[Any]]
Settings = dict[str, dict[str, Any]]

# After Okabe and Ito: distinguishable by people with colour blindness.
COLOURS = {
    "list": "#8a8a8a",
    "fetch": "#cc79a7",
    "map": "#0072b2",
    "merge": "#009e73",
    "reduce": "#e69f00",
    "write": "#4d4d4d",
}
"""Colour by phase."""
STRAGGLER = "#d55e00"

_SHORT = {"seconds": "s", "minutes": "min", "hours": "h"}
_MAX_BINS = 120
_BIN_SECONDS = 0.25
_SHORTEST = 1e-3


def columns_of(names: str, rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Turn rows into columns.

    >>> columns_of("a b", [(1, 2), (3, 4)])
    {'a': [1, 3], 'b': [2, 4]}
    """
    return {name: [row[n] for row in rows] for n, name in enumerate(names.split())}


@dataclass(frozen=True, slots=True)
class Chart:
    """What a picture shows now.

    Attributes
    ----------
    sources : Mapping[str, Columns]
        The columns of each data source.
    settings : Mapping[str, Mapping[str, object]]
        Properties by part of the figure: ``"x"`` and ``"y"`` are the ranges, ``"x-format"`` the
        formatter, ``"y-axis"`` the axis, ``"y-ticks"`` its ticker, ``"legend"``, ``"figure"``.
    unit : str
        Unit of the value axis.
    note : str
        One line that sums the picture up.
    """

    sources: Mapping[str, Columns]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unit: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the report and the live page.

    Attributes
    ----------
    name : str
        Identifier on the page.
    title, hint : str
        Heading, and a line on how to read the picture.
    section : str
        Heading of the section that it belongs to.
    position : int
        Pictures, and the sections they form, are sorted by this.
    chart : callable
        Returns the `Chart` of a `RunView`; ``None`` when it would be empty.
    figure : callable
        Returns an empty Bokeh figure; takes the time range that all figures over time share.
    half_width : bool
        Stand beside the next picture of the section where there is room.
    """

    name: str
    title: str
    section: str
    position: int
    chart: Callable[[RunView], Chart | None]
    figure: Callable[[Range], Figure]
    hint: str = ""
    half_width: bool = False


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time axis that most pictures share."""

    started: float
    seconds: float
    scale: float
    unit: str

    @classmethod
    def of(cls, history: History) -> TimeAxis:
        seconds = max(history.ended - history.started, _SHORTEST)
        return cls(history.started, seconds, *time_unit(seconds))

    def __call__(self, at: float) -> float:
        return (at - self.started) / self.scale

    @property
    def settings(self) -> Settings:
        return {
            "x": {"start": 0.0, "end": self.seconds / self.scale},
            "x-format": {"format": f"%.5g {_SHORT[self.unit]}"},
        }

    def edges(self) -> list[float]:
        """Return the edges of the bins that rates are measured over."""
        count = max(1, min(_MAX_BINS, int(self.seconds / _BIN_SECONDS)))
        return [self.started + self.seconds * i / count for i in range(count + 1)]


@dataclass(frozen=True, slots=True)
class RunView:
    """What charts are made from.

    Attributes
    ----------
    history : History
    bad_reasons : Mapping[str, int]
        Bad records by reason.
    ended : bool
        Whether the history holds all tasks; else charts add what workers were last seen to do.
    time : TimeAxis
    """

    history: History
    bad_reasons: Mapping[str, int]
    ended: bool
    time: TimeAxis
