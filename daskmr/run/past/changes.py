"""Name what changed from one kept run to the next, in a few words for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from daskmr.run.past.entries import output_of
from daskmr.text import counted, format_bytes, some

__all__ = ["changes", "changes_of_all"]

_Entry = Mapping[str, Any]
_PARTS = {  # keys of an entry, and what they are
    "filter": "filter", "where": "where", "date": "date", "layout": "layout", "template": "layout",
    "records": "records", "sample": "sample", "py_files": "py-files", "pass_env": "pass-env",
}  # fmt: skip
_SOURCES = {"data_dir": "data-dir", "bucket": "bucket"}
_IN_PARTS = {"bucket", "layout", "schema", "records", "key"}  # options that are among those above


def changes_of_all(entries: Sequence[_Entry]) -> list[tuple[str, ...]]:
    """Return for each run what changed from the run before of the same output.

    - `entries`: the runs, the newest first. One that failed before its input was known says nothing.
    """
    before: dict[str, _Entry] = {}
    found = []
    for entry in reversed(entries):
        output, is_known = output_of(entry), "script" in entry
        earlier = before.get(output)
        found.append(changes(earlier, entry) if is_known and earlier is not None else ())
        if is_known:
            before[output] = entry
    return found[::-1]


def changes(before: _Entry, now: _Entry) -> tuple[str, ...]:
    """Name what may change the result or the time of a run.

    >>> before = {"params": {"day": 1}, "input": {"files": 18, "bytes": 0}}
    >>> changes(before, {"params": {"day": 2}, "input": {"files": 30, "bytes": 0}})
    ('param day', 'input: +12 files')
    """
    parts = (what for name, what in _PARTS.items() if _part(before, name) != _part(now, name))
    found = chain(
        _scripts(before, now),
        _named("param", *(_of_steps(run, "params", "defaults") for run in (before, now))),
        _named("file", *(_digests(run) for run in (before, now))),
        parts,
        _input(before.get("input", {}), now.get("input", {})),
        _options(before.get("options", {}), now.get("options", {})),
        _versions(before.get("versions", {}), now.get("versions", {})),
    )
    return tuple(dict.fromkeys(found))


def _part(entry: _Entry, name: str) -> Any:
    """Return a part of the description of a run; the path of a filter says nothing."""
    part = entry.get(name)
    return part.get("dimensions") if name == "filter" and isinstance(part, dict) else part


def _steps(entry: _Entry) -> list[_Entry]:
    """Return the descriptions of the scripts of a run."""
    return [entry, *(step for step in entry.get("steps", ()) if "script" in step)]


def _scripts(before: _Entry, now: _Entry) -> Iterator[str]:
    then, here = ([step.get("script", {}) for step in _steps(run)] for run in (before, now))
    digests = [[script.get("sha256") for script in scripts] for scripts in (then, here)]
    if digests[0] != digests[1]:
        yield "script"
    modules = [set(chain(*(s.get("modules", {}).items() for s in each))) for each in (then, here)]
    changed = sorted({name for name, _ in modules[0] ^ modules[1]})
    if changed:
        yield f"module{'s' * (len(changed) > 1)} {some(changed)}"


def _of_steps(entry: _Entry, *parts: str) -> dict[tuple[int, str], Any]:
    return {
        (number, name): value
        for number, step in enumerate(_steps(entry))
        for part in parts
        for name, value in step.get(part, {}).items()
    }


def _digests(entry: _Entry) -> dict[tuple[int, str], Any]:
    return {place: sent.get("sha256") for place, sent in _of_steps(entry, "files").items()}


def _named(
    noun: str, before: Mapping[tuple[int, str], Any], now: Mapping[tuple[int, str], Any]
) -> Iterator[str]:
    for place in sorted(before.keys() | now.keys()):
        if (place in before, before.get(place)) != (place in now, now.get(place)):
            yield f"{noun} {place[1]}"


def _input(before: _Entry, now: _Entry) -> Iterator[str]:
    for name, what in _SOURCES.items():
        if before.get(name) != now.get(name):
            yield what
    files, size = (now.get(name, 0) - before.get(name, 0) for name in ("files", "bytes"))
    grown = [f"{_sign(files)}{counted(abs(files), 'file')}"] if files else []
    grown += [f"{_sign(size)}{format_bytes(abs(size))}"] if size else []
    if grown:
        yield f"input: {', '.join(grown)}"
    elif any(_differs(before, now, name) for name in ("sha256", "list_sha256")):
        yield "input: other files"


def _differs(before: _Entry, now: _Entry, name: str) -> bool:
    return name in before and name in now and before[name] != now[name]


def _sign(change: int) -> str:
    return "+" if change > 0 else "-"


def _options(before: _Entry, now: _Entry) -> Iterator[str]:
    for name in now:
        if name in before and name not in _IN_PARTS and before[name] != now[name]:
            yield name.replace("_", "-")


def _versions(before: _Entry, now: _Entry) -> Iterator[str]:
    for name, version in now.items():
        if _differs(before, now, name):
            yield f"{name} {os.fspath(version)}"
