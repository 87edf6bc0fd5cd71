"""Tests of `Pagination` in `daskmr.store.store`."""

from __future__ import annotations

import sys
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.store.store import Entry, Page, Pagination, StoreError


def key(entry: Entry) -> bytes:
    return (entry.name + "/" * entry.is_dir).encode()


names = st.text(st.sampled_from("ab-.0\xe9\ue000\U0001f600"), max_size=3)
entries = st.lists(
    st.builds(Entry, names, st.booleans()), unique_by=lambda entry: (entry.name, entry.is_dir)
).map(lambda found: sorted(found, key=key))


def pages_of(entries: list[Entry], size: int) -> list[list[Entry]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]


def advanced(pages: list[list[Entry]], ordered: bool = True) -> list[Entry]:
    """What is new on the pages of one listing."""
    pagination = Pagination("s3://bucket/", ordered)
    tokens = [*map(str, range(1, len(pages))), None]
    return [
        entry
        for entries, token in zip(pages, tokens, strict=False)
        for entry in pagination.advance(Page(entries, token)).entries
    ]


@given(entries, st.integers(1, 4), st.booleans(), st.data())
def test_what_pages_repeat_counts_once(
    entries: list[Entry], size: int, ordered: bool, data: st.DataObject
) -> None:
    pages = pages_of(entries, size)
    assert advanced(pages, ordered) == entries
    repeating = []
    for number, page in enumerate(pages):
        # of the page before, all that there is; of those before that, the common prefixes
        earlier = [e for before in pages[:number] for e in before if e.is_dir]
        earlier += [e for e in pages[number - 1] if number and not e.is_dir]
        again = data.draw(st.lists(st.sampled_from([*earlier, *page]), max_size=4))
        repeating.append([*again, *(e for e in page if e not in again)])
    assert sorted(advanced(repeating, ordered), key=key) == entries


@given(entries.filter(lambda found: len(found) > 1), st.integers(1, 4), st.data())
def test_pages_that_go_backwards_are_an_error(
    entries: list[Entry], size: int, data: st.DataObject
) -> None:
    late = data.draw(st.sampled_from(entries[:-1]))
    pages = [*pages_of([entry for entry in entries if entry != late], size), [late]]
    with pytest.raises(StoreError, match="s3://bucket/ cannot be listed: its pages are out of"):
        advanced(pages)
    assert sorted(advanced(pages, ordered=False), key=key) == entries


def test_keys_compare_as_bytes_and_not_as_utf_16() -> None:
    private, emoji = Entry("\ue000", False), Entry("\U0001f600", False)
    assert advanced([[private], [emoji]]) == [private, emoji]
    with pytest.raises(StoreError, match="out of order"):
        advanced([[emoji], [private]])


def test_a_directory_stands_where_its_slash_puts_it() -> None:
    pages = [[Entry("a", False)], [Entry("a-b", False)], [Entry("a", True)], [Entry("a0", False)]]
    assert advanced(pages) == [entry for page in pages for entry in page]


FILES = [[Entry("a", False), Entry("b", False)], [Entry("c", False)]]
PREFIXES = [[Entry("a", True), Entry("b", True)], [Entry("b", True)]]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("tokens", [["1"], ["1", "2"], ["1", "2", "3"], None])
@pytest.mark.parametrize("pages", [[[]], FILES[:1], FILES, PREFIXES, PREFIXES[:1], [*FILES, []]])
def test_a_listing_that_never_ends_is_an_error_in_flat_memory(
    pages: list[list[Entry]], tokens: list[str] | None, ordered: bool
) -> None:
    """`tokens` come again and again; ``None``: a new one each time."""
    pagination = Pagination("s3://bucket/", ordered)
    given = cycle(tokens) if tokens else map(str, range(10_000))
    with pytest.raises(StoreError, match=r"s3://bucket/ cannot be listed: .*(never|out of order)"):
        for entries, token in zip(cycle(pages), given, strict=False):
            pagination.advance(Page(entries, token))
    kept = [getattr(pagination, name) for name in vars(pagination)]
    assert sum(sys.getsizeof(value) for value in kept) < 100_000


def test_pages_may_be_empty() -> None:
    end = [Entry("a", False)]
    assert advanced([*[[]] * 900, end, *[[]] * 900]) == end
