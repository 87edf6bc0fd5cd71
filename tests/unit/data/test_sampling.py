"""A part of the input is the same each time for one seed, and says that it is a part."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import DIRECTORY, file_name, write_tree

from daskmr import Job, mapreduce
from daskmr.data.listing import InputFile
from daskmr.data.sampling import Choice, KeyFilter
from daskmr.diagnostics.summary import summarise
from daskmr.errors import InputError
from daskmr.run.provenance import read_meta
from daskmr.run.result import Result

NAMES = st.lists(st.text("ab/\udcff", min_size=1, max_size=6), unique=True, max_size=40)


def files_of(names: list[str]) -> list[InputFile]:
    return [InputFile(name, 1, ()) for name in names]


@given(NAMES, st.integers(1, 50), st.integers(-5, 5))
def test_so_many_files_in_their_order(names: list[str], limit: int, seed: int) -> None:
    files = files_of(names)
    chosen = Choice(limit_files=limit, seed=seed).files(files)
    assert len(chosen) == min(limit, len(files))
    assert [file for file in files if file in chosen] == list(chosen)
    assert Choice(limit_files=limit, seed=seed).files(files[::-1]) == chosen[::-1]
    assert set(chosen) <= set(Choice(limit_files=limit + 1, seed=seed).files(files))


@given(NAMES.filter(bool), st.floats(0.001, 1.0))
def test_a_share_of_the_files_is_one_at_least(names: list[str], share: float) -> None:
    chosen = Choice(share=share).files(files_of(names))
    assert 1 <= len(chosen) <= share * len(names) + 1
    assert len(Choice(share=1e-12).files(files_of(names))) == 1


def test_another_seed_chooses_others() -> None:
    files = files_of([f"f{n}" for n in range(100)])
    chosen = {Choice(share=0.2, seed=seed).files(files) for seed in range(20)}
    assert len(chosen) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit_files": 0}, "limit-files"),
        ({"limit_files": True}, "limit-files"),
        ({"share": 0.0}, "fraction above 0"),
        ({"share": 1.5}, "fraction above 0"),
        ({"share": float("nan")}, "fraction above 0"),
        ({"share": "1%"}, "fraction above 0"),
        ({"seed": "x", "share": 0.5}, "seed"),
        ({"by": "line", "share": 0.5}, "sample-by"),
        ({"by": "key"}, "no effect without sample"),
        ({"limit_files": 3, "share": 0.5}, "give one of them"),
    ],
)
def test_what_is_no_choice(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Choice(**options)


def test_named_files() -> None:
    files = files_of(["a", "b", "c"])
    assert Choice(only=("c", "./a")).files(files) == (files[0], files[2])
    with pytest.raises(InputError, match="not among the 3 files of the input: x"):
        Choice(only=("a", "x")).files(files)


def test_keys_are_chosen_alike_in_every_process() -> None:
    keys = KeyFilter(1 << 29, 12345)
    here = [n for n in range(2000) if keys.takes(f"k{n}")]
    code = (
        "from daskmr.data.sampling import KeyFilter; k = KeyFilter(1 << 29, 12345);"
        "print([n for n in range(2000) if k.takes(f'k{n}')])"
    )
    env = {"PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout.decode() == f"{here}\n"
    assert 200 < len(here) < 300


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_a_share_of_the_keys(share: float) -> None:
    for seed in range(3):
        keys = Choice(share=share, by="key", seed=seed).keys
        assert keys is not None
        taken = sum(keys.takes(f"{n:x}") for n in range(20_000))
        assert abs(taken / 20_000 - share) <= 0.1 * share


# --- jobs -----------------------------------------------------------------------------------------


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.counter("records", "seen")
    context.write(key, int(value))


def values_of(key: Any, values: Any, context: Any) -> None:
    context.write(key, list(values))


def run(root: Path, **options: Any) -> Result:
    return mapreduce(
        Job(map=emit, reduce=values_of),
        data_dir=root / "data",
        inline=options.pop("inline", True),
        work_dir=root / "work",
        **options,
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    lines = [*(f"k{n}\t{n}" for n in range(200)), *(f"untabbed {n}" for n in range(100)), "k\tx"]
    write_tree(tmp_path / "data", [lines] * 8)
    return tmp_path


def test_a_sample_of_files(root: Path) -> None:
    result = run(root, sample=0.25, seed=3, output=root / "out")
    assert (result.files, result.records) == (2, 2 * 301)
    assert result.sample == "25% of the files (2), chosen with seed 3"
    assert f"sample   {result.sample}" in summarise(result)
    assert read_meta(str(root / "out.meta.json"))["sample"] == {
        "only": [], "limit_files": None, "share": 0.25, "seed": 3, "by": "file",
    }  # fmt: skip
    assert run(root, limit_files=3).files == 3


def test_a_sample_of_keys_is_whole_for_each_key_and_counts_right(root: Path) -> None:
    everything = dict(run(root))
    result = run(root, sample=0.3, sample_by="key", seed=1)
    some = dict(result)
    assert 30 < len(some) < 90
    assert all(some[key] == everything[key] for key in some)
    assert result.files == 8
    assert result.counters == {"records": {"seen": 8 * len(some)}}, "a bad record counts nothing"
    untabbed = result.bad_reasons["no tab in the line"]
    assert 8 * 15 < untabbed < 8 * 45
    assert result.records == 8 * len(some) + result.bad_records
    lines = {record.line for record in result.saved_bad_records}
    assert lines <= set(range(201, 302)), "lines are numbered as they are in the file"


def test_workers_choose_the_same_keys(root: Path) -> None:
    options: dict[str, Any] = {"sample": 0.2, "sample_by": "key"}
    inline = run(root, output=root / "inline", **options)
    workers = run(root, output=root / "workers", inline=False, num_mappers=2, **options)
    assert (root / "inline").read_bytes() == (root / "workers").read_bytes()
    assert inline.records == workers.records


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"limit_files": 3}, 5),
        ({"sample": 0.5}, 4),
        ({"only": [f"{DIRECTORY}/{file_name(2)}"]}, 7),
        ({"sample": 0.5, "sample_by": "key"}, 8),
        ({"sample": 1.0, "sample_by": "key"}, 8),
    ],
)
def test_nothing_is_deleted_that_was_not_mapped_whole(
    root: Path, options: dict[str, Any], left: int
) -> None:
    result = run(root, output=root / "out", delete_data=True, **options)
    assert len(list((root / "data").rglob("*.gz"))) == left
    assert result.deleted == 8 - left


def test_a_line_that_is_too_long_is_in_a_sample_of_keys_or_not(root: Path) -> None:
    place = root / "data" / DIRECTORY
    for number in range(60):
        (place / file_name(100 + number)).write_bytes(gzip.compress(b"x" * 5000 + b"\n", 1))
    result = run(root, sample=0.5, sample_by="key", max_record_bytes=1000)
    assert 10 < result.bad_reasons["longer than max-record-bytes"] < 50
