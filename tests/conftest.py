"""What all tests share: a small data set in the layout, and an oracle that fits on a page."""

from __future__ import annotations

import gzip
import math
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from dask_cluster import DaskCluster
from fault_proxy import FaultProxy
from store_server import CREDENTIALS, Bucket, StoreServer

from daskmr.job import Job
from daskmr.keys import sort_key
from daskmr.storage import Store, parse_source

DIRECTORY = "saved_session/Firefox/nightly/28.0a1"


def file_name(number: int, extension: str = "gz") -> str:
    """Name the file number `number` of a directory, in input order."""
    return f"20131029030201.20131102.v2.log.{number:032x}.{extension}"


def write_tree(root: Path, files: Sequence[Sequence[str]], directory: str = DIRECTORY) -> Path:
    """Write one gzip file for each list of lines, in the layout below `root`."""
    folder = root / directory
    folder.mkdir(parents=True, exist_ok=True)
    for number, lines in enumerate(files):
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        (folder / file_name(number)).write_bytes(gzip.compress(data, 1))
    return root


@pytest.fixture(autouse=True, scope="session")
def signals_as_a_terminal_has_them() -> None:
    """``nohup`` and some CI ignore SIGHUP, which processes started here would take over."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Make a data dir out of lists of lines, one list a file."""
    return lambda files, directory=DIRECTORY: write_tree(tmp_path / "data", files, directory)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[StoreServer]:
    """A real S3 server, for all tests."""
    server = StoreServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def dask_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers, for all tests of a file that leave them as they were.

    They end with the file: elsewhere, processes below this one are taken for left behind.
    """
    cluster = DaskCluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def bucket(s3_server: StoreServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bucket:
    """An empty bucket there, and an environment in which it is found."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    settings = {
        **CREDENTIALS,
        "AWS_ENDPOINT_URL": s3_server.url,
        "AWS_CONFIG_FILE": str(tmp_path / "no-config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "no-credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return Bucket(s3_server, f"bucket-{uuid.uuid4().hex}")


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """A proxy before the server, which the environment leads to."""
    proxy = FaultProxy(bucket.server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    yield proxy
    proxy.stop()


@pytest.fixture
def open_store() -> Iterator[Callable[..., Store]]:
    """Open a store that waits for a moment only before it tries again."""
    stores: list[Store] = []

    def open_(bucket: Bucket | str, retries: int = 10, **options: Any) -> Store:
        name = bucket if isinstance(bucket, str) else bucket.name
        options = {} if "://" in name else {"read_timeout": 20, **options}
        store = Store(parse_source(name, **options), retries)
        store.patience.first_wait, store.patience.longest_wait = 0.001, 0.01
        stores.append(store)
        return store

    yield open_
    for store in stores:
        store.close()


def identity(key: Any) -> Any:
    """Map keys that are one key to one object: equal keys, and NaN to itself."""
    if isinstance(key, tuple):
        return tuple(identity(element) for element in key)
    return "NaN" if isinstance(key, float) and math.isnan(key) else (type(key) in (str, bytes), key)


def oracle(
    pairs: Sequence[tuple[Any, Any]], reduce: Callable[[Any, list[Any], Any], None]
) -> list[tuple[Any, Any]]:
    """Group `pairs` in memory and reduce them in key order: what any job must equal."""
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for key, value in pairs:
        groups.setdefault(identity(key), (key, []))[1].append(value)
    written: list[tuple[Any, Any]] = []

    class Context:
        @staticmethod
        def write(key: Any, value: Any) -> None:
            written.append((key, value))

    for key, values in sorted(groups.values(), key=lambda group: sort_key(group[0])):
        reduce(key, values, Context())
    return written


def daskmr(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "daskmr", *map(os.fspath, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


def counting_job() -> Job:
    """A job that counts the values of each key."""

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, 1)

    def reduce(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    return Job(map=map_, reduce=reduce)
