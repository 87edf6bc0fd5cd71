"""Pickling what has no module to be imported from: functions and classes of ``__main__``, lambdas."""

from __future__ import annotations

import functools
import io
import types
from collections import ChainMap
from collections.abc import Callable
from typing import Any, ClassVar

__all__ = ["dumps"]


def dumps(value: Any) -> bytes:
    """Pickle `value`, by value where that is needed; ``pickle.loads`` reads it.

    As ``cloudpickle.dumps``, but code keeps the name of its file: since 3.1.3 cloudpickle drops it, and
    a traceback could neither tell the user's own code from a library's, nor show its lines.
    """
    with io.BytesIO() as file:
        _pickler()(file, protocol=5).dump(value)
        return file.getvalue()


@functools.cache
def _pickler() -> type[Any]:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[ChainMap[Any, Any]] = ChainMap(
            {types.CodeType: _reduce_code}, cloudpickle.Pickler.dispatch_table
        )

    return Pickler


def _reduce_code(code: types.CodeType) -> tuple[Callable[..., types.CodeType], tuple[Any, ...]]:
    import cloudpickle

    make, arguments = cloudpickle.Pickler.dispatch_table[types.CodeType](code)
    return _make_code, (make, arguments, code.co_filename)


def _make_code(
    make: Callable[..., types.CodeType], arguments: tuple[Any, ...], filename: str
) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)
