"""A page requests nothing from a network, and data in it is text."""

from __future__ import annotations

import functools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.histories import NASTY, made_up
from support.pages import Page

from daskmr.diagnostics import page
from daskmr.diagnostics.page import embed, render
from daskmr.diagnostics.pictures import draw_charts
from daskmr.history import History


@functools.cache
def page_of(nasty: bool) -> str:
    """The page of a run; to make one takes a second."""
    return with_pictures(made_up(nasty=nasty))


def with_pictures(history: History, *, keep_empty: bool = False) -> str:
    pictures, script = embed(draw_charts(history), keep_empty=keep_empty)
    return render("live.html", scripts=[script], title="a", heading="b", pictures=pictures)


def part(source: str, **values: object) -> str:
    """Render a template that uses the parts of a page."""
    template = page._environment().from_string(f"{{% import 'parts.html' as parts %}}{source}")
    return template.render(**values)


@given(st.text())
def test_text_is_text(content: str) -> None:
    shown = part("{{ content }}", content=content)
    rest = re.sub(r"&(amp|lt|gt|#34|#39);", "", shown)
    assert not set("<>\"'&") & set(rest)
    shown.encode("utf-8")


@given(st.text(), st.text())
def test_whatever_is_put_into_parts_they_stay_whole(first: str, second: str) -> None:
    shown = part(
        "{% call parts.section(first, hint=second) %}{{ parts.table([(first, 1)], (second,)) }}"
        "{% endcall %}{{ parts.tiles([(first, second, first)]) }}"
        "{{ parts.phases({first: 1}, {}) }}",
        first=first,
        second=second,
    )
    assert {tag for tag, _ in Page(shown).elements} == {
        *("section", "h2", "p", "table", "thead", "tbody", "tr", "th", "td", "dl", "div", "dt"),
        *("dd", "span", "b", "i"),
    }
    shown.encode("utf-8")


def test_numbers_are_grouped_and_stand_to_the_right_below_a_head() -> None:
    shown = part("{{ parts.table([('a', 1234)], ('b', 'c')) }}")
    assert '<td>a</td><td class="number">1,234</td>' in shown
    assert "<td>a</td><td>1,234</td>" in part("{{ parts.table([('a', 1234)]) }}")


@pytest.mark.parametrize("nasty", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_page_refers_to_nothing_outside(nasty: bool) -> None:
    content = page_of(nasty)
    parsed = Page(content)
    for tag, attributes in parsed.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert not (attributes.get(name) or "").startswith(("http", "//", "file")), tag
        assert not [name for name in attributes if name.startswith("on")], tag
        if tag == "script":
            assert "src" not in attributes
    style = re.search(r"<style>(.*?)</style>", content, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_its_policy_lets_nothing_in_but_its_own_scripts() -> None:
    parsed = Page(page_of(False))
    (policy,) = [a["content"] for tag, a in parsed.elements if "http-equiv" in a]
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert "connect-src" not in rules
    nonces = {a.get("nonce") for tag, a in parsed.elements if tag == "script"}
    (once,) = nonces
    assert rules["script-src"] == f"'nonce-{once}'"
    again = Page(render("live.html", scripts=["1"], title="a", heading="b", pictures=[]))
    assert {a.get("nonce") for tag, a in again.elements if tag == "script"} != nonces


def test_a_nasty_key_ends_no_script() -> None:
    plain, nasty = page_of(False), page_of(True)
    assert nasty.count("</script") == plain.count("</script")
    assert "<img" not in nasty
    assert NASTY not in nasty
    nasty.encode("utf-8")


@pytest.mark.slow
def test_pictures_without_content_are_left_out_or_hidden() -> None:
    tiny = made_up(3, 2, looks=False, store=False, spill=False, straggler=None)
    left_out = Page(with_pictures(tiny))
    ids = {a["id"] for tag, a in left_out.elements if tag == "figure"}
    assert ids.isdisjoint({"spill", "fetched", "bad-records"})
    assert "Bad records" not in left_out.words
    kept = Page(with_pictures(tiny, keep_empty=True))
    hidden = {a["id"] for tag, a in kept.elements if tag == "figure" and "hidden" in a}
    assert hidden == {"spill", "fetched", "bad-records"}
    groups = [a for tag, a in kept.elements if tag == "section"]
    assert ["hidden" in a for a in groups] == [False, False, False, True]
