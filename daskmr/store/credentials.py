"""Credentials that were given as options: in the environment of the processes that need them.

They reach no file, graph, command line or log. The environment that a process is started with can
be read by its user as long as it lives; variables that are set later are not visible.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from daskmr.errors import InputError

__all__ = ["for_workers", "given", "unset"]

_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# botocore reads these too, and would mix them with a given key, or prefer them to it.
_OTHERS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


@contextmanager
def given(key: str | None, secret: str | None, profile: str | None = None) -> Iterator[None]:
    """Use the AWS key that was given, if any, in this process and those it starts meanwhile.

    Raises `InputError` for a key without its secret, or a profile beside them.
    """
    if key is None and secret is None:
        yield
        return
    if not key or not secret:
        raise InputError("--aws-key and --aws-secret-key go together: one of them is missing.")
    if profile is not None:
        raise InputError("Both --aws-key and --aws-profile are given: leave one of them out.")
    before = {name: os.environ.pop(name, None) for name in (*_NAMES, *_OTHERS)}
    os.environ.update(zip(_NAMES, (key, secret), strict=True))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def for_workers() -> dict[str, str]:
    """Return the current AWS variables, to be sent to a worker process through a pipe.

    The process that workers are forked from may be older than they are.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def unset() -> dict[str, None]:
    """Return what removes these variables from the environment that a process starts with."""
    return dict.fromkeys(for_workers())
