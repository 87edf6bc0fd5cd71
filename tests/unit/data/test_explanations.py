"""What is said about a listing without files names what would fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskmr.data.explanations import explain_nothing
from daskmr.data.layout import load_schema
from daskmr.data.listing import list_files


def explained(root: Path, *paths: str, layout: str | None = None) -> str:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    listing = list_files(root, load_schema(layout=layout))
    assert not listing.files
    text = explain_nothing(listing)
    assert text.endswith(
        f" To see what is there, and the line that reads it:\ndaskmr inspect {root}"
    )
    return text


@pytest.mark.parametrize(
    ("paths", "layout", "advice"),
    [
        (["2024-01-31/web1/a.log"], None, "--layout '{day:date}/{host}/a.log' fits the files"),
        (["a/b/c/d/e/2024-01-31.log"], None, "--layout 'a/b/c/d/e/{day:date}.log' fits"),
        (["dt=1/a.log"], None, "For directories name=value, use --layout hive."),
        (["dt=1/a.log"], "{day}/{host}/{_}", "For directories name=value, use --layout hive."),
        (["a.log", "b/c.log"], None, "--layout flat fits the files that are there."),
        (["a.csv"], "flat", "Name their format: for .csv, --records csv."),
        (
            ["a.parquet", "b.ndjson"],
            "flat",
            "for .ndjson, --records jsonl, for .parquet, --records p",
        ),
        (["a.bin", "b.exe"], "flat", "Check the data directory and the layout. To see"),
        (
            [],
            "flat",
            "such as --layout '{day}/{host}.log'; to read files at any depth, --layout flat.",
        ),
    ],
)
def test_advice(paths: list[str], layout: str | None, advice: str, tmp_path: Path) -> None:
    assert advice in explained(tmp_path, *paths, layout=layout)
