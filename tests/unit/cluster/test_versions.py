"""Versions: which may differ, which may not, and tasks that refuse where they do."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from daskmr.cluster import versions
from daskmr.cluster.versions import Pinned, compare, here, judge
from daskmr.errors import InputError, TaskFailed

OURS = {
    "python": "3.11.2",
    "dask": "2026.8.0",
    "distributed": "2026.8.0",
    "cloudpickle": "3.1.2",
    "msgpack": "1.2.4",
    "daskmr": "0.1.0",
}


def test_here_names_what_is_compared() -> None:
    assert here().keys() == OURS.keys() == versions._PARTS.keys()
    assert compare(here(), here()) == ([], [])


@pytest.mark.parametrize(
    ("name", "theirs", "outcome"),
    [
        ("python", "3.12.2", "breaks"),
        ("python", "3.11.9", "differs"),
        ("dask", "2026.9.0", "breaks"),
        ("dask", "2026.8.1", "differs"),
        ("distributed", "2026.7.0", "breaks"),
        ("cloudpickle", "2.2.1", "breaks"),
        ("cloudpickle", "3.0.0", "differs"),
        ("msgpack", "0.6.2", "breaks"),
        ("msgpack", "1.0.0", "differs"),
        ("daskmr", "0.1.1", "breaks"),
        ("daskmr", None, "breaks"),
    ],
)
def test_what_breaks_and_what_only_differs(name: str, theirs: str | None, outcome: str) -> None:
    expected = ([name], []) if outcome == "breaks" else ([], [name])
    assert compare(OURS, OURS | {name: theirs}) == expected


def test_what_is_not_known_is_not_compared() -> None:
    assert compare(OURS, {}) == ([], [])
    assert compare(OURS, {"numpy": "1.0"}) == ([], [])


def test_an_error_has_both_versions_and_the_worker() -> None:
    other = OURS | {"python": "3.12.1"}
    with pytest.raises(InputError) as caught:
        judge(OURS, [("the scheduler", OURS), ("the worker tcp://10.0.0.7:4", other)])
    assert str(caught.value).startswith(
        "Python is 3.12.1 on the worker tcp://10.0.0.7:4, and 3.11.2 on this machine"
    )
    with pytest.raises(
        InputError, match=r"daskmr is not installed on the worker w\. Install .*daskmr 0\.1\.0"
    ):
        judge(OURS, [("the worker w", OURS | {"daskmr": None})])


def test_small_differences_are_one_note_each() -> None:
    others = [(f"the worker {n}", OURS | {"dask": "2026.8.1"}) for n in range(5)]
    assert judge(OURS, [("the scheduler", OURS), *others]) == (
        "dask is 2026.8.1 on the worker 0, the worker 1, the worker 2 and 2 more, and 2026.8.0 here",
    )


def twice(value: int) -> int:
    return 2 * value


def shipped(function: Any) -> Any:
    """As it arrives on a worker, by way of the scheduler."""
    return pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(Pinned(function)))))


def test_a_pinned_function_is_called_here_and_there() -> None:
    assert Pinned(twice)(4) == shipped(twice)(4) == 8


def test_a_pinned_function_refuses_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = shipped(twice)
    monkeypatch.setattr(versions, "here", lambda: {**here(), "daskmr": "9"})
    with pytest.raises(TaskFailed, match=r"daskmr is 9 on .*, which joined while the job ran, and"):
        arrived(4)


def test_a_pinned_function_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = shipped(twice)
    monkeypatch.delitem(globals(), "twice")
    with pytest.raises(TaskFailed, match=r"could not be loaded on .*: AttributeError"):
        arrived(4)


@pytest.mark.parametrize("there", ["", "daskmr/cluster.py"])
def test_a_worker_without_these_modules_gets_a_function_that_says_so(
    tmp_path: Path, there: str
) -> None:
    if there:
        (tmp_path / there).parent.mkdir()
        (tmp_path / "daskmr/__init__.py").touch()
        (tmp_path / there).touch()
    text = (
        "import pickle, sys\n"
        "function = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "try:\n    function(1)\nexcept RuntimeError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-S", "-c", text, pickle.dumps(Pinned(twice)).hex()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "another version than the" in done.stdout
    assert "Install the same version in both places." in done.stdout
