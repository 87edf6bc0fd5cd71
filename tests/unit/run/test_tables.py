"""A result as a list, a dict and a table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import daskmr
from daskmr import DaskMRError, InputError, Job, Result, mapreduce


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, int(value))


def keep(key: Any, values: Any, context: Any) -> None:
    context.write((key, len(values)), sum(values))


@pytest.fixture
def run(tree: Callable[..., Path]) -> Callable[..., Result]:
    def run(reduce: Any = keep, **options: Any) -> Result:
        root = tree([["a\t1", "b\t2"], ["b\t3", "c\t4"]])
        options = {"map": emit, "reduce": reduce, "work_dir": root.parent / "w"} | options
        return mapreduce(data_dir=root, inline=True, **options)

    return run


ROWS = [(("a", 1), 1), (("b", 2), 5), (("c", 1), 4)]


def test_a_result_is_a_sequence(run: Callable[..., Result]) -> None:
    result = run()
    assert len(result) == 3
    assert [*result] == ROWS
    assert [result[n] for n in (0, 2, -1, -3)] == [ROWS[n] for n in (0, 2, -1, -3)]
    for part in (slice(1), slice(1, 3), slice(None, None, 2), slice(-2, None), slice(5, 9)):
        assert result[part] == ROWS[part]
    for number in (3, -4, 100):
        with pytest.raises(IndexError, match="the result has 3"):
            result[number]
    with pytest.raises(TypeError):
        result["a"]


def test_a_header_counts_as_a_row(run: Callable[..., Result]) -> None:
    def header(context: Any) -> None:
        context.writeline("header")

    result = run(setup_reduce=header)
    assert [*result] == ["header", *ROWS]
    assert len(result) == 4


def test_to_dict(run: Callable[..., Result]) -> None:
    assert run().to_dict() == dict(ROWS)
    twice = run(lambda key, values, context: [context.write(1, v) for v in values] and None)
    with pytest.raises(ValueError, match=r"The key 1 was written more than once"):
        twice.to_dict()
    lines = run(lambda key, values, context: context.writeline(key))
    with pytest.raises(ValueError, match="not a pair of key and value"):
        lines.to_dict()


def test_tables(run: Callable[..., Result]) -> None:
    expected = {"key": ["a", "b", "c"], "key_2": [1, 2, 1], "value": [1, 5, 4]}
    result = run()
    assert result.to_pandas().to_dict("list") == expected
    assert result.to_arrow().to_pydict() == expected
    assert result.to_polars().to_dict(as_series=False) == expected
    named = run(columns=("id", "n", "total"))
    assert [*named.to_pandas()] == named.to_arrow().column_names == ["id", "n", "total"]


def test_tables_of_dicts_lines_and_objects(run: Callable[..., Result]) -> None:
    def mixed(key: Any, values: Any, context: Any) -> None:
        if key == "a":
            context.write(key, {"n": 1})
        elif key == "b":
            context.writejson({"n": 2.5, "m": (1, 2)})
        else:
            context.writeline("text")

    result = run(mixed)
    assert result[1] == {"n": 2.5, "m": (1, 2)}
    expected = {
        "key": ["a", None, None],
        "value": [None, None, "text"],
        "m": [None, [1, 2], None],
        "n": [1.0, 2.5, None],
    }
    assert result.to_arrow().to_pydict() == expected
    assert result.to_polars().to_dict(as_series=False) == expected
    assert result.to_pandas()["n"].tolist()[:2] == [1.0, 2.5]


def test_mixed_types(run: Callable[..., Result]) -> None:
    result = run(lambda key, values, context: context.write(key, key if key == "a" else 1))
    for convert in (result.to_arrow, result.to_pandas, result.to_polars):
        with pytest.raises(DaskMRError, match="'value' has values of mixed types"):
            convert()


@pytest.mark.parametrize(
    ("library", "extra"), [("pandas", "pandas"), ("polars", "polars"), ("pyarrow", "parquet")]
)
def test_a_missing_library_names_its_extra(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, library: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # type: ignore[arg-type]
    convert = getattr(run(), f"to_{library.removeprefix('py')}")
    with pytest.raises(DaskMRError, match=rf"pip install 'daskmr\[{extra}\]'"):
        convert()


def test_an_output_is_not_read(run: Callable[..., Result], tmp_path: Path) -> None:
    result = run(output=tmp_path / "out.csv")
    assert len(result) == 3
    for read in (result.to_dict, result.to_pandas, lambda: result[0]):
        with pytest.raises(TypeError, match="wrote its result to"):
            read()


def test_a_job_or_functions() -> None:
    with pytest.raises(InputError, match="not both"):
        mapreduce(Job(map=emit), map=emit)
    for functions in ({}, {"reduce": keep}):
        with pytest.raises(InputError, match="needs a job"):
            mapreduce(**functions)  # type: ignore[arg-type]


def test_public_names_are_listed() -> None:
    assert {"Job", "Result", "mapreduce", "pluck"} <= {*dir(daskmr)}
    assert all(hasattr(daskmr, name) for name in dir(daskmr))
