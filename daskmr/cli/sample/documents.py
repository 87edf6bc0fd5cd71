"""Sample data of the kind `documents`: telemetry documents, in the packaged layout.

Documents are joined from pieces that are rendered once and drawn at random: the histogram of a
probe, an add-on, or an SQL statement with its durations. Joining rendered pieces is many times
faster than rendering each document.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from itertools import accumulate
from typing import Any

from daskmr.cli.sample.draws import (
    Words,
    below,
    hexadecimal,
    log_uniform,
    pick,
    random_words,
    weighted,
)
from daskmr.cli.sample.kind import Kind, Record, SampleFile

__all__ = ["KIND", "TABLES", "Pieces", "draw", "members", "render_pieces"]

Pool = tuple[bytes, ...]
"""Renderings of one piece, of which a document uses one."""
Mix = tuple[tuple[Pool, ...], ...]
"""Sets of pieces, of which a document uses one."""

VARIANTS = 64  # renderings in a pool
MIXES = 256  # sets in a mix
RECENT_IDS = 1024
DUPLICATES = 2**32 // 200  # 0.5% of 2**32
LAST_DOCUMENT = 4096  # enough bytes for any document without its sections

_FIRST_DAY = datetime.date(2013, 10, 31)

TABLES: dict[str, Any] = json.loads(
    resources.files("daskmr").joinpath("sample_data.json").read_bytes()
)
"""The vocabulary. Weights are relative to the sum of their table. A probe has a name, a kind, the
highest bound and the number of buckets; the first ten are in every document. The timeline lists the
steps at startup in order, with the share of time that each takes."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pools and mixes of rendered pieces."""

    machines: dict[str, Pool]  # by application
    profiles: Pool
    timelines: Pool
    histograms: Mix
    spare_histograms: list[bytes]  # one for each probe
    sections: tuple[Mix, Mix, Mix]  # slow SQL of the main thread, of other threads, and add-ons
    hangs: Pool


def render_pieces(words: Words) -> Pieces:
    """Render all pieces."""
    desktops = _pool(_desktop, words, 512)
    histograms = [_histogram_pool(words, *probe) for probe in TABLES["probes"]]
    sql = [_pool(partial(_slow_sql, statement), words) for statement in TABLES["sql"]]
    addons = [_addon_pool(words, *addon) for addon in TABLES["addons"]]
    return Pieces(
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
        hangs=(members(TABLES["no_hangs"]),) * 28 + _pool(_hangs, words, 4),
    )


def _pool(
    render: Callable[[Words], dict[str, Any]], words: Words, variants: int = VARIANTS
) -> Pool:
    return tuple(members(render(words)) for _ in range(variants))


def _mix(pools: Sequence[Pool], words: Words, fewest: int, most: int, always: int = 0) -> Mix:
    """Draw sets of `fewest` to `most` pools: the first `always`, and others, preferring early ones."""
    sets, spread = [], most - fewest + 1
    for _ in range(MIXES):
        ranks = {index: (next(words) >> 8) * (index + 20) for index in range(always, len(pools))}
        chosen = sorted(ranks, key=ranks.__getitem__)
        size = fewest - always + below(words, below(words, spread) + 1)
        sets.append((*pools[:always], *(pools[index] for index in sorted(chosen[:size]))))
    return tuple(sets)


def _desktop(words: Words) -> dict[str, Any]:
    os_name = pick(words, weighted(TABLES["desktops"]))
    adapter, vendor = pick(words, TABLES["adapters"][os_name])
    wide = below(words, 10) > 3
    return {
        "OS": os_name,
        "version": pick(words, weighted(TABLES["os_versions"][os_name])),
        "arch": "x86-64" if wide and os_name != "WINNT" else "x86",
        "cpucount": pick(words, (1, 2, 2, 2, 2, 4, 4, 4, 8, 8, 12)),
        "memsize": (1 << 9 + below(words, 6)) - 1 - below(words, 160),
        "hasMMX": True,
        "hasSSE2": True,
        "hasSSE3": below(words, 20) > 0,
        "hasSSE4_1": wide,
        "hasARMv7": False,
        "isWow64": wide and os_name == "WINNT",
        "adapterDescription": adapter,
        "adapterVendorID": vendor,
        "adapterDeviceID": f"0x{hexadecimal(words, 4)}",
        "adapterRAM": pick(words, ("Unknown", "64", "128", "256", "512", "1024", "2048")),
        "adapterDriverVersion": ".".join(str(below(words, top)) for top in (12, 20, 15, 9000)),
        "D2DEnabled": os_name == "WINNT" and wide,
        "flashVersion": f"11.{5 + below(words, 5)}.{below(words, 1000)}.{below(words, 260)}",
    }


def _phone(words: Words) -> dict[str, Any]:
    return {
        "OS": "Android",
        "version": str(pick(words, (10, 15, 16, 16, 16, 17, 17, 18))),
        "arch": "armv7l",
        "cpucount": pick(words, (1, 2, 2, 4, 4)),
        "memsize": 300 + below(words, 1700),
        "hasMMX": False,
        "hasNEON": below(words, 8) > 0,
        "hasARMv7": True,
        "adapterDescription": pick(words, TABLES["phone_adapters"]),
        "device": f"{pick(words, ('Nimbus', 'Orbit', 'Puck', 'Slate'))} {1 + below(words, 9)}",
        "manufacturer": pick(words, ("acme", "globex", "initech")),
        "kernel_version": f"3.{below(words, 5)}.{below(words, 60)}-g{hexadecimal(words, 7)}",
    }


def _profile(words: Words) -> dict[str, Any]:
    locale = pick(words, weighted(TABLES["locales"]))
    addons = (
        f"ext{below(words, 400)}%40example.com:{below(words, 9)}.{below(words, 20)}"
        for _ in range(below(words, 4) * below(words, 4))
    )
    return {"locale": locale, "addons": ",".join(addons)}


def _timeline(words: Words) -> dict[str, Any]:
    """Generate the times of startup, in increasing milliseconds since the start of the process."""
    pace = 1 + log_uniform(words, 9)
    clock = accumulate(below(words, pace * share) for share in TABLES["timeline"].values())
    return {
        **dict(zip(TABLES["timeline"], clock, strict=True)),
        "startupInterrupted": int(below(words, 10) == 0),
        "debuggerAttached": 0,
        "js": {"setProto": below(words, 9), "customIter": below(words, 40)},
        "addonManager": {"installedUnpacked": below(words, 6)},
        "shutdownDuration": log_uniform(words, 12),
        "maximalNumberOfConcurrentThreads": 20 + below(words, 40),
        "startupSessionRestoreReadBytes": log_uniform(words, 26),
        "startupSessionRestoreWriteBytes": log_uniform(words, 20),
    }


def _slow_sql(statement: str, words: Words) -> dict[str, Any]:
    times = 1 + log_uniform(words, 5)
    return {statement: [times, times * 100 + log_uniform(words, 12)]}


def _addon_pool(words: Words, key: str, name: str, creator: str) -> Pool:
    """Render an add-on with its names in UTF-8 or, every third time, as escapes."""
    about = {"location": "app-profile", "name": name, "creator": creator}
    return tuple(
        members(
            {key: {**about, "startup_MS": log_uniform(words, 8), "unpacked": below(words, 2)}},
            escaped=variant % 3 == 0,
        )
        for variant in range(VARIANTS)
    )


def _hangs(words: Words) -> dict[str, Any]:
    libraries = ("xul.pdb", "ntdll.pdb", "user32.pdb")
    hangs = {
        "memoryMap": [[name, hexadecimal(words, 32).upper() + "1"] for name in libraries],
        "stacks": [
            [[below(words, 3), below(words, 10**6)] for _ in range(4 + below(words, 8))]
            for _ in range(2)
        ],
        "durations": [5 + below(words, 20) for _ in range(2)],
    }
    return {**TABLES["no_hangs"], "chromeHangs": hangs}


# --- histograms -----------------------------------------------------------------------------------
# The array has the counts of the buckets, the sum, two logarithmic sums, and the two halves of the
# sum of squares; -1 stands for a sum that a kind does not have.


def _histogram_pool(words: Words, name: str, kind: str, high: int, buckets: int) -> Pool:
    is_exponential = kind == "exponential"
    bounds = (_exponential_bounds if is_exponential else _linear_bounds)(high, buckets)
    counts = (_SHAPES[kind](len(bounds), words) for _ in range(VARIANTS))
    rendered = (_histogram(bounds, each, is_exponential) for each in counts)
    return tuple(f'"{name}":[{values}]'.encode() for values in rendered)


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
    """Return the logarithm in 1024ths, linear between powers of two.

    >>> _log2(1), _log2(2), _log2(3), _log2(8)
    (0, 1024, 1536, 3072)
    """
    bits = value.bit_length() - 1
    return (bits << 10) + (value << 10 >> bits) - 1024


def _exp2(log: int) -> int:
    """Return the inverse of `_log2`."""
    return (1024 + (log & 1023) << (log >> 10)) >> 10


def _exponential_bounds(high: int, buckets: int) -> list[int]:
    """Return lower bounds that grow exponentially.

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
    """Draw counts that decrease on both sides of one bucket, so that most of the others are zero."""
    peak = 1 + below(words, buckets - 1)
    height = 1 + log_uniform(words, 11)
    width = 1 + below(words, 3)
    tops = [2 * height >> abs(bucket - peak) * 2 // width for bucket in range(buckets)]
    return [top // 4 + below(words, top) if top else 0 for top in tops]


def _flag(buckets: int, words: Words) -> list[int]:
    """Draw a single yes or no; the remaining buckets are empty."""
    yes = int(below(words, 6) == 0)
    return [1 - yes, yes, *[0] * (buckets - 2)]


def _outcomes(buckets: int, words: Words) -> list[int]:
    return [log_uniform(words, 7), log_uniform(words, 7), *[0] * (buckets - 2)]


_SHAPES = {"exponential": _hill, "linear": _hill, "flag": _flag, "boolean": _outcomes}


def draw(words: Words, mix: Mix) -> list[bytes]:
    """Draw one set of `mix`, and one rendering from each of its pools."""
    return [pick(words, pool) for pool in pick(words, mix)]


def members(members: Mapping[str, Any], escaped: bool = False) -> bytes:
    """Return the members of a JSON object, without its braces.

    >>> members({"uptime": 3, "js": {}})
    b'"uptime":3,"js":{}'
    """
    return json.dumps(members, ensure_ascii=escaped, separators=(",", ":"))[1:-1].encode()


# --- files ----------------------------------------------------------------------------------------


def _files(size: int, seed: int, bad_lines: float) -> Iterator[SampleFile]:
    """Generate the files. About 0.5% of the documents repeat an earlier id.

    Bad lines are in turn without a tab, with truncated JSON, empty, and with broken JSON that is
    not valid UTF-8.
    """
    records = _Records(size, seed, bad_lines)
    for file in _plan(size, seed):
        yield SampleFile(file.stem, records.of(file))


@dataclass(frozen=True, slots=True)
class _File:
    stem: str  # path below the directory, without the extension
    info: bytes  # the part of the info that all documents of the file share
    app: str
    end: int  # uncompressed bytes of the sample up to the end of this file


def _plan(size: int, seed: int) -> list[_File]:
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
    return [_file(kind, end, words) for kind, end in zip(kinds, ends, strict=True)]


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


def _file(kind: tuple[str, str, str, str], end: int, words: Words) -> _File:
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
    return _File(stem, members(info), app, end)


# --- records --------------------------------------------------------------------------------------


class _Records:
    """A generator of the records of a sample, in order."""

    def __init__(self, size: int, seed: int, bad_lines: float) -> None:
        self.size = size
        self.bad = self.written = 0
        self._pieces = render_pieces(random_words(seed, "pieces"))
        self._words = random_words(seed, "documents")
        self._bad_lines = int(bad_lines * 2**32)
        self._recent_ids = [b""] * RECENT_IDS

    def of(self, file: _File) -> Iterator[Record]:
        """Yield the records of `file`; there is at least one."""
        is_complete = False
        while not is_complete:
            record = self._record(file)
            self.written += len(record[0])
            is_complete = self.written >= file.end
            yield record

    def _record(self, file: _File) -> Record:
        if next(self._words) >= self._bad_lines:
            return b"%s\t%s\n" % (self._document_id(), self._document(file)), False
        spoil = _SPOILERS[self.bad % len(_SPOILERS)]
        self.bad += 1
        document = self._document(file)
        key = _fresh_id(self._words)
        cut = 1 + below(self._words, len(document) - 1)
        return spoil(key, document, cut) + b"\n", True

    def _document_id(self) -> bytes:
        slot = next(self._words) >> 22
        if next(self._words) >= DUPLICATES or not self._recent_ids[slot]:
            self._recent_ids[slot] = _fresh_id(self._words)
        return self._recent_ids[slot]

    def _document(self, file: _File) -> bytes:
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


KIND = Kind("documents", _files, "gz", ("log", "txt", "json", "jsonl", "tsv"))
