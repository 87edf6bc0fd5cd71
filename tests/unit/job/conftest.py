"""What the tests of scripts share: a folder of files, and an interpreter that is left as it was."""

from __future__ import annotations

import sys

import pytest

from daskmr.job import activation
from daskmr.job import job as job_module
from daskmr.job.script import Script


@pytest.fixture
def tree(tmp_path):
    """Write files into a folder, and return the path of its job.py."""

    def write(job="", folder="here", **others):
        for name, text in {"job": job, **others}.items():
            path = tmp_path / folder / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / folder / "job.py"

    return write


@pytest.fixture(autouse=True)
def clean_interpreter(monkeypatch):
    """Nothing of the user's stays behind, whatever a test does."""
    monkeypatch.setattr(job_module, "_JOBS", {})
    own = {"job", "helper", "pkg", "ns"}
    yield
    left = {name.partition(".")[0] for name in sys.modules}
    assert not {name for name in left if name in own or name.startswith("job_")}
    assert not any(isinstance(finder, Script) for finder in sys.meta_path)
    assert activation._active is None
