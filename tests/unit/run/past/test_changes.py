"""What changed from run to run of the same output is named."""

from __future__ import annotations

from typing import Any

import pytest

from daskmr.run.past.changes import changes, changes_of_all

BEFORE: dict[str, Any] = {
    "output": {"path": "/out"},
    "script": {"sha256": "a", "modules": {"m.py": "1"}},
    "params": {"day": 1},
    "files": {"t.tsv": {"sha256": "1"}},
    "filter": {"path": "f.json", "dimensions": []},
    "options": {"num_mappers": 2},
    "input": {"files": 2, "bytes": 10, "sha256": "x", "list_sha256": "y"},
    "versions": {"daskmr": "1"},
}


@pytest.mark.parametrize(
    ("part", "now", "said"),
    [
        ("script", {"sha256": "b", "modules": {"m.py": "1"}}, ("script",)),
        ("script", {"sha256": "a", "modules": {"m.py": "2"}}, ("module m.py",)),
        ("params", {"day": 2}, ("param day",)),
        ("files", {}, ("file t.tsv",)),
        ("filter", {"path": "other.json", "dimensions": []}, ()),
        ("filter", {"path": "f.json", "dimensions": [1]}, ("filter",)),
        ("options", {"num_mappers": 4}, ("num-mappers",)),
        ("input", {"files": 1, "bytes": 30}, ("input: -1 file, +20 B",)),
        ("input", BEFORE["input"] | {"list_sha256": "z"}, ("input: other files",)),
        ("versions", {"daskmr": "2"}, ("daskmr 2",)),
    ],
)
def test_each_part_is_named(part: str, now: Any, said: tuple[str, ...]) -> None:
    assert changes(BEFORE, BEFORE | {part: now}) == said


def test_runs_are_compared_with_the_one_before_of_the_same_output() -> None:
    failed = {"output": {"path": "/out"}}  # before its input was known
    other = BEFORE | {"output": {"path": "/other"}}
    newest = BEFORE | {"params": {"day": 2}}
    assert changes_of_all([newest, failed, other, BEFORE]) == [("param day",), (), (), ()]
