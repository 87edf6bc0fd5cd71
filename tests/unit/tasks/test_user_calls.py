"""Which call of the user's functions a thread makes is known while it lasts, and not afterwards."""

from __future__ import annotations

import cProfile
import gc
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from daskmr import Job
from daskmr.errors import TaskFailed
from daskmr.job.contexts import TextContext
from daskmr.tasks.guard import in_thread
from daskmr.tasks.user_calls import (
    NO_KEY,
    Call,
    _busy_threads,
    combiner_of,
    current_call,
    join_threads,
    read_profile,
    set_up,
)
from daskmr.tasks.user_calls import ContextReferences as References


def nothing(*args: Any) -> None: ...


def test_calls_nest_and_belong_to_their_thread() -> None:
    current = current_call()
    outer, inner = Call("map", "a.gz"), Call("reduce", key="k")
    with current.making(outer):
        with pytest.raises(KeyError), current.making(inner):
            assert current_call().call is inner
            raise KeyError
        assert current.call is outer
        assert in_thread(lambda: current_call().call) is None
    assert current.call is None


def test_a_line_is_counted_by_what_is_left_of_its_batch() -> None:
    call = Call("map", last_line=12, rest=iter(["x", "y", "z"]))
    assert call.line == 9
    assert [call.line for _ in call.rest] == [10, 11, 12]
    assert (call.line, call.key) == (12, NO_KEY)


@pytest.mark.parametrize("fails", [False, True])
def test_combine_is_a_call_with_its_key_within_another(fails: bool) -> None:
    seen = []

    def combine(key: str, values: Sequence[int], context: Any) -> None:
        call = current_call().call
        assert call is not None
        seen.append((call.function, call.key))
        context.write(key, 1 // 0 if fails else sum(values))

    combiner = combiner_of(Job(map=nothing, combine=combine, reduce=nothing))
    assert combiner is not None
    outer = Call("reduce", key="other")
    with current_call().making(outer):
        if fails:
            with pytest.raises(TaskFailed, match="combine failed for the key 'k'"):
                combiner("k", [1, 2])
        else:
            assert combiner("k", [1, 2]) == [3]
        assert current_call().call is outer
    assert seen == [("combine", "k")]


def test_setting_up_is_a_call_and_gives_the_header() -> None:
    def setup_reduce(context: Any) -> None:
        call = current_call().call
        context.writeline(call.function if call else "")

    context = TextContext()
    assert set_up(Job(map=nothing, setup_reduce=setup_reduce), context) == ("setup_reduce\n",)
    assert context.written == []
    assert current_call().call is None


def test_threads_are_not_waited_for_where_nothing_holds_the_context() -> None:
    context = TextContext()
    assert join_threads(Job(map=nothing), "map", References(context)) == ""


def test_looking_at_threads_keeps_none_of_their_variables() -> None:
    held, leave = TextContext(), threading.Event()
    references = References(held)
    entered = threading.Event()

    def sample(context: Any) -> None:
        entered.set()
        leave.wait()

    thread = threading.Thread(target=sample, args=(held.user,), daemon=True)
    thread.start()
    entered.wait()
    assert references.count() > 0
    gc.disable()
    try:
        _busy_threads(Job(map=nothing))
        leave.set()
        thread.join()
        del thread
        assert references.count() == 0
    finally:
        gc.enable()


def test_the_command_that_starts_a_worker_is_no_script() -> None:
    """A worker's main thread runs ``<string>``, which is also the name of a script of ``python -c``."""
    job = Job(map=nothing)
    name = nothing.__code__.co_filename
    assert job.is_user_file(name)
    leave, threads = threading.Event(), []
    for text in ("entered.set(); leave.wait()", "def run(): entered.set(); leave.wait()\nrun()"):
        names = {"entered": threading.Event(), "leave": leave}
        thread = threading.Thread(
            target=exec, args=(compile(text, name, "exec"), names), daemon=True
        )
        thread.start()
        names["entered"].wait()
        threads.append(thread)
    busy = _busy_threads(job)
    assert [thread in busy for thread in threads] == [False, True]
    leave.set()


def test_there_is_a_profile_only_with_a_profiler() -> None:
    with cProfile.Profile() as profiler:
        sorted([2, 1])
    assert any("sorted" in function for _, _, function in read_profile(profiler) or {})
    assert read_profile(None) is None
