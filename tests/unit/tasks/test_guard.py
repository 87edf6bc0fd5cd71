"""Whatever goes wrong in a task, only strings come out, and few of them."""

from __future__ import annotations

import datetime
import fractions
import functools
import gzip
import io
import ipaddress
import json
import multiprocessing.pool
import pickle
import signal
import sys
import threading
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import write_tree

from daskmr import mapreduce
from daskmr.errors import InputError, Interrupted, JobError, TaskFailed
from daskmr.job.job import Job
from daskmr.job.process_errors import explain_process_error
from daskmr.signals import signals
from daskmr.tasks.guard import (
    TimeIsUp,
    alarm,
    guarded,
    in_thread,
    is_interruption,
    shortened,
    user_failure,
)

SMALL = 30_000  # bytes of a pickle


class Unpicklable(Exception):
    """Holds what no pickle takes, and cannot be made again from its arguments."""

    def __init__(self, number: int, lock: Any) -> None:
        super().__init__(f"number {number}")
        self.lock = lock


class Silent(Exception):
    """Has no text that could be had."""

    def __str__(self) -> str:
        raise SystemExit("no text")

    __repr__ = __str__


def raise_recursion() -> None:
    raise_recursion()


def raise_chained() -> None:
    try:
        raise Unpicklable(1, threading.Lock())
    except Unpicklable as error:
        raise RuntimeError("x" * 1_000_000) from error


def raiser(error: Any) -> Any:
    def function() -> None:
        raise error

    return function


RAISING = {
    "RecursionError": raise_recursion,
    "Unpicklable": lambda: raiser(Unpicklable(3, threading.Lock()))(),
    "SystemExit": raiser(SystemExit(0)),
    "GeneratorExit": raiser(GeneratorExit()),
    "StopIteration": raiser(StopIteration()),
    "OSError": raiser(OSError(5, "odd")),
    "surrogates": raiser(RuntimeError("\ud800\udcff")),
    "100 MB": lambda: raiser(RuntimeError("x" * 100_000_000))(),
    "100 MB of JobError": lambda: raiser(JobError("x" * 100_000_000))(),
    "100 MB of TaskFailed": lambda: raiser(TaskFailed("x" * 100_000_000))(),
    "group": raiser(ExceptionGroup("many", [ValueError(str(n)) for n in range(5000)])),
    "chained": raise_chained,
    "Silent": raiser(Silent()),
    "MemoryError": raiser(MemoryError()),
    "not a text": raiser(RuntimeError({1: [2]}, b"\xff")),
}


@pytest.mark.parametrize("name", RAISING)
def test_a_task_lets_out_strings_only(name: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        guarded("map")(RAISING[name])()
    error = caught.value
    assert type(error) is TaskFailed
    assert all(type(argument) is str for argument in error.args)
    assert error.__cause__ is error.__context__ is None, "the bare exception must not travel"
    data = pickle.dumps(error)
    assert len(data) < SMALL
    again = pickle.loads(data)
    assert (again.message, again.details) == (error.message, error.details)


def test_what_fails_on_purpose_keeps_its_words() -> None:
    for error in (JobError("what", "details"), InputError("what", "details")):
        with pytest.raises(TaskFailed) as caught:
            guarded("map")(raiser(error))()
        assert caught.value.args == ("what", "details")
    with pytest.raises(TaskFailed) as caught:
        guarded("map")(raiser(TaskFailed("what", "details")))()
    assert caught.value.args == ("what", "details")


def test_a_defect_of_ours_says_so_with_its_lines() -> None:
    with pytest.raises(TaskFailed) as caught:
        guarded("map")(RAISING["OSError"])()
    assert "bug in daskmr" in caught.value.message
    assert "OSError: [Errno 5] odd" in caught.value.message
    assert "raise error" in caught.value.details


def test_out_of_memory_says_what_to_do() -> None:
    with pytest.raises(TaskFailed, match=r"out of memory.* held [\d,]+ MB .*Keep less in memory"):
        guarded("map")(RAISING["MemoryError"])()


def test_a_task_that_succeeds_is_itself() -> None:
    @guarded("map")
    def task(first: int, *, second: int) -> int:
        """A docstring."""
        return first + second

    assert task(1, second=2) == 3
    assert task.__name__ == "task"
    assert task.__doc__ == "A docstring."
    assert pickle.loads(pickle.dumps(guarded_at_the_top))(2) == 4


@guarded("map")
def guarded_at_the_top(number: int) -> int:
    return 2 * number


def test_where_signals_raise_something_else_a_keyboard_interrupt_is_the_scripts_own() -> None:
    with signals():
        assert not is_interruption(KeyboardInterrupt())
        assert is_interruption(Interrupted(15))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(15)])
def test_an_interruption_passes_in_the_main_thread_alone(error: BaseException) -> None:
    assert is_interruption(error)
    assert not is_interruption(SystemExit())
    with pytest.raises(type(error)):
        guarded("map")(raiser(error))()
    raised: list[BaseException] = []

    def on_a_worker() -> None:
        try:
            guarded("map")(raiser(error))()
        except BaseException as seen:
            raised.append(seen)

    thread = threading.Thread(target=on_a_worker)
    thread.start()
    thread.join()
    assert [type(seen) for seen in raised] == [TaskFailed]


def test_an_interruption_does_not_wait_for_the_other_thread() -> None:
    waiting, done = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        done.wait(60)

    def interrupt() -> None:
        waiting.wait(60)
        time.sleep(0.2)  # a signal just before the wait would not end it
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        in_thread(wait)
    done.set()


# --- shortened -------------------------------------------------------------------------------


@given(
    st.recursive(st.text() | st.binary() | st.integers(), st.lists, max_leaves=30),
    st.integers(10, 200),
)
def test_shortened_is_a_prefix_of_the_repr(value: Any, limit: int) -> None:
    text = shortened(value, limit)
    assert len(text) <= limit
    if text != repr(value):
        assert text.endswith("...")
        assert repr(value).startswith(text[:-3])
    elif len(repr(value)) > limit:
        raise AssertionError("it was not cut")


def test_shortened_does_not_print_all_of_a_large_text() -> None:
    class Text(str):
        def __repr__(self) -> str:
            raise AssertionError("all of it was printed")

    assert shortened("x" * 1000) == "'" + "x" * 116 + "..."
    assert len(shortened(b"\xff" * 10_000_000)) == 120
    assert "Text" in shortened(Text("short"), 120), "a text that cannot be printed"


def test_shortened_never_raises() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    assert shortened(Odd()) == "<a Odd whose repr raises ZeroDivisionError>"
    loop: list[Any] = []
    loop.append(loop)
    assert shortened(loop) == "[[...]]"
    nested: list[Any] = []
    for _ in range(10 * sys.getrecursionlimit()):
        nested = [nested]
    assert "RecursionError" in shortened(nested)


# --- the user's functions --------------------------------------------------------------------


def failing(key: Any, dims: Any, value: Any, context: Any) -> None:
    raise KeyError("osName")


def caught_in(job: Job, function: Any) -> BaseException:
    try:
        function("k", [], "v", None)
    except BaseException as error:
        return error
    raise AssertionError


def test_a_failure_names_function_place_exception_and_line() -> None:
    job = Job(map=failing)
    failure = user_failure(job, "map", "at FILE, line 7", caught_in(job, failing))
    line = failing.__code__.co_firstlineno + 1
    assert failure.message == (
        f"map failed at FILE, line 7: KeyError: 'osName' (test_guard.py, line {line}, in failing)."
    )
    assert 'raise KeyError("osName")' in failure.details


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SystemExit(0), "Return from reduce instead of ending the program"),
        (MemoryError(), "Iterate over the values"),
        (ZeroDivisionError("division by zero"), r"division by zero"),
    ],
)
def test_a_failure_says_what_to_do(error: BaseException, advice: str) -> None:
    job = Job(map=failing)
    failure = user_failure(job, "reduce", "for the key 'k'", error)
    assert "reduce failed for the key 'k': " in failure.message
    assert advice in failure.message


@pytest.mark.parametrize("name", RAISING)
def test_a_failure_of_the_user_is_small_and_pickles(name: str) -> None:
    def function(*arguments: Any) -> None:
        RAISING[name]()

    job = Job(map=failing)
    failure = user_failure(job, "map", "at FILE", caught_in(job, function))
    assert all(type(argument) is str for argument in failure.args)
    assert len(pickle.dumps(failure)) < SMALL


# --- a ValueError that is not about the data ----------------------------------------------------


def closed(file: Any) -> Any:
    file.close()
    return file


def ignore_alarms() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


def say_bad_record_instead() -> None:
    try:
        ignore_alarms()
    except ValueError:
        raise ValueError("a bad record") from None


def say_bad_record_of_it() -> None:
    try:
        signal.set_wakeup_fd(-1)
    except ValueError as error:
        raise ValueError("a bad record") from error


def import_broken(tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("raise ValueError('dtype size changed')")
    sys.path.insert(0, str(tmp_path))
    try:
        import broken_module  # type: ignore[import-not-found]  # noqa: F401
    finally:
        sys.path.remove(str(tmp_path))


def use_a_detached_buffer() -> None:
    file = io.TextIOWrapper(io.BytesIO())
    file.detach()
    file.read()


def misuse_daskmr() -> None:
    namespace: dict[str, Any] = {"__name__": "daskmr.job.contexts"}
    exec("def write():\n    raise ValueError('this is no use of it')", namespace)
    namespace["write"]()


OF_THE_PROCESS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a handler": (lambda _: in_thread(ignore_alarms), "run with --inline"),
    "a wakeup": (lambda _: in_thread(lambda: signal.set_wakeup_fd(-1)), "run with --inline"),
    "no such signal": (lambda _: signal.signal(999, signal.SIG_IGN), "Signal handlers"),
    "hidden": (lambda _: in_thread(say_bad_record_instead), "run with --inline"),
    "renamed": (lambda _: in_thread(say_bad_record_of_it), "run with --inline"),
    "closed text": (lambda _: closed(io.StringIO("a")).read(), "that it had closed"),
    "closed bytes": (lambda _: closed(io.BytesIO(b"a")).read(), "that it had closed"),
    "closed file": (lambda path: closed((path / "f").open("w")).write("a"), "that it had closed"),
    "closed gzip": (lambda path: closed(gzip.GzipFile(path / "g", "w")).write(b""), "had closed"),
    "closed archive": (
        lambda path: closed(zipfile.ZipFile(path / "z", "w")).writestr("a", "b"),
        "that it had closed",
    ),
    "detached": (lambda _: use_a_detached_buffer(), "that it had closed or detached"),
    "read only": (lambda path: (path / "f").open("w").read(), "No record is skipped"),
    "no file": (lambda _: io.StringIO().fileno(), "No record is skipped for this"),
    "closed pool": (
        lambda _: closed(multiprocessing.pool.ThreadPool(1)).apply(int),
        "how the script is run",
    ),
    "semaphore": (lambda _: threading.BoundedSemaphore().release(), "how the script is run"),
    "misuse of daskmr": (lambda _: misuse_daskmr(), "how the script is run"),
    "import": (import_broken, "A module failed while it was imported"),
}


@pytest.mark.parametrize("name", OF_THE_PROCESS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_error_of_the_process_is_no_bad_record(name: str, tmp_path: Path) -> None:
    fail, hint = OF_THE_PROCESS[name]

    def map_(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write(key, 1)
        if value == "3":
            fail(tmp_path)

    write_tree(tmp_path / "data", [["k\t1", "k\t2", "k\t3", "k\t4"]])
    with pytest.raises(JobError, match=r"^map failed at .*, line 3: ") as caught:
        mapreduce(
            Job(map=map_), data_dir=tmp_path / "data", inline=True, work_dir=tmp_path / "work"
        )
    assert hint in str(caught.value)


@pytest.mark.parametrize("function", ["combine", "reduce", "setup_reduce"])
def test_the_hint_is_the_same_in_every_function(function: str) -> None:
    with pytest.raises(ValueError, match="main thread") as caught:
        in_thread(ignore_alarms)
    told = user_failure(Job(map=print), function, "for the key 'k'", caught.value)
    assert "run with --inline" in told.message


TEXTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "signal only works in main thread of the main interpreter",
            "I/O operation on closed file.",
            "read of closed file",
            "generator already executing",
        ]
    ),
)
PARSERS: list[Callable[[str], object]] = [
    int,
    float,
    fractions.Fraction,
    json.loads,
    uuid.UUID,
    ipaddress.ip_address,
    bytes.fromhex,
    datetime.datetime.fromisoformat,
    signal.Signals,  # an Enum
    lambda text: datetime.datetime.strptime(text, "%d"),
    lambda text: text.encode("ascii"),
    lambda text: [*map(int, text.split())],
    lambda text: in_thread(functools.partial(int, text)),
    lambda text: eval("text.index('no such text here')", {"text": text}),
    lambda text: Path(text + "\0").read_bytes(),
]


@given(TEXTS, st.sampled_from(PARSERS))
def test_what_a_parser_says_of_data_is_about_the_data(text: str, parse: Any) -> None:
    raised = None
    try:
        parse(text)
    except ValueError as error:
        raised = error
    assert raised is None or explain_process_error(raised) == ""


def test_data_that_only_the_iteration_by_a_context_shows_to_be_bad(tmp_path: Path) -> None:
    def map_(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write_each(map(int, value.split(",")), 1)

    def reduce(key: int, values: list[int], context: Any) -> None:
        context.write(key, len(values))

    write_tree(tmp_path / "data", [["k\t1,2", "k\t1,x", "k\t2,3"]])
    result = mapreduce(
        Job(map=map_, reduce=reduce), data_dir=tmp_path / "data", inline=True,
        work_dir=tmp_path / "work",
    )  # fmt: skip
    assert result.bad_records == 1
    assert list(result) == [(1, 1), (2, 2), (3, 1)]


def test_a_record_that_fails_after_a_fallback_is_bad_itself() -> None:
    def with_limit(text: str) -> int:
        try:
            ignore_alarms()
        except ValueError:
            return int(text)
        raise AssertionError("this thread is the main one")

    with pytest.raises(ValueError, match="invalid literal") as caught:
        in_thread(lambda: with_limit("x"))
    assert caught.value.__context__ is not None
    assert explain_process_error(caught.value) == ""


# --- the alarm ----------------------------------------------------------------------------------


def wait(seconds: float) -> None:
    with alarm(seconds):
        time.sleep(10)


def test_it_interrupts_and_is_gone() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimeIsUp):
        wait(0.05)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_it_rings_again_where_a_script_swallows_it() -> None:
    times = []
    with pytest.raises(TimeIsUp), alarm(0.05) as rung:
        times.append(rung)
        try:
            time.sleep(10)
        except BaseException:
            time.sleep(10)
    assert len(times[0]) == 2


def test_there_is_none_without_a_limit_or_in_another_thread() -> None:
    def briefly() -> list[None]:
        with alarm(0.01) as rung:
            time.sleep(0.05)
        return rung

    assert in_thread(briefly) == []
    with alarm(None) as rung:
        pass
    assert rung == []
