"""Rates add up to what was mapped, and to what was fetched."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.charts import bytes_of, history_of, records_of, spans
from support.histories import STARTED, made_up

from daskmr.counts import Counts
from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.pictures.rates import rate_chart
from daskmr.diagnostics.plotting import RunView, TimeAxis
from daskmr.history import History, Look, Progress, TaskSpan


@given(st.lists(spans, max_size=30))
@settings(max_examples=50)
def test_throughput_adds_up_to_what_the_tasks_have_mapped(tasks: list[TaskSpan]) -> None:
    charts = draw_charts(history_of(tasks))
    size, records = sum(t.bytes for t in tasks), sum(t.records for t in tasks)
    if size:
        assert bytes_of(charts["throughput"]) == pytest.approx(size, rel=1e-3)  # type: ignore[arg-type]
    else:
        assert charts["throughput"] is None
    if records:
        assert records_of(charts["records"]) == pytest.approx(records, rel=1e-3)  # type: ignore[arg-type]
    else:
        assert charts["records"] is None


@given(st.lists(st.tuples(st.floats(0.01, 100), st.integers(0, 10**9)), min_size=4, max_size=60))
@settings(max_examples=50)
def test_throughput_adds_up_to_what_was_seen_last(seen: list[tuple[float, int]]) -> None:
    times = sorted({at for at, _ in seen})
    counts = sorted(count for _, count in seen)[: len(times)]
    looks = tuple(
        Look(STARTED + at, "map", {"map": Progress(bytes=count)}, Counts(records=count))
        for at, count in zip(times, counts, strict=True)
    )
    history = History(STARTED, STARTED + times[-1] + 0.01, (), looks)
    chart = draw_charts(history, ended=False)["throughput"]
    if len(set(counts)) < 4:
        assert chart is None  # too few to say how fast it went
    else:
        assert chart is not None
        assert bytes_of(chart) == pytest.approx(counts[-1], rel=1e-3)
        assert min(chart.sources["bars"]["top"]) >= 0


def test_what_was_not_looked_at_any_more_is_known_from_the_tasks() -> None:
    complete = made_up()
    early = replace(complete, looks=complete.looks[: len(complete.looks) // 2])
    size = sum(task.bytes for task in complete.tasks)
    chart = draw_charts(early)["throughput"]
    assert chart is not None
    assert bytes_of(chart) == pytest.approx(size, rel=1e-3)


def test_what_was_fetched_adds_up() -> None:
    history = made_up()
    chart = draw_charts(history)["fetched"]
    assert chart is not None
    assert bytes_of(chart) == pytest.approx(history.looks[-1].fetched_bytes, rel=1e-3)


def test_rates_have_a_unit_that_fits() -> None:
    history = History(100.0, 110.0)
    run = RunView(history, {}, True, TimeAxis.of(history))
    chart = rate_chart(run, [(100.0, 0.0), (110.0, 50e6)], "bytes", "")
    assert chart.unit == "MB/s"
    assert set(chart.sources["bars"]["text"]) == {"5 MB/s"}
    chart = rate_chart(run, [(100.0, 0.0), (110.0, 50.0)], "records", "")
    assert chart.unit == "records/s"
