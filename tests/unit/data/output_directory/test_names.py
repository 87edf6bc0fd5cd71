"""Names of an output directory's files: which are daskmr's own, and in which order they are read."""

from __future__ import annotations

import pytest

from daskmr.data.output_directory.names import explain_foreign, part_name, suffix_of
from daskmr.data.writers import format_called


def test_own_files_may_be_replaced() -> None:
    own = ["_SUCCESS", "_meta.json", "_bad.jsonl", "_pstats", part_name(3, ".csv.gz")]
    assert explain_foreign("out/", own) == ""
    assert explain_foreign("out/", []) == ""


@pytest.mark.parametrize(
    "name", ["part-00000", "part-0.txt", "part-00000-x.txt", ".part-00000.txt.crc", "_x", "a.txt"]
)
def test_any_other_file_is_foreign(name: str) -> None:
    said = explain_foreign("out/", ["_SUCCESS", name])
    assert f"it holds {name}, which daskmr did not write" in said
    assert "as out-result/" in said


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("s3://bucket/", "s3://bucket/result/"),
        ("s3://bucket/out/", "s3://bucket/out-result/"),
        ("./", "./result/"),
        ("/tmp/out//", "/tmp/out-result/"),
    ],
)
def test_another_directory_is_not_in_it_if_there_can_be_one_beside(name: str, other: str) -> None:
    assert explain_foreign(name, ["mine"]).endswith(f", as {other}.")


@pytest.mark.parametrize(
    ("target", "name", "suffix"),
    [
        ("out/", "text", ".txt"),
        ("out.parquet/", "parquet", ".parquet"),
        ("out.ndjson.ZST//", "jsonl", ".jsonl.zst"),
        ("s3://bucket/a.gz/", "text", ".txt.gz"),
        ("/", "tsv", ".tsv"),
    ],
)
def test_suffix(target: str, name: str, suffix: str) -> None:
    assert suffix_of(target, format_called(name)) == suffix
