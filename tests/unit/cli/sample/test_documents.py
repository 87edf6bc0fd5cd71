"""Pieces of documents are parts of JSON objects."""

from __future__ import annotations

import json

from daskmr.cli.sample.documents import (
    MIXES,
    TABLES,
    VARIANTS,
    draw,
    members,
    render_pieces,
)
from daskmr.cli.sample.draws import random_words


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
