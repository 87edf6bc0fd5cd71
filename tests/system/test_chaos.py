"""Workers are lost at random moments, and neither output nor counters show it.

``pytest -m slow -s tests/system/test_chaos.py`` prints a table. The seed of a run tells all that chance
decides in it, but not when the machine does what.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import write_tree

from daskmr.run.mapreduce import mapreduce
from daskmr.run.result import Result

RUNS = 25  # on each kind of cluster
FILES = 48

# Sums of floats show any change in the order or the grouping; and some of it spills.
SCRIPT = """
import os, time
LOG = {log!r}
def map(key, dims, value, context):
    context.counter("map", "records")
    if key == "first":
        with open(LOG, "a") as log:
            log.write(value + "\\n")
        time.sleep(0.03)
        return
    context.write(key, float(value))
    context.write("all", float(value))
def combine(key, values, context):
    context.write(key, sum(values))
def reduce(key, values, context):
    time.sleep(0.002)
    context.counter("reduce", "keys")
    context.write(key, sum(values))
"""


@dataclass
class Chaos:
    """Runs of one job, in which workers are lost."""

    folder: Path
    options: dict[str, Any]
    pids: Callable[[], list[int]]
    quiet: bytes = b""
    seconds: float = 0.0
    kills: int = 0
    stops: int = 0
    again: int = 0
    wrong: list[int] = field(default_factory=list)

    def run(self) -> tuple[bytes, Result]:
        log = self.folder / "log"
        log.write_text("")
        (self.folder / "job.py").write_text(SCRIPT.format(log=str(log)))
        result = mapreduce(
            self.folder / "job.py",
            data_dir=self.folder / "data",
            output=self.folder / "out.txt",
            work_dir=self.folder / "work",
            spill_bytes=60_000,
            num_reducers=5,
            stopped_timeout=1,
            **self.options,
        )
        self.again += len(log.read_text().splitlines()) - FILES
        return (self.folder / "out.txt").read_bytes(), result

    def begin(self) -> None:
        """Run it quietly, to compare with."""
        self.run()
        started = time.monotonic()
        self.quiet, _ = self.run()
        self.seconds = time.monotonic() - started
        self.again = 0

    def run_with(self, seed: int) -> None:
        chance = random.Random(seed)
        moment = chance.uniform(0.0, self.seconds)
        how = chance.choice((signal.SIGKILL,) * 4 + (signal.SIGSTOP,))
        count = chance.choice((1, 1, 2))
        over = threading.Event()

        def strike() -> None:
            if over.wait(moment):
                return
            pids = self.pids()
            for pid in chance.sample(pids, min(count, len(pids))):
                try:
                    os.kill(pid, how)
                except ProcessLookupError:
                    continue
                if how == signal.SIGKILL:
                    self.kills += 1
                else:
                    self.stops += 1

        striker = threading.Thread(target=strike)
        striker.start()
        try:
            output, result = self.run()
        finally:
            over.set()
            striker.join()
        counted = (result.files, result.records, result.bad_records, len(result.poisoned))
        exact = result.counters == {"map": {"records": 201 * FILES}, "reduce": {"keys": 41}}
        if output != self.quiet or counted != (FILES, 201 * FILES, 0, 0) or not exact:
            self.wrong.append(seed)

    def row(self, name: str) -> str:
        return (
            f"{name:12} {RUNS:5} {self.kills:6} {self.stops:6} {self.again:12} {len(self.wrong):6}"
        )


HEADER = "cluster       runs  kills  stops  mapped again  wrong"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    chance = random.Random(7)
    files = [
        [f"first\t{n}", *(f"k{chance.randrange(40)}\t{chance.random()}" for _ in range(200))]
        for n in range(FILES)
    ]
    return write_tree(tmp_path / "data", files)


def local_workers() -> list[int]:
    """Descendants of this process that are not the forkserver or the resource tracker."""
    own = os.getpid()
    found = psutil.Process().children(recursive=True)
    return [p.pid for p in found if p.ppid() != own]


@pytest.mark.slow
def test_chaos_on_this_machine(tmp_path: Path, data: Path) -> None:
    chaos = Chaos(tmp_path, {"num_mappers": 2}, local_workers)
    chaos.begin()
    for seed in range(RUNS):
        chaos.run_with(seed)
    print(f"\n{HEADER}\n{chaos.row('local')}")
    assert chaos.wrong == []
    assert chaos.kills > RUNS // 3
    assert not (tmp_path / "work").exists()


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """One whose scheduler gives up a silent worker soon, and tries what it lost more often."""
    env = {
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s",
        "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3",
    }
    cluster = DaskCluster(tmp_path_factory.mktemp("chaos"), 3, env=env)
    yield cluster
    cluster.stop()


def continue_all(cluster: DaskCluster) -> None:
    for process in psutil.process_iter():
        try:
            stopped = process.status() == psutil.STATUS_STOPPED
            if stopped and os.getsid(process.pid) in {w.popen.pid for w in cluster.workers}:
                process.resume()
        except (psutil.Error, ProcessLookupError):
            continue


@pytest.mark.slow
def test_chaos_on_a_cluster(tmp_path: Path, data: Path, cluster: DaskCluster) -> None:
    def pids() -> list[int]:
        found = []
        for worker in cluster.workers:
            try:
                found.append(worker.pid)
            except (StopIteration, psutil.Error):
                continue  # it is being started
        return found

    with Client(cluster.address, set_as_default=False) as client:
        chaos = Chaos(tmp_path, {"client": client}, pids)
        chaos.begin()
        for seed in range(RUNS, 2 * RUNS):
            chaos.run_with(seed)
            continue_all(cluster)
            client.wait_for_workers(3, timeout=60)
        print(f"\n{HEADER}\n{chaos.row('existing')}")
        assert not client.list_datasets()
    assert chaos.wrong == []
    assert chaos.kills > RUNS // 3
    assert not (tmp_path / "work").exists()
