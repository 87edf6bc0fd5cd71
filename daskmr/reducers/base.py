"""A reducer with its `combine`, and the type of partial results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from daskmr.job.tracebacks import short_repr

__all__ = ["Partial", "Reducer", "plain", "refuse"]

_CHUNK = 1 << 14  # values on disk that are held at a time


class Partial:
    """A partial result of `combine`, in a type that no value of a script has.

    - `of`: the reducer that made it, as in ``"top(10)"``.
    - `state`: plain data.
    """

    __slots__ = ("of", "state")

    def __init__(self, of: str, state: Any) -> None:
        self.of, self.state = of, state

    def __reduce__(self) -> tuple[Any, ...]:
        return Partial, (self.of, self.state)

    def __repr__(self) -> str:
        return f"<part of {self.of}: {short_repr(self.state)}>"


class Reducer:
    """A function of ``(key, values, context)`` for `reduce`, with a `combine` to match.

    A reducer is picklable and has no state: it may serve any number of keys and threads. A script's
    own `reduce` may call it, too: ``total(key, values, context)``.

    - `name`: its name in `daskmr.reducers`.
    - `args`: its settings, as 10 in ``top(10)``.
    """

    name: str
    args: tuple[Any, ...] = ()

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Write the result of `values`, of which some may be partial results of `combine`."""
        context.write(key, self._result(self._gather(values)))

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Replace `values` by one partial result."""
        context.write(key, Partial(repr(self), self._gather(values)))

    def _gather(self, values: Sequence[Any]) -> Any:
        """Return the partial result of values, in one pass."""
        state = self._empty()
        for chunk, kinds, states in self._chunks(values):
            if chunk:
                states.append(self._taken(chunk, kinds))
            for more in states:
                state = self._merged(state, more)
        return state

    def _chunks(self, values: Sequence[Any]) -> Iterator[tuple[list[Any], set[type], list[Any]]]:
        """Yield some values at a time, with their types, and the states of partial results."""
        iterator = iter(values)
        while chunk := values if type(values) is list else [*islice(iterator, _CHUNK)]:
            kinds = {*map(type, chunk)}
            states = []
            if Partial in kinds:
                states = [self._state_of(part) for part in chunk if type(part) is Partial]
                chunk = [value for value in chunk if type(value) is not Partial]
                kinds.discard(Partial)
            yield chunk, kinds, states
            if type(values) is list:
                return

    def _state_of(self, part: Partial) -> Any:
        """Return the state of a part; raise TypeError if another reducer made it."""
        if part.of != repr(self):
            raise TypeError(
                f"{self!r} was given a partial result of {part.of}. A job combines as it reduces: write "
                f"`reduce = {self!r}` and `combine = reduce.combine`."
            )
        return part.state

    def _empty(self) -> Any:
        """Return the partial result of no values, as a new object."""
        raise NotImplementedError

    def _taken(self, values: list[Any], kinds: set[type]) -> Any:
        """Return the partial result of `values`, which have the types `kinds`."""
        raise NotImplementedError

    def _merged(self, state: Any, more: Any) -> Any:
        """Return the partial result of both; may change `state`, but not `more`."""
        return state + more

    def _result(self, state: Any) -> Any:
        return state

    def _no_values(self) -> TypeError:
        return TypeError(f"{self!r} was given no values.")

    def __repr__(self) -> str:
        return self.name + (f"({', '.join(map(repr, self.args))})" if self.args else "")

    def __reduce__(self) -> Any:
        return (type(self), self.args) if self.args else self.name  # by reference


def plain(values: list[Any], kinds: set[type]) -> list[Any]:
    """Return values, which have the types `kinds`, with the Python values of numpy scalars."""
    if all(kind.__module__ != "numpy" for kind in kinds):
        return values
    return [value.item() if type(value).__module__ == "numpy" else value for value in values]


def refuse(reducer: Reducer, takes: str, value: Any, advice: str = "") -> TypeError:
    """Return the error of a reducer that cannot use a value."""
    shown = "None" if value is None else f"{short_repr(value)}, of type {type(value).__name__}"
    advice = advice or "Convert it in map, or do not write it."
    return TypeError(f"{reducer!r} takes {takes}, but was given {shown}. {advice}")
