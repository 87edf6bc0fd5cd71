"""What takes too long is interrupted, in the main thread, and as it was before afterwards."""

from __future__ import annotations

import signal
import time

import pytest

from daskmr.errors import TaskFailed
from daskmr.tasks.alarm import TimeIsUp, alarm
from daskmr.tasks.guard import in_thread
from daskmr.tasks.partition_files import time_limit


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


def test_a_file_that_takes_too_long_is_named() -> None:
    said = r"Mapping a\.gz took longer than --file-timeout allows"
    with pytest.raises(TaskFailed, match=said), time_limit(0.05, "a.gz"):
        time.sleep(10)
