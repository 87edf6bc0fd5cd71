"""``--if-changed``: nothing is done if nothing has changed, and anything that matters counts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import DIRECTORY, file_name, write_tree

from daskmr import mapreduce
from daskmr.errors import InputError
from daskmr.run.result import Result

SCRIPT = """
from daskmr import param
import helper
LEAST = param("least", 0)
def map(key, dims, value, context):
    context.write(key, helper.number(value))
def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_tree(tmp_path / "data", [["a\t1", "b\t2"], ["a\t3"]])
    (tmp_path / "job.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("number = int\n")
    return tmp_path


def run(output: str = "out.txt", **options: Any) -> Result:
    given = {"data_dir": "data", "inline": True, **options}
    return mapreduce("job.py", output=output, if_changed=True, **given)


def why(**options: Any) -> str:
    result = run(**options)
    assert not result.up_to_date
    notes = [note for note in result.notes if note.startswith("--if-changed")]
    assert len(notes) == 1
    return notes[0]


@pytest.mark.parametrize("output", ["out.txt", "out.txt.gz", "parts/"])
def test_nothing_is_done_if_nothing_has_changed(place: Path, output: str) -> None:
    assert not (first := run(output)).up_to_date
    paths = [
        path for path in place.rglob("*") if "data" not in path.parts and ".daskmr" not in str(path)
    ]
    before = {path: path.stat().st_mtime_ns for path in paths}
    second = run(output)
    assert second.up_to_date
    assert (second.records, second.lines, second.sha256) == (3, 2, first.sha256)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_what_does_not_matter(place: Path) -> None:
    run()
    for options in (
        {"num_mappers": 2}, {"num_reducers": 3}, {"memory_limit": "4GB"}, {"work_dir": "elsewhere"},
        {"fetch_retries": 1}, {"date": "2024-01-31"},
    ):  # fmt: skip
        assert run(**options).up_to_date, options


def touch_input(place: Path) -> None:
    path = place / "data" / DIRECTORY / file_name(0)
    os.utime(path, ns=(0, 12_345_678_900))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: (p / "job.py").write_text(SCRIPT + "# comment"), "job.py has changed"),
        (lambda p: (p / "helper.py").write_text("number = float"), "helper.py"),
        (lambda p: (p / "data" / DIRECTORY / file_name(1)).unlink(), "input that is gone"),
        (touch_input, "input that has changed"),
        (lambda p: (p / "out.txt").write_text("a\t5\nb\t2\n"), "out.txt is not as it was written"),
        (lambda p: (p / "out.txt").unlink(), "out.txt does not exist"),
        (lambda p: (p / "out.txt.meta.json").unlink(), "there is no out.txt.meta.json"),
        (
            lambda p: (p / "out.txt.meta.json").write_text('{\n "daskmr": {'),
            "is not the provenance",
        ),
        (lambda p: os.rename(p / "data", p / "data2") or os.symlink("data2", p / "data"), ""),
    ],
)
def test_what_has_changed(place: Path, change: Callable[[Path], object], reason: str) -> None:
    run()
    change(place)
    if reason:
        assert reason in why()
    assert run().up_to_date


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"params": {"least": 1}}, "the parameter least differs"),
        ({"combine_size": 7}, "combine-size is 7, and was 50"),
        ({"partition_bytes": 1000}, "partition-bytes"),
        ({"max_bad_records": 0}, "max-bad-records"),
        ({"records": "lines", "output": "out.txt"}, "records are read otherwise"),
        ({"where": ["reason=saved_session"]}, "the filter has changed"),
        ({"pass_env": ["HOME"]}, "pass_env is not the same"),
        ({"limit_files": 1}, "the same"),
        ({"data_dir": ["data", "job.py"]}, ""),
    ],
)
def test_options_that_matter(place: Path, options: dict[str, Any], reason: str) -> None:
    run()
    if options.get("records"):
        (place / "helper.py").write_text("number = len\n")
        assert "--if-changed" in why(**options)
    elif reason:
        assert reason in why(**options)
        assert run(**options).up_to_date


def test_the_value_of_a_variable_matters_and_is_not_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "first-secret")
    run(pass_env=["TOKEN"])
    assert run(pass_env=["TOKEN"]).up_to_date
    assert "first-secret" not in (place / "out.txt.meta.json").read_text()
    monkeypatch.setenv("TOKEN", "second")
    assert "env is not the same" in why(pass_env=["TOKEN"])


def test_the_date_matters_only_if_it_is_used(place: Path) -> None:
    where = {"submission_date": "-9999d.."}
    run(where=where, date="2024-01-31")
    assert run(where=where, date="2024-01-31").up_to_date
    assert "the date is 2024-02-01, and was 2024-01-31" in why(where=where, date="2024-02-01")


def test_named_outputs_and_bad_records_belong_to_the_output(place: Path) -> None:
    write_tree(place / "data", [["a\t1", "b\tx"]])
    (place / "job.py").write_text(SCRIPT + "    context.write_to('more', key, len(values))\n")
    options: dict[str, Any] = {}
    run(**options)
    assert run(**options).up_to_date
    (place / "out.txt.more").write_text("changed")
    assert "out.txt.more is not as it was written" in why(**options)
    (place / "out.txt.bad.jsonl").unlink()
    assert "there is no out.txt.bad.jsonl" in why(**options)


def test_a_directory_with_a_missing_or_another_file(place: Path) -> None:
    run("parts/")
    (place / "parts" / "_SUCCESS").unlink()
    assert "there is no parts/_SUCCESS" in why(output="parts/")
    part = next((place / "parts").glob("part-*"))
    part.write_bytes(part.read_bytes()[::-1])
    assert f"{part.name} is not as it was written" in why(output="parts/")


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"output": "-"}, "as with -o result.txt"),
        ({"output": None}, "as with -o result.txt"),
        ({"output": "/dev/null"}, "as with -o result.txt"),
        ({"meta": False}, "omit --no-meta"),
        ({"delete_data": True}, "omit one of them"),
    ],
)
def test_where_there_is_nothing_to_compare(
    place: Path, options: dict[str, Any], advice: str
) -> None:
    with pytest.raises(InputError, match=advice):
        run(**options)


def test_functions_are_not_compared(place: Path) -> None:
    def map(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, value)

    for _ in range(2):
        result = mapreduce(map=map, data_dir="data", output="o.txt", inline=True, if_changed=True)
        assert not result.up_to_date
    assert "passed from Python" in result.notes[0]
