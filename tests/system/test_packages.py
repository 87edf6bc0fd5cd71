"""What is built holds what is needed, and nothing else; what is installed from it runs a job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.jobs import ROOT, write_tree

MADE = {".git", ".venv", ".daskmr", "build", "dist", "demo", "daskmr.egg-info"}
JOB = """
def map(key, dims, value, context):
    context.write(dims[0], 1)

def reduce(key, values, context):
    context.write(key, sum(values))
"""


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "PYTHON" not in name}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from a copy of the checkout, the wheel from the sdist, without the network."""
    checkout = tmp_path_factory.mktemp("build") / "checkout"
    shutil.copytree(
        ROOT, checkout, symlinks=True, ignore=lambda folder, _: MADE if folder == str(ROOT) else ()
    )
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "../built", cwd=checkout)
    return checkout.parent / "built"


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    [path] = built.glob("daskmr-*-py3-none-any.whl")
    return path


def files(folder: Path) -> set[str]:
    return {
        path.relative_to(ROOT).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files(ROOT / "daskmr")
    assert {"daskmr/py.typed", "daskmr/clusters/slurm.yaml", "daskmr/schema.json"} < names


def test_the_sdist_holds_the_project(built: Path) -> None:
    [path] = built.glob("daskmr-*.tar.gz")
    with tarfile.open(path) as archive:
        names = {
            member.name.partition("/")[2] for member in archive.getmembers() if not member.isdir()
        }
    for folder in ("daskmr", "tests", "docs", "examples", "conf", "benchmarks", "scripts"):
        held = {name for name in names if name.startswith(f"{folder}/")}
        made = {name for name in files(ROOT / folder) if name.startswith("benchmarks/data/")}
        assert held == files(ROOT / folder) - made
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile"} < names
    assert {"pyproject.toml", "setup.cfg"} < names


@pytest.mark.slow
def test_a_job_runs_where_the_wheel_is_installed(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    run(sys.executable, "-m", "venv", "--without-pip", installed, cwd=tmp_path)
    scripts = installed / "bin"
    [packages] = installed.glob("lib/python*/site-packages")
    # What daskmr needs is that of the environment of the tests; the checkout that is installed
    # there is found by a .pth file, which counts in a site directory alone.
    needed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "needed.pth").write_text("\n".join(needed), "utf-8")
    pip = [sys.executable, "-m", "pip", "--python", scripts / "python", "install"]
    run(*pip, "--quiet", "--no-deps", "--no-index", "--force-reinstall", wheel, cwd=tmp_path)

    work = tmp_path / "work"
    write_tree(work / "data", [["a\t{}", "b\t{}"], ["c\t{}"]])
    (work / "job.py").write_text(JOB, "utf-8")
    where = run(scripts / "python", "-c", "import daskmr; print(daskmr.__file__)", cwd=work)
    assert where.stdout == f"{packages / 'daskmr' / '__init__.py'}\n"
    options = ["-d", "data", "-o", "counts", "-m", "1", "--report", "report.html"]
    run(scripts / "daskmr", "run", "job.py", *options, cwd=work)
    assert (work / "counts").read_text("utf-8") == "saved_session\t3\n"
    assert "</html>" in (work / "report.html").read_text("utf-8")
    shown = run(scripts / "python", "-m", "dask", "mapreduce", "-h", cwd=work).stdout
    assert "dask mapreduce [OPTIONS]" in shown
