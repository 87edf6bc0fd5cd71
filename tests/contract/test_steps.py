"""Jobs of several steps, against an oracle in plain Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jobs import oracle

from daskmr import Job, mapreduce
from daskmr.data.steps import cuts, pairs, plan
from daskmr.tasks import reduce as reducing

# --- steps to choose from: each is a `map`, and maybe `combine` and `reduce` -----------------------


def spread(key: Any, dims: Any, value: Any, context: Any) -> None:
    key = tuple(key) if isinstance(key, list) else key
    context.write((len(str(value)) % 7, key), value)
    context.write(key, 1)


def mixed(key: Any, dims: Any, value: Any, context: Any) -> None:
    text = repr((key, value))
    choices = (None, True, len(text) / 7, text[:3], text.encode()[:2], ("t", len(text) % 5), 2)
    context.write(choices[len(text) % len(choices)], (key, value))


def bare(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(str(key), len(str(value)) / 10)


def large(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(str(key)[:2], "x" * (len(str(value)) % 50) * 400)


def nothing(key: Any, dims: Any, value: Any, context: Any) -> None:
    pass


def same(key: Any, dims: Any, value: Any, context: Any) -> None:
    assert type(dims).__name__ == "Dims" or "oracle" in dims
    context.write(key, value)


def collect(key: Any, values: Any, context: Any) -> None:
    for value in values:
        context.write(key, value)


def count(key: Any, values: Any, context: Any) -> None:
    context.write(key, len(values))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def few(key: Any, values: Any, context: Any) -> None:
    if len(str(key)) % 2:
        context.write([key], {"n": len(values)})


STEPS: list[tuple[Any, ...]] = [
    (spread, None, collect),
    (mixed, None, count),
    (bare, None, total),
    (large, None, count),
    (large, None, None),
    (nothing, None, count),
    (same, None, None),
    (spread, None, few),
    (mixed, None, None),
]


def expected(records: list[tuple[Any, Any]], steps: list[tuple[Any, ...]]) -> list[Any]:
    """Run the steps in plain Python."""
    for map_, _, reduce in steps:
        written: list[tuple[Any, Any]] = []

        class Context:
            @staticmethod
            def write(key: Any, value: Any, to: Any = written) -> None:
                to.append((key, value))

        for key, value in records:
            map_(key, ["oracle"], value, Context())
        records = written if reduce is None else oracle(written, reduce)
    return records


def write_input(folder: Path, files: list[list[str]]) -> Path:
    folder.mkdir(parents=True)
    for number, lines in enumerate(files):
        text = "".join(f"{line}\t{line * 3}\n" for line in lines)
        (folder / f"{number:03}.log").write_text(text)
    return folder


FILES = st.lists(st.lists(st.text("abcxyz", max_size=6), max_size=25), min_size=1, max_size=5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    FILES,
    st.lists(st.sampled_from(STEPS), min_size=2, max_size=4),
    st.sampled_from([1, 2, 7]),
    st.booleans(),
)
def test_any_steps_give_what_plain_python_gives(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[str]],
    steps: list[tuple[Any, ...]],
    reducers: int,
    finely: bool,
) -> None:
    data = write_input(tmp_path_factory.mktemp("steps") / "data", files)
    records = [(line, line * 3) for lines in files for line in lines]
    with (
        mock.patch.object(plan, "_FINE_BYTES", 100 if finely else plan._FINE_BYTES),
        mock.patch.object(cuts, "_BYTES", 50 if finely else cuts._BYTES),
        mock.patch.object(reducing, "_STEP_BYTES", 500 if finely else reducing._STEP_BYTES),
        mock.patch.object(pairs, "_BATCH", 3 if finely else pairs._BATCH),
    ):
        result = mapreduce(
            [Job(*functions) for functions in steps],
            data_dir=str(data),
            layout="{name}.log",
            inline=True,
            num_reducers=reducers,
            work_dir=str(data.parent / "work"),
            allow_empty=True,
        )
        assert repr(list(result)) == repr(expected(records, steps))
    assert [step.written for step in result.steps] == [
        len(expected(records, steps[: number + 1])) for number in range(len(steps))
    ]
