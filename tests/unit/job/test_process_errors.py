"""A task starts no processes by multiprocessing, in a worker of any kind and inline."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from support.jobs import write_tree

from daskmr import DaskMRError, InputError, JobError, mapreduce
from daskmr.job.process_errors import explain_process_error, no_children

HINT = "daskmr already runs it in one process per core"


def by_pool() -> None:
    with multiprocessing.Pool(1) as pool:
        pool.map(abs, [1])


def by_executor(method: str) -> Callable[[], None]:
    def start() -> None:
        with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
            list(pool.map(abs, [1]))

    return start


def by_manager() -> None:
    with multiprocessing.Manager():
        pass


STARTS: dict[str, Callable[[], object]] = {
    "Process": lambda: multiprocessing.Process(target=print).start(),
    "Pool": by_pool,
    "fork": by_executor("fork"),
    "forkserver": by_executor("forkserver"),
    "spawn": by_executor("spawn"),
    "Manager": by_manager,
    "dask": lambda: dask.delayed(abs)(-1).compute(scheduler="processes"),
}


@pytest.mark.parametrize("name", STARTS)
def test_nothing_starts_a_process(name: str) -> None:
    before = multiprocessing.active_children()
    with no_children(), pytest.raises(AssertionError, match="not allowed to have children"):
        STARTS[name]()
    assert multiprocessing.active_children() == before


def test_threads_and_other_programs_start_as_ever() -> None:
    with no_children():
        with ThreadPoolExecutor(1) as pool, multiprocessing.pool.ThreadPool(1) as other:
            assert list(pool.map(abs, [-1])) == other.map(abs, [-1]) == [1]
        assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0


def test_other_threads_and_what_comes_after_may_start_processes() -> None:
    ended: list[int | None] = []

    def start() -> None:
        process = multiprocessing.get_context("spawn").Process(target=abs, args=(1,))
        process.start()
        process.join()
        ended.append(process.exitcode)

    with no_children():
        with no_children():
            pass
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        with pytest.raises(AssertionError):
            start()
    start()
    assert ended == [0, 0]


SCRIPTS = {
    "map": """
        from multiprocessing import Pool
        def map(key, dims, value, context):
            with Pool(2) as pool:
                context.write(key, pool.apply(int, (value,)))
    """,
    "map, in a thread": """
        from concurrent.futures import ThreadPoolExecutor
        from multiprocessing import Pool
        def double(number):
            return 2 * number
        def start():
            with Pool(1) as pool:
                return pool.map(double, [1])
        def map(key, dims, value, context):
            with ThreadPoolExecutor(1) as pool:
                context.write(key, pool.submit(start).result())
    """,
    "map, hidden": """
        from multiprocessing import Pool
        def map(key, dims, value, context):
            try:
                pool = Pool(2)
            except Exception:
                raise ValueError("cannot parse it")
    """,
    "reduce": """
        from concurrent.futures import ProcessPoolExecutor
        def map(key, dims, value, context):
            context.write(key, value)
        def reduce(key, values, context):
            with ProcessPoolExecutor(2) as pool:
                context.write(key, sum(pool.map(int, values)))
    """,
    "it fails while it is loaded": """
        from multiprocessing import Pool
        pool = Pool(2)
        def map(key, dims, value, context):
            context.write(key, pool.apply(int, (value,)))
    """,
}


def failure(tmp_path: Path, name: str, **options: Any) -> DaskMRError:
    (tmp_path / "job.py").write_text(textwrap.dedent(SCRIPTS[name]))
    write_tree(tmp_path / "data", [["k\t1", "k\t2"]])
    with pytest.raises((InputError, JobError)) as caught:
        mapreduce(
            tmp_path / "job.py", data_dir=tmp_path / "data", work_dir=tmp_path / "work", **options
        )
    return caught.value


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_pool_in_a_job_is_an_error_with_a_hint(name: str, tmp_path: Path) -> None:
    error = failure(tmp_path, name, inline=True)
    assert name.partition(",")[0] in str(error)
    assert HINT in str(error)
    assert "children" in error.details


def test_so_it_is_in_workers_where_they_are_to_be_no_daemons(tmp_path: Path) -> None:
    with dask.config.set({"distributed.worker.daemon": False}):
        error = failure(tmp_path, "reduce", num_mappers=1)
    assert str(error).startswith("reduce failed ")
    assert HINT in str(error)


def test_so_it_is_in_the_workers_of_others_that_are_no_daemons(tmp_path: Path) -> None:
    import distributed

    with (
        dask.config.set({"distributed.worker.daemon": False}),
        distributed.LocalCluster(n_workers=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        assert not client.submit(lambda: multiprocessing.current_process().daemon).result()
        error = failure(tmp_path, "map", client=client)
    assert str(error).startswith("map failed ")
    assert HINT in str(error)


def test_the_refusal_of_python_itself_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a worker that is a daemon, when a library starts a process in a thread of its own."""
    config: dict[str, Any] = vars(multiprocessing.current_process())["_config"]
    monkeypatch.setitem(config, "daemon", True)
    with pytest.raises(AssertionError) as caught:
        multiprocessing.Process(target=print).start()
    assert HINT in explain_process_error(caught.value)
    monkeypatch.setitem(config, "daemon", False)
    assert explain_process_error(AssertionError(str(caught.value))) == ""
