"""Pass credentials from options to other processes, in their environment.

They are never in a file, graph, command line or log. The initial environment of a process can be
read by its user as long as it runs; variables that are set later are not visible.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from daskmr.environment import environment
from daskmr.errors import InputError

__all__ = ["for_workers", "given", "unset"]

_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# botocore also reads these, and would combine them with a given key, or prefer them.
_OTHERS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


@contextmanager
def given(key: str | None, secret: str | None, profile: str | None = None) -> Iterator[None]:
    """Use the given AWS key, if any, in this process and its child processes.

    Raises `InputError` for a key without its secret, or together with a profile.
    """
    if key is None and secret is None:
        yield
        return
    if not key or not secret:
        raise InputError("--aws-key and --aws-secret-key must be used together: one is missing.")
    if profile is not None:
        raise InputError("Both --aws-key and --aws-profile are given: use only one of them.")
    with environment({**dict.fromkeys(_OTHERS), **dict(zip(_NAMES, (key, secret), strict=True))}):
        yield


def for_workers() -> dict[str, str]:
    """Return the current AWS variables, to send them to a worker process through a pipe.

    Workers may be forked from a process that was started before the variables were set.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def unset() -> dict[str, None]:
    """Return the changes that remove these variables from the environment of a new process."""
    return dict.fromkeys(for_workers())
