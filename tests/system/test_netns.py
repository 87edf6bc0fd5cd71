"""Workers on hosts of their own: network namespaces, with a store as the only thing they share.

It needs root and Debian's iproute2 and util-linux (``ip netns``, ``unshare``), so it runs only when
it is asked for: ``make test-netns``, as root.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import ROOT
from support.jobs import file_name, write_tree
from support.processes import wait_until
from support.store_server import CREDENTIALS

NETWORK = "10.231.77"
SCHEDULER = f"{NETWORK}.1"
WORKERS = 3
FILES = 40
FIRST = 6  # files that are mapped before a link is cut

# The last file is mapped when the link is restored, and the worker behind it is back.
SCRIPT = """
import os, time
def map(key, dims, value, context):
    if key == "first":
        with open({log!r}, "a") as log:
            log.write(value + "\\n")
        time.sleep(0.3)
        while int(value) == {files} - 1 and not os.path.exists({go!r}):
            time.sleep(0.05)
        return
    for number in range(20):
        context.write(f"{{key}}-{{number}}", float(value))
def combine(key, values, context):
    context.write(key, sum(values))
def reduce(key, values, context):
    context.write(key, sum(values))
"""

CLIENT = """
import json, sys, boto3
from pathlib import Path
from distributed import Client
from daskmr.errors import DaskMRError
from daskmr.run.mapreduce import mapreduce

folder, address, where = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
options = dict(data_dir=folder / "private" / "data")
if where == "store":
    s3 = boto3.client("s3", region_name="us-east-1")
    s3.create_bucket(Bucket="pings")
    s3.create_bucket(Bucket="scratch")
    data = folder / "private" / "data"
    for path in data.rglob("*.gz"):
        s3.put_object(Bucket="pings", Key=str(path.relative_to(data)), Body=path.read_bytes())
    options = dict(bucket="pings", spill_dir="s3://scratch/spill", spill_bytes=10_000)
with Client(address) as client:
    client.wait_for_workers({workers}, timeout=60)
    try:
        result = mapreduce(
            folder / "job.py", output=folder / "out.txt", client=client, num_reducers=3,
            work_dir=folder / "private" / "work", **options,
        )
    except DaskMRError as error:
        print(json.dumps([error.exit_code, str(error)]))
    else:
        told = [result.files, result.records, result.spilled > 0]
        if where == "store":
            left = s3.list_objects_v2(Bucket="scratch").get("Contents", [])
            told.append([entry["Key"] for entry in left])
        print(json.dumps(told))
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """A namespace with a bridge for client, scheduler and store; and one for each worker."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prefix = f"dmr{os.getpid()}"
        self._processes: list[subprocess.Popen[str]] = []
        self._spaces: list[str] = []
        self.workers: list[Any] = []
        self._connect()

    def _connect(self) -> None:
        home = self._space("s")
        self._in(home, "link", "add", "bridge", "type", "bridge")
        self._in(home, "addr", "add", f"{SCHEDULER}/24", "dev", "bridge")
        self._in(home, "link", "set", "bridge", "up")
        for number in range(WORKERS):
            space = self._space(str(number))
            self._in(
                home, "link", "add", f"to{number}", "type", "veth", "peer", "eth", "netns", space
            )
            self._in(home, "link", "set", f"to{number}", "master", "bridge", "up")
            self._in(space, "addr", "add", f"{NETWORK}.{11 + number}/24", "dev", "eth")
            self._in(space, "link", "set", "eth", "up")

    def _space(self, name: str) -> str:
        space = f"{self.prefix}{name}"
        ip("netns", "add", space)
        self._spaces.append(space)
        self._in(space, "link", "set", "lo", "up")
        return space

    def _in(self, space: str, *arguments: str) -> None:
        ip("-n", space, *arguments)

    def cut(self, number: int) -> None:
        """Cut the link of a worker."""
        self._in(f"{self.prefix}s", "link", "set", f"to{number}", "down")

    def restore(self, number: int) -> None:
        self._in(f"{self.prefix}s", "link", "set", f"to{number}", "up")

    def start(self, name: str, space: str, *command: str, private: bool = False) -> Any:
        """Start a Python program in a namespace; what it says goes to a file of its name."""
        words = [sys.executable, *command]
        if private:  # with an empty disk where the client has its own
            mount = f'mount -t tmpfs none {self.folder / "private"} && exec "$@"'
            words = ["unshare", "-m", "sh", "-c", mount, "sh", *words]
        with open(self.folder / f"{name}.log", "w") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", f"{self.prefix}{space}", *words],
                cwd=self.folder,
                env=os.environ
                | CREDENTIALS
                | {
                    "PYTHONPATH": str(ROOT),
                    "AWS_ENDPOINT_URL": f"http://{SCHEDULER}:5000",
                    "AWS_EC2_METADATA_DISABLED": "true",
                    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "3s",
                    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "15s",
                },
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def start_worker(self, number: int) -> Any:
        return self.start(
            f"worker{number}",
            str(number),
            *("-m", "distributed.cli.dask_worker", f"tcp://{SCHEDULER}:8786"),
            *("--host", f"{NETWORK}.{11 + number}", "--nthreads", "1", "--no-dashboard"),
            *("--local-directory", str(self.folder / f"local{number}")),
            private=True,
        )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def stop(self) -> None:
        for process in self._processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            finally:
                process.wait()
        for space in self._spaces:
            ip("netns", "del", space)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    lines = [[f"first\t{n}", *(f"k{k}\t{n}.25" for k in range(30))] for n in range(FILES)]
    write_tree(tmp_path / "private" / "data", lines)
    text = SCRIPT.format(log=str(tmp_path / "log"), go=str(tmp_path / "go"), files=FILES)
    (tmp_path / "job.py").write_text(text)
    (tmp_path / "client.py").write_text(CLIENT.replace("{workers}", str(WORKERS)))
    hosts = Hosts(tmp_path)
    try:
        hosts.start("store", "s", "-W", "ignore", "-m", "moto.server", "-H", SCHEDULER)
        scheduler = ("-m", "distributed.cli.dask_scheduler", "--host", SCHEDULER)
        hosts.start("scheduler", "s", *scheduler, "--port", "8786", "--no-dashboard")
        wait_until(lambda: "Scheduler at:" in hosts.log("scheduler"), 60)
        wait_until(lambda: "Running on" in hosts.log("store"), 60)
        for number in range(WORKERS):
            hosts.workers.append(hosts.start_worker(number))
        yield hosts
    finally:
        hosts.stop()


def client(hosts: Hosts, where: str) -> Any:
    address = f"tcp://{SCHEDULER}:8786"
    return hosts.start("client", "s", "client.py", str(hosts.folder), address, where)


def said(hosts: Hosts) -> Any:
    return json.loads(hosts.log("client").splitlines()[-1])


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.netns
def test_local_data_is_refused_before_any_work(hosts: Hosts, tmp_path: Path) -> None:
    assert client(hosts, "local").wait(timeout=120) == 0
    code, message = said(hosts)
    assert code == 2, message
    assert f"the worker tcp://{NETWORK}.1" in message
    assert "cannot be read there (No such file or directory)" in message
    assert not (tmp_path / "out.txt").exists()
    assert lines(tmp_path / "log") == 0
    assert file_name(0) in message


@pytest.mark.slow
@pytest.mark.netns
def test_a_link_is_cut_and_restored(hosts: Hosts, tmp_path: Path) -> None:
    running = client(hosts, "store")
    wait_until(lambda: lines(tmp_path / "log") >= FIRST or running.poll() is not None, 120)
    assert running.poll() is None, hosts.log("client")
    hosts.cut(1)
    lost = f"Remove worker addr: tcp://{NETWORK}.12:"
    wait_until(lambda: lost in hosts.log("scheduler"), 60)
    hosts.restore(1)
    # It is told to close when it can be told again: then whoever runs the host starts another.
    wait_until(lambda: hosts.workers[1].poll() is not None, 120)
    hosts.start_worker(1)
    registered = f"Register worker addr: tcp://{NETWORK}.12:"
    wait_until(lambda: hosts.log("scheduler").count(registered) > 1, 60)
    (tmp_path / "go").touch()
    assert running.wait(timeout=180) == 0, hosts.log("client")
    assert said(hosts) == [FILES, 31 * FILES, True, []], hosts.log("client")
    total = sum(n + 0.25 for n in range(FILES))
    keys = sorted(f"k{k}-{number}" for k in range(30) for number in range(20))
    assert (tmp_path / "out.txt").read_text() == "".join(f"{key}\t{total}\n" for key in keys)
    assert lines(tmp_path / "log") > FILES, "else nothing was lost"
    assert [path for path in tmp_path.rglob("daskmr-*") if path.is_dir()] == []
