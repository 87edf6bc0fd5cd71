"""`mapreduce` equals an oracle in memory, whatever the plan, the budget and the processes."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import distributed
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import jobs
from support.jobs import counting_job, identity, oracle, write_tree

from daskmr import Job, mapreduce
from daskmr.errors import InputError

# Keys collide across types on purpose: 1, 1.0 and True; "1" and b"1"; NaN; -0.0 and 0.
ATOMS = st.sampled_from(
    [
        *(None, True, False, 0, 1, -1, 2, 10**20),
        *(0.0, -0.0, 1.0, 0.5, float("nan"), float("inf")),
        *("", "1", "a", "\u00e9", "\U00010000", "\ue000", "\ud800", "\udcff"),
        *(b"", b"1", b"a"),
    ]
) | st.integers(0, 300)
KEYS = ATOMS | st.lists(ATOMS, max_size=2).map(tuple)
FILES = st.lists(st.lists(st.tuples(KEYS, st.integers(-1000, 1000)), max_size=60), max_size=12)


def literal(text: str) -> Any:
    """Read a key back from a record: `repr` writes nan and inf as names."""
    return eval(text, {"__builtins__": {}}, {"nan": float("nan"), "inf": float("inf")})


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(literal(value), int(key))


def total(key: Any, values: list[int], context: Any) -> None:
    context.write(key, sum(values))


def listed(key: Any, values: list[int], context: Any) -> None:
    context.write(key, list(values))


def plain(pairs: Any) -> list[tuple[str, Any]]:
    return [(repr(key), value) for key, value in pairs]


def write_pairs(root: Path, files: list[list[tuple[Any, int]]]) -> None:
    write_tree(root, [[f"{value}\t{key!a}" for key, value in pairs] for pairs in files])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    files=FILES,
    combine=st.booleans(),
    combine_size=st.sampled_from([1, 2, 3, 50]),
    reducers=st.sampled_from([1, 2, 7]),
    partition_bytes=st.sampled_from([1, 1000, 1 << 24]),
    spill_bytes=st.sampled_from([1, 400, 3000, 1 << 26]),
)
def test_equals_the_oracle(
    files: list[list[tuple[Any, int]]],
    combine: bool,
    combine_size: int,
    reducers: int,
    partition_bytes: int,
    spill_bytes: int,
) -> None:
    reduce = total if combine else listed
    job = Job(map=emit, combine=total if combine else None, reduce=reduce)
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder) / "data", files)
        result = mapreduce(
            job,
            data_dir=Path(folder) / "data",
            inline=True,
            work_dir=os.path.join(folder, "work"),
            allow_empty=True,
            combine_size=combine_size,
            num_reducers=reducers,
            partition_bytes=partition_bytes,
            spill_bytes=spill_bytes,
        )
        assert plain(result) == plain(oracle([p for f in files for p in f], reduce))
        assert result.records == sum(map(len, files))
        assert result.bad_records == 0


SCRIPT = """
def map(key, dims, value, context):
    context.write(eval(value, {}, {"nan": float("nan"), "inf": float("inf")}), int(key))

def combine(key, values, context):
    context.write(key, sum(values))

def reduce(key, values, context):
    context.write(ascii(key), sum(values))
"""


@contextmanager
def cluster_with_random_seeds(folder: Path) -> Iterator[distributed.Client]:
    """Two worker processes without a nanny, which would pin the hash seed of both."""
    with ExitStack() as stack:

        def start(*arguments: str, seed: str) -> None:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]],
                env={
                    **os.environ,
                    "PYTHONHASHSEED": seed,
                    "DASK_LOGGING__DISTRIBUTED": "critical",
                },
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)

        address = folder / "scheduler.json"
        quiet = ("--no-dashboard", "--host", "127.0.0.1", "--scheduler-file", str(address))
        start("dask_scheduler", "--port", "0", *quiet, seed="1")
        for seed in ("2", "3"):
            start(
                "dask_worker", "--no-nanny", "--nthreads", "1", "--local-directory", str(folder),
                *quiet, seed=seed,
            )  # fmt: skip
        for _ in range(600):
            if address.exists() and address.stat().st_size:
                break
            stack.enter_context(_pause(0.05))
        client = stack.enter_context(distributed.Client(scheduler_file=str(address)))
        client.wait_for_workers(2)
        seeds = client.run(lambda: hash("a"))
        assert len(set(seeds.values())) == 2, "the workers must not hash alike"
        yield client


@contextmanager
def _pause(seconds: float) -> Iterator[None]:
    import time

    time.sleep(seconds)
    yield


@pytest.mark.slow
def test_equals_the_oracle_across_processes_that_hash_differently(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(SCRIPT)
    strategy = st.lists(
        st.lists(st.tuples(KEYS, st.integers(-1000, 1000)), min_size=1, max_size=60),
        min_size=3,
        max_size=8,
    )
    with cluster_with_random_seeds(tmp_path) as client:

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
        @given(strategy, st.sampled_from([1, 5]), st.sampled_from([1, 1 << 26]))
        def check(files: list[list[tuple[Any, int]]], reducers: int, spill_bytes: int) -> None:
            with tempfile.TemporaryDirectory() as folder:
                write_pairs(Path(folder) / "data", files)
                result = mapreduce(
                    script,
                    data_dir=Path(folder) / "data",
                    client=client,
                    work_dir=os.path.join(folder, "work"),
                    num_reducers=reducers,
                    spill_bytes=spill_bytes,
                )

                def as_script(key: Any, values: list[int], context: Any) -> None:
                    context.write(ascii(key), sum(values))

                expected = oracle([p for f in files for p in f], as_script)
                assert list(result) == expected

        check()
        assert len(client.scheduler_info()["workers"]) == 2, "the cluster is left as it was"


def test_keys_of_the_strategy_do_collide() -> None:
    assert identity(1) == identity(True) == identity(1.0) != identity("1") != identity(b"1")
    assert ast.literal_eval(ascii("\ud800")) == "\ud800"


def test_an_iterated_result_can_be_iterated_again(tree: Any, tmp_path: Path) -> None:
    data = tree([["b\t", "a\t", "b\t"]])
    result = mapreduce(counting_job(), data_dir=data, inline=True, work_dir=tmp_path / "work")
    assert list(result) == list(result) == [("a", 1), ("b", 2)]


def test_inline_and_client_exclude_each_other(tree: Any) -> None:
    with pytest.raises(InputError, match="both client and inline"):
        mapreduce(counting_job(), data_dir=tree([["a\t"]]), inline=True, client=object())


def test_a_memory_limit_too_small_for_the_budget_is_an_error(tree: Any) -> None:
    with pytest.raises(InputError, match="too small for spill-bytes"):
        mapreduce(counting_job(), data_dir=tree([["a\t"]]), memory_limit="200MB")


def test_a_small_budget_spills_and_a_large_one_does_not(tree: Any, tmp_path: Path) -> None:
    data = tree([[f"{number % 50}\t" for number in range(500)] for _ in range(3)])
    for spill_bytes, spilled in [(1000, True), (1 << 26, False)]:
        result = mapreduce(
            counting_job(),
            data_dir=data,
            inline=True,
            spill_bytes=spill_bytes,
            work_dir=tmp_path / "work",
        )
        assert (result.spilled > 0) == spilled
        assert dict(result) == {str(number): 30 for number in range(50)}


def test_a_group_beyond_the_budget_is_a_sequence_backed_by_its_file(
    tree: Any, tmp_path: Path
) -> None:
    values = list(range(40_000))
    files = [[f"{value}\t" for value in values[start::4]] for start in range(4)]
    expected = [value for start in range(4) for value in values[start::4]]

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write("hot", int(key))

    def reduce(key: Any, values: Any, context: Any) -> None:
        assert type(values).__name__ == "SpilledValues"
        assert len(values) == 40_000
        assert list(values) == list(values) == expected
        assert list(reversed(values)) == expected[::-1]
        for index in (0, 1, 9_999, 10_000, 39_999, -1, -40_000):
            assert values[index] == expected[index]
        for cut in (slice(5, 9), slice(None, None, 7_001), slice(30_000, 2, -999), slice(9, 5)):
            assert values[cut] == expected[cut]
        assert 12_345 in values
        with pytest.raises(IndexError):
            values[40_000]
        for change in ("sort", "append", "pop", "reverse"):
            with pytest.raises(TypeError, match=r"sorted\(values\)"):
                getattr(values, change)(1)
        with pytest.raises(TypeError, match="cannot be changed"):
            values[0] = 1
        context.write(key, sum(values))

    result = mapreduce(
        Job(map=map_, reduce=reduce),
        data_dir=tree(files),
        inline=True,
        spill_bytes=200_000,
        work_dir=tmp_path / "work",
    )
    assert list(result) == [("hot", sum(values))]


def test_partitions_are_mapped_in_the_order_that_was_chosen(tmp_path: Path) -> None:
    """Which Dask takes from annotations; the first is given out before they are looked at."""
    lines = [[f"k\t{n}" * (1 + n % 5)] for n in range(60)]
    write_tree(tmp_path / "data", lines)
    result = mapreduce(
        counting_job(), data_dir=tmp_path / "data", work_dir=tmp_path / "work", num_mappers=1
    )
    spans = sorted((t for t in result.history.tasks if t.phase == "map"), key=lambda t: t.start)
    ran = [span.number for span in spans]
    sizes = {span.number: span.bytes for span in spans}
    first_late = len(ran) - len(ran) // 4
    early = [number for number in ran[1:] if number < first_late]
    late = [number for number in ran[1:] if number >= first_late]
    assert ran[1:] == early + late
    assert early == sorted(early)
    assert [sizes[n] for n in late] == sorted((sizes[n] for n in late), reverse=True)
    assert len(ran) > 32


def test_a_job_in_this_process_imports_no_distributed(tmp_path: Path) -> None:
    write_tree(tmp_path / "data", [["a\t1"], ["a\t2"]])
    code = (
        "import sys\nfrom daskmr import mapreduce\nfrom support.jobs import counting_job\n"
        "result = mapreduce(counting_job(), data_dir='data', inline=True, work_dir='work')\n"
        "print(list(result), 'distributed' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(jobs.__file__))}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout == "[('a', 2)] False\n", done.stderr
