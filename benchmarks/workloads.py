"""The workloads, the contenders that run them, and the bounds for daskmr."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measure import Peak

HERE = Path(__file__).resolve().parent
LARGE = 300_000_000  # below this, start-up dominates
VERY_LARGE = 1_500_000_000

# By their names on the command line, with those in the tables.
RIVALS = {
    "floor": "floor",
    "dask.bag": "dask.bag",
    "pyspark": "PySpark",
    "mrjob": "mrjob",
    "duckdb": "DuckDB",
}
START = "start"
DASKMR = "daskmr"

Seconds = Mapping[str, float]  # medians; failed contenders are missing


@dataclass(frozen=True, slots=True)
class Bound:
    """A time limit for daskmr: `seconds` of the medians, judged if the data has `size` bytes."""

    text: str
    seconds: Callable[[Seconds], float]
    size: int = LARGE


@dataclass(frozen=True, slots=True)
class Workload:
    """A job, its data and its bounds.

    Attributes
    ----------
    text : str
        The job in a few words.
    data : str
        The kind of data (see `benchmarks.data.make`).
    bounds : tuple of Bound
        In addition to that of all workloads: faster than dask.bag, PySpark and mrjob.
    like : str
        The workload that the rivals run instead, if it is another one.
    memory_limit : str
        Memory of a worker, if that is part of the workload.
    """

    text: str
    data: str
    bounds: tuple[Bound, ...] = ()
    like: str = ""
    memory_limit: str = ""


CLOSE = Bound("start + 0.3 s + 1.15 x floor", lambda s: s[START] + 0.3 + 1.15 * s["floor"])
MANY_KEYS = Bound("start + 1.6 x floor", lambda s: s[START] + 1.6 * s["floor"])

WORKLOADS = {
    "count": Workload("records; one key", "documents", (CLOSE,)),
    "os": Workload(
        "documents for each operating system; JSON, few keys",
        "documents",
        (CLOSE, Bound("1.2 x floor", lambda s: 1.2 * s["floor"], VERY_LARGE)),
    ),
    "os_pluck": Workload(
        "the same with daskmr.pluck, against the others as in os",
        "documents",
        (
            Bound("start + 0.3 x floor", lambda s: s[START] + 0.3 * s["floor"]),
            Bound("1.2 x DuckDB", lambda s: 1.2 * s["duckdb"], VERY_LARGE),
        ),
        like="os",
    ),
    "ids": Workload("records for each id; as many keys as records", "texts", (MANY_KEYS,)),
    "words": Workload(
        "occurrences of each word; 30 pairs a record, with `context.write_each`",
        "texts",
        (MANY_KEYS,),
    ),
    "median": Workload("the median value of each key; no combine", "values", memory_limit="400MB"),
    "hotkey": Workload(
        "a sum for each key, 80 % of the values under one; no combine",
        "values",
        memory_limit="400MB",
    ),
    "maponly": Workload("a line for each document; JSON, no reduce", "documents", (CLOSE,)),
}
SQL = {"count", "os", "ids"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A command that runs a workload; `output` is a file, a folder of files, or its stdout."""

    command: tuple[str, ...]
    output: Path
    to_stdout: bool = False


def installed(rival: str) -> bool:
    """Check whether this Python can run `rival`."""
    if rival == "pyspark" and shutil.which("java") is None:
        return False
    return rival in ("floor", "dask.bag") or importlib.util.find_spec(rival) is not None


def does(rival: str, name: str) -> bool:
    """Check whether `rival` has the workload `name`."""
    return rival != "duckdb" or _script(name) in SQL


def contender(who: str, name: str, data: Path, folder: Path, memory_limit: str) -> Contender:
    """Return how `who` runs the workload `name` over `data`, writing below `folder`."""
    output = folder / "output"
    if who in (DASKMR, START):
        job = HERE / "jobs" / f"{name if who == DASKMR else 'count'}.py"
        command = [sys.executable, "-m", "daskmr", "run", job, "-d", data, "-o", output]
        command += ["-w", folder / "work", "-m", "2", "-q"]
        if who == DASKMR and memory_limit:
            command += ["--memory-limit", memory_limit]
        return Contender(tuple(map(str, command)), output)
    return _rival(who, _script(name), data, output, memory_limit)


def _rival(rival: str, name: str, data: Path, output: Path, memory_limit: str) -> Contender:
    script = "floor.py" if rival == "floor" else f"on_{rival.replace('.', '_')}.py"
    start = [sys.executable, HERE / "rivals" / script]
    if rival == "mrjob":
        options = ["--no-conf", "-r", "local", "--workload", name, data / "*/*/*/*/*.gz"]
        return Contender(tuple(map(str, start + options)), output, to_stdout=True)
    limit = [memory_limit] if memory_limit and rival == "dask.bag" else []
    return Contender(tuple(map(str, [*start, name, data, output, *limit])), output)


def _script(name: str) -> str:
    return WORKLOADS[name].like or name


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bound is met; None if the data is too small to judge it, or the rival is missing."""

    text: str
    met: bool | None
    figures: str = ""


def verdicts(
    name: str, size: int, medians: Seconds, tried: set[str], peak: Peak, limit: int
) -> list[Verdict]:
    """Compare the figures of the workload `name` with its bounds.

    Parameters
    ----------
    size : int
        Uncompressed bytes of the data.
    medians : mapping
        Seconds of each contender that completed it.
    tried : set of str
        All contenders that were run; a rival that did not complete counts as slower.
    peak : Peak
        Memory of daskmr.
    limit : int
        Memory limit of a worker in bytes; 0 when none was given.
    """
    found = [_verdict(bound, size, medians) for bound in WORKLOADS[name].bounds]
    for rival in ("dask.bag", "pyspark", "mrjob"):
        if rival in tried:
            bound = Bound(f"faster than {RIVALS[rival]}", partial(_seconds, rival))
            found.append(_verdict(bound, size, medians))
    if limit:
        found.append(
            _memory_verdict("each worker under 1.25 x its limit", peak.worker, limit * 5 // 4)
        )
        found.append(_memory_verdict("the client under a worker's limit", peak.client, limit))
    return found


def _seconds(rival: str, medians: Seconds) -> float:
    return medians.get(rival, float("inf"))


def _verdict(bound: Bound, size: int, medians: Seconds) -> Verdict:
    try:
        limit = bound.seconds(medians)
        took = medians[DASKMR]
    except KeyError:
        return Verdict(bound.text, None)
    figures = f"{took:.2f} s of {limit:.2f} s" if limit < float("inf") else f"{took:.2f} s"
    return Verdict(bound.text, None if size < bound.size else took <= limit, figures)


def _memory_verdict(text: str, used: int, limit: int) -> Verdict:
    return Verdict(text, used < limit, f"{used / 1e6:.0f} MB of {limit / 1e6:.0f} MB")
