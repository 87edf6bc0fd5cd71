"""Whether an output is that of the same job over the same input: ``--if-changed``.

What is uncertain counts as changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from daskmr import clock
from daskmr.config import SETTINGS
from daskmr.counts import Counts
from daskmr.data.bad_records import BAD_SUFFIX
from daskmr.data.inputs import Inputs
from daskmr.data.output import beside
from daskmr.data.output_directory.names import META, SUCCESS
from daskmr.errors import InputError
from daskmr.run.outputs.differences import differences
from daskmr.run.outputs.side_cars import side_car_paths
from daskmr.run.provenance import provenance_of, read_meta, recorded_path
from daskmr.run.request import Request
from daskmr.run.result import Result
from daskmr.run.stopwatch import Stopwatch

__all__ = ["if_up_to_date"]

# Settings of these groups do not change the output, unless they are part of the plan.
_GROUPS = ("Workers", "Cluster", "Display")
_OTHERS = {
    "cache", "cache_max", "prefetch_bytes", "fetch_processes", "fetch_retries", "read_timeout",
    "connect_timeout", "local_only", "allow_incomplete", "inline", "delete_data",
}  # fmt: skip
_PARTS = ("steps", "pass_env", "env", "py_files", "layout", "template", "sample", "imports")
_INPUT = ("data_dir", "sources", "bucket", "state")


def if_up_to_date(request: Request, inputs: Inputs, stopwatch: Stopwatch) -> Result | str:
    """Return the result of an output that is up to date, or else what has changed."""
    output = request.output or ""
    meta_path = side_car_paths(output)[1]
    if not os.path.exists(output):
        return f"{output} does not exist"
    if not os.path.isfile(meta_path):
        return f"there is no {meta_path}"
    try:
        meta = read_meta(meta_path)
        now = provenance_of(request, inputs, (meta.get("env") or {}).get("salt"))
        reason = next(_changes(request, meta, now), None)
        reason = reason or next(_damages(request, meta), None)
        stopwatch.lap("list")
        return reason or _result_of(request, meta, meta_path, stopwatch)
    except InputError as error:
        return str(error).removesuffix(".")
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        return f"{meta_path} cannot be compared ({type(error).__name__}: {error})"


def _changes(request: Request, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yield the differences between the job of the output and this one, and their input."""
    if any(job.path is None and job.code is None for job in request.job.scripts):
        yield "the functions of the job were passed from Python, and cannot be compared"
    yield from differences(before, now)
    yield from (f"{name} is not the same" for name in _PARTS if before.get(name) != now.get(name))
    for name in _INPUT:
        if before["input"].get(name) != now["input"].get(name):
            yield "the input is not the same" + f" ({name})" * (name != "state")
    if [before["filter"]["dimensions"], before.get("where")] != [
        now["filter"]["dimensions"],
        now["where"],
    ]:
        yield "the filter has changed"
    if now["uses_date"] and before.get("date") != now["date"]:
        yield f"the date is {now['date']}, and was {before.get('date')}"
    for name in ("daskmr", "python", "dask", "distributed"):
        if before["versions"][name] != now["versions"][name]:
            yield f"{name} is {now['versions'][name]}, and was {before['versions'][name]}"
    for name, value in now["options"].items():
        if _matters(name, request) and before["options"].get(name) != value:
            yield f"{name.replace('_', '-')} is {value!r}, and was {before['options'].get(name)!r}"


def _matters(name: str, request: Request) -> bool:
    if name == "num_reducers":
        return any(step.finish_reduce is not None for step in request.job.steps)
    row = SETTINGS.get(name)
    return name not in _OTHERS and (row is None or row.plan or row.group not in _GROUPS)


def _damages(request: Request, meta: Mapping[str, Any]) -> Iterator[str]:
    """Yield what of the output is not as its run has left it."""
    output, recorded = request.output or "", meta["output"]
    if recorded["path"] != recorded_path(output):
        yield f"{output} was written as {recorded['path']}"
    for name in ("missing", "poisoned"):
        if meta["left_out"][name]["count"]:
            yield "the last run skipped files that could not be read"
    bad_path = beside(output, BAD_SUFFIX)
    if meta["bad_records"]["saved"] and not os.path.isfile(bad_path):
        yield f"there is no {bad_path}"
    files = dict(_files(output, recorded))
    for path, (size, digest) in files.items():
        if not os.path.isfile(path):
            yield f"there is no {path}"
        elif os.path.getsize(path) != size or (digest and _digest_of(path) != digest):
            yield f"{path} is not as it was written"
        elif not digest and size:
            yield f"the digest of {path} was not recorded"
    if output.endswith("/"):
        own = {beside(output, ".pstats"), bad_path, os.path.join(output, META)}
        there = {
            os.path.join(folder, name) for folder, _, names in os.walk(output) for name in names
        }
        if more := sorted(there - own - files.keys()):
            yield f"{more[0]} was not written by the last run"


def _files(
    output: str, recorded: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[int, str | None]]]:
    """Yield the files of an output, with the size and the digest of each."""
    if not output.endswith("/"):
        yield output, (recorded["bytes"], recorded["sha256"])
        for each in recorded.get("named", {}).values():
            yield each["path"], (each["bytes"], each["sha256"])
        return
    yield os.path.join(output, SUCCESS), (0, None)
    for each in (recorded, *recorded.get("named", {}).values()):
        for part in each.get("parts", ()):
            yield os.path.join(output, part["name"]), (part["bytes"], part["sha256"])
    for name in recorded.get("named", {}):
        yield os.path.join(output, name, SUCCESS), (0, None)


def _digest_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _result_of(
    request: Request, meta: Mapping[str, Any], meta_path: str, stopwatch: Stopwatch
) -> Result:
    counts, output = meta["counts"], meta["output"]
    return Result(
        output=request.output,
        counts=Counts(**{name: counts[name] for name in Counts._fields if name in counts}),
        bad_files={},
        saved_bad_records=(),
        bad_records_path=None,
        skipped=(),
        skipped_count=0,
        corrupt=(),
        key_count=counts["keys"],
        lines=counts["lines"],
        output_bytes=output["bytes"],
        timings={**stopwatch.seconds, "total": clock.now() - stopwatch.started},
        meta_path=meta_path,
        sha256=output["sha256"],
        output_parts=len(output.get("parts", ())),
        settings=request.config.recorded(),
        up_to_date=True,
    )
