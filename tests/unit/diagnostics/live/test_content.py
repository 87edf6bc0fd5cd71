"""The page has a place for every picture, and updates hold the last figures."""

from __future__ import annotations

import json

from support.histories import STARTED, made_up
from support.pages import Page

from daskmr.diagnostics.live.content import render_page, render_update
from daskmr.history import History


def test_the_page_has_a_place_for_every_picture() -> None:
    page = Page(render_page("<b>job</b>").decode("utf-8"))
    news = json.loads(render_update(made_up(nasty=True)))
    ids = {a["id"] for tag, a in page.elements if "id" in a}
    assert set(news["pictures"]) <= ids
    assert {"state", "tiles"} <= ids
    figures = [a for tag, a in page.elements if tag == "figure"]
    assert all("hidden" in a for a in figures)
    assert not [tag for tag, _ in page.elements if tag == "b"]


def test_news_holds_the_figures_of_the_last_look() -> None:
    history = made_up()
    news = json.loads(render_update(history))
    assert news["ended"] is False
    tiles = {name: (value, note) for name, value, note in news["tiles"]}
    look = history.looks[-1]
    assert tiles["Records"][0] == f"{look.records:,}"
    assert tiles["Bad records"][0] == f"{look.bad_records:,}"
    assert tiles["Workers"][0] == "4"
    assert tiles["Mapped"][0] == "100%"
    assert news["pictures"]["timeline"]["sources"]["tasks"]["left"]


def test_news_of_a_run_that_has_not_begun() -> None:
    news = json.loads(render_update(History(STARTED, STARTED + 1)))
    assert news["tiles"] == []
    assert set(news["pictures"].values()) == {None}
