"""Parameters are read from the command line and from files; unknown ones are errors."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daskmr.errors import InputError
from daskmr.job.params.given import (
    Recorded,
    check_given,
    read_params,
    refuse_unknown,
    similar,
    values_for,
)


def test_words() -> None:
    assert read_params(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["a"], "'a' is not NAME=VALUE"),
        (["=1"], "'=1' is not NAME=VALUE"),
        (["a=1", "a=2"], "a is given twice. A list is one value: --param a=a,b"),
    ],
)
def test_words_that_are_none(words: list[str], why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_params(words)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '\ufeff{"n": 10, "day": "2024-01-31", "xs": [1], "note": "é"}'),
        ("p.yaml", "n: 10\nday: 2024-01-31\nxs: [1]\nnote: é\n"),
        ("p.YML", "{n: 10, day: 2024-01-31, xs: [1], note: é}"),
        ("p.toml", 'n = 10\nday = 2024-01-31\nxs = [1]\nnote = "é"\n'),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = read_params(["n=11"], str(tmp_path / name))
    day = found.pop("day")
    assert day in ("2024-01-31", date(2024, 1, 31))
    assert found == {"n": "11", "xs": [1], "note": "é"}


def test_an_empty_yaml_file_gives_none(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("# none yet\n")
    assert read_params([], str(tmp_path / "p.yaml")) == {}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("p.json", "{", "p.json is not JSON: "),
        ("p.toml", "n: 1", "p.toml is not TOML: "),
        ("p.yaml", "n: [", "p.yaml is not YAML: "),
        ("p.json", '{"n": 1, "n": 2}', "p.json gives n twice"),
        ("p.yaml", "n: 1\nm: 2\nn: 3", "p.yaml gives n twice"),
        ("p.yaml", "m: [{n: 1, n: 2}]", "p.yaml gives n twice"),
        ("p.toml", "n = 1\nn = 2", "p.toml is not TOML: Cannot overwrite a value"),
        ("p.json", "[1]", "must hold names and values"),
        ("p.yaml", "1: 2", "must hold names and values"),
        ("p.ini", "n = 1", r"\.json, \.yaml or \.toml files, not from"),
        ("p.json", b"\xff", "cannot be read: "),
        ("p.json", None, "p.json cannot be read: No such file"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, text: Any, why: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=why):
        read_params([], str(tmp_path / name))


def test_names_are_similar_whatever_their_separators() -> None:
    assert similar("min-count", ["min_count", "max_count"]) == ["min_count"]
    assert similar("Treshold", ["threshold"]) == ["threshold"]
    assert similar("day", ["threshold"]) == []


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"job\.py has no parameter x\. It has day, host\."):
        refuse_unknown({"day": "1", "x": "2"}, ["day", "host"], ["job.py"])
    with pytest.raises(InputError, match=r'To declare one: .* MIN_N = param\("min-n", 5\)'):
        refuse_unknown({"min-n": "2"}, [], ["job.py"])
    several = r"The scripts a\.py, b\.py have no parameter x\. They have day, host\."
    with pytest.raises(InputError, match=several):
        refuse_unknown({"x": "2"}, ["day", "host", "day"], ["a.py", "b.py"])
    refuse_unknown({"x": Recorded({0: 5})}, [], ["job.py"])


def test_from_python() -> None:
    assert check_given(None) == {}
    assert check_given({"a": 1}) == {"a": 1}
    for wrong in ("a=1", ["a"], {1: 2}):
        with pytest.raises(InputError, match="Parameters are a dict"):
            check_given(wrong)


def test_each_script_has_the_values_that_it_had() -> None:
    given = {"a": Recorded({0: 5, 1: "5"}), "b": Recorded({1: 7}), "c": (5,)}
    assert values_for(given, 0) == {"a": 5, "c": (5,)}
    assert values_for(given, 1) == {"a": "5", "b": 7, "c": (5,)}
    assert values_for(given, 2) == {"c": (5,)}
