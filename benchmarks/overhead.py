"""Measure the overhead per partition: a job over tiny files against an empty ``bag.map``.

Both run in turn with the same number of partitions on the same two workers; the figures are medians of
complete calls, from the listing to the committed output.

    python -m benchmarks.overhead
"""

from __future__ import annotations

import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import dask.bag as db
from distributed import Client, LocalCluster

from daskmr import Job, mapreduce

BOUND = 1.5
WORKERS = 2


def count(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, 1)


def add(key: str, values: list[int], context: Any) -> None:
    context.write(key, sum(values))


def nothing(element: int) -> int:
    return element


def _write_files(folder: Path, files: int) -> Path:
    """Write files of one line each, in the layout."""
    below = folder / "data" / "idle" / "Firefox" / "nightly" / "30.0a1"
    below.mkdir(parents=True)
    for number in range(files):
        name = f"20140301.20140302.v2.log.{number:032x}.gz"
        (below / name).write_bytes(gzip.compress(f"k{number % 10}\t1\n".encode(), 1))
    return folder / "data"


def _empty(client: Client, partitions: int) -> float:
    started = time.perf_counter()
    bag = db.from_sequence(range(partitions), npartitions=partitions).map(nothing)
    assert len(client.compute(bag).result()) == partitions
    return time.perf_counter() - started


def _job(client: Client, data: Path, files: int, folder: Path) -> float:
    started = time.perf_counter()
    result = mapreduce(
        Job(map=count, combine=add, reduce=add),
        data_dir=data,
        output=folder / "output",
        client=client,
        work_dir=folder / "work",
        partition_bytes=1024,  # each file becomes a partition
    )
    seconds = time.perf_counter() - started
    assert (result.files, result.key_count) == (files, 10)
    return seconds


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--partitions", default=4000, show_default=True, type=click.IntRange(1, 4096))
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(min=1))
def main(partitions: int, rounds: int) -> None:
    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=None)
    with tempfile.TemporaryDirectory() as name, cluster, Client(cluster) as client:
        folder = Path(name)
        data = _write_files(folder, partitions)
        _empty(client, 100)  # imports what both need
        _job(client, data, partitions, folder)
        times = [
            (_empty(client, partitions), _job(client, data, partitions, folder))
            for _ in range(rounds)
        ]
    empty, job = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = job / empty
    click.echo(
        f"{partitions:,} partitions on {WORKERS} workers: an empty bag.map {empty:.1f} s, a job "
        f"{job:.1f} s, {ratio:.2f} times as long; bound {BOUND}: "
        f"{'met' if ratio <= BOUND else 'NOT MET'}."
    )
    sys.exit(ratio > BOUND)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.overhead")
