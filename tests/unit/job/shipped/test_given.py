"""The names of files, and where they are looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from daskmr.errors import InputError
from daskmr.job.shipped.given import declared_files, given_files


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory, with some files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "geo").mkdir()
    (tmp_path / "day=1").mkdir()
    for name in ("lookup.tsv", "geo/cities", "day=1/rates"):
        (tmp_path / name).touch()
    return str(tmp_path)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (None, {}),
        ((), {}),
        ("lookup.tsv", {"lookup.tsv": "lookup.tsv"}),
        (["lookup.tsv", "geo/"], {"lookup.tsv": "lookup.tsv", "geo": "geo"}),
        (["geo/cities", "geo"], {"cities": "geo/cities", "geo": "geo"}),
        (["lookup.tsv", "./lookup.tsv"], {"lookup.tsv": "lookup.tsv"}),
        (["zones=lookup.tsv"], {"zones": "lookup.tsv"}),
        (["day=1/rates"], {"rates": "day=1/rates"}),
        (["day=day=1/rates"], {"day": "day=1/rates"}),
        (["day=1"], {"day=1": "day=1"}),
        ({"zones": Path("lookup.tsv")}, {"zones": "lookup.tsv"}),
        ({"geo/cities"}, {"cities": "geo/cities"}),
    ],
)
def test_names_and_paths(here: str, given: Any, names: dict[str, str]) -> None:
    expected = {name: os.path.join(here, path) for name, path in names.items()}
    assert given_files(given) == expected
    assert given_files(given, [here]) == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["lokup.tsv"], "There is no file 'lokup.tsv' to send (looked for in"),
        ([""], "There is no file ''"),
        ([1], "Files are a list of paths"),
        (1, "Files are a list of paths"),
        ({1: "geo"}, "Files are a list of paths"),
        (["https://example.org/x"], "is a URL"),
        (["zones="], "--file 'zones=' is neither PATH nor NAME=PATH."),
        (["=lookup.tsv"], "--file '=lookup.tsv' is neither PATH nor NAME=PATH."),
        (["x=lookup.tsv", "x=geo"], "Two files have the name x"),
        ({"a/b": "geo"}, "'a/b' cannot be the name"),
        ({"..": "geo"}, "'..' cannot be the name"),
        (["/"], "'' cannot be the name"),
    ],
)
def test_mistakes(here: str, given: Any, why: str) -> None:
    with pytest.raises(InputError) as caught:
        given_files(given)
    assert str(caught.value).startswith(why) or why in str(caught.value)


def test_a_similar_file_is_named(here: str) -> None:
    with pytest.raises(InputError, match=r"Did you mean .*lookup.tsv"):
        given_files(["lokup.tsv"])


def test_the_first_folder_that_has_a_file_counts(here: str, tmp_path: Path) -> None:
    (tmp_path / "geo" / "lookup.tsv").touch()
    folders = [os.path.join(here, "geo"), here]
    assert given_files(["lookup.tsv"], folders) == {"lookup.tsv": f"{here}/geo/lookup.tsv"}
    assert given_files(["geo/cities"], folders) == {"cities": f"{here}/geo/cities"}


@pytest.mark.parametrize("value", [None, 5, [1], {"a": 1}, {"a": [1]}, [["lookup.tsv"]], print])
def test_a_value_for_something_else_names_no_files(here: str, value: Any) -> None:
    assert declared_files(value, [here], ()) == {}


def test_a_given_file_replaces_that_of_the_script(here: str) -> None:
    listed = ["lookup.tsv", "geo/gone", "x=gone"]
    assert [*declared_files(listed, [here], ["gone", "x"])] == ["lookup.tsv"]
    assert declared_files({"a": "gone", "b": "geo"}, [here], ["a"]) == {"b": f"{here}/geo"}
    assert declared_files("geo", [here], ()) == {"geo": f"{here}/geo"}
