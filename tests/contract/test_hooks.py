"""The contract of the hooks: `setup_map`, `finish_map` and `finish_reduce`."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.dask_cluster import DaskCluster
from support.jobs import daskmr

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.data.input_file import InputFile
from daskmr.data.sampling import Choice
from daskmr.run.request import check_request

# Counts the words of each key in a dict, and writes them at the end of the partition.
WORDS = """
def setup_map(context):
    context.seen = {{}}
    context.counter("hooks", "setup_map")
    context.write("partitions", 1)

def map(key, dims, value, context):
    context.seen[key] = context.seen.get(key, 0) + 1
    if value == "bad":
        raise ValueError(value)

def {finish_map}(context):
    for key, count in context.seen.items():
        context.write(key, count)
    context.counter("hooks", "finish_map")
"""
REDUCE = """
def combine(key, values, context):
    context.write(key, sum(values))

def setup_reduce(context):
    context.keys = context.total = 0

def reduce(key, values, context):
    context.keys += 1
    context.total += sum(values)
    context.write(key, sum(values))

def finish_reduce(context):
    context.write("~all keys", (context.keys, context.total))
    context.counter("hooks", "finish_reduce")
"""
FILES = {f"{number}.log": "a\t1\nb\tbad\na\t2\nc\t3\n" for number in range(5)}
TOTALS = "a\t10\nb\t5\nc\t5\npartitions\t5\n"


def place(root: Path, script: str, files: dict[str, str] = FILES) -> Path:
    """Write a script, and data without dimensions."""
    (root / "data").mkdir()
    for name, text in files.items():
        (root / "data" / name).write_text(text)
    (root / "job.py").write_text(script)
    return root


def run(root: Path, *options: str, code: int = 0, name: str = "out") -> str:
    """Run the script, and return what the command says."""
    given = ("job.py", "-d", "data", "--layout", "flat", "-o", name)
    done = daskmr("run", *given, *options, cwd=root)
    assert done.returncode == code, done.stderr
    return done.stderr


def counters(root: Path, name: str = "out") -> dict[str, int]:
    found: dict[str, int] = json.loads((root / f"{name}.meta.json").read_text())["counters"][
        "hooks"
    ]
    return found


@pytest.mark.parametrize("finish_map", ["finish_map", "map_finished"])
def test_a_partition_and_a_reducer_have_a_beginning_and_an_end(
    tmp_path: Path, finish_map: str
) -> None:
    root = place(tmp_path, WORDS.format(finish_map=finish_map) + REDUCE)
    said = run(root, "--inline", "-r", "1")
    assert (root / "out").read_text() == TOTALS + "~all keys\t(4, 25)\n"
    assert counters(root) == {"finish_map": 5, "finish_reduce": 1, "setup_map": 5}
    assert "5 x ValueError" in said
    assert "never called" not in said


@pytest.mark.parametrize(
    "options",
    [("-m", "2"), pytest.param(("-m", "1", "-r", "1"), marks=pytest.mark.slow), ("--inline",)],
)
def test_the_output_is_the_same_for_any_number_of_workers(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    root = place(tmp_path, WORDS.format(finish_map="finish_map") + REDUCE)
    run(root, *options)
    assert (root / "out").read_text() == TOTALS + "~all keys\t(4, 25)\n"


@pytest.mark.parametrize("how", [["--inline"], pytest.param(["-m", "2"], marks=pytest.mark.slow)])
def test_each_reducer_has_its_end_in_the_order_of_the_reducers(
    tmp_path: Path, how: list[str]
) -> None:
    script = WORDS.format(finish_map="finish_map") + REDUCE
    root = place(tmp_path, script, {"a.log": "".join(f"{n:04}\t\n" for n in range(999))})
    run(root, *how, "-r", "3")
    lines = (root / "out").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[-4:]] == ["partitions", *["~all keys"] * 3]
    ends = [
        json.loads(line.split("\t")[1].replace("(", "[").replace(")", "]")) for line in lines[-3:]
    ]
    assert [sum(column) for column in zip(*ends, strict=True)] == [1000, 1000]
    again = daskmr("run", "--from", "out.meta.json", "-o", "again", "--inline", cwd=root)
    assert again.returncode == 0, again.stderr
    assert (root / "again").read_bytes() == (root / "out").read_bytes()
    run(root, *how, "-r", "3", name="dir/")
    parts = sorted((root / "dir").glob("part*"))
    assert "".join(part.read_text() for part in parts) == (root / "out").read_text()


def test_on_workers_that_do_not_see_the_folder_of_the_script(
    tmp_path: Path, dask_cluster: DaskCluster
) -> None:
    script = "import helper\n" + WORDS.format(finish_map="finish_map") + REDUCE
    root = place(tmp_path, script.replace("context.seen = {}", "context.seen = helper.new()"))
    (root / "helper.py").write_text("def new():\n    return {}\n")
    run(root, "--scheduler", dask_cluster.address)
    assert (root / "out").read_text() == TOTALS + "~all keys\t(4, 25)\n"
    assert counters(root) == {"finish_map": 5, "finish_reduce": 1, "setup_map": 5}


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_the_end_of_a_reducer_in_rows(tmp_path: Path, suffix: str) -> None:
    root = place(
        tmp_path, 'columns = ("key", "n")\n' + WORDS.format(finish_map="finish_map") + REDUCE
    )
    script = (root / "job.py").read_text()
    (root / "job.py").write_text(script.replace("(context.keys, context.total)", "context.total"))
    run(root, "--inline", name=f"out.{suffix}")
    if suffix == "parquet":
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(root / "out.parquet")
        rows = [tuple(row.values()) for row in table.to_pylist()]
    elif suffix == "csv":
        lines = (root / "out.csv").read_text().splitlines()[1:]
        rows = [(key, int(n)) for key, n in (line.split(",") for line in lines)]
    else:
        rows = [
            (*json.loads(line).values(),) for line in (root / "out.jsonl").read_text().splitlines()
        ]
    assert rows == [("a", 10), ("b", 5), ("c", 5), ("partitions", 5), ("~all keys", 25)]


def test_hooks_of_functions_in_python(tmp_path: Path) -> None:
    root = place(tmp_path, "")
    job: dict[str, Any] = {
        "setup_map": lambda context: setattr(context, "n", 0),
        "map": lambda key, dims, value, context: setattr(context, "n", context.n + 1),
        "map_finished": lambda context: context.write("records", context.n),
        "reduce": lambda key, values, context: context.write(key, sum(values)),
        "finish_reduce": lambda context: context.writeline("the end"),
    }
    options: dict[str, Any] = {"data_dir": root / "data", "layout": "flat", "inline": True}
    for result in (mapreduce(**job, **options), mapreduce(Job(**job), **options)):
        assert list(result) == [("records", 20), "the end"]
    with pytest.raises(InputError, match="a job or its functions, not both"):
        mapreduce(Job(**job), finish_map=print, **options)
    with pytest.raises(TypeError, match="takes no argument 'finnish_map'"):
        Job(job["map"], finnish_map=print)  # type: ignore[call-arg]


def test_a_job_without_reduce(tmp_path: Path) -> None:
    """Its context writes to the output, in input order; a bad record undoes none of it."""
    script = """
def setup_reduce(context):
    context.writeline("header")
def setup_map(context):
    context.n = 0
    context.writeline("begins")
def map(key, dims, value, context):
    context.n += 1
    context.write_each([key], value)
    if value == "bad":
        raise ValueError
def finish_map(context):
    context.writeline(f"ends after {context.n}")
"""
    root = place(tmp_path, script)
    one = "begins\na\t1\na\t2\nc\t3\nends after 4\n"
    for number, how in enumerate(("--inline", "-m2")):
        run(root, how, name=f"out{number}")
        assert (root / f"out{number}").read_text() == "header\n" + 5 * one


def test_a_bad_record_undoes_nothing_that_setup_map_wrote(tmp_path: Path) -> None:
    script = """
def setup_map(context):
    context.write_each(["x", "y"], 1)
    context.counter("hooks", "setup_map")
def map(key, dims, value, context):
    context.write_each(["x", "y"], 1)
    context.counter("hooks", "map")
    raise ValueError
def reduce(key, values, context):
    context.write(key, sum(values))
"""
    root = place(tmp_path, script)
    run(root, "--inline", "--max-bad-records", "100%")
    assert (root / "out").read_text() == "x\t5\ny\t5\n"
    assert counters(root) == {"setup_map": 5}


@pytest.mark.parametrize(
    "hook", [pytest.param("setup_map", marks=pytest.mark.slow), "finish_map", "finish_reduce"]
)
def test_a_task_that_is_tried_again_begins_anew(tmp_path: Path, hook: str) -> None:
    """A worker that dies in a hook, after it wrote and counted."""
    dies = f"""
_{hook} = {hook}
def {hook}(context):
    import os
    _{hook}(context)
    try:
        os.close(os.open({str(tmp_path / "died")!r}, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os._exit(1)
"""
    root = place(tmp_path, WORDS.format(finish_map="finish_map") + REDUCE + dies)
    run(root, "-m", "2")
    assert (root / "died").exists()
    assert (root / "out").read_text() == TOTALS + "~all keys\t(4, 25)\n"
    assert counters(root) == {"finish_map": 5, "finish_reduce": 1, "setup_map": 5}


def test_a_partition_without_its_corrupt_file_begins_anew(tmp_path: Path) -> None:
    script = WORDS.format(finish_map="finish_map") + REDUCE
    root = place(tmp_path, script, {"a.log": "a\t1\n" * 9})
    (root / "data/b.log.gz").write_bytes(gzip.compress(b"a\t1\n" * 999)[:-9])
    script = (root / "job.py").read_text()
    run(root, "--inline", "--skip-corrupt-files")
    assert (root / "out").read_text() == "a\t9\npartitions\t2\n~all keys\t(2, 11)\n"
    assert counters(root) == {"finish_map": 2, "finish_reduce": 1, "setup_map": 2}


@pytest.mark.parametrize(
    ("hook", "where"),
    [
        ("setup_map", "before the first record of 0.log"),
        ("finish_map", "after the last record of 0.log"),
        ("finish_reduce", "after the last key"),
    ],
)
def test_a_hook_that_fails(tmp_path: Path, hook: str, where: str) -> None:
    script = WORDS.format(finish_map="finish_map") + REDUCE
    root = place(tmp_path, script, {"0.log": "a\t1\n"})
    for body, found in (
        ("raise ValueError('no')", "ValueError: no (job.py, line"),  # no record is bad for it
        ("import daskmr; raise daskmr.BadRecord('no')", "BadRecord: no"),
        ("return [1]", "it returned [1], which is not written"),
        ("context.line", "context.line is the place of a record, so it exists only in map"),
    ):
        (root / "job.py").write_text(f"{script}\ndef {hook}(context):\n    {body}\n")
        said = run(root, "--inline", code=1)
        assert f"{hook} failed {where}: " in said
        assert found in said
        assert not (root / "out").exists()


def test_mistakes_are_found_before_any_work(tmp_path: Path) -> None:
    root = place(tmp_path, "def map(key, dims, value, context):\n    pass\n")
    script = (root / "job.py").read_text()
    for more, found in (
        ("def setup_map():\n    pass\n", "`setup_map` cannot be called with 1 positional argument"),
        ("def finish_map(context):\n    yield\n", "`finish_map` is a generator"),
        ("setup_map = 3\n", "`setup_map` is 3, not a function"),
        ("def finish_reduce(context):\n    pass\n", "For the end of each partition"),
        (
            "def finish_map(context):\n    pass\ndef map_finished(context):\n    pass\n",
            "`map_finished` is the old name of `finish_map`",
        ),
    ):
        (root / "job.py").write_text(script + more)
        assert found in " ".join(run(root, code=2).split())
    (root / "job.py").write_text(
        script + "def finish_map(context):\n    pass\nmap_finished = finish_map\n"
    )
    run(root, "--inline")


def test_an_empty_input_has_a_beginning_and_an_end(tmp_path: Path) -> None:
    root = place(tmp_path, WORDS.format(finish_map="finish_map") + REDUCE, {})
    run(root, "--allow-empty")
    assert (root / "out").read_text() == "partitions\t1\n~all keys\t(1, 1)\n"


def test_check_and_plan_call_them(tmp_path: Path) -> None:
    root = place(tmp_path, WORDS.format(finish_map="map_finished") + REDUCE)
    said = daskmr("check", "job.py", "-d", "data", "--layout", "flat", cwd=root)
    assert said.returncode == 0, said.stderr
    for line in (
        "defines map, combine, reduce, setup_reduce, setup_map, finish_map, finish_reduce",
        "map_finished is called as finish_map",
        "setup_map   'partitions': 1",
        "finish_map  'a': 10",
        "records     20 records gave 4 pairs under 4 keys",
        "counter     hooks: finish_map 1",
        "finish_reduce ~all keys    (4, 21)",
    ):
        assert line in said.stdout, line
    said = daskmr("plan", "job.py", "-d", "data", "--layout", "flat", cwd=root)
    assert "map writes 4 pairs" in said.stdout


def test_threads_of_a_partition_may_end_in_finish_map(tmp_path: Path) -> None:
    def begin(context: Any) -> None:
        from concurrent.futures import ThreadPoolExecutor

        context.pool = ThreadPoolExecutor(2)

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.pool.submit(context.write, "late", 1)

    def end(context: Any) -> None:
        context.pool.shutdown()

    def reduce(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    root = place(tmp_path, "")
    result = mapreduce(
        map=map_, setup_map=begin, finish_map=end, reduce=reduce,
        data_dir=root / "data", layout="flat", inline=True,
    )  # fmt: skip
    assert list(result) == [("late", 20)]


def test_a_worker_that_always_dies_in_a_hook_is_explained(tmp_path: Path) -> None:
    script = (
        WORDS.format(finish_map="finish_map") + "import os\ndef finish_map(c):\n    os._exit(1)\n"
    )
    root = place(tmp_path, script + REDUCE, {"0.log": "a\t1\n"})
    said = run(root, "-m", "1", code=1)
    assert "finish_map, after the last record" in said
    with pytest.raises(JobError):
        mapreduce(root / "job.py", data_dir=root / "data", layout="flat", inline=True)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=200), min_size=1, max_size=4),
    st.sampled_from(["1", "64 MiB"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_counting_in_hooks_equals_writing_each(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[str]],
    spill_bytes: str,
    combines: bool,
    reducers: int,
) -> None:
    """Over spilled and combined pairs, and any number of reducers."""
    root = tmp_path_factory.mktemp("job")
    (root / "data").mkdir()
    for number, keys in enumerate(files):
        text = "".join(f"{key}\t{'bad' if n % 7 == 3 else n}\n" for n, key in enumerate(keys))
        (root / f"data/{number}.log").write_text(text)
    count = Counter(key for keys in files for n, key in enumerate(keys) if n % 7 != 3)

    def begin(context: Any) -> None:
        context.seen = Counter()
        context.write_each(["begins"] * 60, 1)

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write((key, "each"), 1)
        int(value)
        context.seen[key] += 1

    def end(context: Any) -> None:
        for key, n in context.seen.items():
            context.write((key, "end"), n)

    def add(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    def finish(context: Any) -> None:
        context.write("ends", 0)

    result = mapreduce(
        map=map_, combine=add if combines else None, reduce=add, setup_map=begin, finish_map=end,
        finish_reduce=finish, data_dir=root / "data", layout="flat", inline=True,
        spill_bytes=spill_bytes, num_reducers=reducers, max_bad_records="100%", work_dir=root,
    )  # fmt: skip
    pairs = [((key, what), n) for key, n in sorted(count.items()) for what in ("each", "end")]
    assert list(result) == [("begins", 60 * len(files)), *pairs, *[("ends", 0)] * reducers]


def test_the_number_of_endings_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    root = place(tmp_path, WORDS.format(finish_map="finish_map") + REDUCE)
    large = [InputFile("a.gz", 10 << 30, ())]

    def reducers(**options: Any) -> int:
        request = check_request(
            root / "job.py", {"layout": "flat", **options}, choice=Choice(), data_dir=root / "data"
        )
        return request.count_buckets(large)[1]

    assert reducers(num_mappers=1) == reducers(num_mappers=16) == 64
    assert reducers(num_mappers=16, num_reducers=3) == 3
    script = (root / "job.py").read_text()
    (root / "job.py").write_text(script.replace("def finish_reduce", "def _unused"))
    assert reducers(num_mappers=1) == 8, "otherwise they have enough with a few"
