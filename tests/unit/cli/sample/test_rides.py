"""Rides of taxis: CSV with a header, by year and month, with fields that are quoted."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from pathlib import Path

import pytest

from daskmr.cli.sample.files import write_sample


def rows(root: Path) -> dict[str, list[list[str]]]:
    return {
        path.relative_to(root).as_posix(): list(
            csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True)
        )
        for path in sorted(root.rglob("*.csv"))
    }


@pytest.fixture(scope="module")
def rides(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, str]]]:
    root = tmp_path_factory.mktemp("rides")
    summary = write_sample(root, size=4_500_000, kind="rides")
    files = rows(root)
    assert len({tuple(header) for header, *_ in files.values()}) == 1
    assert sum(len(each) - 1 for each in files.values()) == summary.records
    return {
        name: [dict(zip(header, row, strict=True)) for row in each]
        for name, (header, *each) in files.items()
    }


def test_files_are_by_year_and_month(rides: dict[str, list[dict[str, str]]]) -> None:
    assert len(rides) == 18
    assert {name.split("/")[0] for name in rides} == {"2025", "2026"}
    for name, each in rides.items():
        assert re.fullmatch(r"\d{4}/\d\d/rides\.csv", name)
        year, month, _ = name.split("/")
        times = [row["pickup"] for row in each]
        assert times == sorted(times)
        assert all(time.startswith(f"{year}-{month}-") for time in times)
        assert len({time[:10] for time in times}) >= 28
        assert all(row["dropoff"] >= row["pickup"] for row in each)


def test_fields_have_commas_quotes_and_line_ends(rides: dict[str, list[dict[str, str]]]) -> None:
    everything = [row for each in rides.values() for row in each]
    assert [int(row["ride_id"]) for row in everything] == list(range(1, len(everything) + 1))
    assert any("," in row["pickup_zone"] for row in everything)
    assert any('"' in row["dropoff_zone"] for row in everything)
    with_line_ends = sum("\n" in row["comment"] for row in everything)
    assert 0 < with_line_ends < len(everything) / 20
    assert {row["comment"] for row in everything} >= {"", "luggage, large"}


def test_values_are_believable(rides: dict[str, list[dict[str, str]]]) -> None:
    everything = [row for each in rides.values() for row in each]
    zones = Counter(row["pickup_zone"] for row in everything)
    assert zones.most_common()[0][1] > 10 * zones.most_common()[-1][1]
    hours = Counter(row["pickup"][11:13] for row in everything)
    assert hours["20"] > 10 * hours["03"] > 0
    assert all(float(row["fare"]) > 4 and float(row["tip"]) >= 0 for row in everything)
    assert {row["tip"] for row in everything if row["payment"] == "cash"} == {"0.00"}


def test_bad_lines_have_another_number_of_fields(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, size=300_000, kind="rides", bad_lines=0.2)
    [(header, *found)] = rows(tmp_path).values()
    bad = Counter(len(row) for row in found if len(row) != len(header))
    assert (len(found), sum(bad.values())) == (summary.records, summary.bad_lines)
    assert set(bad) == {1, 4, len(header) + 2}
