"""The contract of output directories: sorted parts, which together are the single file."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import pyarrow.dataset
import pytest
from pyarrow import parquet
from support.jobs import daskmr, write_tree

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.data import parts
from daskmr.data.output_directory import slices
from daskmr.data.segments import Extent
from daskmr.run.outputs import writing
from daskmr.run.provenance import read_meta
from daskmr.tasks import reduce as reducing

KEYS = [
    *(None, True, 2.5, float("nan"), b"bytes", "1", ("x", 1), ("x",), ()),
    *(-3, 1 << 70, "\u00e9" * 300, "\u00e9" * 300 + "b", "\u00e9" * 299),
]


def emit(key, dims, value, context):
    context.write(key, int(value))


def summed(key, values, context):
    context.write(key, sum(values))


def mixed(key, dims, value, context):
    context.write((KEYS[int(value) % len(KEYS)], *[key] * (int(value) % 3)), 1)
    context.write(KEYS[int(value) % len(KEYS)], 1)


def hot(key, values, context):
    """Write many lines for one key, and one for each of the others."""
    for number in range(300 if key == "k050" else 1):
        context.write(key, number)


def header(context):
    context.writeline("the header")


def identity(key, dims, value, context):
    context.write(key, value)


def nothing(key, dims, value, context):
    pass


JOBS = {
    "sums": Job(emit, reduce=summed),
    "header": Job(emit, reduce=summed, setup_reduce=header),
    "mixed": Job(mixed, reduce=summed),
    "hot": Job(emit, reduce=hot),
    "map-only": Job(identity),
    "map-only with header": Job(identity, setup_reduce=header),
    "nothing": Job(nothing, reduce=summed),
    "no lines": Job(nothing),
}


@pytest.fixture
def small(monkeypatch):
    """Make parts of a few lines."""
    monkeypatch.setattr(slices, "_FILE_BYTES", 200)
    monkeypatch.setattr(parts, "_INDEXED_BYTES", 100)
    monkeypatch.setattr(reducing, "_BLOCK_BYTES", 300)
    monkeypatch.setattr("daskmr.tasks.map_output._BATCH", 8)


@pytest.fixture
def run(tmp_path):
    """Run a job, and return its result."""
    lines = [[f"k{n:03}\t{n}" for n in range(start, 100, 3)] for start in range(3)]
    data = write_tree(tmp_path / "data", lines)

    def run(job, output, **options):
        options = {"inline": True, "work_dir": tmp_path / "work", "data_dir": data} | options
        output = output if "://" in output else f"{tmp_path}/{output}"
        return mapreduce(job, output=output, **options)

    return run


def files_of(folder):
    return sorted(path for path in folder.iterdir() if path.name.startswith("part-"))


def content(folder):
    """Concatenate the parts, as `cat out/part-*` does."""
    return b"".join(path.read_bytes() for path in files_of(folder))


def names(folder):
    return sorted(os.listdir(folder))


# --- the parts ----------------------------------------------------------------------------------


CASES = [
    *((job, "txt") for job in JOBS),
    *((job, suffix) for job in ("sums", "map-only", "nothing") for suffix in ("jsonl", "csv")),
    ("header", "csv"),
    ("no lines", "tsv"),
]


@pytest.mark.parametrize(("job", "suffix"), CASES)
@pytest.mark.usefixtures("small")
def test_the_parts_are_the_single_file(run, tmp_path, job, suffix):
    for spill_bytes in ("1 kB", "256 MB"):
        options = {"num_reducers": 3, "spill_bytes": spill_bytes}
        run(JOBS[job], f"out.{suffix}", **options)
        form = None if suffix == "txt" else suffix
        result = run(JOBS[job], f"out.{suffix}.d/", output_format=form, **options)
        folder = tmp_path / f"out.{suffix}.d"
        assert content(folder) == (tmp_path / f"out.{suffix}").read_bytes()
        found = files_of(folder)
        assert [path.name for path in found] == [
            f"part-{number:05}.{suffix}" for number in range(len(found))
        ]
        assert len(found) > 2 or job.startswith("no")
        assert result.output_parts == len(found)
        assert result.output_bytes == len(content(folder))
        assert names(folder)[:2] == ["_SUCCESS", "_meta.json"]
        assert len(names(folder)) == len(found) + 2
    assert names(tmp_path) == [
        "data",
        f"out.{suffix}",
        f"out.{suffix}.d",
        f"out.{suffix}.meta.json",
    ]


@pytest.mark.usefixtures("small")
def test_parts_are_of_similar_size(run, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "_INDEXED_BYTES", 10)
    monkeypatch.setattr(reducing, "_BLOCK_BYTES", 10)
    run(JOBS["sums"], "out/")
    sizes = [path.stat().st_size for path in files_of(tmp_path / "out")]
    assert max(sizes[:-1]) < 3 * min(sizes[:-1])


@pytest.mark.usefixtures("small")
def test_parts_of_parquet_have_the_one_schema(run, tmp_path):
    def write(key, values, context):
        number = sum(values)
        context.write(
            key,
            {
                "n": number if number < 90 else number + 0.5,
                **({"late": "x"} if number > 95 else {}),
            },
        )

    job = Job(emit, reduce=write)
    run(job, "out.parquet")
    result = run(job, "out.parquet/".replace("out", "parts"))
    found = files_of(tmp_path / "parts.parquet")
    assert len(found) == result.output_parts > 3
    whole = parquet.read_table(tmp_path / "out.parquet")
    assert {parquet.read_schema(path) for path in found} == {whole.schema}
    assert pyarrow.dataset.dataset(tmp_path / "parts.parquet").to_table() == whole


def test_an_empty_output_is_one_empty_part(run, tmp_path):
    run(JOBS["nothing"], "out/")
    assert names(tmp_path / "out") == ["_SUCCESS", "_meta.json", "part-00000.txt"]
    assert content(tmp_path / "out") == b""
    run(JOBS["nothing"], "out.parquet/")
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 0


def test_without_any_input(run, tmp_path):
    options = {"where": ["reason=none"], "allow_empty": True}
    run(JOBS["header"], "out/", **options)
    assert content(tmp_path / "out") == b"the header\n"


@pytest.mark.usefixtures("small")
def test_a_compression_in_the_name_compresses_each_part(run, tmp_path):
    run(JOBS["sums"], "out.csv")
    run(JOBS["sums"], "out.csv.gz/")
    found = files_of(tmp_path / "out.csv.gz")
    assert {path.name[10:] for path in found} == {".csv.gz"}
    assert gzip.decompress(content(tmp_path / "out.csv.gz")) == (tmp_path / "out.csv").read_bytes()
    assert (
        b"".join(gzip.decompress(path.read_bytes()) for path in found)
        == (tmp_path / "out.csv").read_bytes()
    )


@pytest.mark.parametrize("job", ["sums", "map-only"])
def test_only_an_index_comes_to_the_client(run, monkeypatch, job):
    seen = []
    write_directory = writing.write_directory

    def look(outcome, *rest):
        seen.extend(outcome.parts)
        return write_directory(outcome, *rest)

    monkeypatch.setattr("daskmr.run.pipeline.write_directory", look)
    result = run(JOBS[job], "out/")
    assert sum(part.lines for part in seen) == 100
    assert all(isinstance(part.frames, Extent) or part.frames == () for part in seen)
    with pytest.raises(TypeError, match=r"wrote its result to .*out/"):
        list(result)


@pytest.mark.parametrize("job", [pytest.param("sums", marks=pytest.mark.slow), "map-only"])
def test_workers_write_several_parts(tmp_path, monkeypatch, job):
    """Large enough for several entries of the index in each bucket."""
    monkeypatch.setattr(slices, "_FILE_BYTES", 1 << 20)
    random_ = random.Random(1)
    lines = [
        [f"{n:05}{'x' * 100}\t{random_.randrange(9)}" for n in range(s, 40_000, 2)] for s in (0, 1)
    ]
    data = write_tree(tmp_path / "data", lines)
    for output in ("out.txt", "out/"):
        mapreduce(
            JOBS[job],
            data_dir=data,
            output=f"{tmp_path}/{output}",
            work_dir=tmp_path / "work",
            num_mappers=2,
            num_reducers=2,
        )
    assert len(files_of(tmp_path / "out")) > 2
    assert content(tmp_path / "out") == (tmp_path / "out.txt").read_bytes()
    assert names(tmp_path) == ["data", "out", "out.txt", "out.txt.meta.json"]


# --- the directory ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_an_earlier_directory_is_replaced_as_a_whole(run, tmp_path):
    run(JOBS["sums"], "out/")
    run(Job(emit), "out/", limit_files=1, meta=False)
    assert len(files_of(tmp_path / "out")) < 10
    run(Job(nothing), "out/", meta=False)
    assert names(tmp_path / "out") == ["_SUCCESS", "part-00000.txt"]


def test_readers_see_one_or_the_other(run, tmp_path):
    run(JOBS["sums"], "out/")
    before = os.stat(tmp_path / "out").st_ino
    seen = []

    def reduce(key, values, context):
        seen.append(os.stat(tmp_path / "out").st_ino)
        context.write(key, len(values))

    run(Job(emit, reduce=reduce), "out/")
    assert set(seen) == {before} != {os.stat(tmp_path / "out").st_ino}


@pytest.mark.parametrize("exchanges", [True, False])
def test_where_directories_cannot_be_swapped(run, tmp_path, monkeypatch, exchanges):
    if not exchanges:
        monkeypatch.setattr("daskmr.data.output_directory.local._exchange", lambda *_: False)
    run(JOBS["sums"], "out/")
    run(JOBS["nothing"], "out/")
    assert content(tmp_path / "out") == b""
    assert names(tmp_path) == ["data", "out"]


def test_a_link_is_followed(run, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    run(JOBS["sums"], "out/")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "there" / "_SUCCESS").exists()


def test_what_protects_the_earlier_directory_protects_the_new_one(run, tmp_path):
    run(JOBS["sums"], "out/")
    (tmp_path / "out").chmod(0o750)
    (tmp_path / "out" / "part-00000.txt").chmod(0o640)
    run(JOBS["sums"], "out/")
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "out" / "part-00000.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "out" / "_meta.json").stat().st_mode & 0o777 == 0o640


def no_work(key, dims, value, context):
    raise SystemError("map was called")


@pytest.mark.parametrize(
    ("there", "mistake"),
    [
        ("out/mine.txt", "holds mine.txt, which daskmr did not write"),
        ("out/.hidden", "holds .hidden, which"),
        ("out/part-00000.txt/inner", r"holds part-00000.txt/, which"),
        ("out/part-0", "holds part-0, which"),
        ("out", "is a file, not a directory"),
    ],
)
def test_what_daskmr_did_not_write_is_kept(run, tmp_path, there, mistake):
    (tmp_path / there).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(InputError, match=mistake):
        run(Job(no_work), "out/")
    assert (tmp_path / there).read_text() == "mine"
    assert names(tmp_path) == ["data", "out"]


def test_the_command_says_so(run, tmp_path):
    (tmp_path / "job.py").write_text("def map(key, dims, value, context): raise SystemError")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("")
    done = daskmr("run", "job.py", "-d", "data", "--inline", "-o", "out/", cwd=tmp_path)
    assert done.returncode == 2
    assert "Name a new directory, as out-result/." in done.stderr
    done = daskmr("plan", "job.py", "-d", "data", "-o", "out/", cwd=tmp_path)
    assert (
        "the run would reject the output: The output directory 'out/'" in done.stdout + done.stderr
    )


def test_other_outputs_that_cannot_be(run, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="missing' does not exist"):
        run(Job(no_work), "missing/out/")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(InputError, match="the current directory"):
        mapreduce(
            Job(no_work),
            data_dir=tmp_path / "data",
            output="./",
            inline=True,
            work_dir=tmp_path / "work",
        )
    with pytest.raises(InputError, match="cannot be written to '/proc'"):
        mapreduce(
            Job(no_work),
            data_dir=tmp_path / "data",
            output="/proc/out/",
            inline=True,
            work_dir=tmp_path / "work",
        )


def test_a_directory_that_is_the_input_is_kept(run, tmp_path):
    run(JOBS["sums"], "out/")
    before = content(tmp_path / "out")
    with pytest.raises(InputError, match="would replace one of the input files"):
        run(JOBS["sums"], "out/", data_dir=tmp_path / "out", layout="flat")
    assert content(tmp_path / "out") == before
    again = run(JOBS["sums"], "again/", data_dir=tmp_path / "out", layout="flat")
    assert again.files == 1, "only parts are input"
    assert content(tmp_path / "again") == before


def test_files_that_appear_during_the_run_are_kept(run, tmp_path):
    run(JOBS["sums"], "out/")
    before = content(tmp_path / "out")

    def reduce(key, values, context):
        (tmp_path / "out" / "mine").write_text("mine")

    with pytest.raises(JobError, match=r"holds mine.*Nothing was written"):
        run(Job(emit, reduce=reduce), "out/")
    assert content(tmp_path / "out") == before
    assert names(tmp_path) == ["data", "out"]


# --- failures -----------------------------------------------------------------------------------


def test_a_job_that_fails_leaves_the_earlier_directory(run, tmp_path):
    run(JOBS["sums"], "out/")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def reduce(key, values, context):
        raise SystemError

    def unlike(key, values, context):
        context.write(key, "text" if key == "k090" else 1)

    with pytest.raises(JobError, match="reduce failed"):
        run(Job(emit, reduce=reduce), "out/")
    with pytest.raises(JobError, match="mixed types"):
        run(Job(emit, reduce=unlike), "out/", output_format="parquet", num_reducers=5)
    data = write_tree(tmp_path / "bad", [["a\t1", "no tab"]])
    with pytest.raises(JobError, match="records are bad"):
        run(JOBS["sums"], "out/", max_bad_records="10%", data_dir=data)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert names(tmp_path) == ["bad", "data", "out"]


SCRIPT = """
def map(key, dims, value, context):
    context.write(key, value)

def reduce(key, values, context):
    context.write(key, values[0])
"""


@pytest.mark.parametrize("options", [["--inline"], ["-m2"]])
def test_a_disk_that_is_full_while_a_part_is_written(tmp_path, options):
    """A limit on the size of files stands for it."""
    lines = [f"{n:05}\t{'x' * 600}" for n in range(1500)]
    write_tree(tmp_path / "data", [lines])
    (tmp_path / "job.py").write_text(SCRIPT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.txt").write_text("old")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))"
    words = ["run", "job.py", "-d", "data", "-o", "out/", "-q"]
    program = f"{limit}; from daskmr.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words, *options],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("daskmr: Writing the output failed: File too large"), done.stderr
    assert names(tmp_path / "out") == ["part-00000.txt"]
    assert names(tmp_path) == ["data", "job.py", "out"]


SLOW = """
import time
from daskmr.tasks import write

def wait(piece, path, task):
    open(path + ".begun", "w").close()
    time.sleep(60)

write._write = wait
"""


@pytest.mark.parametrize("option", ["--inline", "-m1"])
def test_an_interruption_while_a_part_is_written(tmp_path, option):
    write_tree(tmp_path / "data", [["a\t1"]])
    (tmp_path / "job.py").write_text(SLOW + SCRIPT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.txt").write_text("old")
    command = [
        sys.executable,
        "-m",
        *["daskmr", "run", "job.py", "-d", "data", "-o", "out/", "-q"],
        option,
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/*.begun")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert (tmp_path / "out" / "part-00000.txt").read_text() == "old"
    assert names(tmp_path) == ["data", "job.py", "out"]


# --- what belongs to it -------------------------------------------------------------------------


def test_provenance_and_bad_records_are_inside(tmp_path):
    data = write_tree(tmp_path / "data", [["a\t1", "b\t2", "a\tfirst"]])
    script = tmp_path / "job.py"
    script.write_text(SCRIPT.replace("key, value)", "key, int(value))"))
    result = mapreduce(
        script, data_dir=data, output=f"{tmp_path}/out/", inline=True, work_dir=tmp_path / "work"
    )
    assert names(tmp_path / "out") == ["_SUCCESS", "_bad.jsonl", "_meta.json", "part-00000.txt"]
    assert result.meta_path == f"{tmp_path}/out/_meta.json"
    assert result.bad_records_path == f"{tmp_path}/out/_bad.jsonl"
    output = read_meta(result.meta_path)["output"]
    assert output["path"] == f"{tmp_path}/out/"
    (part,) = output["parts"]
    assert part["name"] == "part-00000.txt"
    assert part["bytes"] == output["bytes"] == 8
    assert len(part["sha256"]) == 64
    done = daskmr("replay", "out/_bad.jsonl", cwd=tmp_path)
    assert done.returncode == 1
    assert "still bad" in done.stdout
    done = daskmr("run", "--from", "out/_meta.json", "--inline", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"to {tmp_path}/out/ in 1 part, 8 B" in done.stderr
    good = write_tree(tmp_path / "good", [["a\t1"]])
    mapreduce(
        script, data_dir=good, output=f"{tmp_path}/out/", inline=True, work_dir=tmp_path / "work"
    )
    assert not (tmp_path / "out" / "_bad.jsonl").exists()


def test_a_profile_is_inside(run, tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    for _ in range(2):
        done = daskmr("run", "job.py", "-d", "data", "--inline", "-p", "-o", "out/", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == ["_SUCCESS", "_meta.json", "_pstats", "part-00000.txt"]


# --- in a store ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
def test_a_directory_in_a_bucket(run, tmp_path, bucket):
    run(JOBS["header"], "out.csv")
    result = run(JOBS["header"], f"s3://{bucket.name}/deep/out.csv/")
    stored = bucket.objects()
    found = sorted(name for name in stored if "part-" in name)
    assert found == [f"deep/out.csv/part-{n:05}.csv" for n in range(result.output_parts)]
    assert b"".join(stored[name] for name in found) == (tmp_path / "out.csv").read_bytes()
    assert {*stored} - {*found} == {"deep/out.csv/_SUCCESS", "deep/out.csv/_meta.json"}
    meta = json.loads(stored["deep/out.csv/_meta.json"])
    assert meta["output"]["path"] == f"s3://{bucket.name}/deep/out.csv/"
    run(JOBS["nothing"], f"s3://{bucket.name}/deep/out.csv/", meta=False)
    assert {*bucket.objects()} == {"deep/out.csv/_SUCCESS", "deep/out.csv/part-00000.csv"}


def test_success_is_written_last(run, bucket):
    run(JOBS["sums"], f"s3://{bucket.name}/out/")
    bucket.server.clear_requests()
    run(JOBS["sums"], f"s3://{bucket.name}/out/")
    puts = [
        request.key
        for request in bucket.server.requests(bucket.name)
        if request.method == "PUT" and "_temporary" not in request.key
    ]
    assert puts == ["out/part-00000.txt", "out/_meta.json", "out/_SUCCESS"]


def test_workers_write_to_a_bucket(tmp_path, bucket):
    data = write_tree(tmp_path / "data", [[f"k{n:03}\t1" for n in range(100)]])
    (tmp_path / "job.py").write_text(SCRIPT)
    mapreduce(
        tmp_path / "job.py",
        data_dir=data,
        output=f"s3://{bucket.name}/out/",
        work_dir=tmp_path / "work",
        num_mappers=1,
    )
    assert bucket.objects()["out/part-00000.txt"].count(b"\n") == 100
    assert len(bucket.objects()) == 3


def test_what_daskmr_did_not_write_to_a_bucket_is_kept(run, bucket):
    bucket.put({"out/mine/a": b"mine"})
    with pytest.raises(InputError, match=r"cannot be used: .*holds mine/, which"):
        run(Job(no_work), f"s3://{bucket.name}/out/")
    assert bucket.objects() == {"out/mine/a": b"mine"}


def test_a_failure_leaves_the_bucket_as_it_was(run, bucket):
    run(JOBS["sums"], f"s3://{bucket.name}/out/")
    before = bucket.objects()

    def reduce(key, values, context):
        raise SystemError

    with pytest.raises(JobError, match="reduce failed"):
        run(Job(emit, reduce=reduce), f"s3://{bucket.name}/out/")
    assert bucket.objects() == before


def test_a_prefix_that_is_the_input_is_kept(run, bucket):
    run(JOBS["sums"], f"s3://{bucket.name}/out/")
    before = bucket.objects()
    with pytest.raises(InputError, match="would replace one of the input files"):
        run(
            JOBS["sums"],
            f"s3://{bucket.name}/out/",
            data_dir=f"s3://{bucket.name}/out",
            layout="flat",
        )
    assert bucket.objects() == before


def test_a_url_of_a_folder_is_a_folder(run, tmp_path):
    run(JOBS["sums"], f"file://{tmp_path}/out/")
    assert names(tmp_path / "out") == ["_SUCCESS", "_meta.json", "part-00000.txt"]


INTERRUPTING = """
import os, signal
from daskmr.store.store import Store

def interrupt(store, copies, copy=Store.copy):
    os.kill(os.getpid(), signal.SIGINT)
    copy(store, copies)

Store.copy = interrupt
"""


def test_an_interruption_while_objects_are_copied_comes_too_late(run, tmp_path, bucket):
    (tmp_path / "job.py").write_text(INTERRUPTING + SCRIPT)
    output = f"s3://{bucket.name}/out/"
    done = daskmr("run", "job.py", "-d", "data", "--inline", "-o", output, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {*bucket.objects()} == {"out/_SUCCESS", "out/_meta.json", "out/part-00000.txt"}
