"""Convert paths of remote objects to paths below a local folder."""

from __future__ import annotations

import unicodedata

from daskmr.errors import JobError

__all__ = ["Unplaceable", "decode_path", "encode_path", "fold", "split_path"]

_MAX_NAME_BYTES = 255


class Unplaceable(JobError):
    """A file that cannot be stored in a folder: its name is invalid, or its place is taken."""


def encode_path(path: str) -> bytes:
    r"""Encode a path to the bytes that the file system uses.

    >>> encode_path("caf\xe9/\udcff")
    b'caf\xc3\xa9/\xff'
    """
    return path.encode("utf-8", "surrogateescape")


def decode_path(raw: bytes) -> str:
    """Decode a path from `encode_path`."""
    return raw.decode("utf-8", "surrogateescape")


def split_path(path: str) -> list[bytes]:
    """Split a relative path into its parts; raise `Unplaceable` if it is not valid below a folder.

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
    r"""Normalize a path, so that names that differ only in case or Unicode normal form are equal.

    >>> fold("Idle/Caf\xe9") == fold("IDLE/CAFE\u0301")
    True
    """
    upper = unicodedata.normalize("NFC", path).upper()  # the capital of a dotless i is that of i
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", upper).casefold())
