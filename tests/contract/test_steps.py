"""Jobs of several steps, against an oracle in plain Python."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jobs import daskmr, oracle
from support.store_server import Bucket

from daskmr import mapreduce, reducers
from daskmr.data.steps import cuts, pairs, plan
from daskmr.diagnostics.collector import Watcher
from daskmr.errors import InputError, JobError
from daskmr.job.job import Job
from daskmr.job.keys import bucket_of
from daskmr.run import workspace
from daskmr.tasks import reduce as reducing
from daskmr.tasks.spilled_values import SpilledValues

# --- steps to choose from: each is a `map`, and maybe `combine` and `reduce` -----------------------


def spread(key: Any, dims: Any, value: Any, context: Any) -> None:
    key = tuple(key) if isinstance(key, list) else key
    context.write((len(str(value)) % 7, key), value)
    context.write(key, 1)


def mixed(key: Any, dims: Any, value: Any, context: Any) -> None:
    text = repr((key, value))
    choices = (None, True, len(text) / 7, text[:3], text.encode()[:2], ("t", len(text) % 5), 2)
    context.write(choices[len(text) % len(choices)], (key, value))


def bare(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(str(key), len(str(value)) / 10)


def letters(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write_each([len(str(key)) % 3, None], len(str(value)))


def large(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(str(key)[:2], "x" * (len(str(value)) % 50) * 400)


def nothing(key: Any, dims: Any, value: Any, context: Any) -> None:
    pass


def same(key: Any, dims: Any, value: Any, context: Any) -> None:
    assert type(dims).__name__ == "Dims" or "oracle" in dims
    context.write(key, value)


def collect(key: Any, values: Any, context: Any) -> None:
    for value in values:
        context.write(key, value)


def count(key: Any, values: Any, context: Any) -> None:
    context.write(key, len(values))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def few(key: Any, values: Any, context: Any) -> None:
    if len(str(key)) % 2:
        context.write([key], {"n": len(values)})


STEPS: list[tuple[Any, ...]] = [
    (spread, None, collect),
    (mixed, None, count),
    (bare, None, total),
    (letters, total, total),
    (large, None, count),
    (large, None, None),
    (nothing, None, count),
    (same, None, None),
    (spread, None, few),
    (mixed, None, None),
]


def expected(records: list[tuple[Any, Any]], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Run the steps in plain Python."""
    for map_, _, reduce in steps:
        written: list[tuple[Any, Any]] = []

        class Context:
            @staticmethod
            def write(key: Any, value: Any, to: Any = written) -> None:
                to.append((key, value))

            @classmethod
            def write_each(cls, keys: Any, value: Any) -> None:
                for key in keys:
                    cls.write(key, value)

        for key, value in records:
            map_(key, ["oracle"], value, Context())
        records = written if reduce is None else oracle(written, reduce)
    return records


def write_input(folder: Path, files: list[list[str]]) -> Path:
    folder.mkdir(parents=True)
    for number, lines in enumerate(files):
        text = "".join(f"{line}\t{line * 3}\n" for line in lines)
        (folder / f"{number:03}.log").write_text(text)
    return folder


FILES = st.lists(st.lists(st.text("abcxyz", max_size=6), max_size=25), min_size=1, max_size=5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    FILES,
    st.lists(st.sampled_from(STEPS), min_size=2, max_size=4),
    st.sampled_from([1, 2, 7]),
    st.booleans(),
)
def test_any_steps_give_what_plain_python_gives(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[str]],
    steps: list[tuple[Any, ...]],
    reducers: int,
    finely: bool,
) -> None:
    data = write_input(tmp_path_factory.mktemp("steps") / "data", files)
    records = [(line, line * 3) for lines in files for line in lines]
    with (
        mock.patch.object(plan, "_FINE_BYTES", 100 if finely else plan._FINE_BYTES),
        mock.patch.object(cuts, "_BYTES", 50 if finely else cuts._BYTES),
        mock.patch.object(reducing, "_STEP_BYTES", 500 if finely else reducing._STEP_BYTES),
        mock.patch.object(pairs, "_BATCH", 3 if finely else pairs._BATCH),
    ):
        result = mapreduce(
            [Job(*functions) for functions in steps],
            data_dir=str(data),
            layout="{name}.log",
            inline=True,
            num_reducers=reducers,
            work_dir=str(data.parent / "work"),
            allow_empty=True,
        )
        assert repr(list(result)) == repr(expected(records, steps))
    assert [step.written for step in result.steps] == [
        len(expected(records, steps[: number + 1])) for number in range(len(steps))
    ]


# --- bytes ----------------------------------------------------------------------------------------

CHAIN = """
import os, signal
from daskmr import Job

def die_once(flag):
    try:
        open(flag, "x").close()
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)

def pairs(key, dims, value, context):
    for number, word in enumerate(value.split()):
        context.write((word, number % 3), len(word) / 7)

def total(key, values, context):  # not associative in floats
    context.write(key, sum(values))

def shorter(key, dims, value, context):
    assert dims == [] and len(key) == 2
    AT_MAP
    context.write(key[0][:2], value * 1.1)
    context.write(None, value / 3)

def spread(key, dims, value, context):
    context.write((str(value)[-1], key), value)

def last(key, values, context):
    AT_REDUCE
    context.write(key, repr(list(values)))

steps = [
    Job(map=pairs, combine=total, reduce=total),
    Job(map=shorter, combine=total, reduce=total),
    Job(map=spread),
    Job(map=spread, reduce=last),
]
"""


def write_job(folder: Path, at_map: str = "pass", at_reduce: str = "pass") -> str:
    text = CHAIN.replace("AT_MAP", at_map).replace("AT_REDUCE", at_reduce)
    (folder / "job.py").write_text(text)
    return str(folder / "job.py")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Files with thousands of different words, so that later steps have several partitions."""
    folder = tmp_path_factory.mktemp("words") / "data"
    folder.mkdir()
    for number in range(6):
        lines = (
            f"{number}\t" + " ".join(f"w{(line * 97 + n * n) % 9_000:x}" for n in range(40))
            for line in range(number * 200, number * 200 + 200)
        )
        (folder / f"{number}.log").write_text("".join(f"{line}\n" for line in lines))
    return str(folder)


OPTIONS: dict[str, Any] = {"layout": "{name}.log", "meta": False}


@pytest.fixture(scope="module")
def answer(words: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("answer")
    return run(write_job(folder), words, folder, inline=True)


def run(job: Any, data: str, folder: Path, **options: Any) -> bytes:
    """Run a job, check that it leaves nothing but its output, and return that."""
    output, work = folder / "out.txt", folder / "work"
    result = mapreduce(
        job, data_dir=data, output=str(output), work_dir=str(work), **OPTIONS, **options
    )
    assert not work.exists()
    assert len(result.steps) == 4
    tasks = [task for task in result.history.tasks if task.phase == "map"]
    assert len(tasks) > 6 + 3 * 4  # several in each step
    return output.read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        {"inline": True, "num_reducers": 1},
        pytest.param(
            {"inline": True, "num_reducers": 9, "spill_bytes": 100_000}, marks=pytest.mark.slow
        ),
        {"num_mappers": 2, "num_reducers": 3},
    ],
)
def test_bytes_do_not_depend_on_reducers_mappers_or_memory(
    words: str, answer: bytes, tmp_path: Path, options: dict[str, Any]
) -> None:
    assert answer.count(b"\n") > 10
    assert run(write_job(tmp_path), words, tmp_path, **options) == answer


def test_bytes_do_not_depend_on_whether_values_are_on_disk(tmp_path: Path) -> None:
    """Of `hot`, they are where its bucket has other keys, too, and are written as they are."""
    (tmp_path / "data").mkdir()
    found = [f"k{n}" for n in range(1000) if bucket_of(f"k{n}", 8) == bucket_of("hot", 8)]
    others = [key for key in found if bucket_of(key, 128) != bucket_of("hot", 128)][:50]
    for number in range(40):
        keys = ["hot"] * 128 + others * 20
        text = "".join(f"{key}\t{n % 1000}\n" for n, key in enumerate(keys))
        (tmp_path / f"data/{number:02}.log").write_text(text)
    on_disk = []

    def numbers(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, int(value))

    def values_of(key: Any, values: Any, context: Any) -> None:
        if key == "hot":
            on_disk.append(type(values) is SpilledValues)
        context.write(key, values)

    def thirds(key: Any, dims: Any, values: Any, context: Any) -> None:
        for value in values:
            context.write(value % 3, value / 7)

    jobs = [Job(numbers, reduce=values_of), Job(thirds, combine=total, reduce=total)]
    options: dict[str, Any] = {"spill_bytes": 150_000, "inline": True, "layout": "{name}.log"}
    one, many = (
        [*mapreduce(jobs, data_dir=tmp_path / "data", num_reducers=reducers, **options)]
        for reducers in (1, 50)
    )
    assert one == many
    assert on_disk == [True, False]


def once(flag: Path) -> str:
    return f"die_once({str(flag)!r})"


@pytest.mark.slow
def test_workers_that_are_killed_in_a_step_change_nothing(
    words: str, answer: bytes, tmp_path: Path
) -> None:
    job = write_job(tmp_path, once(tmp_path / "map"), once(tmp_path / "reduce"))
    assert run(job, words, tmp_path, num_mappers=2) == answer
    assert (tmp_path / "map").exists()
    assert (tmp_path / "reduce").exists()


def test_workers_that_are_killed_between_steps_change_nothing(
    words: str, answer: bytes, tmp_path: Path
) -> None:
    begun: list[str] = []

    class Killer(Watcher):
        def begin(self, plan: Any) -> None:
            begun.append(plan.step)
            if "step 3" in plan.step:
                for pid in pids():
                    os.kill(pid, signal.SIGKILL)

    seen = tmp_path / "pids"
    seen.mkdir()

    def pids() -> list[int]:
        return [int(path.name) for path in seen.iterdir()]

    job = write_job(tmp_path, f"open(os.path.join({str(seen)!r}, str(os.getpid())), 'w').close()")
    assert run(job, words, tmp_path, num_mappers=2, watcher=Killer()) == answer
    assert [step[:6] for step in begun] == ["step 1", "step 2", "step 3", "step 4"]
    assert pids()


@pytest.mark.slow
def test_workers_that_share_no_disk_use_the_spill_dir(
    words: str, answer: bytes, tmp_path: Path, bucket: Bucket
) -> None:
    from distributed import Client, LocalCluster

    spill_dir = f"s3://{bucket.name}/spill"
    parts: dict[str, int] = {}

    class Looker(Watcher):
        def begin(self, plan: Any) -> None:
            names = [name for name in bucket.objects() if name.endswith(".seg")]
            parts[plan.step[:6]] = len(names)

    options: dict[str, Any] = {"num_reducers": 2, "spill_bytes": 100_000}
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        with mock.patch.object(workspace, "sees_all", return_value=False):
            with pytest.raises(InputError, match=r"pairs between the steps .* Give --spill-dir"):
                run(write_job(tmp_path), words, tmp_path, client=client)
            options |= {"client": client, "spill_dir": spill_dir, "watcher": Looker()}
            assert run(write_job(tmp_path), words, tmp_path, **options) == answer
        assert run(write_job(tmp_path), words, tmp_path, client=client) == answer
    assert not bucket.objects()
    assert (parts["step 1"], parts["step 2"], parts["step 3"]) == (0, 8, 8)  # one a bucket


@pytest.mark.parametrize("bad", [True, False])
def test_input_of_which_pairs_are_bad_is_not_deleted(tmp_path: Path, bad: bool) -> None:
    """The pairs are not saved, so the input alone has their data."""

    def picky(key: Any, dims: Any, value: Any, context: Any) -> None:
        if bad and key == "a":
            raise ValueError("a")
        context.write(key, value)

    (tmp_path / "1.log").write_text("a\t1\nb\t2\n")
    result = mapreduce(
        [Job(map=same), Job(map=picky)], data_dir=tmp_path, output=tmp_path / "out",
        work_dir=tmp_path / "work", delete_data=True, inline=True, **OPTIONS,
    )  # fmt: skip
    assert (tmp_path / "1.log").exists() is bad
    assert result.deleted == (0 if bad else 1)
    assert len(result.notes) == int(bad)


# --- what is kept ---------------------------------------------------------------------------------


def test_the_pairs_of_steps_are_kept_as_outputs(words: str, tmp_path: Path) -> None:
    job = write_job(tmp_path)
    result = mapreduce(
        job, data_dir=words, output=str(tmp_path / "out.jsonl"), work_dir=str(tmp_path / "work"),
        inline=True, keep_steps=tmp_path / "kept", **OPTIONS,
    )  # fmt: skip
    kept = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert kept == ["1-pairs.jsonl", "2-shorter.jsonl", "3-spread.jsonl"]
    for path, step in zip(kept, result.steps, strict=False):
        lines = (tmp_path / "kept" / path).read_text().splitlines()
        assert len(lines) == step.written
        assert step.kept == str(tmp_path / "kept" / path)


def test_what_is_kept_replaces_nothing_else(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "1-pairs.txt").write_text("a\tb\n")
    job = Path(write_job(tmp_path))
    script = job.rename(tmp_path / "1-pairs.txt")
    (tmp_path / "full" / "2-shorter.txt").mkdir(parents=True)
    for output, folder, reason in (
        ("out", "data", "replace one of the input files"),
        ("out", ".", "replace a file that the job needs"),
        ("out", "full", "is a directory"),
        ("out", "out", "in the way of the output"),
        ("kept/1-pairs.txt", "kept", "in the way of the output"),
        ("kept/", "kept", "in the way of the output"),
    ):
        before = sorted(tmp_path.rglob("*"))
        if "/" in output[:-1]:
            (tmp_path / "kept").mkdir()
        with pytest.raises(InputError, match=rf"--keep-steps .* writes .*{reason}.*directory\."):
            mapreduce(
                script, data_dir=data, output=f"{tmp_path}/{output}", inline=True,
                keep_steps=f"{tmp_path}/{folder}", work_dir=tmp_path / "work", layout="flat",
            )  # fmt: skip
        (tmp_path / "kept").is_dir() and (tmp_path / "kept").rmdir()
        assert sorted(tmp_path.rglob("*")) == before
    assert (data / "1-pairs.txt").read_text() == "a\tb\n"


@pytest.mark.slow
def test_what_is_kept_is_no_input_of_the_same_job(words: str, tmp_path: Path) -> None:
    job, data = write_job(tmp_path), tmp_path / "data"
    shutil.copytree(words, data)
    options = {"data_dir": data, "inline": True, "layout": "flat", "work_dir": tmp_path / "work"}
    output, folder = f"{data}/out.txt", f"{data}/kept"
    mapreduce(job, output=output, keep_steps=folder, **options)
    before = Path(output).read_bytes()
    mapreduce(job, output=output, **options)
    assert Path(output).read_bytes() == before


def test_the_columns_of_what_is_kept_are_those_of_its_step(words: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "from daskmr import Job\n"
        "columns = 'word', 'n', 'letters'\n"
        "def map(key, dims, value, context): context.write(key, (value, len(key)))\n"
        "def once(key, dims, value, context): context.write(str(value)[:4], 1)\n"
        "def total(key, values, context): context.write(key, sum(values))\n"
        "named = Job(map=once, reduce=total, output_columns=('text', 'times'))\n"
        "steps = [Job(map=once), named, Job(map=map)]\n"
    )
    mapreduce(
        tmp_path / "job.py", data_dir=words, output=tmp_path / "out.csv", keep_steps=tmp_path / "kept",
        work_dir=str(tmp_path / "work"), inline=True, **OPTIONS,
    )  # fmt: skip
    files = [*sorted((tmp_path / "kept").iterdir()), tmp_path / "out.csv"]
    headers = [path.read_text().splitlines()[0] for path in files]
    assert headers == ["key,value", "text,times", "word,n,letters"]


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_pair_that_no_output_can_hold_is_not_kept(
    words: str, tmp_path: Path, on_error: str
) -> None:
    steps = [Job(map=lambda key, dims, value, context: context.write(key, {1, 2})), Job(map=same)]
    options = {"keep_steps": tmp_path, "on_error": on_error, "work_dir": str(tmp_path / "work")}
    with pytest.raises(JobError) as caught:
        mapreduce(
            steps, data_dir=words, output=tmp_path / "o.jsonl", inline=True, **options, **OPTIONS
        )
    message = str(caught.value)
    assert "1-step.jsonl, which --keep-steps asks for, cannot be written: the pair (" in message
    assert message.endswith("Its order differs from run to run: write sorted(...) of it.")


def test_what_collect_writes_is_one_cell_of_what_is_kept(words: str, tmp_path: Path) -> None:
    def sort(key: str, dims: Any, value: Any, context: Any) -> None:
        assert not context.source
        context.write("ab"[len(key) > 4], 1)

    def called(key: Any, values: Any, context: Any) -> None:
        reducers.collect(key, values, context)

    steps = [Job(map=same), Job(map=sort, reduce=called), Job(map=sort)]
    options = {"keep_steps": tmp_path, "work_dir": str(tmp_path / "work"), "inline": True}
    mapreduce(steps, data_dir=words, output=tmp_path / "o.csv", **options, **OPTIONS)
    lines = (tmp_path / "2-sort.csv").read_text().splitlines()
    assert lines[0] == "key,value"
    assert all(line.startswith(('a,"[1,1', 'b,"[1,1')) for line in lines[1:])


def test_a_job_of_one_step_has_nothing_to_keep(words: str) -> None:
    with pytest.raises(InputError, match="this job has only one step"):
        mapreduce(map=same, data_dir=words, keep_steps="kept", **OPTIONS)


@pytest.mark.slow
def test_intermediate_data_is_removed_step_by_step(words: str, tmp_path: Path) -> None:
    seen: dict[str, int] = {}

    class Looker(Watcher):
        def begin(self, plan: Any) -> None:
            (run_dir,) = (tmp_path / "work").glob("run-*")
            segments = list((run_dir / "segments").iterdir())
            assert not segments
            seen[plan.step[:6]] = len(list((run_dir / "parts").iterdir()))

    run(
        write_job(tmp_path), words, tmp_path, inline=True, num_reducers=2, watcher=Looker(),
        spill_bytes=100_000,
    )  # fmt: skip
    assert seen["step 1"] == 0
    assert seen["step 2"] == 8  # a part for each bucket of the first step, and none else
    assert seen["step 3"] == 8


# --- mistakes -------------------------------------------------------------------------------------


def fails(steps: Any, words: str, tmp_path: Path) -> str:
    with pytest.raises((JobError, InputError)) as caught:
        mapreduce(steps, data_dir=words, inline=True, work_dir=str(tmp_path / "work"), **OPTIONS)
    return str(caught.value)


@pytest.mark.parametrize("function", ["writeline", "writecsv", "writejson"])
def test_text_in_an_inner_step_is_refused(words: str, tmp_path: Path, function: str) -> None:
    def reduce(key: Any, values: Any, context: Any) -> None:
        getattr(context, function)([key])

    message = fails([Job(same, reduce=reduce), Job(same)], words, tmp_path)
    assert "In step 1 of 2 (same): reduce failed for the key" in message
    assert f"context.{function} belongs to the output" in message
    assert "Write pairs: context.write(key, value)" in message


def test_a_header_of_an_inner_step_is_refused(words: str, tmp_path: Path) -> None:
    def header(context: Any) -> None:
        context.write("key", "value")

    message = fails([Job(same, setup_reduce=header), Job(same)], words, tmp_path)
    assert "a header in setup_reduce belongs to the output, but step 1 of 2 (same)" in message


def test_a_failure_names_the_step_and_the_pair(words: str, tmp_path: Path) -> None:
    def failing(key: Any, dims: Any, value: Any, context: Any) -> None:
        value.missing()

    message = fails([Job(same, reduce=count), Job(failing)], words, tmp_path)
    assert "In step 2 of 2 (failing): map failed at the pairs of step 1 of 2 (same)" in message
    assert "the pair \"('0', 200)\"" in message


def test_bad_records_of_a_step_count(words: str, tmp_path: Path) -> None:
    def picky(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, int("x" if key == "3" else value))

    result = mapreduce(
        [Job(same, reduce=count), Job(picky)],
        data_dir=words, inline=True, work_dir=str(tmp_path / "work"), **OPTIONS,
    )  # fmt: skip
    assert [step.bad_records for step in result.steps] == [0, 1]
    assert (result.bad_records, result.records, result.lines) == (1, 1200, 5)


def test_steps_of_a_script_are_jobs(words: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "from daskmr import Job\ndef map(k, d, v, c): pass\nsteps = [Job(map=map), map]\n"
    )
    message = fails(str(tmp_path / "job.py"), words, tmp_path)
    assert "step 2 of `steps` is" in message
    assert "not a Job" in message


def test_steps_are_a_list(words: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "from daskmr import Job\ndef map(k, d, v, c): pass\nsteps = Job(map=map)\n"
    )
    message = fails(str(tmp_path / "job.py"), words, tmp_path)
    assert "`steps` is a Job. Write a list" in message


def test_steps_that_are_no_jobs_are_the_scripts_own(words: str, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text("steps = [1, 2]\ndef map(k, d, v, c): c.write(k, 1)\n")
    result = mapreduce(
        str(tmp_path / "job.py"),
        data_dir=words,
        inline=True,
        work_dir=str(tmp_path / "w"),
        **OPTIONS,
    )
    assert (result.steps, result.lines) == ((), 1200)


# --- the command line -----------------------------------------------------------------------------

FIRST = """
class Length:
    def __init__(self, letters):
        self.letters = letters

def map(key, dims, value, context):
    for word in value.split():
        context.write(word, 1)

def reduce(key, values, context):
    context.write(key, Length(len(key)))
"""
SECOND = """
output_columns = ("letters", "words", "kind")

def map(key, dims, value, context):
    context.write(value.letters, value)  # an object of the first script's class, which goes on

def reduce(key, values, context):
    context.write(key, (len(values), type(values[0]).__name__))
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    (tmp_path / "first.py").write_text(FIRST)
    (tmp_path / "second.py").write_text(SECOND)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.log").write_text("1\tto be or not to be\n2\tthat is the question\n")
    return tmp_path


def command(*words: str, cwd: Path) -> tuple[str, str]:
    done = daskmr(*words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.parametrize("where", [["--inline"], pytest.param(["-m", "2"], marks=pytest.mark.slow)])
def test_several_scripts_are_steps(scripts: Path, where: list[str]) -> None:
    _, shown = command(
        *("run", "first.py", "second.py", "-d", "data/*.log", "-o", "out.csv", *where), cwd=scripts
    )
    answer = "letters,words,kind\n2,4,Length\n3,2,Length\n4,1,Length\n8,1,Length\n"
    assert (scripts / "out.csv").read_text() == answer
    assert "\nstep 1 first  2 records gave 8 pairs for 8 keys; " in shown
    assert "\nstep 2 second 8 pairs gave 4 lines for 4 keys; " in shown
    meta = json.loads((scripts / "out.csv.meta.json").read_text())
    assert [step["name"] for step in meta["steps"]] == ["first", "second"]
    assert meta["steps"][1]["script"]["path"] == str(scripts / "second.py")
    assert [step["written"] for step in meta["counts"]["steps"]] == [8, 4]
    (scripts / "second.py").write_text(f"{SECOND}\n# changed\n")
    _, shown = command("run", "--from", "out.csv.meta.json", "-o", "again.csv", cwd=scripts)
    assert (scripts / "again.csv").read_text() == answer
    assert f"note: the script {scripts / 'second.py'} has changed since the earlier run" in shown


def test_check_tries_each_step(scripts: Path) -> None:
    shown, _ = command("check", "first.py", "second.py", "-d", "data/*.log", cwd=scripts)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "steps step 1 of 2 (first): map, reduce" in lines
    assert "step step 2 of 2 (second)" in lines
    assert "input the pairs of step 1 of 2 (first)" in lines
    assert "records 8 records gave 8 pairs under 4 keys" in lines
    assert "columns of the output: letters, words, kind" in lines
    assert lines[-4:] == [
        "output 2 (4, 'Length')", "3 (2, 'Length')", "4 (1, 'Length')", "8 (1, 'Length')",
    ]  # fmt: skip


def test_plan_lists_the_steps(scripts: Path) -> None:
    shown, _ = command("plan", "first.py", "second.py", "-d", "data/*.log", cwd=scripts)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "plan first.py second.py over data/*.log" in lines
    assert "steps step 1 of 2 (first): map, reduce" in lines
    assert "step 2 of 2 (second): map, reduce" in lines


def test_another_argument_is_still_taken_for_the_input(scripts: Path) -> None:
    done = daskmr("run", "first.py", "data", cwd=scripts)
    assert done.returncode == 2
    assert "The input is an option: daskmr run first.py -d data" in done.stderr
