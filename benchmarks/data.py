"""The data of the benchmarks: generated once for each size, the same on every machine."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from isal import igzip

from daskmr.cli.sample.files import write_sample

DIRECTORY = "saved_session/Firefox/nightly/28.0a1"
CHUNK_RECORDS = 1000
FILE_BYTES = 8_000_000  # uncompressed; small enough to keep two workers busy to the end
VALUES_PER_SIZE = 7  # 300 MB make 2.1 GB: five times a memory limit of 400 MB


def make(root: Path, kind: str, size: int) -> Path:
    """Return the directory with data of `kind` for `size`; generate it if it does not exist.

    Parameters
    ----------
    root : Path
        Folder of all data of the benchmarks.
    kind : str
        ``documents``: telemetry documents in JSON. ``texts``: an id and 30 words, 240 bytes a
        record, no id twice. ``values``: a number and letters under one of 1000 keys, 240 bytes a
        record, `VALUES_PER_SIZE` times the size. ``tiny``: one file of one record.
    size : int
        Uncompressed bytes.
    """
    target = root / (kind if kind == "tiny" else f"{kind}-{size}")
    if target.exists():
        return target
    part = root / f".{target.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    _WRITERS[kind](part, size)
    os.replace(part, target)
    return target


def _write_documents(root: Path, size: int) -> None:
    write_sample(root, size)


def _write_tiny(root: Path, size: int) -> None:
    _write_files(root, 1, _texts)


def _write_texts(root: Path, size: int) -> None:
    _write_files(root, size, _texts)


def _write_values(root: Path, size: int) -> None:
    _write_files(root, size * VALUES_PER_SIZE, _values)


_WRITERS = {
    "documents": _write_documents,
    "texts": _write_texts,
    "values": _write_values,
    "tiny": _write_tiny,
}


def _write_files(root: Path, size: int, records: Callable[[int], Iterator[str]]) -> None:
    folder = root / DIRECTORY
    folder.mkdir(parents=True)
    number = max(2, size // FILE_BYTES) if size > 1 else 1
    for index in range(number):
        name = f"20131029030201.20131102.v2.log.{index:032x}.gz"
        # Without a time in the header, the same data gives the same bytes.
        with igzip.IGzipFile(str(folder / name), "wb", compresslevel=1, mtime=0) as file:
            _write_lines(file, size // number, records(index))


def _write_lines(file: igzip.IGzipFile, size: int, records: Iterator[str]) -> None:
    written = 0
    count = CHUNK_RECORDS if size > 1 else 1
    while written < size:
        chunk = "".join([next(records) for _ in range(count)]).encode("ascii")
        file.write(chunk)
        written += len(chunk)


WORDS = [hashlib.md5(b"%d" % number).hexdigest()[:6] for number in range(5000)]


def _texts(index: int) -> Iterator[str]:
    draw = random.Random(index)
    number = 0
    while True:
        key = hashlib.md5(b"%d-%d" % (index, number)).hexdigest()
        # Small starts are more frequent, and so are the words at the beginning.
        start = min(draw.getrandbits(13), draw.getrandbits(13)) % (len(WORDS) - 30)
        yield f"{key}\t{' '.join(WORDS[start : start + 30])}\n"
        number += 1


LETTERS = "".join(WORDS)


def _values(index: int) -> Iterator[str]:
    draw = random.Random(index)
    while True:
        start = draw.getrandbits(14)
        number = draw.getrandbits(29)
        yield f"k{draw.getrandbits(30) % 1000:03d}\t{number:09d} {LETTERS[start : start + 224]}\n"
