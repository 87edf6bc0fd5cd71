"""Files in the working directory that have the names of modules, in every way to start a run."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from support.jobs import daskmr, write_tree

from daskmr import search_path
from daskmr.search_path import put_working_directory_last, python_path

JOB = """
def map(key, dims, value, context):
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""
NEEDED = "dask distributed tornado yaml click numpy isal cytoolz toolz msgpack zict rich psutil"


@pytest.fixture(scope="module")
def shadowed(tmp_path_factory):
    """A folder with a file for each module that Python does not import while it starts."""
    folder = tmp_path_factory.mktemp("shadowed")
    code = "import runpy, sys; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    hooks = {"sitecustomize", "usercustomize"}
    for name in {*sys.stdlib_module_names, *NEEDED.split()} - {*loaded, *hooks}:
        if importlib.util.find_spec(name) is not None:  # some are for other systems
            (folder / f"{name}.py").write_text(f"raise SystemExit('{name}.py was imported')")
    (folder / "job.py").write_text(JOB)
    write_tree(folder / "data", [["a\t1", "b\t2", "a\t3"]])
    return folder


@pytest.mark.parametrize(
    "path", [None, ".", pytest.param(f"{os.pathsep}{os.pathsep}", marks=pytest.mark.slow)]
)
def test_nothing_is_imported_from_the_working_directory(shadowed, tmp_path, path):
    output = tmp_path / "out.txt"
    env = {} if path is None else {"PYTHONPATH": path}
    done = daskmr("run", "job.py", "-d", "data", "-o", output, cwd=shadowed, env=env)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert output.read_text() == "a\t2\nb\t1\n"
    assert "was imported" not in done.stderr


@pytest.mark.slow
def test_nor_by_the_workers_of_a_local_cluster_that_is_configured(shadowed):
    done = daskmr(
        "run", "job.py", "-d", "data", "-o", "-", "-q", "--cluster", "workstation", cwd=shadowed
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\t2\nb\t1\n", "")


@pytest.mark.parametrize(
    "options", [[], pytest.param(["--cluster", "workstation"], marks=pytest.mark.slow)]
)
def test_what_a_script_starts_has_the_search_path_of_the_user(tmp_path, options):
    (tmp_path / "job.py").write_text(
        "import os, subprocess, sys\n"
        "def map(key, dims, value, context):\n"
        "    code = 'import beside_me; print(beside_me.X)'\n"
        "    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)\n"
        "    context.write(done.stdout.strip(), os.environ.get('PYTHONPATH'))\n"
    )
    (tmp_path / "beside_me.py").write_text("X = 7")
    write_tree(tmp_path / "data", [["a\t1"]])
    env = {"PYTHONPATH": "/nowhere"}
    done = daskmr("run", "job.py", "-d", "data", "-o", "-", "-q", *options, cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (0, "7\t/nowhere\n"), done.stderr


def test_what_is_in_the_working_directory_alone_can_still_be_imported(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/job.py").write_text(f"import common\n{JOB}")
    (tmp_path / "common.py").write_text("")
    write_tree(tmp_path / "data", [["a\t1"]])
    done = daskmr(
        "run",
        "scripts/job.py",
        "-d",
        "data",
        "-o",
        "-",
        "-q",
        cwd=tmp_path,
        env={"PYTHONPATH": "."},
    )
    assert (done.returncode, done.stdout) == (0, "a\t1\n"), done.stderr


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, and a link to it."""
    (tmp_path / "here").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(search_path, "_PACKAGE", "/lib/site-packages")
    return tmp_path


def test_the_working_directory_comes_last_by_whatever_name(here, monkeypatch):
    link, real = str(here / "link"), str(here / "here")
    monkeypatch.setattr(sys, "path", ["", link, "/a", ".", real, "/b", "/a"])
    put_working_directory_last()
    assert sys.path == ["/a", "/b", "/a", "", link, ".", real]


def test_what_python_puts_first_for_a_module_that_it_runs_is_left_out(here, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(here / "here"), "/a"])
    put_working_directory_last(by_name=True)
    assert sys.path == ["/a"]
    monkeypatch.setattr(search_path, "_PACKAGE", str(here / "here"))
    monkeypatch.setattr(sys, "path", [str(here / "here"), "/a"])
    put_working_directory_last(by_name=True)
    assert sys.path == ["/a", str(here / "here")]


def test_python_path_leaves_out_the_working_directory(here, monkeypatch):
    for given in ("", ".", ":", f"{here}/link:", "./:../here"):
        monkeypatch.setenv("PYTHONPATH", given)
        assert python_path() == ""
    monkeypatch.setenv("PYTHONPATH", "/a::/b/c:../link:..")
    assert python_path() == "/a:/b/c:.."
    monkeypatch.delenv("PYTHONPATH")
    assert python_path() == ""


def test_python_path_has_the_folder_of_a_package_that_is_not_installed(here, monkeypatch):
    monkeypatch.setattr(search_path, "_PACKAGE", "/checkout")
    monkeypatch.setenv("PYTHONPATH", "/a:.")
    assert python_path() == "/a:/checkout"
    monkeypatch.setenv("PYTHONPATH", "/checkout:/a")
    assert python_path() == "/checkout:/a"


def test_a_working_directory_that_is_gone_is_no_hindrance(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["/a", "/b"])
    put_working_directory_last()
    assert sys.path == ["/a", "/b"]
