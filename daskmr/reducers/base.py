"""A reducer with its `combine`, and the type of partial results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from daskmr.job.tracebacks import short_repr

__all__ = ["Partial", "Reducer", "chunks", "plain", "refuse"]

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

    Examples
    --------
    >>> from daskmr import Job
    >>> from daskmr.reducers import total
    >>> def map(key, dims, value, context):
    ...     context.write(key, len(value))
    >>> job = Job(map=map, combine=total.combine, reduce=total)
    """

    name: ClassVar[str]  # that of the function in `daskmr.reducers`

    def __call__(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Write the result of `values`, of which some may be partial results of `combine`."""
        state = self._gather(values)
        if state is None:
            raise TypeError(f"{self!r} was given no values.")
        context.write(key, self._result(state))

    def combine(self, key: Any, values: Sequence[Any], context: Any) -> None:
        """Replace `values` by one partial result."""
        context.write(key, Partial(repr(self), self._gather(values)))

    def _gather(self, values: Sequence[Any]) -> Any:
        """Return the partial result of values, in one pass."""
        state = None
        for chunk in chunks(values):
            kinds = {*map(type, chunk)}
            if Partial in kinds:
                kinds.discard(Partial)
                for part in chunk:
                    if type(part) is Partial:
                        state = part_state(part, repr(self), state, self._merged)
                chunk = [value for value in chunk if type(value) is not Partial]
            if chunk:
                state = self._merged(state, self._taken(chunk, kinds))
        return state

    def _taken(self, values: list[Any], kinds: set[type]) -> Any:
        """Return the partial result of `values`, which have the types `kinds`."""
        raise NotImplementedError

    def _merged(self, state: Any, more: Any) -> Any:
        """Return the partial result of both; `state` may be ``None``. May change neither."""
        raise NotImplementedError

    def _result(self, state: Any) -> Any:
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> Any:
        return self.name  # by reference


def part_state(part: Partial, of: str, state: Any, merge: Any) -> Any:
    """Merge the state of a part into `state`; raise TypeError if another reducer made the part."""
    if part.of != of:
        raise TypeError(
            f"{of} was given a partial result of {part.of}. A job combines as it reduces: write "
            f"`reduce = {of}` and `combine = reduce.combine`."
        )
    return merge(state, part.state)


def chunks(values: Sequence[Any]) -> Iterable[list[Any]]:
    """Return lists of the values: one of all if they are in memory."""
    return (values,) if type(values) is list else _pages(values)


def _pages(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while page := list(islice(iterator, _CHUNK)):
        yield page


def plain(values: list[Any], kinds: set[type]) -> list[Any]:
    """Return values, which have the types `kinds`, with the Python values of numpy scalars."""
    if all(kind.__module__ != "numpy" for kind in kinds):
        return values
    return [value.item() if type(value).__module__ == "numpy" else value for value in values]


def refuse(reducer: Reducer, takes: str, value: Any, advice: str = "") -> TypeError:
    """Return the error of a reducer that cannot use a value."""
    shown = "None" if value is None else f"{short_repr(value)}, a {type(value).__name__}"
    advice = advice or "Convert it in map, or do not write it."
    return TypeError(f"{reducer!r} takes {takes}, but was given {shown}. {advice}")
