"""Recognise what daskmr writes itself, which is never input."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable

from daskmr.data.sources.globs import is_glob, split_glob

__all__ = ["META", "OWN_SUFFIXES", "is_working", "output_of", "outputs_from", "why_own"]

META = "meta.json"
"""What the name of the provenance of an output ends in, beside a file or in a directory."""
OWN_SUFFIXES = (f".{META}", ".bad.jsonl", ".pstats")
_WORKING = re.compile(r"\.daskmr|\..+\.[0-9a-f]{12}\.(tmp|old)")


def why_own(name: str) -> str:
    """Return why a file or directory of this name is no input; ``""`` if it may be input.

    >>> why_own("os_count.txt.meta.json"), why_own("_SUCCESS"), why_own("a.log")
    ('it was written by daskmr', 'its name begins with _', '')
    >>> why_own("_hour=07")  # a directory of a Hive partition
    ''
    """
    if name.endswith(OWN_SUFFIXES):
        return "it was written by daskmr"
    if name.startswith("_") and "=" not in name:
        return "its name begins with _"
    return ""


def is_working(name: str) -> bool:
    """Check for the name of a file or directory that daskmr only works with, such as a work dir.

    >>> is_working(".daskmr"), is_working(".out.txt.0123456789ab.tmp"), is_working(".hidden")
    (True, True, False)
    """
    return name[:1] == "." and _WORKING.fullmatch(name) is not None


def outputs_from(root: str, metas: Iterable[str]) -> set[str]:
    """Return the outputs of earlier runs whose input was below the same folder as they are.

    Outputs from other data are not among them, so that a job can read what another one wrote.

    - `root`: the folder of the input.
    - `metas`: the paths of files below it that may describe an output, by their names.
    Paths of directories end in "/".
    """
    root = os.path.abspath(root)
    return {path for meta in metas for path in _described(root, meta)}


def output_of(path: str, outputs: set[str]) -> str:
    """Return which of the outputs a file is, or is a part of; ``""`` if none.

    >>> output_of("a/b/part-00000.txt", {"a/b/"}), output_of("a/c", {"a/b/"})
    ('a/b/', '')
    """
    folder = path[: path.rfind("/") + 1]
    return path if path in outputs else folder if folder in outputs else ""


def _described(root: str, meta: str) -> list[str]:
    """Return the outputs that a file describes, also those of ``context.write_to`` and of steps."""
    path = (
        meta.removesuffix(f"_{META}")
        if meta.endswith(f"/_{META}")
        else meta.removesuffix(f".{META}")
    )
    there = os.path.join(root, path)
    try:
        with open(os.path.join(root, meta), encoding="utf-8") as file:
            content = json.load(file)
        recorded, written = content["input"], content["output"]
        if not path.endswith("/") and os.path.getsize(there) != written["bytes"]:
            return []  # it is no longer that output
        folder = os.path.dirname(os.path.realpath(written["path"]))
        # Relative to the output, so that both can be moved.
        sources = _places(recorded["data_dir"], recorded.get("root"))
        found = [os.path.relpath(os.path.realpath(each), folder) for each in sources]
        named = [
            f"{path}{name}/" if path.endswith("/") else f"{path}.{name}"
            for name in written.get("named", ())
        ]
        steps = content.get("counts", {}).get("steps", ())
        kept = [os.path.relpath(step["kept"], folder) for step in steps if step["kept"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    near = os.path.dirname(there.rstrip("/"))
    places = [os.path.normpath(os.path.join(near, each)) for each in found]
    is_own = any(f"{place}/".startswith(f"{root.rstrip('/')}/") for place in places)
    kept = [os.path.relpath(os.path.join(near, each), root) for each in kept]
    return [path, *named, *kept] if is_own else []


def _places(data_dir: str | list[str] | None, root: str | None) -> list[str]:
    """Return the folders and files of the input of a run; those of standard input and stores are unknown.

    - `root`: the folder of all local input, including lists; ``None`` if `data_dir` has a single folder.
    """
    given = [data_dir] if isinstance(data_dir, str) else data_dir or []
    if root is not None:
        given = [split_glob(each)[0] if is_glob(each) else each for each in given]
        given += [root] * ("-" not in given)
    return [each for each in given if each.startswith("/")]
