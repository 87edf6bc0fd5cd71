"""Estimates from a sample: in proportion where that is right, and honest where there is nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daskmr import Job
from daskmr.counts import Counts
from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile, list_files
from daskmr.data.partition import plan_partitions
from daskmr.data.sampling import Choice
from daskmr.job.loading import load_job
from daskmr.run.estimate import Sample, estimate, map_sample

MANY = [[f"k{n}-{m}\t{m}" for m in range(50)] for n in range(20)]


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, int(value))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def local(root: Path) -> list[tuple[InputFile, str]]:
    return [(f, str(root / f.path)) for f in list_files(root, load_schema()).files]


def test_all_of_a_small_input_is_mapped(tree: Callable[..., Path]) -> None:
    files = local(tree([*MANY, ["bad", "k\tx"]]))
    sample = map_sample(Job(map=emit, reduce=total), files, 10)
    assert (sample.files, sample.records, sample.pairs, sample.keys) == (21, 1002, 1000, 1000)
    assert sample.bytes == sum(file.size for file, _ in files)
    assert sample.bad_reasons == {"no tab in the line": 1, "ValueError": 1}
    assert sample.bad_records == 2
    assert sample.held > 1000 * 50
    assert 0 < sample.packed < sample.held


def test_of_a_sample_of_the_keys_only_these_are_mapped(tree: Callable[..., Path]) -> None:
    keys = Choice(share=0.3, by="key").keys
    lines = [f"{number}\t1" for number in range(200)]
    files = local(tree([[*lines, "no tab"]]))
    sample = map_sample(Job(map=emit, reduce=total), files, 10, keys=keys)
    assert keys is not None
    taken = sum(keys.takes(str(number)) for number in range(200))
    assert (sample.records, sample.pairs, sample.keys) == (taken + 1, taken, taken)
    assert sample.bad_records == 1


def test_a_sample_ends_when_the_time_is_over(tree: Callable[..., Path]) -> None:
    def slow(key: str, dims: list[str], value: str, context: Any) -> None:
        time.sleep(0.005)
        context.write(key, 1)

    sample = map_sample(Job(map=slow, reduce=total), local(tree(MANY)), 0.1)
    assert 0 < sample.files < 20
    assert 0 < sample.records < 200
    assert sample.failure == ""


def test_a_record_that_takes_for_ever_is_stopped(tree: Callable[..., Path]) -> None:
    job = Job(map=lambda key, dims, value, context: time.sleep(60))
    sample = map_sample(job, local(tree(MANY)), 0.05)
    assert "line 1, and was stopped" in sample.failure


@pytest.mark.parametrize("name", ["exit", "key"])
def test_a_map_that_fails_is_told_and_not_raised(name: str, tree: Callable[..., Path]) -> None:
    def fail(key: str, dims: list[str], value: str, context: Any) -> None:
        raise SystemExit(0) if name == "exit" else KeyError(key)

    sample = map_sample(Job(map=fail, reduce=total), local(tree(MANY)), 1)
    assert sample.failure.startswith("map failed at ")
    assert "Traceback" in sample.details
    assert estimate(sample, [], workers=1, spill_bytes=1 << 26, grouped=True) is None


def test_values_of_a_class_of_the_script(tmp_path: Path, tree: Callable[..., Path]) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "class Row:\n    def __init__(self, text): self.text = text\n"
        "def map(key, dims, value, context): context.write(key, Row(value))\n"
        "def reduce(key, values, context): context.write(key, len(values))\n"
    )
    sample = map_sample(load_job(script), local(tree(MANY)), 10)
    assert (sample.failure, sample.pairs) == ("", 1000)


def test_a_combine_that_fails_on_the_last_values_is_told(tree: Callable[..., Path]) -> None:
    def fail(key: Any, values: Any, context: Any) -> None:
        raise KeyError(key)

    files = local(tree([["k\t1"] * 50]))
    sample = map_sample(Job(map=emit, combine=fail, reduce=total), files, 10, combine_size=10)
    assert sample.failure.startswith("combine failed for the key 'k': KeyError")
    assert "Traceback" in sample.details


def test_damaged_files_are_named_and_left_out(tree: Callable[..., Path]) -> None:
    files = local(tree(MANY))
    Path(files[0][1]).write_bytes(b"no gzip")
    sample = map_sample(Job(map=emit, reduce=total), files, 10)
    assert (sample.files, sample.records) == (19, 950)
    assert len(sample.corrupt) == 1
    assert "damaged" in sample.corrupt[0]


def test_a_file_that_is_gone_is_told(tree: Callable[..., Path]) -> None:
    files = local(tree(MANY))
    Path(files[0][1]).unlink()
    sample = map_sample(Job(map=emit, reduce=total), files, 1)
    assert sample.failure.endswith("cannot be read: No such file or directory.")


def forecast(sample: Sample, sizes: list[int], workers: int | None, grouped: bool = True) -> Any:
    plan = plan_partitions([InputFile(f"{n:05}.gz", size, ()) for n, size in enumerate(sizes)])
    return estimate(sample, plan, workers=workers, spill_bytes=64 << 20, grouped=grouped)


def test_estimates_are_in_proportion() -> None:
    sample = Sample(Counts(1, 1000, 10), pairs=20, seconds=2.0, held=500, packed=100)
    made = forecast(sample, [1000] * 64, 4)
    assert (made.records, made.pairs) == (640, 1280)
    assert made.worker_seconds == pytest.approx(128)
    assert made.map_seconds == pytest.approx(32)
    assert (made.spilled, made.output) == (0, None)
    assert forecast(sample, [1000] * 64, None).map_seconds is None


def test_the_largest_partition_is_a_bound() -> None:
    sample = Sample(Counts(1, 1000, 10), pairs=20, seconds=1.0)
    assert forecast(sample, [100_000, *[1000] * 20], 32).map_seconds == pytest.approx(100)


def test_memory_stays_below_what_is_spilled() -> None:
    sample = Sample(Counts(1, 1000, 9), pairs=9, seconds=1.0, held=10**6, packed=10**5)
    made = forecast(sample, [1_000_000] * 10, 2)
    assert made.memory == 150_000_000 + (64 << 20)
    assert made.spilled == pytest.approx(10 * 10**9 / 10, rel=0.01)
    few_keys = Sample(
        Counts(1, 1000, 9), pairs=9, seconds=1.0, held=10**6, packed=10**5, growth=0.0
    )
    assert forecast(few_keys, [1_000_000] * 10, 2).memory == 151_000_000


def test_the_output_of_a_map_only_job() -> None:
    sample = Sample(Counts(1, 1000, 9), pairs=9, seconds=1.0, text_bytes=500)
    assert forecast(sample, [1000] * 10, 2, grouped=False).output == 5000


def test_lines_of_a_map_only_job_are_measured(tree: Callable[..., Path]) -> None:
    sample = map_sample(Job(map=emit), local(tree([["ab\t12"] * 10])), 5)
    assert (sample.pairs, sample.text_bytes, sample.held) == (10, 60, 0)
