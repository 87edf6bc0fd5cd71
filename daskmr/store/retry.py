"""Trying again what may pass: waits that grow, less a part by chance, so often and no more."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

from daskmr.store.source import Fault, StoreError

__all__ = ["LeastRate", "Patience"]

T = TypeVar("T")

_RETRIES_OF_BROKEN = 3  # when nothing was ever answered
_LEAST_RATE = 1000  # bytes a second, below which dnf and git give up a transfer too


class Patience:
    """How often to try again, after which waits, and how often that was so far.

    Parameters
    ----------
    retries : int
        How often the same is tried again before it is a failure.
    first_wait, longest_wait : float
        Seconds at most before the first try again, and before any. Each wait is up to twice as
        long as the one before; up to the half of it is left out by chance, so that many who met
        the same fault do not come back at once.

    Attributes
    ----------
    faults : int
        Faults so far that were tried again.

    Examples
    --------
    >>> import asyncio
    >>> answers = iter([Fault("busy"), "done"])
    >>> async def attempt():
    ...     answer = next(answers)
    ...     if isinstance(answer, Fault):
    ...         raise answer
    ...     return answer
    >>> patience = Patience(retries=2, first_wait=0.001)
    >>> asyncio.run(patience(attempt, "It cannot be had"))
    'done'
    >>> patience.faults
    1
    """

    def __init__(self, retries: int, first_wait: float = 0.2, longest_wait: float = 20.0) -> None:
        self.retries = retries
        self.first_wait = first_wait
        self.longest_wait = longest_wait
        self.faults = 0

    async def __call__(
        self, attempt: Callable[[], Awaitable[T]], what: str, hopeful: bool = True
    ) -> T:
        """Make attempts until one succeeds.

        Parameters
        ----------
        attempt : callable
            Raises `Fault` for what may pass; all else is passed on.
        what : str
            Begins the message of the failure in the end.
        hopeful : bool
            Whether to try again too what is likely to stay as it is, as when something was answered
            before.

        Raises
        ------
        StoreError
        """
        tries = 0
        while True:
            try:
                return await attempt()
            except Fault as fault:
                tries += 1
                if tries > self.retries or (not hopeful and _is_lasting(fault, tries)):
                    failure = self.given_up(what, fault, tries)
                    break
            await self.wait(tries)
        raise failure

    async def wait(self, tries: int) -> None:
        """Wait after so many failed tries."""
        import asyncio
        import random

        self.faults += 1
        longest = min(self.longest_wait, self.first_wait * 2 ** (tries - 1))
        await asyncio.sleep(longest * random.uniform(0.5, 1.0))

    @staticmethod
    def given_up(what: str, fault: Fault, tries: int) -> StoreError:
        """The failure that a fault has become."""
        times = f", after {tries} tries" if tries > 1 else ""
        return StoreError(f"{what}: {fault}{times}. {fault.remedy}")


class LeastRate:
    """Ends a transfer that goes on, but so slowly that it holds up the run.

    Only the time counts in which bytes are waited for, so that a slow reader does no harm.

    Parameters
    ----------
    seconds : float
        In each such time, a thousand bytes must come for every second of it.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def of(self, pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass on the pieces of a transfer as they come.

        Raises
        ------
        Fault
            When too little came for too long.
        """
        waited, size = 0.0, 0
        began = time.monotonic()
        async for piece in pieces:
            gap = time.monotonic() - began
            # The socket's timeout ends a longer one, unless the process itself could not run.
            waited += gap if gap < self.seconds else 0.0
            size += len(piece)
            if size >= _LEAST_RATE * self.seconds:
                waited, size = 0.0, 0
            elif waited >= self.seconds:
                raise Fault(
                    f"only {size:,} bytes came in {waited:,.1f} seconds",
                    "Check the network, or raise read-timeout.",
                )
            yield piece
            began = time.monotonic()


def _is_lasting(fault: Fault, tries: int) -> bool:
    """Whether what befell the very first request is likely to befall it again."""
    return fault.hopeless or (fault.broken and tries > _RETRIES_OF_BROKEN)
