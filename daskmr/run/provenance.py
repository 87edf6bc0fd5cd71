"""What stands beside an output and says where it is from: ``OUTPUT.meta.json``.

It is enough to tell two runs apart, and to run one again. It holds no credentials: none are among
the settings of a run, and what a URL holds of them is masked.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, cast

from daskmr._version import __version__
from daskmr.config import Config
from daskmr.data.inputs import Inputs
from daskmr.data.layout import Schema
from daskmr.data.listing import InputFile
from daskmr.data.output import OutputFile
from daskmr.data.sampling import Choice
from daskmr.errors import InputError
from daskmr.job.job import Job
from daskmr.tasks.tally import Tally, by_group
from daskmr.text import masked

__all__ = [
    "BEGINS",
    "SUFFIX",
    "Given",
    "describe_counts",
    "describe_given",
    "differences",
    "is_meta",
    "moment",
    "read_meta",
    "write_meta",
]

SUFFIX = ".meta.json"
_VERSION = 1
BEGINS = b'{\n "daskmr": {'
"""What such a file begins with."""

_NEEDED = {  # by what reads it
    "script": ("path", "sha256", "modules"),
    "filter": ("version", "dimensions"),
    "input": ("data_dir", "files", "bytes", "sha256"),
    "output": ("path",),
    "options": (),
}
_FILES = 1000  # that are named one by one
_NAMED = 1000  # of what was left out
_LEFT_OUT = {"clusters"}  # settings that may hold a token, and are long
_PATHS = {"work_dir", "schema", "tls_ca_file", "tls_cert", "tls_key"}
_SHOWN = 3  # names in a note
_NOT_IN_META = {"bad_reasons", "waited"}  # counts that stand elsewhere


@dataclass(frozen=True, slots=True)
class Given:
    """What a run was told to do.

    Attributes
    ----------
    job : Job
    config : Config
    schema : Schema
    filter_path : str or None
        The file of the filter; ``None`` where there is none.
    data_dir : str or None
    choice : Choice
        Which part of the input is read.
    inline, profile, delete_data : bool
        As for ``mapreduce``.
    """

    job: Job
    config: Config
    schema: Schema
    filter_path: str | None
    data_dir: str | None
    choice: Choice
    inline: bool
    profile: bool
    delete_data: bool


def describe_given(given: Given, inputs: Inputs) -> dict[str, Any]:
    """Describe what a run is made of; to be called before its work, as files change."""
    files = inputs.listing.files
    return {
        "script": _describe_script(given.job),
        "filter": {"path": _absolute(given.filter_path), **given.schema.as_filter()},
        "layout": list(given.schema.layout.field_names),
        "options": _describe_options(given),
        "versions": _versions(),
        "input": {
            "data_dir": _absolute(given.data_dir),
            "bucket": given.config.bucket and masked(given.config.bucket),
            "files": len(files),
            "bytes": sum(file.size for file in files),
            **_describe_files(files, inputs.root),
        },
        "sample": given.choice.as_dict(),
    }


def _describe_script(job: Job) -> dict[str, Any]:
    own = os.path.basename(job.path) if job.path else None
    texts = {name: text.encode("utf-8", "surrogatepass") for name, text in job.files.items()}
    digests = {name: _sha256(content) for name, content in sorted({**texts, **job.data}.items())}
    return {
        "path": job.path,
        "sha256": digests.pop(own) if own in digests else job.digest,
        "modules": digests,
    }


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _describe_options(given: Given) -> dict[str, Any]:
    names = [field.name for field in fields(Config) if field.name not in _LEFT_OUT]
    options = {name: getattr(given.config, name) for name in names}
    share = options["max_bad_records"]
    if type(share) is float:
        options["max_bad_records"] = f"{100 * share:.12g}%"
    for name in _PATHS:
        options[name] = _absolute(options[name])
    options = {name: masked(v) if isinstance(v, str) else v for name, v in options.items()}
    flags = {"inline": given.inline, "profile": given.profile, "delete_data": given.delete_data}
    return flags | options


def _absolute(path: str | None) -> str | None:
    return None if path is None else os.path.abspath(path)


def _versions() -> dict[str, str]:
    system = os.uname()
    return {
        "daskmr": __version__,
        "python": platform.python_version(),
        "dask": _version_of("dask"),
        "distributed": _version_of("distributed"),
        "platform": f"{sys.platform} {system.release} {system.machine}",
    }


def _version_of(name: str) -> str:
    module = sys.modules.get(name)  # to look for its metadata takes longer
    return module.__version__ if module else importlib.metadata.version(name)


def _describe_files(files: tuple[InputFile, ...], root: str) -> dict[str, Any]:
    """Name the files with what changes when they do; of many, give one digest over all."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(
            f"{file.path}\t{file.size}\t{file.etag or ''}\n".encode("utf-8", "surrogatepass")
        )
    described: dict[str, Any] = {"sha256": digest.hexdigest()}
    if len(files) <= _FILES:
        described["list"] = [_describe_file(file, root) for file in files]
    return described


def _describe_file(file: InputFile, root: str) -> dict[str, Any]:
    described: dict[str, Any] = {"path": file.path, "size": file.size}
    if file.etag is not None:
        described["etag"] = file.etag
    if file.mtime is not None:
        described["mtime"] = file.mtime
    elif not file.is_remote:
        try:
            described["mtime"] = os.stat(os.path.join(root, file.path)).st_mtime
        except OSError:  # it is told when the file is mapped
            described["mtime"] = None
    return described


def describe_counts(
    tally: Tally, keys: int, lines: int, skipped: tuple[tuple[str, ...], int]
) -> dict[str, Any]:
    """Describe what came of a run: what was read, counted and left out.

    Parameters
    ----------
    tally : Tally
        Of all its tasks.
    keys, lines : int
        Keys that were reduced, and what was written for them.
    skipped : tuple of (tuple of str, int)
        Some of the paths that are not in the layout, and how many there are.
    """
    return {
        "counts": {
            **{
                name: figure
                for name, figure in tally.counts._asdict().items()
                if name not in _NOT_IN_META
            },
            "keys": keys,
            "lines": lines,
        },
        "counters": by_group(tally.counters),
        "bad_records": {
            "count": tally.bad_records,
            "reasons": dict(tally.bad_reasons),
            "files": dict(sorted(tally.bad_files.items())[:_NAMED]),
            "files_count": len(tally.bad_files),
            "saved": len(tally.saved),
        },
        "left_out": {
            "skipped": {"count": skipped[1], "paths": list(skipped[0])},
            "corrupt": _left_out(tally.corrupt),
            "poisoned": _left_out(tally.poisoned),
            "missing": _left_out(tally.missing),
        },
    }


def _left_out(files: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    return {"count": len(files), "reasons": dict(files[:_NAMED])}


def moment(seconds: float) -> str:
    """Write a moment as ISO 8601 does, in UTC.

    >>> moment(0.0)
    '1970-01-01T00:00:00.000+00:00'
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


# --- files ----------------------------------------------------------------------------------------


def write_meta(
    path: str, run_id: str, content: Mapping[str, Any], like: os.stat_result | None = None
) -> OutputFile:
    """Write what `content` says of a run, ready to be committed."""
    file = OutputFile(path, run_id, like=like)
    try:
        whole = {"daskmr": {"meta": _VERSION, "version": __version__}, **content}
        file.write(json.dumps(whole, indent=1) + "\n")
        file.close()
    except BaseException:
        file.discard()
        raise
    return file


def is_meta(path: str) -> bool:
    """Tell whether there is such a file, and it is daskmr's."""
    try:
        with open(path, "rb") as file:
            return file.read(len(BEGINS)) == BEGINS
    except OSError:
        return False


def read_meta(path: str) -> dict[str, Any]:
    """Read what was written beside an output.

    Raises
    ------
    InputError
        When it cannot be read, or is nothing of the kind.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        content = None
    mark = content.get("daskmr") if isinstance(content, dict) else None
    if not isinstance(mark, dict) or "meta" not in mark:
        raise InputError(
            f"{path} is not what daskmr writes beside an output. Give an OUTPUT{SUFFIX}."
        )
    if mark["meta"] != _VERSION:
        raise InputError(
            f"{path} was written by daskmr {mark.get('version')}, in a form that this version "
            f"({__version__}) does not know. Use that one."
        )
    for part, names in _NEEDED.items():
        within = content.get(part)
        if not isinstance(within, dict) or not all(name in within for name in names):
            raise InputError(f"{path} is not whole: it lacks what a run writes under {part!r}.")
    if not isinstance(content.get("layout"), list) or "sample" not in content:
        raise InputError(f"{path} is not whole: it lacks the layout, or the sample, of the run.")
    return cast(dict[str, Any], content)


# --- two runs -------------------------------------------------------------------------------------


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Say in what a run differs from the one that it repeats, as far as its result may tell."""
    same_part = before["sample"] == now["sample"]
    return (
        *_script_differs(before["script"], now["script"]),
        *_input_differs(before["input"], now["input"], same_part),
    )


def _script_differs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    if before["sha256"] != now["sha256"]:
        yield f"the script {now['path']} is not as it was in the run that is repeated"
    changed = sorted(
        name
        for name in before["modules"].keys() | now["modules"].keys()
        if before["modules"].get(name) != now["modules"].get(name)
    )
    if changed:
        yield f"what the script imports is not as it was in that run: {_some(changed)}"


def _input_differs(
    before: Mapping[str, Any], now: Mapping[str, Any], same_part: bool
) -> Iterable[str]:
    if "list" not in before or "list" not in now:
        if same_part and before["sha256"] != now["sha256"]:
            yield (
                f"the input is not that of the run that is repeated: {now['files']:,} files, "
                f"{now['bytes']:,} bytes; then {before['files']:,} files, {before['bytes']:,} bytes"
            )
        return
    then = {file["path"]: file for file in before["list"]}
    here = {file["path"]: file for file in now["list"]}
    kinds = {
        "is new": sorted(here.keys() - then.keys()),
        "is gone": sorted(then.keys() - here.keys()),
        "has changed": sorted(p for p in here.keys() & then.keys() if here[p] != then[p]),
    }
    for what, paths in kinds.items():
        if paths and (same_part or what == "has changed"):
            yield f"input that {what} since the run that is repeated: {_some(paths)}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
