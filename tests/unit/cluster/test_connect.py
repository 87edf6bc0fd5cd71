"""Somebody's cluster, of real processes: it is used, and left as it was."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from support.dask_cluster import ROOT, DaskCluster
from support.jobs import daskmr, write_tree
from support.processes import wait_until

from daskmr import mapreduce
from daskmr.cluster import connect
from daskmr.cluster.connect import choose
from daskmr.config import load_config
from daskmr.errors import InputError, JobError

LINES = [[f"k{number % 7}\t{number}" for number in range(part, 200, 5)] for part in range(5)]
COUNT = """
def map(key, dims, value, context):
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""
COUNTED = [
    (f"k{n}", sum(line.startswith(f"k{n}\t") for p in LINES for line in p)) for n in range(7)
]
SLEEPING = """
import os, pathlib, time
def map(key, dims, value, context):
    pathlib.Path({marker!r}, str(os.getpid())).touch()
    time.sleep({seconds})
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data", LINES)


@pytest.fixture
def run(data: Path, tmp_path: Path, dask_cluster: DaskCluster) -> Callable[..., Any]:
    """Run a script's text on the cluster."""

    def run(text: str, name: str = "job.py", address: str | None = None, **options: Any) -> Any:
        script = tmp_path / name
        script.parent.mkdir(exist_ok=True)
        script.write_text(text)
        options = {"data_dir": data, "work_dir": str(tmp_path / "work"), **options}
        return mapreduce(script, scheduler=address or dask_cluster.address, **options)

    return run


def look(cluster: DaskCluster) -> dict[str, Any]:
    """What there is on a cluster that a job could have left there."""
    from distributed import Client

    def look_at_scheduler(dask_scheduler: Any) -> Any:
        clients = [name for name in dask_scheduler.clients if name != "fire-and-forget"]
        return len(dask_scheduler.tasks), len(clients), sorted(dask_scheduler.plugins)

    def look_at_worker(dask_worker: Any) -> Any:
        import sys

        return (
            len(dask_worker.data),
            len(dask_worker.state.tasks),
            sorted(dask_worker.plugins),
            [name for name in sys.modules if name.startswith(("job", "sibling"))],
            [type(finder).__name__ for finder in sys.meta_path if "daskmr" in str(type(finder))],
        )

    with Client(cluster.address, set_as_default=False) as client:
        at_workers = client.run(look_at_worker)
        return {
            "scheduler": client.run_on_scheduler(look_at_scheduler),
            "workers": {who: at_workers[who] for who in sorted(at_workers)},
            "files": sorted(
                str(path.relative_to(cluster.folder))
                for path in cluster.folder.rglob("*")
                if path.name != "log"
            ),
        }


@pytest.fixture
def left_as_it_was(dask_cluster: DaskCluster) -> Iterator[None]:
    """Look at the cluster before and after a test."""
    before = look(dask_cluster)
    yield
    wait_until(lambda: look(dask_cluster) == before, 10, f"{before} == {look(dask_cluster)}")


# --- which place --------------------------------------------------------------------------------


def place(
    settings: dict[str, Any], client: Any = None, inline: bool = False, **options: Any
) -> tuple[str | None, str | None]:
    with dask.config.set(settings):
        config = choose(load_config(**options), options, client, inline)
    return config.scheduler, config.cluster


def test_the_closest_place_counts() -> None:
    scheduler, cluster = {"daskmr.scheduler": "tcp://s"}, {"daskmr.cluster": "c"}
    of_dask = {"scheduler-address": "tcp://d"}
    assert place({}) == (None, None)
    assert place(of_dask) == ("tcp://d", None)
    assert place(of_dask | cluster) == (None, "c")
    assert place(of_dask | scheduler) == ("tcp://s", None)
    assert place(of_dask | cluster, scheduler="tcp://o") == ("tcp://o", None)
    assert place(of_dask | scheduler, cluster="o") == (None, "o")
    assert place(of_dask | scheduler | cluster, inline=True) == (None, None)
    assert place(of_dask | scheduler | cluster, client=object()) == (None, None)


def test_two_places_are_refused() -> None:
    for settings, given in [
        ({"daskmr.scheduler": "tcp://s", "daskmr.cluster": "c"}, {}),
        ({}, {"scheduler": "tcp://s", "cluster": "c"}),
        ({}, {"scheduler": "tcp://s", "inline": True}),
        ({}, {"cluster": "c", "client": object()}),
    ]:
        with pytest.raises(InputError, match="A job runs in one place"):
            place(settings, **given)  # type: ignore[arg-type]


# --- connecting ---------------------------------------------------------------------------------


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of what accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_what_cannot_be_connected_to(
    run: Callable[..., Any], silent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 0.5)
    with pytest.raises(InputError, match=r"tcp://127\.0\.0\.1:1 .*Check that it is running"):
        run(COUNT, address="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="the server there does not answer"):
        run(COUNT, address=silent)
    # These are refused without waiting, however busy the machine is.
    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 60)
    for address in ("nonsense", "foo://127.0.0.1:1", "127.0.0.1"):
        with pytest.raises(InputError, match="An address looks like tcp://HOST:8786"):
            run(COUNT, address=address)


def test_a_client_that_failed_is_no_garbage(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Client

    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 0.5)
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Client)}
    gc.disable()
    try:
        with pytest.raises(InputError, match="Check that it is running"):
            run(COUNT, address="tcp://127.0.0.1:1")
        left = [each for each in gc.get_objects() if isinstance(each, Client)]
        assert {*map(id, left)} <= before
    finally:
        gc.enable()


def test_the_address_of_a_worker_is_told_from_that_of_a_scheduler(
    run: Callable[..., Any], dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "_CONNECT_SECONDS", 60)
    address = next(iter(look(dask_cluster)["workers"]))
    with pytest.raises(
        InputError, match=r"Dask server, not a scheduler\)\. It may be the address of a worker"
    ):
        run(COUNT, address=address)


def test_the_exit_code_of_a_scheduler_that_is_not_there(data: Path, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(COUNT)
    (tmp_path / "out").write_text("as it was")
    arguments = ("run", tmp_path / "job.py", "-d", data, "-o", tmp_path / "out")
    done = daskmr(*arguments, "--scheduler", "nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("daskmr: Cannot connect to the Dask scheduler nowhere (")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "out").read_text() == "as it was"


# --- code reaches the workers -------------------------------------------------------------------


@pytest.mark.usefixtures("left_as_it_was")
def test_a_job_runs_there_and_leaves_nothing(run: Callable[..., Any]) -> None:
    result = run(COUNT)
    assert list(result) == COUNTED
    assert result.notes == ()


@pytest.mark.usefixtures("left_as_it_was")
def test_the_command_runs_there(data: Path, tmp_path: Path, dask_cluster: DaskCluster) -> None:
    (tmp_path / "job.py").write_text(COUNT)
    arguments = ("run", tmp_path / "job.py", "-d", data, "-q")
    for given, environment in [
        (("--scheduler", dask_cluster.address), {}),
        ((), {"DASK_SCHEDULER_ADDRESS": dask_cluster.address}),
    ]:
        done = daskmr(*arguments, *given, cwd=tmp_path, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "".join(f"{key}\t{count}\n" for key, count in COUNTED)


@pytest.mark.usefixtures("left_as_it_was")
def test_an_edited_script_or_sibling_is_used(run: Callable[..., Any], tmp_path: Path) -> None:
    importing = COUNT.replace("sum(values)", "weight * sum(values)")
    for weight in (2, 3):
        (tmp_path / "sibling.py").write_text(f"weight = {weight}")
        for sign in ("", "-"):
            text = "from sibling import weight\n" + importing.replace("weight *", f"{sign}weight *")
            factor = -weight if sign else weight
            assert list(run(text)) == [(key, factor * count) for key, count in COUNTED]


@pytest.mark.slow
@pytest.mark.usefixtures("left_as_it_was")
def test_two_clients_at_once_do_not_mix(
    data: Path, dask_cluster: DaskCluster, tmp_path: Path
) -> None:
    """With scripts and siblings of one name, and the same script over the same data."""
    importing = "from sibling import name\n" + COUNT.replace(
        "write(key, sum", "write(key + name, sum"
    )
    for folder in "abc":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sibling.py").write_text(f"name = {folder!r}")
        (tmp_path / folder / "job.py").write_text(importing)

    def job(number: int) -> list[str]:
        script, output = tmp_path / "abc"[number % 3] / "job.py", tmp_path / f"out{number}"
        options = ("-d", data, "-o", output, "-w", tmp_path / f"work{number}")
        arguments = ("run", script, *options, "--scheduler", dask_cluster.address)
        done = daskmr(*map(str, arguments), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return output.read_text().splitlines()

    with ThreadPoolExecutor(4) as pool:
        for number, lines in enumerate(pool.map(job, range(4))):
            folder = "abc"[number % 3]
            assert lines == [f"{key}{folder}\t{count}" for key, count in COUNTED]


@pytest.mark.usefixtures("left_as_it_was")
def test_a_task_that_nobody_waits_for_ends(dask_cluster: DaskCluster, tmp_path: Path) -> None:
    from distributed import Client

    def run_on(marker: Path) -> None:
        from daskmr.tasks.guard import guarded
        from daskmr.worker import until_cancelled

        def lines() -> None:
            for number in until_cancelled(range(1000)):
                (marker / str(number)).touch()
                time.sleep(0.01)

        guarded("map")(lines)()

    with Client(dask_cluster.address, set_as_default=False) as client:
        future = client.submit(run_on, tmp_path, pure=False)
        wait_until(lambda: any(tmp_path.iterdir()))
        future.release()
    idle = [0, 0]
    wait_until(
        lambda: [tasks for _, tasks, *_ in look(dask_cluster)["workers"].values()] == idle, 5
    )
    assert len(list(tmp_path.iterdir())) < 1000


# --- failures -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("left_as_it_was")
@pytest.mark.parametrize("reduce", ["", "def reduce(key, values, context): pass"])
def test_input_that_is_no_records_fails_early(
    run: Callable[..., Any], tmp_path: Path, reduce: str
) -> None:
    """Though Dask would map the first partition among the last."""
    untabbed = [f'{{"n": {number}}}' for number in range(1000)]
    data = write_tree(tmp_path / "foreign", [untabbed, *[[f"k{n}\t"] for n in range(200)]])
    seen = tmp_path / "seen"
    seen.mkdir()
    script = f"""
import pathlib, time
def map(key, dims, value, context):
    pathlib.Path({str(seen)!r}, key).touch()
    time.sleep(0.1)
{reduce}
"""
    with pytest.raises(
        JobError, match=r"None of the first 1,000 lines.*The input looks like JSON lines"
    ):
        run(script, data_dir=data, skip_corrupt_files=True)  # so that the client does not look
    assert len(list(seen.iterdir())) < 100


@pytest.mark.usefixtures("left_as_it_was")
def test_a_failure_leaves_nothing(run: Callable[..., Any]) -> None:
    with pytest.raises(JobError, match=r"map failed at .*: KeyError: 'k"):
        run("def map(key, dims, value, context): raise KeyError(key)")
    with pytest.raises(JobError, match="reduce failed for the key 'k"):
        run(COUNT.replace("sum(values)", "1 / 0"))


@pytest.mark.usefixtures("left_as_it_was")
def test_an_interruption_leaves_nothing(
    data: Path, tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    with started(data, tmp_path, dask_cluster, seconds=0.02) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "daskmr: Interrupted; nothing was written.\n")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "work").exists()


def started(
    data: Path, tmp_path: Path, cluster: DaskCluster, *options: str, seconds: float
) -> subprocess.Popen[str]:
    """The command, when its job runs."""
    marker = tmp_path / "marker"
    marker.mkdir()
    (tmp_path / "job.py").write_text(SLEEPING.format(marker=str(marker), seconds=seconds))
    arguments = ["run", "job.py", "-d", str(data), "-o", "out", "-w", "work", "-q", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "daskmr", *arguments, "--scheduler", cluster.address],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: any(marker.iterdir()) or process.poll() is not None)
    return process


@pytest.mark.slow
def test_the_scheduler_is_lost(data: Path, tmp_path: Path) -> None:
    cluster = DaskCluster(tmp_path / "cluster", 1)
    (tmp_path / "out").write_text("as it was")
    try:
        with started(data, tmp_path, cluster, seconds=0.2) as process:
            cluster.scheduler.stop()
            _, said = process.communicate(timeout=60)
    finally:
        cluster.stop()
    assert process.returncode == 1
    assert said.startswith("daskmr: The connection to the Dask scheduler is lost")
    assert said.count("\n") == 1
    assert (tmp_path / "out").read_text() == "as it was"


# --- workers ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cluster_without_workers(
    run: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(connect, "_NOTICE_AFTER_SECONDS", 0)
    cluster = DaskCluster(tmp_path / "cluster", 0)
    try:
        with pytest.raises(InputError, match=r"has no workers, and none has started within 0\.5 s"):
            run(COUNT, address=cluster.address, worker_timeout="0.5s")
        starting = threading.Timer(1, cluster.start_worker, kwargs={"nthreads": 3})
        starting.start()
        result = run(COUNT, address=cluster.address)
        starting.join()
    finally:
        cluster.stop()
    assert list(result) == COUNTED
    assert "waiting for the workers of tcp://127.0.0.1" in capfd.readouterr().err
    assert "1 of 1 workers have several threads (" in result.notes[0]
    assert "has 3), and a process runs one task of a job at a time" in result.notes[0]


ONE_AT_A_TIME = """
import threading, time
inside = threading.Semaphore(1)
def alone():
    assert inside.acquire(blocking=False), "two at once"
    time.sleep(0.002)
    inside.release()
def map(key, dims, value, context):
    alone()
    context.write(key, 1)
def combine(key, values, context):
    alone()
    context.write(key, sum(values))
def reduce(key, values, context):
    alone()
    context.write(key, sum(values))
"""


@pytest.mark.slow
def test_workers_with_threads_run_one_function_at_a_time(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    cluster = DaskCluster(tmp_path / "cluster", 0)
    try:
        cluster.start_worker(nthreads=4, nanny=False)
        assert list(run(ONE_AT_A_TIME, address=cluster.address, num_reducers=4)) == COUNTED
    finally:
        cluster.stop()


def without_daskmr(folder: Path) -> dict[str, str]:
    """An environment in which Python does not find daskmr, installed or not."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import sys; sys.modules['daskmr'] = None")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_a_worker_without_daskmr_is_found_at_once(run: Callable[..., Any], tmp_path: Path) -> None:
    cluster = DaskCluster(tmp_path / "cluster", 1)
    try:
        cluster.start_worker(env=without_daskmr(tmp_path / "without"))
        with pytest.raises(InputError, match="daskmr is not installed on the worker tcp://127"):
            run(COUNT, address=cluster.address)
    finally:
        cluster.stop()


# As SLEEPING; but no line ends before as many workers have begun.
AWAITING = """
import os, pathlib, time
def map(key, dims, value, context):
    pathlib.Path({marker!r}, str(os.getpid())).touch()
    while len(os.listdir({marker!r})) < {workers}:
        time.sleep(0.05)
    time.sleep({seconds})
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.mark.slow
def test_workers_come_and_go(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "SLEEPING", AWAITING.replace("{workers}", "3"))
    from distributed import Client

    cluster = DaskCluster(tmp_path / "cluster", 1)
    try:
        with (
            started(data, tmp_path, cluster, "-q", seconds=0.05) as process,
            Client(cluster.address, set_as_default=False) as client,
        ):
            cluster.start_worker(nanny=False)
            second = cluster.start_worker(nanny=False)
            wait_until(lambda: (tmp_path / "marker" / str(second.pid)).exists(), 60)
            first = next(iter(client.scheduler_info()["workers"]))
            client.retire_workers([first], close_workers=True)
            _, said = process.communicate(timeout=60)
            assert first not in client.scheduler_info()["workers"]
    finally:
        cluster.stop()
    assert (process.returncode, said) == (0, "")
    written = (tmp_path / "out").read_text()
    assert written == "".join(f"{key}\t{count}\n" for key, count in COUNTED)


@pytest.mark.slow
def test_a_worker_that_joins_with_another_daskmr(data: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(ROOT / "daskmr", other / "daskmr", ignore=shutil.ignore_patterns("*.pyc"))
    (other / "daskmr" / "_version.py").write_text('__version__ = "99.9"\n')
    cluster = DaskCluster(tmp_path / "cluster", 1)
    try:
        with started(data, tmp_path, cluster, "-q", seconds=0.1) as process:
            cluster.start_worker(env={"PYTHONPATH": str(other)}, nanny=False)
            _, said = process.communicate(timeout=60)
    finally:
        cluster.stop()
    assert process.returncode == 1
    assert said.startswith("daskmr: daskmr is 99.9 on the worker tcp://127.0.0.1:")


@pytest.mark.slow
def test_a_worker_that_joins_without_daskmr(data: Path, tmp_path: Path) -> None:
    cluster = DaskCluster(tmp_path / "cluster", 1)
    try:
        with started(data, tmp_path, cluster, "-q", seconds=0.1) as process:
            cluster.start_worker(env=without_daskmr(tmp_path / "without"), nanny=False)
            _, said = process.communicate(timeout=60)
    finally:
        cluster.stop()
    # It cannot read its first task, and leaves; another one takes that up.
    assert (process.returncode, said) == (0, "")
    assert (tmp_path / "out").read_text() == "".join(f"{key}\t{count}\n" for key, count in COUNTED)
