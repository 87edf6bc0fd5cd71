"""Which call of the user's functions a thread makes is known while it lasts, and not afterwards."""

from __future__ import annotations

import cProfile
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


def test_there_is_a_profile_only_with_a_profiler() -> None:
    with cProfile.Profile() as profiler:
        sorted([2, 1])
    assert any("sorted" in function for _, _, function in read_profile(profiler) or {})
    assert read_profile(None) is None
