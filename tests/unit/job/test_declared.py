"""What a script declares at its top level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daskmr.errors import InputError
from daskmr.job.declared import Declared, names_of, paths_of
from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.pluck import pluck

MAP = "def map(key, dims, value, context): pass\n"


def job_of(tmp_path: Path, text: str) -> Job:
    (tmp_path / "job.py").write_text(text + MAP)
    return load_job(tmp_path / "job.py")


def test_a_script_declares(tmp_path: Path) -> None:
    job = job_of(tmp_path, 'layout = "flat"\nrecords = "csv"\nkey = "a"\ncolumns = ("a", "b")\n')
    assert job.declared == ("flat", "csv", "a", ("a", "b"), None, None, None, None)
    assert job_of(tmp_path, "").declared == Declared()
    assert Job(map=lambda key, dims, value, context: None).declared == Declared()


def test_names_of_the_output() -> None:
    def map_(key: Any, dims: Any, value: Any, context: Any) -> None: ...

    assert Job(map_, columns=("a",)).declared.names_of_output == ("a",)
    both = Job(map_, columns=("a",), output_columns=("b",), input_columns=("c",)).declared
    assert (both.names_of_output, both.input_columns) == (("b",), ("c",))


def test_names_that_mean_something_else_are_left_alone(tmp_path: Path) -> None:
    job = job_of(tmp_path, "records = 0\nlayout = ['x']\nkey = len\ndef read(path): pass\n")
    assert (job.declared.records, job.declared.layout, job.read) == (None, None, None)
    assert any("`layout` in the script" in note for note in job.notes)


def test_read_is_that_of_the_job(tmp_path: Path) -> None:
    job = job_of(tmp_path, "def read(stream, dims):\n    yield 1, 2\n")
    assert job.read is not None
    assert [*job.read(None, [])] == [(1, 2)]


@pytest.mark.parametrize("value", ["a", 5, (), ("a", 1), ("a", "a"), {"a": 1}])
def test_columns_are_names(value: Any) -> None:
    with pytest.raises(InputError, match="`columns` in the script"):
        names_of(value, "columns")


def test_fields_are_paths() -> None:
    assert paths_of(pluck("a.b", "c")) == paths_of(["a.b", "c"]) == (("a", "b"), ("c",))
    for value in ("a", 5, (), (7,), ("a..b",)):
        with pytest.raises(InputError, match="`fields` in the script"):
            paths_of(value)
