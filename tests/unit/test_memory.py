"""Running out of memory is an error that says where, how much, and what to do; and no third try."""

from __future__ import annotations

import contextlib
import cProfile
import gc
import gzip
import itertools
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import DIRECTORY, file_name, write_tree

from daskmr import Job, JobError, mapreduce, memory
from daskmr.cluster import local
from daskmr.errors import InputError, TaskFailed
from daskmr.memory import OutOfMemory, bounded
from daskmr.tasks import guard
from daskmr.tasks.guard import guarded

# Coverage's tracer takes a lock in Python code. An exception that arrives there, as it may anywhere,
# would leave the lock taken, and this process waiting for it for ever.
pytestmark = pytest.mark.no_cover

# --- within a process ---------------------------------------------------------------------------


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process look like a worker that holds too much."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # have it restored
    monkeypatch.setattr(memory, "_hook_before", None)
    monkeypatch.setattr(memory, "_thread", None)
    monkeypatch.setattr(memory, "limit", lambda: 1000)
    monkeypatch.setattr(memory, "resident", lambda: 901)
    yield
    assert memory._watches == {}


def spin(seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass


@pytest.mark.usefixtures("full")
def test_a_task_that_holds_too_much_is_interrupted() -> None:
    for _ in range(3):
        with pytest.raises(OutOfMemory) as caught:
            bounded(spin)
        assert not caught.value.passed_over


@pytest.mark.usefixtures("full")
def test_nothing_of_it_is_left_for_whatever_runs_next() -> None:
    def work() -> None:
        while True:
            bounded(spin, 0.001)  # within another, it is the outer one that counts

    for _ in range(10):
        with pytest.raises(OutOfMemory):
            bounded(work)
    spin(0.2)


def test_it_never_arrives_after_the_block(full: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_SHORTEST_PAUSE", 0.0)
    monkeypatch.setattr(memory, "_LONGEST_PAUSE", 0.001)
    interruptions: list[OutOfMemory] = []
    for number in range(500):
        try:
            bounded(spin, number % 20 * 0.0001)
        except OutOfMemory as error:
            interruptions.append(error)
        sum(range(100))
    spin(0.1)
    assert 0 < len(interruptions) < 500
    assert not any(error.passed_over for error in interruptions)


def test_python_is_as_it_was_afterwards(full: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that was asked for and taken back has Python look for it for ever."""
    monkeypatch.setattr(memory, "_SHORTEST_PAUSE", 0.0)
    for _ in range(50):
        with contextlib.suppress(OutOfMemory):
            bounded(spin, 0.0005)
    profile = cProfile.Profile()
    profile.runcall(spin, 0.01)  # in CPython 3.11 this would not return
    assert any(entry.code is spin.__code__ for entry in profile.getstats())


@pytest.mark.usefixtures("full")
def test_a_script_that_passes_over_everything_fails_all_the_same() -> None:
    @guarded("map")
    def map_everything() -> None:
        with contextlib.suppress(BaseException):  # as a bare `except:` does
            spin()

    @guarded("map")
    def map_most() -> None:
        try:
            spin()
        except Exception:
            raise AssertionError from None

    with pytest.raises(TaskFailed, match=r"map phase and caught the exception, .* incomplete"):
        map_everything()
    with pytest.raises(TaskFailed, match="A task of the map phase ran out of memory outside"):
        map_most()


@pytest.mark.usefixtures("full")
def test_the_first_try_says_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it leaves behind may end the second before that comes to the user's function."""
    tries: list[int] = []
    monkeypatch.setattr(memory, "resident", lambda: 901 if len(tries) > 1 else 0)

    @guarded("map")
    def map_nothing() -> None:
        tries.append(len(tries))
        if len(tries) > 1:
            spin()
        failure = guard.user_failure(job, "map", "at line 7", OutOfMemory())
        raise failure

    job = Job(map=lambda key, dims, value, context: None)
    with pytest.raises(TaskFailed, match="map failed at line 7: MemoryError"):
        map_nothing()
    assert len(tries) == 2


@pytest.mark.usefixtures("full")
def test_it_is_not_lost_in_a_callback_of_the_garbage_collector(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.setattr(memory, "resident", lambda: 901 if calls else 0)

    def callback(phase: str, info: Any) -> None:
        if not calls:
            calls.append(phase)
            spin()  # it arrives here, where Python prints and drops it
            calls.append("not reached")

    def work() -> None:
        gc.collect()
        spin()

    gc.callbacks.append(callback)
    try:
        with pytest.raises(OutOfMemory) as caught:
            bounded(work)
    finally:
        gc.callbacks.remove(callback)
    assert calls == ["start"]
    assert not caught.value.passed_over
    assert capfd.readouterr().err == ""


def test_other_lost_exceptions_are_shown_as_before(
    full: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)

    class Odd:
        def __del__(self) -> None:
            raise ZeroDivisionError

    def work() -> None:
        Odd()
        spin()

    with pytest.raises(OutOfMemory):
        bounded(work)
    assert [each.exc_type for each in lost] == [ZeroDivisionError]


def test_the_thread_ends_when_nobody_needs_it(full: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_IDLE_SECONDS", 0.1)
    with pytest.raises(OutOfMemory):
        bounded(spin)
    thread = memory._thread
    if thread is not None:
        thread.join(10)
        assert not thread.is_alive()
    assert memory._thread is None
    with pytest.raises(OutOfMemory):
        bounded(spin)


def test_the_next_look_comes_sooner_the_less_room_there_is() -> None:
    memory._watches[0] = memory._Watch(1e9)
    try:
        pauses = [memory._check(held) for held in (0, 900_000_000, 980_000_000, 999_999_999)]
    finally:
        memory._watches.clear()
    assert pauses == [0.05, 0.05, 0.01, 0.005]


def test_no_limit_and_no_exception_where_nobody_would_be_killed() -> None:
    assert memory.limit() is None
    assert memory.longest_line() is None
    assert bounded(dict, memory._watches) == {}


def test_figures_are_in_bytes() -> None:
    before = memory.resident()
    held = bytearray(os.urandom(1) * 60_000_000)
    assert 40_000_000 < memory.resident() - before < 200_000_000
    assert memory.peak() >= memory.resident() > len(held)
    assert memory.system_kills() >= 0


@pytest.mark.parametrize("length", [1_000_000, 20_000_000, 60_000_000, 200_000_000, 1 << 30])
def test_the_limit_that_is_advised_for_a_line_is_enough(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "resident", lambda: 70_000_000)
    advised = memory.limit_for_line(length)
    assert advised >= 4 * length
    monkeypatch.setattr(memory, "limit", lambda: advised)
    fits = memory.longest_line()
    assert fits is not None
    assert fits >= length


# --- on worker processes ------------------------------------------------------------------------


HEAD = """
    import time
    hoard = []

    def tried():
        with open(TRIES, "a") as file:
            file.write("x")

    def grow():
        hoard.append(b"x" * 100_000)
        if len(hoard) > 1300:  # else it might be killed before it is interrupted
            time.sleep(0.001)
"""
KEEP = """
def reduce(key, values, context):
    context.write(key, len(values))
"""


class Run:
    """Runs the text of a script under a limit of 250 MB, and counts how often it is tried."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, text: str, files: Any = (("k\t1",),), **options: Any) -> Any:
        script = self.root / "job.py"
        head = textwrap.dedent(HEAD).replace("TRIES", repr(str(self.root / "tries")))
        tail = "" if "def reduce" in text else KEEP
        script.write_text(head + textwrap.dedent(text) + tail)
        data = self.root / "data"
        if not data.exists():
            write_tree(data, files)
        options = {
            "num_mappers": 1,
            "memory_limit": "250MB",
            "spill_bytes": "64kB",
            "max_record_bytes": "1 GiB",
            "work_dir": self.root / "work",
        } | options
        return mapreduce(script, data_dir=data, **options)

    def fails(self, text: str, files: Any = (("k\t1",),), **options: Any) -> tuple[str, str]:
        with pytest.raises(JobError) as caught:
            self(text, files, **options)
        return str(caught.value), caught.value.details

    @property
    def tries(self) -> int:
        return len((self.root / "tries").read_text())

    def path(self, number: int = 0, extension: str = "gz") -> str:
        return str(self.root / "data" / DIRECTORY / file_name(number, extension))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def held_in(message: str) -> int:
    words = message.split()
    return int(words[words.index("MB") - 1].replace(",", ""))


def test_map_that_hoards_names_line_and_figures(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            if key == "k":
                tried()
                try:
                    while True:
                        grow()
                finally:
                    hoard.clear()  # else the second try may end before it comes to this
    """
    message, details = run.fails(text, [["a\t", "b\t", "k\t1", "c\t"]])
    assert message.startswith(f"map failed at {run.path()}, line 3: MemoryError: ")
    assert "(job.py, line " in message
    assert ", in grow)" in message
    assert "its limit is 250 MB (--memory-limit)" in message
    assert "Keep less in memory in map" in message
    assert "raise --memory-limit" in message
    assert 220 <= held_in(message) <= 400
    assert ", in map\n    grow()\n" in details
    assert details.endswith("MemoryError: the worker process is near its memory limit\n")
    assert run.tries == 2  # what was before may have been a part of it


def test_a_profile_is_no_hindrance(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            while True:
                grow()
    """
    message, _ = run.fails(text, profile=True)
    assert message.startswith(f"map failed at {run.path()}, line 1: MemoryError: ")


def test_a_worker_that_is_killed_is_replaced_once(run: Run) -> None:
    """What one call in C takes cannot be interrupted, and the worker is killed for it."""
    text = """
        def map(key, dims, value, context):
            if key == "k":
                tried()
                "x" * 8_000_000_000
    """
    message, _ = run.fails(text, [["a\t"], ["a\t", "b\t", "k\t1"], ["a\t"]], num_mappers=2)
    assert message.startswith(
        f"A worker process ran out of memory twice while it mapped {run.path(1)} "
        "(the last time it was at line 3). It held "
    )
    assert "its limit is 250 MB (--memory-limit). Nothing was written. Keep less" in message
    assert run.tries == 2


@pytest.mark.slow
def test_reduce_that_makes_a_list_of_a_large_group_names_the_key(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            for number in range(200):
                context.write("large", "%0100d%s" % (number, value))
        def slowly(values):
            for number, value in enumerate(values):
                if not number % 200:
                    time.sleep(0.001)
                yield value
        def reduce(key, values, context):
            tried()
            context.write(key, sorted(slowly(values))[0])
    """
    lines = [f"k\t{number:0900d}" for number in range(1500)]
    message, details = run.fails(text, [lines])
    assert message.startswith("reduce failed for the key 'large': MemoryError: ")
    assert "its limit is 250 MB (--memory-limit). Iterate over the values" in message
    assert "sorted(" in details
    assert run.tries == 2  # what was before may have been a part of it


def test_reduce_that_hoards_from_key_to_key_names_one(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            context.write(int(key), value)
        def reduce(key, values, context):
            grow()
    """
    lines = [f"{number}\t" for number in range(4000)]
    message, _ = run.fails(text, [lines])
    assert message.startswith(("reduce failed for the key ", "reduce failed after the key "))
    assert "its limit is 250 MB (--memory-limit)" in message
    assert "keep nothing from one key to the next" in message


def test_a_reducer_that_is_killed_names_the_key(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            context.write(value, 1)
        def reduce(key, values, context):
            if key == "poison":
                tried()
                "x" * 8_000_000_000
    """
    message, _ = run.fails(text, [["k\ta", "k\tpoison", "k\tpoison", "k\tz"]])
    assert message.startswith(
        "A worker process ran out of memory twice while it ran reduce "
        "(the last time it was at the key 'poison', which has 2 values). It held "
    )
    assert "its limit is 250 MB" in message
    assert "Iterate over the values" in message
    assert run.tries == 2


@pytest.mark.parametrize("function", ["combine", "setup_reduce"])
def test_the_other_functions_are_named_too(run: Run, function: str) -> None:
    arguments = {"combine": "key, values, context", "setup_reduce": "context"}[function]
    text = f"""
        def map(key, dims, value, context):
            context.write(key, value)
        def {function}({arguments}):
            while True:
                grow()
    """
    message, _ = run.fails(text, [["k\t1"] * 100])
    assert message.startswith(f"{function} failed ")
    assert "for the key 'k'" in message or function == "setup_reduce"
    assert "its limit is 250 MB (--memory-limit)" in message


IN_A_WORKER = """
    import multiprocessing, os, time
    held = []
    def map(key, dims, value, context):
        context.write(key, len(held))
    if multiprocessing.current_process().daemon:
"""


def test_a_script_that_does_not_fit_into_a_worker_is_told_figures_and_advice(run: Run) -> None:
    grow = """
        for _ in range(400):
            held.append(bytearray(1_000_000)); time.sleep(0.003)
    """
    message, details = run.fails(IN_A_WORKER + grow)
    assert message.startswith(f"{run.root}/job.py, line ")
    assert "it fails while it is loaded: MemoryError: the worker process is near" in message
    assert 150 < held_in(message) < 260
    assert "its limit is 250 MB (--memory-limit)" in message
    assert "Keep less at the top level of the script" in message
    assert "raise --memory-limit" in message
    assert "held.append" in details


def test_a_script_that_the_system_gives_no_memory_is_told_figures_and_advice(run: Run) -> None:
    with pytest.raises(InputError) as caught:
        run("held = bytearray(1 << 60)")
    message = str(caught.value)
    assert "it fails while it is loaded: MemoryError. The process held " in message
    assert "and the system refused more. Keep less at the top level of the script" in message
    assert "--memory-limit" not in message


def test_a_worker_that_ends_while_it_loads_the_script_is_explained_soon(run: Run) -> None:
    text = f"{IN_A_WORKER}        tried(); os._exit(1)"
    message, _ = run.fails(text, skip_poison_files=True)
    assert message.startswith("A worker process died each time it loaded the script. ")
    assert run.tries == 2


def test_memory_that_the_system_refuses_is_explained_with_the_limit(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            tried()
            bytes(1 << 60)
    """
    message, details = run.fails(text)
    assert message.startswith(f"map failed at {run.path()}, line 1: MemoryError (job.py, line ")
    assert "its limit is 250 MB (--memory-limit)" in message
    assert "bytes(1 << 60)" in details
    assert run.tries == 1


def test_inline_no_limit_is_made_up(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            bytes(1 << 60)
    """
    message, _ = run.fails(text, inline=True)
    assert "and the system refused more" in message
    assert "--memory-limit" not in message
    assert "250 MB" not in message


@pytest.mark.slow
def test_a_job_that_keeps_within_its_limit_is_left_alone(run: Run) -> None:
    text = """
        def map(key, dims, value, context):
            large = [bytearray(1_000_000) for _ in range(60)]
            context.write(key, value)
    """
    files = [[f"{number}\t{number}" for number in range(start, 40, 8)] for start in range(8)]
    assert len(list(run(text, files, memory_limit="160MB"))) == 40


def test_a_process_that_the_system_kills_is_explained(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
        import os, signal
        def map(key, dims, value, context):
            tried()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    monkeypatch.setattr(local, "system_kills", itertools.count().__next__)
    message, _ = run.fails(text)
    assert "A worker process ran out of memory " in message
    assert f"mapped {run.path()} (the last time it was at line 1)." in message
    assert "The machine or container had none left, so the system killed it" in message
    assert 2 <= run.tries <= 4  # the client looks five times a second


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(9)"])
def test_a_process_that_ends_otherwise_while_the_system_kills_others(
    run: Run, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    text = f"""
        import os
        def map(key, dims, value, context):
            tried()
            {end}
    """
    monkeypatch.setattr(local, "system_kills", itertools.count().__next__)
    message, _ = run.fails(text)
    assert message.startswith(f"A worker process died each time it mapped {run.path()}")
    assert "memory" not in message
    assert run.tries == 4


class Workers:
    """Local workers whose processes end with given exit codes, and a count of kills."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.kills, self.now = 7, 100.0
        monkeypatch.setattr(local, "system_kills", lambda: self.kills)
        monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.processes = [SimpleNamespace(pid=pid, exitcode=None) for pid in (11, 12, 13)]
        nannies: list[Any] = [
            SimpleNamespace(process=SimpleNamespace(process=process)) for process in self.processes
        ]
        self.log = local.KillLog(nannies, folder)
        self.look()

    def look(self, seconds: float = 0.2) -> dict[int, int]:
        self.now += seconds
        self.log.update()
        return self.log.killed


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(tmp_path, monkeypatch)


def test_as_many_processes_are_blamed_as_the_system_has_killed(workers: Workers) -> None:
    for process in workers.processes:
        process.exitcode = -signal.SIGKILL
    workers.kills += 2
    assert len(workers.look()) == 2
    workers.kills += 1  # too late for the third, which was seen to have ended before
    assert len(workers.look()) == 2


def test_a_process_may_take_a_moment_to_end(workers: Workers) -> None:
    workers.kills += 1
    assert workers.look() == {}
    workers.processes[0].exitcode = -signal.SIGKILL
    assert workers.look(1.0) == {11: 0}
    workers.processes[1].exitcode = -signal.SIGKILL  # not by the kernel, whose count is the same
    assert workers.look() == {11: 0}


def test_a_kill_long_before_is_of_another_process(workers: Workers) -> None:
    workers.kills += 1
    workers.look()
    workers.look(10.0)
    workers.processes[0].exitcode = -signal.SIGKILL
    assert workers.look() == {}


def test_a_process_that_was_replaced_is_not_the_one_that_the_system_killed(
    workers: Workers,
) -> None:
    workers.log.replaced.add(12)
    workers.log.note(13, 900)  # by its nanny
    for process in workers.processes:
        process.exitcode = -signal.SIGKILL
    workers.kills += 2
    assert workers.look() == {11: 0, 13: 900}


@pytest.mark.parametrize(
    ("cgroups", "files", "expected"),
    [
        ("0::/", {"memory.events": 3}, 3),
        ("0::/a/b", {"a/b/memory.events": 3, "memory.events": 9}, 3),
        ("0::/a/b", {"a/memory.events": 4}, 4),  # its own group has no memory controller
        ("0::/host/path", {"memory.events": 5}, 5),  # in a container
        ("4:cpu:/x\n3:memory,hugetlb:/y", {"memory,hugetlb/y/memory.oom_control": 6}, 6),
        ("4:memory:/docker/1\n0::/", {"memory/memory.oom_control": 7}, 7),
        ("1:name=systemd:/a:b", {}, None),
        ("", {}, None),
    ],
)
def test_the_kills_in_a_cgroup(
    cgroups: str, files: dict[str, int], expected: int | None, tmp_path: Path
) -> None:
    for name, count in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"low 1\noom 2\noom_kill {count}\noom_group_kill 8\n")
    found = [path for path in memory.kill_counters(cgroups, str(tmp_path)) if os.path.exists(path)]
    assert (memory._count_kills(found[0]) if found else None) == expected


def test_a_kill_that_cannot_be_noted_is_one_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "marks").touch()
    log = local.KillLog([], tmp_path)
    log.note(17, 900)
    assert log.killed == {17: 900}


def test_a_process_that_ends_itself_is_not_said_to_lack_memory(run: Run) -> None:
    text = """
        import os
        def map(key, dims, value, context):
            if value == "1":
                tried()
                os._exit(1)
    """
    message, _ = run.fails(text, [["k\t0", "k\t1"]])
    assert message.startswith(
        f"A worker process died each time it mapped {run.path()} (the last time it was at line 2)."
    )
    assert "memory" not in message
    assert run.tries == 4


# --- long lines ---------------------------------------------------------------------------------

LENGTH = """
    def map(key, dims, value, context):
        context.write(key, len(value))
    def reduce(key, values, context):
        context.write(key, values[0])
"""


def write_long_line(run: Run, megabytes: int, letter: str = "x") -> None:
    folder = run.root / "data" / DIRECTORY
    folder.mkdir(parents=True)
    with gzip.open(folder / file_name(0), "wb", 1) as file:
        file.write(b"short\tline\nlong\t")
        for _ in range(megabytes):
            file.write(letter.encode() * (1_000_000 // len(letter.encode())))
        file.write(b"\nlast\tone\n")


def test_a_long_line_works_within_four_times_its_length(run: Run) -> None:
    write_long_line(run, 60)
    assert dict(run(LENGTH)) == {"short": 4, "long": 60_000_000, "last": 3}


def test_a_line_that_is_too_long_for_the_limit_says_so(run: Run) -> None:
    write_long_line(run, 100)
    message, _ = run.fails(LENGTH)
    assert message.startswith(
        f"map failed at {run.path()}, line 2: the line has 100,000,005 bytes, more than fit in the "
        "memory of a worker, whose limit is 250 MB. Raise --memory-limit to 410 MB or more"
    )
    assert dict(run(LENGTH, memory_limit="410MB"))["long"] == 100_000_000


@pytest.mark.slow
def test_a_line_of_wide_characters_that_is_too_long_names_the_line(run: Run) -> None:
    """Its text takes four bytes a character."""
    write_long_line(run, 60, "xxxx\N{SNOWMAN}\N{PILE OF POO}")
    message, _ = run.fails(LENGTH)
    assert f"map failed at {run.path()}, line 2: the line has 59,99" in message
    assert "(131 MB as text, for its wide characters), more than fit in the memory of a" in message
    assert "limit is 250 MB. Raise --memory-limit to 530 MB or more" in message
    assert dict(run(LENGTH, memory_limit="530MB"))["long"] == 32_727_240


def test_the_length_of_a_long_line_is_part_of_the_message(run: Run) -> None:
    write_long_line(run, 30)
    text = """
        def map(key, dims, value, context):
            if key == "long":
                "x" * 8_000_000_000
    """
    message, _ = run.fails(text)
    assert "(the last time it was at line 2, which has 30,000,005 characters)" in message
    text = """
        def map(key, dims, value, context):
            if key == "long":
                bytes(1 << 60)
    """
    message, _ = run.fails(text)
    assert "line 2, which has 30,000,005 characters: MemoryError" in message


# --- somebody's cluster -------------------------------------------------------------------------


@pytest.fixture
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit=250_000_000,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


@pytest.mark.slow
def test_on_somebody_s_cluster(run: Run, client: Any) -> None:
    hoard = """
        def map(key, dims, value, context):
            tried()
            try:
                while True:
                    grow()
            finally:
                hoard.clear()  # else the second try may end before it comes to this
    """
    message, _ = run.fails(hoard, client=client, memory_limit="auto")
    assert message.startswith(f"map failed at {run.path()}, line 1: MemoryError: ")
    assert "limit is 250 MB" in message
    assert run.tries == 2  # what was before may have been a part of it
    (run.root / "tries").unlink()
    client.restart()
    kill = """
        def map(key, dims, value, context):
            tried()
            time.sleep(0.5)
            "x" * 8_000_000_000
    """
    message, _ = run.fails(kill, client=client, memory_limit="auto")
    assert f"ran out of memory twice while it mapped {run.path()}" in message
    assert "its limit is 250 MB" in message
    assert run.tries <= 3  # the client looks five times a second


# --- data of sizes that nobody expects ------------------------------------------------------------


MANY = [[f"{number}\tx" for number in range(3000)]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "files"),
    [
        pytest.param(
            """
            def map(key, dims, value, context):
                context.write(key, value * 6_000_000)  # each a key of its own

            def reduce(key, values, context):
                context.write(key, sum(len(value) for value in values))
            """,
            [[f"{number}\tx"] for number in range(64)],
            id="large values",
        ),
        pytest.param(
            """
            def map(key, dims, value, context):
                context.write(key, value * 6_000_000)
            reduce = None
            """,
            [[f"{number}\tx" for number in range(64)]],
            id="large lines",
        ),
        pytest.param(
            """
            def map(key, dims, value, context):
                large = int(key) % 30 == 0
                context.write("large" if large else key, value * (4_000_000 if large else 1))

            def reduce(key, values, context):
                context.write(key, sum(len(value) for value in values))
            """,
            MANY,
            id="one key with all that is large",
        ),
        pytest.param(
            """
            def map(key, dims, value, context):
                context.write(key[-1], ["a"] * 70 + [value * 200_000])

            def reduce(key, values, context):
                context.write(key, sum(len(value) for value in values))
            """,
            MANY,
            id="large items in collections",
        ),
        pytest.param(
            """
            def map(key, dims, value, context):
                context.write("hot", value * 200_000)

            def reduce(key, values, context):
                for value in values:
                    context.writeline(value)
            """,
            MANY,
            id="much written for one key",
        ),
        pytest.param(
            """
            def map(key, dims, value, context):
                context.write(key + "k" * 200_000, 1)

            def reduce(key, values, context):
                context.writeline(len(key))
            """,
            MANY,
            id="large keys",
        ),
    ],
)
def test_memory_does_not_grow_with(run: Run, text: str, files: Any) -> None:
    """Each of these jobs holds more than the limit allows, were it held at once."""
    output = run.root / "out"
    text = textwrap.dedent(text)
    run(text, files, output=output, spill_bytes="16MiB")
    assert output.stat().st_size
    assert not (run.root / "work").exists()
