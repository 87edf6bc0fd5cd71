"""Paths of remote objects as paths below a local folder."""

from __future__ import annotations

import unicodedata

from daskmr.errors import JobError

__all__ = ["Unplaceable", "decode_path", "encode_path", "fold", "split_path"]

_MAX_NAME_BYTES = 255


class Unplaceable(JobError):
    """A file cannot be put in a folder: its name is invalid, or another file is in its place."""


def encode_path(path: str) -> bytes:
    r"""Return the bytes of a path on the disk.

    >>> encode_path("caf\xe9/\udcff")
    b'caf\xc3\xa9/\xff'
    """
    return path.encode("utf-8", "surrogateescape")


def decode_path(raw: bytes) -> str:
    """Return the path that `encode_path` has encoded."""
    return raw.decode("utf-8", "surrogateescape")


def split_path(path: str) -> list[bytes]:
    """Split a relative path that is valid below a folder; raise `Unplaceable` for any other.

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
        if part in (b"", b".", b"..") or b"\0" in part or len(part) > _MAX_NAME_BYTES:
            raise Unplaceable(f"{path!r} cannot be the path of a file in a cache.")
    return parts


def fold(path: str) -> str:
    r"""Map names that differ only in case, or in how accents are written, to one form.

    >>> fold("Idle/Caf\xe9") == fold("IDLE/CAFE\u0301")
    True
    """
    upper = unicodedata.normalize("NFC", path).upper()  # the capital of a dotless i is that of i
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", upper).casefold())
