"""Bad records: lines that `map` could not take."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BadRecord"]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that `map` could not take.

    Attributes
    ----------
    file : str
        Path relative to the data dir.
    line : int
        Number of the line, from 1.
    reason : str
        Why it is bad, in short; counted by.
    detail : str
        What `map` raised, in full but capped.
    raw : bytes
        The line without its newline.
    """

    file: str
    line: int
    reason: str
    detail: str
    raw: bytes
