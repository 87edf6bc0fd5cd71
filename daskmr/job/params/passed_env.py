"""Environment variables that a run passes to workers elsewhere, where only its own code sees them.

The values reach a worker outside of the graph, and stay in its memory until the end of the run. The
job itself carries a token, under which it finds them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from daskmr.environment import environment
from daskmr.errors import InputError, TaskFailed
from daskmr.text import did_you_mean

__all__ = ["applied", "check_names", "put", "take_back"]

_values: dict[str, Mapping[str, str]] = {}


def check_names(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of variables; raise InputError for one that is not set, without any value.

    >>> check_names("HOME")
    ('HOME',)
    """
    given = dict.fromkeys([names] if isinstance(names, str) else names)
    for name in given:
        if "=" in name:
            name = name.partition("=")[0]
            raise InputError(
                f"--pass-env takes only the name of a variable, since others can see the command line. "
                f"Set {name} in the environment, and give --pass-env {name}"
            )
        if name not in os.environ:
            advice = did_you_mean(name, (*os.environ,)) or f" Set it first: export {name}=..."
            raise InputError(f"The environment variable {name} (--pass-env) is not set.{advice}")
    return tuple(given)


def put(token: str, values: Mapping[str, str]) -> None:
    """Keep the variables of a run in this process."""
    _values[token] = values


def take_back(token: str) -> None:
    """Forget the variables of a run."""
    _values.pop(token, None)


@contextmanager
def applied(token: str) -> Iterator[None]:
    """Set the variables of a run within a block; without a token, none.

    Raises `TaskFailed` if this process does not have them.
    """
    if not token:
        yield
        return
    if token not in _values:
        raise TaskFailed(
            "The worker has not received the environment variables of the job (--pass-env). Start the "
            "job again."
        )
    with environment(_values[token]):
        yield
