"""What daskmr wrote itself is recognised by its name."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

import pytest

from daskmr.data.bad_records import BAD_SUFFIX
from daskmr.data.sources.own_files import is_working, outputs_from, why_own
from daskmr.run.outputs.side_cars import META_SUFFIX


@pytest.mark.parametrize("name", [f"a{META_SUFFIX}", f"a.gz{BAD_SUFFIX}", "out.txt.pstats"])
def test_side_cars(name: str) -> None:
    assert why_own(name) == "it was written by daskmr"


@pytest.mark.parametrize("name", ["_SUCCESS", "_temporary", "_"])
def test_names_that_begin_with_an_underscore(name: str) -> None:
    assert why_own(name) == "its name begins with _"


@pytest.mark.parametrize("name", ["_day=01", "a_b.log", "meta.json", "x.jsonl", "bad.jsonl.gz"])
def test_other_names(name: str) -> None:
    assert why_own(name) == ""


@pytest.mark.parametrize("name", [".daskmr", ".out.0123456789ab.tmp", ".a.b.c.0123456789ab.old"])
def test_what_is_only_worked_with(name: str) -> None:
    assert is_working(name)
    assert not is_working(f"x{name}")
    assert not is_working(f"{name}x")


def write_meta(path: Path, output: Path, data_dir: Any, size: int = 4, **given: str) -> None:
    written = {"path": str(output), "bytes": size}
    path.write_text(json.dumps({"input": {"data_dir": data_dir, **given}, "output": written}))


@pytest.mark.parametrize(
    ("source", "is_from_there"),
    [
        ("{root}", True),
        ("{root}/a", True),
        ("{root}/*.log", True),
        (["/elsewhere", "{root}"], True),
        ("{root}-2", False),
        ("/elsewhere", False),
        ("/", False),
        ([], False),
        (None, False),
        (7, False),
    ],
)
def test_outputs_from_the_same_input(tmp_path: Path, source: Any, is_from_there: bool) -> None:
    root = tmp_path / "data"
    (root / "a").mkdir(parents=True)
    if isinstance(source, str):
        source = source.format(root=root)
    elif isinstance(source, list):
        source = [each.format(root=root) for each in source]
    (root / "a/out.txt").write_text("four")
    write_meta(root / "a/out.txt.meta.json", root / "a/out.txt", source)
    write_meta(root / "a/_meta.json", root / "a", source)
    metas = ["a/out.txt.meta.json", "a/_meta.json", "a/none.meta.json"]
    expected = {"a/out.txt", "a/"} if is_from_there else set()
    assert outputs_from(str(root), metas) == expected
    moved = tmp_path / "moved"
    root.rename(moved)
    assert outputs_from(str(moved), metas) == expected


@pytest.mark.parametrize(
    ("source", "folder", "is_from_there"),
    [
        ("-", "{root}/tmp", False),
        ("@-", "/elsewhere", False),
        ("@{root}/list", "/elsewhere", False),
        ("@/elsewhere/list", "{root}/a", True),
        ("s3://bucket/logs", None, False),
        (["s3://bucket/logs", "/elsewhere/a"], "/elsewhere", False),
        (["@{root}/list", "/elsewhere/a"], "/", False),
        ("{root}", None, True),
        ("{root}/a/b.log", "{root}/a", True),
        ("{escaped}/*.log", "{root}", True),
        (["{escaped}/*.log", "/elsewhere"], "/", True),
        (["{escaped}-2/*.log", "/elsewhere"], "/", False),
    ],
)
def test_where_the_input_of_a_run_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, folder: Any, is_from_there: bool
) -> None:
    """Standard input, stores and lists are in no folder, whichever the working directory is."""
    root = tmp_path / "year[1]"
    root.mkdir()
    monkeypatch.chdir(root)
    names = {"root": str(root), "escaped": glob.escape(str(root))}
    many = [each.format(**names) for each in ([source] if isinstance(source, str) else source)]
    given = {} if folder is None else {"root": folder.format(**names)}
    (root / "out.txt").write_text("four")
    recorded = many[0] if isinstance(source, str) else many
    write_meta(root / "out.txt.meta.json", root / "out.txt", recorded, **given)
    expected = {"out.txt"} if is_from_there else set()
    assert outputs_from(str(root), ["out.txt.meta.json"]) == expected


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"input": 1}', "\udc80", '{"input": {}}'])
def test_other_files_describe_no_output(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").write_text("four")
    (tmp_path / "a.meta.json").write_text(content, errors="surrogateescape")
    assert outputs_from(str(tmp_path), ["a.meta.json"]) == set()
    write_meta(tmp_path / "a.meta.json", tmp_path / "a", str(tmp_path), 5)
    assert outputs_from(str(tmp_path), ["a.meta.json"]) == set()
