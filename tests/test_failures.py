"""Whatever goes wrong in a task, only strings come out, and few of them."""

from __future__ import annotations

import pickle
import sys
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.errors import InputError, Interrupted, JobError, TaskFailed
from daskmr.failures import guarded, is_interruption, shortened, user_failure
from daskmr.interruption import signals
from daskmr.job import Job

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
        guarded(RAISING[name])()
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
            guarded(raiser(error))()
        assert caught.value.args == ("what", "details")
    with pytest.raises(TaskFailed) as caught:
        guarded(raiser(TaskFailed("what", "details")))()
    assert caught.value.args == ("what", "details")


def test_a_defect_of_ours_says_so_with_its_lines() -> None:
    with pytest.raises(TaskFailed) as caught:
        guarded(RAISING["OSError"])()
    assert "defect of daskmr" in caught.value.message
    assert "OSError: [Errno 5] odd" in caught.value.message
    assert "raise error" in caught.value.details


def test_out_of_memory_says_what_to_do() -> None:
    with pytest.raises(TaskFailed, match=r"out of memory.* held [\d,]+ MB .*Hold less at once"):
        guarded(RAISING["MemoryError"])()


def test_a_task_that_succeeds_is_itself() -> None:
    @guarded
    def task(first: int, *, second: int) -> int:
        """A docstring."""
        return first + second

    assert task(1, second=2) == 3
    assert task.__name__ == "task"
    assert task.__doc__ == "A docstring."
    assert pickle.loads(pickle.dumps(guarded_at_the_top))(2) == 4


@guarded
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
        guarded(raiser(error))()
    raised: list[BaseException] = []

    def on_a_worker() -> None:
        try:
            guarded(raiser(error))()
        except BaseException as seen:
            raised.append(seen)

    thread = threading.Thread(target=on_a_worker)
    thread.start()
    thread.join()
    assert [type(seen) for seen in raised] == [TaskFailed]


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
        "map failed at FILE, line 7: KeyError: 'osName' "
        f"(test_failures.py, line {line}, in failing)."
    )
    assert 'raise KeyError("osName")' in failure.details


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (SystemExit(0), "Return from reduce instead of leaving the program"),
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
