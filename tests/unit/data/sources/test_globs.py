"""Globs match what they match in a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from daskmr.data.sources.globs import expand, is_glob, split_glob
from daskmr.errors import InputError

FILES = [
    "a/1.log",
    "a/2.txt",
    "a/b/3.log",
    "a/b/c/4.log",
    "d/5.log",
    ".h/6.log",
    "a/.7.log",
    "8.log",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "dangling").symlink_to("nowhere")
    return tmp_path


def matches(folder: Path, pattern: str) -> list[str]:
    fixed, parts = split_glob(pattern)
    found = expand(os.path.join(folder, fixed), parts)
    return sorted(os.path.relpath(path, folder) for path in found if not path.endswith("/"))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.log", ["8.log"]),
        ("*/*.log", ["a/1.log", "d/5.log", "link/1.log"]),
        ("**/*.log", ["8.log", "a/1.log", "a/b/3.log", "a/b/c/4.log", "d/5.log"]),
        ("a/**", ["a/1.log", "a/2.txt", "a/b/3.log", "a/b/c/4.log"]),
        ("a/**/**/*.log", ["a/1.log", "a/b/3.log", "a/b/c/4.log"]),
        ("**/b/**/*.log", ["a/b/3.log", "a/b/c/4.log"]),
        ("[ad]/[!2].log", ["a/1.log", "d/5.log"]),
        ("a/?.txt", ["a/2.txt"]),
        (".h/*", [".h/6.log"]),
        (".*/*.log", [".h/6.log"]),
        ("a/.*", ["a/.7.log"]),
        ("*/b/3.log", ["a/b/3.log", "link/b/3.log"]),
        ("a/*/../1.log", ["a/1.log"]),
        ("d/*/", []),
        ("no/*", []),
        ("*/b/", []),
    ],
)
def test_matches(folder: Path, pattern: str, found: list[str]) -> None:
    assert matches(folder, pattern) == found


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize("pattern", ["*.log", "**/*.log", "**/b/*", "link/*.log", "*/*/*.log"])
def test_bash_matches_the_same(folder: Path, pattern: str) -> None:
    script = f"shopt -s globstar nullglob; for f in {pattern}; do [ -f $f ] && echo $f; done; true"
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert matches(folder, pattern) == sorted(done.stdout.split())


def test_directories_end_in_a_slash(folder: Path) -> None:
    assert expand(os.fspath(folder), ("d*",)) == (f"{folder}/d/", f"{folder}/dangling")


def test_a_directory_can_be_excluded(folder: Path) -> None:
    found = expand(os.fspath(folder), ("**", "*.log"), lambda path: not path.endswith("/b"))
    assert f"{folder}/a/b/3.log" not in found
    assert f"{folder}/a/1.log" in found


def test_a_path_that_exists_is_no_glob(folder: Path) -> None:
    (folder / "x[1].log").write_text("x")
    assert not is_glob(f"{folder}/x[1].log")
    assert is_glob(f"{folder}/x[2].log")


def test_an_error_of_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", fail)
    with pytest.raises(InputError, match="Permission denied; correct it, or narrow the glob"):
        matches(folder, "*")
