"""What a script counts is exact: each record once, however often its task was tried."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from support.jobs import write_tree

from daskmr import Job, mapreduce
from daskmr.errors import JobError
from daskmr.job.contexts import COUNTED, CombineContext, CounterError, ItemContext, TextContext
from daskmr.job.map_context import MapContext
from daskmr.run.result import Result


def run(root: Path, files: list[list[str]], **functions: Any) -> Result:
    write_tree(root / "data", files)
    names = ("map", "combine", "reduce", "setup_reduce")
    options = {name: functions.pop(name) for name in functions.keys() - set(names)}
    return mapreduce(Job(**functions), data_dir=root / "data", inline=True, **options)


def count_all(key: str, dims: list[str], value: str, context: Any) -> None:
    context.counter("records", "seen")
    if key == "write":
        context.write(value, 1)
    if key == "bad":
        context.counter("records", "bad")
        context.counter("records", "seen", 5)
        raise ValueError("bad")


def total(key: Any, values: Any, context: Any) -> None:
    context.counter("values", "reduced", len(values))
    context.write(key, sum(values))


LINES = ["none\tx", "bad\tx", "write\ta", "write\tb", "bad\ty", "none\ty", "no tab", "bad\tz"]


@pytest.mark.parametrize("batch", [1, 2000])
def test_a_bad_record_counts_nothing_and_takes_nothing_from_others(
    tmp_path: Path, batch: int
) -> None:
    result = run(tmp_path, [LINES * batch] * 3, map=count_all, reduce=total)
    assert result.counters == {
        "records": {"seen": 12 * batch},
        "values": {"reduced": 6 * batch},
    }
    assert result.bad_records == 12 * batch


def test_a_job_without_reduce_counts_too(tmp_path: Path) -> None:
    def set_up(context: Any) -> None:
        context.counter("set up", "calls")

    files = [["bad\tx", *LINES]] * 3
    result = run(tmp_path, files, map=count_all, setup_reduce=set_up, max_bad_records="100%")
    assert result.counters == {"records": {"seen": 12}, "set up": {"calls": 3}}
    assert list(result) == [("a", 1), ("b", 1)] * 3


def test_combine_and_setup_reduce(tmp_path: Path) -> None:
    def combine(key: Any, values: Any, context: Any) -> None:
        context.counter("combine", "calls")
        context.write(key, sum(values))

    def set_up(context: Any) -> None:
        context.counter("set up", "calls")

    files = [["write\ta"] * 200] * 2
    result = run(tmp_path, files, map=count_all, combine=combine, reduce=total, setup_reduce=set_up)
    assert result.counters["records"] == {"seen": 400}
    assert result.counters["set up"] == {"calls": 1}
    assert "combine" not in result.counters


def test_files_left_out_whole_count_nothing(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "data", [["write\ta"] * 5000] * 3)
    victim = sorted(root.rglob("*.gz"))[1]
    victim.write_bytes(victim.read_bytes()[:-9])
    result = mapreduce(
        Job(map=count_all, reduce=total), data_dir=root, inline=True, skip_corrupt_files=True
    )
    assert result.counters == {"records": {"seen": 10_000}, "values": {"reduced": 10_000}}


@pytest.mark.parametrize("items", [True, False])
def test_the_output_is_the_same_with_and_without_counters(tmp_path: Path, items: bool) -> None:
    def quiet(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write(key, float(value))

    def counting(key: str, dims: list[str], value: str, context: Any) -> None:
        context.counter("a", "b")
        context.write(key, float(value))
        context.counter("a", "b", -1)
        context.counter("a", "c", True)

    def add(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    files = [[f"k{n % 7}\t{0.1 * n}" for n in range(3000)]] * 2
    outputs = []
    for number, user_map in enumerate((quiet, counting)):
        result = run(
            tmp_path / str(number), files, map=user_map, combine=add, reduce=add, spill_bytes=9000
        )
        outputs.append(list(result))
    assert outputs[0] == outputs[1]
    assert result.counters == {"a": {"b": 0, "c": 6000}}


BAD = [
    ((1, "n"), "the group is 1"),
    ((["a"], "n"), r"the group is \['a'\]"),
    (("g", None), "the name is None"),
    (("g", b"n"), "the name is b'n'"),
    (("g", "n", 1.5), "was given 1.5"),
    (("g", "n", 1 << 80), "of 81 bits"),
    (("g", "n", "2"), "was given '2'"),
    (("g" * 300, "n"), "300 characters"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
@pytest.mark.parametrize(
    "make", [MapContext, TextContext, ItemContext, lambda: CombineContext("k")]
)
def test_bad_arguments(make: Any, arguments: Any, message: str) -> None:
    context = make()
    with pytest.raises(CounterError, match=message):
        context.counter(*arguments)
    context.counter("g", "n")
    with pytest.raises(CounterError, match=message):
        context.counter(*arguments)


def test_bad_arguments_fail_the_job_and_name_the_record(tmp_path: Path) -> None:
    def count_badly(key: str, dims: list[str], value: str, context: Any) -> None:
        context.counter("g", 5)

    with pytest.raises(JobError, match=r"line 1\b.*the name is 5"):
        run(tmp_path, [["a\tb"]], map=count_badly)


def test_too_many_counters_are_an_error() -> None:
    context = MapContext()
    for number in range(1000):
        context.counter("g", str(number))
        if number == 500:
            context.keep_counts()
    context.keep_counts()
    context.counter("g", "7")
    with pytest.raises(CounterError, match=r"more than 1,000 counters.*'g', 'one more'"):
        context.counter("g", "one more")


def test_names_of_a_class_of_their_own_travel_as_text() -> None:
    class Name(str):
        __slots__ = ()

    context = TextContext()
    context.counter(Name("g"), Name("n"))
    ((group, name),) = context.counted
    assert type(group) is type(name) is str


def test_what_counts_is_told_to_who_calls_map() -> None:
    context = MapContext()
    context.counter("g", "n")
    context.counter("g", "n")
    assert context.hurry == [COUNTED]
    context.take_back(0)
    assert context.counted == {}
    with pytest.raises(AttributeError, match="counter"):
        _ = context.user.count


ONCE = """
import os, signal
def die(name):
    try:
        os.close(os.open({folder!r} + "/" + name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)
def map(key, dims, value, context):
    context.counter("map", "records")
    context.counter("map", "sum", int(value))
    context.write(key, int(value))
    if value == "55":
        die("map")
def reduce(key, values, context):
    context.counter("reduce", "keys")
    context.counter("reduce", "values", len(values))
    if key == "k3":
        die("reduce")
    context.write(key, sum(values))
"""


def test_tasks_that_are_tried_again_count_once(tmp_path: Path) -> None:
    write_tree(
        tmp_path / "data", [[f"k{n % 5}\t{10 * f + n}" for n in range(10)] for f in range(12)]
    )
    job = tmp_path / "job.py"
    job.write_text(ONCE.format(folder=str(tmp_path)))
    result = mapreduce(
        job, data_dir=tmp_path / "data", output=tmp_path / "out", num_mappers=2,
        num_reducers=3, work_dir=tmp_path / "work",
    )  # fmt: skip
    assert (tmp_path / "map").exists(), "else this test is void"
    assert (tmp_path / "reduce").exists(), "else this test is void"
    assert result.counters == {
        "map": {"records": 120, "sum": sum(range(120))},
        "reduce": {"keys": 5, "values": 120},
    }
    assert sorted(t.number for t in result.history.tasks if t.phase == "map") == list(range(12))
    workers = {task.worker for task in result.history.tasks}
    assert workers <= {"0", "1"}


RANDOM_DEATHS = """
import os, signal
VICTIMS = {victims!r}
def die(name):
    if name in VICTIMS:
        try:
            os.close(os.open({folder!r} + "/" + name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)
def map(key, dims, value, context):
    context.counter("map", "records")
    context.counter("map", key, int(value))
    context.write(key, int(value))
    die("map" + value)
    if int(value) % 7 == 0:
        raise ValueError(value)
def combine(key, values, context):
    context.counter("combine", "calls")
    context.write(key, sum(values))
def reduce(key, values, context):
    context.counter("reduce", "keys")
    die("reduce" + key)
    context.counter("reduce", "sum", sum(values))
    context.write(key, sum(values))
"""


@pytest.mark.slow
def test_20_runs_with_killed_workers(tmp_path: Path) -> None:
    numbers = range(480)
    write_tree(
        tmp_path / "data",
        [[f"k{n % 6}\t{n}" for n in numbers[start : start + 20]] for start in range(0, 480, 20)],
    )
    good = [n for n in numbers if n % 7]
    by_key = {f"k{key}": sum(n for n in good if n % 6 == key) for key in range(6)}
    expected = {
        "map": {"records": len(good), **by_key},
        "reduce": {"keys": 6, "sum": sum(good)},
    }
    for seed in range(20):
        chance = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        # One of a partition, as a task that dies of its record twice is given up.
        victims = {f"map{20 * n + chance.randrange(20)}" for n in chance.sample(range(24), 3)}
        victims.add(f"reducek{chance.randrange(6)}")
        job = folder / "job.py"
        job.write_text(RANDOM_DEATHS.format(victims=victims, folder=str(folder)))
        result = mapreduce(
            job, data_dir=tmp_path / "data", output=folder / "out", num_mappers=2,
            num_reducers=3, spill_bytes=2000, work_dir=folder / "work",
        )  # fmt: skip
        died = {path.name for path in folder.iterdir()} & victims
        assert died == victims, "else this test is void"
        assert result.counters == expected, seed
        assert (result.records, result.bad_records) == (480, 480 - len(good))
        mapped = [task for task in result.history.tasks if task.phase == "map"]
        assert sum(task.records for task in mapped) == 480
        assert len({task.number for task in mapped}) == len(mapped) == 24
        assert result.values == len(good)
