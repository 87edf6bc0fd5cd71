"""What all tests share: a small data set in the layout, and an oracle that fits on a page."""

from __future__ import annotations

import compileall
import gc
import os
import signal
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import DaskCluster
from support.fault_proxy import FaultProxy
from support.jobs import DIRECTORY, ROOT, write_tree
from support.store_server import CREDENTIALS, Bucket, StoreServer

from daskmr.store.store import Store, parse_source

collect_ignore = ["support/analyses"]  # scripts, which are not modules


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package, once, for the hundreds of processes that the tests start.

    Where PYTHONDONTWRITEBYTECODE is set, each of them would compile it again.
    """
    if not hasattr(config, "workerinput"):  # or a worker of pytest-xdist, which need not
        compileall.compile_dir(ROOT / "daskmr", quiet=1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what stays until the end: all that is made here."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="session")
def signals_as_a_terminal_has_them() -> None:
    """What is started by ``nohup`` or in the background ignores some, and so would its children."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            interrupted = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if interrupted else signal.SIG_DFL)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for that of a socket; that of a test may be too long."""
    with tempfile.TemporaryDirectory(prefix="daskmr-") as folder:
        yield Path(folder)


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
        store.retry.first_wait, store.retry.longest_wait = 0.001, 0.01
        stores.append(store)
        return store

    yield open_
    for store in stores:
        store.close()
