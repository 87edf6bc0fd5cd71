"""The summary says what was read, what was left out, and where the result is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import write_tree
from support.results import result

from daskmr import Job, mapreduce
from daskmr.data.bad_records import BadRecord
from daskmr.diagnostics.summary import format_bytes, summarise
from daskmr.history import History, HotKey


def test_a_job_without_trouble() -> None:
    assert summarise(result()).splitlines() == [
        "read     200,000 records in 1,234 files, 5.6 MB as stored",
        "wrote    3,001 lines for 3,000 keys to out.txt, 45.0 kB",
        "time     3.0 s (list 0.1, map 2.2)",
        "bad records: 0",
    ]


def test_a_map_only_job_on_standard_output() -> None:
    text = summarise(result(output="-", key_count=0, output_bytes=0))
    assert "wrote    3,001 lines to standard output\n" in text


def test_spilled_and_deleted_are_told_when_there_are_any() -> None:
    text = summarise(result(spilled=2_000_000_000, deleted=1234))
    assert "spilled  2.0 GB to disk" in text
    assert "deleted  1,234 input files" in text
    assert not re.search("spilled|deleted", summarise(result()))


def test_skipped_files_are_named_up_to_ten() -> None:
    ten = tuple(f"skipped-{n}" for n in range(10))
    lines = summarise(result(skipped=ten, skipped_count=10)).splitlines()
    assert lines[3:-1] == [
        "not in the layout, skipped: 10 files or directories",
        *(f"  {name}" for name in ten),
    ]
    names = (*ten, *(f"more-{n}" for n in range(990)))
    text = summarise(result(skipped=names, skipped_count=123_456))
    assert "skipped: 123,456 files" in text
    assert "  and 123,446 more\n" in text
    assert "more-" not in text


def test_corrupt_files_are_named_with_their_reasons() -> None:
    corrupt = tuple((f"f{n}", f"The input file f{n} is damaged") for n in range(12))
    text = summarise(result(corrupt=corrupt))
    assert "corrupt, left out whole: 12 files\n  The input file f0 is damaged\n" in text
    assert "f9 is damaged\n  and 2 more\n" in text


def test_bad_records_are_counted_by_reason_and_by_file() -> None:
    text = summarise(
        result(
            bad_records=1010,
            bad_reasons={"ValueError": 1000, "no tab in the line": 10},
            bad_files={"a": 5, "c": 1000, "b": 5},
            bad_records_path="out.txt.bad.jsonl",
            saved_bad_records=(BadRecord("a", 1, "ValueError", "", b""),) * 7,
            meta_path="out.txt.meta.json",
            _job=SimpleNamespace(path="/my job.py"),
        )
    )
    assert text.splitlines()[3:] == [
        "bad records: 1,010 (0.505%)",
        "  1,000 x ValueError",
        "  10 x no tab in the line",
        "  1,000 in c",
        "  5 in a",
        "  5 in b",
        "  the first 7 saved in out.txt.bad.jsonl, as many as daskmr.bad-records-saved allows",
        "  to map them again: daskmr replay out.txt.bad.jsonl",
    ]


@pytest.mark.parametrize(
    ("saved", "path", "told"),
    [(2, "bad", "all saved in bad"), (1, "bad", "the first 1 saved in bad"), (0, None, "none of")],
)
def test_it_is_told_how_many_were_saved(saved: int, path: str | None, told: str) -> None:
    record = BadRecord("f", 1, "r", "", b"")
    text = summarise(
        result(
            bad_records=2,
            bad_reasons={"r": 2},
            bad_files={"f": 2},
            saved_bad_records=(record,) * saved,
            bad_records_path=path,
        )
    )
    assert f"  {told}" in text


def test_what_no_file_tells_stands_in_the_command_that_maps_bad_records_again() -> None:
    options: dict[str, Any] = {
        "bad_records": 1,
        "bad_files": {"f": 1},
        "saved_bad_records": (BadRecord("f", 1, "r", "", b""),),
        "bad_records_path": "work/-job.bad.jsonl",
        "settings": {"schema": "/a b.json"},
    }
    assert "to map them again" not in summarise(result(**options))
    last = summarise(result(**options, _job=SimpleNamespace(path="/job.py"))).splitlines()[-1]
    command = "daskmr replay work/-job.bad.jsonl --script /job.py --schema '/a b.json'"
    assert last == f"  to map them again: {command}"


def test_worst_files_come_first_and_the_others_are_counted() -> None:
    files = {f"f{n:02}": n for n in range(1, 31)}
    text = summarise(result(bad_records=465, bad_reasons={"r": 465}, bad_files=files))
    assert [n for n in range(1, 31) if f" in f{n:02}" in text] == list(range(21, 31))
    assert text.index("30 in f30") < text.index("21 in f21") < text.index("  and 20 more")


def test_names_that_are_no_utf8_are_shown_as_escapes() -> None:
    text = summarise(
        result(
            skipped=("a\udcff",),
            skipped_count=1,
            corrupt=(("b", "file b\udcff"),),
            bad_records=1,
            bad_reasons={"r": 1},
            bad_files={"c\udcff": 1, "\u00e9": 1},
        )
    )
    text.encode("utf-8")
    for name in (r"a\udcff", r"b\udcff", r"c\udcff", "\u00e9"):
        assert name in text


def test_a_job_over_nothing() -> None:
    text = summarise(result(files=0, bytes=0, records=0, lines=0, key_count=0, output_bytes=0))
    assert "read     0 records in 0 files, 0 B as stored" in text
    assert text.endswith("bad records: 0")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (10**9, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 10**14))
def test_bytes_for_people_are_right_to_the_digits_shown(count: int) -> None:
    number, unit = format_bytes(count).split()
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert abs(float(number) * scale - count) <= 0.05 * scale + 1e-9 * count


def test_a_sample_is_told_at_once() -> None:
    lines = summarise(result(sample="1% of the files (12), chosen with seed 0")).splitlines()
    assert lines[1] == (
        "sample   1% of the files (12), chosen with seed 0: the output is that of a part of the input"
    )


def test_counters_are_aligned() -> None:
    counters = {"a": {"one": 5, "other": 1_234_567}, "group": {"b\n": 12}}
    lines = summarise(result(counters=counters)).splitlines()
    assert lines[3:7] == [
        "counters",
        "  a      one            5",
        "         other  1,234,567",
        r"  group  b\n           12",
    ]


def test_of_many_counters_it_is_told_where_the_others_are() -> None:
    counters = {"g": {f"n{n:03}": n for n in range(100)}}
    text = summarise(result(counters=counters, meta_path="out.txt.meta.json"))
    assert "n039" in text
    assert "n040" not in text
    assert "\n  and 60 more in out.txt.meta.json\n" in text


HOT = (HotKey("'null'", 410_000, 9, exact=True), HotKey("'x'", 150_000, 9), HotKey("'y'", 30, 9))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "about 41% 'null', 15% 'x'"),
        ({"key_count": 6}, ""),
        ({"values": 9000}, ""),
        ({"values": 100_000_000}, ""),
        ({"key_count": 0}, ""),
    ],
)
def test_hot_keys_are_told_where_there_is_a_skew(changes: dict[str, Any], told: str) -> None:
    history = History(0.0, 1.0, hot_keys=HOT)
    text = summarise(result(**{"values": 1_000_000, "history": history, **changes}))
    (line,) = [line for line in text.splitlines() if line.startswith("hottest")] or [""]
    assert line == (f"hottest  keys by share of the 1,000,000 values: {told}" if told else "")


def test_a_profile_shows_the_scripts_own_functions_first(tmp_path: Path) -> None:
    def user_map(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write(key, sorted(value * 100))

    root = write_tree(tmp_path / "data", [["a\tbcd"] * 500])
    done = mapreduce(Job(map=user_map), data_dir=root, inline=True, profile=True)
    path = tmp_path / "out put.pstats"
    path.touch()
    lines = summarise(done, str(path)).splitlines()
    at = lines.index(f"profile  {path}")
    assert lines[at + 1] == "    own s   whole s       calls"
    assert re.fullmatch(
        r" +\d+\.\d\d +\d+\.\d\d +500  user_map \(test_summary.py, line \d+\)", lines[at + 2]
    )
    others = lines[
        at + 3 : lines.index(f"  open it with python -m pstats '{path}', or snakeviz '{path}'")
    ]
    assert len(others) == 6
    assert not any("test_summary.py" in line for line in others)
    assert summarise(done) == summarise(done, ""), "without one, there is no word of it"
    assert "cannot be written" in summarise(done, "cannot be written to x: full")
