"""Who calls the user's functions, and what for: found on the stack when somebody needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import CodeType, FrameType, FunctionType
from typing import Any, NamedTuple, TypeVar

__all__ = ["NO_KEY", "Call", "call_of", "calls_user"]

_F = TypeVar("_F", bound=Callable[..., Any])

NO_KEY: Any = object()
"""Stands for the key of a call that has none."""


class Call(NamedTuple):
    """A call of one of the user's functions.

    Attributes
    ----------
    function : str
        ``"map"``, ``"combine"``, ``"reduce"`` or ``"setup_reduce"``.
    file, line : str, int
        The record that is mapped.
    key : object
        The key whose values are given, or `NO_KEY`.
    """

    function: str
    file: str = ""
    line: int = 0
    key: Any = NO_KEY


_callers: dict[CodeType, Callable[[Mapping[str, Any]], Call]] = {}


def calls_user(describe: Callable[[Mapping[str, Any]], Call]) -> Callable[[_F], _F]:
    """Decorate what calls a function of the user's, without any cost to the call.

    Parameters
    ----------
    describe : callable
        Tells what for, from the local variables of the decorated function.

    Examples
    --------
    >>> import sys
    >>> @calls_user(lambda local: Call("map", line=local["number"]))
    ... def call(function):
    ...     number = 7
    ...     return function()
    >>> call(lambda: call_of(sys._getframe(1)).line)
    7
    """

    def register(function: _F) -> _F:
        assert isinstance(function, FunctionType)
        _callers[function.__code__] = describe
        return function

    return register


def call_of(frame: FrameType) -> Call | None:
    """Tell which call of the user's functions a frame itself makes, if any."""
    describe = _callers.get(frame.f_code)
    return None if describe is None else describe(frame.f_locals)
