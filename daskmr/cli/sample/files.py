"""Write sample data: synthetic telemetry documents in the storage layout, reproducible by a seed.

Random numbers are 32-bit words of SHAKE-128 and only integers are used, so a seed produces the same
documents on every machine and Python version.
"""

from __future__ import annotations

import bz2
import datetime
import hashlib
import lzma
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, cycle
from pathlib import Path
from typing import Any

import zstandard
from isal import igzip

from daskmr.cli.sample.documents import (
    TABLES,
    Words,
    below,
    draw,
    hexadecimal,
    log_uniform,
    members,
    pick,
    random_words,
    render_pieces,
)
from daskmr.errors import InputError, JobError
from daskmr.files import AtomicFile

__all__ = ["SampleSummary", "write_sample"]

CHUNK_BYTES = 256 * 1024
RECENT_IDS = 1024
DUPLICATES = 2**32 // 200  # 0.5% of 2**32
LAST_DOCUMENT = 4096  # enough bytes for any document without its sections

_FIRST_DAY = datetime.date(2013, 10, 31)


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """The figures of a sample that `write_sample` wrote."""

    files: int
    records: int  # lines, including bad ones
    bad_lines: int  # lines that are bad records
    bytes: int  # uncompressed
    compressed_bytes: int  # on disk


def write_sample(
    directory: str | os.PathLike[str],
    size: int = 20_000_000,
    seed: int = 0,
    extensions: Sequence[str] = ("gz",),
    bad_lines: float = 0.0,
) -> SampleSummary:
    """Write synthetic telemetry documents, in the storage layout, into an empty directory.

    A line is ``id TAB json``. The documents and the file names up to the extension depend only on
    `size`, `seed` and `bad_lines`. About 0.5% of the documents repeat an earlier id.

    - `directory`: created if missing.
    - `size`: uncompressed bytes to write; exceeded by less than one document.
    - `extensions`: formats of the files, used in turn; see `_CODECS`.
    - `bad_lines`: share of lines, from 0.0 to 1.0, that are bad records: in turn without a tab,
      with truncated JSON, empty, and with broken JSON that is not valid UTF-8.
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
    _check(size, extensions, bad_lines)
    root = _empty_directory(Path(directory))
    records, files = _Records(size, seed, bad_lines), _plan(size, seed)
    compressed = 0
    for file, extension in zip(files, cycle(extensions), strict=False):
        path = f"{root}/{file.stem}.{extension}"
        compressed += _write_file(path, extension, records.chunks(file))
    return SampleSummary(len(files), records.count, records.bad, records.written, compressed)


def _check(size: int, extensions: Sequence[str], bad_lines: float) -> None:
    if size < 1:
        raise InputError(f"The size of the sample must be at least 1 byte, not {size}.")
    if not 0 <= bad_lines <= 1:
        raise InputError(f"The share of bad lines must be between 0.0 and 1.0, not {bad_lines}.")
    known = ", ".join(_CODECS)
    if isinstance(extensions, str) or not extensions:
        raise InputError(
            f"The extensions must be a list of at least one of {known}, not {extensions!r}."
        )
    for extension in set(extensions) - _CODECS.keys():
        raise InputError(
            f"A sample cannot be written with the extension {extension!r}. Use one of {known}."
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
    **dict.fromkeys(("log", "txt", "json", "jsonl", "tsv"), nullcontext),
}


def _write_file(path: str, extension: str, chunks: Iterable[bytes]) -> int:
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with AtomicFile(path) as file:
            with _CODECS[extension](file.file) as stream:
                for chunk in chunks:
                    stream.write(chunk)
            file.sync()
            file.commit()
        return os.path.getsize(path)
    except OSError as error:
        raise JobError(
            f"The sample file {path} cannot be written: {error.strerror or error}. The sample is "
            "incomplete: remove its directory, free some space or choose another one, and try again."
        ) from error


@dataclass(frozen=True, slots=True)
class _SampleFile:
    stem: str  # path below the directory, without the extension
    info: bytes  # the part of the info that all documents of the file share
    app: str
    end: int  # uncompressed bytes of the sample up to the end of this file


def _plan(size: int, seed: int) -> list[_SampleFile]:
    words = random_words(seed, "plan")
    number = max(1, min(math.isqrt(size) // 110 + size // 12_000_000, size // 40_000))
    # File sizes fall with the square of the rank, from about a tenth of the data to about 50 kB.
    shares = [10**12 // (rank + 10) ** 2 for rank in range(number)]
    reasons, apps, channels = (
        _allot(table, shares, words)
        for table in (TABLES["reasons"], TABLES["apps"], TABLES["channels"])
    )
    versions = _allot_versions(channels, shares, words)
    ends = [size * share // sum(shares) for share in accumulate(shares)]
    kinds = zip(reasons, apps, channels, versions, strict=True)
    return [_sample_file(kind, end, words) for kind, end in zip(kinds, ends, strict=True)]


def _allot_versions(channels: Sequence[str], shares: Sequence[int], words: Words) -> list[str]:
    versions = [""] * len(channels)
    for channel, table in TABLES["versions"].items():
        indices = [index for index, other in enumerate(channels) if other == channel]
        allotted = _allot(table, [shares[index] for index in indices], words)
        for index, version in zip(indices, allotted, strict=True):
            versions[index] = version
    return versions


def _allot(weights: Mapping[str, int], shares: Sequence[int], words: Words) -> list[str]:
    """Assign a value to each share, in proportion to the weights of the values.

    Common values get the largest shares first.

    >>> _allot({"release": 60, "beta": 40}, [10, 9, 8, 7, 6], iter([0] * 5))
    ['release', 'beta', 'release', 'beta', 'release']
    """
    total = sum(weights.values())
    missing = {value: weight * sum(shares) // total for value, weight in weights.items()}
    values = [""] * len(shares)
    # Not strictly by size, because the same order in all dimensions would correlate their values.
    ranks = [-share * (2**32 + next(words)) for share in shares]
    for index in sorted(range(len(shares)), key=ranks.__getitem__):
        values[index] = max(missing, key=missing.__getitem__)
        missing[values[index]] -= shares[index]
    return values


def _sample_file(kind: tuple[str, str, str, str], end: int, words: Words) -> _SampleFile:
    reason, app, channel, version = kind
    submitted = _FIRST_DAY + datetime.timedelta(days=below(words, 14))
    first, last = map(datetime.date.fromisoformat, TABLES["build_days"][channel][version])
    built = min(last, max(first, submitted - datetime.timedelta(days=below(words, 4))))
    build = f"{built:%Y%m%d}{TABLES['build_times'][channel]}"
    info = {
        "reason": reason,
        "appName": app,
        "appID": TABLES["app_ids"][app],
        "appVersion": version,
        "appBuildID": build,
        "appUpdateChannel": channel,
        "platformBuildID": build,
        "revision": f"https://hg.example.org/{channel}/rev/{hashlib.shake_128(build.encode()).hexdigest(6)}",
    }
    name = f"{build}.{submitted:%Y%m%d}.v2.log.{hexadecimal(words, 32)}"
    stem = f"{reason.replace('-', '_')}/{app}/{channel}/{version}/{name}"
    return _SampleFile(stem, members(info), app, end)


# --- records --------------------------------------------------------------------------------------


class _Records:
    """A generator of the records of a sample, in order, which also counts them."""

    def __init__(self, size: int, seed: int, bad_lines: float) -> None:
        self.size = size
        self.count = self.bad = self.written = 0
        self._pieces = render_pieces(random_words(seed, "pieces"))
        self._words = random_words(seed, "documents")
        self._bad_lines = int(bad_lines * 2**32)
        self._recent_ids = [b""] * RECENT_IDS

    def chunks(self, file: _SampleFile) -> Iterator[bytes]:
        """Yield the lines of `file` in chunks; there is at least one line."""
        chunk, is_complete = bytearray(), False
        while not is_complete:
            line = self._line(file)
            chunk += line
            self.count += 1
            self.written += len(line)
            is_complete = self.written >= file.end
            if is_complete or len(chunk) >= CHUNK_BYTES:
                yield bytes(chunk)
                chunk.clear()

    def _line(self, file: _SampleFile) -> bytes:
        if next(self._words) >= self._bad_lines:
            return b"%s\t%s\n" % (self._document_id(), self._document(file))
        spoil = _SPOILERS[self.bad % len(_SPOILERS)]
        self.bad += 1
        document = self._document(file)
        key = _fresh_id(self._words)
        cut = 1 + below(self._words, len(document) - 1)
        return spoil(key, document, cut) + b"\n"

    def _document_id(self) -> bytes:
        slot = next(self._words) >> 22
        if next(self._words) >= DUPLICATES or not self._recent_ids[slot]:
            self._recent_ids[slot] = _fresh_id(self._words)
        return self._recent_ids[slot]

    def _document(self, file: _SampleFile) -> bytes:
        words, pieces = self._words, self._pieces
        before = _BEFORE_HISTOGRAMS % (
            file.info,
            pick(words, pieces.machines[file.app]),
            pick(words, pieces.profiles),
            log_uniform(words, 14),
            pick(words, pieces.timelines),
            log_uniform(words, 4),
        )
        remaining = self.size - self.written
        sections = [b",".join(draw(words, mix)) for mix in pieces.sections]
        if remaining < 3 * LAST_DOCUMENT:
            sections = [b""] * len(sections)  # keep the last document from getting too long
        after = _AFTER_HISTOGRAMS % (*sections, pick(words, pieces.hangs))
        room = remaining - len(before) - len(after) - ID_BYTES
        histograms = _fit(draw(words, pieces.histograms), pieces.spare_histograms, room)
        return before + b",".join(histograms) + after


def _fit(histograms: list[bytes], spare: list[bytes], room: int) -> list[bytes]:
    """Return `histograms`; in the last document, add or drop some to fill `room` bytes.

    >>> _fit([b'"A":[1]', b'"B":[1]'], [b'"A":[1]', b'"C":[1]'], 10**6)
    [b'"A":[1]', b'"B":[1]']
    >>> _fit([b'"A":[1]', b'"B":[1]'], [b'"A":[1]', b'"C":[1]'], 8)
    [b'"A":[1]']
    >>> _fit([b'"A":[1]', b'"B":[1]'], [b'"A":[1]', b'"C":[1]'], 17)
    [b'"A":[1]', b'"B":[1]', b'"C":[1]']
    """
    if room >= 3 * LAST_DOCUMENT or sum(map(len, histograms)) + LAST_DOCUMENT <= room:
        return histograms
    present = {histogram.partition(b":")[0] for histogram in histograms}
    candidates = histograms + [other for other in spare if other.partition(b":")[0] not in present]
    if sum(map(len, candidates)) < room:
        room -= LAST_DOCUMENT  # this cannot be the last document: leave enough room for another
    starts = accumulate((len(histogram) + 1 for histogram in candidates), initial=0)
    return [histogram for start, histogram in zip(starts, candidates, strict=False) if start < room]


# Each takes an id, a document and a position to cut it. None may produce valid JSON after a tab.
_SPOILERS: tuple[Callable[[bytes, bytes, int], bytes], ...] = (
    lambda key, document, cut: key + b" " + document,
    lambda key, document, cut: key + b"\t" + document[:cut],
    lambda key, document, cut: b"",
    lambda key, document, cut: key + b"\t" + document[:cut] + b"\xff\xfe\xc3(\x80",
)

ID_BYTES = 38  # with the tab and the newline

_BEFORE_HISTOGRAMS = b'{"ver":2,"info":{%s,%s,%s},"simpleMeasurements":{"uptime":%d,%s,"savedPings":%d},"histograms":{'
_AFTER_HISTOGRAMS = (
    b'},"slowSQL":{"mainThread":{%s},"otherThreads":{%s}},"addonDetails":{"XPI":{%s}},%s}'
)


def _fresh_id(words: Words) -> bytes:
    high, low = next(words), next(words)
    return b"%08x-%04x-4%03x-a%03x-%04x%08x" % (
        next(words),
        high >> 16,
        high & 0xFFF,
        low & 0xFFF,
        low >> 16,
        next(words),
    )
