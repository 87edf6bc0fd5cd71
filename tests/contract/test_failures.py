"""The contract of failures: a clear end with the right exit code, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
from support.jobs import DIRECTORY, daskmr, file_name, write_tree
from support.processes import SessionProcess, wait_until

from daskmr import InputError, JobError, mapreduce

IDENTITY = """
    def map(key, dims, value, context):
        context.write(key, value)
    def reduce(key, values, context):
        for value in values:
            context.write(key, value)
"""


class Command(SessionProcess):
    """The command in a session of its own."""

    def __init__(self, root, text, *options, files=(("k\t1",),) * 4):
        self.root, self.marker, self.output = root, root / "marker", root / "out.txt"
        self.output.write_text("old")
        text = textwrap.dedent(text).replace("MARKER", repr(str(self.marker)))
        (root / "job.py").write_text(text)
        write_tree(root / "data", files)
        command = [*("run", "job.py", "-d", "data", "-o", "out.txt", "-w", "work"), *options]
        self.errors = root / "stderr"  # no pipe: a stray process would hold it open
        with self.errors.open("w") as errors:
            super().__init__(
                [sys.executable, "-m", "daskmr", *command],
                cwd=root,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                # A shell may have it ignored for what it starts in the background.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def finish(self, seconds=60):
        return self.popen.wait(seconds), self.errors.read_text()

    def leaves_nothing(self):
        wait_until(lambda: not self.left(), 5)
        found = {path.name for path in self.root.iterdir()} - {"marker", "stderr", "__pycache__"}
        if self.popen.returncode == 0:
            found.discard("out.txt.meta.json")
        assert found == {"data", "job.py", "out.txt"}
        assert self.output.read_text() == "old"
        return True


@pytest.fixture
def start(tmp_path):
    started = []

    def start(text, *options, **kwargs):
        started.append(Command(tmp_path, text, "-q", *options, **kwargs))  # failures alone
        return started[-1]

    yield start
    for command in started:
        command.kill()


@pytest.fixture
def run(tmp_path):
    """Run the text of a script on two worker processes, with an old output to be kept."""

    def run(text, files, **options):
        script = tmp_path / "job.py"
        script.write_text(textwrap.dedent(text).replace("FOLDER", repr(str(tmp_path))))
        options = {"num_mappers": 2, "work_dir": tmp_path / "work"} | options
        data = write_tree(tmp_path / "data", files)
        return mapreduce(script, data_dir=data, **options)

    return run


# --- scripts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def map(key, dims, value, context)\n    pass\n", ["line 1: syntax error", "context)\n"]),
        ("import no_such_module\n", ["job.py, line 1", "'no_such_module' is missing", "install"]),
        ("def helper():\n    1 / 0\nhelper()\n", ["ZeroDivisionError", "line 2, in helper"]),
        ("raise SystemExit(0)\n", ["calls sys.exit while it is loaded"]),
        ("map = 7\n", ["`map` is 7, not a function"]),
        ("def map(key, value): pass\n", ["4 positional arguments"]),
    ],
    ids=["syntax", "import", "raises", "exits", "no function", "arguments"],
)
def test_a_script_that_cannot_be_used_is_found_before_any_work(start, text, expected):
    command = start(text, "--inline")
    code, error = command.finish()
    assert code == 2
    for words in expected:
        assert words in error
    assert f"daskmr: {command.root}/job.py" in error
    assert "daskmr/" not in error  # a traceback shows the script's own lines only
    assert command.leaves_nothing()


def test_signals_in_map_fail_the_job_and_keep_the_old_output(start):
    text = """
        import signal
        def map(key, dims, value, context):
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            context.write(key, int(value))
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    command = start(text, "-m", "1")
    code, error = command.finish()
    assert code == 1
    assert ", line 1: ValueError: signal only works in main thread" in error
    assert "(job.py, line 4, in map). Signal handlers can only be set in the main thread" in error
    assert command.leaves_nothing()


def test_a_script_that_does_not_exist(tmp_path):
    done = daskmr("run", "no_job.py", "-d", ".", "-o", "out.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert f"There is no job script no_job.py (looked for in {tmp_path})" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2"]])
def test_a_script_may_start_threads_that_never_end(start, options):
    script = """
        import threading
        threading.Thread(target=threading.Event().wait).start()
    """
    command = start(textwrap.dedent(script) + textwrap.dedent(IDENTITY), *options)
    code, error = command.finish(20)
    assert code == 0, error
    assert command.output.read_text() == "k\t1\n" * 4
    command.output.write_text("old")
    assert command.leaves_nothing()


def test_a_failing_script_with_a_thread_that_never_ends(start):
    script = """
        import threading
        threading.Thread(target=threading.Event().wait).start()
        def map(key, dims, value, context):
            1 / 0
    """
    command = start(script, "-m", "2")
    assert command.finish(20)[0] == 1
    assert command.leaves_nothing()


def test_verbose_shows_the_whole_traceback_and_else_only_the_users(start):
    command = start("def map(key, dims, value, context):\n    1 / 0\n", "--inline", "-v")
    code, error = command.finish()
    assert code == 1
    assert f"{os.sep}daskmr{os.sep}" in error
    assert 'job.py", line 2, in map' in error


# --- signals ------------------------------------------------------------------------------------

AT = {
    "load": """
        import time
        open(MARKER, "w").close()
        time.sleep(600)
        def map(key, dims, value, context):
            pass
    """,
    "map": """
        import time
        def map(key, dims, value, context):
            open(MARKER, "w").close()
            time.sleep(600)
    """,
    "combine": """
        import time
        def map(key, dims, value, context):
            for _ in range(50):
                context.write(key, value)
        def combine(key, values, context):
            open(MARKER, "w").close()
            time.sleep(600)
        def reduce(key, values, context):
            pass
    """,
    "reduce": """
        import time
        def map(key, dims, value, context):
            context.write(key, value)
        def reduce(key, values, context):
            open(MARKER, "w").close()
            time.sleep(600)
    """,
    "step": """
        import time
        from daskmr import Job
        def first(key, dims, value, context):
            context.write(key, value)
        def collect(key, values, context):
            context.write(key, len(values))
        def second(key, dims, value, context):
            open(MARKER, "w").close()
            time.sleep(600)
        steps = [Job(map=first, reduce=collect), Job(map=second)]
    """,
    "gil": """
        import re
        def map(key, dims, value, context):
            open(MARKER, "w").close()
            re.match(r"(a+)+$", "a" * 60 + "b")
    """,
    "deaf": """
        import time
        def map(key, dims, value, context):
            open(MARKER, "w").close()
            while True:
                try:
                    time.sleep(600)
                except BaseException:
                    pass
    """,
    "child": """
        import subprocess
        def map(key, dims, value, context):
            subprocess.run(["sh", "-c", "touch " + MARKER + "; exec sleep 600"])
    """,
    "children": """
        import subprocess, time
        def map(key, dims, value, context):
            while True:
                subprocess.Popen(["sleep", "600"])
                open(MARKER, "w").close()
                time.sleep(0.01)
    """,
}
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def interrupt(command, signum, group=False):
    send = os.killpg if group else os.kill
    send(command.popen.pid, signum)
    sent = time.monotonic()
    code, error = command.finish(20)
    assert time.monotonic() - sent < 5
    assert code == CODES[signum], error
    return error


@pytest.mark.parametrize(
    ("at", "signum", "options"),
    [
        pytest.param("load", signal.SIGINT, ["-m", "2"], marks=pytest.mark.slow),
        ("load", signal.SIGTERM, ["--inline"]),
        ("map", signal.SIGINT, ["--inline"]),
        pytest.param("map", signal.SIGTERM, ["-m", "2"], marks=pytest.mark.slow),
        pytest.param("map", signal.SIGHUP, ["-m", "2", "-r", "7"], marks=pytest.mark.slow),
        ("combine", signal.SIGINT, ["-m", "2"]),
        ("reduce", signal.SIGINT, ["-m", "2"]),
        pytest.param("reduce", signal.SIGHUP, ["--inline"], marks=pytest.mark.slow),
        ("step", signal.SIGINT, ["-m", "2"]),
        ("step", signal.SIGTERM, ["--inline"]),
        ("gil", signal.SIGINT, ["--inline"]),  # in C code, which looks for signals
        ("gil", signal.SIGHUP, ["-m", "2"]),
        ("child", signal.SIGTERM, ["-m", "2"]),
        pytest.param("child", signal.SIGINT, ["--inline"], marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_the_job_and_leaves_nothing(start, at, signum, options):
    command = start(AT[at], *options)
    wait_until(command.marker.exists)
    error = interrupt(command, signum)
    assert error == "daskmr: Interrupted; nothing was written.\n"
    assert command.leaves_nothing()


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2"]])
def test_a_script_that_starts_processes_all_the_time_leaves_none(start, options):
    command = start(AT["children"], *options)
    wait_until(command.marker.exists)
    interrupt(command, signal.SIGTERM)
    assert command.leaves_nothing()


@pytest.mark.slow
def test_a_script_that_swallows_the_interruption_is_ended_all_the_same(start):
    command = start(AT["deaf"], "--inline")
    wait_until(command.marker.exists)
    interrupt(command, signal.SIGTERM)
    assert command.leaves_nothing()


def test_ctrl_c_reaches_all_processes_of_a_terminal(start):
    command = start(AT["map"], "-m", "2")
    wait_until(command.marker.exists)
    error = interrupt(command, signal.SIGINT, group=True)
    assert error == "daskmr: Interrupted; nothing was written.\n"
    assert command.leaves_nothing()


SWALLOWED = """
    import gc, os, signal
    class Finalizer:
        def __del__(self):  # Python prints what is raised here, and goes on
            os.kill(os.getpid(), signal.SIGINT)
    def map(key, dims, value, context):
        Finalizer()
        context.write(key, 1)
"""


def test_an_interruption_that_a_finalizer_swallowed_is_none_the_less_one(start):
    command = start(SWALLOWED, "--inline")
    code, error = command.finish(20)
    assert code == 130
    assert error.endswith("daskmr: Interrupted; nothing was written.\n")
    assert command.leaves_nothing()


def test_impatience_changes_nothing(start):
    command = start(AT["map"], "-m", "2")
    wait_until(command.marker.exists)
    for _ in range(3):
        os.kill(command.popen.pid, signal.SIGINT)
    assert interrupt(command, signal.SIGINT) == "daskmr: Interrupted; nothing was written.\n"
    assert command.leaves_nothing()


def test_a_signal_that_nohup_ignores_changes_nothing(start, tmp_path):
    script = f"""
        import os, time
        def map(key, dims, value, context):
            open(MARKER, "w").close()
            while not os.path.exists({str(tmp_path / "data" / "go")!r}):
                time.sleep(0.01)
            context.write(key, value)
    """
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command = start(script, "-m", "1", files=[["k\t1"]])
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(command.marker.exists)
    os.kill(command.popen.pid, signal.SIGHUP)
    (tmp_path / "data" / "go").touch()
    code, error = command.finish()
    assert (code, command.output.read_text()) == (0, "k\t1\n"), error


@pytest.mark.parametrize(
    "processes",
    [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow), 5],
)
def test_a_signal_while_processes_start(start, processes):
    """They are the command, the resource tracker, the forkserver, and the workers."""
    command = start(AT["map"], "-m", "2")
    wait_until(lambda: len(command.left()) >= processes)
    interrupt(command, signal.SIGTERM)
    assert command.leaves_nothing()


def test_a_signal_while_the_output_is_written(start):
    script = """
        def map(key, dims, value, context):
            for number in range(100_000):
                context.write(f"{number}", "x" * 500)
        def reduce(key, values, context):
            context.write(key, values[0])
    """
    command = start(script, "-m", "1", files=[["k\t1"]])

    def is_writing():
        found = command.root.glob(f".{command.output.name}.*")
        return any(path.stat().st_size > 0 for path in found)

    wait_until(is_writing)
    interrupt(command, signal.SIGTERM)
    assert command.leaves_nothing()


# The script is loaded in the main process, so it can have the signal come at an exact moment.
AT_ONCE_AFTER = """
    import builtins, fcntl, os, pathlib, shutil, signal
    seen = []
    def interrupted_after(owner, name, matches):
        real = getattr(owner, name)
        def call(*args, **kwargs):
            result = real(*args, **kwargs)
            if not seen and any(matches in str(arg) for arg in args):
                seen.append(name)
                open(MARKER, "w").close()
                os.kill(os.getpid(), signal.SIGTERM)
            return result
        setattr(owner, name, call)
    interrupted_after({owner}, {name!r}, {matches!r})
"""


@pytest.mark.parametrize(
    ("owner", "name", "matches"),
    [
        ("os", "mkdir", "work"),
        ("os", "mkdir", "/.new-"),
        ("os", "open", "lock"),
        ("fcntl", "flock", ""),
        ("os", "rename", "run-"),
        ("os", "mkdir", "/segments"),
        ("builtins", "open", ".out.txt."),
        ("os", "scandir", "data"),
        ("os", "fsync", ""),
        ("os", "replace", ".out.txt."),
        ("shutil", "rmtree", "run-"),
        ("os", "rmdir", "run-"),
        ("os", "rmdir", "work"),
    ],
)
def test_a_signal_between_two_steps(start, owner, name, matches):
    """Either the old output and the code of the signal, or the new one and 0; never a mix."""
    text = AT_ONCE_AFTER.format(owner=owner, name=name, matches=matches)
    command = start(textwrap.dedent(text) + textwrap.dedent(IDENTITY), "--inline")
    code, error = command.finish(20)
    assert command.marker.exists()  # else this test is void
    outcome = (code, command.output.read_text())
    assert outcome in [(143, "old"), (0, "k\t1\n" * 4)], error
    assert "Traceback" not in error
    command.output.write_text("old")
    assert command.leaves_nothing()


@pytest.mark.slow
@pytest.mark.parametrize("options", [["-m", "2"], ["--inline"]])
@pytest.mark.parametrize("step", range(24))
def test_a_signal_at_any_moment(start, options, step):
    """No event to wait for: the moments between those of the other tests."""
    command = start(IDENTITY, *options)
    time.sleep(0.05 * step)
    signum = list(CODES)[step % 3]
    with contextlib.suppress(ProcessLookupError):
        os.kill(command.popen.pid, signum)
    sent = time.monotonic()
    code, error = command.finish(20)
    assert time.monotonic() - sent < 5
    wait_until(lambda: not command.left(), 5)
    if code == 0:
        assert command.output.read_text() == "k\t1\n" * 4
        command.output.write_text("old")
    else:
        # Before Python has started, and handles signals, the system ends the process; and while
        # it imports `site`, Python itself ends with 1, before any of our code could be asked.
        before_us = signum == signal.SIGINT and code == 1 and "init_import_site" in error
        assert code in (CODES[signum], -signum) or before_us, error
    assert command.leaves_nothing()


# --- workers that die ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["os._exit(1)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_worker_that_dies_once_costs_nothing(run, tmp_path, how):
    script = f"""
        import os, signal
        def map(key, dims, value, context):
            context.write(key, 1)
            marker = os.path.join(FOLDER, "died")
            if value == "poison" and not os.path.exists(marker):
                open(marker, "w").close()
                {how}
        def combine(key, values, context):
            context.write(key, sum(values))
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    files = [["k\t1", "bad", "l\t1"]] * 12
    files[5] = ["k\t1", "bad", "l\tpoison"]
    result = run(script, files, num_reducers=3)
    assert (tmp_path / "died").exists()
    assert list(result) == [("k", 12), ("l", 12)]
    assert (result.records, result.bad_records, result.files) == (36, 12, 12)


def test_a_reducer_that_dies_once_costs_nothing(run, tmp_path):
    script = """
        import os
        def map(key, dims, value, context):
            context.write(key, value)
        def reduce(key, values, context):
            marker = os.path.join(FOLDER, "died")
            if not os.path.exists(marker):
                open(marker, "w").close()
                os._exit(1)
            context.write(key, len(values))
    """
    # So small a budget that the pairs lie in segments, which outlive the worker.
    result = run(script, [[f"{n}\t" for n in range(100)]] * 12, num_reducers=3, spill_bytes="1 kB")
    assert (tmp_path / "died").exists()
    assert dict(list(result)) == {str(number): 12 for number in range(100)}
    assert (result.records, result.files) == (1200, 12)


POISON = """
    import os
    def map(key, dims, value, context):
        if value == "poison":
            os._exit(1)
        context.write(key, value)
"""


REDUCE = "def reduce(key, values, context): pass\n"


@pytest.mark.parametrize(
    ("poisonous", "files", "reduce"),
    [
        (7, 60, ""),  # more files than partitions, so that neighbours share one
        pytest.param(7, 60, "", marks=pytest.mark.slow, id="7-60--again"),
        (33, 60, REDUCE),
        pytest.param(0, 2, "", marks=pytest.mark.slow),
        (0, 1, ""),
        pytest.param(0, 1, REDUCE, marks=pytest.mark.slow),
    ],
)
def test_a_file_that_kills_its_worker_each_time_is_named(start, poisonous, files, reduce):
    lines = [["k\tpoison" if number == poisonous else "k\t1"] for number in range(files)]
    command = start(textwrap.dedent(POISON) + reduce, "-m", "2", files=lines)
    code, error = command.finish()
    assert code == 1
    path = command.root / "data" / DIRECTORY / file_name(poisonous)
    assert (
        f"worker process died each time it mapped {path} (the last time it was at line 1)" in error
    )
    assert [number for number in range(files) if file_name(number) in error] == [poisonous]
    assert "KilledWorker" not in error
    assert command.leaves_nothing()


def test_a_reducer_that_dies_each_time_is_an_error(run, tmp_path):
    script = """
        import os
        def map(key, dims, value, context):
            context.write(key, value)
        def reduce(key, values, context):
            os._exit(1)
    """
    with pytest.raises(JobError) as failure:
        run(script, [["k\t1"]] * 3, output=tmp_path / "out.txt")
    message = str(failure.value)
    assert "worker process" in message
    assert "died each time" in message
    assert "reduce" in message  # so that one knows where to look
    assert file_name(0) not in message
    assert not (tmp_path / "out.txt").exists()


def test_memory_that_runs_out_is_an_error_that_says_so(run):
    script = """
        def map(key, dims, value, context):
            hog = []
            while True:
                hog.append(bytes(10_000_000))
    """
    with pytest.raises(JobError) as failure:
        run(script, [["k\t1"]], memory_limit="400 MB")
    message = str(failure.value)
    assert file_name(0) in message
    assert "memory" in message
    assert "--memory-limit" in message


# --- exceptions that do not travel --------------------------------------------------------------

NASTY = {
    "RecursionError": ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
    "mutual recursion": (
        "def even(n): return odd(n)\ndef odd(n): return even(n)\neven(1)",
        "RecursionError",
    ),
    "unpicklable": (
        "class Odd(Exception):\n"
        "    def __init__(self, a, b): super().__init__('odd text'); self.a = lambda: 1\n"
        "raise Odd(1, 2)",
        "Odd: odd text",
    ),
    "no text": (
        "class Silent(Exception):\n    def __str__(self): raise RuntimeError\nraise Silent",
        "Silent: (its text cannot be shown",
    ),
    "100 MB": ("raise RuntimeError('x' * 100_000_000)", "RuntimeError: xxxx"),
    "100 MB of key": ("raise KeyError('x' * 100_000_000)", "KeyError: 'xxxx"),
    "many lines": ("raise RuntimeError('x\\n' * 1_000_000)", "RuntimeError: x x"),
    "surrogates": ("raise RuntimeError('\\ud800 \\x1b[31m')", "RuntimeError: \\ud800"),
    "a long chain": (
        "error = None\n"
        "for n in range(2000):\n"
        "    new = RuntimeError('y' * 1000); new.__cause__ = error; error = new\n"
        "raise error",
        "RuntimeError: yyyy",
    ),
    "a group": (
        "raise ExceptionGroup('group', [TypeError('z' * 10_000) for _ in range(100)])",
        "ExceptionGroup: group",
    ),
    "holds the data": (
        "hog = bytearray(200_000_000)\nraise LookupError('with frames that hold much')",
        "LookupError: with frames",
    ),
}


SHORT = ("RecursionError", "unpicklable", "100 MB")


@pytest.mark.parametrize(
    ("kind", "inline"),
    [*((kind, True) for kind in NASTY), *((kind, False) for kind in (*SHORT, "no text"))],
)
def test_an_exception_of_any_kind_is_a_quick_and_short_error(run, tmp_path, kind, inline):
    body, expected = NASTY[kind]
    script = "def map(key, dims, value, context):\n" + textwrap.indent(body, "    ")
    started = time.monotonic()
    with pytest.raises(JobError) as failure:
        run(script, [["k\t1"]] * 3, inline=inline, output=tmp_path / "out.txt")
    assert time.monotonic() - started < 30
    message = str(failure.value)
    assert expected in message
    assert "line 1: " in message
    assert len(message) < 1500
    assert len(message) + len(failure.value.details) < (5000 if kind in SHORT else 9000)
    assert not (tmp_path / "out.txt").exists()


def test_a_huge_key_and_a_huge_line_are_shortened_in_messages(run):
    reduce = "def map(k, d, v, c): c.write('x' * 10_000_000, v)\ndef reduce(k, v, c): 1 / 0\n"
    with pytest.raises(JobError, match="reduce failed for the key 'xxx") as failure:
        run(reduce, [["k\t1"]], inline=True)
    assert len(str(failure.value)) < 1500
    unsupported = "def map(k, d, v, c): c.write(['x' * 10_000_000], v)\ndef reduce(k, v, c): pass\n"
    with pytest.raises(JobError, match="A key can be") as failure:
        run(unsupported, [["k\t1"]], inline=True)
    assert len(str(failure.value)) < 1500
    with pytest.raises(JobError, match="--max-bad-records") as failure:
        run("def map(k, d, v, c): int(v)", [["k\t" + "x" * 1_000_000]], max_bad_records=0)
    assert len(str(failure.value)) < 1500


# --- map that never returns ---------------------------------------------------------------------

NEVER = {
    "sleep": "while True: time.sleep(1)",
    "gil": "re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "swallows": "stubborn()",
}


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2"]], ids=["inline", "cluster"])
@pytest.mark.parametrize("kind", [pytest.param("sleep", marks=pytest.mark.slow), "gil", "swallows"])
def test_file_timeout_ends_a_map_that_never_returns(start, kind, options):
    script = f"""
        import re, time
        def stubborn():
            while True:
                try:
                    time.sleep(1)
                except Exception:
                    pass
        def map(key, dims, value, context):
            if value == "slow":
                {NEVER[kind]}
            context.write(key, value)
    """
    files = [["k\tslow" if number == 2 else "k\t1"] for number in range(4)]
    started = time.monotonic()
    command = start(script, "--file-timeout", "1s", *options, files=files)
    code, error = command.finish(30)
    assert time.monotonic() - started < 15
    assert code == 1, error
    path = command.root / "data" / DIRECTORY / file_name(2)
    assert f"Mapping {path} took longer than --file-timeout allows (1 s)" in error
    assert "Traceback" not in error
    assert command.leaves_nothing()


@pytest.mark.parametrize("inline", [True, False])
def test_file_timeout_is_for_one_file_and_not_for_all(run, inline):
    script = """
        import time
        def map(key, dims, value, context):
            time.sleep(0.15)
            context.write(key, 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    result = run(script, [["k\t1"]] * 8, inline=inline, num_mappers=1, file_timeout="0.8s")
    assert list(result) == [("k", 8)]
    assert result.timings["map"] > 0.8


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_wall_clock_that_is_set_fails_no_job(run, monkeypatch, jump):
    """Inline, since what is set here is half of the clock that Dask's event loops go by."""
    monkeypatch.setattr("time.time", time.time)  # put back in the end
    script = f"""
        import time
        if not hasattr(time.time, "jump"):
            wall = time.time
            def set_clock():
                return wall() + {jump}
            set_clock.jump = True
            time.time = set_clock
        def map(key, dims, value, context):
            time.sleep(0.1)
            context.write(key, 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    result = run(script, [["k\t1"]] * 4, inline=True, file_timeout="20s")
    assert hasattr(time.time, "jump")
    assert list(result) == [("k", 4)]
    assert all(0 <= seconds < 60 for seconds in result.timings.values()), result.timings
    history = result.history
    assert 0 < history.ended - history.started < 60
    for span in history.tasks:
        assert history.started <= span.start <= span.end <= history.ended


@pytest.mark.parametrize("timeout", ["0", "-1s", "soon"])
def test_a_file_timeout_that_makes_no_sense(run, timeout):
    with pytest.raises(InputError, match="file-timeout"):
        run(IDENTITY, [["k\t1"]], file_timeout=timeout)


# --- after a failure ----------------------------------------------------------------------------


def test_the_next_run_works_and_sweeps_what_a_killed_one_left(start, tmp_path):
    command = start(AT["map"], "-m", "2")
    wait_until(command.marker.exists)
    os.kill(command.popen.pid, signal.SIGKILL)
    command.popen.wait(10)
    wait_until(lambda: not command.left(), 5)
    assert [path.name[:4] for path in (tmp_path / "work").iterdir()] == ["run-"]
    (tmp_path / "marker").unlink()
    command = start(IDENTITY, "-m", "2")
    assert command.finish()[0] == 0
    assert command.output.read_text() == "k\t1\n" * 4
    assert list((tmp_path / "work").iterdir()) == []


def test_a_failure_in_this_process_does_not_spoil_the_next_run(run):
    for _ in range(2):
        with pytest.raises(JobError, match="ZeroDivisionError"):
            run("def map(k, d, v, c): 1 / 0", [["k\t1"]] * 3)
        assert list(run(IDENTITY, [["k\t1"]] * 3)) == [("k", "1")] * 3
    # Only what serves the next run stays: the forkserver and the resource tracker.
    wait_until(lambda: all(p.ppid() == os.getpid() for p in descendants()), 5)


def descendants():
    return psutil.Process().children(recursive=True)


def test_two_runs_at_a_time_in_one_work_dir(start, tmp_path):
    first = start(AT["map"], "-m", "1")
    wait_until(first.marker.exists)
    other = tmp_path / "other.txt"
    script = tmp_path / "other.py"
    script.write_text(textwrap.dedent(IDENTITY))
    arguments = ("-d", tmp_path / "data", "-w", tmp_path / "work", "-o", other, "--inline")
    assert daskmr("run", script, *arguments).returncode == 0
    assert other.read_text() == "k\t1\n" * 4
    assert len(list((tmp_path / "work").iterdir())) == 1  # the first one's, and it still runs
    interrupt(first, signal.SIGTERM)
    other.unlink()
    (tmp_path / "other.txt.meta.json").unlink()
    script.unlink()
    assert first.leaves_nothing()
