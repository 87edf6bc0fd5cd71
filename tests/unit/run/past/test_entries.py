"""Runs are kept in files of their own, the newest ones only, and what is damaged is not shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from daskmr.run.past import entries
from daskmr.run.past.entries import folder_of, read_entries, write_entry


def entry(**changes: Any) -> dict[str, Any]:
    times = {"started": "2026-12-01T00:00:00+00:00", "ended": "2026-12-01T00:00:01+00:00"}
    return {"outcome": "done", **times, "seconds": 1.0, "output": {"path": "/out"}, **changes}


def test_the_newest_come_first_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "MOST", 2)
    for second in (5.0, 1.0, 3.0):
        write_entry(str(tmp_path), second, entry(seconds=second))
    assert [each and each["seconds"] for _, each in read_entries(str(tmp_path))] == [5.0, 3.0]


def test_a_damaged_file_is_named_and_others_are_ignored(tmp_path: Path) -> None:
    write_entry(str(tmp_path), 1.0, entry())
    folder = Path(folder_of(str(tmp_path)))
    (folder / "note.txt").write_text("mine")
    (folder / "20261201T000000.000Z-0123456789ab.json").write_text("{")
    found = list(read_entries(str(tmp_path)))
    assert [content is None for _, content in found] == [True, False]
    assert os.path.basename(found[0][0]) == "20261201T000000.000Z-0123456789ab.json"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    write_entry(str(tmp_path), 1.0, entry())
    folder = Path(folder_of(str(tmp_path)))
    (left,) = folder.iterdir()
    temporary = folder / f".{left.name}.0123456789ab.tmp"
    temporary.touch()
    write_entry(str(tmp_path), 2.0, entry())
    assert not temporary.exists()
    assert len(list(folder.iterdir())) == 2
