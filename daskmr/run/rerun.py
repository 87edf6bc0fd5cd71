"""``daskmr run --from OUTPUT.meta.json``: the same run again, but for what is given anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from daskmr.errors import InputError
from daskmr.run.provenance import read_meta
from daskmr.text import HIDDEN

__all__ = ["repeat"]

_CHOICE = {"only": "only", "limit_files": "limit_files", "share": "sample", "seed": "seed"}
_CHOICE_OPTIONS = {*_CHOICE.values(), "sample_by"}
_PLACES = {"scheduler", "cluster", "inline"}  # of which one is given
_NOT_AGAIN = {"delete_data"}  # what was deleted then is gone, and what is there now is not that


def repeat(
    path: str, script: str | None, options: Mapping[str, Any], given: Collection[str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return the script and the options of the run that `path` tells of, and what it tells.

    Parameters
    ----------
    path : str
        An ``OUTPUT.meta.json``.
    script : str or None
        Another script.
    options : mapping
        All options, by name.
    given : collection of str
        Names of those that are given anew.

    Raises
    ------
    InputError
        When the file cannot be read, or its run had no script.
    """
    meta = read_meta(path)
    script = script or meta["script"]["path"]
    if script is None:
        raise InputError(
            f"The run that {path} tells of had no script: its functions were given from Python. Run "
            "it again from there."
        )
    again = {name: value for name, value in _recorded(meta).items() if name not in _NOT_AGAIN}
    for group in (_CHOICE_OPTIONS, _PLACES):
        if group & set(given):
            again = {name: value for name, value in again.items() if name not in group}
    known = {name: v for name, v in again.items() if v is not None and not _is_masked(v)}
    return script, {**options, **known, **{name: options[name] for name in given}}, meta


def _is_masked(value: object) -> bool:
    """Whether it is a URL without the secret that was in it: to be given again, where it is needed."""
    return isinstance(value, str) and "://" in value and HIDDEN in value


def _recorded(meta: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run, by the names that they have on the command line."""
    options = dict(meta["options"])
    filtered = {"version": meta["filter"]["version"], "dimensions": meta["filter"]["dimensions"]}
    options |= {
        "data_dir": meta["input"]["data_dir"],
        "input_filter": filtered,
        "output": meta["output"]["path"],
    }
    choice = meta["sample"] or {}
    options |= {option: choice[name] for name, option in _CHOICE.items() if name in choice}
    if choice.get("share") is not None:
        options["sample_by"] = choice["by"]
    return options
