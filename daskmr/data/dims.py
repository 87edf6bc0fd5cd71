"""The dimensions of a file as `map` gets them: a list of texts, with names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["Dims"]

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

    __slots__ = ("_names",)

    def __init__(self, values: Sequence[str] = (), names: tuple[str, ...] = ()) -> None:
        super().__init__(values)
        self._names = names if len(self) else ()  # files that are named have none

    def __getitem__(self, key: Any) -> Any:
        try:
            return _get(self, key)
        except TypeError:
            if not isinstance(key, str):
                raise
        if key not in self._names:
            raise KeyError(f"{key!r} is not a dimension of the layout, which has {self._known()}")
        return _get(self, self._names.index(key))

    def __getattr__(self, name: str) -> str:
        if name.startswith("__") or name == "_names" or name not in self._names:
            known = "" if name.startswith("_") else f"; the dimensions are {self._known()}"
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{known}")
        return _get(self, self._names.index(name))

    def __reduce__(self) -> Any:
        return Dims, (list(self), self._names)

    def _known(self) -> str:
        return ", ".join(self._names) or "none"
