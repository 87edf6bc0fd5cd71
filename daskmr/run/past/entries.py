"""The history of a work dir: one small file for each run. This imports neither Dask nor a job."""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

from daskmr.files import AtomicFile, sweep
from daskmr.signals import on_hard_exit

__all__ = ["MOST", "folder_of", "output_of", "read_entries", "write_entry"]

MOST = 1000
"""Runs that are kept; the oldest are removed first."""

_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-[0-9a-f]{12}\.json")  # sorted by time
_TEMPORARY = re.compile(rf"\.{_NAME.pattern}\.[0-9a-f]{{12}}\.tmp")
_TRIES = 3
_LARGEST = 4 << 20  # bytes that are read of a file


def folder_of(work_dir: str) -> str:
    """Return the folder of the history of a work dir."""
    return os.path.join(work_dir, "history")


def write_entry(work_dir: str, started: float, entry: Mapping[str, Any]) -> None:
    """Add a run to the history; each has a file of its own, so that runs do not meet.

    Raises `OSError` if that fails.
    """
    folder, at = folder_of(work_dir), datetime.fromtimestamp(started, UTC)
    name = f"{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03}Z-{uuid.uuid4().hex[:12]}.json"
    with ExitStack() as stack:
        file = stack.enter_context(_opened(folder, name))
        stack.callback(on_hard_exit(file.discard))
        file.file.write(f"{json.dumps(entry, indent=1)}\n".encode())
        file.sync()
        file.commit()
    _prune(folder)


def _opened(folder: str, name: str) -> AtomicFile:
    for _ in range(_TRIES - 1):
        # Another run that has created the work dir removes it at its end, if it is empty.
        with suppress(FileNotFoundError):
            os.makedirs(folder, exist_ok=True)
            return AtomicFile(os.path.join(folder, name), sweep_dead=False)
    os.makedirs(folder, exist_ok=True)
    return AtomicFile(os.path.join(folder, name), sweep_dead=False)


def _prune(folder: str) -> None:
    names = sorted(os.listdir(folder))
    for name in filter(_TEMPORARY.fullmatch, names):
        path = os.path.join(folder, name)
        sweep(path, partial(os.unlink, path))
    for name in list(filter(_NAME.fullmatch, names))[:-MOST]:
        with suppress(OSError):  # another run has removed it
            os.unlink(os.path.join(folder, name))


def read_entries(work_dir: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the path and the content of each run, the newest first; ``None`` if it is damaged."""
    folder = folder_of(work_dir)
    try:
        names = sorted(filter(_NAME.fullmatch, os.listdir(folder)), reverse=True)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        try:
            with open(path, "rb") as file:
                content = json.loads(file.read(_LARGEST))
        except FileNotFoundError:  # a run has removed it
            continue
        except (OSError, ValueError):
            content = None
        yield path, content if _is_entry(content) else None


def _is_entry(content: Any) -> bool:
    """Check what every run writes, so that the rest need not be."""
    if not isinstance(content, dict):
        return False
    texts = all(isinstance(content.get(name), str) for name in ("outcome", "started", "ended"))
    return (
        texts
        and isinstance(content.get("seconds"), int | float)
        and isinstance(content.get("output"), dict)
        and isinstance(content["output"].get("path"), str)
        and isinstance(content.get("counts", {}), dict)
        and isinstance(content.get("bad_records", {}), dict)
    )


def output_of(entry: Mapping[str, Any]) -> str:
    """Return what tells the output of a run from others: its path, or for a stream also the job."""
    path: str = entry["output"]["path"]
    return f"{path} {entry.get('job')}" if path == "-" else path
