"""Curves keep their totals, and figures their style, whatever is drawn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.charts import spans

from daskmr.diagnostics import plotting
from daskmr.diagnostics.plotting import Chart, increases, monotonic, spread, thinned
from daskmr.history import TaskSpan

points = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e9)), min_size=1)


@given(points)
def test_a_total_never_falls(seen: list[tuple[float, float]]) -> None:
    grown = monotonic(seen)
    assert [at for at, _ in grown] == sorted(at for at, _ in seen)
    values = [value for _, value in grown]
    assert values == sorted(values)
    assert values[-1] == max(value for _, value in seen)


@given(st.lists(spans, min_size=1, max_size=20))
def test_what_is_spread_adds_up(tasks: list[TaskSpan]) -> None:
    total = sum(task.bytes for task in tasks)
    curve = spread(tasks, lambda task: task.bytes)
    assert curve[0][1] == 0
    assert curve[-1][1] == pytest.approx(total, rel=1e-6)


def test_increases_are_per_second_between_edges() -> None:
    assert increases([(0.0, 0.0), (10.0, 50.0)], [0.0, 5.0, 10.0, 20.0]) == [5.0, 5.0, 0.0]


@given(st.integers(1, 5000))
def test_thinning_keeps_both_ends(count: int) -> None:
    curve = [(float(n), float(n)) for n in range(count)]
    kept = thinned(curve)
    assert len(kept) <= 481
    assert (kept[0], kept[-1]) == (curve[0], curve[-1])


def test_workers_are_sorted_as_people_do() -> None:
    names = ["a-10", "10", "a-2", "9", "²"]
    assert sorted(names, key=plotting.natural)[:2] == ["a-2", "a-10"]
    assert sorted(["10", "9"], key=plotting.natural) == ["9", "10"]


def test_no_label_is_read_as_a_formula() -> None:
    label = plotting.worker_label("$$x$$ \\ y", 40)
    assert "$$" not in label
    assert "\\" not in label


def test_a_chart_sets_the_parts_of_a_figure() -> None:
    figure = plotting.new_figure(100)
    plotting.fill(figure, Chart({}, {"x": {"end": 2.5}, "figure": {"height": 84}}))
    assert (figure.x_range.end, figure.height) == (2.5, 84)
    plotting.fill(figure, Chart({}, {"unknown": {"start": 1}}))  # as a legend where there is none
