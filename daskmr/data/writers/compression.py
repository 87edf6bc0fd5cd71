"""Compression of the output, by the suffix of its name."""

from __future__ import annotations

import bz2
import lzma
import os
from typing import Any, Protocol

__all__ = ["Compressor", "compressor_for"]


class Compressor(Protocol):
    """A compressed stream that is open for writing."""

    def write(self, data: bytes, /) -> Any: ...
    def close(self) -> Any: ...


def compressor_for(name: str, raw: Any) -> Compressor | None:
    """Wrap `raw` by the suffix of `name`; the stream depends on neither time nor name."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".gz":
        from isal import igzip

        file: Compressor = igzip.IGzipFile(  # type: ignore[no-untyped-call]
            filename="", mode="wb", fileobj=raw, mtime=0
        )
        return file
    if suffix == ".bz2":
        return bz2.BZ2File(raw, "wb")
    if suffix == ".xz":
        return lzma.LZMAFile(raw, "wb")
    if suffix == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(
            raw, closefd=False
        )
    return None
