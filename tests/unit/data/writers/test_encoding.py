"""Text to bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.writers.encoding import encode


@given(st.binary(max_size=40))
def test_any_bytes_survive_the_way_through_text(data: bytes) -> None:
    assert encode(data.decode("utf-8", "surrogateescape")) == data


@given(st.text(st.characters(), max_size=20))
def test_plain_text_is_utf8_and_lone_surrogates_are_passed(text: str) -> None:
    if any(0xDC80 <= ord(c) <= 0xDCFF for c in text):
        expected = b"".join(
            bytes([ord(c) - 0xDC00])
            if 0xDC80 <= ord(c) <= 0xDCFF
            else c.encode("utf-8", "surrogatepass")
            for c in text
        )
    else:
        expected = text.encode("utf-8", "surrogatepass")
    assert encode(text) == expected


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("\ud800\udcff\udc7f\udfff", b"\xed\xa0\x80\xff\xed\xb1\xbf\xed\xbf\xbf"),
        ("a\udc80\u20acz", b"a\x80\xe2\x82\xacz"),
        ("", b""),
    ],
)
def test_surrogates_of_both_kinds(text: str, data: bytes) -> None:
    assert encode(text) == data
