"""A failure ends with the record, and the command that runs its file alone."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import DIRECTORY, file_name, write_tree

FAILS = """
def deep(number):
    if number:
        deeper(number - 1)
    return {}["nothing"]
def deeper(number):
    deep(number)
def map(key, dims, value, context):
    if value == "fatal":
        deep(0)
    if value == "deep":
        deep(40)
    if value == "die":
        import os
        os._exit(3)
    context.write(key, 1)
def reduce(key, values, context):
    if key == "fatal":
        deep(0)
    context.write(key, sum(values))
"""


def run(place: Path, *options: str) -> list[str]:
    command = [sys.executable, "-m", "daskmr", "run", "my job.py", *options]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    return [
        line for line in lines if not re.match(r" *\d+:\d\d ", line)
    ]  # progress of a slow machine


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "my job.py").write_text(FAILS)
    return tmp_path


def again(lines: list[str]) -> list[str]:
    return shlex.split(lines[-1])


def test_a_record(place: Path) -> None:
    write_tree(place / "data", [["a\tb"] * 3, ["a\tb", "key\tfatal", "c\td"]])
    lines = run(place, "-d", "data", "-o", "out", "-m", "1", "-X", "-p", "--aws-key", "KEY",
                "--aws-secret-key", "SECRET", "--skip-corrupt-files", "--max-bad-records", "3%")  # fmt: skip
    assert lines[0] == "Traceback (most recent call last):"
    assert not any("daskmr/" in line for line in lines)
    told = [number for number, line in enumerate(lines) if line.startswith("daskmr: map failed")]
    assert "line 2: KeyError: 'nothing'" in lines[told[0]]
    assert lines[told[0] + 1] == r"The record: 'key\tfatal'"
    assert lines[-2] == "To run only that file, so that breakpoint() works:"
    path = f"{DIRECTORY}/{file_name(1)}"
    assert again(lines) == [
        "daskmr", "run", "my job.py", "--data-dir", "data", "--max-bad-records", "3%",
        "--skip-corrupt-files", "--inline", "-o", "-", "--only", path,
    ]  # fmt: skip
    assert not any("SECRET" in line for line in lines)
    once_more = run(place, *again(lines)[3:])
    assert "line 2: KeyError: 'nothing'" in "\n".join(once_more)
    assert not (place / "out").exists()


def test_a_key(place: Path) -> None:
    write_tree(place / "data", [["fatal\tb"]])
    lines = run(place, "-d", "data", "-o", "out", "--inline")
    assert any("reduce failed for the key 'fatal'" in line for line in lines)
    assert lines[-2] == "To run it without workers, so that breakpoint() works:"
    assert again(lines)[2:] == ["my job.py", "--data-dir", "data", "--inline", "-o", "-"]


def test_a_worker_that_dies(place: Path) -> None:
    write_tree(place / "data", [["a\tb"], ["a\tdie"]])
    lines = run(place, "-d", "data", "-m", "1")
    assert again(lines)[-2:] == ["--only", f"{DIRECTORY}/{file_name(1)}"]


def test_odd_names_do_not_reach_the_terminal_and_can_be_pasted(place: Path) -> None:
    write_tree(place / "data", [["a\tb"], ["a\tfatal"]])
    folder = place / "data" / DIRECTORY
    odd = os.fsdecode(b"20131105.20131106.\x1b[31m\n\xff.log")
    (folder / odd).write_text("a\tfatal\n")
    (folder / file_name(1)).unlink()
    (place / "my job.py").rename(place / "-job.py")
    command = [sys.executable, "-m", "daskmr", "run", "-d", "data", "--inline", "--", "-job.py"]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for _ in range(2):
        done = subprocess.run(
            command, cwd=place, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert all(line.isprintable() for line in lines)
        assert r"20131105.20131106.\x1b[31m\n\udcff.log, line 1: KeyError" in done.stderr
        command = ["bash", "-c", lines[-1]]


def test_it_fits_on_a_screen(place: Path) -> None:
    write_tree(place / "data", [["x" * 500 + "\tdeep"]])
    lines = run(place, "-d", "data", "--inline")
    assert len(lines) < 35
    assert any("lines omitted; --verbose shows them" in line for line in lines)
    assert any(len(line) == 200 + len("The record: ") for line in lines)
    assert len(run(place, "-d", "data", "--inline", "-v")) > 60


@pytest.mark.parametrize(
    ("name", "message"),
    [("o.jsonl", "cannot be written as JSON"), ("o.parquet", "integers of 64 bits"), ("o.csv/", "2 parts")],
)  # fmt: skip
def test_a_failure_of_the_output_format_fails_again(place: Path, name: str, message: str) -> None:
    write_tree(place / "data", [["k\t1"]])
    value = "b'x'" if name == "o.jsonl" else 1 << 70
    (place / "my job.py").write_text(
        f"output_columns = {('a',) if name == 'o.csv/' else None}\n"
        f"def map(key, dims, value, context): context.write(key, {value})\n"
        "def reduce(key, values, context): context.write(key, values[0])\n"
    )
    lines = run(place, "-d", "data", "-o", name, "--inline")
    assert message in lines[-3]
    again = run(place, *shlex.split(lines[-1])[3:])
    assert again[-3:] == lines[-3:]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x.csv", ["--records", "csv"], "names a column twice"),
        ("x.parquet", ["--records", "parquet"], "is not Parquet, but CSV"),
        ("x.csv.gz", ["--records", "csv"], "renamed to x.csv"),
        ("x.csv", ["--records", "csv", "--key", "b"], "names a column twice"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_not_to_be_run_alone(
    place: Path, name: str, options: list[str], message: str
) -> None:
    (place / "data").mkdir()
    (place / "data" / name).write_text("a,a\n1,2\n")
    said = "\n".join(run(place, "-d", "data", "--layout", "flat", "--inline", *options))
    assert message in said
    assert "breakpoint" not in said
