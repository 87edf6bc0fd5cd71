"""What the tests of jobs share: a small data set, the command, and an oracle."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from daskmr.job.job import Job
from daskmr.job.keys import sort_key
from support import preloaded

ROOT = Path(__file__).resolve().parents[2]
DIRECTORY = "saved_session/Firefox/nightly/28.0a1"


def file_name(number: int, extension: str = "gz") -> str:
    """Name the file number `number` of a directory, in input order."""
    return f"20131029030201.20131102.v2.log.{number:032x}.{extension}"


def write_tree(root: Path, files: Sequence[Sequence[str]], directory: str = DIRECTORY) -> Path:
    """Write one gzip file for each list of lines, in the layout below `root`."""
    folder = root / directory
    folder.mkdir(parents=True, exist_ok=True)
    for number, lines in enumerate(files):
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
        (folder / file_name(number)).write_bytes(gzip.compress(data, 1))
    return root


def identity(key: Any) -> Any:
    """Map keys that are one key to one object: equal keys, and NaN to itself."""
    if isinstance(key, tuple):
        return tuple(identity(element) for element in key)
    return "NaN" if isinstance(key, float) and math.isnan(key) else (type(key) in (str, bytes), key)


def oracle(
    pairs: Sequence[tuple[Any, Any]], reduce: Callable[[Any, list[Any], Any], None]
) -> list[tuple[Any, Any]]:
    """Group `pairs` in memory and reduce them in key order: what any job must equal."""
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for key, value in pairs:
        groups.setdefault(identity(key), (key, []))[1].append(value)
    written: list[tuple[Any, Any]] = []

    class Context:
        @staticmethod
        def write(key: Any, value: Any) -> None:
            written.append((key, value))

    for key, values in sorted(groups.values(), key=lambda group: sort_key(group[0])):
        reduce(key, values, Context())
    return written


def daskmr(
    *arguments: str | os.PathLike[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    data: bytes | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does; where that makes no difference, in a preloaded process.

    Its standard input has `data`.
    """
    environment = {**os.environ, **(env or {})}
    words = [*map(os.fspath, arguments)]
    if preloaded.may_run(environment):
        return preloaded.run(words, cwd, environment, timeout, data)
    return subprocess.run(
        [sys.executable, "-m", "daskmr", *words],
        cwd=cwd,
        env=environment,
        input=None if data is None else data.decode("utf-8", "surrogateescape"),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=timeout,
        check=False,
    )


def daskmr_in(place: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, in a process of its own, and check its exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", *arguments],
        cwd=place, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done


def counting_job() -> Job:
    """A job that counts the values of each key."""

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, 1)

    def reduce(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    return Job(map=map_, reduce=reduce)
