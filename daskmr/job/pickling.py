"""Snapshots of the values that a script writes, and pickles that every process can read."""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import io
import pickle
import sys
import types
import uuid
from collections import ChainMap
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

__all__ = [
    "ATOMS",
    "UnpicklableValueError",
    "dumps",
    "dumps_by_value",
    "measured",
    "snapshot",
    "tree_size",
]

ATOMS = frozenset((
    str, int, float, bool, type(None), bytes, complex, datetime.date, datetime.timedelta,
    decimal.Decimal, fractions.Fraction, uuid.UUID,
))  # fmt: skip
"""Types whose values cannot change."""

_CLOCKS = frozenset((datetime.datetime, datetime.time))  # atoms if their time zone is one
_STANDARD = ("builtins", "datetime", "zoneinfo")
_LIST = b"\x04list\x93"  # the function, in a pickle
_FROZENSET = b"\x91"  # the opcode
# A pickler without a memo raises these, since it counts each frozenset as one level of nesting.
_OF_FROZENSETS = (KeyError, ValueError)
_DEEPER = 1000  # additional calls; about 100 would do, as tasks begin at a similar depth


class UnpicklableValueError(TypeError):
    """A value that cannot travel between processes."""


def snapshot(value: Any) -> Any:
    """Return `value` itself if it is immutable, a copy otherwise.

    Raises `UnpicklableValueError` when pickle cannot copy it.

    >>> row = ["a", 1]
    >>> kept = snapshot(row)
    >>> row.clear(); kept
    ['a', 1]
    """
    return measured(value)[0]


def measured(value: Any) -> tuple[Any, int]:
    """Return the `snapshot` of a value and its size in bytes, without the overhead of objects."""
    kind = type(value)
    if kind is tuple or kind is list or kind is dict:
        size = 8 * len(value)
        for item in value:
            if type(item) is str or type(item) is bytes:
                size += len(item)
            elif type(item) not in ATOMS:
                break
        else:
            if kind is tuple:
                return value, size
            if kind is list:
                return value[:], size
            for item in value.values():
                if type(item) is str or type(item) is bytes:
                    size += len(item)
                elif type(item) not in ATOMS:
                    break
            else:
                return value.copy(), 2 * size
    if kind is str or kind is bytes:
        return value, len(value)
    if kind in ATOMS:
        return value, 0
    if kind in _CLOCKS and type(value.tzinfo).__module__ in _STANDARD:
        return value, 0
    try:
        return _copy_as_tree(value)
    except MemoryError:
        raise
    except RecursionError:
        problem = "is nested too deeply to be pickled. Write it as text, or as a list of its parts"
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        problem = (
            f"cannot be pickled ({reason}). Write plain data instead: numbers, text, lists, dicts"
        )
        with suppress(Exception):
            dumps(value)  # with a memo, which is not needed for a tree
            problem = (
                "contains itself: only a tree can be written. Write the data without references back to "
                "what contains it"
            )
    raise UnpicklableValueError(
        f"A value of type {kind.__name__} cannot be written, because it {problem}."
    )


def _make_pickler() -> tuple[Callable[[Any], None], list[bytes]]:
    """Return a function that pickles without a memo, to copy shared objects, and its output list."""
    pieces: list[bytes] = []
    pickler = pickle.Pickler(types.SimpleNamespace(write=pieces.append), 5)
    pickler.fast = True
    return pickler.dump, pieces


# A call takes one, because pickling may run code of the script, which may also write.
_picklers: list[tuple[Callable[[Any], None], list[bytes]]] = []


def _copy_as_tree(value: Any) -> tuple[Any, int]:
    """Return a copy of `value` without shared objects, and its size in bytes."""
    blob, names = _dump_tree(value)
    if names:
        dumps(value)  # raises for a value that can never travel
    copied = _Unpickler(blob, names).load() if names else pickle.loads(blob)
    if type(copied) is list and type(value) is not list:  # it was on disk
        return measured(copied)
    if _LIST in blob or {list, frozenset} & {*names.values()}:  # so may be a part of it
        blob, _ = _dump_tree(copied)
    return copied, 2 * len(blob)


def tree_size(value: Any) -> int:
    """Return the size in bytes of a value that was written, the same in every process."""
    return 2 * len(_dump_tree(value)[0])


def _dump_tree(value: Any) -> tuple[bytes, dict[str, Any]]:
    """Pickle a value without a memo.

    If it has classes that cannot be imported, such as those of ``__main__`` on a worker, also return
    all classes by the names that stand for them, which are as long as where they can.
    """
    try:
        pickler = _picklers.pop()
    except IndexError:
        pickler = _make_pickler()
    dump, pieces = pickler
    try:
        dump(value)
    except (AttributeError, TypeError, pickle.PicklingError, *_OF_FROZENSETS):
        return _dump_by_name(value)
    blob = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if _FROZENSET not in blob:  # a pickler without a memo takes no more than 50 of them
        pieces.clear()
        _picklers.append(pickler)
    return blob, {}


def _dump_by_name(value: Any, frozensets: bool = False) -> tuple[bytes, dict[str, Any]]:
    """Do so with names for all classes and, if there are too many for a pickler, for frozensets."""
    names: dict[str, Any] = {}
    known: dict[int, str] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> str | tuple[Any, ...] | None:
            if frozensets and type(value) is frozenset:
                names["frozenset"] = frozenset
                return (*value,)
            if not isinstance(value, type | types.FunctionType):
                return None
            if id(value) not in known:
                # The two digits are as long as the opcodes that a name of this kind lacks.
                name = f"{value.__module__}{len(names):02}{value.__qualname__}"
                known[id(value)], names[name] = name, value
            return known[id(value)]

    with io.BytesIO() as file:
        pickler = Pickler(file, 5)
        pickler.fast = True
        try:
            pickler.dump(value)
        except _OF_FROZENSETS:
            if frozensets:
                raise
            return _dump_by_name(value, frozensets=True)
        return file.getvalue(), names


class _Unpickler(pickle.Unpickler):
    """An unpickler of what `_dump_by_name` returns."""

    def __init__(self, blob: bytes, names: dict[str, Any]) -> None:
        super().__init__(io.BytesIO(blob))
        self._names = names

    def persistent_load(self, name: str | tuple[Any, ...]) -> Any:
        return frozenset(name) if isinstance(name, tuple) else self._names[name]


def dumps(value: Any) -> bytes:
    """Pickle `value`; classes that a notebook or ``__main__`` defines are pickled by value."""
    try:
        return pickle.dumps(value, 5)
    except RecursionError:  # the value was written with fewer calls on the stack
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(limit + _DEEPER)
        try:
            return pickle.dumps(value, 5)
        finally:
            sys.setrecursionlimit(limit)
    except (AttributeError, TypeError, pickle.PicklingError):
        blob = dumps_by_value(value)
        if b"__main__" not in blob:
            raise  # pickle refuses it for another reason
        return blob


def dumps_by_value(value: Any) -> bytes:
    """Pickle `value`; functions and classes that cannot be imported are pickled by value.

    Like ``cloudpickle.dumps``, but code keeps its file name. Cloudpickle has dropped it since 3.1.3, so
    a traceback could neither recognise the user's code nor show its lines.
    """
    with io.BytesIO() as file:
        _pickler()(file, protocol=5).dump(value)
        return file.getvalue()


@functools.cache
def _pickler() -> type[Any]:
    import cloudpickle

    table = cloudpickle.Pickler.dispatch_table

    def reduce_code(code: types.CodeType) -> tuple[Callable[..., types.CodeType], tuple[Any, ...]]:
        make, arguments = table[types.CodeType](code)
        return _make_code, (make, arguments, code.co_filename)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        dispatch_table: ClassVar[Any] = ChainMap({types.CodeType: reduce_code}, table)

    return Pickler


def _make_code(
    make: Callable[..., types.CodeType], arguments: tuple[Any, ...], filename: str
) -> types.CodeType:
    return make(*arguments).replace(co_filename=filename)
