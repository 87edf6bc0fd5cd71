"""Which columns a script names: those of CSV without a header, or those of the output."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import daskmr

from daskmr import InputError, Job, JobError, mapreduce

WITH_HEADER, WITHOUT = "id,n,note\nu,1,x\nv,2,y\nu,4,z\n", "u,1,x\nv,2,y\nu,4,z\n"
MAP = """
def map(key, dims, value, context):
    context.write(value["id"], int(value["n"]))

def reduce(key, values, context):
    context.write(key, sum(values))
"""
TEXT, ROWS = "u\t5\nv\t2\n", ["u,5", "v,2"]
INPUT, OUTPUT = "('id', 'n', 'note')", "('user', 'total')"

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a script over files, and returns the output or the error."""

    def run(names: str, *files: str, output: str = "out.csv", code: int = 0) -> str:
        (tmp_path / "data").mkdir(exist_ok=True)
        for number, text in enumerate(files):
            (tmp_path / "data" / f"{number}.csv").write_text(text)
        (tmp_path / "job.py").write_text(f'layout = "flat"\nrecords = "csv"\n{names}\n{MAP}')
        done = daskmr("run", "job.py", "-d", "data", "-o", output, "--inline", cwd=tmp_path)
        assert done.returncode == code, done.stderr
        return (tmp_path / output).read_text() if code == 0 else done.stderr

    return run


@pytest.mark.parametrize("files", [[WITHOUT], [WITH_HEADER]])
@pytest.mark.parametrize("name", ["columns", "input_columns"])
def test_they_name_the_input_of_a_text(run: Run, name: str, files: list[str]) -> None:
    """Which has no header, or the same one."""
    assert run(f"{name} = {INPUT}", *files, output="out.txt") == TEXT


@pytest.mark.parametrize("name", ["columns", "output_columns"])
def test_they_name_the_output(run: Run, name: str) -> None:
    assert run(f"{name} = {OUTPUT}", WITH_HEADER).splitlines() == ["user,total", *ROWS]


@pytest.mark.parametrize("name", ["columns", "output_columns"])
def test_both(run: Run, name: str) -> None:
    names = f"input_columns = {INPUT}\n{name} = {OUTPUT}"
    assert run(names, WITHOUT).splitlines() == ["user,total", *ROWS]
    assert run(names, WITHOUT, output="out.txt") == TEXT


def test_columns_beside_output_columns_name_the_input(run: Run) -> None:
    names = f"columns = {INPUT}\noutput_columns = {OUTPUT}"
    assert run(names, WITHOUT).splitlines() == ["user,total", *ROWS]


def test_as_many_names_as_fields_are_not_clear(run: Run) -> None:
    """The next lines of the error work."""
    said = run(f"columns = {INPUT}", WITHOUT, code=2)
    assert "The first row of the input file 0.csv, ('u', '1', 'x'), has as many fields" in said
    assert f"write input_columns = {INPUT}. If it is the header, write output_columns" in said
    assert run(f"input_columns = {INPUT}", WITHOUT).splitlines() == ["key,value", *ROWS]
    said = run("columns = ('user', 'total', 'more')", WITH_HEADER, output="out.parquet", code=2)
    assert "('id', 'n', 'note'), has as many fields" in said


def test_a_later_file_that_is_not_clear_fails_the_job(run: Run) -> None:
    two = "id,n\nu,1\n"
    assert "1.csv, ('id', 'n'), has as many fields" in run(
        f"columns = {OUTPUT}", WITH_HEADER, two, code=1
    )


def test_the_header_itself_names_the_input(run: Run) -> None:
    said = run(f"columns = {INPUT}", WITH_HEADER, code=1)
    assert "has 2 parts, but the script names 3 columns of the output" in said
    assert "Names of columns of the input are input_columns" in said
    assert run(f"input_columns = {INPUT}", WITH_HEADER).splitlines() == ["key,value", *ROWS]


def test_names_of_the_output_over_a_text_are_named_in_the_error(run: Run) -> None:
    said = run(f"columns = {OUTPUT}", WITH_HEADER, output="out.txt", code=1)
    assert "write output_columns = (...) if these are not the columns of the input" in said


@pytest.mark.parametrize("records", ["lines", "jsonl"])
def test_other_records_have_no_columns(tmp_path: Path, records: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('"x"\n"y"\n')
    script = f'layout = "flat"\nrecords = "{records}"\ncolumns = ("path", "lines")\n'
    script += "def map(key, dims, value, context): context.write(key, 1)\n"
    script += "def reduce(key, values, context): context.write(key, sum(values))\n"
    (tmp_path / "job.py").write_text(script)
    daskmr("run", "job.py", "-d", "data", "-o", "out.csv", "--inline", cwd=tmp_path)
    assert (tmp_path / "out.csv").read_text() == "path,lines\na.jsonl,2\n"


def test_from_python(tmp_path: Path) -> None:
    """A result in memory has columns, too."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text(WITHOUT)

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(value["id"], int(value["n"]))

    names = {"input_columns": ("id", "n", "note"), "output_columns": ("user", "n")}
    how: dict[str, Any] = {
        "data_dir": tmp_path / "data", "layout": "flat", "records": "csv", "inline": True,
        "work_dir": str(tmp_path / "work"),
    }  # fmt: skip
    result = mapreduce(map=map_, **names, **how)
    assert result.to_arrow().to_pylist()[0] == {"user": "u", "n": 1}
    assert list(mapreduce(Job(map=map_, **names), **how)) == [("u", 1), ("v", 2), ("u", 4)]
    with pytest.raises(InputError, match="as many fields as `columns`"):
        mapreduce(map=map_, columns=("a", "b", "c"), **how)
    with pytest.raises(JobError, match="map failed"):
        mapreduce(map=map_, columns=("user", "n"), **how)  # the first row is taken as the header
    with pytest.raises(InputError, match="not both"):
        mapreduce(Job(map=map_), output_columns=("a",), **how)


def test_what_check_says(run: Run, tmp_path: Path) -> None:
    run(f"input_columns = {INPUT}\noutput_columns = {OUTPUT}", WITHOUT)

    def said(names: str) -> str:
        (tmp_path / "job.py").write_text(f'layout = "flat"\nrecords = "csv"\n{names}\n{MAP}')
        done = daskmr("check", "job.py", "-d", "data", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "3 records gave 3 pairs" in done.stdout
        return done.stdout

    both = said(f"input_columns = {INPUT}\noutput_columns = {OUTPUT}")
    assert "columns     of the input: id, n, note\n            of the output: user, total" in both
    unclear = said(f"columns = {INPUT}")
    assert "of the input or the output: id, n, note" in unclear
    assert "warning     The first row of the input file 0.csv" in unclear


def test_the_meta_has_the_columns_of_the_input(run: Run, tmp_path: Path) -> None:
    run(f"input_columns = {INPUT}", WITHOUT)
    meta = json.loads((tmp_path / "out.csv.meta.json").read_text())
    assert meta["records"]["columns"] == ["id", "n", "note"]
    run(f"columns = {OUTPUT}", WITH_HEADER)
    meta = json.loads((tmp_path / "out.csv.meta.json").read_text())
    assert meta["records"]["columns"] is None
