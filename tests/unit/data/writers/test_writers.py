"""The registry of output formats."""

from __future__ import annotations

import pytest

from daskmr.config import SETTINGS
from daskmr.data.writers import choose_format, format_called, format_names
from daskmr.errors import InputError


@pytest.mark.parametrize("name", format_names())
def test_every_module_of_the_package_is_a_format_or_a_helper(name: str) -> None:
    found = format_called(name)
    assert found.name == name
    assert all(suffix.startswith(".") for suffix in found.suffixes)
    assert f"`{name}`" in SETTINGS["output_format"].help


def test_no_two_formats_share_a_suffix() -> None:
    suffixes = [suffix for name in format_names() for suffix in format_called(name).suffixes]
    assert len(suffixes) == len({*suffixes})


@pytest.mark.parametrize(
    ("output", "name", "expected"),
    [
        (None, None, "text"),
        ("-", None, "text"),
        ("out", None, "text"),
        ("out.txt", None, "text"),
        ("out.gz", None, "text"),
        ("out.unknown", None, "text"),
        ("folder.csv/out", None, "text"),
        ("out.JSONL", None, "jsonl"),
        ("out.csv.zst", None, "csv"),
        ("s3://bucket/out.parquet", None, "parquet"),
        ("out.tsv.XZ", None, "tsv"),
        ("out.csv", "text", "text"),
        ("-", "csv", "csv"),
    ],
)
def test_the_option_goes_before_the_suffix(output: str, name: str, expected: str) -> None:
    assert choose_format(output, name).name == expected


@pytest.mark.parametrize("name", ["rows", "xml", ""])
def test_an_unknown_format(name: str) -> None:
    with pytest.raises(InputError, match="There is no output format"):
        choose_format("out", name)
