"""Folders and zip archives with modules that a script imports, elsewhere than beside it."""

from __future__ import annotations

import ast
import os
import zipfile
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Any

from daskmr.errors import InputError
from daskmr.job.sources import Sources, collect
from daskmr.job.tracebacks import short_repr
from daskmr.normal_forms import hint

__all__ = ["check_py_files", "collect_with"]


def check_py_files(given: Any) -> tuple[str, ...]:
    """Return the absolute paths of folders and zip archives; raise InputError for anything else.

    >>> check_py_files("/")
    ('/',)
    """
    values = [given] if isinstance(given, str | os.PathLike) else given or ()
    if not isinstance(values, Iterable) or not all(
        isinstance(v, str | os.PathLike) for v in values
    ):
        raise InputError(
            f"py_files is a list of folders and zip archives, not {short_repr(given)}."
        )
    return tuple(map(_check, map(os.fspath, values)))


def _check(path: str) -> str:
    if not os.path.exists(path):
        raise InputError(f"There is no folder or zip archive {path!r} (--py-files).{hint(path)}")
    whole = os.path.abspath(path)
    above = os.path.dirname(whole)
    if os.path.isfile(os.path.join(whole, "__init__.py")):
        problem = f"is a package. Give the folder that it is in: --py-files {above}"
    elif os.path.isdir(whole) or zipfile.is_zipfile(whole):
        return whole
    elif whole.endswith(".py"):
        problem = f"is a module. Give the folder that it is in: --py-files {above}"
    else:
        problem = "is neither a folder nor a zip archive."
    raise InputError(f"{path} (--py-files) {problem}")


def collect_with(
    path: str, text: str, tree: ast.Module, py_files: Sequence[str]
) -> tuple[Sources, tuple[str, ...]]:
    """Collect the files of a script, also from folders and archives; return notes on unused ones."""
    with ExitStack() as stack:
        folders = {_folder(each, stack): each for each in py_files}
        sources = collect(path, text, tree, (*folders,))
    # As in an archive that Python imports from, so that no path leads to the temporary folder.
    homes = {top: folders.get(home, home) for top, home in sources.homes.items()}
    notes = tuple(
        f"--py-files {each} has no effect: the script imports nothing from it"
        for each in py_files
        if each not in homes.values()
    )
    return replace(sources, homes=homes, py_files=(*py_files,)), notes


def _folder(path: str, stack: ExitStack) -> str:
    """Return a folder, or unpack an archive until the end of `stack`."""
    if os.path.isdir(path):
        return path
    folder = stack.enter_context(TemporaryDirectory(prefix="daskmr-"))
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{path} (--py-files) cannot be unpacked: {error}.") from None
    return folder
