"""Names are sorted and labelled for people, and a chart sets the parts of a figure that it has."""

from __future__ import annotations

from daskmr.diagnostics.plotting import figures
from daskmr.diagnostics.plotting.base import Chart


def test_workers_are_sorted_as_people_do() -> None:
    names = ["a-10", "10", "a-2", "9", "²"]
    assert sorted(names, key=figures.natural)[:2] == ["a-2", "a-10"]
    assert sorted(["10", "9"], key=figures.natural) == ["9", "10"]


def test_no_label_is_read_as_a_formula() -> None:
    label = figures.worker_label("$$x$$ \\ y", 40)
    assert "$$" not in label
    assert "\\" not in label


def test_a_chart_sets_the_parts_of_a_figure() -> None:
    figure = figures.new_figure(100)
    figures.fill(figure, Chart({}, {"x": {"end": 2.5}, "figure": {"height": 84}}))
    assert (figure.x_range.end, figure.height) == (2.5, 84)
    figures.fill(figure, Chart({}, {"unknown": {"start": 1}}))  # as a legend where there is none
