"""A process waits for files that are on their way to it."""

from __future__ import annotations

import threading

import pytest

from daskmr.errors import TaskFailed
from daskmr.job.shipped import places
from daskmr.job.shipped.places import Arrival, folder_of, put, take_back


def test_files_in_place_and_in_a_folder() -> None:
    assert folder_of("") == ""
    assert folder_of("/tmp/folder") == "/tmp/folder"


def test_a_process_that_expects_none() -> None:
    with pytest.raises(TaskFailed, match="were not sent to this process"):
        folder_of("0123")


def test_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_POLL_SECONDS", 0.01)
    arrival = Arrival("/files")
    put("0123", arrival)
    try:
        timer = threading.Timer(0.05, arrival.ended.set)
        timer.start()
        assert folder_of("0123") == "/files"
        timer.join()
        arrival.problem = "the disk is full."
        with pytest.raises(TaskFailed, match=r"could not be copied to .*: the disk is full"):
            folder_of("0123")
    finally:
        take_back("0123")
    with pytest.raises(TaskFailed, match="were not sent"):
        folder_of("0123")


def test_a_task_that_is_cancelled_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def cancelled() -> None:
        raise TaskFailed("ended")

    monkeypatch.setattr(places, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(places, "check_cancelled", cancelled)
    put("4567", Arrival("/files"))
    try:
        with pytest.raises(TaskFailed, match="ended"):
            folder_of("4567")
    finally:
        take_back("4567")
