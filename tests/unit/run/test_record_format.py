"""The format of the records: command line over script over configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daskmr.config import load_config
from daskmr.data.inputs import find_inputs
from daskmr.data.layout import load_schema
from daskmr.data.readers.records import KEYED, RecordFormat
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.data.sources.given import Sources
from daskmr.errors import InputError, JobError, TaskFailed, foreign
from daskmr.job.loading import load_job
from daskmr.run.record_format import check_header, choose_format, extensions_of, pointing_to_inspect

MAP = "def map(key, dims, value, context): pass\n"
READ = "def read(stream, dims):\n    yield 1, 2\n"


def choose(tmp_path: Path, script: str, configured: dict[str, Any], **options: Any) -> RecordFormat:
    import dask.config

    (tmp_path / "job.py").write_text(script + MAP)
    job, in_rows = load_job(tmp_path / "job.py"), options.pop("in_rows", False)
    with dask.config.set({f"daskmr.{name}": value for name, value in configured.items()}):
        return choose_format(job, options, load_config(**options), in_rows)


def test_the_command_line_goes_before_the_script_before_the_configuration(tmp_path: Path) -> None:
    script, configured = 'records = "jsonl"\nkey = "a"\n', {"records": "csv", "key": "z"}
    assert choose(tmp_path, "", {}) == KEYED
    assert choose(tmp_path, "", configured) == RecordFormat("csv", "z")
    assert choose(tmp_path, script, configured) == RecordFormat("jsonl", "a")
    assert choose(tmp_path, script, configured, records="tsv") == RecordFormat("tsv", "a")
    assert choose(tmp_path, script, configured, key="b") == RecordFormat("jsonl", "b")
    assert choose(tmp_path, script, configured, records="keyed") == KEYED
    assert choose(tmp_path, script, configured, records="lines") == RecordFormat("lines")


def test_read_of_the_script(tmp_path: Path) -> None:
    assert choose(tmp_path, READ, {"records": "csv"}).name == "read"
    assert choose(tmp_path, READ, {}, records="jsonl").name == "jsonl"
    with pytest.raises(InputError, match="Remove one of them"):
        choose(tmp_path, f'{READ}records = "csv"\n', {})


def test_names_that_keyed_scripts_use_otherwise(tmp_path: Path) -> None:
    assert choose(tmp_path, "key = len\nfields = 7\ncolumns = {}\n", {"key": "a"}) == KEYED


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("", {"key": "id"}, "--records jsonl --key id"),
        ("", {"records": "xml"}, "There are keyed, lines, jsonl"),
        ("", {"records": "lines", "key": "a"}, "'key' does not apply"),
        ('records = "csv"\ncolumns = "a"\n', {}, "`columns` in the script is 'a'"),
        ('records = "csv"\ninput_columns = "a"\n', {}, "`input_columns` in the script is 'a'"),
        ('records = "jsonl"\nfields = "a"\n', {}, "`fields` in the script is 'a'"),
        ('records = "jsonl"\nkey = "a..b"\n', {}, "must be the name of a field"),
    ],
)
def test_mistakes(tmp_path: Path, script: str, options: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        choose(tmp_path, script, {}, **options)
    assert message in str(caught.value)


def test_which_columns_are_those_of_the_input(tmp_path: Path) -> None:
    def choose_columns(script: str, **options: Any) -> tuple[Any, Any]:
        form = choose(tmp_path, f'records = "csv"\n{script}', {}, **options)
        return form.columns, form.maybe_columns

    one, other = 'columns = "a", "b"\n', ("a", "b")
    assert choose_columns(one) == (other, None)
    assert choose_columns(one, in_rows=True) == (None, other)
    assert choose_columns(one, in_rows=True, records="jsonl") == (None, None)
    assert choose_columns(f"{one}output_columns = 'x',\n", in_rows=True) == (other, None)
    assert choose_columns(f"{one}input_columns = 'x',\n", in_rows=True) == (("x",), None)
    assert choose_columns("output_columns = 'x',\n", in_rows=True) == (None, None)


def test_the_first_file_shows_what_its_columns_are(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "a.csv"
    file.write_text("1,2\n")
    schema, config = load_schema(layout="flat"), load_config(work_dir=str(tmp_path / "work"))
    schema = schema.with_extensions(("csv",))
    inputs = find_inputs(tmp_path / "data", schema, config)
    with pytest.raises(InputError, match="as many fields as `columns`"):
        check_header(inputs, RecordFormat("csv", maybe_columns=("a", "b")))
    for names in (("a", "b", "c"), ("1", "2"), None):
        check_header(inputs, RecordFormat("csv", maybe_columns=names))
    file.write_bytes(b"\x1f\x8b\x08 damaged")  # left to the task that maps it
    check_header(inputs, RecordFormat("csv", maybe_columns=("a", "b")))
    file.unlink()
    empty = find_inputs(tmp_path / "data", schema, config)
    check_header(empty, RecordFormat("csv", maybe_columns=("a", "b")))


def test_files_of_a_format_are_listed(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(MAP)
    job = load_job(tmp_path / "job.py")
    assert "ndjson" in extensions_of(RecordFormat("jsonl"), job)
    assert extensions_of(KEYED, job) == EXTENSIONS
    assert extensions_of(RecordFormat("parquet"), job) == {"parquet"}
    assert extensions_of(RecordFormat("csv:;"), job) == EXTENSIONS | {"csv", "ndjson"}


@pytest.mark.parametrize(
    ("given", "end"),
    [
        (("my logs", "b"), "\ndaskmr inspect 'my logs' b"),
        (("*.log",), "\ndaskmr inspect '*.log'"),
        ((), "\ndaskmr inspect s3://bucket/x"),
        (("@-",), "\ndaskmr inspect s3://bucket/x"),
        (("-",), " pipe it into `daskmr inspect -`."),
    ],
)
def test_errors_of_a_format_point_to_inspect(given: tuple[str, ...], end: str) -> None:
    sources = Sources(given)
    with pytest.raises(JobError) as failure, pointing_to_inspect(sources, "s3://bucket/x"):
        raise foreign(TaskFailed("No.")).as_kind(JobError)
    assert str(failure.value).startswith(
        "No.\nTo see what the input is, and the line that reads it"
    )
    assert str(failure.value).endswith(end)
    with pytest.raises(JobError, match=r"^No\.$"), pointing_to_inspect(sources, ""):
        raise JobError("No.")
