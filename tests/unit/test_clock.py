"""The time of a run, while the wall clock is set."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from daskmr import clock


@pytest.fixture(autouse=True)
def clock_kept() -> Iterator[None]:
    before = clock.origin()
    yield
    clock.adopt(before)


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_it_goes_on_evenly(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    clock.restart()
    before, wall = clock.now(), time.time
    assert abs(before - wall()) < 1
    monkeypatch.setattr("time.time", lambda: wall() + jump)
    assert 0 <= clock.now() - before < 5
    clock.restart()
    assert abs(clock.now() - before - jump) < 5


def test_another_process_of_the_run_has_the_same() -> None:
    code = (
        "import sys, time\n"
        "wall = time.time\n"
        "time.time = lambda: wall() - 86400\n"
        "from daskmr import clock\n"
        "machine, offset = sys.argv[1:]\n"
        "clock.adopt(clock.Origin(machine, float(offset)))\n"
        "print(clock.now())\n"
    )

    def ask(machine: str, offset: float) -> float:
        command = [sys.executable, "-c", code, machine, repr(offset)]
        return float(subprocess.run(command, capture_output=True, check=True).stdout)

    machine, offset = clock.origin()
    assert machine
    before = clock.now()
    assert before < ask(machine, offset) < clock.now()
    assert ask("another", offset) < before - 80_000
    assert ask("", offset) < before - 80_000
