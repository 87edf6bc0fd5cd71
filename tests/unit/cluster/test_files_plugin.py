"""Files reach the workers of a cluster, one copy a host, also late ones, and leave at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import ROOT

from daskmr.cluster import files_plugin
from daskmr.cluster.files_plugin import FilesPlugin, sent_files
from daskmr.data.spill_dir import HostFolder
from daskmr.errors import JobError
from daskmr.job.shipped.contents import Sent, describe

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for functions on the cluster

HOST = HostFolder("0123456789ab")
FULL = HostFolder("ffffffffffff")  # where a file is in the way
SIZE = 5_000_000


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


@pytest.fixture
def sent(tmp_path: Path) -> list[Sent]:
    """A file and a directory."""
    (tmp_path / "lookup").write_bytes(os.urandom(SIZE))
    (tmp_path / "geo" / "eu").mkdir(parents=True)
    (tmp_path / "geo" / "eu" / "cities").write_bytes(b"cities")
    return [describe(name, str(tmp_path / name)) for name in ("lookup", "geo")]


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


async def content(token: str, places: list[str]) -> dict[str, int] | str:
    """Wait for the files in a worker process, and return their sizes, or the problem."""
    import asyncio
    from pathlib import Path

    from daskmr.errors import TaskFailed
    from daskmr.job.shipped import places as module

    for _ in range(1000):  # in the worker's event loop, which must not be blocked
        if token not in module._arrivals or module._arrivals[token].ended.is_set():
            break
        await asyncio.sleep(0.02)
    try:
        folder = Path(module.folder_of(token))
    except TaskFailed as error:
        return error.message
    paths = [path for place in places for path in (folder / place, *(folder / place).rglob("*"))]
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def contents(client: Client, token: str, sent: list[Sent]) -> list[Any]:
    """Return the content of all workers that answer."""
    places = [each.place for each in sent]
    return [*client.run(content, token, places, on_error="ignore").values()]


def state(dask_scheduler: Any) -> list[str]:
    """Return what a scheduler has of files: plugins, operations, and open files."""
    import os

    names = [*dask_scheduler.worker_plugins, *dask_scheduler.plugins, *dask_scheduler.handlers]
    open_files = [
        os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")
    ]
    return [n for n in names if "daskmr-files" in n] + [n for n in open_files if "(deleted)" in n]


def copies(cluster: DaskCluster) -> list[Path]:
    return [path for path in cluster.folder.rglob("lookup") if path.is_file()]


EXPECTED = {"lookup": SIZE, "cities": 6}


def test_all_workers_have_them_for_the_block(
    dask_cluster: DaskCluster, client: Client, sent: list[Sent]
) -> None:
    with sent_files(client, sent, HOST) as token:
        late = dask_cluster.start_worker()
        try:
            client.wait_for_workers(3, timeout=30)
            assert contents(client, token, sent) == [EXPECTED] * 3
            assert len(copies(dask_cluster)) == 3  # each has a host of its own
        finally:
            late.stop()
        assert len(client.run_on_scheduler(state)) == 4
    assert client.run_on_scheduler(state) == []
    assert all("were not sent" in each for each in contents(client, token, sent))
    assert not [path for path in copies(dask_cluster) if "worker-2" not in str(path)]


@pytest.mark.slow
def test_the_workers_of_a_host_share_a_copy(
    dask_cluster: DaskCluster, client: Client, sent: list[Sent], tmp_path: Path
) -> None:
    """One that ends leaves it to the others, and one that is killed while it writes does no harm."""
    words = "--local-directory", str(tmp_path / "host")
    workers = [dask_cluster.start_worker(*words, wait=False) for _ in range(3)]
    try:
        client.wait_for_workers(5, timeout=30)
        with sent_files(client, sent, HOST) as token:
            assert contents(client, token, sent) == [EXPECTED] * 5
            (copy,) = (tmp_path / "host").rglob("lookup")
            before = copy.stat()
            addresses = [
                a
                for a, w in client.scheduler_info(n_workers=-1)["workers"].items()
                if w["name"] == workers[0].name
            ]
            client.retire_workers(addresses)
            os.kill(workers[1].pid, signal.SIGKILL)
            until(lambda: "Registered to" in workers[1].log.partition("Restarting worker")[2])
            until(lambda: contents(client, token, sent) == [EXPECTED] * 4)
            assert copy.stat() == before
        assert not [*(tmp_path / "host").rglob("lookup")]
    finally:
        for worker in workers:
            worker.stop()


def test_two_runs_have_their_own(client: Client, sent: list[Sent]) -> None:
    with sent_files(client, sent[:1], HOST) as one, sent_files(client, sent[1:], HOST) as two:
        assert contents(client, one, sent[:1]) == [{"lookup": SIZE}] * 2
        assert contents(client, two, sent[1:]) == [{"cities": 6}] * 2


def test_a_file_without_content(client: Client, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    sent = [describe("empty", str(tmp_path / "empty"))]
    with sent_files(client, sent, HOST) as token:
        assert contents(client, token, sent) == [{"empty": 0}] * 2


def test_a_change_before_they_are_sent(client: Client, sent: list[Sent]) -> None:
    Path(sent[0].path).write_bytes(b"other")
    with pytest.raises(JobError, match="has changed"), sent_files(client, sent, HOST):
        raise AssertionError
    assert client.run_on_scheduler(state) == []


def test_a_scheduler_without_space(
    client: Client, sent: list[Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(client: Client, seconds: float, operation: str, **arguments: Any) -> None:
        if "data" in arguments:
            raise OSError(28, "No space left on device")
        ask(client, seconds, operation, **arguments)

    ask = files_plugin.ask_scheduler
    monkeypatch.setattr(files_plugin, "ask_scheduler", full)
    with (
        pytest.raises(JobError, match=r"scheduler: OSError: .*No space") as caught,
        sent_files(client, sent, HOST),
    ):
        raise AssertionError
    assert "temporary-directory" in str(caught.value)
    assert client.run_on_scheduler(state) == []


def test_a_worker_without_space_says_so(client: Client, sent: list[Sent]) -> None:
    blocked = client.run(block)
    try:
        with sent_files(client, sent, FULL) as token:
            for problem in contents(client, token, sent):
                assert "could not be copied to " in problem
                assert "a task's files on its host" in problem
    finally:
        client.run(unblock)
    assert len(blocked) == 2


def block(dask_worker: Any) -> None:
    """Have a file where the folder of the run should be."""
    from pathlib import Path

    Path(FULL.path(dask_worker)).touch()


def unblock(dask_worker: Any) -> None:
    from pathlib import Path

    Path(FULL.path(dask_worker)).unlink()


def test_a_damaged_file_is_not_used(client: Client, sent: list[Sent]) -> None:
    digest = "0" * 64
    wrong = [sent[0]._replace(entries=(sent[0].entries[0]._replace(digest=digest),))]
    plain = files_plugin.stream
    try:
        files_plugin.stream = lambda _: plain(sent[:1])
        with sent_files(client, wrong, HOST) as token:
            for problem in contents(client, token, wrong):
                assert "arrived damaged (at lookup). Start the job again." in problem
    finally:
        files_plugin.stream = plain


KILLED = """
import os, pickle, signal, sys
from distributed import Client
from daskmr.cluster.files_plugin import sent_files
from daskmr.data.spill_dir import HostFolder
from daskmr.job.shipped.contents import describe
if __name__ == "__main__":
    with Client(sys.argv[1]) as client, sent_files(
        client, [describe("lookup", sys.argv[2])], HostFolder("0123456789ab")
    ) as token:
        print(token, flush=True)
        sys.stdin.read()
"""


@pytest.mark.slow
def test_a_client_that_is_killed_leaves_nothing(
    dask_cluster: DaskCluster, client: Client, sent: list[Sent]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, dask_cluster.address, sent[0].path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    ) as process:
        assert process.stdout is not None
        token = process.stdout.readline().strip()
        assert contents(client, token, sent[:1]) == [{"lookup": SIZE}] * 2
        process.kill()
    until(lambda: client.run_on_scheduler(state) == [])
    until(lambda: not [path for path in copies(dask_cluster) if "worker-2" not in str(path)])
    assert all("were not sent" in each for each in contents(client, token, sent[:1]))


def test_its_repr_names_them(sent: list[Sent]) -> None:
    assert repr(FilesPlugin("name", "token", HOST, sent)) == "<FilesPlugin lookup, geo>"
