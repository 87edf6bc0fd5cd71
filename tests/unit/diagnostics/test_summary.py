"""The summary says what was read, what was left out, and where the result is."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.jobs import write_tree
from support.results import result

from daskmr import Job, mapreduce
from daskmr.data.bad_records import SavedRecord
from daskmr.diagnostics.summary import summarise
from daskmr.history import History, HotKey, StepFigures


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


def test_spilled_and_deleted_are_shown_when_there_are_any() -> None:
    text = summarise(result(spilled=2_000_000_000, deleted=1234))
    assert "spilled  2.0 GB to disk" in text
    assert "deleted  1,234 input files\n" in text
    assert "deleted  1 input file\n" in summarise(result(deleted=1))
    assert "fetched  1 object, " in summarise(result(fetched=1))
    assert not re.search("spilled|deleted", summarise(result()))


def test_skipped_files_are_named_up_to_ten() -> None:
    ten = tuple(f"skipped-{n}" for n in range(10))
    lines = summarise(result(skipped=ten, skipped_count=10)).splitlines()
    assert lines[3:-1] == [
        "not in the layout, skipped: 10 paths",
        *(f"  {name}" for name in ten),
    ]
    names = (*ten, *(f"more-{n}" for n in range(990)))
    text = summarise(result(skipped=names, skipped_count=123_456))
    assert "skipped: 123,456 paths" in text
    assert "  and 123,446 more\n" in text
    assert "more-" not in text


def test_corrupt_files_are_named_with_their_reasons() -> None:
    corrupt = tuple((f"f{n}", f"The input file f{n} is damaged") for n in range(12))
    text = summarise(result(corrupt=corrupt))
    assert "corrupt, skipped: 12 files\n  The input file f0 is damaged\n" in text
    assert "f9 is damaged\n  and 2 more\n" in text


def test_bad_records_are_counted_by_reason_and_by_file() -> None:
    text = summarise(
        result(
            bad_records=1010,
            bad_reasons={"ValueError": 1000, "no tab in the line": 10},
            bad_files={"a": 5, "c": 1000, "b": 5},
            bad_records_path="out.txt.bad.jsonl",
            saved_bad_records=(SavedRecord("a", 1, "ValueError", "", b""),) * 7,
            meta_path="out.txt.meta.json",
            _job=SimpleNamespace(path="/my job.py", code=None),
        )
    )
    assert text.splitlines()[3:] == [
        "bad records: 1,010 (0.505%)",
        "  1,000 x ValueError",
        "  10 x no tab in the line",
        "  1,000 in c",
        "  5 in a",
        "  5 in b",
        "  7 of them saved in out.txt.bad.jsonl (limit: daskmr.bad-records-saved)",
        "  to map them again: daskmr replay out.txt.bad.jsonl",
    ]


@pytest.mark.parametrize(
    ("saved", "path", "expected"),
    [
        (2, "bad", "all saved in bad"),
        (1, "bad", "1 of them saved in bad"),
        (0, None, "none were saved"),
    ],
)
def test_the_number_of_saved_records_is_shown(saved: int, path: str | None, expected: str) -> None:
    record = SavedRecord("f", 1, "r", "", b"")
    text = summarise(
        result(
            bad_records=2,
            bad_reasons={"r": 2},
            bad_files={"f": 2},
            saved_bad_records=(record,) * saved,
            bad_records_path=path,
        )
    )
    assert f"  {expected}" in text


def test_bad_pairs_of_later_steps_are_not_saved() -> None:
    record = SavedRecord("f", 1, "r", "", b"")
    figures = StepFigures("", 1000, 2, 0, 80, 0, 0.0, "")
    text = summarise(
        result(
            records=1000,
            bad_records=42,
            bad_reasons={"r": 42},
            saved_bad_records=(record, record),
            bad_records_path="bad",
            steps=(figures, figures._replace(records=80, bad_records=40)),
        )
    )
    assert "bad records: 42\n" in text
    assert "  2 of them saved in bad; the others are pairs of later steps" in text


def test_the_replay_command_holds_what_no_side_car_does() -> None:
    options: dict[str, Any] = {
        "bad_records": 1,
        "bad_files": {"f": 1},
        "saved_bad_records": (SavedRecord("f", 1, "r", "", b""),),
        "bad_records_path": "work/-job.bad.jsonl",
        "settings": {"schema": "/a b.json"},
    }
    assert "to map them again" not in summarise(result(**options))
    last = summarise(
        result(**options, _job=SimpleNamespace(path="/job.py", code=None))
    ).splitlines()[-1]
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


def test_a_sample_is_shown_on_the_second_line() -> None:
    lines = summarise(result(sample="1% of the files (12), chosen with seed 0")).splitlines()
    assert lines[1] == (
        "sample   1% of the files (12), chosen with seed 0: the output covers only a part of the input"
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


def test_many_counters_are_cut_with_a_hint_at_the_others() -> None:
    counters = {"g": {f"n{n:03}": n for n in range(100)}}
    text = summarise(result(counters=counters, meta_path="out.txt.meta.json"))
    assert "n039" in text
    assert "n040" not in text
    assert "\n  and 60 more in out.txt.meta.json\n" in text


HOT = (HotKey("'null'", 410_000, 9, exact=True), HotKey("'x'", 150_000, 9), HotKey("'y'", 30, 9))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "about 41% 'null', 15% 'x'"),
        ({"key_count": 6}, ""),
        ({"values": 9000}, ""),
        ({"values": 100_000_000}, ""),
        ({"key_count": 0}, ""),
    ],
)
def test_hot_keys_are_shown_where_there_is_skew(changes: dict[str, Any], expected: str) -> None:
    history = History(0.0, 1.0, hot_keys=HOT)
    text = summarise(result(**{"values": 1_000_000, "history": history, **changes}))
    (line,) = [line for line in text.splitlines() if line.startswith("hottest")] or [""]
    assert line == (
        f"hottest  keys by share of the 1,000,000 values: {expected}" if expected else ""
    )


def test_a_profile_shows_the_scripts_own_functions_first(tmp_path: Path) -> None:
    def user_map(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write(key, sorted(value * 100))

    root = write_tree(tmp_path / "data", [["a\tbcd"] * 500])
    done = mapreduce(Job(map=user_map), data_dir=root, inline=True, profile=True)
    path = tmp_path / "out put.pstats"
    path.touch()
    lines = summarise(done, str(path)).splitlines()
    at = lines.index(f"profile  {path}")
    assert lines[at + 1] == "    own s   total s       calls"
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
