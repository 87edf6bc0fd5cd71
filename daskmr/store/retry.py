"""Retry transient errors with capped, jittered exponential back-off; end transfers that stall."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

from daskmr.store.source import StoreError, TransientError

__all__ = ["RetryPolicy", "at_minimum_rate"]

T = TypeVar("T")

_RETRIES_OF_BROKEN = 3  # when nothing was ever answered
_MINIMUM_RATE = 1000  # bytes a second, below which dnf and git give up a transfer too


class RetryPolicy:
    """How often to retry, after which waits, and how many retries there were so far.

    - `retries`: how often one request is retried before it is a failure.
    - `first_wait`, `longest_wait`: upper bounds in seconds of the first wait, and of any. The bound
      doubles from try to try; each wait is a random part of it, at least half, so that many clients
      that met the same fault do not return at once.
    - `faults`: transient errors so far that were retried.

    >>> import asyncio
    >>> answers = iter([TransientError("busy"), "done"])
    >>> async def attempt():
    ...     answer = next(answers)
    ...     if isinstance(answer, TransientError):
    ...         raise answer
    ...     return answer
    >>> retry = RetryPolicy(retries=2, first_wait=0.001)
    >>> asyncio.run(retry(attempt, "It cannot be had"))
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
        """Make attempts until one succeeds.

        - `attempt`: raises `TransientError` for what may be retried; anything else is passed on.
        - `what`: begins the message of the final failure.
        - `fail_fast`: do not retry what is likely to last, since nothing was ever answered before.
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
        """Return the failure that a transient error has become."""
        times = f", after {tries} tries" if tries > 1 else ""
        return StoreError(f"{what}: {error}{times}. {error.remedy}")


async def at_minimum_rate(
    pieces: AsyncIterable[bytes], seconds: float
) -> AsyncGenerator[bytes, None]:
    """Pass on the pieces of a transfer, and end one that is too slow to be of use.

    In `seconds`, a thousand bytes must arrive for every second of it. Only the time spent waiting
    for bytes counts, so that a slow reader does no harm.
    Raises `TransientError` when too little came for too long.
    """
    waited, size = 0.0, 0
    began = time.monotonic()
    async for piece in pieces:
        gap = time.monotonic() - began
        # The socket's timeout ends a longer one, unless the process itself could not run.
        waited += gap if gap < seconds else 0.0
        size += len(piece)
        if size >= _MINIMUM_RATE * seconds:
            waited, size = 0.0, 0
        elif waited >= seconds:
            raise TransientError(
                f"only {size:,} bytes came in {waited:,.1f} seconds",
                "Check the network, or raise read-timeout.",
            )
        yield piece
        began = time.monotonic()
