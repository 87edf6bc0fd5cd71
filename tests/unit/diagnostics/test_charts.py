"""What pictures show, against the history that they are drawn from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import NASTY, STARTED, made_up

from daskmr.counts import Counts
from daskmr.diagnostics.charts import STRAGGLER, Chart, draw_up, stragglers
from daskmr.history import History, HotKey, Look, Progress, TaskSpan, WorkerLook

_UNITS = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_COUNTS = {"": 1, "thousand ": 1e3, "million ": 1e6, "billion ": 1e9}


def area(chart: Chart) -> float:
    """What the bars of a rate add up to, in the unit of the axis times seconds."""
    bars = chart.sources["bars"]
    seconds = {"s": 1, "min": 60, "h": 3600}[chart.settings["x-format"]["format"].split()[-1]]
    return sum(
        (right - left) * seconds * top
        for left, right, top in zip(bars["left"], bars["right"], bars["top"], strict=True)
    )


def bytes_of(chart: Chart) -> float:
    return area(chart) * _UNITS[chart.unit.removesuffix("/s")]


def records_of(chart: Chart) -> float:
    return area(chart) * _COUNTS[chart.unit.removesuffix("records/s")]


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


# --- throughput ---------------------------------------------------------------------------------


@given(st.lists(spans, max_size=30))
@settings(max_examples=50)
def test_throughput_adds_up_to_what_the_tasks_have_mapped(tasks: list[TaskSpan]) -> None:
    charts = draw_up(history_of(tasks))
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
    chart = draw_up(history, ended=False)["throughput"]
    if len(set(counts)) < 4:
        assert chart is None  # too few to say how fast it went
    else:
        assert chart is not None
        assert bytes_of(chart) == pytest.approx(counts[-1], rel=1e-3)
        assert min(chart.sources["bars"]["top"]) >= 0


def test_what_was_not_looked_at_any_more_is_known_from_the_tasks() -> None:
    whole = made_up()
    early = replace(whole, looks=whole.looks[: len(whole.looks) // 2])
    size = sum(task.bytes for task in whole.tasks)
    chart = draw_up(early)["throughput"]
    assert chart is not None
    assert bytes_of(chart) == pytest.approx(size, rel=1e-3)


def test_what_was_fetched_adds_up() -> None:
    history = made_up()
    chart = draw_up(history)["fetched"]
    assert chart is not None
    assert bytes_of(chart) == pytest.approx(history.looks[-1].fetched_bytes, rel=1e-3)


# --- what there is to show ----------------------------------------------------------------------


def test_nothing_is_drawn_of_nothing() -> None:
    assert set(draw_up(History(0.0, 0.0)).values()) == {None}


def test_what_a_run_did_not_have_is_left_out() -> None:
    charts = draw_up(made_up(3, 2, store=False, spill=False, looks=False, straggler=None))
    assert {name for name, chart in charts.items() if chart is None} == {
        "fetched",
        "bad-records",
        "spill",
    }


@given(st.lists(spans, max_size=30), st.booleans())
@settings(max_examples=50)
def test_columns_have_one_length_and_can_be_sent(tasks: list[TaskSpan], ended: bool) -> None:
    for chart in draw_up(history_of(tasks), ended=ended).values():
        if chart is not None:
            for columns in chart.sources.values():
                assert len({len(column) for column in columns.values()}) == 1
            assert json.dumps([chart.sources, chart.settings], allow_nan=False).encode("ascii")


def test_names_that_cannot_be_encoded_are_shown() -> None:
    charts = draw_up(made_up(nasty=True))
    for chart in charts.values():
        assert chart is not None
        json.dumps(chart.sources, ensure_ascii=False).encode("utf-8")
    labels = charts["timeline"].settings["y-axis"]["major_label_overrides"]  # type: ignore[union-attr]
    assert all("$$" not in label and "\\" not in label for label in labels.values())


# --- tasks --------------------------------------------------------------------------------------


@given(st.lists(spans, min_size=1, max_size=40))
@settings(max_examples=50)
def test_the_timeline_holds_each_task_where_it_ran(tasks: list[TaskSpan]) -> None:
    history = history_of(tasks)
    chart = draw_up(history)["timeline"]
    assert chart is not None
    bars = chart.sources["tasks"]
    scale = (history.ended - STARTED) / chart.settings["x"]["end"]
    drawn = sorted(
        (worker, round(left * scale, 3), round(right * scale, 3))
        for worker, left, right in zip(bars["worker"], bars["left"], bars["right"], strict=True)
    )
    told = sorted((t.worker, round(t.start - STARTED, 3), round(t.end - STARTED, 3)) for t in tasks)
    for (worker, left, right), (name, start, end) in zip(drawn, told, strict=True):
        assert worker == name
        assert (left, right) == pytest.approx((start, end), abs=2e-3)
    sides = zip(bars["left"], bars["right"], bars["bottom"], bars["top"], strict=True)
    assert not any(_overlap(a, b, scale) for a, b in combinations(sides, 2))


def _overlap(a: tuple[float, ...], b: tuple[float, ...], scale: float) -> bool:
    sideways = min(a[1], b[1]) - max(a[0], b[0]) > 2e-3 / scale
    return sideways and min(a[3], b[3]) - max(a[2], b[2]) > 1e-9


def test_workers_stand_in_the_order_that_people_use() -> None:
    tasks = [TaskSpan("map", n, f"worker-{n}", STARTED, STARTED + 1) for n in (10, 2, 1)]
    chart = draw_up(history_of(tasks))["timeline"]
    assert chart is not None
    labels = chart.settings["y-axis"]["major_label_overrides"]
    assert [labels[n] for n in range(3)] == ["worker-1", "worker-2", "worker-10"]


def test_tasks_that_run_are_shown_by_what_was_seen() -> None:
    at_work = WorkerLook("a", 1, 0, "running", "map", "x.gz")
    looks = tuple(Look(STARTED + n / 2, "map", workers=(at_work,)) for n in range(2, 8))
    done = TaskSpan("map", 0, "a", STARTED + 0.5, STARTED + 2, Counts(1, 1, 1))
    history = History(STARTED, STARTED + 4, (done,), looks)
    running = draw_up(history, ended=False)["timeline"]
    assert running is not None
    bars = running.sources["tasks"]
    assert bars["what"] == ["map: partition 0", "map"]
    assert bars["left"] == [0.5, 2.5]
    assert bars["right"] == [2.0, 4.0]
    ended = draw_up(history)["timeline"]
    assert ended is not None
    assert ended.sources["tasks"]["what"] == ["map: partition 0"]


def test_stragglers_are_marked_in_every_picture_of_tasks() -> None:
    history = made_up(straggler=17)
    assert [task.number for task in stragglers(history.tasks)] == [17]
    charts = draw_up(history)
    for name in ("partition-bytes", "partition-seconds"):
        bars = charts[name].sources["bars"]  # type: ignore[union-attr]
        marked = [
            n for n, c in zip(bars["partition"], bars["colour"], strict=True) if c == STRAGGLER
        ]
        assert marked == [17]
    timeline = charts["timeline"].sources["tasks"]  # type: ignore[union-attr]
    assert timeline["colour"].count(STRAGGLER) == 1
    assert timeline["what"][timeline["colour"].index(STRAGGLER)] == "map: partition 17"


def test_of_many_partitions_the_longest_are_shown() -> None:
    history = made_up(4096, 8, looks=False, straggler=17)
    charts = draw_up(history)
    chart = charts["partition-seconds"]
    assert chart is not None
    bars = chart.sources["bars"]
    assert len(bars["top"]) <= 240
    assert 17 in bars["partition"]
    longest = max(t.end - t.start for t in history.tasks if t.phase == "map")
    assert max(bars["top"]) == pytest.approx(longest)
    size = charts["partition-bytes"]
    assert size is not None
    assert max(size.sources["bars"]["top"]) == max(t.bytes for t in history.tasks) / 1e6


# --- progress, memory, spill --------------------------------------------------------------------


def test_progress_never_falls_and_ends_whole() -> None:
    for history in (made_up(), made_up(looks=False)):
        chart = draw_up(history)["progress"]
        assert chart is not None
        for phase, xs, ys in zip(
            *(chart.sources["lines"][n] for n in ("phase", "xs", "ys")), strict=True
        ):
            assert xs == sorted(xs)
            assert ys == sorted(ys)
            assert ys[-1] == pytest.approx(100), phase


def test_memory_shows_the_limit_where_it_is_near() -> None:
    near = draw_up(made_up())["memory"]
    assert near is not None
    assert near.sources["limit"]["text"] == ["limit 1.0 GB"]
    assert near.settings["y"]["end"] > near.sources["limit"]["y"][0]
    look = Look(STARTED, "map", workers=(WorkerLook("0", 10**8, 10**10),))
    far = draw_up(History(STARTED, STARTED + 1, (), (look,)))["memory"]
    assert far is not None
    assert far.sources["limit"]["y"] == []
    assert "1% of the limit of 10.0 GB" in far.note
    assert far.sources["lines"]["xs"] == [[0.0, 1.0]]


@pytest.mark.parametrize("looks", [True, False])
def test_spill_ends_at_what_was_spilled(looks: bool) -> None:
    history = made_up(looks=looks)
    chart = draw_up(history)["spill"]
    assert chart is not None
    last = sum(ys[-1] for ys in chart.sources["lines"]["ys"]) * _UNITS[chart.unit]
    assert last == pytest.approx(sum(task.spilled for task in history.tasks))


# --- keys and bad records -----------------------------------------------------------------------


@given(
    st.lists(
        st.builds(HotKey, st.text(max_size=100), st.integers(0, 10**12), st.integers(0, 10**12)),
        max_size=30,
    )
)
def test_keys_stand_hottest_first_by_each_measure(keys: list[HotKey]) -> None:
    charts = draw_up(History(0.0, 1.0, hot_keys=tuple(keys)))
    for name, measure in (("key-values", "values"), ("key-bytes", "bytes")):
        expected = sorted((getattr(key, measure) for key in keys), reverse=True)[:12]
        chart = charts[name]
        if not expected or not expected[0]:
            assert chart is None
        else:
            assert chart is not None
            assert chart.sources["bars"]["right"] == expected


@given(st.dictionaries(st.text(max_size=30), st.integers(1, 10**9), max_size=40))
def test_no_bad_record_is_left_out(reasons: dict[str, int]) -> None:
    chart = draw_up(History(0.0, 1.0), reasons)["bad-records"]
    if not reasons:
        assert chart is None
    else:
        assert chart is not None
        assert math.fsum(chart.sources["bars"]["right"]) == sum(reasons.values())
        assert len(chart.sources["bars"]["y"]) <= 12


def test_a_nasty_key_keeps_its_text() -> None:
    chart = draw_up(History(0.0, 1.0, hot_keys=(HotKey(NASTY, 1, 1),)))["key-values"]
    assert chart is not None
    assert "</script>" in chart.sources["bars"]["full"][0]  # it is escaped where it is written
