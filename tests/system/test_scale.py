"""What must not grow with the data: the client's memory, the graph, the disk; and what spilling is for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
from support.jobs import DIRECTORY, counting_job, write_tree

from daskmr import Job, mapreduce
from daskmr.cluster import session
from daskmr.data import inputs
from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile, Listing, Selection
from daskmr.data.output import OutputFile
from daskmr.data.partition import plan_partitions
from daskmr.errors import JobError
from daskmr.run import execution
from daskmr.tasks.fold import Spilling

MILLION = 1_000_000
DIMS = (*DIRECTORY.split("/"), "20131029030201", "20131102")


def pass_on(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, value)


def listing_of(files: list[InputFile]) -> Listing:
    selection = Selection(load_schema())
    selection.files = files
    return selection.listing("/data")


# --- a million files ----------------------------------------------------------------------------


class GraphIsMade(Exception):
    """Ends a job where it would be computed."""


@pytest.fixture
def graph_of(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[Any, Spilling]]:
    """The Bag and the spilling of a job over given files, which need not exist."""

    def graph_of(job: Job, files: Callable[[], list[InputFile]]) -> tuple[Any, Spilling]:
        made: list[Any] = []

        def compute(session: session.Session, bag: Any) -> None:
            made.append(bag)
            raise GraphIsMade

        def spilling(*arguments: Any) -> Spilling:
            made.append(Spilling(*arguments))
            return made[0]  # type: ignore[no-any-return]

        monkeypatch.setattr(inputs, "list_files", lambda *_: listing_of(files()))
        monkeypatch.setattr(execution, "Spilling", spilling)
        monkeypatch.setattr(session.Session, "compute", compute)
        with pytest.raises(GraphIsMade):
            mapreduce(job, data_dir=tmp_path, inline=True, work_dir=tmp_path / "work")
        return made[1], made[0]

    return graph_of


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [
        pytest.param(counting_job(), id="reduce"),
        pytest.param(Job(map=pass_on), id="map-only"),
    ],
)
def test_the_graph_of_a_million_files_has_less_than_20_000_tasks(graph_of: Any, job: Job) -> None:
    bag, spilling = graph_of(job, lambda: [InputFile("a.gz", 1 << 20, DIMS)] * MILLION)
    assert spilling.partitions == 4096
    assert len(dict(bag.dask)) < 20_000
    (optimised,) = dask.optimize(bag)
    assert 4096 <= len(dict(optimised.dask)) < 20_000


def test_a_terabyte_has_no_more_buckets_than_a_client_can_merge(graph_of: Any) -> None:
    """It holds a block of output for each, and the last merge a reference to each spill of each."""
    _, spilling = graph_of(counting_job(), lambda: [InputFile("a.gz", 1 << 30, DIMS)] * 1000)
    assert spilling.buckets == 128


def synthetic(count: int) -> list[InputFile]:
    """Files with names as long as those of the Telemetry storage, and as different."""
    names = (hashlib.md5(b"%d" % number).hexdigest() for number in range(count))
    return [
        InputFile(f"{DIRECTORY}/20131029030201.20131102.v2.log.{name}.gz", 1000 + number, DIMS)
        for number, name in enumerate(names)
    ]


def test_a_file_takes_less_than_400_bytes_in_the_client(graph_of: Any) -> None:
    """So a million of them take less than 400 MB, of the gigabyte that there is for all."""
    count = 20_000
    graph_of(counting_job(), lambda: synthetic(100))  # whatever is imported or cached but once
    tracemalloc.start()
    try:
        graph_of(counting_job(), lambda: synthetic(count))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / count < 400


def test_a_file_takes_less_than_60_bytes_in_the_graph() -> None:
    """Which client and scheduler hold several times over, as objects, messages and pickles."""
    files = synthetic(20_000)
    plan = plan_partitions(files)
    packed = [pickle.dumps(partition, 5) for partition in plan]
    assert sum(map(len, packed)) / len(files) < 60
    assert [pickle.loads(partition) for partition in packed] == plan


# --- the disk -----------------------------------------------------------------------------------


def files_below(folder: Path) -> list[str]:
    return [name for _, _, names in os.walk(folder) for name in names]


@pytest.fixture
def on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[int, int]]:
    """How many segments and parts there are, each time that something is written to the output."""
    seen: list[tuple[int, int]] = []
    write = OutputFile.write

    def count_and_write(output: Any, text: str) -> None:
        (run,) = (tmp_path / "work").glob("run-*")
        seen.append((len(files_below(run / "segments")), len(files_below(run / "parts"))))
        write(output, text)

    monkeypatch.setattr(OutputFile, "write", count_and_write)
    return seen


def test_segments_go_before_the_output_is_written(
    tree: Any, tmp_path: Path, on_disk: list[tuple[int, int]]
) -> None:
    files = [[f"{number}\t{'x' * 100}" for number in range(500)] for _ in range(3)]
    merged: list[int] = []

    def reduce(key: str, values: Any, context: Any) -> None:
        (run,) = (tmp_path / "work").glob("run-*")
        merged.append(len(files_below(run / "segments")))
        context.write(key, "".join(values))

    result = mapreduce(
        Job(map=pass_on, reduce=reduce),
        data_dir=tree(files),
        output=tmp_path / "out.txt",
        inline=True,
        spill_bytes=10_000,
        num_reducers=2,
        work_dir=tmp_path / "work",
        meta=False,  # the output alone is looked at
    )
    assert result.spilled > 0
    assert min(merged) >= 3, "a reducer that is tried again needs them"
    assert set(on_disk) == {(0, 8)}  # a part for each bucket
    assert (tmp_path / "out.txt").stat().st_size == result.output_bytes > 150_000


def test_parts_of_a_map_only_job_go_one_after_the_other(
    tree: Any, tmp_path: Path, on_disk: list[tuple[int, int]]
) -> None:
    files = [[f"{number}\t{'x' * 100}" for number in range(500)] for _ in range(3)]
    result = mapreduce(
        Job(map=pass_on),
        data_dir=tree(files),
        output=tmp_path / "out.txt",
        inline=True,
        spill_bytes=10_000,
        work_dir=tmp_path / "work",
        meta=False,  # the output alone is looked at
    )
    parts = [parts for _, parts in on_disk]
    assert sorted(set(parts), reverse=True) == [3, 2, 1]
    assert parts == sorted(parts, reverse=True)
    lines = [line for lines in files for line in lines]
    assert (tmp_path / "out.txt").read_text().splitlines() == lines
    assert result.lines == 1500


# --- the memory of workers ----------------------------------------------------------------------


def enlarge(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(int(key) % 100, value * 10_000)


def measure(key: int, values: Any, context: Any) -> None:
    context.write(key, sum(map(len, values)))


def test_the_out_of_core_path_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapper that emits 400 MB succeeds in 250 MB, and without spilling it does not."""

    def run(data_dir: Path) -> Any:
        return mapreduce(
            Job(map=enlarge, reduce=measure),
            data_dir=data_dir,
            work_dir=tmp_path / "work",
            num_mappers=2,
            memory_limit="250 MB",
            spill_bytes="16 MiB",
        )

    large = write_tree(tmp_path / "large", [[f"{number}\tx" for number in range(40_000)]] * 2)
    small = write_tree(tmp_path / "small", [[f"{number}\tx" for number in range(400)]] * 2)
    result = run(large)
    assert dict(result) == dict.fromkeys(range(100), 8_000_000)
    assert result.spilled > 0

    def never(folder: str, budget: int, buckets: int, partitions: int) -> Spilling:
        return Spilling(folder, 1 << 60, buckets, 1)

    monkeypatch.setattr(execution, "Spilling", never)
    result = run(small)
    assert dict(result) == dict.fromkeys(range(100), 80_000)
    assert result.spilled == 0
    with pytest.raises(JobError):
        run(large)


@contextlib.contextmanager
def paused_client() -> Iterator[distributed.Client]:
    settings = {
        "distributed.worker.memory.pause": 1e-9,
        "distributed.worker.memory.monitor-interval": "10ms",
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=1, processes=False, memory_limit="1 GiB", dashboard_address="127.0.0.1:0"
        ) as workers,
        distributed.Client(workers, set_as_default=False) as client,
    ):
        yield client


def test_workers_that_pause_for_good_are_an_error(
    tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when neither memory nor disk has room for what they hold; Dask would wait for ever."""
    monkeypatch.setattr(session._SchedulerWatchdog, "_INTERVAL", 0.1)
    monkeypatch.setattr(session._SchedulerWatchdog, "_PATIENCE", 0.5)
    monkeypatch.setattr(session._SchedulerWatchdog, "_PATIENCE_AT_FIRST", 0.5)
    with paused_client() as client, pytest.raises(JobError, match=r"paused .* disk are free"):
        mapreduce(
            counting_job(), data_dir=tree([["a\t"]]), client=client, work_dir=tmp_path / "work"
        )
