"""Measure how far fetching and mapping overlap: network alone, CPU alone, and both in one job.

The store is a program on this machine that answers each request after a delay, and uses little CPU
itself. The map function computes in Python; `--share` is the ratio of its time per file to the network's.
With a share of 1 the most time is lost if the two do not overlap. On a machine with fewer cores than
mappers, helper processes and the store together, they take time from each other.
"""

from __future__ import annotations

import gzip
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.measure import run
from benchmarks.quick_store import QuickStore

ROOT = Path(__file__).resolve().parent.parent
BOUND = 1.2  # times the longer of the two alone
LONGEST_RUN = 600.0
BUCKET = "overlap"
JOB = """
def map(key, dims, value, context):
    total = 0
    for number in range({rounds}):
        total += number & 7
    context.write(key, total)

def reduce(key, values, context):
    context.write(key, sum(values))
"""
_TRIAL = 1_000_000  # rounds of the loop to time


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--share", default=2.0, show_default=True, help="CPU time of map, relative to the network's."
)
@click.option("--objects", default=800, show_default=True, type=click.IntRange(min=8))
@click.option(
    "--size", default=8000, show_default=True, type=click.IntRange(min=100), help="Bytes."
)
@click.option("--latency", default=0.05, show_default=True, help="Seconds.")
@click.option("--mappers", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
def main(share: float, objects: int, size: int, latency: float, mappers: int, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Path(folder), objects, size, mappers, share)
        bench.make()
        with QuickStore(bench.stored, latency) as store:
            bench.environment = {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_ENDPOINT_URL": store.url,
                "AWS_EC2_METADATA_DISABLED": "true",
                "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.getenv("PYTHONPATH")))),
            }
            met = bench.report(rounds)
    sys.exit(not met)


class _Bench:
    """One set of files, on disk and in the store, and the jobs over it."""

    def __init__(self, folder: Path, objects: int, size: int, mappers: int, share: float) -> None:
        self.share = share
        self.folder = folder
        self.stored = folder / "store"
        self.objects = objects
        self.size = size
        self.mappers = mappers
        self.environment: dict[str, str] = {}
        self._runs = 0

    def make(self) -> None:
        """Write the files, with one record each."""
        below = self.stored / BUCKET / "idle_daily/Firefox/beta/24.0"
        below.mkdir(parents=True)
        for number in range(self.objects):
            made = gzip.compress(b"key\t" + random.randbytes(self.size).hex().encode() + b"\n", 1)
            (below / f"20131101.20131102.v2.{number:06d}.log.gz").write_bytes(made)
        (self.folder / "data").symlink_to(self.stored / BUCKET)

    def report(self, rounds: int) -> bool:
        """Run all three in turn, and print how long they took."""
        idle = self._script("idle", 0)
        network = self._seconds(idle, ["-b", BUCKET])
        # Balance the work on files, without the start-up that all three have.
        start = self._seconds(idle, ["-d", "data"])
        each = self.share * max(0.001, network - start) * self.mappers / self.objects
        busy = self._script("busy", round(each / _seconds_a_round()))
        ways = {
            "network alone": (idle, ["-b", BUCKET]),
            "CPU alone": (busy, ["-d", "data"]),
            "both": (busy, ["-b", BUCKET]),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds):
            for way, (script, source) in ways.items():
                seconds[way].append(self._seconds(script, source))
        medians = {way: statistics.median(times) for way, times in seconds.items()}
        for way, median in medians.items():
            click.echo(f"{way:14} {median:6.2f} s")
        ratio = medians["both"] / max(medians["network alone"], medians["CPU alone"])
        click.echo(f"{'ratio':14} {ratio:6.2f}, to be below {BOUND}")
        return ratio < BOUND

    def _script(self, name: str, rounds: int) -> str:
        (self.folder / f"{name}.py").write_text(JOB.format(rounds=rounds))
        return f"{name}.py"

    def _seconds(self, script: str, source: list[str]) -> float:
        self._runs += 1  # a new work dir, so that the cache is empty
        command = [
            *(sys.executable, "-m", "daskmr", "run", script, *source),
            *("-w", f"work-{self._runs}", "-o", "output", "-m", str(self.mappers), "-q"),
        ]
        outcome = run(command, self.folder, LONGEST_RUN, env=self.environment)
        if outcome.failure:
            raise click.ClickException(f"{script}: {outcome.failure}\n{outcome.stderr}")
        return outcome.seconds


def _seconds_a_round() -> float:
    """Time the loop of the map function."""
    names: dict[str, object] = {}
    exec(JOB.format(rounds=_TRIAL), names)  # compiled as in the job
    started = time.perf_counter()
    names["map"]("", [], "", _Nothing())  # type: ignore[operator]
    return (time.perf_counter() - started) / _TRIAL


class _Nothing:
    def write(self, key: object, value: object) -> None:
        """Ignore a pair."""


if __name__ == "__main__":
    main()
