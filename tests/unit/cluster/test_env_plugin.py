"""Variables reach the workers of a cluster, also those that join later, and leave them at the end."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from distributed import Client
from support.dask_cluster import DaskCluster

from daskmr.cluster.env_plugin import EnvPlugin, passed_env

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for functions on the workers

NAME = "DASKMR_TEST_VARIABLE"


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def kept(token: str) -> str | None:
    """Return the value that a process keeps for a run."""
    from daskmr.job.params import passed_env

    return passed_env._values.get(token, {}).get(NAME)


def variable() -> str | None:
    import os  # by value, the module would come with this process's environment

    return os.environ.get(NAME)


def kept_by_all(client: Client, token: str) -> set[str | None]:
    return {*client.run(kept, token).values()}


def test_all_workers_keep_them_for_the_block(
    dask_cluster: DaskCluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = secrets.token_hex(16)
    monkeypatch.setenv(NAME, value)
    with passed_env(client, [NAME]) as token:
        late = dask_cluster.start_worker(env={NAME: "its own"})
        try:
            client.wait_for_workers(3, timeout=30)
            assert kept_by_all(client, token) == {value}
            assert value not in client.run(variable).values()  # where no code of the run runs
        finally:
            late.stop()
    assert kept_by_all(client, token) == {None}
    assert client.run_on_scheduler(plugins) == []
    logs = [process.log for process in (dask_cluster.scheduler, *dask_cluster.workers)]
    assert f"daskmr-env-{token}" in "".join(logs)
    assert value not in "".join(logs)


def plugins(dask_scheduler: Any) -> list[str]:
    return [name for name in dask_scheduler.worker_plugins if "daskmr" in name]


def test_two_runs_do_not_see_each_other(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "one")
    with passed_env(client, [NAME]) as one:
        monkeypatch.setenv(NAME, "two")
        with passed_env(client, [NAME]) as two:
            assert [kept_by_all(client, token) for token in (one, two)] == [{"one"}, {"two"}]
        assert [kept_by_all(client, token) for token in (one, two)] == [{"one"}, {None}]


def test_its_repr_names_them_only() -> None:
    assert repr(EnvPlugin("token", {NAME: "value"})) == f"<EnvPlugin {NAME}>"
