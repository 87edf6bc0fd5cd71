"""Lines of memory, with the limit where it fits."""

from __future__ import annotations

from support.histories import STARTED, made_up

from daskmr.diagnostics.pictures import draw_charts
from daskmr.history import History, Look, WorkerLook


def test_memory_shows_the_limit_where_it_is_near() -> None:
    near = draw_charts(made_up())["memory"]
    assert near is not None
    assert near.sources["limit"]["text"] == ["limit 1.0 GB"]
    assert near.settings["y"]["end"] > near.sources["limit"]["y"][0]
    look = Look(STARTED, "map", workers=(WorkerLook("0", 10**8, 10**10),))
    far = draw_charts(History(STARTED, STARTED + 1, (), (look,)))["memory"]
    assert far is not None
    assert far.sources["limit"]["y"] == []
    assert "1% of the limit of 10.0 GB" in far.note
    assert far.sources["lines"]["xs"] == [[0.0, 1.0]]
