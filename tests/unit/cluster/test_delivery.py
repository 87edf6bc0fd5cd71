"""What a job needs beside its source reaches its tasks in the way that suits the cluster."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daskmr.cluster import delivery
from daskmr.cluster.delivery import check_files, delivered, files_of
from daskmr.errors import JobError
from daskmr.job.job import Job, chained
from daskmr.job.shipped.places import Delivery


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of two steps with a file each, of equal content."""
    for name in ("one", "two"):
        (tmp_path / name).write_text("text")
    steps = (Job(map=_map, files=[tmp_path / name]) for name in ("one", "two"))
    return chained(steps)


def _map(key: str, dims: list[str], value: str, context: Any) -> None: ...


def session(**fields: Any) -> Any:
    """A session, whose workers do not answer."""
    return SimpleNamespace(
        **{"client": None, "is_elsewhere": False, "ask": lambda *_, **__: {}, **fields}
    )


def test_files_of_all_steps(job: Job) -> None:
    assert [sent.name for sent in files_of(job)] == ["one", "two"]
    assert files_of(Job(map=_map)) == []


def test_workers_of_this_machine_read_them_in_place(job: Job, tmp_path: Path) -> None:
    with delivered(job, session(), ["HOME"], str(tmp_path), None) as sent:
        assert {step._delivery for step in sent.steps} == {Delivery()}
    assert not (tmp_path / "files").exists()


def test_a_folder_that_all_workers_see(job: Job, tmp_path: Path) -> None:
    there = session(client=object(), is_elsewhere=True)
    with delivered(job, there, [], str(tmp_path), None) as sent:
        folder = tmp_path / "files"
        (found,) = {step._delivery for step in sent.steps}
        assert found == Delivery("", str(folder), found.run)
        assert found.run
        assert [(folder / each.place).read_text() for each in files_of(job)] == ["text"] * 2
    assert not folder.exists()


def test_a_folder_that_cannot_be_written(job: Job, tmp_path: Path) -> None:
    there = session(client=object(), is_elsewhere=True)
    with (
        pytest.raises(JobError, match="Writing the files of the job failed"),
        delivered(job, there, [], str(tmp_path / "gone"), None),
    ):
        raise AssertionError


def test_no_file_needs_no_folder(tmp_path: Path) -> None:
    there = session(client=object(), is_elsewhere=True)
    with delivered(Job(map=_map), there, [], str(tmp_path), None):
        assert list(tmp_path.iterdir()) == []


def test_a_change_of_what_is_read_in_place(job: Job, tmp_path: Path) -> None:
    check_files(job, session())
    (tmp_path / "two").write_text("TEXT")
    check_files(job, session(is_elsewhere=True))
    with pytest.raises(JobError, match=r"/two, which .* has changed since the run began"):
        check_files(job, session())


def test_it_imports_no_distributed_for_workers_of_this_machine() -> None:
    assert not hasattr(delivery, "sent_files")
