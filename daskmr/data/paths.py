"""Paths of remote objects as paths below a local folder; pure."""

from __future__ import annotations

import unicodedata

from daskmr.errors import JobError

__all__ = ["Unplaceable", "decode_path", "encode_path", "fold", "split_path"]

_LONGEST_NAME = 255  # bytes


class Unplaceable(JobError):
    """A file has no place in a folder: its name, or what is there already, forbids it."""


def encode_path(path: str) -> bytes:
    r"""The bytes of a path, as they lie on the disk.

    >>> encode_path("caf\xe9/\udcff")
    b'caf\xc3\xa9/\xff'
    """
    return path.encode("utf-8", "surrogateescape")


def decode_path(raw: bytes) -> str:
    """The path of which `encode_path` gave the bytes."""
    return raw.decode("utf-8", "surrogateescape")


def split_path(path: str) -> list[bytes]:
    """The parts of a relative path that can be that of a file below a folder.

    Raises
    ------
    Unplaceable
        For any other.

    Examples
    --------
    >>> split_path("idle/a.gz")
    [b'idle', b'a.gz']
    >>> split_path("idle/../../etc/passwd")
    Traceback (most recent call last):
        ...
    daskmr.data.paths.Unplaceable: 'idle/../../etc/passwd' cannot be the path of a file in a cache.
    """
    try:
        parts = encode_path(path).split(b"/")
    except UnicodeEncodeError:
        parts = [b""]
    for part in parts:
        if part in (b"", b".", b"..") or b"\0" in part or len(part) > _LONGEST_NAME:
            raise Unplaceable(f"{path!r} cannot be the path of a file in a cache.")
    return parts


def fold(path: str) -> str:
    r"""One form for names that differ only in case, or in how accents are written.

    >>> fold("Idle/Caf\xe9") == fold("IDLE/CAFE\u0301")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
