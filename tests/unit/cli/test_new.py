"""What is written to begin with works as it stands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.jobs import daskmr

from daskmr import InputError, mapreduce
from daskmr.cli.new import filter_text, script_text, write_files
from daskmr.cli.sample.files import write_sample
from daskmr.data.layout import load_layout, load_schema
from daskmr.run.check import check_script

NAMES = load_layout().field_names


def test_the_script_and_the_filter_work_on_sample_data(tmp_path: Path) -> None:
    write_sample(str(tmp_path / "data"), 300_000, 0, ("gz",), 0.0)
    script, chosen = tmp_path / "mine.py", tmp_path / "filter.json"
    write_files(
        {str(script): script_text(str(script), NAMES), str(chosen): filter_text(NAMES)}, False
    )
    output = tmp_path / "out.txt"
    options = {"data_dir": tmp_path / "data", "input_filter": str(chosen)}
    result = mapreduce(script, output=output, inline=True, work_dir=tmp_path / "w", **options)
    head, *lines = output.read_text().splitlines()
    assert head == "OS\tversion\tdocuments"
    assert sum(int(line.rsplit("\t")[-1]) for line in lines) == result.records > 0
    assert result.bad_records == 0
    said: list[str] = []
    assert check_script(script, lambda title, text: said.append(text), **options) == 0
    assert said[0].endswith("mine.py defines map, combine, reduce, setup_reduce")


def test_the_filter_has_the_dimensions_of_the_layout() -> None:
    content = json.loads(filter_text(["day", 'odd"name']))
    assert [each["field_name"] for each in content["dimensions"]] == ["day", 'odd"name']
    assert load_schema(json.loads(filter_text(NAMES))).dimensions == load_schema().dimensions


def test_the_script_names_itself_and_the_dimensions() -> None:
    text = script_text("jobs/mine.py", ["day", "region"])
    assert "daskmr check mine.py -d data" in text
    assert "# day, region = dims" in text


@pytest.mark.parametrize("name", ["a", "b"])
def test_all_or_nothing(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    texts = {str(tmp_path / "a"): "new", str(tmp_path / "b"): "new"}
    with pytest.raises(InputError, match="already exists, and was not changed"):
        write_files(texts, force=False)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
    write_files(texts, force=True)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"new"}


def test_a_place_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written: No such file"):
        write_files({str(tmp_path / "no" / "job.py"): "x"}, force=False)


@pytest.mark.parametrize("name", [b'"""a.py', b"-\\N{.py", b"\xff\n\x1b[31m.py", b"it's.py"])
def test_any_name_stands_in_a_script_that_runs(name: bytes, tmp_path: Path) -> None:
    text = script_text(os.fsdecode(name), NAMES)
    path = tmp_path / "job.py"
    path.write_text(text, "utf-8")
    names: dict[str, object] = {}
    exec(compile(path.read_text("utf-8"), "job.py", "exec"), names)
    assert callable(names["map"])


def test_of_two_files_none_is_left_when_one_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        write_files({str(tmp_path / "a.py"): "", str(tmp_path / "no" / "b.json"): ""}, False)
    assert not any(tmp_path.iterdir())


def test_new_refuses_to_replace(place: Path) -> None:
    before = (place / "job.py").read_text()
    done = daskmr("new", "job.py", "--filter", "all.json", cwd=place)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (place / "job.py").read_text() == before
    assert not (place / "all.json").exists()
    assert daskmr("new", "job.py", "--force", cwd=place).returncode == 0
    assert (place / "job.py").read_text() != before
    assert daskmr("new", "job", cwd=place).returncode == 2


def test_a_script_that_fits_data(tmp_path: Path) -> None:
    (tmp_path / "rides" / "2024" / "01").mkdir(parents=True)
    rows = "".join(f"{n},{'cash' if n % 2 else 'card'}\n" for n in range(8))
    (tmp_path / "rides" / "2024" / "01" / "rides.csv").write_text(f"id,payment\n{rows}")
    done = daskmr("new", "job.py", "-d", "rides", "--filter", "filter.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1].strip()
    assert line == "daskmr run job.py -d rides -f filter.json"
    filter_ = json.loads((tmp_path / "filter.json").read_text())
    assert [each["field_name"] for each in filter_["dimensions"]] == ["year", "month"]
    done = daskmr(*line.split()[1:], "--inline", "-q", cwd=tmp_path)
    assert done.stdout == "('2024-01', 'card')\t4\n('2024-01', 'cash')\t4\n"
    done = daskmr("new", "job2.py", "-d", "rides", "--layout", "flat", cwd=tmp_path)
    assert "omit --layout" in done.stderr
