"""The differences between two runs, by the content of their ``OUTPUT.meta.json``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, zip_longest
from typing import Any

from daskmr.data.readers.records import KEYED
from daskmr.text import some

__all__ = ["KEYED_RECORDS", "differences", "parts_in", "scripts_of"]

KEYED_RECORDS = KEYED.as_dict()
"""The format of runs that did not record it."""


def parts_in(meta: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    """Return the parameters or files of each script of a run."""
    steps = meta.get("steps", ())
    return [meta.get(part, {}), *(step[part] for step in steps if part in step)]


def _all_params_in(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the parameters of each script of a run, with defaults that are recorded as text."""
    params, others = parts_in(meta, "params"), parts_in(meta, "defaults")
    none: Mapping[str, Any] = {}
    return [{**one, **other} for one, other in zip_longest(params, others, fillvalue=none)]


def scripts_of(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the descriptions of the scripts of all steps."""
    steps = meta.get("steps", ())
    return [meta["script"], *(step["script"] for step in steps if "script" in step)]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Describe differences from the earlier run that may change the result."""
    same_part = before["sample"] == now["sample"]
    return (
        *_scripts_differ(scripts_of(before), scripts_of(now)),
        *chain.from_iterable(map(_params_differ, *(_all_params_in(run) for run in (before, now)))),
        *chain.from_iterable(map(_sent_differ, *(parts_in(run, "files") for run in (before, now)))),
        *_records_differ(before.get("records", KEYED_RECORDS), now["records"]),
        *_input_differs(before["input"], now["input"], same_part),
    )


def _scripts_differ(
    before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    if len(before) != len(now):
        yield f"the job has {len(now)} scripts, and had {len(before)} in the earlier run"
    for one, other in zip(before, now, strict=False):
        yield from _script_differs(one, other)


def _script_differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    if before["sha256"] != now["sha256"]:
        yield f"the script {now['path'] or '(--code)'} has changed since the earlier run"
    changed = sorted({name for name, _ in before["modules"].items() ^ now["modules"].items()})
    if changed:
        yield f"modules of the script have changed since the earlier run: {some(changed)}"


def _params_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted(before.keys() | now.keys()):
        values = [repr(run[name]) if name in run else "not set" for run in (now, before)]
        if values[0] != values[1]:
            yield f"the parameter {name} differs from the earlier run: now {values[0]}, then {values[1]}"


def _sent_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    digests = [{name: run[name]["sha256"] for name in run} for run in (before, now)]
    for name in sorted({name for name, _ in digests[0].items() ^ digests[1].items()}):
        kind = "has changed" if name in before and name in now else "is new"
        yield f"the file {name} that is sent {kind if name in now else 'is gone'} since the earlier run"


def _records_differ(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    if before != now:
        changed = ", ".join(
            f"{name} {now[name]!r}, then {before.get(name)!r}"
            for name in now
            if now[name] != before.get(name)
        )
        yield f"records are read otherwise than in the earlier run: now {changed}"


def _input_differs(
    before: Mapping[str, Any], now: Mapping[str, Any], same_part: bool
) -> Iterable[str]:
    if "list" not in before or "list" not in now:
        if same_part and before["sha256"] != now["sha256"]:
            yield (
                f"the input differs from the earlier run: now {now['files']:,} files, {now['bytes']:,} "
                f"bytes; then {before['files']:,} files, {before['bytes']:,} bytes"
            )
        return
    then = {file["path"]: file for file in before["list"]}
    here = {file["path"]: file for file in now["list"]}
    kinds = {
        "is new": sorted(here.keys() - then.keys()),
        "is gone": sorted(then.keys() - here.keys()),
        "has changed": sorted(p for p in here.keys() & then.keys() if here[p] != then[p]),
    }
    for change, paths in kinds.items():
        if paths and (same_part or change == "has changed"):
            yield f"input that {change} since the earlier run: {some(paths)}"
