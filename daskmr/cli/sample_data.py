"""Sample data: made-up telemetry documents in the storage layout, the same ones for the same seed.

Everything random comes from SHAKE-128 as 32-bit words and stays in integers, so a seed means the
same documents on every machine and Python. What a document is made of (a probe's histogram, an
add-on, an SQL statement with its durations) is rendered once into pools, and a document joins
pieces drawn from them, which is many times faster than rendering each document anew.
"""

from __future__ import annotations

import bz2
import datetime
import hashlib
import json
import lzma
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, count
from pathlib import Path
from typing import Any, TypeVar

import zstandard
from isal import igzip

from daskmr.errors import InputError, JobError

__all__ = ["SampleSummary", "write_sample"]

T = TypeVar("T")
Words = Iterator[int]
Pool = tuple[bytes, ...]  # renderings of one piece: a document takes one of them
Mix = tuple[tuple[Pool, ...], ...]  # sets of pieces: a document takes one set

CHUNK_BYTES = 256 * 1024
VARIANTS = 64  # renderings in a pool
MIXES = 256  # sets in a mix
RECENT_IDS = 1024
DUPLICATES = 2**32 // 200  # of 2**32: 0.5 %
LAST_DOCUMENT = 4096  # room that any document fits in without its sections


@dataclass(frozen=True, slots=True)
class SampleSummary:
    """What `write_sample` wrote.

    Attributes
    ----------
    files : int
        Files written.
    records : int
        Lines written, the bad ones among them.
    bad_lines : int
        Lines that are bad records.
    bytes : int
        Uncompressed bytes.
    compressed_bytes : int
        Bytes on disk.
    """

    files: int
    records: int
    bad_lines: int
    bytes: int
    compressed_bytes: int


def write_sample(
    directory: str | os.PathLike[str],
    size: int = 20_000_000,
    seed: int = 0,
    extensions: Sequence[str] = ("gz",),
    bad_lines: float = 0.0,
) -> SampleSummary:
    """Write made-up telemetry documents, in the storage layout, into an empty directory.

    A line is ``id TAB json``. The documents and the file names up to the extension depend on
    `size`, `seed` and `bad_lines` alone. About 0.5 % of the documents repeat an earlier id.

    Parameters
    ----------
    directory : path
        Where to write; created when missing.
    size : int
        Uncompressed bytes to write, at least; exceeded by less than one document.
    seed : int
        Another seed gives other documents.
    extensions : sequence of str
        What the files are compressed with, in turn: ``gz``, ``xz``, ``lzma``, ``bz2``, ``zst``,
        or ``log``, ``txt``, ``json``, ``jsonl``, ``tsv`` for plain text.
    bad_lines : float
        Share of lines, from 0.0 to 1.0, that are bad records: in turn without a tab, with
        truncated JSON, empty, and with bytes that are not UTF-8 in broken JSON.

    Raises
    ------
    InputError
        For a parameter out of its range, or a directory that is not empty or not a directory.
    JobError
        When the disk refuses.

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
    records = _Records(size, seed, bad_lines)
    files = _plan(size, seed)
    compressed = 0
    for index, file in enumerate(files):
        extension = extensions[index % len(extensions)]
        path = root / f"{file.stem}.{extension}"
        compressed += _write_file(path, extension, records.chunks(file))
    return SampleSummary(len(files), records.count, records.bad, records.written, compressed)


def _check(size: int, extensions: Sequence[str], bad_lines: float) -> None:
    if size < 1:
        raise InputError(f"The size of the sample must be at least 1 byte, not {size}.")
    if not 0 <= bad_lines <= 1:
        raise InputError(f"The share of bad lines must lie between 0.0 and 1.0; it is {bad_lines}.")
    known = ", ".join(_CODECS)
    if isinstance(extensions, str) or not extensions:
        raise InputError(
            f"The extensions must be a list of at least one of {known}; not {extensions!r}."
        )
    for extension in extensions:
        if extension not in _CODECS:
            raise InputError(
                f"A sample cannot be written with the extension {extension!r}; there are {known}."
            )


def _empty_directory(root: Path) -> Path:
    try:
        root.mkdir(parents=True, exist_ok=True)
        occupied = next(root.iterdir(), None)
    except (FileExistsError, NotADirectoryError):
        raise InputError(
            f"The sample cannot go to {root}: a file is in the way. Name another directory."
        ) from None
    except OSError as error:
        raise JobError(
            f"The directory {root} cannot be used for the sample: {error.strerror or error}."
        ) from error
    if occupied is not None:
        raise InputError(
            f"The directory {root} is not empty (it holds {occupied.name}), and two samples must not mix. "
            "Name another directory, or empty this one."
        )
    return root


# Files


def _open_gzip(raw: Any) -> Any:
    opener: Any = igzip.IGzipFile
    return opener(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0)


def _open_zstd(raw: Any) -> Any:
    return zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False)


_CODECS: dict[str, Callable[[Any], AbstractContextManager[Any]]] = {
    "gz": _open_gzip,
    "xz": partial(lzma.LZMAFile, mode="wb", format=lzma.FORMAT_XZ, preset=0),
    "lzma": partial(lzma.LZMAFile, mode="wb", format=lzma.FORMAT_ALONE, preset=0),
    "bz2": partial(bz2.BZ2File, mode="wb", compresslevel=1),
    "zst": _open_zstd,
    **dict.fromkeys(("log", "txt", "json", "jsonl", "tsv"), nullcontext),
}


def _write_file(path: Path, extension: str, chunks: Iterable[bytes]) -> int:
    """Write `chunks` under a hidden name, then rename: no file is ever half there."""
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(part, "wb") as raw, _CODECS[extension](raw) as stream:
                for chunk in chunks:
                    stream.write(chunk)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        return path.stat().st_size
    except OSError as error:
        raise JobError(
            f"The sample file {path} cannot be written: {error.strerror or error}. The sample is incomplete: "
            "remove its directory, make room or choose another place, and write it again."
        ) from error


@dataclass(frozen=True, slots=True)
class _SampleFile:
    stem: str  # path below the directory, without the extension
    info: bytes  # what all documents of the file have in their info
    app: str
    end: int  # uncompressed bytes of the sample up to the end of this file


def _plan(size: int, seed: int) -> list[_SampleFile]:
    words = _random_words(seed, "plan")
    number = max(1, min(math.isqrt(size) // 110 + size // 12_000_000, size // 40_000))
    # Falls with the square of the rank, from about a tenth of the data down to some 50 kB.
    shares = [10**12 // (rank + 10) ** 2 for rank in range(number)]
    reasons, apps, channels = (
        _allot(table, shares, words) for table in (_REASONS, _APPS, _CHANNELS)
    )
    versions = _allot_versions(channels, shares, words)
    ends = [size * share // sum(shares) for share in accumulate(shares)]
    kinds = zip(reasons, apps, channels, versions, strict=True)
    return [_sample_file(kind, end, words) for kind, end in zip(kinds, ends, strict=True)]


def _allot_versions(channels: Sequence[str], shares: Sequence[int], words: Words) -> list[str]:
    versions = [""] * len(channels)
    for channel, table in _VERSIONS.items():
        indices = [index for index, other in enumerate(channels) if other == channel]
        for index, version in zip(
            indices, _allot(table, [shares[index] for index in indices], words), strict=True
        ):
            versions[index] = version
    return versions


def _allot(weights: Mapping[str, int], shares: Sequence[int], words: Words) -> list[str]:
    """A value for each share, so that each value gets what it weighs.

    Common values get the large shares first.

    >>> _allot({"release": 60, "beta": 40}, [10, 9, 8, 7, 6], iter([0] * 5))
    ['release', 'beta', 'release', 'beta', 'release']
    """
    missing = {
        value: weight * sum(shares) // sum(weights.values()) for value, weight in weights.items()
    }
    values = [""] * len(shares)
    # Not quite by size: in one order for all dimensions their values would go together.
    for index in sorted(
        range(len(shares)), key=lambda index: -shares[index] * (2**32 + next(words))
    ):
        values[index] = max(missing, key=missing.__getitem__)
        missing[values[index]] -= shares[index]
    return values


def _sample_file(kind: tuple[str, str, str, str], end: int, words: Words) -> _SampleFile:
    reason, app, channel, version = kind
    submitted = _FIRST_DAY + datetime.timedelta(days=_below(words, 14))
    first, last = _BUILD_DAYS[channel, version]
    built = min(last, max(first, submitted - datetime.timedelta(days=_below(words, 4))))
    build = f"{built:%Y%m%d}{_BUILD_TIMES[channel]}"
    info = {
        "reason": reason,
        "appName": app,
        "appID": _APP_IDS[app],
        "appVersion": version,
        "appBuildID": build,
        "appUpdateChannel": channel,
        "platformBuildID": build,
        "revision": f"https://hg.example.org/{channel}/rev/{hashlib.shake_128(build.encode()).hexdigest(6)}",
    }
    name = f"{build}.{submitted:%Y%m%d}.v2.log.{_hex(words, 32)}"
    stem = f"{reason.replace('-', '_')}/{app}/{channel}/{version}/{name}"
    return _SampleFile(stem, _members(info), app, end)


# Records


class _Records:
    """The records of one sample, made in order; counts them on the way."""

    def __init__(self, size: int, seed: int, bad_lines: float) -> None:
        self.size = size
        self.count = self.bad = self.written = 0
        self._pieces = _render_pieces(_random_words(seed, "pieces"))
        self._words = _random_words(seed, "documents")
        self._bad_lines = int(bad_lines * 2**32)
        self._recent_ids = [b""] * RECENT_IDS

    def chunks(self, file: _SampleFile) -> Iterator[bytes]:
        """Yield the lines of `file`, many at a time; at least one line."""
        lines: list[bytes] = []
        pending = 0
        while True:
            line = self._line(file)
            lines.append(line)
            pending += len(line)
            self.count += 1
            self.written += len(line)
            if self.written >= file.end:
                break
            if pending >= CHUNK_BYTES:
                yield b"".join(lines)
                lines.clear()
                pending = 0
        yield b"".join(lines)

    def _line(self, file: _SampleFile) -> bytes:
        if next(self._words) >= self._bad_lines:
            return b"%s\t%s\n" % (self._document_id(), self._document(file))
        spoil = _SPOILERS[self.bad % len(_SPOILERS)]
        self.bad += 1
        document = self._document(file)
        key = _fresh_id(self._words)
        cut = 1 + _below(self._words, len(document) - 1)
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
            _pick(words, pieces.machines[file.app]),
            _pick(words, pieces.profiles),
            _log_uniform(words, 14),
            _pick(words, pieces.timelines),
            _log_uniform(words, 4),
        )
        remaining = self.size - self.written
        sections = [b",".join(_draw(words, mix)) for mix in pieces.sections]
        if remaining < 3 * LAST_DOCUMENT:
            sections = [b""] * len(sections)  # so that the last document is not too long
        after = _AFTER_HISTOGRAMS % (*sections, _pick(words, pieces.hangs))
        room = remaining - len(before) - len(after) - ID_BYTES
        histograms = _fit(_draw(words, pieces.histograms), pieces.spare_histograms, room)
        return before + b",".join(histograms) + after


def _fit(histograms: list[bytes], spare: list[bytes], room: int) -> list[bytes]:
    """Leave `histograms` as they are, but in the last document take as many as fill `room` bytes.

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
        room -= LAST_DOCUMENT  # it cannot be the last: leave room for one that can
    starts = accumulate((len(histogram) + 1 for histogram in candidates), initial=0)
    return [histogram for start, histogram in zip(starts, candidates, strict=False) if start < room]


# Each takes an id, a document and a place to cut it. None must give valid JSON after a tab.
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


# Pieces of documents


@dataclass(frozen=True, slots=True)
class _Pieces:
    machines: dict[str, Pool]  # by application
    profiles: Pool
    timelines: Pool
    histograms: Mix
    spare_histograms: list[bytes]  # one of each probe
    sections: tuple[Mix, Mix, Mix]  # slow SQL of the main thread and of the others, add-ons
    hangs: Pool


def _render_pieces(words: Words) -> _Pieces:
    desktops = _pool(_desktop, words, 512)
    histograms = [_histogram_pool(words, *probe.split()) for probe in _PROBES.split("\n")]
    sql = [_pool(partial(_slow_sql, statement), words) for statement in _SQL]
    addons = [_addon_pool(words, *addon.split("|")) for addon in _ADDONS.split("\n")]
    return _Pieces(
        machines={
            "Firefox": desktops,
            "Thunderbird": desktops,
            "Fennec": _pool(_phone, words, 128),
        },
        profiles=_pool(_profile, words, 512),
        timelines=_pool(_timeline, words, 512),
        histograms=_mix(histograms, words, 15, 40, always=10),
        spare_histograms=[pool[0] for pool in histograms],
        sections=(_mix(sql, words, 0, 6), _mix(sql, words, 0, 14), _mix(addons, words, 0, 15)),
        hangs=(_members(_NO_HANGS),) * 28 + _pool(_hangs, words, 4),
    )


def _pool(
    render: Callable[[Words], dict[str, Any]], words: Words, variants: int = VARIANTS
) -> Pool:
    return tuple(_members(render(words)) for _ in range(variants))


def _mix(pools: Sequence[Pool], words: Words, fewest: int, most: int, always: int = 0) -> Mix:
    """Sets of `fewest` to `most` pools, more often few: the first `always`, then rather early ones."""
    sets = []
    spread = most - fewest + 1
    for _ in range(MIXES):
        chosen = sorted(
            range(always, len(pools)), key=lambda index: (next(words) >> 8) * (index + 20)
        )
        size = fewest - always + _below(words, _below(words, spread) + 1)
        sets.append((*pools[:always], *(pools[index] for index in sorted(chosen[:size]))))
    return tuple(sets)


def _desktop(words: Words) -> dict[str, Any]:
    os_name = _pick(words, _weighted(_DESKTOPS))
    adapter, vendor = _pick(words, _ADAPTERS[os_name])
    wide = _below(words, 10) > 3
    return {
        "OS": os_name,
        "version": _pick(words, _weighted(_OS_VERSIONS[os_name])),
        "arch": "x86-64" if wide and os_name != "WINNT" else "x86",
        "cpucount": _pick(words, (1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 12)),
        "memsize": (1 << 9 + _below(words, 6)) - 1 - _below(words, 160),
        "hasMMX": True,
        "hasSSE2": True,
        "hasSSE3": _below(words, 20) > 0,
        "hasSSE4_1": wide,
        "hasARMv7": False,
        "isWow64": wide and os_name == "WINNT",
        "adapterDescription": adapter,
        "adapterVendorID": vendor,
        "adapterDeviceID": f"0x{_hex(words, 4)}",
        "adapterRAM": _pick(words, ("Unknown", "64", "128", "256", "512", "1024", "2048")),
        "adapterDriverVersion": ".".join(str(_below(words, top)) for top in (12, 20, 15, 9000)),
        "D2DEnabled": os_name == "WINNT" and wide,
        "flashVersion": f"11.{5 + _below(words, 5)}.{_below(words, 1000)}.{_below(words, 260)}",
    }


def _phone(words: Words) -> dict[str, Any]:
    return {
        "OS": "Android",
        "version": str(_pick(words, (10, 15, 16, 16, 16, 17, 17, 18))),
        "arch": "armv7l",
        "cpucount": _pick(words, (1, 2, 2, 4, 4)),
        "memsize": 300 + _below(words, 1700),
        "hasMMX": False,
        "hasNEON": _below(words, 8) > 0,
        "hasARMv7": True,
        "adapterDescription": _pick(words, _PHONE_ADAPTERS),
        "device": f"{_pick(words, ('Nimbus', 'Orbit', 'Puck', 'Slate'))} {1 + _below(words, 9)}",
        "manufacturer": _pick(words, ("acme", "globex", "initech")),
        "kernel_version": f"3.{_below(words, 5)}.{_below(words, 60)}-g{_hex(words, 7)}",
    }


def _profile(words: Words) -> dict[str, Any]:
    locale = _pick(words, _weighted(_LOCALES))
    addons = (
        f"ext{_below(words, 400)}%40example.com:{_below(words, 9)}.{_below(words, 20)}"
        for _ in count()
    )
    number = _below(words, 4) * _below(words, 4)
    return {"locale": locale, "addons": ",".join(next(addons) for _ in range(number))}


def _timeline(words: Words) -> dict[str, Any]:
    """Milliseconds from the start of the process, each later than the one before."""
    pace = 1 + _log_uniform(words, 9)
    clock = accumulate(_below(words, pace * share) for share in _TIMELINE.values())
    return {
        **dict(zip(_TIMELINE, clock, strict=True)),
        "startupInterrupted": int(_below(words, 10) == 0),
        "debuggerAttached": 0,
        "js": {"setProto": _below(words, 9), "customIter": _below(words, 40)},
        "addonManager": {"installedUnpacked": _below(words, 6)},
        "shutdownDuration": _log_uniform(words, 12),
        "maximalNumberOfConcurrentThreads": 20 + _below(words, 40),
        "startupSessionRestoreReadBytes": _log_uniform(words, 26),
        "startupSessionRestoreWriteBytes": _log_uniform(words, 20),
    }


def _slow_sql(statement: str, words: Words) -> dict[str, Any]:
    times = 1 + _log_uniform(words, 5)
    return {statement: [times, times * 100 + _log_uniform(words, 12)]}


def _addon_pool(words: Words, key: str, name: str, creator: str) -> Pool:
    """An add-on with its names in UTF-8, and every third time in escapes."""
    pool = []
    for variant in range(VARIANTS):
        details = {
            "location": "app-profile",
            "name": name,
            "creator": creator,
            "startup_MS": _log_uniform(words, 8),
            "unpacked": _below(words, 2),
        }
        pool.append(_members({key: details}, escaped=variant % 3 == 0))
    return tuple(pool)


def _hangs(words: Words) -> dict[str, Any]:
    modules = [
        [name, _hex(words, 32).upper() + "1"] for name in ("xul.pdb", "ntdll.pdb", "user32.pdb")
    ]
    stacks = [
        [[_below(words, 3), _below(words, 10**6)] for _ in range(4 + _below(words, 8))]
        for _ in range(2)
    ]
    hangs = {
        "memoryMap": modules,
        "stacks": stacks,
        "durations": [5 + _below(words, 20) for _ in stacks],
    }
    return {**_NO_HANGS, "chromeHangs": hangs}


# Histograms: the counts of the buckets, then the sum, its two logarithmic sums and the two halves
# of the sum of squares. Which of them a kind does not keep are -1.


def _histogram_pool(words: Words, name: str, kind: str, high: str, buckets: str) -> Pool:
    bounds = _BOUNDS[kind](int(high), int(buckets))
    shape = _SHAPES[kind]
    rendered = (
        _histogram(bounds, shape(len(bounds), words), kind == "exponential")
        for _ in range(VARIANTS)
    )
    return tuple(b'"%s":[%s]' % (name.encode(), values.encode()) for values in rendered)


def _histogram(bounds: Sequence[int], counts: Sequence[int], logarithmic: bool) -> str:
    """Render the array of a histogram.

    >>> _histogram([0, 1, 2], [5, 3, 0], logarithmic=False)
    '5,3,0,3,-1,-1,3,0'
    >>> _histogram([0, 1, 7], [5, 0, 1], logarithmic=True)
    '5,0,1,7,2.079441,4.324074,-1,-1'
    """
    filled = [(bound, number) for bound, number in zip(bounds, counts, strict=True) if number]
    total = sum(bound * number for bound, number in filled)
    if logarithmic:
        logs = [(_log2(bound + 1) * 693147 // 1024, number) for bound, number in filled]
        log_sum = sum(log * number for log, number in logs)
        log_squares = sum(log * log // 10**6 * number for log, number in logs)
        tail = f"{total},{_decimal(log_sum)},{_decimal(log_squares)},-1,-1"
    else:
        squares = sum(bound * bound * number for bound, number in filled)
        tail = f"{total},-1,-1,{squares & 0xFFFFFFFF},{squares >> 32}"
    return f"{','.join(map(str, counts))},{tail}"


def _decimal(millionths: int) -> str:
    return f"{millionths // 10**6}.{millionths % 10**6:06}"


def _log2(value: int) -> int:
    """The logarithm in 1024ths, straight between powers of two.

    >>> _log2(1), _log2(2), _log2(3), _log2(8)
    (0, 1024, 1536, 3072)
    """
    bits = value.bit_length() - 1
    return (bits << 10) + (value << 10 >> bits) - 1024


def _exp2(log: int) -> int:
    """The inverse of `_log2`."""
    return (1024 + (log & 1023) << (log >> 10)) >> 10


def _exponential_bounds(high: int, buckets: int) -> list[int]:
    """Lower bounds that grow by a factor.

    >>> _exponential_bounds(1000, 10)
    [0, 1, 2, 5, 13, 31, 78, 187, 437, 1000]
    """
    bounds = [0]
    for step in range(buckets - 1):
        bounds.append(max(bounds[-1] + 1, _exp2(_log2(high) * step // (buckets - 2))))
    return bounds


def _linear_bounds(high: int, buckets: int) -> list[int]:
    return [high * bucket // (buckets - 1) for bucket in range(buckets)]


def _hill(buckets: int, words: Words) -> list[int]:
    """Counts that fall off to both sides of some bucket, so most of the others are zero."""
    peak = 1 + _below(words, buckets - 1)
    height = 1 + _log_uniform(words, 11)
    width = 1 + _below(words, 3)
    tops = [2 * height >> abs(bucket - peak) * 2 // width for bucket in range(buckets)]
    return [top // 4 + _below(words, top) if top else 0 for top in tops]


def _flag(buckets: int, words: Words) -> list[int]:
    """Yes or no, once: the last bucket is always empty."""
    yes = int(_below(words, 6) == 0)
    return [1 - yes, yes, *[0] * (buckets - 2)]


def _outcomes(buckets: int, words: Words) -> list[int]:
    return [_log_uniform(words, 7), _log_uniform(words, 7), *[0] * (buckets - 2)]


_BOUNDS = {
    "exponential": _exponential_bounds,
    "linear": _linear_bounds,
    "flag": _linear_bounds,
    "boolean": _linear_bounds,
}
_SHAPES = {"exponential": _hill, "linear": _hill, "flag": _flag, "boolean": _outcomes}


# Randomness


def _random_words(seed: int, purpose: str) -> Words:
    """An endless stream of 32-bit words, one of its own for each purpose."""
    keys = (f"daskmr sample {purpose} {seed} {block}".encode() for block in count())
    return chain.from_iterable(
        struct.unpack("<2048I", hashlib.shake_128(key).digest(8192)) for key in keys
    )


def _below(words: Words, limit: int) -> int:
    return next(words) * limit >> 32


def _log_uniform(words: Words, bits: int) -> int:
    """A number of up to `bits` bits, small ones as often as large ones."""
    return next(words) >> 32 - (next(words) * (bits + 1) >> 32)


def _pick(words: Words, values: Sequence[T]) -> T:
    return values[next(words) * len(values) >> 32]


def _draw(words: Words, mix: Mix) -> list[bytes]:
    """One rendering of each pool of one set of `mix`."""
    # The pools come first, so that zip takes no word too many.
    return [
        pool[word * VARIANTS >> 32] for pool, word in zip(_pick(words, mix), words, strict=False)
    ]


def _hex(words: Words, digits: int) -> str:
    return "".join(f"{next(words):08x}" for _ in range(-(-digits // 8)))[:digits]


def _weighted(weights: Mapping[str, int]) -> tuple[str, ...]:
    """Each value as many times as it weighs.

    >>> _weighted({"release": 3, "beta": 1})
    ('release', 'release', 'release', 'beta')
    """
    return tuple(value for value, weight in weights.items() for _ in range(weight))


def _members(members: Mapping[str, Any], escaped: bool = False) -> bytes:
    """The members of a JSON object, without its braces.

    >>> _members({"uptime": 3, "js": {}})
    b'"uptime":3,"js":{}'
    """
    return json.dumps(members, ensure_ascii=escaped, separators=(",", ":"))[1:-1].encode()


# Vocabulary: a weight is the value's share, out of the table's sum.

_REASONS = {"saved-session": 82, "idle-daily": 18}
_APPS = {"Firefox": 82, "Fennec": 14, "Thunderbird": 4}
_CHANNELS = {"release": 50, "beta": 25, "aurora": 10, "nightly": 15}
_APP_IDS = {
    "Firefox": "{ec8030f7-c20a-464f-9b0e-13a3a9e97384}",
    "Fennec": "{aa3c5121-dab2-40e2-81ca-7ea25febc110}",
    "Thunderbird": "{3550f703-e582-4d05-9a08-453d09bdfdc6}",
}
_VERSIONS = {
    "release": {"25.0": 55, "24.0": 27, "23.0.1": 10, "22.0": 5, "17.0": 3},
    "beta": {"26.0": 75, "25.0": 25},
    "aurora": {"27.0a2": 80, "26.0a2": 20},
    "nightly": {"28.0a1": 80, "27.0a1": 15, "26.0a1": 5},
}
_FIRST_DAY = datetime.date(2013, 10, 31)
_BUILD_DAYS = {
    (channel, version): (datetime.date(2013, *first), datetime.date(2013, *last))
    for channel, version, first, last in (
        ("release", "25.0", (10, 25), (10, 25)),
        ("release", "24.0", (9, 10), (9, 10)),
        ("release", "23.0.1", (8, 14), (8, 14)),
        ("release", "22.0", (6, 18), (6, 18)),
        ("release", "17.0", (1, 4), (1, 4)),
        ("beta", "26.0", (10, 29), (11, 8)),
        ("beta", "25.0", (10, 22), (10, 22)),
        ("aurora", "27.0a2", (10, 30), (12, 8)),
        ("aurora", "26.0a2", (10, 28), (10, 28)),
        ("nightly", "28.0a1", (10, 29), (12, 8)),
        ("nightly", "27.0a1", (10, 27), (10, 27)),
        ("nightly", "26.0a1", (9, 16), (9, 16)),
    )
}
_BUILD_TIMES = {"release": "160258", "beta": "150108", "aurora": "004003", "nightly": "030201"}

_DESKTOPS = {"WINNT": 85, "Darwin": 9, "Linux": 6}
_OS_VERSIONS = {
    "WINNT": {"6.1": 57, "5.1": 19, "6.2": 11, "6.3": 8, "6.0": 5},
    "Darwin": {"12.5.0": 50, "13.0.0": 25, "10.8.0": 15, "11.4.2": 10},
    "Linux": {
        "3.11.0-13-generic": 50,
        "3.2.0-55-generic": 30,
        "3.11.6-200.fc19.x86_64": 12,
        "2.6.32-5-686": 8,
    },
}
_ADAPTERS = {
    "WINNT": (
        ("Intel(R) HD Graphics 4000", "0x8086"),
        ("Intel(R) HD Graphics 3000", "0x8086"),
        ("Mobile Intel(R) 4 Series Express Chipset Family", "0x8086"),
        ("NVIDIA GeForce GT 630M", "0x10de"),
        ("NVIDIA GeForce GTX 660", "0x10de"),
        ("AMD Radeon HD 6450", "0x1002"),
        ("ATI Mobility Radeon HD 5470", "0x1002"),
    ),
    "Darwin": (("Intel HD Graphics 4000", "0x8086"), ("NVIDIA GeForce 9400M", "0x10de")),
    "Linux": (
        ("Mesa DRI Intel(R) Ivybridge Desktop", "0x8086"),
        ("Gallium 0.4 on AMD CEDAR", "0x1002"),
    ),
}
_PHONE_ADAPTERS = ("Adreno (TM) 320", "Mali-400 MP", "PowerVR SGX 540", "NVIDIA Tegra 3")
_LOCALES = {
    "en-US": 42, "de": 12, "fr": 8, "es-ES": 7, "ru": 6, "pl": 5, "pt-BR": 5, "ja": 4, "it": 3,
    "zh-CN": 3, "en-GB": 2, "nl": 1, "cs": 1, "hu": 1, "sv-SE": 1, "el": 1, "ar": 1,
}  # fmt: skip

# What comes after what at startup, and how much of the time it takes.
_TIMELINE = {
    "start": 1, "main": 5, "selectProfile": 2, "startupCrashDetectionBegin": 4, "AMI_startup_begin": 1,
    "XPI_startup_begin": 1, "XPI_bootstrap_addons_begin": 4, "XPI_bootstrap_addons_end": 6, "XPI_startup_end": 1,
    "AMI_startup_end": 1, "XPI_finalUIStartup": 3, "sessionRestoreInitialized": 2, "createTopLevelWindow": 2,
    "firstPaint": 12, "firstLoadURI": 6, "delayedStartupStarted": 2, "delayedStartupFinished": 3,
    "sessionRestored": 5, "startupCrashDetectionEnd": 200,
}  # fmt: skip

_NO_HANGS: dict[str, Any] = {
    "chromeHangs": {"memoryMap": [], "stacks": [], "durations": []},
    "lateWrites": {"memoryMap": [], "stacks": []},
    "addonHistograms": {},
}

# Probe, kind, highest bound, number of buckets. The first ten are in every document.
_PROBES = """\
GC_MS exponential 10000 50
CYCLE_COLLECTOR exponential 10000 50
MOZ_SQLITE_COOKIES_READ_MS exponential 3000 10
FX_TAB_SWITCH_TOTAL_MS exponential 1000 20
TELEMETRY_PING exponential 3000 10
TELEMETRY_SUCCESS boolean 2 3
STARTUP_CRASH_DETECTED flag 2 3
A11Y_INSTANTIATED_FLAG flag 2 3
SHUTDOWN_OK boolean 2 3
MEMORY_RESIDENT exponential 1048576 50
GC_MMU_50 linear 100 20
GC_RESET boolean 2 3
GC_NON_INCREMENTAL boolean 2 3
SAFE_MODE_USAGE linear 3 4
MOZ_SQLITE_PLACES_READ_MS exponential 3000 10
MOZ_SQLITE_PLACES_WRITE_MS exponential 3000 10
MOZ_SQLITE_PLACES_SYNC_MS exponential 3000 10
MOZ_SQLITE_COOKIES_WRITE_MS exponential 3000 10
MOZ_SQLITE_COOKIES_OPEN_MS exponential 3000 10
MOZ_SQLITE_OPEN_MS exponential 3000 10
CYCLE_COLLECTOR_NEED_GC boolean 2 3
CYCLE_COLLECTOR_COLLECTED exponential 100000 50
CHECK_ADDONS_MODIFIED_MS exponential 5000 15
FX_PAGE_LOAD_MS exponential 10000 20
FX_TAB_SWITCH_UPDATE_MS exponential 1000 20
FX_SESSION_RESTORE_READ_FILE_MS exponential 3000 10
FX_SESSION_RESTORE_WRITE_FILE_MS exponential 3000 10
FX_SESSION_RESTORE_CORRUPT_FILE boolean 2 3
DNS_LOOKUP_TIME exponential 60000 50
DNS_LOOKUP_METHOD2 linear 16 17
HTTP_PROXY_TYPE linear 8 9
HTTP_TRANSACTION_IS_SSL boolean 2 3
HTTP_PAGELOAD_IS_SSL boolean 2 3
SSL_RESUMED_SESSION boolean 2 3
SSL_HANDSHAKE_VERSION linear 16 17
SPDY_NPN_CONNECT boolean 2 3
FONT_CACHE_HIT boolean 2 3
FIND_PLUGINS exponential 3000 10
SEARCH_SERVICE_INIT_MS exponential 1000 15
BROWSER_IS_USER_DEFAULT boolean 2 3
XUL_CACHE_DISABLED flag 2 3
CHARSET_OVERRIDE_USED flag 2 3
STARTUP_CACHE_INVALID flag 2 3
ENABLE_PRIVILEGE_EVER_CALLED flag 2 3
URLCLASSIFIER_LOOKUP_TIME exponential 500 10
URLCLASSIFIER_PS_CONSTRUCT_TIME exponential 5000 15
URLCLASSIFIER_CL_UPDATE_TIME exponential 5000 15
CACHE_DISK_SEARCH_2 exponential 10000 50
HEALTHREPORT_INIT_MS exponential 20000 15
GHOST_WINDOWS exponential 128 32
WORD_CACHE_HITS_CONTENT exponential 256 30
GC_MARK_MS exponential 10000 50
GC_SWEEP_MS exponential 10000 50
GC_SLICE_MS exponential 10000 50
IMAGE_DECODE_COUNT exponential 500 50
MEMORY_JS_COMPARTMENTS_USER exponential 1000 50
PAGE_FAULTS_HARD exponential 65536 13
GC_REASON_2 linear 100 101
IMAGE_DECODE_TIME exponential 50000 100
TOTAL_CONTENT_PAGE_LOAD_TIME exponential 30000 100"""

_SQL = (
    "COMMIT TRANSACTION /* places.sqlite */",
    "BEGIN DEFERRED TRANSACTION /* healthreport.sqlite */",
    "PRAGMA wal_checkpoint /* cookies.sqlite */",
    "UPDATE moz_places SET frecency = CALCULATE_FRECENCY(id) WHERE frecency < 0 /* places.sqlite */",
    "DELETE FROM moz_cookies WHERE expiry < :now /* cookies.sqlite */",
    "SELECT id FROM moz_hosts WHERE host = :host /* permissions.sqlite */",
    "INSERT OR REPLACE INTO daily_last_numeric VALUES (:field_id, :days, :value) /* healthreport.sqlite */",
    "SELECT COUNT(1) AS logins FROM moz_logins WHERE hostname = :hostname /* signons.sqlite */",
    "SELECT value FROM prefs JOIN settings ON settings.id = prefs.settingID WHERE settings.name = :name"
    " /* content-prefs.sqlite */",
    "SELECT key, value FROM webappsstore2 WHERE scope = :scope ORDER BY key LIMIT -1 OFFSET :offset"
    " /* webappsstore.sqlite */",
    "SELECT h.url, h.title, h.visit_count FROM moz_places h WHERE h.hidden = 0 AND EXISTS (SELECT 1 FROM"
    " moz_historyvisits WHERE place_id = h.id AND visit_date >= :begin) ORDER BY 3 DESC /* places.sqlite */",
    "INSERT INTO moz_formhistory (fieldname, value, timesUsed) VALUES (:fieldname, :value, :timesUsed)"
    " /* formhistory.sqlite */",
    "SELECT * FROM addon WHERE location = :location AND type = :type /* extensions.sqlite */",
    "DELETE FROM daily_counters WHERE day < :days /* healthreport.sqlite */",
    "ANALYZE moz_bookmarks /* places.sqlite */",
)

# Id, name, creator.
_ADDONS = """\
tab-garden@example.com|Tab Garden|Ada Example
blocker@example.org|Quiet Pages|The Quiet Pages team
{6f1c2a58-3b0e-4d7a-9a55-0d5b6f1e2c01}|Download Shelf|Shelf Works
perevodchik@example.ru|Быстрый переводчик|Мастерская примеров
{6f1c2a58-3b0e-4d7a-9a55-0d5b6f1e2c02}|标签页整理|示例工作室
memo@example.jp|メモ帳「ことり」|サンプル製作所
fox@example.com|🦊 Fox Tales 📚|Emoji & Søn
{6f1c2a58-3b0e-4d7a-9a55-0d5b6f1e2c03}|Éditeur de thèmes à la carte|Zoé Exemplaire
woerter@example.de|Wörterbuch für Straße & Größe|Jürgen Muster
notes@example.kr|메모 도우미|예제 공방
{6f1c2a58-3b0e-4d7a-9a55-0d5b6f1e2c04}|Λεξικό παραδειγμάτων|Ελένη Δείγμα
weather@example.net|Weather "Now" \\ Later|Sky/Example
zametki@example.ua|Їжачок і нотатки|Приклад
{6f1c2a58-3b0e-4d7a-9a55-0d5b6f1e2c05}|Proxy Switch|Example Labs
zoom@example.com|Zoom a Page|Max Mustermann
qamus@example.com|قاموس الأمثلة|مثال"""
