"""The dimensions of a file as `map` gets them: a list of texts, with names."""

from __future__ import annotations

import dis
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from types import CodeType, FunctionType
from typing import Any, ClassVar

__all__ = ["Dims", "uses_positions"]

_get = list.__getitem__


class Dims(list[str]):
    """The dimensions of a file: a list in the order of the layout, whose elements have names.

    Examples
    --------
    >>> dims = Dims(["20240131", "web1"], ("day", "host"))
    >>> day, host = dims
    >>> dims.day, dims["host"], dims[0], dims
    ('20240131', 'web1', '20240131', ['20240131', 'web1'])
    """

    __slots__ = ()
    # Of the type for the names of a layout.
    _names: ClassVar[tuple[str, ...]] = ()
    _places: ClassVar[dict[str, int]] = {}

    def __new__(cls, values: Sequence[str] = (), names: tuple[str, ...] = ()) -> Dims:
        return super().__new__(_type_of(names) if len(values) else cls)  # named files have none

    def __init__(self, values: Sequence[str] = (), names: tuple[str, ...] = ()) -> None:
        super().__init__(values)

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return _get(self, key)
        if key not in self._places:
            raise KeyError(f"{key!r} is not a dimension of the layout, which has {self._known()}")
        return _get(self, self._places[key])

    def __getattr__(self, name: str) -> str:
        known = "" if name.startswith("_") else f"; the dimensions are {self._known()}"
        raise AttributeError(f"'Dims' object has no attribute {name!r}{known}")

    def __reduce__(self) -> Any:
        return Dims, (list(self), self._names)

    def _known(self) -> str:
        return ", ".join(self._names) or "none"


@lru_cache
def _type_of(names: tuple[str, ...]) -> type[Dims]:
    """Return the type of dimensions with these names, which has a property for each."""
    places = {name: names.index(name) for name in names}
    content: dict[str, Any] = {"__slots__": (), "_names": names, "_places": places}
    for name, place in places.items():
        if not hasattr(Dims, name):  # methods of lists go before names
            content[name] = property(itemgetter(place))
    return type("Dims", (Dims,), content)


def uses_positions(user_map: Callable[..., Any]) -> bool:
    """Check whether `map` only unpacks its dims or reads them by number, as it can any list.

    A list itself is many times as fast then. Any other use, and any that is not certain, is ``False``.

    >>> def by_number(key, dims, value, context):
    ...     context.write(dims[0], 1)
    >>> def by_name(key, dims, value, context):
    ...     context.write(dims["day"], 1)
    >>> uses_positions(by_number), uses_positions(by_name)
    (True, False)
    """
    return isinstance(user_map, FunctionType) and _uses_positions(user_map.__code__)


@lru_cache
def _uses_positions(code: CodeType) -> bool:
    if code.co_argcount < 2 or not _SCOPES.isdisjoint(code.co_names):
        return False
    name = code.co_varnames[1]
    steps = [*dis.get_instructions(code)]
    steps += steps[-1:] * 2
    for step, then, last in zip(steps, steps[1:], steps[2:], strict=False):
        if step.argval != name and not (isinstance(step.argval, tuple) and name in step.argval):
            continue
        is_number = then.opname.startswith("LOAD_") and type(then.argval) is int
        is_element = is_number and (last.opname == "BINARY_SUBSCR" or last.argrepr == "[]")
        if not (step.opname.startswith("LOAD_FAST") and step.argval == name):
            return False
        if not (is_element or then.opname.startswith("UNPACK_")):
            return False
    return True


_SCOPES = {"locals", "vars", "eval", "exec"}
