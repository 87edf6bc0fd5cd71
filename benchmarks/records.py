"""Compare jobs over JSON lines, CSV and Parquet with the same work in other ways.

JSON lines are compared with keyed records whose values the script parses, CSV and Parquet with a script
written by hand for two processes. Both run in turn; a ratio is the median of those of each round. The CPU
time of all processes is less sensitive to other work on the machine than the wall time.

    python -m benchmarks.records
"""

from __future__ import annotations

import ctypes
import filecmp
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
from dask.utils import parse_bytes
from isal import igzip

from benchmarks.data import make
from benchmarks.workloads import HERE
from daskmr.cli.sample.files import write_sample


@dataclass(frozen=True, slots=True)
class Case:
    """A job over the data of a kind, and the other way to do it, with its own kind of data."""

    job: str
    data: str
    other: str  # a job of daskmr, or a format for ``rivals/zones.py``
    other_data: str
    bound: float | None  # times the other
    text: str


CASES = (
    Case("os_jsonl", "jsonl", "os", "documents", 1.0, "JSON lines / json.loads in the script"),
    Case("os_fields", "jsonl", "os", "documents", 0.4, "one field of them / json.loads"),
    Case("zones_csv", "csv", "csv", "csv", None, "CSV / csv.reader by hand"),
    Case("zones_parquet", "parquet", "parquet", "parquet", 1.5, "Parquet / pyarrow by hand"),
    Case("zones_fields", "parquet", "fields", "parquet", None, "two columns / pyarrow by hand"),
)
Times = tuple[float, float]  # wall and CPU seconds
_BECOME_PARENT = 36  # PR_SET_CHILD_SUBREAPER of Linux: of processes that their parent leaves behind


def data_of(root: Path, kind: str, size: int) -> Path:
    """Return the directory with data of a kind; generate it if it does not exist."""
    if kind == "documents":
        return make(root, kind, size)
    target = root / f"{kind}-{size}"
    if not target.exists():
        part = root / f".{target.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        _WRITERS[kind](root, part, size)
        part.rename(target)
    return target


def _write_jsonl(root: Path, part: Path, size: int) -> None:
    """Write the documents of `make` with their keys as a field."""
    source = make(root, "documents", size)
    for path in sorted(source.rglob("*.gz")):
        to = part / path.relative_to(source).with_suffix(".jsonl.gz")
        to.parent.mkdir(parents=True, exist_ok=True)
        with igzip.open(path) as lines, igzip.IGzipFile(str(to), "wb", 1, mtime=0) as file:
            for line in lines:
                key, _, value = line.partition(b"\t")
                file.write(b'{"id":"%b",%b' % (key, value[1:]))


def _write_csv(root: Path, part: Path, size: int) -> None:
    write_sample(part, size, kind="rides")


def _write_parquet(root: Path, part: Path, size: int) -> None:
    import pyarrow.parquet as pq
    from pyarrow.csv import ParseOptions, read_csv

    source = data_of(root, "csv", size)
    for path in sorted(source.rglob("*.csv")):
        to = part / path.relative_to(source).with_suffix(".parquet")
        to.parent.mkdir(parents=True, exist_ok=True)
        table = read_csv(path, parse_options=ParseOptions(newlines_in_values=True))
        pq.write_table(table, to)


_WRITERS: dict[str, Callable[[Path, Path, int], None]] = {
    "jsonl": _write_jsonl,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _job(job: str, data: Path, output: Path) -> list[str]:
    layout = [] if job.startswith("os") else ["--layout", "flat"]
    script = str(HERE / "jobs" / ("" if job == "os" else "records") / f"{job}.py")
    command = [sys.executable, "-m", "daskmr", "run", script, "-d", str(data), "-o", str(output)]
    return [*command, *layout, "-w", str(output.parent / "work"), "-m", "2", "-q"]


def _timed(command: list[str]) -> Times:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    with suppress(ChildProcessError):
        while True:  # the workers, whose parent has ended
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _compare(case: Case, root: Path, size: int, rounds: int) -> list[tuple[Times, Times]]:
    """Run both in turn, after a first run of each whose outputs are compared."""
    data, other_data = data_of(root, case.data, size), data_of(root, case.other_data, size)
    with tempfile.TemporaryDirectory(prefix="daskmr-bench-", dir=root) as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "theirs")
        command = _job(case.job, data, ours)
        if case.other in ("csv", "parquet", "fields"):
            script = str(HERE / "rivals" / "zones.py")
            other = [sys.executable, script, case.other, str(other_data), str(theirs)]
        else:
            other = _job(case.other, other_data, theirs)
        _timed(command), _timed(other)
        if not filecmp.cmp(ours, theirs, shallow=False):
            raise click.ClickException(f"{case.job}: the outputs differ.")
        return [(_timed(command), _timed(other)) for _ in range(rounds)]


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--size", default="300MB", show_default=True, help="Uncompressed bytes of the data.")
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(min=1))
@click.option("--only", default="", metavar="LIST", help="Jobs, of those in the table.")
@click.option("--data-dir", default=HERE / "data", type=click.Path(path_type=Path))
def main(size: str, rounds: int, only: str, data_dir: Path) -> None:
    data_dir.mkdir(parents=True, exist_ok=True)
    ctypes.CDLL(None).prctl(_BECOME_PARENT, 1, 0, 0, 0)
    is_met = True
    for case in CASES:
        if only and case.job not in only.split(","):
            continue
        pairs = _compare(case, data_dir.resolve(), int(parse_bytes(size)), rounds)
        wall, cpu = (statistics.median(a[n] / b[n] for a, b in pairs) for n in (0, 1))
        seconds = [statistics.median(each[n][0] for each in pairs) for n in (0, 1)]
        verdict = ""
        if case.bound is not None:
            is_met &= wall <= case.bound
            verdict = f"; bound {case.bound}: {'met' if wall <= case.bound else 'NOT MET'}"
        click.echo(
            f"{case.job:14} {case.text:40} {seconds[0]:6.2f} s / {seconds[1]:6.2f} s: wall {wall:.2f}, "
            f"CPU {cpu:.2f}{verdict}"
        )
    sys.exit(not is_met)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.records")
