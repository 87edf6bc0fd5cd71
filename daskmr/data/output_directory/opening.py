"""Open an output directory by its name."""

from __future__ import annotations

from collections.abc import Callable

from daskmr.data.output import refuse_one_slash
from daskmr.data.output_directory.base import OutputDirectory
from daskmr.data.output_directory.local import LocalDirectory
from daskmr.errors import InputError
from daskmr.store.source import Source
from daskmr.text import mask_credentials

__all__ = ["open_directory"]


def open_directory(
    target: str,
    suffix: str,
    run_id: str,
    folder: str,
    reach: Callable[[str], Source],
    retries: int,
) -> OutputDirectory:
    """Open an output that is a directory: a path, or the URL of a prefix.

    `suffix` is that of its parts; see `open_output` for the other parameters.
    """
    refuse_one_slash(target)
    path = target.removeprefix("file://")
    if "://" not in path:
        return LocalDirectory(path, suffix, run_id)
    from daskmr.data.output_directory.remote import StoreDirectory  # deferred: few jobs have one

    try:
        source = reach(target.rstrip("/"))
        return StoreDirectory(target, source, folder, suffix, run_id, retries)
    except InputError as error:
        raise InputError(
            f"The output {mask_credentials(target)!r} cannot be used: {error}"
        ) from None
