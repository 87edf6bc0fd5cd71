"""What holds for every picture."""

from __future__ import annotations

import importlib
import json
import pkgutil
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from support.charts import history_of, spans
from support.histories import made_up

from daskmr.diagnostics import pictures as package
from daskmr.diagnostics.pictures import draw_charts, make_figures, pictures
from daskmr.history import History, TaskSpan


def test_nothing_is_drawn_of_nothing() -> None:
    assert set(draw_charts(History(0.0, 0.0)).values()) == {None}


def test_what_a_run_did_not_have_is_left_out() -> None:
    charts = draw_charts(made_up(3, 2, store=False, spill=False, looks=False, straggler=None))
    assert {name for name, chart in charts.items() if chart is None} == {
        "fetched",
        "bad-records",
        "spill",
    }


@given(st.lists(spans, max_size=30), st.booleans())
@settings(max_examples=50)
def test_columns_have_one_length_and_can_be_sent(tasks: list[TaskSpan], ended: bool) -> None:
    for chart in draw_charts(history_of(tasks), ended=ended).values():
        if chart is not None:
            for columns in chart.sources.values():
                assert len({len(column) for column in columns.values()}) == 1
            assert json.dumps([chart.sources, chart.settings], allow_nan=False).encode("ascii")


def test_names_that_cannot_be_encoded_are_shown() -> None:
    charts = draw_charts(made_up(nasty=True))
    for chart in charts.values():
        assert chart is not None
        json.dumps(chart.sources, ensure_ascii=False).encode("utf-8")
    labels = charts["timeline"].settings["y-axis"]["major_label_overrides"]  # type: ignore[union-attr]
    assert all("$$" not in label and "\\" not in label for label in labels.values())


def test_every_module_of_the_package_adds_pictures() -> None:
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    assert {p.name for module in modules for p in module.PICTURES} == set(pictures())
    assert sum(len(module.PICTURES) for module in modules) == len(pictures())


def test_pictures_of_a_section_stand_together() -> None:
    sections = [picture.section for picture in pictures().values()]
    changes = sum(a != b for a, b in pairwise(sections))
    assert changes == len(set(sections)) - 1


def test_a_figure_has_the_columns_and_the_parts_of_its_chart() -> None:
    charts = draw_charts(made_up(), {"reason": 1})
    for name, empty in make_figures({}).items():
        chart = charts[name]
        assert chart is not None
        sources = {r.name: r.data_source.data for r in empty.renderers if r.name}
        assert {n: set(columns) for n, columns in chart.sources.items()} == {
            n: set(sources[n]) for n in chart.sources
        }
    filled = make_figures(charts)["memory"]
    assert filled.y_range.end == charts["memory"].settings["y"]["end"]  # type: ignore[union-attr]
