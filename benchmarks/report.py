"""Render the figures as tables in Markdown."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.measure import Peak
from benchmarks.workloads import DASKMR, RIVALS, START, WORKLOADS, Verdict

DISTRIBUTIONS = ("daskmr", "dask", "distributed", "isal", "msgspec", "pyspark", "mrjob", "duckdb")
PREFACE = """\
# Benchmarks

Written by `make bench`, which generates the data and can be repeated anywhere: see
`benchmarks/README.md`. All figures are wall times of complete commands, start-up included, medians of
runs in turn; ratios are more comparable between machines than seconds. In a first run, which is not
timed, memory is sampled ten times a second, and the outputs are compared: all contenders with a figure
gave the same lines. For those that gave other lines, failed, ran out of memory or took over ten times as
long as daskmr (30 s at least), the table says so instead.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of one contender: a median of seconds, or why there is none."""

    who: str
    seconds: float | None
    failure: str
    peak: Peak


@dataclass(frozen=True, slots=True)
class Result:
    """The results of a workload; the first row is daskmr's."""

    name: str
    rows: tuple[Row, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def failed(self) -> bool:
        """Whether daskmr itself failed, or gave another output."""
        return bool(self.rows[0].failure)


def detail(result: Result) -> str:
    """Render one workload: the figures of each contender, then the bounds."""
    ours = result.rows[0].seconds
    rows = [_detail_row(row, ours) for row in result.rows]
    head = ("", "s", "daskmr / it", "all memory MB", "largest worker MB", "client MB")
    bounds = [
        (_met(verdict.met), verdict.text, verdict.figures or "-") for verdict in result.verdicts
    ]
    text = f"## {result.name}\n\n{_sentence(WORKLOADS[result.name].text)}\n\n{_table(head, rows)}"
    return f"{text}\n\n{_table(('', 'bound', 'seen'), bounds)}" if bounds else text


def _detail_row(row: Row, ours: float | None) -> tuple[str, ...]:
    who = "daskmr, one tiny file" if row.who == START else RIVALS.get(row.who, row.who)
    if row.seconds is None:
        return who, row.failure, "-", *_memory(row.peak)
    ratio = f"{ours / row.seconds:.2f}" if ours and row.who not in (DASKMR, START) else "-"
    return who, f"{row.seconds:.2f}", ratio, *_memory(row.peak)


def _memory(peak: Peak) -> tuple[str, ...]:
    sizes = (peak.together, peak.worker, peak.client)
    return tuple(f"{size / 1e6:.0f}" if size else "-" for size in sizes)


def _met(met: bool | None) -> str:
    return {True: "met", False: "NOT MET", None: "not judged"}[met]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def summary(results: Sequence[Result]) -> str:
    """Render the ratios of all workloads: time of daskmr over that of each rival."""
    rivals = [rival for rival in RIVALS if any(rival in _by_name(result) for result in results)]
    head = ("daskmr / each", "daskmr s", *(RIVALS[rival] for rival in rivals), "bounds")
    return _table(head, [_summary_row(result, rivals) for result in results])


def _summary_row(result: Result, rivals: Sequence[str]) -> tuple[str, ...]:
    rows = _by_name(result)
    ours = rows[DASKMR]
    cells = [_ratio(ours, rows.get(rival)) for rival in rivals]
    seconds = ours.failure if ours.seconds is None else f"{ours.seconds:.2f}"
    return result.name, seconds, *cells, _all_met(result.verdicts)


def _by_name(result: Result) -> dict[str, Row]:
    return {row.who: row for row in result.rows}


def _ratio(ours: Row, theirs: Row | None) -> str:
    if theirs is None:
        return "-"
    if theirs.seconds is None or ours.seconds is None:
        return theirs.failure or "-"
    return f"{ours.seconds / theirs.seconds:.2f}"


def _all_met(verdicts: Iterable[Verdict]) -> str:
    judged = [verdict.met for verdict in verdicts if verdict.met is not None]
    missed = judged.count(False)
    if not judged:
        return "not judged"
    return f"{missed} of {len(judged)} NOT MET" if missed else f"{len(judged)} met"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Render a table with aligned columns, so that it is readable as plain text too.

    >>> print(_table(("", "s"), [("floor", "1.20")]))
    |       | s    |
    |-------|------|
    | floor | 1.20 |
    """
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rendered = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    ]
    rendered.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    return "\n".join(rendered)


def page(results: Sequence[Result], start: str, settings: str) -> str:
    """Render the page for the documentation."""
    parts = [PREFACE, f"{machine()}\n{settings}", summary(results), start, *map(detail, results)]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def machine() -> str:
    """Describe the machine and the versions of the software."""
    memory = psutil.virtual_memory().total / 2**30
    versions = [f"Python {platform.python_version()}", *map(_version, DISTRIBUTIONS)]
    return (
        f"- {datetime.date.today():%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, {platform.system()} {platform.release()}\n"
        f"- {', '.join(filter(None, versions))}{_java()}"
    )


def _version(name: str) -> str:
    try:
        return f"{name} {importlib.metadata.version(name)}"
    except importlib.metadata.PackageNotFoundError:
        return ""


def _java() -> str:
    try:
        said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f", {said.stderr.splitlines()[0]}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
