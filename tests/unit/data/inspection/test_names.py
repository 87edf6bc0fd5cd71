"""The layout that is inferred from paths."""

from __future__ import annotations

import pytest

from daskmr.data.inspection.names import Guess, guess_layout, layout_of, misfits
from daskmr.data.readers.suffixes import EXTENSIONS

READ = EXTENSIONS | {"csv", "parquet"}


@pytest.mark.parametrize(
    ("paths", "spec"),
    [
        (["2024-01-30/web1/access.log.gz"], "{day:date}/{host}/access.log.gz"),
        (["2024-01-30/api1/a.log", "2024-01-30/static1/a.log"], "{day:date}/{host}/a.log"),
        (
            ["logs/2024/01/31/web1/access.log", "logs/2024/02/01/web2/access.log"],
            "logs/{year:int}/{month:int}/{day:int}/{host}/access.log",
        ),
        (["2025/01/rides.csv"], "{year:int}/{month:int}/rides.csv"),
        (["a.jsonl", "b.jsonl"], "flat"),
        (["part-0.jsonl", "part-1.jsonl"], "flat"),
        (["rides.csv"], "flat"),
        (["part-00000", "part-00001"], "part-{part:int}"),
        (["access-2024-01-31.log", "access-2024-02-01.log"], "access-{day:date}.log"),
        (
            ["access-web1-2024-01-31.log.gz", "access-web2-2024-02-01.log.gz"],
            "access-{host}-{day:date}.log.gz",
        ),
        (["2024013107.log", "2024013108.log"], "{hour:%Y%m%d%H}.log"),
        (
            ["2024/01/31/07.jsonl", "2024/01/31/08.jsonl"],
            "{year:int}/{month:int}/{day:int}/{hour:int}.jsonl",
        ),
        (["2024/01/31/07.jsonl"], "{year:int}/{month:int}/{day:int}/{hour:int}.jsonl"),
        (["2024-01-31/07.out", "2024-02-01/23.out"], "{day:date}/{hour:int}.out"),
        (["2024/01.csv.gz", "2024/12.csv.gz"], "{year:int}/{month:int}.csv.gz"),
        (["2024/1/31/00.log", "2024/2/1/00.log"], "{year:int}/{month:int}/{day:int}/00.log"),
        (["2024/01/31/07.csv", "2024/01/31/24.csv"], "{year:int}/{month:int}/{day:int}/{_}"),
        (["a/07.csv", "a/08.csv"], "a/{_}"),
        (["table/dt=2024-01-31/0.parquet"], "table/dt={dt:date}/{_}"),
        (["us-east-1/20240131/a.log", "eu-west-2/20240131/b.log"], "{name1}/{day:date}/{_}"),
        (["shard-1/x.out", "shard-2/y.out"], "shard-{shard:int}/{_}.out"),
        (["10.0.0.1/sys.log", "10.0.0.2/sys.log"], "{host}/sys.log"),
        (["{a}/x.log", "{b}/x.log"], "{name1}/x.log"),
        (["2024-01-30/{x}.log"], "{day:date}/{{x}}.log"),
        (["2024-01-30/a/x.log", "2024-01-30/y.log"], "{day:date}/{_...}"),
        (["a/x.txt", "b/c/y.txt"], "flat"),
        (
            [f"{kind}.2024-01-{day:02}.log" for kind in ("app", "db") for day in range(1, 5)],
            "{name1}.{day:date}.log",
        ),
        ([], "flat"),
    ],
)
def test_templates(paths: list[str], spec: str) -> None:
    guess = guess_layout(paths, READ)
    assert guess is not None
    assert guess.spec == spec
    assert not misfits(layout_of(guess, paths), paths, READ)


def test_the_packaged_layout_needs_its_dates() -> None:
    there = "idle/Firefox/nightly/28.0/20131029030201.20131102.4f2e.log.gz"
    assert guess_layout([there]) == Guess(None)
    guess = guess_layout(["2024/01/31/web1/access.log.gz"])  # as deep, with as many dots
    assert guess is not None
    assert guess.spec == "{year:int}/{month:int}/{day:int}/{host}/access.log.gz"


@pytest.mark.parametrize(
    ("paths", "typed"),
    [
        (["dt=2024-01-30/hour=07/a.log"], "dt={dt:date}/hour={hour:int}/{_}"),
        (["city=S%C3%A3o/a.log"], ""),
        (["n=1/a.log", "n=__HIVE_DEFAULT_PARTITION__/a.log"], ""),
        (["my.key=1/a.log"], ""),
    ],
)
def test_hive(paths: list[str], typed: str) -> None:
    assert guess_layout(paths) == Guess("hive", typed)
    assert layout_of(Guess("hive"), paths).field_names[0] == paths[0].partition("=")[0]


def test_directories_of_several_names_are_no_hive() -> None:
    guess = guess_layout(["a=1/x.log", "b=1/x.log"])
    assert guess is not None
    assert guess.spec != "hive"


@pytest.mark.parametrize("paths", [["a/x.bin", "b/c/y.bin"], ["app.log", "app.log.1"], ["a", "b"]])
def test_files_that_no_layout_lists(paths: list[str]) -> None:
    assert guess_layout(paths) is None


def test_a_few_files_may_be_left_out() -> None:
    paths = [f"2024-01-{day:02}/web1/access.log" for day in range(1, 31)]
    guess = guess_layout([*paths, "notes.log"])
    assert guess is not None
    assert guess.spec == "{day:date}/{host}/access.log"
    assert misfits(guess.layout, [*paths, "notes.log"]) == ["notes.log"]
