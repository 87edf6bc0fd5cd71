"""The page on a dashboard: served with what is new, and gone when the run is."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import DaskCluster
from support.histories import made_up
from support.jobs import counting_job
from support.pages import Page
from support.processes import wait_until

from daskmr import mapreduce
from daskmr.cluster.session import Session, connect
from daskmr.config import load_config
from daskmr.diagnostics.live.page import live_page
from daskmr.history import History


def get(url: str, timeout: float = 30) -> tuple[int, bytes, Any]:
    """Ask as a browser does."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def running(session: Session) -> None:
    """A task that takes a moment, so that the session waits."""
    from dask import delayed

    session.compute(delayed(time.sleep)(0.6))


@contextmanager
def waiting_for(session: Session) -> Iterator[None]:
    """Have the session wait, as it does during a run, in another thread."""
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            running(session)

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(wait)
        try:
            yield
        finally:
            over.set()
            done.result(60)


def look_at(base: str, made: History) -> None:
    """Look at a page as two browsers do, and at its news."""
    with ThreadPoolExecutor(2) as pool:
        for status, content, headers in pool.map(get, [f"{base}/daskmr"] * 2):
            assert status == 200
            assert headers["Content-Type"] == "text/html; charset=utf-8"
            Page(content.decode("utf-8"))
        news = list(pool.map(get, [f"{base}/daskmr/data?after=0&viewer={n}" for n in "ab"]))
    for status, content, headers in news:
        assert status == 200
        assert int(headers["X-Number"]) >= 1
        assert json.loads(content)["pictures"]["records"] is not None
    assert get(f"{base}/daskmr/data?after=x")[0] == 400


def last_news(base: str, seen: Path | None = None) -> dict[str, Any]:
    """Follow a run to its end; create the file `seen` after the first news."""
    number = 0
    while True:
        status, content, headers = get(f"{base}/daskmr/data?after={number}&viewer=last")
        if status == 204:
            continue
        number, news = int(headers["X-Number"]), json.loads(content)
        if seen is not None:
            seen.touch()
        if news["ended"]:
            return dict(news)


def test_the_page_of_a_local_cluster(tmp_path: Path) -> None:
    history = made_up()
    with connect(load_config(num_mappers=1), 1, run_dir=tmp_path) as session:
        with ThreadPoolExecutor(1) as pool:
            with live_page(session, lambda: history, "job"):
                session.attach_dashboard()
                wait_until(lambda: session.dashboard_link, 60)
                base = str(session.dashboard_link).removesuffix("/status")
                with waiting_for(session):
                    look_at(base, history)
                    menu = get(f"{base}/status")[1].decode("utf-8")
                    following = pool.submit(last_news, base)
                    time.sleep(0.5)  # so that it has asked
            assert following.result(30)["ended"] is True
        assert 'href="daskmr"' in menu


@pytest.mark.slow
def test_the_page_on_an_existing_scheduler_leaves_nothing(
    dask_cluster: DaskCluster, tmp_path: Path
) -> None:
    from distributed import Client

    def state(dask_scheduler: Any = None) -> Any:
        applications = len(dask_scheduler.http_application.applications)
        return sorted(map(str, dask_scheduler.plugins)), applications

    history = made_up()
    with Client(dask_cluster.address) as client:
        before = client.run_on_scheduler(state)
        base = client.dashboard_link.removesuffix("/status")
        with connect(load_config(), 1, client=client, run_dir=tmp_path) as session:
            with live_page(session, lambda: history, "job"), waiting_for(session):
                wait_until(lambda: client.run_on_scheduler(state) != before)
                look_at(base, history)
            assert client.run_on_scheduler(state) == before
        assert get(f"{base}/daskmr")[0] == 404
        assert "daskmr" not in get(f"{base}/status")[1].decode("utf-8")


def test_the_page_goes_with_a_client_that_is_killed(dask_cluster: DaskCluster) -> None:
    from distributed import Client

    from daskmr.diagnostics.live.server import PagePlugin

    def names(dask_scheduler: Any = None) -> list[str]:
        return [str(name) for name in dask_scheduler.plugins if "daskmr" in str(name)]

    with Client(dask_cluster.address) as watching:
        other = Client(dask_cluster.address, set_as_default=False)
        other.register_plugin(PagePlugin("daskmr-page-test", other.id), name="daskmr-page-test")
        assert watching.run_on_scheduler(names) == ["daskmr-page-test"]
        base = watching.dashboard_link.removesuffix("/status")
        other.close()
        wait_until(lambda: not watching.run_on_scheduler(names))
        assert get(f"{base}/daskmr")[0] == 404


def test_a_scheduler_that_refuses_does_not_matter(
    dask_cluster: DaskCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    monkeypatch.setattr("daskmr.diagnostics.live.server.PagePlugin", lambda name, client: object())
    with (
        Client(dask_cluster.address) as client,
        connect(load_config(), 1, client=client, run_dir=tmp_path) as session,
        live_page(session, made_up, "job"),
    ):
        running(session)
        assert get(f"{client.dashboard_link.removesuffix('/status')}/daskmr")[0] == 404


@pytest.mark.slow
def test_a_job_is_shown_while_it_runs(
    dask_cluster: DaskCluster, tree: Callable[..., Path], tmp_path: Path
) -> None:
    """All of it, as a user has it: the page is there during a run, and then is not."""
    from distributed import Client

    from daskmr.diagnostics.collector import Watcher
    from daskmr.job.job import Job

    root = tree([[f"{n}\t1"] for n in range(4)])
    seen = str(tmp_path / "seen")

    class Looking(Watcher):
        def look(self, look: Any) -> None:
            (tmp_path / "looked").touch()

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        import os as os_
        import time as time_

        while not os_.path.exists(seen):  # the run is followed
            time_.sleep(0.05)
        time_.sleep(0.3)
        context.write(key, 1)

    counting = counting_job()
    with Client(dask_cluster.address) as client, ThreadPoolExecutor(1) as pool:
        base = client.dashboard_link.removesuffix("/status")

        def follow() -> dict[str, Any]:
            wait_until(lambda: get(f"{base}/daskmr")[0] == 200, 60)
            return last_news(base, Path(seen))

        following = pool.submit(follow)
        done = mapreduce(
            Job(map=map_, reduce=counting.reduce),
            data_dir=root,
            client=client,
            watcher=Looking(),
            work_dir=str(tmp_path / "work"),
        )
        news = following.result(60)
        tiles = {name: value for name, value, _ in news["tiles"]}
        assert tiles["Records"] == f"{done.records}" == "4"
        tasks = news["pictures"]["timeline"]["sources"]["tasks"]["what"]
        assert {f"map: partition {n}" for n in range(4)} <= set(tasks)
        assert get(f"{base}/daskmr")[0] == 404
