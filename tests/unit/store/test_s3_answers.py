"""Tests of `daskmr.store.s3_answers`."""

from __future__ import annotations

import pytest

from daskmr.store.s3_answers import parse_page
from daskmr.store.source import Entry, TransientError

LISTING = (
    "<ListBucketResult><Name>b</Name><Prefix>p/</Prefix><IsTruncated>false</IsTruncated>"
    "<Contents><Key>p/k</Key><Size>1</Size></Contents></ListBucketResult>"
)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ListBucketResult>", "html>"),
        ("<Name>b", "<Name>c"),
        ("<Name>b</Name>", ""),
        ("<Prefix>p/", "<Prefix>q/"),
        ("<Key>p/k", "<Key>q/k"),
        ("<Key>p/k", "<Key>p/d/k"),
        ("</Contents>", "</Contents><CommonPrefixes><Prefix>p/d/e/</Prefix></CommonPrefixes>"),
        ("</Contents>", "</Contents><CommonPrefixes><Prefix>p/d</Prefix></CommonPrefixes>"),
        ("<Key>p/k</Key>", ""),
        ("<Size>1", "<Size>one"),
        ("<IsTruncated>false</IsTruncated>", ""),
        ("false", "true"),
        ("</Contents>", ""),
        ("<Size>1</Size>", "<Size>1</Size><LastModified>today</LastModified>"),
        (LISTING, ""),
    ],
)
def test_what_is_no_listing_is_not_an_empty_one(old: str, new: str) -> None:
    assert parse_page(LISTING.encode(), "b", "p/", "").entries == [Entry("k", False, 1)]
    assert old in LISTING
    with pytest.raises(TransientError, match="not a listing of the bucket"):
        parse_page(LISTING.replace(old, new).encode(), "b", "p/", "")
