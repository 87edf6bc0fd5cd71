"""Modules elsewhere than beside the script."""

from __future__ import annotations

import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from support.scripts import MAP, failure_of, run_map

from daskmr.errors import InputError
from daskmr.job.loading import load_job
from daskmr.job.shipped.py_files import check_py_files
from daskmr.job.tracebacks import format_user_traceback


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "lib" / "shop").mkdir(parents=True)
    (tmp_path / "lib" / "shop" / "__init__.py").write_text("NAME = 'shop'\n")
    (tmp_path / "lib" / "tool.py").write_text("NAME = 'tool'\ndef fail(): return 1 / 0\n")
    (tmp_path / "lib" / "beside.py").write_text("NAME = 'elsewhere'\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "beside.py").write_text("NAME = 'beside'\n")
    (tmp_path / "scripts" / "job.py").write_text(
        "import shop, tool, beside\n"
        + MAP
        + "    context.write((shop.NAME, tool.NAME, beside.NAME), 1)\n"
    )
    return tmp_path


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for each in folder.rglob("*.py"):
            archive.write(each, each.relative_to(folder))
    shutil.rmtree(folder)
    return path


@pytest.mark.parametrize("pack", [False, True])
def test_they_are_found_after_those_beside_the_script(place: Path, pack: bool) -> None:
    path = packed(place / "lib") if pack else place / "lib"
    job = load_job(place / "scripts" / "job.py", py_files=[path])
    assert run_map(job) == [(("shop", "tool", "beside"), 1)]
    assert sorted(job.files) == ["beside.py", "job.py", "shop/__init__.py", "tool.py"]
    assert job.py_files == (str(path),)
    blob = pickle.dumps(job)
    path.rename(place / "gone")
    assert run_map(pickle.loads(blob)) == [(("shop", "tool", "beside"), 1)]


def test_a_traceback_names_the_place_in_an_archive(place: Path) -> None:
    script = place / "scripts" / "job.py"
    script.write_text("import tool\n" + MAP + "    tool.fail()\n")
    path = packed(place / "lib")
    job = load_job(script, py_files=path)
    shown = format_user_traceback(job, failure_of(job))
    assert f'File "{path}/tool.py", line 2, in fail' in shown
    assert "return 1 / 0" in shown


def test_a_change_is_a_change_of_the_job(place: Path) -> None:
    script = place / "scripts" / "job.py"
    first = load_job(script, py_files=[place / "lib"])
    (place / "lib" / "tool.py").write_text("NAME = 'other'\n")
    assert load_job(script, py_files=[place / "lib"]).digest != first.digest


def test_notes(place: Path) -> None:
    (place / "other").mkdir()
    job = load_job(place / "scripts" / "job.py", py_files=[place / "lib", place / "other"])
    assert job.notes == (
        f"--py-files {place}/other has no effect: the script imports nothing from it",
    )


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("none", "There is no folder or zip archive 'none'"),
        (
            "lib/shop",
            "lib/shop (--py-files) is a package. Give the folder that it is in: --py-files ",
        ),
        ("lib/tool.py", "lib/tool.py (--py-files) is a module. Give the folder that it is in"),
        ("text", "text (--py-files) is neither a folder nor a zip archive"),
        ([5], "py_files is a list of folders and zip archives, not [5]"),
        (5, "py_files is a list of folders and zip archives, not 5"),
    ],
)
def test_mistakes(place: Path, monkeypatch: pytest.MonkeyPatch, given: Any, why: str) -> None:
    monkeypatch.chdir(place)
    (place / "text").write_text("text")
    with pytest.raises(InputError) as caught:
        check_py_files(given)
    assert str(caught.value).startswith(why)


def test_an_archive_that_is_damaged(place: Path) -> None:
    path = packed(place / "lib")
    content = bytearray(path.read_bytes())
    content[40:60] = os.urandom(20)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"lib.zip \(--py-files\) cannot be unpacked"):
        load_job(place / "scripts" / "job.py", py_files=[path])


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    "read", ["(FILES / 'rate').read_text()", "'rate' in str([*FILES.iterdir()])"]
)
def test_their_data_below_the_folder_of_the_script(place: Path, pack: bool, read: str) -> None:
    """Also if that folder is a package of the script."""
    folder, script = place / "scripts" / "lib", place / "scripts" / "job.py"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "rate").write_text("7")
    (folder / "shop" / "__init__.py").write_text(
        f"from importlib.resources import files\nFILES = files('shop')\nDATA = {read}\n"
    )
    (folder / "unit").write_text("km")
    script.write_text(
        "import shop, lib\nfrom importlib.resources import files\n"
        + MAP
        + "    context.write((shop.DATA, (files('lib') / 'unit').read_text()), 1)\n"
    )
    path = folder
    if pack:
        path = folder.with_suffix(".zip")
        with zipfile.ZipFile(path, "w") as archive:
            for each in (folder / "shop").iterdir():
                archive.write(each, f"shop/{each.name}")
        shutil.rmtree(folder / "shop")
    expected = [(("7" if "read" in read else True, "km"), 1)]
    job = load_job(script, py_files=[path])
    assert run_map(job) == expected
    blob = pickle.dumps(job)
    (place / "scripts").rename(place / "gone")
    assert run_map(pickle.loads(blob)) == expected
