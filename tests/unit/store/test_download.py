"""Tests of `daskmr.store.download`; transfers are tested with `daskmr.store.store`."""

from __future__ import annotations

import hashlib
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.store.download import Expected, Verifier, multipart_etag


def md5(data: bytes) -> bytes:
    return hashlib.md5(data).digest()


def pieces_of(data: bytes, sizes: list[int]) -> list[bytes]:
    ends = [0, *accumulate(sizes), len(data)]
    return [data[start:end] for start, end in pairwise(ends)]


def checked(expected: Expected, pieces: list[bytes]) -> str | None:
    verifier = Verifier(expected)
    for piece in pieces:
        verifier.update(piece)
    assert verifier.md5 == md5(b"".join(pieces)).hex()
    return verifier.mismatch()


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(parts=SIZES, pieces=SIZES, flipped=st.integers(0, 60))
def test_parts_however_they_arrive(parts: list[int], pieces: list[int], flipped: int) -> None:
    data = bytes(range(sum(parts)))
    digests = b"".join(md5(part) for part in pieces_of(data, parts[:-1]))
    expected = Expected(len(data), md5(digests).hex(), tuple(parts))
    assert checked(expected, pieces_of(data, pieces)) is None
    damaged = bytearray(data)
    damaged[flipped % len(data)] ^= 1
    mismatch = checked(expected, pieces_of(bytes(damaged), pieces))
    assert mismatch is not None
    assert "not those of the object" in mismatch


@given(data=st.binary(max_size=50), pieces=SIZES)
def test_a_whole(data: bytes, pieces: list[int]) -> None:
    expected = Expected(len(data), md5(data).hex())
    assert checked(expected, pieces_of(data, pieces)) is None
    assert checked(Expected(len(data)), pieces_of(data, pieces)) is None
    assert (
        checked(expected, [data, b"x"]) == f"{len(data) + 1} bytes arrived instead of {len(data)}"
    )


@pytest.mark.parametrize("etag", [None, "", "A" * 32, "a" * 31, "a" * 33, "a" * 32 + "-0", "a-1"])
def test_what_is_no_md5(etag: str | None) -> None:
    assert multipart_etag(etag) is None
