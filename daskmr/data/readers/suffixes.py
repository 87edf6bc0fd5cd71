"""The compressions and extensions of input files: one row each, without any import of a library.

A compression is a row here and a decoder in `decompression`; a format of records is a row in
`registry` and a module. The content of a file, not its name, decides how it is decompressed.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["COMPRESSIONS", "EXTENSIONS", "Compression", "compression_of"]


class Compression(NamedTuple):
    """A compression of input files.

    - `name`: its name in messages.
    - `extension`: that of its files, without the dot.
    - `expansion`: bytes of data per byte, measured on JSON logs.
    - `unpack`, `pack`: shell commands, from standard input to standard output.
    """

    name: str
    extension: str
    expansion: int
    unpack: str
    pack: str


_ROWS = (
    Compression("gzip", "gz", 8, "gzip -dc", "gzip"),
    Compression("xz", "xz", 12, "xz -dc", "xz"),
    Compression("lzma", "lzma", 12, "xz --format=lzma -dc", "xz --format=lzma"),
    Compression("bzip2", "bz2", 10, "bzip2 -dc", "bzip2"),
    Compression("zstd", "zst", 12, "zstd -dc --long=31", "zstd"),
)
COMPRESSIONS = {row.name: row for row in _ROWS}
"""All compressions, by their name."""

_BY_EXTENSION = {row.extension: row for row in _ROWS}
_OF_TEXT = ("json", "jsonl", "log", "tsv", "txt")

EXTENSIONS = frozenset((*_BY_EXTENSION, *_OF_TEXT))
"""Extensions of input files in every format of text, without the dot; a reader adds its own."""


def compression_of(path: str) -> Compression | None:
    """Return the compression that the name of a file indicates, if any.

    >>> compression_of("a/b.json.GZ").name, compression_of("a.gz/b")
    ('gzip', None)
    """
    _, dot, extension = path.rpartition(".")
    return _BY_EXTENSION.get(extension.lower()) if dot else None
