"""Compress the output in the format that its suffix names."""

from __future__ import annotations

import bz2
import lzma
import os
from typing import Any

__all__ = ["compressor_for"]


def compressor_for(name: str, raw: Any) -> Any:
    """Return a compressing stream that writes to `raw`; ``None`` if no compression is named.

    The suffix of `name` selects the format. The same data always gives the same bytes.
    """
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".gz":
        from isal import igzip

        return igzip.IGzipFile(  # type: ignore[no-untyped-call]
            filename="", mode="wb", fileobj=raw, mtime=0
        )
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
