"""Whole jobs over objects of a store: fetched once, verified, killed, broken, and without a network."""

from __future__ import annotations

import gzip
import json
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import psutil
import pytest
from support.fault_proxy import FAULTS, FaultProxy
from support.jobs import ROOT, daskmr
from support.store_server import CREDENTIALS, Bucket, Request

from daskmr import InputError, JobError, Result, mapreduce
from daskmr.cluster.session import Session
from daskmr.data.cache.cache import Cache
from daskmr.data.cache.upkeep import verify

JOB = """
def map(key, dims, value, context):
    context.write(f"{dims[2]} {dims[5]} {key}", len(value))

def reduce(key, values, context):
    context.write(key, f"{len(values)} {sum(values)}")
"""
# Maps until the file "go" appears beside it, having said so in "waiting".
WAITING = """
import os, pathlib, time

def map(key, dims, value, context):
    here = pathlib.Path({folder!r})
    (here / "waiting").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
"""
# Maps when the process that fetches for its worker is ready, and says which that is.
BESIDE = """
import os, pathlib, signal, time
from daskmr.data.cache import fetcher

def map(key, dims, value, context):
    for other in list(fetcher._fetchers.values()):
        while not (other.ready or other.lost):
            time.sleep(0.01)
        (pathlib.Path({folder!r}) / f"{{other._process.pid}}.pid").touch()
        {then}
    context.write(f"{{dims[2]}} {{dims[5]}} {{key}}", len(value))

def reduce(key, values, context):
    context.write(key, f"{{len(values)}} {{sum(values)}}")
"""
FAILING = "def map(key, dims, value, context): raise RuntimeError(key)"
SEED = 4
MOMENTS = 20


# --- data, and the ways to run a job over it ------------------------------------------------------


def make_objects(count: int, days: int = 5, size: int = 0) -> dict[str, bytes]:
    """Files in four directories, of several days; small ones, or such of at least `size` bytes."""
    objects = {}
    noise = random.Random(count)
    for number in range(count):
        reason = ("idle_daily", "saved_session")[number // 2 % 2]
        channel = ("beta", "nightly")[number % 2]
        name = f"20131029030201.2013110{1 + number % days}.v2.log.{number:032x}.gz"
        lines = (f"k{(number + i) % 7}\t{'v' * ((number * i) % 60)}\n" for i in range(20))
        text = "".join(lines) + (f"noise\t{noise.randbytes(size).hex()}\n" if size else "")
        objects[f"{reason}/Firefox/{channel}/28.0a1/{name}"] = gzip.compress(
            text.encode(), 1, mtime=0
        )
    return objects


class Place:
    """A folder with a job script, and a bucket that holds what the job is about."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        self.folder = folder
        self.bucket = bucket
        self.work = folder / "work"
        self.cache = self.work / "cache"
        self.output = folder / "out"
        self.objects: dict[str, bytes] = {}
        self._seen = 0
        self.write_script(JOB)

    def write_script(self, text: str) -> None:
        (self.folder / "job.py").write_text(text)

    def write_filter(self, **allowed: Any) -> None:
        """Write filter.json; what is not given is open."""
        names = ("why", "app", "channel", "version", "build", "day")
        import json

        dimensions = [{"field_name": n, "allowed_values": allowed.get(n, "*")} for n in names]
        (self.folder / "filter.json").write_text(json.dumps({"dimensions": dimensions}))

    def put(self, count: int, size: int = 0) -> None:
        """Have so many objects in the bucket."""
        self.objects = make_objects(count, size=size)
        self.bucket.put(self.objects)
        self.requests()

    def store_local(self, paths: Sequence[str] | None = None) -> Path:
        """Have some of the objects, or all, as files of a data dir."""
        data = self.folder / "data"
        for path in self.objects if paths is None else paths:
            (data / path).parent.mkdir(parents=True, exist_ok=True)
            (data / path).write_bytes(self.objects[path])
        return data

    def expected(self, *, input_filter: str | None = None) -> bytes:
        """The output of the same job over local files."""
        data = self.store_local()
        target = self.folder / "expected"
        mapreduce(
            self.folder / "job.py",
            data_dir=data,
            output=target,
            inline=True,
            work_dir=self.folder / "work-of-expected",
            meta=False,
            input_filter=self.folder / input_filter if input_filter else None,
        )
        shutil.rmtree(data)
        return target.read_bytes()

    def arguments(self, *options: str) -> list[str]:
        return ["run", "job.py", "-b", self.bucket.name, "-w", "work", "-o", "out", *options]

    def run(self, *options: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return daskmr(*self.arguments(*options), cwd=self.folder, **more)

    def start(self, *options: str, **more: Any) -> subprocess.Popen[str]:
        """Start the command, and leave it running."""
        command = [sys.executable, "-m", "daskmr", *self.arguments(*options)]
        return subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True, **more)

    def call(self, **options: Any) -> Result:
        """Run the job inline, in this process."""
        arguments = {
            "bucket": self.bucket.name,
            "work_dir": str(self.work),
            "output": self.output,
            "inline": True,
        }
        return mapreduce(self.folder / "job.py", **{**arguments, **options})

    def requests(self) -> list[Request]:
        """The requests that the server has seen since this was last asked."""
        seen = self.bucket.requests()
        new, self._seen = seen[self._seen :], len(seen)
        return new

    def fetched(self) -> Counter[str]:
        """The objects asked for since requests were last asked about, and how often."""
        return Counter(r.key for r in self.requests() if r.key)

    def in_cache(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.cache).as_posix(): path.read_bytes()
            for path in self.cache.rglob("*")
            if path.is_file()
        }

    def check_nothing_left(self) -> None:
        """See that nothing temporary lies about, and that the cache is what its manifest says."""
        names = {path.name for path in self.work.iterdir()}
        assert names <= {
            *("cache", "cache-partial"),
            *("cache.sqlite", "cache.sqlite-wal", "cache.sqlite-shm"),
        }
        partial = self.work / "cache-partial"
        assert not partial.exists() or not list(partial.iterdir())
        assert not list(self.folder.glob(".*"))
        assert self.in_cache().items() <= self.objects.items()
        with Cache(str(self.cache)) as cache:
            assert list(verify(cache)) == []
            assert not cache.manifest.pending()


@pytest.fixture
def place(tmp_path: Path, bucket: Bucket) -> Place:
    return Place(tmp_path, bucket)


def of_object(request: Request) -> bool:
    return bool(request.key)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    for _ in range(3000):
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"{what} never came")


# --- fetched once, and read from then on ----------------------------------------------------------


def check_three_runs(place: Place, expected: bytes) -> None:
    """The first run fetches, the second lists, the third asks nobody; all give the same bytes."""
    done = place.run()
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    count = f"{len(place.objects):,}"
    assert f"fetched  {count} objects" in done.stderr
    assert place.fetched() == Counter([*place.objects])
    assert place.in_cache() == place.objects
    place.output.unlink()

    done = place.run()
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert f"in the cache before: {count}" in done.stderr
    requests = place.requests()
    assert requests
    assert all(request.is_listing for request in requests)
    place.output.unlink()

    done = place.run("-l")
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.requests() == []
    place.check_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("cache", [True, False])
def test_objects_that_are_no_records_are_fetched_once_at_most(place: Place, cache: bool) -> None:
    place.put(6)
    text = gzip.compress(b'{"n": 1}\n' * 400, mtime=0)
    place.bucket.put(dict.fromkeys(place.objects, text))
    with pytest.raises(
        JobError, match=r"None of the first 1,000 lines.*The input looks like JSON lines"
    ):
        place.call(cache=cache)
    assert set(place.fetched().values()) == {1}
    assert place.call(cache=cache, max_bad_records="100%").bad_records == 2400


@pytest.mark.slow
def test_three_runs(place: Place) -> None:
    place.put(20)
    check_three_runs(place, place.expected())


@pytest.mark.slow
def test_three_runs_over_many_objects(place: Place) -> None:
    place.put(2000)
    check_three_runs(place, place.expected())


@pytest.mark.slow
def test_the_cache_is_a_plain_data_dir(place: Place) -> None:
    place.put(8)
    expected = place.expected()
    place.call()
    place.requests()
    done = daskmr("run", "job.py", "-d", "work/cache", "-o", "other", cwd=place.folder)
    assert (done.returncode, (place.folder / "other").read_bytes()) == (0, expected)
    assert "note:" not in done.stderr
    # What the old command line did: the cache as data dir, beside the bucket.
    again = place.call(data_dir=place.cache)
    assert (again.fetched, again.cached) == (0, 8)
    assert place.output.read_bytes() == expected
    assert all(request.is_listing for request in place.requests())


def test_a_second_source_has_a_cache_of_its_own(place: Place) -> None:
    place.put(4)
    place.call()
    place.bucket.put({f"sub/{key}": value for key, value in make_objects(6).items()})
    result = place.call(bucket=f"s3://{place.bucket.name}/sub")
    assert result.fetched == 6
    (second,) = place.work.glob("cache@*.sqlite")
    assert len(list(second.with_suffix("").rglob("*.gz"))) == 6
    assert place.in_cache() == place.objects


@pytest.mark.slow
def test_a_data_dir_beside_the_bucket(place: Place) -> None:
    place.put(12)
    expected = place.expected()
    local, others = sorted(place.objects)[::2], sorted(place.objects)[1::2]
    data = place.store_local(local)
    # An extra file that only the data dir has is read too.
    extra = data / local[0].replace("20131029030201", "20130000000000")
    extra.write_bytes(gzip.compress(b"extra\tone\n"))
    result = place.call(data_dir=data, cache_max=sum(len(place.objects[path]) for path in others))
    assert place.fetched().keys() - {""} == set(others)
    assert (result.files, result.fetched, result.cached) == (13, 6, 0)
    extra.unlink()
    again = place.call(data_dir=data)
    assert (again.files, again.fetched, again.cached) == (12, 0, 6)
    assert place.output.read_bytes() == expected
    place.requests()
    offline = place.call(data_dir=data, local_only=True)
    assert (offline.files, offline.cached) == (12, 6)
    assert place.output.read_bytes() == expected
    assert place.requests() == []


@pytest.mark.slow
@pytest.mark.parametrize("prefetch", ["64 MiB", "1 B"])
def test_no_cache_leaves_nothing(place: Place, prefetch: str, short_folder: Path) -> None:
    place.put(10)
    expected = place.expected()
    before = sorted(place.folder.iterdir())
    environment = {"TMPDIR": str(short_folder), "DASK_DASKMR__PREFETCH_BYTES": prefetch}
    done = place.run("--no-cache", env=environment)
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.fetched() == Counter([*place.objects])
    written = [place.output, place.output.with_name("out.meta.json")]
    assert sorted(place.folder.iterdir()) == sorted([*before, *written])
    assert not list(short_folder.iterdir())


@pytest.mark.slow
def test_two_jobs_fetch_each_object_once(place: Place) -> None:
    place.put(60)
    expected = place.expected()
    place.bucket.server.delay(0.02)
    try:
        with place.start() as first, place.start("-o", "out2") as second:
            said = [process.communicate(timeout=180)[1] for process in (first, second)]
    finally:
        place.bucket.server.delay(0)
    assert (first.returncode, second.returncode) == (0, 0), said
    assert place.output.read_bytes() == (place.folder / "out2").read_bytes() == expected
    assert place.fetched() == Counter([*place.objects])
    counts = [int(re.search(r"fetched  (\d+) objects", text)[1]) for text in said]
    assert sum(counts) == 60
    assert min(counts) > 0  # else they were not at it together
    place.check_nothing_left()


# --- fetched by processes beside the workers ------------------------------------------------------


def beside(place: Place, then: str) -> dict[str, str]:
    """Have processes fetch, and `then` be done in `map` once they do; the environment for that."""
    place.write_script(BESIDE.format(folder=str(place.folder), then=then))
    return {"DASK_DASKMR__FETCH_PROCESSES": "true"}


def fetching_processes(place: Place) -> list[int]:
    """Those that there were, all of which have ended."""
    pids = [int(path.stem) for path in place.folder.glob("*.pid")]
    for path in place.folder.glob("*.pid"):
        path.unlink()
    wait_for(lambda: not any(map(psutil.pid_exists, pids)), "the end of what fetches")
    return pids


@pytest.mark.slow
@pytest.mark.parametrize("mappers", ["1", "2"])
def test_processes_beside_the_workers_fetch(place: Place, mappers: str) -> None:
    place.put(80)
    expected = place.expected()
    done = place.run("-m", mappers, env=beside(place, "pass"))
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.fetched() == Counter([*place.objects])
    assert "fetched  80 objects" in done.stderr
    assert 1 <= len(fetching_processes(place)) <= int(mappers)
    place.check_nothing_left()


@pytest.mark.slow
def test_a_job_goes_on_without_a_process_that_fetches(place: Place) -> None:
    place.put(60)
    expected = place.expected()
    done = place.run(env=beside(place, "other.lost or os.kill(other._process.pid, signal.SIGKILL)"))
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.in_cache() == place.objects
    assert fetching_processes(place)
    place.check_nothing_left()


@pytest.mark.slow
@pytest.mark.parametrize("then", ["raise RuntimeError", "os.kill({client}, signal.SIGINT)"])
def test_what_fetches_ends_with_a_job_that_fails(place: Place, then: str) -> None:
    place.put(60)
    client = "os.getppid()"  # the server that forks; the client is above
    then = then.format(client=f"__import__('psutil').Process({client}).ppid()")
    done = place.run(env=beside(place, then))
    assert done.returncode == (1 if then.startswith("raise") else 130), done.stderr
    assert not place.output.exists()
    assert fetching_processes(place)
    place.check_nothing_left()


@pytest.mark.slow
def test_a_missing_object_fails_the_job_from_beside(place: Place, proxy: FaultProxy) -> None:
    place.put(60)
    gone = sorted(place.objects)[30]
    proxy.inject("404 NoSuchKey", match=one_object(gone))
    environment = beside(place, "pass")
    done = place.run(env=environment)
    assert done.returncode == 1
    assert f"{gone} no longer exists" in done.stderr
    done = place.run("--skip-missing", env=environment)
    assert done.returncode == 0, done.stderr
    assert "could not be fetched, skipped: 1 object\n" in done.stderr
    assert fetching_processes(place)
    place.check_nothing_left()


def test_delete_data_removes_copies_only(place: Place) -> None:
    place.put(8)
    expected = place.expected()
    done = place.run("-X")
    assert (done.returncode, place.output.read_bytes()) == (0, expected)
    assert "deleted  8 " in done.stderr
    assert place.in_cache() == {}
    assert place.bucket.objects() == place.objects
    assert not any(request.method == "DELETE" for request in place.requests())


@pytest.mark.slow
def test_delete_data_removes_nothing_of_a_job_that_fails(place: Place) -> None:
    place.put(8)
    place.write_script(JOB.replace("sum(values)", "1 / 0"))
    assert place.run("-X").returncode == 1
    assert place.in_cache() == place.objects


# --- what changes, and what is damaged ------------------------------------------------------------


def test_a_changed_object_is_fetched_again(place: Place) -> None:
    place.put(8)
    place.call()
    changed, kept = sorted(place.objects)[3], dict(place.objects)
    place.objects[changed] = gzip.compress(b"k1\tother\n")
    place.bucket.put({changed: place.objects[changed]})
    place.requests()
    done = place.run()
    assert place.fetched() == {changed: 1}
    assert f"note: {changed} has changed in the store: fetched again" in done.stderr
    assert place.output.read_bytes() == place.expected()
    assert place.in_cache() == place.objects != kept


def test_an_object_that_changes_after_it_was_listed_fails_the_job(place: Place) -> None:
    place.put(8)
    place.output.write_text("as it was")
    changed = sorted(place.objects)[3]

    def change(prefixes: int, files: int) -> None:
        if files == 8:
            place.bucket.put({changed: gzip.compress(b"k1\tother\n")})

    with pytest.raises(JobError, match=f"{re.escape(changed)} changed after it was listed"):
        place.call(on_listing=change)
    assert place.output.read_text() == "as it was"
    assert changed not in place.in_cache()


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def edit(path: Path) -> None:
    size = path.stat().st_size
    path.write_bytes(gzip.compress(b"k1\tmine\n").ljust(size, b"\0")[:size])


def link(path: Path) -> None:
    outside = path.parents[6] / "outside"
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut, edit, link, Path.unlink])
def test_what_is_not_as_it_was_fetched_is_not_used(
    place: Place, damage: Callable[[Path], None]
) -> None:
    place.put(8)
    expected = place.expected()
    place.call()
    damaged = sorted(place.objects)[3]
    damage(place.cache / damaged)
    place.requests()
    with pytest.raises(InputError, match=rf"1 of 8 files .*{re.escape(damaged)}"):
        place.call(local_only=True)
    assert place.requests() == []
    result = place.call()
    assert place.fetched().keys() - {""} == {damaged}
    assert place.output.read_bytes() == expected
    assert place.in_cache() == place.objects
    assert not (place.cache / damaged).is_symlink()
    if damage is not Path.unlink:
        assert result.notes == (f"{damaged} was modified in the cache: fetched again",)
    if damage is link:
        assert (place.folder / "outside").read_bytes() == place.objects[damaged]


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_a_damaged_copy_is_no_corrupt_file(place: Place, skip: bool) -> None:
    """Such as a disk makes of it, which tells by neither size nor time."""
    place.put(8)
    expected = place.expected()
    place.call()
    damaged = place.cache / sorted(place.objects)[3]
    before = damaged.stat()
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 255
    damaged.write_bytes(data)
    os.utime(damaged, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = place.call(skip_corrupt_files=skip)
    assert (result.corrupt, result.fetched) == ((), 1)
    assert "was modified in the cache" in result.notes[0]
    assert place.output.read_bytes() == expected
    place.check_nothing_left()


@pytest.mark.slow
def test_a_cache_as_data_dir_tells_what_was_altered(place: Place) -> None:
    place.put(8)
    place.call()
    altered = sorted(place.objects)[3]
    (place.cache / altered).write_bytes(gzip.compress(b"k1\tmine\n"))
    done = daskmr("run", "job.py", "-d", "work/cache", "-o", "other", cwd=place.folder)
    assert done.returncode == 0
    assert f"modified after they were fetched from s3://{place.bucket.name}" in done.stderr
    assert altered in done.stderr


@pytest.mark.parametrize("options", [{"bucket": None}, {"data_dir": None}, {}])
def test_a_damaged_manifest_is_no_missing_one(place: Place, options: dict[str, Any]) -> None:
    place.put(4)
    place.call()
    for end in ("-wal", "-shm"):
        Path(f"{place.cache}.sqlite{end}").unlink(missing_ok=True)
    Path(f"{place.cache}.sqlite").write_bytes(b"garbage" * 1000)
    with pytest.raises(InputError, match=r"manifest of the cache, .*, is damaged"):
        place.call(local_only=True, **{"data_dir": place.cache, **options})


def test_a_link_to_a_directory_is_not_followed(place: Place) -> None:
    place.put(8)
    expected = place.expected()
    outside = place.folder / "outside"
    outside.mkdir()
    place.cache.mkdir(parents=True)
    (place.cache / "idle_daily").symlink_to(outside)
    result = place.call()
    assert place.output.read_bytes() == expected
    assert list(outside.iterdir()) == []
    assert "no place in the cache" in result.notes[0]
    assert result.fetched == 8


@pytest.mark.slow
def test_hostile_keys(place: Place) -> None:
    place.put(4)
    good = sorted(place.objects)[0]
    folder, _, name = good.rpartition("/")
    body = gzip.compress(b"hostile\tkey\n")
    odd = f"{folder}/20131029030201.20131101.\u00e9 \\x 'q' \u202e.log.gz"
    hostile = [
        f"saved_session/Firefox/nightly/../{name}",
        f"../../../../../../tmp/{name}",
        f"/{good}",
        f"{folder}//{name}",
        f"{folder}/./{name}",
        f"{folder}/20131029030201.20131101.a\nb.log.gz",
        f"{folder}/20131029030201.20131101.{'x' * 250}.log.gz",
        f"{folder}/20131029030201.20131101.log.gz/",
        "/".join(["x" * 200] * 5)[:1024],
    ]
    place.bucket.put(dict.fromkeys(hostile, body))
    place.bucket.put({odd: place.objects[good], f"{folder}/": b""})
    place.objects[odd] = place.objects[good]
    expected = place.expected()
    place.requests()
    done = place.run()
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.fetched() == Counter([*place.objects])
    assert place.in_cache() == place.objects
    skipped = re.search(r"not in the layout, skipped: (\d+)", done.stderr)
    assert skipped is not None
    assert int(skipped[1]) >= 7
    assert "a newline in its name" in done.stderr
    assert "while file systems allow 255" in done.stderr
    assert 'an empty name between two "/"' in done.stderr
    assert not any(ord(c) < 32 and c != "\n" for c in done.stderr)
    assert {path.name for path in place.folder.iterdir()} == {
        *("job.py", "out", "out.meta.json", "work", "expected"),
    }
    place.check_nothing_left()


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_seventh_request_fails(place: Place, proxy: FaultProxy) -> None:
    place.put(200)
    expected = place.expected()
    proxy.inject(*FAULTS, every=7)
    done = place.run(env={"DASK_DASKMR__READ_TIMEOUT": "1 s"}, timeout=180)
    injected = dict(proxy.injected)
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert injected.keys() == set(FAULTS)
    assert sum(injected.values()) >= len(proxy.requests) // 7 > 30
    place.check_nothing_left()
    proxy.clear()
    assert place.run().returncode == 0
    assert proxy.requests
    assert not any(map(of_object, proxy.requests))
    print(f"{sum(injected.values())} faults: {injected}")


def one_object(key: str) -> Callable[[Request], bool]:
    return lambda request: request.key == key


@pytest.mark.slow
def test_what_the_store_lists_twice_counts_once(place: Place, proxy: FaultProxy) -> None:
    place.put(40)
    expected = place.expected()
    proxy.inject("twice")
    result = place.call()
    assert place.output.read_bytes() == expected
    assert (result.files, result.records) == (40, 800)
    (note,) = result.notes
    assert note.startswith(f"s3://{place.bucket.name} listed some keys or prefixes more than once")
    proxy.clear()
    again = place.call(local_only=True)
    assert place.output.read_bytes() == expected
    assert (again.files, again.notes) == (40, ())


@pytest.mark.slow
def test_what_cannot_be_fetched_fails_the_job(place: Place, proxy: FaultProxy) -> None:
    place.put(12)
    expected = place.expected()
    place.output.write_text("as it was")
    broken = sorted(place.objects)[7]
    proxy.inject("503 SlowDown", match=one_object(broken))
    done = place.run("-q", env={"DASK_DASKMR__FETCH_RETRIES": "2"})
    assert done.returncode == 1
    assert f"{broken} cannot be fetched: the store answered SlowDown" in done.stderr
    assert "after 3 tries" in done.stderr
    assert done.stderr.count("\n") == 1
    assert proxy.injected == {"503 SlowDown": 3}
    assert place.output.read_text() == "as it was"
    assert broken not in place.in_cache()
    place.check_nothing_left()
    kept = place.in_cache()
    proxy.clear()
    assert place.run().returncode == 0
    assert {r.key for r in proxy.requests if r.key} == place.objects.keys() - kept.keys()
    assert place.output.read_bytes() == expected


def test_skip_missing_leaves_out_and_names(place: Place, proxy: FaultProxy) -> None:
    place.put(12)
    gone, refused = sorted(place.objects)[3], sorted(place.objects)[8]
    proxy.inject("404 NoSuchKey", match=one_object(gone))
    proxy.inject("403 AccessDenied", match=one_object(refused))
    done = place.run("--skip-missing")
    assert done.returncode == 0, done.stderr
    assert "could not be fetched, skipped: 2 objects" in done.stderr
    assert f"{gone} no longer exists" in done.stderr
    assert f"{refused} was denied" in done.stderr
    del place.objects[gone], place.objects[refused]
    assert "in 10 files" in done.stderr
    assert place.output.read_bytes() == place.expected()
    assert place.in_cache() == place.objects


@pytest.mark.parametrize("skip", ["corrupt", "nothing"])
def test_damage_of_a_large_object_without_a_cache_is_no_corrupt_file(
    place: Place, proxy: FaultProxy, skip: str
) -> None:
    large = f"{sorted(make_objects(1))[0]}"
    data = os.urandom(9 << 20)  # stored as it is: a flipped bit shows to gzip too
    place.bucket.put({large: gzip.compress(b"k\t" + data.hex().encode() + b"\n", 1)})
    proxy.inject("flip", match=of_object)
    with pytest.raises(JobError, match="was damaged in transfer, according to its checksum"):
        place.call(cache=False, prefetch_bytes=1, skip_corrupt_files=skip == "corrupt")
    assert proxy.injected["flip"] > 0
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        (["-b", "no-such-bucket"], {}, "There is no bucket no-such-bucket"),
        (["-b", "not a bucket"], {}, "does not begin with a bucket"),
        (["-b", "s3://KEY:SECRET@bucket"], {}, "holds credentials"),
        (["--endpoint-url", "http://127.0.0.1:9"], {}, "http://127.0.0.1:9 cannot be reached"),
        (["--aws-profile", "nobody"], {}, "nobody"),
        (
            [],
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "there are no usable credentials",
        ),
        (["-k", "KEY"], {}, "--aws-key and --aws-secret-key must be used together"),
        (["-l"], {}, "Nothing was ever fetched from"),
        (["-l", "--no-cache"], {}, "use only one of them"),
        (["-l", "-o", "s3://bucket/key"], {}, "does not use the network"),
        (["-o", "s3://no-such-bucket/key"], {}, "There is no bucket no-such-bucket"),
        (["-o", "s3://no-such-bucket/"], {}, "There is no bucket no-such-bucket"),
    ],
)
def test_mistakes_are_told_before_any_work(
    place: Place, options: list[str], environment: dict[str, str], said: str
) -> None:
    place.put(1)
    done = place.run("--inline", *options, env=environment, timeout=30)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.startswith("daskmr: ")
    assert done.stderr.count("\n") == 1
    assert not any(of_object(request) for request in place.requests())
    assert not place.work.exists()  # nor is the cache claimed for a name that was mistyped
    assert not place.output.exists()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("403 InvalidAccessKeyId", "does not accept the credentials"),
        ("403 AccessDenied", "Access to s3://"),
        ("301 PermanentRedirect", "Give --region eu-west-1"),
        ("disconnect", "the connection broke .* after 4 tries. Check the network"),
    ],
)
def test_refusals_are_told_before_any_work(
    place: Place, proxy: FaultProxy, answer: str, said: str
) -> None:
    place.put(1)
    proxy.inject(answer)
    with pytest.raises(InputError, match=said):
        place.call()
    assert not place.work.exists()


@pytest.mark.slow
def test_a_prefix_in_another_normal_form_is_named(place: Place) -> None:
    there, given = "cafe\u0301", "caf\xe9"
    place.put(1)
    place.bucket.put({f"in/{there}/{key}": data for key, data in place.objects.items()})
    with pytest.raises(
        InputError, match=f"there is s3://{place.bucket.name}/in/{there}, which dif"
    ):
        place.call(bucket=f"{place.bucket.name}/in/{given}", output=None)
    result = place.call(bucket=f"{place.bucket.name}/in/{there}", output=None)
    assert result.files == 1
    with pytest.raises(InputError, match="holds no file"):
        place.call(bucket=f"{place.bucket.name}/in/caf\xe8", output=None)


def test_too_little_disk_is_told_before_the_first_byte(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.put(6)
    size = sum(map(len, place.objects.values()))
    usage = SimpleNamespace(total=10**12, used=0, free=size - 1)
    with monkeypatch.context() as patch:
        patch.setattr("daskmr.data.cache.cache.shutil.disk_usage", lambda path: usage)
        with pytest.raises(InputError) as caught:
            place.call()
    assert f"take {size:,} bytes" in str(caught.value)
    assert f"only {size - 1:,} bytes are free" in str(caught.value)
    with pytest.raises(InputError) as caught:
        place.call(cache_max=size - 1)
    assert f"take {size:,} bytes" in str(caught.value)
    assert f"the {size - 1:,} bytes that --cache-max allows" in str(caught.value)
    assert not place.fetched()
    assert place.call(cache_max=size).fetched == 6


# --- local only -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_local_only_is_honest(place: Place) -> None:
    place.put(20)
    place.write_filter(channel=["nightly"], day={"min": "20131103"})
    assert place.run("-f", "filter.json").returncode == 0
    narrow = place.output.read_bytes()
    place.requests()
    assert place.run("-f", "filter.json", "-l").returncode == 0
    assert place.output.read_bytes() == narrow

    place.write_filter(channel=["nightly", "beta"], day={"min": "20131103"})
    done = place.run("-f", "filter.json", "-l")
    assert done.returncode == 2
    assert "channel beta was never listed" in done.stderr
    assert place.output.read_bytes() == narrow

    # The days of a directory come in one listing: known, though never fetched.
    place.write_filter(channel=["nightly"])
    done = place.run("-f", "filter.json", "-l")
    assert done.returncode == 2
    assert "are not in the cache" in done.stderr

    place.write_filter(channel=["nightly", "beta"])
    done = place.run("-f", "filter.json", "-l", "--allow-incomplete")
    assert done.returncode == 0
    assert place.output.read_bytes() == narrow
    assert "note: channel beta was never listed" in done.stderr
    assert re.search(r"note: \d of 10 files .* are not in the cache", done.stderr)
    assert place.requests() == []


def test_local_only_names_a_range_that_was_never_listed(place: Place) -> None:
    # A layout in which the day is a directory, as the range of it is walked by names.
    schema = '{"version": 1, "dimensions": [{"field_name": "day"}, {"field_name": "a"}, {"field_name": "b"}]}'
    (place.folder / "schema.json").write_text(schema)
    place.objects = {
        f"{day}/a.b.{day}.gz": gzip.compress(b"k\tv\n") for day in range(20140227, 20140231)
    }
    place.bucket.put(place.objects)
    place.write_script(JOB.replace("dims[5]", "dims[0]"))
    (place.folder / "filter.json").write_text(
        '{"dimensions": [{"field_name": "day", "allowed_values": {"min": "20140229"}}]}'
    )
    options = {"schema": str(place.folder / "schema.json"), "allow_incomplete": None}
    input_filter = place.folder / "filter.json"
    assert place.call(input_filter=input_filter, **options).files == 2
    input_filter.write_text(
        '{"dimensions": [{"field_name": "day", "allowed_values": {"min": "20140101"}}]}'
    )
    with pytest.raises(InputError, match="day below 20140229 was never listed"):
        place.call(input_filter=input_filter, local_only=True, **options)
    options["allow_incomplete"] = True
    result = place.call(input_filter=input_filter, local_only=True, **options)
    assert (result.files, result.notes) == (2, ("day below 20140229 was never listed",))


# Writes down where every process connects to, and what it looks up.
SPY = """
import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        with open({log!r}, "a") as file:
            file.write(f"{{os.getpid()}} {{event}} {{place!r}}\\n")

sys.addaudithook(note)
"""


@pytest.mark.slow
@pytest.mark.parametrize("data_dir", [False, True])
def test_local_only_connects_to_this_machine_only(place: Place, data_dir: bool) -> None:
    place.put(8)
    place.call()
    expected = place.output.read_bytes()
    spy, log = place.folder / "spy", place.folder / "log"
    spy.mkdir()
    (spy / "sitecustomize.py").write_text(SPY.format(log=str(log)))
    path = os.pathsep.join(filter(None, [str(spy), os.environ.get("PYTHONPATH")]))
    place.requests()
    options = ["-d", "work/cache"] if data_dir else []
    done = place.run("-l", *options, env={"PYTHONPATH": path})
    assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
    assert place.requests() == []
    lines = log.read_text().splitlines()
    assert len({line.split()[0] for line in lines}) > 1  # workers are seen too
    strange = [line for line in lines if not re.search(r"'127\.0\.0\.1'|'/|b'", line)]
    assert strange == []


# --- output to a store ----------------------------------------------------------------------------


def test_output_is_one_object_of_a_job_that_succeeds(place: Place) -> None:
    place.put(8)
    expected = place.expected()
    target = f"s3://{place.bucket.name}/results/counts.txt.gz"
    done = place.run("-o", target)
    assert done.returncode == 0, done.stderr
    written = place.bucket.objects()
    assert gzip.decompress(written.pop("results/counts.txt.gz")) == expected
    told = json.loads(written.pop("results/counts.txt.gz.meta.json"))
    assert told["output"]["path"] == target
    assert {
        file["path"]: file["etag"] for file in told["input"]["list"]
    }.keys() == place.objects.keys()
    assert written == place.objects
    assert [r.key for r in place.requests() if r.method in ("PUT", "POST")] == [
        "results/counts.txt.gz",
        "results/counts.txt.gz.meta.json",
    ]
    assert f"to {target}" in done.stderr

    place.write_script(FAILING)
    assert place.run("-o", f"s3://{place.bucket.name}/results/failed").returncode == 1
    assert not any(request.method in ("PUT", "POST") for request in place.requests())
    assert place.bucket.server.uploads(place.bucket.name) == 0


def test_an_output_that_cannot_be_uploaded_fails_the_job(place: Place, proxy: FaultProxy) -> None:
    place.put(2)
    proxy.inject("500 InternalError", match=lambda request: request.method == "PUT")
    with pytest.raises(JobError, match=r"results/x cannot be written: .*after 2 tries"):
        place.call(output=f"s3://{place.bucket.name}/results/x", fetch_retries=1)
    assert proxy.injected == {"500 InternalError": 2}
    assert place.bucket.objects() == place.objects
    place.check_nothing_left()


def test_an_output_that_would_replace_an_input_object(place: Place) -> None:
    place.put(2)
    folder, _, name = sorted(place.objects)[1].rpartition("/")
    with pytest.raises(InputError, match="would replace one of the input files"):
        place.call(output=f"s3://{place.bucket.name}/{folder}/{name}")
    assert place.bucket.objects() == place.objects


# --- credentials ----------------------------------------------------------------------------------

GIVEN = ("GIVENKEYID0123456789", "GIVEN/secret+of+the+options/9876543210")
LOGGING = """
import logging
logging.basicConfig(level=logging.DEBUG, force=True)
"""


def shown_by(process: psutil.Process) -> str:
    """What all users of a machine, or its own user, can see of a process."""
    with suppress(psutil.Error, OSError):
        proc = Path(f"/proc/{process.pid}")
        return (proc / "environ").read_text() + "\0" + (proc / "cmdline").read_text()
    return ""


@pytest.mark.parametrize("way", ["options", pytest.param("environment", marks=pytest.mark.slow)])
def test_secrets_show_nowhere(place: Place, way: str) -> None:
    place.put(6)
    place.write_script(
        LOGGING + WAITING.format(folder=str(place.folder)) + "    raise RuntimeError(key)\n"
    )
    options = ["-k", GIVEN[0], "-s", GIVEN[1]] if way == "options" else []
    secrets = [CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_SESSION_TOKEN"], GIVEN[1]]
    with place.start("--verbose", *options, stdout=subprocess.PIPE) as process:
        wait_for((place.folder / "waiting").exists, "the job")
        children = psutil.Process(process.pid).children(recursive=True)
        shown = {child.pid: shown_by(child) for child in children}
        (place.folder / "go").touch()
        printed, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "RuntimeError" in said
    assert "DEBUG" in said  # else there was nothing to keep quiet about
    kept = [path.read_bytes() for path in place.folder.rglob("*") if path.is_file()]
    for secret in secrets:
        assert secret not in printed + said
        assert not any(secret.encode() in content for content in kept)
        assert [pid for pid, text in shown.items() if secret in text] == []
    assert sum("forkserver" in text for text in shown.values()) > 1
    assert sum("resource_tracker" in text for text in shown.values()) == 1

    requests = place.requests()
    key = GIVEN[0] if way == "options" else CREDENTIALS["AWS_ACCESS_KEY_ID"]
    assert any(map(of_object, requests))  # so workers have it too
    for request in requests:
        assert f"Credential={key}/" in request.headers["authorization"]
        assert ("x-amz-security-token" in request.headers) == (way == "environment")


@pytest.mark.slow
def test_credentials_are_those_of_now(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither an earlier job's nor an earlier environment's, also where workers are forked."""
    place.put(6)
    code = """
import os, daskmr
if __name__ == "__main__":
    def run(**options):
        list(daskmr.mapreduce("job.py", bucket={bucket!r}, work_dir="work", cache=False, **options))
    run(num_mappers=1)
    run(num_mappers=1, aws_key={key!r}, aws_secret_key={secret!r})
    run(inline=True, aws_key={key!r}, aws_secret_key={secret!r})
    os.environ.update(AWS_ACCESS_KEY_ID="ANOTHERKEY", AWS_SECRET_ACCESS_KEY="another-secret")
    del os.environ["AWS_SESSION_TOKEN"]
    run(inline=True)
    run(num_mappers=1)
"""
    text = code.format(bucket=place.bucket.name, key=GIVEN[0], secret=GIVEN[1])
    (place.folder / "main.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    used = [
        (
            re.search(r"Credential=(\w+)/", request.headers["authorization"])[1],
            "x-amz-security-token" in request.headers,
        )
        for request in place.requests()
        if request.key
    ]
    mine, another = (CREDENTIALS["AWS_ACCESS_KEY_ID"], True), ("ANOTHERKEY", False)
    given = (GIVEN[0], False)
    assert used == [*[mine] * 6, *[given] * 12, *[another] * 12]


def test_no_secret_is_in_the_graph(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.put(4)
    graphs = []
    compute = Session.compute

    def keep(session: Session, bag: Any) -> Any:
        graphs.append(cloudpickle.dumps(bag))
        return compute(session, bag)

    monkeypatch.setattr(Session, "compute", keep)
    result = place.call(aws_key=GIVEN[0], aws_secret_key=GIVEN[1])
    assert result.files == 4
    (graph,) = graphs
    assert place.bucket.name.encode() in graph
    for secret in (*GIVEN, *CREDENTIALS.values()):
        assert secret.encode() not in graph
        assert secret not in repr(result)
    assert {name: os.environ[name] for name in CREDENTIALS} == CREDENTIALS


def test_credentials_as_options_do_not_go_to_a_running_cluster(place: Place) -> None:
    client = SimpleNamespace(scheduler_info=dict)
    with pytest.raises(InputError, match="cannot be sent to the workers of a cluster"):
        place.call(client=client, inline=False, aws_key=GIVEN[0], aws_secret_key=GIVEN[1])
    assert place.requests() == []


# --- interruptions, and processes that die --------------------------------------------------------


@contextmanager
def slow_server(place: Place, seconds: float) -> Iterator[None]:
    place.bucket.server.delay(seconds)
    try:
        yield
    finally:
        place.bucket.server.delay(0)


def listing(request: Request) -> bool:
    return request.is_listing and bool(request.query.get("prefix"))


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["listing", "fetching"])
@pytest.mark.parametrize("inline", [True, False])
def test_an_interruption(place: Place, proxy: FaultProxy, phase: str, inline: bool) -> None:
    place.put(12)
    place.output.write_text("as it was")
    is_phase = listing if phase == "listing" else of_object
    proxy.inject("stall", match=is_phase)
    with place.start("-q", *["--inline"] * inline) as process:
        wait_for(lambda: any(map(is_phase, list(proxy.requests))), phase)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "daskmr: Interrupted; nothing was written.\n")
    assert place.output.read_text() == "as it was"
    place.check_nothing_left()


def test_stores_are_closed_after_a_job_in_this_process(place: Place) -> None:
    place.put(4)
    before = set(threading.enumerate())
    sockets = len(psutil.Process().net_connections())
    place.call()
    assert set(threading.enumerate()) <= before
    assert len(psutil.Process().net_connections()) <= sockets


@pytest.mark.slow
def test_a_fork_after_a_job(place: Place) -> None:
    place.put(4)
    code = f"""
import os, daskmr
def run(name):
    daskmr.mapreduce("job.py", bucket={place.bucket.name!r}, work_dir=name, output=name + ".txt", inline=True)
run("before")
pid = os.fork()
run("child" if pid == 0 else "parent")
if pid:
    assert os.waitpid(pid, 0)[1] == 0
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outputs = [(place.folder / f"{n}.txt").read_bytes() for n in ("before", "child", "parent")]
    assert outputs == [place.expected()] * 3


# On a busy machine, the smallest job takes longer than a terminal waits before it shows anything.
UNHURRIED = """
import daskmr.__main__
from daskmr import stdio
from daskmr.diagnostics import log, terminal
log._FIRST_SECONDS = stdio._TICK = 600.0
terminal.Display.__init__.__defaults__ = (600.0,)
daskmr.__main__.main()
"""


def test_a_small_job_at_a_terminal_shows_its_summary_alone(place: Place) -> None:
    place.put(4)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", UNHURRIED, *place.arguments("--inline")]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=place.folder, env=environment, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the end of a terminal
            while piece := os.read(ours, 4096):
                shown += piece
    os.close(ours)
    assert process.returncode == 0
    assert shown.startswith(b"read     80 records")


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes, which the server of workers has forked."""
    with suppress(psutil.Error):
        for child in psutil.Process(process.pid).children():
            if "forkserver" in " ".join(child.cmdline()):
                return child.children()
    return []


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["client", "worker"])
def test_kill_at_any_moment(
    place: Place, victim: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place.put(100, 300_000)
    expected = place.expected()
    scratch = tmp_path_factory.mktemp("scratch")
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with slow_server(place, 0.005):
        started = time.monotonic()
        assert place.run().returncode == 0
        usual = time.monotonic() - started
    moments = random.Random(f"{SEED} {victim}")
    killed = unfinished = 0
    for _ in range(MOMENTS):
        shutil.rmtree(place.work)
        place.output.unlink(missing_ok=True)
        with slow_server(place, 0.005), place.start(env=environment) as process:
            time.sleep(moments.uniform(0.1, usual))
            target: Any = process
            if victim == "worker" and (workers := workers_of(process)):
                target = moments.choice(workers)
            hit = False
            with suppress(psutil.NoSuchProcess):
                hit = target is not process and target.status() != psutil.STATUS_ZOMBIE
                target.kill()
            _, said = process.communicate(timeout=60)
        killed += hit or process.returncode == -signal.SIGKILL
        unfinished += any(place.work.glob("cache-partial/*"))
        if process.returncode == 0:
            assert place.output.read_bytes() == expected
        else:
            assert process.returncode == -signal.SIGKILL, said
            assert not place.output.exists() or place.output.read_bytes() == expected
        done = place.run(env={"TMPDIR": str(scratch)})
        assert (done.returncode, place.output.read_bytes()) == (0, expected), done.stderr
        assert place.in_cache() == place.objects
        place.check_nothing_left()
        assert not list(scratch.iterdir())
    print(f"{killed} of {MOMENTS} killed, {unfinished} of them while they fetched")
    assert killed > MOMENTS // 2
    assert unfinished > 0 or victim == "worker"  # which the client clears up after
