"""What a picture is: a chart made from a run's history, and the Bokeh figure that shows it.

A chart is plain data (columns and settings), so the report draws it once and the live page sends it
to browsers again and again. Charts import no Bokeh.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from daskmr.history import History
from daskmr.text import time_unit

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
_SHORTEST = 1e-3


@dataclass(frozen=True, slots=True)
class Chart:
    """What a picture shows now.

    Parts of a figure that have settings are ``"figure"``, its ranges ``"x"`` and ``"y"``, the axis
    ``"y-axis"`` and its ticker ``"y-ticks"``, the formatter ``"x-format"``, and the ``"legend"``.
    """

    sources: Mapping[str, Columns]  # by name of the data source
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by part of the figure
    unit: str = ""  # of the value axis
    note: str = ""  # one line that sums the picture up


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the report and the live page.

    `chart` returns ``None`` when it would be empty. `figure` returns an empty Bokeh figure; it takes
    the time range that all figures over time share.
    """

    name: str  # its identifier on the page
    title: str
    section: str  # the heading that it stands below
    position: int  # sorts pictures, and the sections that they form
    chart: Callable[[RunView], Chart | None]
    figure: Callable[[Range], Figure]
    hint: str = ""  # how to read it
    half_width: bool = False  # stand beside the next picture of the section


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
        end, unit = self.seconds / self.scale, _SHORT[self.unit]
        return {"x": {"start": 0.0, "end": end}, "x-format": {"format": f"%.5g {unit}"}}


@dataclass(frozen=True, slots=True)
class RunView:
    """What charts are made from."""

    history: History
    bad_reasons: Mapping[str, int]  # bad records by reason
    ended: bool  # all tasks are in the history; else charts add what workers were last seen to do
    time: TimeAxis
