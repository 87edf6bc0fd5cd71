"""Workers elsewhere write a directory that they see, or that is in a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import write_tree

from daskmr.errors import InputError, JobError
from daskmr.run import workspace
from daskmr.run.mapreduce import mapreduce
from daskmr.run.outputs import writing
from daskmr.store.source import parse_source

JOB = """
def map(key, dims, value, context):
    for number in range(300):
        context.write(f"{key}-{number}", value)
def reduce(key, values, context):
    context.write(key, "".join(values))
"""


def run(folder: Path, name: str, job: str = JOB, **options: Any) -> bytes:
    (folder / "job.py").write_text(job)
    output = f"{folder}/{name}"
    settings = {"work_dir": folder / "work", "spill_bytes": 20_000, **options}
    mapreduce(folder / "job.py", data_dir=folder / "data", output=output, **settings)
    paths = sorted(Path(output).glob("part-*")) if name.endswith("/") else [Path(output)]
    return b"".join(path.read_bytes() for path in paths)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [[f"k{n}\t{n}" for n in range(6)] for _ in range(8)])
    return tmp_path


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def hosts(cluster: DaskCluster) -> list[Path]:
    return [path for path in cluster.folder.rglob("daskmr-*") if path.is_dir()]


def test_workers_that_see_all(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskmr.data.output_directory.slices._FILE_BYTES", 10_000)
    assert run(folder, "a/", client=client) == run(folder, "b", inline=True)
    assert sorted(os.listdir(folder)) == ["a", "b", "b.meta.json", "data", "job.py"]


def test_workers_that_share_only_a_store(
    folder: Path, client: Client, dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "spill").mkdir()
    monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    source = parse_source(f"file://{folder}/spill")  # stands for a store
    monkeypatch.setattr(workspace, "_spill_source", lambda *_: source)
    spilled = run(folder, "a/", client=client, spill_dir="s3://bucket/spill", num_reducers=3)
    assert spilled == run(folder, "b", inline=True)
    assert [path for path in (folder / "spill").rglob("*") if path.is_file()] == []
    assert hosts(dask_cluster) == []


def test_workers_that_share_nothing(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    with pytest.raises(InputError, match=r"share neither .* --spill-dir.*or name a file"):
        run(folder, "a/", "def map(*_): raise SystemExit", client=client)
    assert sorted(os.listdir(folder)) == ["data", "job.py"]


def test_workers_that_do_not_see_the_output(
    folder: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "sees_all", lambda *_: False)
    with pytest.raises(InputError, match=r"some do not see its directory .* s3://BUCKET/result/"):
        run(folder, "a/", "def map(*_): raise SystemExit", client=client)
    assert sorted(os.listdir(folder)) == ["data", "job.py"]


def test_a_task_that_fails(folder: Path) -> None:
    broken = """
from daskmr.tasks import write

def fail(*arguments):
    raise OSError("broken")

def map(key, dims, value, context):
    write._write = fail
    context.write(key, value)
"""
    with pytest.raises(JobError, match="broken"):
        run(folder, "a/", broken, num_mappers=1)
    assert sorted(os.listdir(folder)) == ["data", "job.py"]


def test_a_worker_that_dies_while_it_writes_leaves_nothing(folder: Path) -> None:
    killing = """
import os, signal
from daskmr.tasks import write

def kill(file):
    os.kill(os.getpid(), signal.SIGKILL)

def map(key, dims, value, context):
    write.OutputFile.close = kill
    context.write(key, value)
"""
    lines = run(folder, "a/", killing, num_mappers=1)
    assert lines.count(b"\n") == 48
    assert sorted(os.listdir(folder / "a")) == ["_SUCCESS", "_meta.json", "part-00000.txt"]
    assert sorted(os.listdir(folder)) == ["a", "data", "job.py"]
