"""Pieces of documents are parts of JSON objects; random numbers are the same for the same seed."""

from __future__ import annotations

import json
from itertools import islice

from daskmr.cli.sample.documents import (
    MIXES,
    TABLES,
    VARIANTS,
    below,
    draw,
    hexadecimal,
    log_uniform,
    members,
    pick,
    random_words,
    render_pieces,
)


def test_every_piece_is_members_of_an_object() -> None:
    pieces = render_pieces(random_words(0, "pieces"))
    pools = [pieces.profiles, pieces.timelines, pieces.hangs, *pieces.machines.values()]
    for pool in pools:
        assert json.loads(b"{%s}" % pool[0])
    assert len(pieces.spare_histograms) == len(TABLES["probes"])
    assert len(pieces.histograms) == MIXES
    assert {len(pool) for mix in pieces.histograms for pool in mix} == {VARIANTS}


def test_the_first_probes_are_in_every_document() -> None:
    words = random_words(0, "documents")
    pieces = render_pieces(random_words(0, "pieces"))
    always = [f'"{name}"'.encode() for name, *_ in TABLES["probes"][:10]]
    for _ in range(20):
        histograms = draw(words, pieces.histograms)
        assert [histogram.partition(b":")[0] for histogram in histograms[:10]] == always
        assert json.loads(b"{%s}" % b",".join(histograms))


def test_members_may_be_escaped() -> None:
    assert members({"name": "é"}) == '"name":"é"'.encode()
    assert members({"name": "é"}, escaped=True) == b'"name":"\\u00e9"'


def test_words_depend_on_the_seed_and_the_purpose() -> None:
    def first(seed: int, purpose: str) -> list[int]:
        return list(islice(random_words(seed, purpose), 5000))

    assert first(0, "plan") == first(0, "plan")
    assert first(0, "plan") != first(1, "plan")
    assert first(0, "plan") != first(0, "pieces")
    assert all(0 <= word < 2**32 for word in first(0, "plan"))


def test_draws_are_within_their_bounds() -> None:
    words = random_words(0, "test")
    assert {below(words, 3) for _ in range(100)} == {0, 1, 2}
    assert {pick(words, "ab") for _ in range(100)} == {"a", "b"}
    lengths = {log_uniform(words, 4).bit_length() for _ in range(1000)}
    assert lengths == {0, 1, 2, 3, 4}
    digits = hexadecimal(words, 11)
    assert len(digits) == 11
    assert int(digits, 16) >= 0
