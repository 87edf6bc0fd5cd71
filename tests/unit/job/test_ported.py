"""Python 2 code is found in a script and its modules, also if the script cannot be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from daskmr.errors import InputError
from daskmr.job.ported import find_ported, load_ported


def test_python_2_code_is_found_in_all_files() -> None:
    files = {"job.py": "d = {}\nd.iteritems()", "other.py": "x = 1", "broken.py": "print 1"}
    [found] = find_ported(files, "job.py")
    assert found.startswith("job.py:2: `iteritems`")


def test_a_script_that_fails_shows_its_python_2_code_first(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("def map(key, dims, value, context):\n    pass\n\n{}.iteritems()\n")
    shown: list[tuple[str, str]] = []
    with pytest.raises(InputError):
        load_ported(str(script), lambda *line: shown.append(line))
    assert [(title, text[:8]) for title, text in shown] == [("warning", "job.py:4")]


def test_a_sound_script_is_loaded(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("def map(key, dims, value, context):\n    pass\n")
    assert load_ported(str(script), lambda *line: pytest.fail(str(line))).path == str(script)
