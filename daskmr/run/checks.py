"""What a run refuses before any work: settings that cannot be, and outputs that would do harm."""

from __future__ import annotations

import os
from typing import Any

from daskmr.config import Config
from daskmr.data.inputs import Inputs
from daskmr.data.output import OutputFile, StoreOutput
from daskmr.errors import InputError
from daskmr.run.companions import companion_paths
from daskmr.run.provenance import SUFFIX as META_SUFFIX
from daskmr.text import mask_credentials

__all__ = [
    "check_settings",
    "refuse_input_as_output",
    "refuse_network",
    "refuse_to_overwrite",
    "refuse_to_replace_input",
]

_MOST_WANTED = 1000  # reducers by --num-reducers
_WORKER_BASE = 150_000_000  # bytes that a worker takes before it holds any data


def check_settings(config: Config, inline: bool, local: bool) -> None:
    """Raise InputError for settings with which no job can run.

    Parameters
    ----------
    config : Config
    inline, local : bool
        The job runs in this process; on workers that are started here.
    """
    if (config.num_reducers or 0) > _MOST_WANTED:
        raise InputError(
            f"{config.num_reducers:,} reducers are too many: each takes a task, and something of "
            f"every partition. Give --num-reducers {_MOST_WANTED:,} at most, or leave it out; memory "
            "does not depend on it."
        )
    limit = config.memory_limit
    needed = 3 * config.spill_bytes + _WORKER_BASE
    if isinstance(limit, int) and 0 < limit < needed and not inline and local:
        raise InputError(
            f"A memory limit of {limit:,} bytes is too small for spill-bytes {config.spill_bytes:,}: "
            f"a worker needs at least {needed:,}. Raise --memory-limit, or lower daskmr.spill-bytes "
            "in the configuration."
        )


def refuse_to_overwrite(output: str, *sources: Any) -> None:
    """Raise InputError when the output, or what stands beside it, would replace part of the job."""
    for path in (output, *companion_paths(output)):
        real = os.path.realpath(path)
        for source in sources:
            if isinstance(source, str | os.PathLike) and os.path.realpath(source) == real:
                what = (
                    f"output {output!r}" if path == output else f"file {path!r} beside the output"
                )
                raise InputError(
                    f"The {what} is a file that the job needs, and would replace it. Name another "
                    "output with --output."
                )


def refuse_network(role: str, url: str) -> None:
    """Raise InputError for a place in a store, which a run without a network could not write."""
    protocol, found, _ = url.partition("://")
    if found and protocol.lower() not in ("file", "local", "memory"):
        raise InputError(
            f"--local-only touches no network, and the {role} {mask_credentials(url)!r} is in a store. Name a local "
            "one, or leave --local-only out."
        )


def refuse_input_as_output(inputs: Inputs, target: OutputFile | None) -> None:
    """Raise InputError when the output would replace an input file, or an input object."""
    if isinstance(target, StoreOutput):
        if inputs.remote is not None and _is_object_replaced(inputs, target):
            raise _replaces_input(target.name)
    elif target is not None:
        refuse_to_replace_input(inputs, target.name, target.path)


def refuse_to_replace_input(inputs: Inputs, name: str, path: str) -> None:
    """Raise InputError when the output at `path`, or what stands beside it, is an input file."""
    there = [p for p in (path, *companion_paths(path)) if os.path.isfile(p)]
    sizes, real = {os.path.getsize(p) for p in there}, set(map(os.path.realpath, there))
    for file in inputs.listing.files if there else ():
        # The name may be another one, behind a link; to follow the links of all would take long.
        if file.size in sizes and os.path.realpath(inputs.locate(file.path)) in real:
            raise _replaces_input(name)


def _is_object_replaced(inputs: Inputs, target: StoreOutput) -> bool:
    assert inputs.remote is not None
    paths = (target.key, target.key + META_SUFFIX)
    names = tuple(map(os.path.basename, paths))
    addresses = [target.source.address(path) for path in paths]
    return any(
        file.path.endswith(names) and inputs.remote.source.address(file.path) in addresses
        for file in inputs.listing.files
    )


def _replaces_input(name: str) -> InputError:
    return InputError(
        f"The output {name!r}, or what stands beside it, is one of the input files, and would replace "
        "it. Name another one with --output."
    )
