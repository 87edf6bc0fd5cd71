"""A task that the client has cancelled ends, on a worker and elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from daskmr import worker
from daskmr.errors import TaskFailed


class FakeWorker:
    name, address = 7, "tcp://10.0.0.1:1"

    def __init__(self, state: str) -> None:
        self.state = SimpleNamespace(tasks={"key": SimpleNamespace(state=state)})

    def get_current_task(self) -> str:
        return "key"


@pytest.fixture
def on_worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWorker]:
    fake = FakeWorker("executing")
    monkeypatch.setattr(worker, "current_worker", lambda: fake)
    return fake  # type: ignore[return-value]


def test_there_is_no_worker_in_this_process() -> None:
    assert worker.current_worker() is None
    assert (worker.worker_name(), worker.worker_address()) == ("inline", "")
    worker.check_cancelled()


def test_it_is_named(on_worker: Any) -> None:
    assert (worker.worker_name(), worker.worker_address()) == ("7", on_worker.address)
    assert worker.describe_worker().startswith("the worker tcp://10.0.0.1:1 on host ")


@pytest.mark.parametrize("state", ["cancelled", None])
def test_a_task_ends_once_it_is_cancelled(on_worker: Any, state: str | None) -> None:
    items = worker.until_cancelled([1, 2])
    worker.check_cancelled()
    assert next(items) == 1
    if state is None:
        on_worker.state.tasks.clear()
    else:
        on_worker.state.tasks["key"].state = state
    with pytest.raises(TaskFailed, match="has ended"):
        next(items)
    with pytest.raises(TaskFailed, match="has ended"):
        worker.check_cancelled()
