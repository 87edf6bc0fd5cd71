"""The documents are true: their commands run, their tables are complete, their links lead somewhere."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from support.docs import first_cells, read, rows, section
from support.jobs import DIRECTORY, ROOT, daskmr, write_tree

from daskmr import errors
from daskmr._version import __version__

README = ROOT / "README.md"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md")
    for path in ROOT.glob(pattern)
)
HEAVY = (
    "dask",
    "distributed",
    "bokeh",
    "tornado",
    "s3fs",
    "fsspec",
    "numpy",
    "yaml",
    "cloudpickle",
)
SLEEPING = """
import pathlib, time
def map(key, dims, value, context):
    pathlib.Path("started").touch()
    time.sleep(60)
"""
FAILING = "def map(key, dims, value, context): raise KeyError(key)"
WORKING = "def map(key, dims, value, context): context.write(key, value)"


# --- an environment with the commands, installed or not -------------------------------------------


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a shell in which daskmr is installed.

    Where the tests run on a bare source tree, its metadata stands in for an installation.
    """
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    folder = str(Path(sys.executable).parent)
    if not entry_points(group="console_scripts", name="daskmr"):
        bare = tmp_path_factory.mktemp("installed")
        _pretend_to_install(bare)
        environment["PYTHONPATH"] = os.pathsep.join([str(bare), str(ROOT)])
        folder = os.pathsep.join([str(bare), folder])
    environment["PATH"] = os.pathsep.join([folder, environment["PATH"]])
    return environment


def _pretend_to_install(folder: Path) -> None:
    metadata = tomllib.loads(read("pyproject.toml"))["project"]
    groups = {"console_scripts": metadata["scripts"], **metadata["entry-points"]}
    info = folder / f"daskmr-{__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: daskmr\nVersion: {__version__}\n")
    with (info / "entry_points.txt").open("w") as file:
        for group, points in groups.items():
            lines = "".join(f"{name} = {value}\n" for name, value in points.items())
            file.write(f"[{group}]\n{lines}\n")
    script = folder / "daskmr"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m daskmr "$@"\n')
    script.chmod(0o755)


def shell(
    command: str | list[str], environment: Mapping[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command if isinstance(command, list) else ["sh", "-euc", command],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# --- commands and scripts -------------------------------------------------------------------------

_BLOCK = re.compile(
    r"<!-- (file|run)(?:: (\S+))? -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


def blocks(document: str) -> list[tuple[str, str, str]]:
    return _BLOCK.findall(read(document))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(name, marks=() if name == "README.md" else pytest.mark.slow)
        for name in DOCUMENTS
        if blocks(name)
    ],
)
def test_marked_blocks_run(document: str, commands: Mapping[str, str], tmp_path: Path) -> None:
    for kind, name, text in blocks(document):
        if kind == "file":
            (tmp_path / name).write_text(text, "utf-8")
            continue
        command = [sys.executable, "-W", "error", "-c", text] if name == "python" else text
        done = shell(command, commands, tmp_path)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        assert "bad records: 0" in done.stderr or "daskmr run" not in text


def test_readme_shows_a_first_job_a_filter_and_the_interface() -> None:
    kinds = [(kind, name) for kind, name, _ in blocks("README.md")]
    assert kinds == [
        ("file", "os_count.py"),
        ("run", ""),
        ("run", ""),
        ("run", ""),
        ("file", "nightly.json"),
        ("run", ""),
        ("run", ""),
        ("run", "python"),
    ]


def test_every_mark_is_understood() -> None:
    for name in DOCUMENTS:
        outside_code = re.sub(r"`[^`\n]*`", "", read(name))
        assert outside_code.count("<!--") == len(blocks(name)), name


def test_python_blocks_are_python() -> None:
    for name in DOCUMENTS:
        for text in re.findall(r"```python\n(.*?)^```$", read(name), re.DOTALL | re.MULTILINE):
            compile(text, name, "exec")


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", read("Makefile"), re.MULTILINE))
    named = {
        target
        for name in DOCUMENTS
        for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)", read(name), re.MULTILINE)
        for target in target
        if target
    }
    assert {"demo", "test"} <= named <= targets


def test_contributing_has_the_commands_of_the_makefile() -> None:
    for row in rows(read("CONTRIBUTING.md")):
        target, *lines = re.findall(r"`([^`]+)`", " ".join(row))
        recipe = re.search(
            rf"^{target.removeprefix('make ')}:.*\n((?:\t.*\n)+)", read("Makefile"), re.MULTILINE
        )
        assert recipe is not None
        assert [line.strip().removeprefix("$(BIN)/") for line in recipe[1].splitlines()] == lines


# --- tables ---------------------------------------------------------------------------------------


def test_options_are_those_of_the_command() -> None:
    help_text = daskmr("run", "--help", env={"COLUMNS": "200"}).stdout
    given = {
        option
        for line in help_text.splitlines()
        if (match := re.match(r"\s+(-\w, )?(--[\w-]+)", line))
        for option in re.findall(r"(?<!\w)--?[a-zA-Z][\w-]*", match[0])
    }
    documented = first_cells(section(read("README.md"), "Options"))
    named = [cell.split()[0] for cell in documented if cell.startswith("-")]
    assert sorted(named) == sorted(given)


def test_settings_are_those_of_the_defaults() -> None:
    defaults = yaml.safe_load(read("conf/daskmr.yaml"))["daskmr"]
    table = {row[0].strip("`"): row[1].strip("`") for row in rows(read("docs/configuration.md"))}
    assert {name: yaml.safe_load(value) for name, value in table.items()} == defaults


def test_packages_of_the_design_are_those_of_the_contract() -> None:
    contract = configparser.ConfigParser()
    contract.read_string(read("setup.cfg"))
    layers = contract["importlinter:contract:layers"]["layers"].strip().split("\n")[:-1]
    packages = re.findall(r"\w+", " ".join(layers))
    documented = first_cells(section(read("docs/design.md"), "Packages"))
    assert [name.rstrip("/") for name in documented if name.endswith("/")] == packages
    assert set(packages) == {p.parent.name for p in ROOT.glob("daskmr/*/__init__.py")}


def test_changelog_has_this_version() -> None:
    versions = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[:2] == ["Unreleased", __version__]


# --- exit codes -----------------------------------------------------------------------------------


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "data", [["a\t1"]])


def exit_code(script: str, data: Path, *options: str) -> int:
    (data.parent / "job.py").write_text(script)
    arguments = ("run", "job.py", "-d", "data", "--inline", *options)
    return daskmr(*arguments, cwd=data.parent).returncode


def test_exit_codes_are_documented() -> None:
    documented = [
        int(code)
        for row in rows(section(read("README.md"), "Exit codes"))
        for code in row[0].split(", ")
    ]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    classes = (errors.JobError, errors.InputError, errors.NothingMatchedError)
    assert documented == [
        0,
        *(error.exit_code for error in classes),
        *(errors.Interrupted(number).exit_code for number in signals),
    ]


def test_exit_codes(data: Path) -> None:
    (data.parent / "none.json").write_text(
        '{"dimensions": [{"field_name": "reason", "allowed_values": "other"}]}'
    )
    assert exit_code(WORKING, data) == 0
    assert exit_code(FAILING, data) == 1
    assert exit_code("map = 5", data) == 2
    assert exit_code(WORKING, data, "--no-such-option") == 2
    assert exit_code(WORKING, data, "-f", "none.json") == 3


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_exit_codes_of_signals(number: signal.Signals, code: int, data: Path) -> None:
    folder = data.parent
    (folder / "job.py").write_text(SLEEPING)
    options = ["-d", "data", "-o", "o", "--inline", "-q"]  # on a busy machine it would say how far
    command = [sys.executable, "-m", "daskmr", "run", "job.py", *options]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 30
        while not (folder / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == b"daskmr: Interrupted; nothing was written.\n"
    assert sorted(path.name for path in folder.iterdir()) == ["data", "job.py", "started"]


# --- the commands themselves ----------------------------------------------------------------------


def test_daskmr_help(commands: Mapping[str, str]) -> None:
    done = shell(["daskmr", "--help"], commands)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: daskmr ")
    assert done.stderr == ""


def test_python_m_daskmr_version() -> None:
    assert daskmr("--version").stdout == f"daskmr, version {__version__}\n"


def test_dask_mapreduce_run_help(commands: Mapping[str, str]) -> None:
    done = shell([sys.executable, "-m", "dask", "mapreduce", "run", "--help"], commands)
    assert done.returncode == 0, done.stderr
    assert re.match(r"Usage: .*mapreduce run \[OPTIONS\] SCRIPT", done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["run", "--help"],
        ["sample-data", "--help"],
        ["run", "job.py", "--no-such-option"],
        ["cache", "--help"],
        ["run", "job.py", "-d", ".", "-m", "0"],
        ["nothing"],
    ],
    ids=" ".join,
)
def test_help_and_usage_errors_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    code = (
        "import sys\nfrom daskmr.__main__ import main\nsys.argv[0] = 'daskmr'\n"
        f"try:\n    main()\nfinally:\n    open({str(modules)!r}, 'w').write(' '.join(sys.modules))"
    )
    done = shell([sys.executable, "-c", code, *arguments], os.environ)
    assert done.returncode == (0 if arguments[-1] in ("--help", "--version") else 2), done.stderr
    imported = {name.partition(".")[0] for name in modules.read_text().split()}
    assert "daskmr" in imported
    assert imported.isdisjoint(HEAVY)


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("old", "Python 3.11 or newer is needed, and {python} is Python 3.8.1."),
        ("missing", "There is no {python}: install Python 3.11 or newer"),
    ],
)
def test_install_says_which_python_is_needed(python: str, said: str, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.8.1\n')
    old.chmod(0o755)
    path = str(tmp_path / python)
    done = shell([str(ROOT / "scripts" / "install")], {**os.environ, "PYTHON": path})
    assert done.returncode == 2
    assert done.stderr.startswith(said.format(python=path))


# --- the tracked files ----------------------------------------------------------------------------


def tracked() -> Iterator[Path]:
    """The files of the repository, those included that are not added yet."""
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    return (ROOT / name for name in names if name and (ROOT / name).is_file())


@pytest.mark.skipif(
    not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not in a git repository"
)
def test_no_path_of_a_machine_in_tracked_files() -> None:
    place = re.compile(r"(?<![\w.<>~-])/(?:home|root|Users|work)/[\w.]+")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        for match in place.finditer(path.read_text("utf-8", "surrogateescape"))
    ]
    assert found == []


def anchors(text: str) -> set[str]:
    """The anchors that headings give, as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}


@pytest.mark.parametrize("document", [*DOCUMENTS, "examples/README.md", "benchmarks/README.md"])
def test_links_resolve(document: str) -> None:
    text = re.sub(r"^```.*?^```$", "", read(document), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / document).parent / name if name else ROOT / document
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.read_text("utf-8")), target


def test_the_layout_is_the_one_in_the_documents() -> None:
    assert DIRECTORY.count("/") == 3  # four directories, as README.md says
    assert "<reason>/<appName>/<channel>/<version>/<buildID>" in read("README.md")
