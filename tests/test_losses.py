"""Workers that are lost, in each way and in each phase: once costs nothing, each time is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import DIRECTORY, daskmr, file_name, write_tree
from dask_cluster import DaskCluster
from distributed import Client

from daskmr import pipeline
from daskmr.errors import JobError
from daskmr.pipeline import Result, mapreduce

FILES = 12
VICTIM = 7  # the file, and what it writes

# The combiner is asked while mapping for keys with many values, and else where Runs are merged.
SCRIPT = """
import ctypes, os, signal, sys, time

WHERE, HOW, ONCE = {where!r}, {how!r}, {once!r}

def die(where):
    if where != WHERE:
        return
    if ONCE is not None:
        try:
            os.close(os.open(ONCE, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
    if HOW == "os._exit":
        os._exit(3)
    if HOW == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    if HOW == "segfault":
        ctypes.string_at(0)
    if HOW == "sys.exit":
        sys.exit(0)
    if HOW == "memory":
        held = []
        while True:
            held.append(b"x" * 50_000_000)
            time.sleep(0.02)
    if HOW == "SIGSTOP":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(60)  # another thread may be the one that the signal reaches, a moment later

def map(key, dims, value, context):
    if value == "{victim}" and key == "k3":
        die("map")
    context.write(key, int(value))
    if key == "k0":
        for _ in range(60):
            context.write("many", int(value))

def combine(key, values, context):
    if key == "many" and len(values) == 50 and values[0] == {victim}:
        die("combine")
    if key == "k5" and len(values) > 1:
        die("merge")
    context.write(key, sum(values))

def reduce(key, values, context):
    if key == "k4":
        die("reduce")
    context.write(key, sum(values))
"""
HOWS = ("os._exit", "SIGKILL", "segfault", "memory", "SIGSTOP")
PLACES = ("map", "combine", "merge", "reduce")
TOLD = {
    "map": (file_name(VICTIM),),
    "combine": (file_name(VICTIM), "combine failed for the key 'many'"),
    "merge": ("the key 'k5'",),
    "reduce": ("the key 'k4'",),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tree(
        tmp_path / "data", [[f"k{key}\t{n}" for key in range(8)] for n in range(FILES)]
    )


def expected() -> str:
    total = sum(range(FILES))
    lines = [f"k{key}\t{total}" for key in range(8)]
    return "\n".join([*lines, f"many\t{60 * total}", ""])


def script(
    folder: Path, where: str, how: str, once: bool = False, name: str = "job.py"
) -> tuple[Path, Path]:
    """Write a script that ends its process; and name the file that says it has done so."""
    done = folder / "done"
    path = folder / name
    text = SCRIPT.format(where=where, how=how, once=str(done) if once else None, victim=VICTIM)
    path.write_text(text)
    return path, done


def run(folder: Path, job: Path, **options: Any) -> Result:
    settings = {"num_mappers": 2, "stopped_timeout": 1, "work_dir": folder / "work", **options}
    if "client" in options:
        del settings["num_mappers"]
    return mapreduce(job, data_dir=folder / "data", output=folder / "out.txt", **settings)


def check_once(folder: Path, data: Path, where: str, how: str, **options: Any) -> None:
    job, done = script(folder, where, how, once=True)
    result = run(folder, job, **options)
    assert done.exists(), "else this test is void"
    assert (folder / "out.txt").read_text() == expected()
    assert (result.records, result.files, result.key_count) == (8 * FILES, FILES, 9)


def check_always(folder: Path, data: Path, where: str, how: str, **options: Any) -> None:
    job, _ = script(folder, where, how)
    (folder / "out.txt").write_text("old")
    with pytest.raises(JobError) as caught:
        run(folder, job, **options)
    assert any(words in str(caught.value) for words in TOLD[where]), str(caught.value)
    assert (folder / "out.txt").read_text() == "old"
    assert not (folder / "work").exists()


LIMIT = {"memory_limit": "450MB"}


@pytest.mark.parametrize(("where", "how"), [("map", "os._exit"), ("merge", "SIGKILL")])
def test_a_worker_that_dies_once(tmp_path: Path, data: Path, where: str, how: str) -> None:
    check_once(tmp_path, data, where, how)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", PLACES)
def test_any_loss_once(tmp_path: Path, data: Path, where: str, how: str) -> None:
    check_once(tmp_path, data, where, how, **LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("where", PLACES)
def test_any_loss_each_time(tmp_path: Path, data: Path, where: str, how: str) -> None:
    check_always(tmp_path, data, where, how, **LIMIT)


@pytest.mark.slow
@pytest.mark.parametrize("where", PLACES)
def test_leaving_the_program_fails_at_once(tmp_path: Path, data: Path, where: str) -> None:
    job, done = script(tmp_path, where, "sys.exit", once=True)
    with pytest.raises(JobError, match=r"SystemExit.*Return from \w+ instead"):
        run(tmp_path, job)
    assert done.exists()


# --- lost while the output is written -------------------------------------------------------------


def test_workers_that_are_lost_while_the_output_is_written(
    tmp_path: Path, data: Path, dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that they had is here by then, or in files."""
    job, _ = script(tmp_path, "nowhere", "os._exit")
    merge_parts = pipeline.merge_parts

    def killing(parts: Any) -> Iterator[list[Any]]:
        for worker in dask_cluster.workers:
            os.kill(worker.pid, signal.SIGKILL)
        yield from merge_parts(parts)

    monkeypatch.setattr(pipeline, "merge_parts", killing)
    with Client(dask_cluster.address, set_as_default=False) as client:
        run(tmp_path, job, client=client)
        client.wait_for_workers(len(dask_cluster.workers))
    assert (tmp_path / "out.txt").read_text() == expected()


# --- going on without files that kill their worker ------------------------------------------------

POISON = """
import os
def map(key, dims, value, context):
    if int(value) in {poisoned}:
        os._exit(3)
    context.write(key, int(value))
def reduce(key, values, context):
    context.write(key, sum(values))
"""


def check_poison(folder: Path, files: int, poisoned: list[int], **options: Any) -> Result:
    """Exactly those that kill are listed, and exactly the others are used."""
    write_tree(folder / "data", [[f"k{key}\t{n}" for key in range(4)] for n in range(files)])
    job = folder / "job.py"
    job.write_text(POISON.format(poisoned=poisoned))
    result = run(folder, job, skip_poison_files=True, **options)
    names = [f"{DIRECTORY}/{file_name(n)}" for n in poisoned]
    assert [path for path, _ in result.poisoned] == names
    assert all(path in why and "died" in why for path, why in result.poisoned)
    good = [n for n in range(files) if n not in poisoned]
    assert (result.files, result.records) == (len(good), 4 * len(good))
    assert (folder / "out.txt").read_text() == "".join(f"k{k}\t{sum(good)}\n" for k in range(4))
    return result


def test_poison_files_are_left_out_whole_and_kept(tmp_path: Path) -> None:
    result = check_poison(tmp_path, 6, [2, 3], delete_data=True)
    left = sorted(path.name for path in (tmp_path / "data").rglob("*.gz"))
    assert (result.deleted, left) == (4, [file_name(2), file_name(3)])


@pytest.mark.slow
def test_twenty_of_sixty_on_this_machine(tmp_path: Path) -> None:
    check_poison(tmp_path, 60, list(range(0, 60, 3)))


@pytest.mark.slow
def test_twenty_of_sixty_on_a_cluster(tmp_path: Path, dask_cluster: DaskCluster) -> None:
    with Client(dask_cluster.address, set_as_default=False) as client:
        check_poison(tmp_path, 60, list(range(0, 60, 3)), client=client)


@pytest.mark.slow
def test_twenty_of_sixty_where_the_work_dir_is_not_seen(
    tmp_path: Path, dask_cluster: DaskCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "sees_all", lambda *_: False)
    with Client(dask_cluster.address, set_as_default=False) as client:
        check_poison(tmp_path, 60, list(range(0, 60, 3)), client=client)


@pytest.mark.slow
def test_several_in_one_partition(tmp_path: Path) -> None:
    check_poison(tmp_path, 96, [0, 1, 2, 40, 95])


def test_the_summary_names_poison_files(tmp_path: Path) -> None:
    write_tree(tmp_path / "data", [[f"k\t{n}"] for n in range(3)])
    (tmp_path / "job.py").write_text(POISON.format(poisoned=[1]))
    arguments = ("run", "job.py", "-d", "data", "-o", "out.txt", "-m", "1", "--skip-poison-files")
    done = daskmr(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "killed their worker, left out whole: 1 files\n" in done.stderr
    assert f"{file_name(1)}: the worker process died each time that it was mapped" in done.stderr


# --- a worker that is stopped ---------------------------------------------------------------------


def test_a_stopped_worker_is_replaced_on_this_machine(tmp_path: Path, data: Path) -> None:
    check_once(tmp_path, data, "map", "SIGSTOP")
