"""A real Slurm on this machine, through conf/slurm.yaml."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from support.dask_cluster import ROOT
from support.jobs import daskmr, write_tree
from support.processes import wait_until

SCRIPTS = Path(__file__).parent / "slurm"
JOB = """
import pathlib, time
def map(key, dims, value, context):
    pathlib.Path("started").touch()
    time.sleep(float(value))
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""

pytestmark = [pytest.mark.slow, pytest.mark.slurm]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment in which a Slurm of one node is found."""
    folder = tmp_path_factory.mktemp("slurm")
    home = folder / "home"
    home.mkdir()
    try:
        subprocess.run(
            [SCRIPTS / "start", folder], check=True, stdin=subprocess.DEVNULL, timeout=300
        )
        yield {"SLURM_CONF": str(folder / "slurm.conf"), "HOME": str(home)}
    finally:
        if (folder / "pids").exists():
            subprocess.run([SCRIPTS / "stop", folder], check=True, timeout=60)


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """conf/slurm.yaml, with jobs small enough for this machine."""
    content = yaml.safe_load((ROOT / "conf" / "slurm.yaml").read_text("utf-8"))
    content["args"] |= {"cores": 2, "processes": 2, "memory": "2GB", "walltime": "00:10:00"}
    content["args"]["job_script_prologue"] = [f"export PYTHONPATH={ROOT}"]
    content["scale"] = 4
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    return "small.yaml"


def jobs(environment: Mapping[str, str]) -> list[str]:
    done = subprocess.run(
        ["squeue", "-h", "-o", "%i %T"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.split("\n")[:-1]


def test_a_job_runs_on_slurm(slurm: Mapping[str, str], cluster: str, tmp_path: Path) -> None:
    write_tree(tmp_path / "data", [["a\t0", "b\t0"], ["b\t0"]])
    (tmp_path / "job.py").write_text(JOB)
    arguments = ("run", "job.py", "-d", "data", "--cluster", cluster)
    done = daskmr(*arguments, cwd=tmp_path, env=slurm, timeout=120)
    assert (done.returncode, done.stdout) == (0, "a\t1\nb\t2\n"), done.stderr
    assert "note" not in done.stderr
    wait_until(lambda: not jobs(slurm))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["data", "job.py", "small.yaml", "started"]
    # dask_jobqueue makes a configuration of its own, and removes the keys of the run.
    assert sorted(os.listdir(slurm["HOME"])) == [".config", ".daskmr-slurm"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cancels_its_jobs(
    slurm: Mapping[str, str], cluster: str, tmp_path: Path, number: signal.Signals
) -> None:
    write_tree(tmp_path / "data", [["a\t60"]])
    (tmp_path / "job.py").write_text(JOB)
    arguments = ["run", "job.py", "-d", "data", "--cluster", cluster]
    with subprocess.Popen(
        [sys.executable, "-m", "daskmr", *arguments],
        cwd=tmp_path,
        env={**os.environ, **slurm},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: (tmp_path / "started").exists() or process.poll() is not None, 120)
        assert len(jobs(slurm)) == 2
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert said.endswith("daskmr: Interrupted; nothing was written.\n")
    wait_until(lambda: not jobs(slurm))
