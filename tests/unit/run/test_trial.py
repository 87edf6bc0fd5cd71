"""The user's functions over one record after the other, as a run would call them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import counting_job, file_name, write_tree

from daskmr import Job, mapreduce
from daskmr.config import load_config
from daskmr.data.inputs import find_inputs
from daskmr.data.layout import load_schema
from daskmr.data.readers.records import RecordFormat
from daskmr.data.sources.given import parse_sources
from daskmr.errors import TaskFailed
from daskmr.run.trial import Bad, Trial, first_records, read_records, text_of

LINES = ["b\t1", "a\t2", "no tab", "b\tx\r", "a\t4", "a\t"]


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, value)
    context.write("all", int(value))


def join(key: str, values: list[Any], context: Any) -> None:
    context.write(key, "+".join(map(str, values)))


def tried(job: Job, lines: list[str]) -> tuple[Trial, list[Bad | None]]:
    trial = Trial(job)
    return trial, [trial.map("f", [], n, line) for n, line in enumerate(lines, 1)]


def test_it_is_what_a_run_makes_of_the_same_records(tmp_path: Path) -> None:
    job = Job(map=emit, reduce=join)
    write_tree(tmp_path, [LINES])
    result = mapreduce(job, data_dir=tmp_path, inline=True, work_dir=tmp_path / "w")
    path = next(tmp_path.rglob(file_name(0)))
    trial = Trial(job)
    bad = [trial.map("f", [], *record) for record in read_records(str(path), 1 << 30)]
    assert trial.items(trial.groups) == list(result)
    assert sum(each is not None for each in bad) == result.bad_records == 3


def test_what_a_bad_record_has_written_is_taken_back() -> None:
    trial, bad = tried(Job(map=emit, reduce=join), LINES)
    assert [each and each.reason for each in bad] == [
        *(None, None, "no tab in the line", "ValueError", None, "ValueError"),
    ]
    assert trial.groups == {"b": ["1"], "all": [1, 2, 4], "a": ["2", "4"]}


def test_what_was_written_since() -> None:
    trial, _ = tried(Job(map=emit, reduce=join), LINES[:1])
    mark = len(trial.pending)
    trial.map("f", [], 2, "b\t7")
    assert trial.written_since(mark) == [("b", "7"), ("all", 7)]


def test_what_was_written_since_keeps_the_order_of_write_each() -> None:
    def each(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write("first", 0)
        context.write_each(value.split(), 1)
        context.write("last", 0)

    trial, _ = tried(Job(map=each, reduce=join), ["k\tb c"])
    mark = len(trial.pending)
    trial.map("f", [], 2, "k\tb a b")
    assert trial.written_since(mark) == [("first", 0), ("b", 1), ("a", 1), ("b", 1), ("last", 0)]


def test_a_map_only_job_writes_lines_after_the_header() -> None:
    job = Job(map=emit, setup_reduce=lambda context: context.writeline("head"))
    trial, bad = tried(job, ["b\t1", "b\tx"])
    assert trial.header == ("head\n",)
    assert trial.pending == ["b\t1\n", "all\t1\n"]
    assert bad[1] is not None


def test_other_exceptions_name_the_place() -> None:
    with pytest.raises(TaskFailed, match=r"map failed at f, line 1: KeyError: 'k'"):
        tried(Job(map=lambda key, dims, value, context: {}[key]), ["k\tv"])


def test_combine_and_reduce() -> None:
    def total(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    job = Job(map=lambda k, d, v, c: c.write(k, int(v)), combine=total, reduce=total)
    trial, _ = tried(job, ["a\t1", "b\t2", "a\t3"])
    (one,) = trial.combined()
    assert (one.key, list(one.values), list(one.combined)) == ("a", [1, 3], [4])
    assert trial.outputs(trial.groups)[""] == ["a\t4\n", "b\t2\n"]
    assert trial.combine("b", [2]) == [2], "a single value is never combined"


def test_reduce_failures_name_the_key() -> None:
    job = Job(map=lambda k, d, v, c: c.write(k, 1), reduce=lambda k, v, c: 1 / 0)
    trial, _ = tried(job, ["a\t1"])
    with pytest.raises(TaskFailed, match=r"reduce failed for the key 'a': ZeroDivisionError"):
        trial.outputs(trial.groups)


def test_lines_that_are_too_long_are_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a\t1\n" + "x" * 100 + "\t1\n")
    trial = Trial(counting_job())
    bad = [trial.map("f", [], *record) for record in read_records(str(path), 50)]
    assert bad == [None, Bad("longer than max-record-bytes")]


@pytest.mark.parametrize("reduces", [True, False])
def test_a_bad_record_counts_nothing(reduces: bool) -> None:
    def emit(key: str, dims: list[str], value: str, context: Any) -> None:
        context.counter("records", "seen")
        context.write(key, int(value))

    job = Job(map=emit, reduce=join) if reduces else Job(map=emit)
    trial = Trial(job)
    for number, line in enumerate(["k\t1", "k\tx", "k\t2"], 1):
        trial.map("a.gz", [], number, line)
    assert trial.context.counters == {("records", "seen"): 2}
    assert trial.context.counted == {}
    assert trial.context.hurry == []


def test_records_are_read_in_order_with_their_numbers(tree: Callable[..., Path]) -> None:
    root = tree([["[1]", "", "[2]"], ["[3]"]])
    config = load_config()
    inputs = find_inputs(str(root), load_schema(), config, to_read=False)
    trial = Trial(counting_job(), RecordFormat("jsonl"))
    found = list(first_records(inputs, config, 100, trial))
    assert [(number, text_of(record)) for _, _, number, record in found] == [
        (1, "[1]"),
        (3, "[2]"),
        (1, "[3]"),
    ]
    assert found[0][1].startswith(str(root))


def test_each_source_gives_a_share_of_the_records(tmp_path: Path) -> None:
    for name in ("events", "users"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("".join(f"{name}\t{n}\n" for n in range(9)))
    config, schema = load_config(), load_schema(None, "flat")
    sources = parse_sources([str(tmp_path / "events"), str(tmp_path / "users")])
    inputs = find_inputs(sources, schema, config, to_read=False)
    found = first_records(inputs, config, 4, Trial(counting_job()))
    assert [(text_of(record), os.path.basename(file.source)) for file, _, _, record in found] == [
        ("events\t0", "events"), ("events\t1", "events"), ("users\t0", "users"), ("users\t1", "users"),
    ]  # fmt: skip
