"""Rewrite the assertions of all test files, once, for the processes that pytest-xdist starts.

Each of them collects all tests. Without a copy in a cache, which pytest does not write where
PYTHONDONTWRITEBYTECODE is set, each would rewrite all files, which is most of the work of a collection.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.assertion import rewrite
from _pytest.assertion.rewrite import assertstate_key


def rewrite_all(folder: Path, config: pytest.Config) -> None:
    """Write the copies that are missing or of another text, in two processes."""
    stale = [path for path in sorted(folder.rglob("*.py")) if _is_stale(path)]
    context = multiprocessing.get_context("fork")
    parts = [context.Process(target=_rewrite, args=(stale[n::2], config)) for n in range(2)]
    for part in parts if stale else []:
        part.start()
    for part in parts if stale else []:
        part.join()


def _copy(path: Path) -> Path:
    return rewrite.get_cache_dir(path) / f"{path.stem}{rewrite.PYC_TAIL}"


def _is_stale(path: Path) -> bool:
    if not path.name.startswith("test_") and path.name != "conftest.py":
        return False
    try:
        with _copy(path).open("rb") as file:
            head = file.read(16)
    except OSError:
        return True
    return head[8:] != importlib.util.source_hash(path.read_bytes())


def _rewrite(paths: Sequence[Path], config: pytest.Config) -> None:
    for path in paths:
        copy = _copy(path)
        if rewrite.try_makedirs(copy.parent):
            source_hash, code = rewrite._rewrite_test(path, config)
            rewrite._write_pyc(config.stash[assertstate_key], code, source_hash, copy)
