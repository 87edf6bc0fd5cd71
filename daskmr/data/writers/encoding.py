"""Encode text as UTF-8, and restore bytes of the input that were not valid UTF-8."""

from __future__ import annotations

import codecs

__all__ = ["encode", "encode_for_terminal"]

_SURROGATES = "daskmr.surrogates"


def _restore_surrogates(error: UnicodeError) -> tuple[bytes, int]:
    """Encode lone surrogates, which UTF-8 rejects; those from surrogateescape become their byte."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    data = bytearray()
    for character in error.object[error.start : error.end]:
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            data.append(code - 0xDC00)
        else:
            data += character.encode("utf-8", "surrogatepass")
    return bytes(data), error.end


codecs.register_error(_SURROGATES, _restore_surrogates)


def encode(text: str) -> bytes:
    r"""Encode as UTF-8, and restore bytes that were not valid UTF-8 in the input.

    >>> encode("\udcff\u00e9")
    b'\xff\xc3\xa9'
    >>> encode("\ud800")
    b'\xed\xa0\x80'
    """
    return text.encode("utf-8", _SURROGATES)


def encode_for_terminal(text: str) -> bytes:
    """Encode as UTF-8; escape lone surrogates, which would garble a terminal."""
    return text.encode("utf-8", "backslashreplace")
