"""Workers of this machine: how they start and listen, and that nothing of them is left behind."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from contextlib import suppress

import psutil
import pytest
from support.dask_cluster import bag
from support.jobs import ROOT
from support.processes import SessionProcess, wait_until

from daskmr.cluster.preload import MODULES
from daskmr.errors import InputError


def test_no_more_workers_than_partitions(local):
    with local(1, num_mappers=2) as session:
        assert session.workers == 1


def test_too_many_mappers(local):
    with pytest.raises(InputError, match="100000 mappers are too many"), local(num_mappers=100000):
        pass


def test_a_worker_that_is_stopped_while_it_starts_is_replaced(local):
    stopped = []

    def stop_one():
        with suppress(psutil.Error):  # other processes may end meanwhile
            for each in psutil.Process().children(recursive=True):
                # Workers are forks of the forkserver, which may also run other programs.
                is_fork = each.cmdline() == each.parent().cmdline()
                if is_fork and each.ppid() != os.getpid() and not stopped:
                    each.suspend()
                    stopped.append(each)
        return stopped

    stopping = threading.Thread(target=wait_until, args=[stop_one])
    stopping.start()
    with local(2, num_mappers=2, stopped_timeout=0.5) as session:
        assert session.compute(bag(lambda x: x, 2)) == [0, 1]
        stopping.join()
    assert len(stopped) == 1


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
        with urllib.request.urlopen(session.dashboard_link, timeout=10) as answer:
            assert answer.status == 200


def test_dashboard_is_never_attached_when_it_is_off(local):
    with local(1, dashboard="off") as session:
        session.attach_dashboard()
        assert session.compute(bag(lambda x: x, 1)) == [0]
        assert session._local.dashboard._thread is None


def test_dashboard_listens_where_it_is_told_from_the_start(local):
    port = free_port()
    with local(1, dashboard=f":{port}") as session:
        wait_until(lambda: session.dashboard_link is not None)
        assert session.dashboard_link == f"http://127.0.0.1:{port}/status"
        with urllib.request.urlopen(session.dashboard_link, timeout=10) as answer:
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


class Script(SessionProcess):
    """A script in a session of its own."""

    def __init__(self, folder, text, *args):
        script = folder / "script.py"
        script.write_text(textwrap.dedent(text))
        self.run_dir, self.marker = folder / "run", folder / "marker"
        self.run_dir.mkdir()
        super().__init__(
            [sys.executable, str(script), *args],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self):
        out, err = self.popen.communicate(timeout=30)
        return self.popen.returncode, out, err


@pytest.fixture
def start(tmp_path):
    started = []

    def start(text, kind):
        process = Script(tmp_path, text, kind, str(tmp_path / "run"), str(tmp_path / "marker"))
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


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


@pytest.mark.parametrize(
    "processes",
    [1, pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow), 5],
)
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
