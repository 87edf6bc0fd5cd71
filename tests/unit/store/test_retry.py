"""Tests of `daskmr.store.retry`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.store.retry import RetryPolicy, at_minimum_rate
from daskmr.store.source import StoreError, TransientError


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, at once."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waits


async def fail() -> None:
    raise TransientError("it is busy", "Come back later.", likely_to_last=True)


def test_waits_grow_by_chance_up_to_a_limit(waits: list[float]) -> None:
    with pytest.raises(StoreError) as caught:
        asyncio.run(RetryPolicy(11)(fail, "It cannot be had"))
    assert str(caught.value) == "It cannot be had: it is busy, after 12 tries. Come back later."
    for wait, longest in zip(waits, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, *[20] * 4], strict=True):
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == len(waits)


def test_what_is_likely_to_last_is_not_retried_where_nothing_was_answered(
    waits: list[float],
) -> None:
    with pytest.raises(StoreError, match=r"^It cannot be had: it is busy\. Come back later\.$"):
        asyncio.run(RetryPolicy(11)(fail, "It cannot be had", fail_fast=True))
    assert waits == []


def test_a_connection_that_only_breaks_is_soon_left_where_nothing_was_answered(
    waits: list[float],
) -> None:
    async def hang_up() -> None:
        raise TransientError("it broke", disconnected=True)

    with pytest.raises(StoreError, match="it broke, after 4 tries"):
        asyncio.run(RetryPolicy(11)(hang_up, "It cannot be had", fail_fast=True))
    assert sum(waits) < 2
    with pytest.raises(StoreError, match="it broke, after 12 tries"):
        asyncio.run(RetryPolicy(11)(hang_up, "It cannot be had"))
    with pytest.raises(StoreError, match="it broke, after 2 tries"):
        asyncio.run(RetryPolicy(1)(hang_up, "It cannot be had", fail_fast=True))


def test_no_retries(waits: list[float]) -> None:
    with pytest.raises(StoreError, match="it is busy"):
        asyncio.run(RetryPolicy(0)(fail, "It cannot be had"))
    assert waits == []


def test_what_is_no_fault_is_passed_on(waits: list[float]) -> None:
    async def refuse() -> None:
        raise StoreError("Never.")

    with pytest.raises(StoreError, match=r"^Never\.$"):
        asyncio.run(RetryPolicy(11)(refuse, "It cannot be had"))
    assert waits == []


# --- the minimum rate -------------------------------------------------------------------------------


def passed_on(gaps: list[tuple[float, int]], reading: float = 0.0) -> int:
    """Bytes that a rate over ten seconds lets through; `gaps`: seconds before each piece, its size.

    `reading` are the seconds that the reader takes for each piece.
    """
    clock = 0.0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal clock
        for seconds, size in gaps:
            clock += seconds
            yield bytes(size)

    async def read() -> int:
        nonlocal clock
        size = 0
        async for piece in at_minimum_rate(pieces(), 10):
            clock += reading
            size += len(piece)
        return size

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("daskmr.store.retry.time", SimpleNamespace(monotonic=lambda: clock))
        return asyncio.run(read())


@given(st.lists(st.tuples(st.floats(0, 9), st.integers(9_000, 20_000))), st.floats(0, 1000))
def test_what_comes_fast_enough_passes(gaps: list[tuple[float, int]], reading: float) -> None:
    assert passed_on(gaps, reading) == sum(size for _, size in gaps)


@given(st.floats(0.1, 9), st.integers(0, 1), st.floats(0, 1000))
def test_what_trickles_is_a_fault(gap: float, size: int, reading: float) -> None:
    with pytest.raises(TransientError, match=r"only \d+ bytes arrived in 1\d\.\d seconds"):
        passed_on([(0.0, 500), *[(gap, size)] * 101], reading)


def test_a_transfer_that_becomes_a_trickle_is_a_fault() -> None:
    with pytest.raises(TransientError, match="bytes arrived"):
        passed_on([*[(0.1, 100_000)] * 100, *[(1.0, 1)] * 12])


def test_a_process_that_could_not_run_is_no_slow_store() -> None:
    assert passed_on([(1.0, 1), (3600.0, 1), (1.0, 1)]) == 3
