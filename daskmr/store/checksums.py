"""Whether the bytes that came are those that the store has: length, MD5, MD5 of the parts; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hashlib

__all__ = ["Check", "Proof", "multipart_etag"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What the bytes of an object must show.

    Parameters
    ----------
    size : int
        Their number.
    md5 : str, optional
        Their MD5 as 32 hex digits; or, of an object that was uploaded in parts, the MD5 of the
        MD5s of its parts.
    parts : tuple of int
        The sizes of these parts; empty when `md5` is of the whole.
    """

    size: int
    md5: str | None = None
    parts: tuple[int, ...] = ()


def multipart_etag(etag: str | None) -> tuple[str, int] | None:
    """Read an ETag that is made of MD5s: the digits, and the number of parts, 0 for a whole.

    Examples
    --------
    >>> multipart_etag("d41d8cd98f00b204e9800998ecf8427e")
    ('d41d8cd98f00b204e9800998ecf8427e', 0)
    >>> multipart_etag("d41d8cd98f00b204e9800998ecf8427e-3")
    ('d41d8cd98f00b204e9800998ecf8427e', 3)
    >>> multipart_etag("0x8D4BCC2E4835CD0") is None
    True
    """
    found = re.fullmatch(r"([0-9a-f]{32})(?:-([1-9][0-9]{0,4}))?", etag or "")
    return None if found is None else (found[1], int(found[2] or 0))


class Check:
    """Takes the bytes of one object, in order, and compares them with what they must show.

    Parameters
    ----------
    proof : Proof

    Examples
    --------
    >>> check = Check(Proof(3, "900150983cd24fb0d6963f7d28e17f72"))
    >>> check.update(b"ab")
    >>> check.received
    2
    >>> check.update(b"c")
    >>> check.complaint() is None
    True
    >>> check.md5
    '900150983cd24fb0d6963f7d28e17f72'
    """

    def __init__(self, proof: Proof) -> None:
        self._proof = proof
        self._whole = _md5()
        self._part = _md5()
        self._digests: list[bytes] = []
        self._room = proof.parts[0] if proof.parts else 0
        self.received = 0

    @property
    def md5(self) -> str:
        """The MD5 of all bytes so far, as hex digits."""
        return self._whole.hexdigest()

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self.received += len(data)
        self._whole.update(data)
        if self._proof.parts:
            self._update_parts(data)

    def _update_parts(self, data: bytes) -> None:
        while len(data) >= self._room and len(self._digests) < len(self._proof.parts):
            self._part.update(data[: self._room])
            data = data[self._room :]
            self._digests.append(self._part.digest())
            self._part = _md5()
            following = self._proof.parts[len(self._digests) :]
            self._room = following[0] if following else 0
        self._part.update(data)
        self._room -= len(data)

    def complaint(self) -> str | None:
        """Say what is wrong with the bytes, as a part of a sentence, or ``None``."""
        proof = self._proof
        if self.received != proof.size:
            return f"{self.received} bytes came instead of {proof.size}"
        if proof.md5 is None:
            return None
        found = self.md5
        if proof.parts:
            found = _md5(b"".join(self._digests)).hexdigest()
        if found != proof.md5:
            return f"the bytes that came are not those of the object: their MD5 is {found}, its ETag says {proof.md5}"
        return None


def _md5(data: bytes = b"") -> hashlib._Hash:
    import hashlib

    return hashlib.md5(data, usedforsecurity=False)
