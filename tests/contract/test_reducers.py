"""Ready-made reducers in jobs: the same bytes however a run is divided, in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.dask_cluster import DaskCluster

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.job.loading import load_job
from daskmr.reducers import collect, distinct, mean, total
from daskmr.run.check import check_script

FILES = [[f"{'ab'[n % 2]}\t{n * 0.1 + part}" for n in range(80)] for part in range(4)]
VALUES = {
    key: [float(line[2:]) for lines in FILES for line in lines if line[0] == key] for key in "ab"
}
SCRIPT = """
from daskmr.reducers import *

reduce = {reducer}
combine = {combine}

def map(key, dims, value, context):
    context.write(key, float(value))
"""
ALL = (
    "count", "total", "mean", "minimum", "maximum", "top(3)", "quantiles(0.5)", "quantiles(0.5, 0.99)",
    "distinct", "histogram([1, 5])", "collect",
)  # fmt: skip


def script(folder: Path, reducer: str, combine: str = "reduce.combine") -> Path:
    path = folder / "job.py"
    path.write_text(SCRIPT.format(reducer=reducer, combine=combine))
    return path


@pytest.mark.parametrize("reducer", ALL)
def test_no_division_of_a_run_changes_a_byte(
    tree: Callable[..., Path], tmp_path: Path, reducer: str
) -> None:
    root = tree(FILES)
    texts = set()
    for combine, options in (
        ("None", {}),
        ("reduce.combine", {}),
        ("reduce.combine", {"combine_size": 2, "partition_bytes": 1}),
        ("None", {"spill_bytes": 2000, "partition_bytes": 1}),
        ("reduce.combine", {"combine_size": 3, "spill_bytes": 2000, "num_reducers": 3}),
    ):
        job = script(tmp_path, reducer, combine)
        mapreduce(job, data_dir=root, output=tmp_path / "out.txt", inline=True, **options)
        texts.add((tmp_path / "out.txt").read_text())
    assert len(texts) == 1
    assert {line.split("\t")[0] for line in texts.pop().splitlines()} == {"a", "b"}


def test_what_each_format_holds(tree: Callable[..., Path], tmp_path: Path) -> None:
    root, low = tree(FILES), [min(VALUES["a"]), min(VALUES["b"])]

    def run(reducer: str, name: str) -> Path:
        mapreduce(script(tmp_path, reducer), data_dir=root, output=tmp_path / name, inline=True)
        return tmp_path / name

    rows = run("minimum", "out.csv").read_text().splitlines()
    assert rows == ["key,value", f"a,{low[0]}", f"b,{low[1]}"]
    rows = run("quantiles(0.5, 0.99)", "out.csv").read_text().splitlines()
    assert rows[0] == "key,p50,p99"
    first = json.loads(run("collect", "out.jsonl").read_text().splitlines()[0])
    assert first == {"key": "a", "value": VALUES["a"]}
    table = pq.read_table(run("collect", "out.parquet"))
    assert table.to_pylist()[1] == {"key": "b", "value": VALUES["b"]}
    table = pq.read_table(run("top(2)", "out.parquet"))
    assert table.to_pylist()[0] == {"key": "a", "value": max(VALUES["a"])}
    assert table.num_rows == 4
    table = pq.read_table(run("histogram([1])", "out.parquet"))
    assert table.to_pylist()[0] == {"key": "a", "..1": 5, "1..": 155}


def test_what_collect_writes_is_one_cell_in_memory(tree: Callable[..., Path]) -> None:
    result = mapreduce(map=emit, reduce=collect, data_dir=tree(FILES), inline=True)
    assert [*result.to_pandas()] == [*result.to_arrow().column_names] == ["key", "value"]
    assert result.to_arrow()["value"][0].as_py() == [float(each) for each in VALUES["a"]]
    assert str(result.to_dict()["a"]).startswith("[")


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, float(value))


def test_functions_of_a_notebook(tree: Callable[..., Path]) -> None:
    job = Job(map=lambda *args: emit(*args), combine=mean.combine, reduce=mean)
    assert [*job.files] == [__file__]  # those of the user alone
    found = mapreduce(job, data_dir=tree(FILES), inline=True).to_dict()
    assert found == {key: pytest.approx(sum(values) / 160) for key, values in VALUES.items()}


@pytest.mark.parametrize("reducer", ["total", "top(3)", "quantiles(0.5)"])
def test_on_workers(
    tree: Callable[..., Path], tmp_path: Path, dask_cluster: DaskCluster, reducer: str
) -> None:
    job, root = script(tmp_path, reducer), tree(FILES)
    mapreduce(job, data_dir=root, output=tmp_path / "inline.txt", inline=True)
    mapreduce(
        job,
        data_dir=root,
        output=tmp_path / "out.txt",
        scheduler=dask_cluster.address,
        partition_bytes=1,
        combine_size=2,
    )
    assert (tmp_path / "out.txt").read_bytes() == (tmp_path / "inline.txt").read_bytes()


def test_a_value_of_another_type_is_named_with_its_key(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "job.py"
    for combine in ("None", "reduce.combine"):
        path.write_text(
            SCRIPT.format(reducer="total", combine=combine).replace("float(value)", "value")
        )
        with pytest.raises(JobError) as caught:
            mapreduce(
                path, data_dir=tree([["a\tten", "a\t11"]]), output=tmp_path / "out.txt", inline=True
            )
        assert (
            "failed for the key 'a': TypeError: total takes numbers, but was given 'ten', of type str. "
            "Convert it in map, or do not write it."
        ) in str(caught.value)
        assert "reducers" not in caught.value.details


@pytest.mark.parametrize(
    ("reducer", "combine", "advice"),
    [
        ("top", "None", "given none. Write `reduce = top(...)`, and `combine = reduce.combine`."),
        ("quantiles", "None", "Write `reduce = quantiles(...)`, and `combine = reduce.combine`."),
        ("top(3)", "top", "Write `reduce = top(...)`, and `combine = reduce.combine`."),
        ("top(3)", "top.combine", "Write `reduce = top(...)`, and `combine = reduce.combine`."),
        ("top(3)", "top(2).combine", "of `top(2).combine`. Write `combine = top(3).combine`."),
        ("mean", "total.combine", "Write `combine = mean.combine`."),
        ("mean", "mean", "`combine` is mean. Write `combine = mean.combine`."),
        ("total.combine", "total.combine", "`reduce` is total.combine. Write `reduce = total`."),
        ("total()", "None", "not called in the script: write `reduce = total`."),
        ("distinct(100)", "None", "and `distinct.up_to(100)`."),
        ("quantiles(50)", "None", "takes different probabilities from 0 to 1"),
    ],
)
def test_a_reducer_that_is_not_used_as_meant_is_an_error(
    tmp_path: Path, reducer: str, combine: str, advice: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_job(script(tmp_path, reducer, combine))
    assert advice in str(caught.value)
    assert "no record is skipped" not in str(caught.value)


def test_parts_of_another_reducer_are_an_error(tree: Callable[..., Path]) -> None:
    def pass_on(key: Any, values: Any, context: Any) -> None:
        distinct(key, values, context)

    job = Job(map=emit, combine=total.combine, reduce=pass_on)
    other = Job(map=emit, combine=mean.combine, reduce=pass_on)
    with pytest.raises(JobError, match="was given a partial result of mean"):
        mapreduce(other, data_dir=tree(FILES), inline=True, combine_size=2)
    with pytest.raises(JobError, match="was given a partial result of total"):
        mapreduce(job, data_dir=tree(FILES), inline=True, combine_size=3)


@pytest.mark.parametrize("reducer", ALL)
def test_check_tries_them(tree: Callable[..., Path], tmp_path: Path, reducer: str) -> None:
    said: list[tuple[str, str]] = []
    job, root = script(tmp_path, reducer), tree(FILES)
    assert check_script(job, lambda *each: said.append(each), data_dir=root) == 0
    assert ("script", f"{job} defines map, combine, reduce") in said
