"""Compare the time of daskmr with other ways to do the same job, on data that is generated once.

Each workload is run by daskmr, a script written by hand (the floor), dask.bag, and, if they are
installed, PySpark, mrjob and DuckDB; all of them in turn, round after round.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
from dask.utils import parse_bytes

from benchmarks.data import make
from benchmarks.measure import Outcome, Peak, run, run_measured
from benchmarks.report import Result, Row, detail, page, summary
from benchmarks.workloads import (
    DASKMR,
    HERE,
    RIVALS,
    START,
    WORKLOADS,
    Contender,
    contender,
    does,
    installed,
    verdicts,
)

TIMES_LONGER = 10  # than daskmr, after which a rival is stopped
SHORTEST_LIMIT = 30.0  # seconds, so that a slow start does not disqualify a rival
LONGEST_RUN = 3600.0
START_BOUND = 1.6  # times `import distributed`
# Where the workers of Spark and mrjob find the modules beside the rivals' scripts.
ENV = {
    "PYTHONPATH": os.pathsep.join(filter(None, (str(HERE / "rivals"), os.getenv("PYTHONPATH")))),
    "PYTHONDONTWRITEBYTECODE": "",  # a user compiles once, not for each run
}


@dataclass(frozen=True, slots=True)
class Bench:
    """The options of one benchmark run."""

    size: int
    rounds: int
    rivals: tuple[str, ...]
    data: Path
    folder: Path
    memory_limit: str


def _names(known: Sequence[str], context: object, parameter: object, value: str) -> list[str]:
    names = [name for name in value.lower().split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"{', '.join(unknown)}: there are {', '.join(known)}.")
    return names


def _size(context: object, parameter: object, value: str) -> int:
    try:
        size = int(parse_bytes(value))
    except ValueError:
        size = 0
    if size < 1:
        raise click.BadParameter(f"{value!r} is not a size, as '300MB' is.")
    return size


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--size",
    default="300MB",
    show_default=True,
    callback=_size,
    help="Uncompressed bytes of the data; median and hotkey use seven times as much.",
)
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option(
    "--only",
    default=",".join(WORKLOADS),
    callback=partial(_names, list(WORKLOADS)),
    metavar="LIST",
    help=f"Workloads, of {','.join(WORKLOADS)}.",
)
@click.option(
    "--rivals",
    default=",".join(RIVALS),
    callback=partial(_names, list(RIVALS)),
    metavar="LIST",
    help=f"Of {','.join(RIVALS)}; those that are not installed are skipped.",
)
@click.option(
    "--memory-limit",
    default="",
    metavar="SIZE",
    help="Memory of a worker of daskmr and dask.bag.  [default: 400MB for median and hotkey]",
)
@click.option(
    "--write-docs",
    is_flag=False,
    flag_value=str(HERE.parent / "docs" / "benchmarks.md"),
    metavar="[FILE]",
    help="Write the figures to docs/benchmarks.md, or FILE.",
)
@click.option(
    "--data-dir",
    default=HERE / "data",
    type=click.Path(path_type=Path),
    help="Folder of the data.  [default: benchmarks/data]",
)
def main(
    size: int,
    rounds: int,
    only: list[str],
    rivals: list[str],
    memory_limit: str,
    write_docs: str | None,
    data_dir: Path,
) -> None:
    found = tuple(rival for rival in rivals if installed(rival))
    for rival in rivals:
        if rival not in found:
            click.echo(f"{RIVALS[rival]} is not installed: skipped.", err=True)
    with tempfile.TemporaryDirectory(prefix="daskmr-bench-", dir=_folder(data_dir)) as folder:
        bench = Bench(size, rounds, found, data_dir.resolve(), Path(folder), memory_limit)
        start = _start_up(bench)
        click.echo(f"{start}\n")
        results = list(_results(bench, only))
    click.echo(summary(results))
    if write_docs:
        settings = f"- {size / 1e6:,.0f} MB of data, {rounds} rounds, two processes or threads"
        Path(write_docs).write_text(page(results, start, settings), "utf-8")
    sys.exit(any(result.failed for result in results))


def _folder(data_dir: Path) -> Path:
    data_dir.mkdir(parents=True, exist_ok=True)
    return data_dir.resolve()


def _start_up(bench: Bench) -> str:
    """Compare the time of a job over one tiny file with that of importing distributed alone."""
    contenders = {
        START: contender(START, "count", make(bench.data, "tiny", 1), bench.folder, ""),
        "import": Contender((sys.executable, "-c", "import distributed"), bench.folder / "output"),
    }
    times = _rounds(bench, contenders, dict.fromkeys(contenders, LONGEST_RUN))
    start, imported = (_median(who, seconds) for who, seconds in times.items())
    ratio = start / imported
    return (
        "## start-up\n\n"
        f"A job over one tiny file, complete command: {start:.2f} s, {ratio:.2f} times "
        f'`python -c "import distributed"` ({imported:.2f} s); '
        f"bound {START_BOUND}: {'met' if ratio <= START_BOUND else 'NOT MET'}."
    )


def _median(who: str, seconds: list[float] | str) -> float:
    if isinstance(seconds, str):
        raise click.ClickException(f"{who}: {seconds}")
    return statistics.median(seconds)


def _results(bench: Bench, names: Sequence[str]) -> Iterator[Result]:
    for name in names:
        result = _result(bench, name)
        click.echo(f"{detail(result)}\n")
        yield result


def _result(bench: Bench, name: str) -> Result:
    workload = WORKLOADS[name]
    limit = bench.memory_limit or workload.memory_limit
    tiny, data = make(bench.data, "tiny", 1), make(bench.data, workload.data, bench.size)
    contenders = {
        who: contender(who, name, tiny if who == START else data, bench.folder, limit)
        for who in (DASKMR, START, *(rival for rival in bench.rivals if does(rival, name)))
    }
    tried = _compared(_first_runs(bench, contenders))
    limits = {who: LONGEST_RUN if who in (DASKMR, START) else tried[DASKMR].limit for who in tried}
    able = {who: contenders[who] for who, first in tried.items() if not first.failure}
    times = _rounds(bench, able, limits)
    rows = tuple(_row(who, first, times.get(who, ())) for who, first in tried.items())
    medians = {row.who: row.seconds for row in rows if row.seconds is not None}
    size = int(parse_bytes(limit)) if limit else 0
    found = verdicts(name, bench.size, medians, set(tried), rows[0].peak, size)
    return Result(name, rows, tuple(found))


def _row(who: str, first: First, times: Sequence[float] | str) -> Row:
    if isinstance(times, str) or not times:
        return Row(who, None, first.failure or str(times), first.peak)
    return Row(who, statistics.median(times), "", first.peak)


# The first run of each is not timed; its memory is sampled and its output compared.


@dataclass(frozen=True, slots=True)
class First:
    """The result of a first run; `limit` is the seconds that a contender compared with it may take."""

    failure: str
    peak: Peak
    digest: str
    limit: float


def _first_runs(bench: Bench, contenders: Mapping[str, Contender]) -> dict[str, First]:
    found: dict[str, First] = {}
    for who, each in contenders.items():
        known = found.get(DASKMR)
        limit = known.limit if known and not known.failure and who != START else LONGEST_RUN
        outcome, peak = run_measured(each.command, bench.folder, limit, _stdout(each), ENV)
        if outcome.failure:
            click.echo(f"{who}: {outcome.failure}\n{outcome.stderr}", err=True)
        digest = "" if outcome.failure else _digest(each.output)
        longest = max(SHORTEST_LIMIT, TIMES_LONGER * outcome.seconds)
        found[who] = First(outcome.failure, peak, digest, longest)
        _clear(bench)
    return found


def _compared(found: Mapping[str, First]) -> dict[str, First]:
    """Fail contenders whose output differs from the floor's, or from daskmr's if there is no floor."""
    digests = (found[who].digest for who in ("floor", DASKMR) if who in found)
    expected = next(filter(None, digests), "")
    return {
        who: first
        if first.failure or who == START or first.digest == expected
        else replace(first, failure="another output")
        for who, first in found.items()
    }


def _digest(output: Path) -> str:
    """Digest the lines of a file, or of all files of a folder, regardless of their order."""
    paths = [output] if output.is_file() else sorted(output.glob("[!._]*"))
    lines = total = 0
    for path in paths:
        with open(path, "rb") as file:
            for line in file:
                digest = hashlib.blake2b(line.rstrip(b"\n"), digest_size=16).digest()
                total += int.from_bytes(digest, "big")
                lines += 1
    return f"{lines}-{total % 2**128:x}"


# The rounds are timed, one contender after the other.


def _rounds(
    bench: Bench, contenders: Mapping[str, Contender], limits: Mapping[str, float]
) -> dict[str, list[float] | str]:
    """Run all in turn; return the seconds of each, or the reason that it failed."""
    found: dict[str, list[float] | str] = {who: [] for who in contenders}
    for _ in range(bench.rounds):
        for who, each in contenders.items():
            times = found[who]
            if isinstance(times, str):
                continue
            outcome = _once(bench, each, limits[who])
            if outcome.failure:
                click.echo(f"{who}: {outcome.failure}\n{outcome.stderr}", err=True)
                found[who] = outcome.failure
            else:
                times.append(outcome.seconds)
    return found


def _once(bench: Bench, each: Contender, limit: float) -> Outcome:
    outcome = run(each.command, bench.folder, limit, _stdout(each), ENV)
    _clear(bench)
    return outcome


def _stdout(each: Contender) -> Path | None:
    return each.output if each.to_stdout else None


def _clear(bench: Bench) -> None:
    for path in bench.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
