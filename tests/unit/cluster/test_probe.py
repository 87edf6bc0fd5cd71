"""What workers see of this machine's files, told before any work."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import file_name, write_tree

from daskmr import clock
from daskmr.cluster.probe import HostMarks, check_data, check_spill_store, sees_all
from daskmr.data.listing import InputFile
from daskmr.data.segments import SegmentWriter, read_frames
from daskmr.data.spill_dir import HostFolder, SpillStore
from daskmr.errors import InputError, JobError
from daskmr.run import pipeline, workspace
from daskmr.run.mapreduce import mapreduce
from daskmr.store.open_stores import close_stores
from daskmr.store.source import Source, parse_source

WORKERS = ("tcp://10.0.0.1:1", "tcp://10.0.0.2:1")


def ask(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """Workers that see all that this process sees."""
    return {worker: function(*arguments) for worker in WORKERS}


def blind(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """One that sees, and one that sees nothing."""
    elsewhere = [
        [("/elsewhere" + path, size) for path, size in a] if isinstance(a, list) else f"/else{a}"
        for a in arguments
    ]
    return {WORKERS[0]: function(*arguments), WORKERS[1]: function(*elsewhere)}


def files(tmp_path: Path, sizes: list[int]) -> list[InputFile]:
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}").write_bytes(b"x" * size)
    return [InputFile(f"{number}", size, ()) for number, size in enumerate(sizes)]


def test_data_that_all_see(tmp_path: Path) -> None:
    check_data(ask, str(tmp_path), files(tmp_path, list(range(100))))
    check_data(blind, "", [InputFile("a", 1, (), "etag", 1.0)])  # of a store: nobody is asked


def test_data_that_a_worker_does_not_see(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        check_data(blind, str(tmp_path), files(tmp_path, [1, 2, 3]))
    message = str(caught.value)
    assert "tcp://10.0.0.2:1 on host " in message
    assert "tcp://10.0.0.1:1" not in message
    assert "0 cannot be read there (No such file or directory)" in message
    assert "--bucket" in message


def test_data_that_is_another_elsewhere(tmp_path: Path) -> None:
    listed = files(tmp_path, [5, 5])
    (tmp_path / "1").write_bytes(b"less")
    with pytest.raises(InputError, match=r"1 has 4 bytes there and 5 here"):
        check_data(ask, str(tmp_path), listed)


def test_a_log_that_grows_for_all_is_no_other_file(tmp_path: Path) -> None:
    listed = files(tmp_path, [5, 5])
    (tmp_path / "1").write_bytes(b"longer")
    check_data(ask, str(tmp_path), listed)

    def ask_while_it_is_put_back(*question: Any) -> Mapping[str, Any]:
        answers = ask(*question)
        (tmp_path / "1").write_bytes(b"short")
        return answers

    with pytest.raises(InputError, match=r"1 has 6 bytes there and 5 here"):
        check_data(ask_while_it_is_put_back, str(tmp_path), listed)


def test_a_worker_that_cannot_tell(tmp_path: Path) -> None:
    def failing(*_: Any) -> Mapping[str, Any]:
        return {WORKERS[0]: ModuleNotFoundError("no daskmr")}

    with pytest.raises(InputError, match="ModuleNotFoundError: no daskmr"):
        check_data(failing, str(tmp_path), files(tmp_path, [1]))


def test_folders_that_all_see_or_not(tmp_path: Path) -> None:
    assert sees_all(ask, str(tmp_path))
    assert not sees_all(blind, str(tmp_path))
    assert not sees_all(lambda *_: {}, str(tmp_path)), "without workers, nobody knows"
    assert os.listdir(tmp_path) == []


# --- segments in a store --------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpillStore]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "spill").mkdir()
    yield SpillStore("0123456789ab", parse_source(f"file://{tmp_path}/spill"), 1)
    close_stores()


def test_a_segment_in_a_store(store: SpillStore, tmp_path: Path) -> None:
    folder = Path(store.host.make())
    writer = SegmentWriter(store)
    frames = [os.urandom(size) for size in (1, 700_000, 0, 600_000, 3_000_000, 5)]
    first = writer.write([(frame, 1) for frame in frames])
    second = writer.write([(b"other", 1)])
    writer.close()
    assert os.listdir(folder / "segments") == []
    assert list(read_frames(first)) == frames
    assert list(read_frames(second)) == [b"other"]
    with pytest.raises(JobError, match="cannot be read back"):
        list(read_frames(replace(first, offset=1, length=first.length - 1)))
    first.remove()
    with pytest.raises(JobError, match=r"The spill dir file:.* failed"):
        list(read_frames(first))


def test_without_a_spill_dir(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r"Give --spill-dir, .* s3://BUCKET/spill"):
        SegmentWriter(SpillStore("0123456789ab", None, 1))


def test_a_run_clears_what_it_has_and_what_the_dead_have_left(
    store: SpillStore, tmp_path: Path
) -> None:
    place = tmp_path / "spill"
    for run, age in (("run-dead", 25 * 3600), ("run-alive", 3600), ("notes", 25 * 3600)):
        (place / run).mkdir()
        for name in ("alive", "x.seg"):
            (place / run / name).write_text("x")
            os.utime(place / run / name, (time.time() - age,) * 2)
    store.begin()
    assert sorted(p.name for p in place.rglob("*") if p.is_file() and "dead" in str(p)) == []
    assert (place / "run-alive" / "x.seg").exists()
    assert (place / "notes" / "x.seg").exists()
    assert (place / "run-0123456789ab" / "alive").exists()
    store.clear()
    assert list((place / "run-0123456789ab").iterdir()) == []


def test_the_host_of_a_worker_that_starts_anew_is_cleared(
    store: SpillStore, tmp_path: Path
) -> None:
    host = store.host
    answering = iter([True, True, False, False, True])  # to sweep, to look, and to remove

    def dying(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        return {WORKERS[0]: function(*arguments)} if next(answering) else {}

    marks = HostMarks(dying, host)
    folder = Path(host.make())
    (folder / "marks" / "map-7.1-x-1").write_text("")
    marks.forget()
    assert not folder.exists()
    assert list(answering) == []


def test_a_host_is_rid_of_what_the_dead_have_left(store: SpillStore, tmp_path: Path) -> None:
    host = store.host
    old, young, users = (tmp_path / f"daskmr-{digit * 12}" for digit in "abc")
    for folder in (old, young, users):
        (folder / "marks").mkdir(parents=True)
    (users / "notes").write_text("the user's own")
    for folder, age in ((old, 3700), (young, 3500), (users, 3700)):
        os.utime(folder, (time.time() - age,) * 2)
    own = Path(host.make())
    os.utime(own, (time.time() - 3700,) * 2)
    host.renew()
    HostMarks(ask, host)
    assert [folder.exists() for folder in (old, young, users, own)] == [False, True, True, True]


@pytest.mark.parametrize("machine", ["this", "another"])
def test_a_host_keeps_what_lives_though_its_wall_clock_was_set(
    store: SpillStore, tmp_path: Path, machine: str
) -> None:
    other = HostFolder("a" * 12)
    folder = Path(other.make())
    if machine == "another":  # or this one, before it was started again: then nothing else tells
        (folder / "renewed").write_text(json.dumps(["another", time.monotonic()]))
    os.utime(folder, (time.time() - 86_400,) * 2)
    HostMarks(ask, store.host)
    assert folder.exists() == (machine == "this")
    if machine == "this":
        (folder / "renewed").write_text(
            json.dumps([clock.origin().machine, time.monotonic() - 3700])
        )
        os.utime(folder, (time.time() - 86_400,) * 2)
        HostMarks(ask, store.host)
        assert not folder.exists()


def test_a_run_spares_what_lives_in_a_store_though_the_wall_clock_was_set(
    store: SpillStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(store, run_id="a" * 12).begin()
    wall = time.time
    monkeypatch.setattr("time.time", lambda: wall() + 2 * 86_400)
    store.begin()
    assert (tmp_path / "spill" / f"run-{'a' * 12}" / "alive").exists()


def test_a_spill_dir_that_is_not_there(tmp_path: Path) -> None:
    store = SpillStore("0123456789ab", Source("nonsense", "x"), 0)
    with pytest.raises(InputError, match="The spill dir nonsense://x cannot be used"):
        store.begin()
    close_stores()


def test_workers_that_cannot_use_the_spill_dir(store: SpillStore) -> None:
    check_spill_store(ask, store)
    with pytest.raises(InputError, match=r"The spill dir cannot be used by the worker tcp://10"):
        check_spill_store(ask, SpillStore("0123456789ab", Source("nonsense", "x"), 0))


# --- on a cluster ---------------------------------------------------------------------------------

JOB = """
def map(key, dims, value, context):
    for number in range(300):
        context.write(f"{key}-{number}", value)
def reduce(key, values, context):
    context.write(key, "".join(values))
"""


# Counts the copies that there are while it runs.
KEEPING = """
from pathlib import Path
def map(key, dims, value, context):
    copies = Path({folder!r}).glob("*/local/dask-scratch-space/daskmr-*/cache/**/*.gz")
    context.write(key, len(list(copies)))
def reduce(key, values, context):
    context.write(key, max(values))
"""


def run(folder: Path, name: str, **options: Any) -> bytes:
    (folder / "job.py").write_text(JOB)
    output = folder / name
    settings = {"work_dir": folder / "work", "spill_bytes": 20_000, **options}
    result = mapreduce(folder / "job.py", data_dir=folder / "data", output=output, **settings)
    assert result.spilled > 0
    return output.read_bytes()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data", [[f"k{n}\t{n}" for n in range(6)] for _ in range(8)])


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def test_a_work_dir_that_all_see(tmp_path: Path, data: Path, client: Client) -> None:
    assert run(tmp_path, "a", client=client) == run(tmp_path, "b", inline=True)
    assert not (tmp_path / "work").exists()


def hosts(cluster: DaskCluster) -> list[Path]:
    return [path for path in cluster.folder.rglob("daskmr-*") if path.is_dir()]


@pytest.mark.parametrize("place", ["path", "store"])
def test_segments_go_to_the_spill_dir(
    tmp_path: Path,
    data: Path,
    client: Client,
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
) -> None:
    (tmp_path / "spill").mkdir()
    seen = iter([False, True])
    monkeypatch.setattr(workspace, "sees_all", lambda *_: next(seen))
    spill_dir = str(tmp_path / "spill")
    if place == "store":  # a URL of a file is a path; so this stands for a store
        source = parse_source(f"file://{spill_dir}")
        monkeypatch.setattr(workspace, "source_of", lambda *_: source)
        spill_dir = "s3://bucket/spill"
    there = run(tmp_path, "a", client=client, spill_dir=spill_dir, num_reducers=3)
    assert there == run(tmp_path, "b", inline=True)
    assert [path for path in (tmp_path / "spill").rglob("*") if path.is_file()] == []
    assert hosts(dask_cluster) == []


def test_copies_of_what_is_fetched_leave_the_hosts(
    tmp_path: Path,
    data: Path,
    client: Client,
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the spill dir is a path that all see, and so in the place of the work dir."""
    seen = iter([False, True])
    monkeypatch.setattr(workspace, "sees_all", lambda *_: next(seen))
    (tmp_path / "job.py").write_text(KEEPING.format(folder=str(dask_cluster.folder)))
    result = mapreduce(
        tmp_path / "job.py",
        bucket=f"file://{data}",
        client=client,
        work_dir=tmp_path / "work",
        spill_dir=tmp_path / "spill",
    )
    assert max(count for _, count in result) > 0, "else this test is void"
    assert hosts(dask_cluster) == []


def test_a_store_that_workers_cannot_use_leaves_nothing(
    tmp_path: Path,
    data: Path,
    client: Client,
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    monkeypatch.setattr(SpillStore, "begin", lambda _: None)  # this machine can
    monkeypatch.setattr("daskmr.run.mapreduce.check_spill_dir", lambda _: None)
    source = Source("nonsense", "x")
    monkeypatch.setattr(workspace, "source_of", lambda *_: source)
    with pytest.raises(InputError, match="The spill dir cannot be used by the worker"):
        run(tmp_path, "a", client=client, spill_dir="s3://bucket/spill")
    assert hosts(dask_cluster) == []


def test_a_job_that_must_spill_and_cannot(
    tmp_path: Path,
    data: Path,
    client: Client,
    dask_cluster: DaskCluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    (tmp_path / "a").write_text("old")
    with pytest.raises(JobError, match="Give --spill-dir"):
        run(tmp_path, "a", client=client)
    assert (tmp_path / "a").read_text() == "old"
    assert hosts(dask_cluster) == []


def test_a_mistake_in_the_spill_dir_is_told_before_any_work(tmp_path: Path, data: Path) -> None:
    for given, said in [
        ({"spill_dir": ""}, "The setting spill-dir cannot be ''"),
        (
            {"spill_dir": "foo://x"},
            "The spill dir 'foo://x' cannot be used: foo:// is not a protocol",
        ),
        (
            {"spill_dir": "s3://b/x", "local_only": True},
            "but the spill dir 's3://b/x' is in a store",
        ),
    ]:
        with pytest.raises(InputError, match=said):
            run(tmp_path, "a", scheduler="tcp://127.0.0.1:1", **given)


def test_what_is_not_watched_is_told(
    tmp_path: Path, data: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workspace, "sees_all", lambda *_: False)
    (tmp_path / "job.py").write_text(JOB)
    options = {"work_dir": tmp_path / "work", "client": client, "file_timeout": "1 h"}
    result = mapreduce(tmp_path / "job.py", data_dir=data, **options)
    assert [note for note in result.notes if "file-timeout was ignored" in note]


@pytest.mark.slow
def test_what_a_worker_reads_otherwise_names_it(
    tmp_path: Path, data: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that joins later is not asked, so its tasks see for themselves."""
    monkeypatch.setattr(workspace, "check_data", lambda *_: None)
    list_files = pipeline.find_inputs

    def listed(*arguments: Any, **options: Any) -> Any:
        inputs = list_files(*arguments, **options)
        next((tmp_path / "data").rglob(file_name(3))).write_bytes(b"changed")
        return inputs

    monkeypatch.setattr(pipeline, "find_inputs", listed)
    with pytest.raises(JobError, match=r"has 7 bytes on the worker tcp://127.0.0.1:\d+ on host"):
        run(tmp_path, "a", client=client)
