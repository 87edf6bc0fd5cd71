"""What a script prints is told with its place, from any worker, and never too much of it."""

from __future__ import annotations

import contextlib
import gc
import io
import logging
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dask_cluster import DaskCluster
from support.jobs import DIRECTORY, file_name, write_tree

from daskmr import Job, JobError, mapreduce
from daskmr.diagnostics.collector import Watcher
from daskmr.run import workspace
from daskmr.stdio import LineStream, keep_alive
from daskmr.tasks import prints
from daskmr.tasks.prints import Rate, printing, redirected
from daskmr.tasks.progress import Printed, listening
from daskmr.tasks.user_calls import Call, current_call

SCRIPT = """
import logging, os, sys

log = logging.getLogger("job")

def map(key, dims, value, context):
    if value == "print":
        print("mapping", key)
        log.warning("a warning of %s", key)
    if value == "die":
        print("the last words")
        os._exit(1)
    context.write(key, 1)
    context.write(key, 1)

def setup_reduce(context):
    print("setting up")

def combine(key, values, context):
    print("combining", key, file=sys.stderr)
    context.write(key, sum(values))

def reduce(key, values, context):
    print("reducing", key)
    context.write(key, sum(values))
"""


class Lines(Watcher):
    def __init__(self) -> None:
        self.lines: list[Printed] = []

    def printed(self, line: Printed) -> None:
        self.lines.append(line)

    @property
    def told(self) -> set[tuple[str, str, str, int, str, int]]:
        return {
            (line.text, line.function, line.file, line.line, line.key, line.script_line)
            for line in self.lines
        }


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Printed]]:
    """What is told in this process, where nothing has been told yet."""
    monkeypatch.setattr(prints, "_output", prints._Output())
    told: list[Any] = []
    with listening(told.append):
        yield told


@pytest.fixture
def job() -> Job:
    return Job(map=lambda key, dims, value, context: None)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Lines]:
    """Run a script over a file of three records, and give what was printed."""
    write_tree(tmp_path / "data", [["a\tx", "b\tprint", "a\ty"]])
    (tmp_path / "job.py").write_text(SCRIPT)

    def run(**options: Any) -> Lines:
        lines = Lines()
        options = {"data_dir": tmp_path / "data", "work_dir": str(tmp_path / "work"), **options}
        mapreduce(tmp_path / "job.py", watcher=lines, output=tmp_path / "out", **options)
        return lines

    return run


FILE = f"{DIRECTORY}/{file_name(0)}"
WARNING = ("a warning of b", "map", FILE, 2, "", 9)
TOLD = {
    WARNING,
    ("mapping b", "map", FILE, 2, "", 8),
    ("setting up", "setup_reduce", "", 0, "", 17),
    ("combining a", "combine", "", 0, "'a'", 20),
    ("combining b", "combine", "", 0, "'b'", 20),
    ("reducing a", "reduce", "", 0, "'a'", 24),
    ("reducing b", "reduce", "", 0, "'b'", 24),
}


# --- jobs ---------------------------------------------------------------------------------------


def test_what_an_inline_job_prints_is_told_with_its_place(
    run: Callable[..., Lines], heard: list[Printed], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run(inline=True, combine_size=2)
    assert lines.told | {WARNING} == TOLD  # pytest has its own handler for warnings
    assert {line.worker for line in lines.lines} == {"inline"}
    assert {line.script for line in lines.lines} == {"job.py"}
    assert capsys.readouterr() == ("", "")
    assert heard == []


def test_what_workers_of_this_machine_print_is_told(run: Callable[..., Lines]) -> None:
    lines = run(num_mappers=1, combine_size=2)
    assert lines.told == TOLD
    assert {line.worker for line in lines.lines} == {"0"}


@pytest.mark.parametrize("shared", [True, False])
def test_what_workers_of_a_cluster_print_is_told(
    run: Callable[..., Lines],
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
    shared: bool,
) -> None:
    if not shared:
        monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    lines = run(scheduler=dask_cluster.address, combine_size=2)
    assert lines.told == TOLD
    assert {line.worker for line in lines.lines} <= {"worker-0", "worker-1"}
    others = [line.text for line in lines.lines if line.function != "combine"]
    assert len(others) == len(set(others)), "each once, though workers of one host tell the same"


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_the_last_words_of_a_worker_that_dies_are_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    write_tree(tmp_path / "data", [["a\tdie"]])
    (tmp_path / "job.py").write_text(SCRIPT)
    lines = Lines()
    options: dict[str, Any] = {"num_mappers": 1}
    cluster = None
    if not shared:
        monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
        cluster = DaskCluster(tmp_path / "cluster", workers=1)
        options = {"scheduler": cluster.address}
    try:
        with pytest.raises(JobError, match="died each time"):
            mapreduce(
                tmp_path / "job.py",
                data_dir=tmp_path / "data",
                work_dir=str(tmp_path / "work"),
                watcher=lines,
                **options,
            )
    finally:
        if cluster is not None:
            cluster.stop()
    assert lines.told == {("the last words", "map", FILE, 1, "", 11)}
    # Once for each time that the task was tried. Of the last, a host that shares nothing tells only
    # when it has another worker soon.
    assert len(lines.lines) in ((4,) if shared else (3, 4))


def test_without_a_watcher_a_script_prints_as_it_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path / "data", [["a\tprint"]])
    (tmp_path / "job.py").write_text(SCRIPT)
    work = str(tmp_path / "work")
    mapreduce(tmp_path / "job.py", data_dir=tmp_path / "data", work_dir=work, inline=True)
    assert capsys.readouterr().out == "mapping a\nsetting up\nreducing a\n"


def test_loggers_that_a_script_sets_up_are_listened_to(
    tmp_path: Path, heard: list[Printed], capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path / "data", [["a\tx"]])
    (tmp_path / "job.py").write_text(
        "import logging, sys\n"
        "log = logging.getLogger('set-up')\n"
        "log.propagate = False\n"
        "log.setLevel('INFO')\n"
        "log.addHandler(logging.StreamHandler())\n"
        "def map(key, dims, value, context):\n"
        "    log.info('info of %s', key)\n"
    )
    lines = Lines()
    mapreduce(
        tmp_path / "job.py",
        data_dir=tmp_path / "data",
        work_dir=str(tmp_path / "work"),
        inline=True,
        watcher=lines,
    )
    assert lines.told == {("info of a", "map", FILE, 1, "", 7)}
    (handler,) = logging.getLogger("set-up").handlers
    logging.getLogger("set-up").removeHandler(handler)
    handler.emit(logging.makeLogRecord({"msg": "afterwards"}))
    assert capsys.readouterr().err == "afterwards\n"


# --- streams ------------------------------------------------------------------------------------


def test_lines_are_told_whole(heard: list[Printed], job: Job) -> None:
    with printing("", job):
        print("a", "b", end="")
        print("c\nd\n\ne", end="")
        assert [line.text for line in heard] == ["a bc", "d", ""]
        sys.stdout.writelines(["f\n", "g"])
        sys.stdout.flush()
        print("h", end="", file=sys.stderr)
    assert [line.text for line in heard[3:]] == ["ef", "g", "h"]


def test_streams_are_as_before_afterwards(heard: list[Printed], job: Job) -> None:
    before = sys.stdout, sys.stderr
    with redirected(), printing("", job):
        kept = sys.stdout
        assert kept is not before[0]
        assert kept.fileno() == before[0].fileno()
        assert (kept.encoding, kept.isatty()) == (before[0].encoding, before[0].isatty())
    assert (sys.stdout, sys.stderr) == before
    kept.write("told to nobody, as no task runs\n")
    assert heard == []


def test_what_a_script_puts_in_place_of_a_stream_stays(
    heard: list[Printed], job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = io.StringIO()
    before = sys.stderr
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    with printing("", job):
        sys.stdout = own
        print("to its own")
    assert sys.stdout is own
    assert sys.stderr is before
    assert (heard, own.getvalue()) == ([], "to its own\n")


def test_other_threads_are_left_alone(
    heard: list[Printed], job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    with printing("", job):
        thread = threading.Thread(target=print, args=("of somebody else",))
        thread.start()
        thread.join()
    assert heard == []
    assert capsys.readouterr().out == "of somebody else\n"


def test_a_stream_outlasts_a_print_that_a_thread_is_in_the_middle_of(job: Job) -> None:
    # `print` holds no reference to it, so the process would crash.
    with printing("", job):
        first = weakref.ref(sys.stdout)
    gc.collect()
    with printing("", job):
        assert first() is sys.stdout  # one for all tasks
    above = weakref.ref(keep_alive(LineStream(sys.stdout, print)))
    gc.collect()
    assert above() is not None


def test_whoever_is_told_may_print(job: Job, capsys: pytest.CaptureFixture[str]) -> None:
    with listening(lambda news: print("told of", news.text)), printing("", job):
        print("x")
    assert capsys.readouterr().out == "told of x\n"


def test_without_streams_nothing_is_done(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with printing("", job):
        print("x")
    assert sys.stdout is None


def test_what_a_debugger_writes_is_left_alone(
    heard: list[Printed], job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(text: str) -> None:
        print(text)

    debugging = {"__name__": "bdb", "write": write}
    exec("def stop(text): write(text)", debugging)
    with printing("", job):
        debugging["stop"]("> a prompt")
        print("> no prompt")
    assert [line.text for line in heard] == ["> no prompt"]
    assert capsys.readouterr().out == "> a prompt\n"


# --- how much -----------------------------------------------------------------------------------


def test_too_many_lines_are_counted(heard: list[Printed], job: Job) -> None:
    with printing("", job):
        for number in range(10_000):
            print(number)
        assert 100 <= len(heard) < 1000
        prints._output.reported -= 10
    last = heard[-1]
    assert (last.text, last.script) == ("", "")
    told = [line for line in heard if line is not last]
    assert len(told) + sum(line.left_out for line in heard) == 10_000


def test_long_lines_are_shortened(heard: list[Printed], job: Job) -> None:
    with printing("", job):
        print("x" * 100_000)
        for _ in range(3_000):
            print("y", end="")
    assert [len(line.text) <= 2100 for line in heard] == [True, True]
    assert "characters left out" in heard[0].text


def test_a_rate_lets_pass_so_many_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(prints.time, "monotonic", lambda: now)
    rate = Rate(3, 2.0)
    assert [rate.allows() for _ in range(5)] == [True, True, True, False, False]
    now += 1
    assert [rate.allows() for _ in range(3)] == [True, True, False]
    now += 1000
    assert sum(rate.allows() for _ in range(10)) == 3


@pytest.mark.slow
def test_a_call_that_is_not_the_users_has_no_place(heard: list[Printed], job: Job) -> None:
    with printing("", job):
        with current_call().making(Call("map", "f", last_line=9)):
            print("x")
        with contextlib.redirect_stdout(sys.stderr):
            print("y")
    first, second = heard
    assert (first.function, first.file, first.line, first.key) == ("map", "f", 9, "")
    assert (second.function, second.file, second.line) == ("", "", 0)
