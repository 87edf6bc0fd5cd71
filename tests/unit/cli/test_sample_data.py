"""The command `sample-data`: kinds, sizes, and the options that read what it wrote."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from support.jobs import daskmr

from daskmr.text import counted


def files(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_documents_are_the_default(tmp_path: Path) -> None:
    for name, options in {"a": (), "b": ("--kind", "documents", "--ext", "gz")}.items():
        done = daskmr("sample-data", name, "--size", "50kB", *options, cwd=tmp_path)
        assert done.returncode == 0
        assert f" documents in 1 file below {name}: 5" in done.stderr
        assert done.stderr.count("\n") == 1
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize(
    ("kind", "noun", "words"),
    [
        ("logs", "lines", ["--layout", "{day:date}/{host}/access.log.gz", "--records", "lines"]),
        ("events", "events", ["--layout", "hive", "--records", "jsonl"]),
        ("rides", "rides", ["--layout", "{year:int}/{month:int}/rides.csv", "--records", "csv"]),
    ],
)
def test_other_kinds_say_how_they_are_read(
    kind: str, noun: str, words: list[str], tmp_path: Path
) -> None:
    done = daskmr("sample-data", "my data", "--size", "50kB", "--kind", kind, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary, hint = done.stderr.splitlines()
    count = counted(len(files(tmp_path / "my data")), "file")
    assert f" {noun} in {count} below my data: 5" in summary
    before, _, line = hint.partition(": ")
    assert before == "To read them"
    assert shlex.split(line) == ["daskmr", "run", "SCRIPT", "-d", "my data", *words]


@pytest.mark.parametrize(
    ("extensions", "layout"),
    [
        ("log", "{day:date}/{host}/access.log"),
        ("zst", "{day:date}/{host}/access.log.zst"),
        ("gz,log", "{day:date}/{host}/{_}"),
    ],
)
def test_the_layout_has_the_extension(extensions: str, layout: str, tmp_path: Path) -> None:
    done = daskmr(
        "sample-data", "data", "--size", "9kB", "--kind", "logs", "--ext", extensions, cwd=tmp_path
    )
    assert f" --layout '{layout}' " in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--kind", "tweets"), "'tweets' is not one of"),
        (("--size", "much"), "'much' is not a size"),
        (("--kind", "rides", "--ext", "gz,log"), "A sample of rides cannot be written with"),
        (("--bad-lines", "2"), "between 0.0 and 1.0"),
    ],
)
def test_mistakes(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = daskmr("sample-data", "data", *options, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "data").exists()
