"""Credentials that were given as options: in the environment of the processes that need them.

They reach no file, no graph, no command line and no log. The environment that a process is started
with can be read by its user as long as it lives; what is set later shows nowhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from daskmr.errors import InputError

__all__ = ["for_workers", "given", "unset"]

_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
# What botocore would look at as well, and mix with a key that is given, or prefer to it.
_OTHERS = ("AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")


@contextmanager
def given(key: str | None, secret: str | None, profile: str | None = None) -> Iterator[None]:
    """Have the key that was given, if one was, used by this process and those it starts meanwhile.

    Parameters
    ----------
    key, secret : str or None
        Of AWS; both or none.
    profile : str or None
        Given too, which would be ambiguous.

    Raises
    ------
    InputError
        For one without the other, or a profile beside them.
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
    """What a worker process that is started now has to be given, by way of a pipe.

    All that AWS knows of, as it is now: the process that workers are forked from may be older.
    """
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}


def unset() -> dict[str, None]:
    """What a process that needs none of this, or is given it later, is to be started without."""
    return dict.fromkeys(for_workers())
