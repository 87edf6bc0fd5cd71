"""Charts of each kind fill the figures of that kind."""

from __future__ import annotations

from daskmr.diagnostics.plotting import plots
from daskmr.diagnostics.plotting.base import Chart, TimeAxis
from daskmr.history import History

TIME = TimeAxis.of(History(100.0, 110.0))


def test_rates_have_a_unit_that_fits() -> None:
    chart = plots.rate_chart(TIME, [(100.0, 0.0), (110.0, 50e6)], "bytes", "")
    assert chart.unit == "MB/s"
    assert set(chart.sources["bars"]["text"]) == {"5 MB/s"}
    chart = plots.rate_chart(TIME, [(100.0, 0.0), (110.0, 50.0)], "records", "")
    assert chart.unit == "records/s"


def test_workers_are_sorted_as_people_do() -> None:
    names = ["a-10", "10", "a-2", "9", "²"]
    assert sorted(names, key=plots.natural)[:2] == ["a-2", "a-10"]
    assert sorted(["10", "9"], key=plots.natural) == ["9", "10"]


def test_no_label_is_read_as_a_formula() -> None:
    label = plots.worker_label("$$x$$ \\ y", 40)
    assert "$$" not in label
    assert "\\" not in label


def test_many_workers_share_a_colour_and_have_no_legend() -> None:
    lines = {str(n): [(100.0, 1e6), (110.0, 2e6)] for n in range(7)}
    chart = plots.lines_chart(lines, TIME, "")
    assert len(set(chart.sources["lines"]["colour"])) == 1
    assert chart.settings["legend"] == {"visible": False}


def test_a_chart_sets_the_parts_of_a_figure() -> None:
    figure = plots.ranking_figure(None)
    plots.fill(figure, plots.ranking_chart(["a", "b"], [2.0, 1.0], ["2", "1"], "#000000"))
    assert figure.height == 84
    assert figure.x_range.end == 2.6
    plots.fill(figure, Chart({}, {"unknown": {"start": 1}}))  # as a legend where there is none
