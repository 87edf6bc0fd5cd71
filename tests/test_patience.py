"""Tests of `daskmr.patience`."""

from __future__ import annotations

import asyncio

import pytest

from daskmr.patience import Patience
from daskmr.remote import Fault, StoreError


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were slept, at once."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return waits


async def fail() -> None:
    raise Fault("it is busy", "Come back later.", hopeless=True)


def test_waits_grow_by_chance_up_to_a_limit(waits: list[float]) -> None:
    with pytest.raises(StoreError) as caught:
        asyncio.run(Patience(11)(fail, "It cannot be had"))
    assert str(caught.value) == "It cannot be had: it is busy, after 12 tries. Come back later."
    for wait, longest in zip(waits, [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, *[20] * 4], strict=True):
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == len(waits)


def test_what_is_hopeless_is_not_tried_again_where_that_is_not_wished(waits: list[float]) -> None:
    with pytest.raises(StoreError, match=r"^It cannot be had: it is busy\. Come back later\.$"):
        asyncio.run(Patience(11)(fail, "It cannot be had", hopeful=False))
    assert waits == []


def test_a_connection_that_only_breaks_is_soon_left_where_nothing_was_answered(
    waits: list[float],
) -> None:
    async def hang_up() -> None:
        raise Fault("it broke", broken=True)

    with pytest.raises(StoreError, match="it broke, after 4 tries"):
        asyncio.run(Patience(11)(hang_up, "It cannot be had", hopeful=False))
    assert sum(waits) < 2
    with pytest.raises(StoreError, match="it broke, after 12 tries"):
        asyncio.run(Patience(11)(hang_up, "It cannot be had"))
    with pytest.raises(StoreError, match="it broke, after 2 tries"):
        asyncio.run(Patience(1)(hang_up, "It cannot be had", hopeful=False))


def test_no_retries(waits: list[float]) -> None:
    with pytest.raises(StoreError, match="it is busy"):
        asyncio.run(Patience(0)(fail, "It cannot be had"))
    assert waits == []


def test_what_is_no_fault_is_passed_on(waits: list[float]) -> None:
    async def refuse() -> None:
        raise StoreError("Never.")

    with pytest.raises(StoreError, match=r"^Never\.$"):
        asyncio.run(Patience(11)(refuse, "It cannot be had"))
    assert waits == []
