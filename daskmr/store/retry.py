"""Retry transient errors with capped, jittered exponential back-off; stop stalled transfers."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

from daskmr.store.source import StoreError, TransientError

__all__ = ["RetryPolicy", "at_minimum_rate"]

T = TypeVar("T")

_RETRIES_OF_BROKEN = 3  # of broken connections to a server that has never answered
_MINIMUM_RATE = 1000  # bytes per second, a limit that dnf and git use too


class RetryPolicy:
    """Retries requests, waits between the attempts, and counts the retries.

    - `retries`: maximum number of retries of one request.
    - `first_wait`, `longest_wait`: upper bounds in seconds for the first wait and for any wait. The
      bound doubles with each retry; each wait is a random part of it, at least half, so that clients
      with the same fault do not retry at the same time.
    - `faults`: number of transient errors so far that were retried.

    >>> import asyncio
    >>> answers = iter([TransientError("busy"), "done"])
    >>> async def attempt():
    ...     answer = next(answers)
    ...     if isinstance(answer, TransientError):
    ...         raise answer
    ...     return answer
    >>> retry = RetryPolicy(retries=2, first_wait=0.001)
    >>> asyncio.run(retry(attempt, "It cannot be fetched"))
    'done'
    >>> retry.faults
    1
    """

    def __init__(self, retries: int, first_wait: float = 0.2, longest_wait: float = 20.0) -> None:
        self.retries = retries
        self.first_wait = first_wait
        self.longest_wait = longest_wait
        self.faults = 0

    async def __call__(
        self, attempt: Callable[[], Awaitable[T]], what: str, *, fail_fast: bool = False
    ) -> T:
        """Call `attempt` until it succeeds.

        - `attempt`: raises `TransientError` for a failure to retry; other exceptions are passed on.
        - `what`: the start of the message if all attempts fail.
        - `fail_fast`: do not retry errors that are likely to last; for the first request to a store.
        Raises `StoreError`.
        """
        tries = 0
        while True:
            try:
                return await attempt()
            except TransientError as error:
                tries += 1
                lasts = error.likely_to_last or (error.disconnected and tries > _RETRIES_OF_BROKEN)
                if tries > self.retries or (fail_fast and lasts):
                    raise self.give_up(what, error, tries) from None
            await self.wait(tries)

    async def wait(self, tries: int) -> None:
        """Sleep after the `tries`-th failure."""
        import asyncio
        import random

        self.faults += 1
        longest = min(self.longest_wait, self.first_wait * 2 ** (tries - 1))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))

    @staticmethod
    def give_up(what: str, error: TransientError, tries: int) -> StoreError:
        """Return the final failure after a transient error."""
        times = f", after {tries} tries" if tries > 1 else ""
        return StoreError(f"{what}: {error}{times}. {error.remedy}")


async def at_minimum_rate(
    pieces: AsyncIterable[bytes], seconds: float
) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a transfer, and stop it if it is too slow.

    In each period of `seconds`, at least a thousand bytes per second must arrive. Only the time
    spent waiting for data counts, so a slow reader does not stop the transfer.
    Raises `TransientError` if too little data arrives.
    """
    waited, size = 0.0, 0
    began = time.monotonic()
    async for piece in pieces:
        gap = time.monotonic() - began
        # The socket's timeout stops longer gaps, except when the process itself was suspended.
        waited += gap if gap < seconds else 0.0
        size += len(piece)
        if size >= _MINIMUM_RATE * seconds:
            waited, size = 0.0, 0
        elif waited >= seconds:
            raise TransientError(
                f"only {size:,} bytes arrived in {waited:,.1f} seconds",
                "Check the network, or raise read-timeout.",
            )
        yield piece
        began = time.monotonic()
