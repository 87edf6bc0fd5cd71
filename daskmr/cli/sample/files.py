"""Write sample data of any kind, reproducible by a seed."""

from __future__ import annotations

import bz2
import lzma
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

import zstandard
from isal import igzip

from daskmr.cli.sample.kind import Kind, SampleFile
from daskmr.errors import InputError, JobError
from daskmr.files import AtomicFile

__all__ = ["SampleSummary", "load_kind", "write_sample"]

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """The figures of a sample that `write_sample` wrote."""

    files: int
    records: int  # including bad ones, and without headers
    bad_lines: int  # bad records
    bytes: int  # uncompressed
    compressed_bytes: int  # on disk


def load_kind(name: str) -> Kind:
    """Import the kind of a name, one of `daskmr.cli.sample.KINDS`."""
    kind: Kind = import_module(f"daskmr.cli.sample.{name}").KIND
    return kind


def write_sample(
    directory: str | os.PathLike[str],
    size: int = 20_000_000,
    seed: int = 0,
    extensions: Sequence[str] = (),
    bad_lines: float = 0.0,
    kind: str = "documents",
    progress: Callable[[int], object] | None = None,
) -> SampleSummary:
    """Write sample data into an empty directory.

    The records and the file names up to the extension depend only on `kind`, `size`, `seed` and
    `bad_lines`.

    - `directory`: created if missing.
    - `size`: uncompressed bytes to write; exceeded by less than one record, and by headers.
    - `extensions`: formats of the files, used in turn; by default, the usual one of the kind.
    - `bad_lines`: share of lines, from 0.0 to 1.0, that are bad records, in several ways.
    - `kind`: one of `daskmr.cli.sample.KINDS`.
    - `progress`: called with the number of uncompressed bytes written so far.
    Raises `InputError` if a parameter is out of range, or the directory is not empty or not a
    directory.
    Raises `JobError` if the files cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as directory:
    ...     summary = write_sample(directory, size=100_000)
    >>> summary.files, 100_000 <= summary.bytes <= 102_000
    (2, True)
    """
    chosen = load_kind(kind)
    extensions = extensions or (chosen.extension,)
    _check(kind, chosen, size, extensions, bad_lines)
    root = _empty_directory(Path(directory))
    writer = _Writer(root, progress or (lambda written: None))
    for file, extension in zip(
        chosen.files(size, seed, bad_lines), cycle(extensions), strict=False
    ):
        writer.write(file, "" if file.path.endswith(f".{extension}") else f".{extension}")
    return SampleSummary(writer.files, writer.records, writer.bad, writer.written, writer.on_disk)


def _check(name: str, kind: Kind, size: int, extensions: Sequence[str], bad_lines: float) -> None:
    if size < 1:
        raise InputError(f"The size of the sample must be at least 1 byte, not {size}.")
    if not 0 <= bad_lines <= 1:
        raise InputError(f"The share of bad lines must be between 0.0 and 1.0, not {bad_lines}.")
    possible = (*_CODECS, *kind.plain)
    known = ", ".join(possible)
    if isinstance(extensions, str):
        raise InputError(f"The extensions must be a list of some of {known}, not {extensions!r}.")
    for extension in set(extensions) - set(possible):
        raise InputError(
            f"A sample of {name} cannot be written with the extension {extension!r}. "
            f"Use one of {known}."
        )


def _empty_directory(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        occupied = next(root.iterdir(), None)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"The sample cannot be written to {root}, which is or is below a file. Name a directory."
        ) from None
    except OSError as error:
        raise JobError(
            f"The directory {root} cannot be used for the sample: {error.strerror or error}."
        ) from error
    if occupied is not None:
        raise InputError(
            f"The directory {root} is not empty (it contains {occupied.name}), and samples must not "
            "be mixed. Name another directory, or empty this one."
        )
    return root


# --- files ----------------------------------------------------------------------------------------


def _open_gzip(raw: Any) -> Any:
    opener: Any = igzip.IGzipFile
    return opener(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)


_CODECS: dict[str, Callable[[Any], AbstractContextManager[Any]]] = {
    "gz": _open_gzip,
    "xz": partial(lzma.LZMAFile, mode="wb", format=lzma.FORMAT_XZ, preset=0),
    "lzma": partial(lzma.LZMAFile, mode="wb", format=lzma.FORMAT_ALONE, preset=0),
    "bz2": partial(bz2.BZ2File, mode="wb", compresslevel=1),
    "zst": lambda raw: zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False),
}


class _Writer:
    """Writes files below `root`, and counts."""

    def __init__(self, root: Path, progress: Callable[[int], object]) -> None:
        self.files = self.records = self.bad = self.written = self.on_disk = 0
        self._root = root
        self._progress = progress

    def write(self, file: SampleFile, extension: str) -> None:
        """Write a file; `extension` is added to its name."""
        path = f"{self._root}/{file.path}{extension}"
        codec = _CODECS.get(extension[1:], nullcontext)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with AtomicFile(path) as target:
                with codec(target.file) as stream:
                    for chunk in self._chunks(file):
                        stream.write(chunk)
                target.sync()
                target.commit()
            self.on_disk += os.path.getsize(path)
        except OSError as error:
            raise JobError(
                f"The sample file {path} cannot be written: {error.strerror or error}. The sample "
                "is incomplete: remove its directory, free some space or choose another one, and "
                "try again."
            ) from error
        self.files += 1

    def _chunks(self, file: SampleFile) -> Iterator[bytes]:
        """Join the records, and count them."""
        chunk = bytearray(file.head)
        for record, is_bad in file.records:
            chunk += record
            self.records += 1
            self.bad += is_bad
            if len(chunk) >= CHUNK_BYTES:
                yield self._passed(chunk)
                chunk.clear()
        yield self._passed(chunk)

    def _passed(self, chunk: bytearray) -> bytes:
        self.written += len(chunk)
        self._progress(self.written)
        return bytes(chunk)
