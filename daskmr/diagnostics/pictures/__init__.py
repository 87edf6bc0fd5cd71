"""The pictures of a run. Each module in this package is loaded automatically.

To add a picture, write a module that defines `PICTURES`, a tuple of `Picture`, built with
`daskmr.diagnostics.plotting`. `progress` is a short example.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Mapping

from daskmr.diagnostics.plotting import Chart, Figure, Picture, RunView, TimeAxis, fill
from daskmr.history import History

__all__ = ["draw_charts", "make_figures", "pictures"]


@functools.cache
def pictures() -> dict[str, Picture]:
    """Return all pictures by name, in the order of the page."""
    modules = (
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    )
    found = [picture for module in modules for picture in module.PICTURES]
    return {picture.name: picture for picture in sorted(found, key=lambda p: p.position)}


def draw_charts(
    history: History, bad_reasons: Mapping[str, int] | None = None, *, ended: bool = True
) -> dict[str, Chart | None]:
    """Return the chart of each picture by name; ``None`` if it would be empty.

    - `bad_reasons`: bad records by reason; by default those of the last snapshot.
    - `ended`: whether the history contains all tasks; if not, charts add the tasks that workers
      were last seen at.
    """
    last = history.looks[-1] if history.looks else None
    reasons = bad_reasons if bad_reasons is not None else last.bad_reasons if last else {}
    run = RunView(history, reasons, ended, TimeAxis.of(history))
    return {name: picture.chart(run) for name, picture in pictures().items()}


def make_figures(charts: Mapping[str, Chart | None]) -> dict[str, Figure]:
    """Return the Bokeh figure of each picture by name; a figure without a chart stays empty."""
    from bokeh.models import Range1d

    time = Range1d(0.0, 1.0)
    figures = {}
    for name, picture in pictures().items():
        made = figures[name] = picture.figure(time)
        made.name = name
        chart = charts.get(name)
        if chart is not None:
            fill(made, chart)
    return figures
