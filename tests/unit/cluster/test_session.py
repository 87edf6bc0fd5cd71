"""Sessions: where a job runs, how it fails, and that nothing is left behind."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import Future

import dask
import dask.bag as db
import psutil
import pytest
from support.jobs import ROOT

from daskmr import signals
from daskmr.cluster.preload import MODULES
from daskmr.cluster.session import Session, WorkerDied, _Guard, connect
from daskmr.config import load_config
from daskmr.errors import InputError, JobError, TaskFailed


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def bag(function, n=4):
    return db.from_sequence(range(n), npartitions=n).map(function)


@pytest.fixture
def local(tmp_path):
    def open_session(n=4, **options):
        return connect(load_config(**options), n, run_dir=tmp_path)

    return open_session


def worker_processes():
    """Descendants of this process that are not the forkserver or the resource tracker."""
    return [p for p in psutil.Process().children(recursive=True) if p.ppid() != os.getpid()]


# --- computing ----------------------------------------------------------------------------------


def test_inline_computes_in_this_process(tmp_path):
    with connect(load_config(), 2, inline=True, run_dir=tmp_path) as session:
        assert session.compute(bag(lambda x: os.getpid(), 2)) == [os.getpid()] * 2
        assert (session.client, session.workers, session.dashboard_link) == (None, 1, None)


def test_local_cluster_computes_and_leaves_nothing(local, tmp_path):
    settings, environment = json.dumps(dask.config.config, default=str), dict(os.environ)
    with local(num_mappers=2) as session:
        assert session.workers == 2
        assert session.compute(bag(lambda x: x * x)) == [0, 1, 4, 9]
        assert session.compute(dask.delayed(sum)([1, 2])) == 3
    assert json.dumps(dask.config.config, default=str) == settings
    assert dict(os.environ) == environment
    assert os.listdir(tmp_path) == []
    wait_until(lambda: not worker_processes(), 5)


def test_no_more_workers_than_partitions(local):
    with local(1, num_mappers=2) as session:
        assert session.workers == 1


def test_too_many_mappers(local):
    with pytest.raises(InputError, match="100000 mappers are too many"), local(num_mappers=100000):
        pass


def test_everything_listens_on_127_0_0_1(local):
    with local(num_mappers=2) as session:
        session.compute(bag(lambda x: x))
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        listening = [
            connection.laddr.ip
            for process in processes
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
    assert len(listening) >= 4
    assert set(listening) == {"127.0.0.1"}


def test_workers_come_from_a_sound_forkserver(local):
    def look(_):
        import daskmr.cluster.preload

        loaded = [name for name in daskmr.cluster.preload.MODULES if name in sys.modules]
        return daskmr.cluster.preload.FAILED, loaded, os.getppid()

    with local(1) as session:
        [(failed, loaded, parent)] = session.compute(bag(look, 1))
    for name in failed:  # only what cannot be imported here either
        with pytest.raises(ImportError):
            importlib.import_module(name)
    assert set(loaded) | set(failed) == set(MODULES)
    server = psutil.Process(parent)
    assert server.ppid() == os.getpid()
    assert server.num_threads() == 1


def test_what_is_set_inside_dask_is_still_looked_at():
    """Without these a start takes longer, and nothing else would tell."""
    from distributed import nanny, utils

    assert utils._forkserver_preload_set in (True, False)
    assert "_forkserver_preload_set" in inspect.getsource(utils.get_mp_context)
    assert nanny.WorkerProcess._init_msg_interval < 1
    waiting = inspect.getsource(nanny.WorkerProcess._wait_until_connected)
    assert "sleep(self._init_msg_interval)" in waiting


def test_workers_see_the_environment_of_this_process(local):
    names = ("PYTHONPATH", "DASK_LOGGING__DISTRIBUTED", "DASKMR_FORKSERVER")
    with local(1) as session:
        seen = session.compute(bag(lambda _: {name: os.environ.get(name) for name in names}, 1))
    assert seen == [{name: os.environ.get(name) for name in names}]


def test_dashboard_is_attached_later(local):
    with local(1) as session:
        assert session.dashboard_link is None
        session.attach_dashboard()
        wait_until(lambda: session.dashboard_link is not None)
        assert session.dashboard_link.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(session.dashboard_link, timeout=60) as answer:
            assert answer.status == 200


def test_dashboard_is_never_attached_when_it_is_off(local):
    with local(1, dashboard="off") as session:
        session.attach_dashboard()
        assert session.compute(bag(lambda x: x, 1)) == [0]
        assert session._cluster._dashboard is None


def test_dashboard_listens_where_it_is_told_from_the_start(local):
    port = free_port()
    with local(1, dashboard=f":{port}") as session:
        wait_until(lambda: session.dashboard_link is not None)
        assert session.dashboard_link == f"http://127.0.0.1:{port}/status"
        with urllib.request.urlopen(session.dashboard_link, timeout=60) as answer:
            assert answer.status == 200


def test_a_port_that_is_taken_is_refused(local):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"cannot listen on 127.0.0.1:{port}"),
            local(1, dashboard=f"127.0.0.1:{port}"),
        ):
            pass


def test_pages_are_added_to_the_dashboard(local, caplog):
    def mount(application, server, scheduler):
        added.append((server.port, scheduler.address))

    def fail(*_):
        raise ValueError("no page")

    added = []
    with local(1) as session:
        session.add_page(fail)
        session.add_page(mount)
        session.attach_dashboard()
        wait_until(lambda: session.dashboard_link is not None)
        port = int(session.dashboard_link.split(":")[2].split("/")[0])
        assert added == [(port, session.client.scheduler.address)]
    assert "no page" in caplog.text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_hooks_run_while_it_computes_and_may_end_it(local):
    calls = []

    def hook():
        calls.append(1)
        if len(calls) == 3:
            raise InputError("enough")

    with local(1) as session:
        session.watch(hook)
        with pytest.raises(InputError, match="enough"):
            session.compute(bag(lambda _: time.sleep(60), 1))
    assert len(calls) == 3


# --- failures -----------------------------------------------------------------------------------


def fail(x):
    if x == 2:
        raise TaskFailed("the message", "the details")
    return x


@pytest.mark.parametrize("inline", [True, False])
def test_task_failed_is_a_job_error(tmp_path, inline):
    def task(x):
        return fail(x)

    with connect(load_config(), 4, inline=inline, run_dir=tmp_path) as session:
        with pytest.raises(JobError, match="the message") as caught:
            session.compute(bag(task))
        assert caught.value.details == "the details"
        assert session.compute(bag(lambda x: x, 2)) == [0, 1]


def test_other_exceptions_arrive_as_they_are(local):
    with local(1) as session, pytest.raises(ZeroDivisionError):
        session.compute(bag(lambda x: x // 0, 1))


def test_a_worker_that_dies_once_costs_nothing(local, tmp_path_factory):
    marker = tmp_path_factory.mktemp("marker") / "died"

    def die_once(x):
        if x == 1 and not marker.exists():
            marker.touch()
            os._exit(7)
        return x

    with local(num_mappers=2) as session:
        assert session.compute(bag(die_once, 8)) == list(range(8))
    assert marker.exists()


@pytest.mark.parametrize("poison", [0, 5, 11])
def test_a_worker_that_always_dies_names_the_partition(local, poison):
    def die(x):
        if x == poison:
            os._exit(7)
        time.sleep(0.02)
        return x

    with local(12, num_mappers=2) as session:
        with pytest.raises(WorkerDied) as caught:
            session.compute(bag(die, 12))
        assert caught.value.partition == poison
        assert caught.value.last_worker.startswith("tcp://127.0.0.1:")


# --- somebody's client --------------------------------------------------------------------------


@pytest.fixture
def client():
    from distributed import Client, LocalCluster

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def test_existing_client_is_used_and_left_as_it_was(client, tmp_path):
    settings = json.dumps(dask.config.config, default=str)
    with connect(load_config(), 4, client=client, run_dir=tmp_path) as session:
        assert session.client is client
        assert json.dumps(dask.config.config, default=str) == settings
        assert session.compute(bag(lambda x: -x)) == [0, -1, -2, -3]
        with pytest.raises(JobError, match="the message"):
            session.compute(bag(fail))
    assert client.status == "running"
    assert client.submit(lambda: 5).result() == 5


def test_asynchronous_or_closed_clients_are_refused(client, tmp_path):
    class Asynchronous:
        asynchronous = True

    with (
        pytest.raises(InputError, match="asynchronous"),
        connect(load_config(), 1, client=Asynchronous(), run_dir=tmp_path),
    ):
        pass
    client.close()
    with (
        pytest.raises(InputError, match="closed"),
        connect(load_config(), 1, client=client, run_dir=tmp_path),
    ):
        pass


def test_all_workers_gone_is_an_error(client, tmp_path, monkeypatch):
    monkeypatch.setattr(_Guard, "_INTERVAL", 0.1)
    monkeypatch.setattr(_Guard, "_PATIENCE_AT_FIRST", 0.5)
    with connect(load_config(), 1, client=client, run_dir=tmp_path) as session:
        client.cluster.scale(0)
        wait_until(lambda: not client.scheduler_info()["workers"])
        with pytest.raises(JobError, match="All workers are gone"):
            session.compute(bag(lambda x: x, 1))


def test_paused_workers_are_an_error():
    guard = _Guard(None)
    paused = {
        "status": "paused",
        "metrics": {"memory": 3 << 20, "task_counts": {}},
        "memory_limit": 4 << 20,
        "local_directory": os.curdir,
    }
    busy = paused | {"metrics": {"task_counts": {"executing": 1}}}
    guard._judge([busy, paused], time.monotonic() + 1e6)
    with pytest.raises(JobError, match=r"3 MiB of its 4 MiB of memory, and .* MiB of disk"):
        guard._judge([paused, paused], time.monotonic() + 2e6)


def test_a_silent_scheduler_is_an_error(monkeypatch):
    guard = _Guard(None)
    guard._asking, guard._asked = Future(), time.monotonic()
    guard.check()
    monkeypatch.setattr(_Guard, "_SILENCE", -1.0)
    with pytest.raises(JobError, match="has not answered for"):
        guard.check()


def test_scheduler_gone_is_an_error(client, tmp_path):
    def close_scheduler():
        client.cluster.loop.add_callback(client.cluster.scheduler.close)

    with connect(load_config(), 1, client=client, run_dir=tmp_path) as session:
        session.watch(close_scheduler)
        with pytest.raises(JobError, match="connection to the Dask scheduler is lost"):
            session.compute(bag(lambda _: time.sleep(1), 1))


# --- whole processes ----------------------------------------------------------------------------

SCRIPT = """
import ctypes, os, re, signal, sys, threading, time
from daskmr.cluster import session
from daskmr.cluster import forkserver
from daskmr import signals
forkserver.prewarm()

def stuck(kind, marker):
    if kind == "gil":
        open(marker, "w").close()
        re.match(r"(a+)+$", "a" * 60 + "b")
    if kind == "deaf":
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))  # SIG_IGN, from a thread
        threading.Thread(target=time.sleep, args=(600,)).start()
    if kind == "stopped":
        open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
    open(marker, "w").close()
    time.sleep(600)

def main(kind, run_dir, marker):
    import dask
    from daskmr.config import load_config
    from daskmr.errors import TaskFailed
    def task(x):
        if kind == "success":
            return x
        if kind == "failure":
            raise TaskFailed("as it should")
        stuck(kind, marker)
    with session.connect(load_config(num_mappers=2), 2, run_dir=run_dir) as opened:
        print(opened.compute(dask.delayed(sum)([dask.delayed(task)(i) for i in range(2)])))

from daskmr.errors import Interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
try:
    with signals.signals():
        main(*sys.argv[1:])
except Interrupted as interrupted:
    raise SystemExit(interrupted.exit_code)
"""


class Process:
    """A script in a session of its own, so that whatever it leaves can be found."""

    def __init__(self, folder, text, *args):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(text))
        self.run_dir, self.marker = folder / "run", folder / "marker"
        self.run_dir.mkdir()
        self.popen = subprocess.Popen(
            [sys.executable, str(script), *args],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self):
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err

    def left(self):
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.popen.pid:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return [p for p in found if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def start(tmp_path):
    started = []

    def start(text, kind):
        process = Process(tmp_path, text, kind, str(tmp_path / "run"), str(tmp_path / "marker"))
        started.append(process)
        return process

    yield start
    for process in started:
        for stray in process.left():
            stray.kill()
        process.popen.communicate()


def test_success_leaves_nothing_and_says_nothing(start):
    process = start(SCRIPT, "success")
    assert process.finish() == (0, "1\n", "")
    wait_until(lambda: not process.left(), 5)
    assert list(process.run_dir.iterdir()) == []


def test_failure_leaves_nothing(start):
    process = start(SCRIPT, "failure")
    code, _, err = process.finish()
    assert (code, err.splitlines()[-1]) == (1, "daskmr.errors.JobError: as it should")
    wait_until(lambda: not process.left(), 5)
    assert list(process.run_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("signum", "kind"),
    [
        (signal.SIGINT, "gil"),
        (signal.SIGTERM, "deaf"),
        (signal.SIGHUP, "stopped"),
    ],
)
def test_a_signal_ends_all_whatever_the_workers_do(start, signum, kind):
    process = start(SCRIPT, kind)
    wait_until(process.marker.exists)
    process.popen.send_signal(signum)
    sent = time.monotonic()
    assert process.finish() == (128 + signum, "", "")
    assert time.monotonic() - sent < 3
    wait_until(lambda: not process.left(), 5)
    assert list(process.run_dir.iterdir()) == []


def test_a_signal_to_the_whole_group(start):
    process = start(SCRIPT, "deaf")
    wait_until(process.marker.exists)
    os.killpg(process.popen.pid, signal.SIGINT)
    assert process.finish() == (130, "", "")
    wait_until(lambda: not process.left(), 5)


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 5])
def test_a_signal_at_any_stage_of_the_start(start, processes):
    process = start(SCRIPT, "deaf")
    wait_until(lambda: len(process.left()) >= processes)
    process.popen.send_signal(signal.SIGTERM)
    code, _, _ = process.finish()
    assert code in (143, -signal.SIGTERM)  # the latter before `signals` is entered
    wait_until(lambda: not process.left(), 5)


def test_kill_9_takes_a_worker_along_that_holds_the_gil(start):
    process = start(SCRIPT, "gil")
    wait_until(process.marker.exists)
    process.popen.kill()
    wait_until(lambda: not process.left(), 5)


@pytest.mark.slow
def test_a_clean_up_that_hangs_is_cut_off(start):
    process = start(
        """
        import subprocess, sys, time
        from daskmr.cluster import session
        from daskmr import signals
        signals.on_hard_exit(lambda: print("removed", flush=True))
        with signals.signals():
            subprocess.Popen(["sleep", "600"])
            try:
                open(sys.argv[3], "w").close()
                time.sleep(600)
            finally:
                time.sleep(600)
        """,
        "",
    )
    wait_until(process.marker.exists)
    for _ in range(3):  # the second and third are ignored
        process.popen.send_signal(signal.SIGTERM)
    assert process.finish() == (143, "removed\n", "")
    wait_until(lambda: not process.left(), 5)


UNGUARDED = """
import os, sys
import dask.bag as db
from daskmr.cluster.session import connect
from daskmr.config import load_config
open(sys.argv[3], "a").write("once")

def double(x):
    return 2 * x

def die_once(x):
    if not os.path.exists(sys.argv[3] + "2"):
        open(sys.argv[3] + "2", "w").close()
        os._exit(1)
    return double(x)

for _ in range(2):
    with connect(load_config(), 1, run_dir=sys.argv[2]) as session:
        print(session.compute(db.from_sequence([4]).map(die_once)))
"""


def test_a_script_without_main_guard_just_works(start):
    process = start(UNGUARDED, "")
    assert process.finish() == (0, "[8]\n[8]\n", "")
    assert process.marker.read_text() == "once"


def test_signals_leaves_the_handlers_as_they_were():
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with signals.signals():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_what_starts_the_workers_is_there_before_dask() -> None:
    """Each import before that is one that the forkserver waits for."""
    code = "import sys, daskmr.cluster; print({'dask', 'distributed', 'psutil'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_who_was_killed_before_the_session_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {("tcp://10.0.0.1:4000", 20): 100}
    monkeypatch.setattr(Session, "_kills_of_scheduler", lambda _: dict(told))
    session = Session(None, 1)
    session.forget_kills()
    assert session.killed_for_memory() == {}
    told[("tcp://10.0.0.2:4000", 20)] = 200
    assert session.killed_for_memory() == {("tcp://10.0.0.2:4000", 20): 200}
