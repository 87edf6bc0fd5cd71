"""What the process that workers are forked from does before it serves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support.jobs import ROOT
from support.processes import SessionProcess, wait_until

from daskmr.cluster.forkserver import PARAMETERS
from daskmr.cluster.preload import MODULES

SHOW = """
import gc, json, os, sys
import daskmr.cluster.preload as preload
main = sys.modules["__main__"]
print(json.dumps({
    "imported": [name for name in preload.MODULES if name in sys.modules],
    "failed": preload.FAILED,
    "collects": gc.isenabled(),
    "frozen": gc.get_freeze_count() > 0,
    "main": [getattr(main, "__file__", None), main.__spec__ and main.__spec__.name],
    "environment": dict(os.environ),
}))
"""


def variables(**parameters: Any) -> dict[str, str]:
    given = {"parent": None, "main_path": None, "main_name": None, "environment": {}} | parameters
    return {"PYTHONPATH": str(ROOT), PARAMETERS: json.dumps(given)}


def run(script: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_without_parameters_it_has_no_effect() -> None:
    shown = json.loads(run(SHOW, PYTHONPATH=str(ROOT)).stdout)
    assert shown["imported"] == []
    assert shown["collects"]
    assert not shown["frozen"]
    assert shown["main"] == [None, None]


def test_it_imports_what_workers_need_and_looks_like_the_parent() -> None:
    restored = {"OMP_NUM_THREADS": None, "PYTHONSAFEPATH": "as it was"}
    parameters = variables(main_path="/a/job.py", main_name="a.job", environment=restored)
    shown = json.loads(run(SHOW, **parameters, OMP_NUM_THREADS="1").stdout)
    assert {*shown["imported"], *shown["failed"]} == {*MODULES}
    assert "distributed.worker" in shown["imported"]
    assert shown["collects"]
    assert shown["frozen"]
    assert shown["main"] == ["/a/job.py", "a.job"]
    assert PARAMETERS not in shown["environment"]
    assert "OMP_NUM_THREADS" not in shown["environment"]
    assert shown["environment"]["PYTHONSAFEPATH"] == "as it was"


def test_an_import_that_fails_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "isal").mkdir()
    (tmp_path / "isal/__init__.py").write_text("raise ValueError('broken on purpose')\n")
    parameters = variables() | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    shown = json.loads(run(SHOW, **parameters).stdout)
    assert "broken on purpose" in shown["failed"]["isal.igzip"]
    assert "distributed.worker" in shown["imported"]


def test_it_ends_at_once_if_its_parent_is_gone() -> None:
    done = run(SHOW, **variables(parent=os.getpid() + 1))
    assert (done.returncode, done.stdout) == (1, "")


def test_it_dies_with_its_parent_and_takes_workers_along() -> None:
    child = (
        "import os, time, daskmr.cluster.preload\n"
        "os.fork()  # a worker\n"
        "os.write(1, b'ready\\n')\n"
        "time.sleep(600)"
    )
    parent = (
        "import json, os, subprocess, sys\n"
        f"given = json.loads(os.environ[{PARAMETERS!r}]) | {{'parent': os.getpid()}}\n"
        f"os.environ[{PARAMETERS!r}] = json.dumps(given)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    process = SessionProcess(
        [sys.executable, "-c", parent], env=os.environ | variables(), stdout=subprocess.PIPE
    )
    try:
        assert process.popen.stdout is not None
        for _ in range(2):
            assert process.popen.stdout.readline() == b"ready\n"
        assert len(process.left()) == 3
        process.popen.kill()
        wait_until(lambda: not process.left(), what="the end of all")
    finally:
        process.kill()
