"""The examples over other records than keyed ones: their functions give the answers of plain Python."""

from __future__ import annotations

import csv
import gzip
import io
import json
import runpy
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.jobs import ROOT

from daskmr import mapreduce
from daskmr.cli.sample.files import SampleSummary, write_sample


class Context:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Any, Any]] = []

    def write(self, key: Any, value: Any) -> None:
        self.pairs.append((key, value))


class LogDims(NamedTuple):
    day: str
    host: str


Input = Iterable[tuple[str, Any, Any]]
"""The key, the dims and the value of each record."""


def load(name: str) -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))


def run(job: dict[str, Any], records: Input) -> tuple[list[tuple[Any, Any]], int]:
    """Run the functions of a job, with `combine` for two values each; count the bad records."""
    mapped, bad = Context(), 0
    for key, dims, value in records:
        try:
            job["map"](key, dims, value, mapped)
        except ValueError:
            bad += 1
    groups: dict[Any, list[Any]] = defaultdict(list)
    for key, value in mapped.pairs:
        groups[key].append(value)
        if len(groups[key]) == 3:
            combined = Context()
            job["combine"](key, groups[key], combined)
            [(same, folded)] = combined.pairs
            assert same == key
            groups[key] = [folded]
    reduced = Context()
    for key in sorted(groups):
        job["reduce"](key, groups[key], reduced)
    return reduced.pairs, bad


def sample(root: Path, kind: str, bad_lines: float = 0.0) -> SampleSummary:
    return write_sample(root, 600_000, 3, bad_lines=bad_lines, kind=kind)


# nginx_errors.py


def log_lines(root: Path) -> Iterator[tuple[str, LogDims, str]]:
    for path in sorted(root.rglob("access.log.gz")):
        name = path.relative_to(root).as_posix()
        for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]:
            yield name, LogDims(*name.split("/")[:2]), line


def test_nginx_errors_by_hour_and_host(tmp_path: Path) -> None:
    sample(tmp_path, "logs")
    requests: Counter[tuple[str, ...]] = Counter()
    failed: Counter[tuple[str, ...]] = Counter()
    for _, dims, line in log_lines(tmp_path):
        cell = (dims.day, line.split("[")[1][12:14], dims.host)
        requests[cell] += 1
        failed[cell] += line.split('"')[2].split()[0].startswith("5")
    expected = [(cell, (requests[cell], count)) for cell, count in sorted(failed.items()) if count]
    assert len(expected) > 10
    assert run(load("nginx_errors"), log_lines(tmp_path)) == (expected, 0)


def test_nginx_errors_skips_exactly_the_bad_lines(tmp_path: Path) -> None:
    summary = sample(tmp_path, "logs", 0.1)
    _, bad = run(load("nginx_errors"), log_lines(tmp_path))
    assert bad == summary.bad_lines > 100


# funnel.py


def events(root: Path) -> Iterator[tuple[str, tuple[()], Any]]:
    for path in sorted(root.rglob("events-*.jsonl.gz")):
        for line in gzip.decompress(path.read_bytes()).split(b"\n")[:-1]:
            event = json.loads(line)
            yield event["user"], (), event


def test_a_funnel_of_users(tmp_path: Path) -> None:
    sample(tmp_path, "events")
    seen = defaultdict(set)
    for user, _, event in events(tmp_path):
        seen[event["event"]].add(user)
    steps = ("visit", "view", "cart", "purchase")
    expected = [((n, step), len(seen[step])) for n, step in enumerate(steps, 1)]
    users = [len(seen[step]) for step in steps]
    assert users == sorted(users, reverse=True)
    assert users[-1] > 10
    assert run(load("funnel"), events(tmp_path)) == (expected, 0)


def test_another_event_is_a_bad_record() -> None:
    assert run(load("funnel"), [("u1", (), {"event": "logout"})]) == ([], 1)


# rides_by_hour.py


def rides(root: Path) -> Iterator[tuple[str, tuple[str, str], dict[str, str]]]:
    for path in sorted(root.rglob("rides.csv")):
        name = path.relative_to(root).as_posix()
        for row in csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")):
            yield name, tuple(name.split("/")[:2]), row


def test_rides_by_hour(tmp_path: Path) -> None:
    sample(tmp_path, "rides")
    fares = defaultdict(list)
    for _, _, row in rides(tmp_path):
        fares[row["pickup"].split()[1].split(":")[0]].append(int(row["fare"].replace(".", "")))
    expected = [
        (hour, {"rides": len(cents), "fare": round(sum(cents) / len(cents) / 100, 2)})
        for hour, cents in sorted(fares.items())
    ]
    assert len(expected) == 24
    assert run(load("rides_by_hour"), rides(tmp_path)) == (expected, 0)


def test_a_fare_that_is_no_number_is_a_bad_record() -> None:
    row = {"pickup": "2025-01-01 08:00:00", "fare": "free"}
    assert run(load("rides_by_hour"), [("", (), row)]) == ([], 1)


# rides_by_district.py


def test_rides_by_district(tmp_path: Path) -> None:
    sample(tmp_path, "rides")
    with (ROOT / "examples" / "zones.csv").open(encoding="utf-8", newline="") as table:
        districts = dict(csv.reader(table))
    fares = defaultdict(list)
    for _, _, row in rides(tmp_path):
        district = districts.get(row["pickup_zone"], "(unknown)")
        fares[district].append(int(row["fare"].replace(".", "")))
    expected = [
        (district, (len(cents), round(sum(cents) / len(cents) / 100, 2)))
        for district, cents in sorted(fares.items())
    ]
    assert {*fares} == {*districts.values(), "(unknown)"} - {"district"}
    assert len(expected) == 5
    assert run(load("rides_by_district"), rides(tmp_path)) == (expected, 0)
    result = mapreduce(
        ROOT / "examples" / "rides_by_district.py",
        data_dir=tmp_path,
        inline=True,
        work_dir=tmp_path / "work",
    )
    assert list(result) == expected


# rides_to_parquet.py, fares_by_zone.py


def test_types_of_rides(tmp_path: Path) -> None:
    sample(tmp_path, "rides")
    written = Context()
    job = load("rides_to_parquet")
    rows = [row for _, _, row in rides(tmp_path)]
    for row in rows:
        job["map"]("", (), row, written)
    assert [key for key, _ in written.pairs] == [int(row["ride_id"]) for row in rows]
    for row, (_, ride) in zip(rows, written.pairs, strict=True):
        assert str(ride["pickup"]) == row["pickup"]
        assert f"{ride['fare']:.2f}" == row["fare"]
        assert (ride["comment"] or "") == row["comment"]


def test_fares_by_zone() -> None:
    values = [("b", 4.0, 1.5), ("a", 3.0, 9.0), ("b", 2.0, 7.5)]
    job = load("fares_by_zone")
    assert run(job, (("", (), value) for value in values)) == (
        [
            ("a", {"rides": 1, "median_fare": 3.0, "longest": 9.0}),
            ("b", {"rides": 2, "median_fare": 3.0, "longest": 7.5}),
        ],
        0,
    )


# words.py


def test_words() -> None:
    lines = ["Don't panic, don't!", "", "Ça va? ça 42 va_bien", "42"]
    counts = [("bien", 1), ("don't", 2), ("panic", 1), ("va", 2), ("ça", 2)]
    assert run(load("words"), (("a.txt", (), line) for line in lines)) == (counts, 0)


# word_frequencies.py


def test_word_frequencies(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("To be, or not to be:\nthat is the question.\n")
    result = mapreduce(
        ROOT / "examples" / "word_frequencies.py",
        data_dir=tmp_path / "texts",
        inline=True,
        work_dir=tmp_path / "work",
    )
    assert list(result) == [(1, (6, "question")), (2, (2, "to"))]


# What they say at their top level


@pytest.mark.parametrize(
    ("name", "layout", "records", "key"),
    [
        ("nginx_errors", "{day:date}/{host}/access.log.gz", "lines", None),
        ("funnel", "hive", "jsonl", "user"),
        ("rides_by_hour", "{year:int}/{month:int}/rides.csv", "csv", None),
        ("rides_by_district", "{year:int}/{month:int}/rides.csv", "csv", None),
        ("rides_to_parquet", "{year:int}/{month:int}/rides.csv", "csv", None),
        ("fares_by_zone", "flat", "parquet", None),
        ("words", "flat", "lines", None),
        ("word_frequencies", "flat", "lines", None),
    ],
)
def test_what_an_example_declares(name: str, layout: str, records: str, key: str | None) -> None:
    job = load(name)
    assert (job["layout"], job["records"], job.get("key")) == (layout, records, key)
    assert f"\n    daskmr run examples/{name}.py -d " in job["__doc__"]
