"""Values of parameters: from text to the type that a script expects, and to plain data for the record."""

from __future__ import annotations

import enum
import json
import math
from datetime import date, datetime, time
from typing import Any, NamedTuple, get_args, get_origin

from daskmr.errors import InputError
from daskmr.job.tracebacks import describe_exception, short_repr
from daskmr.text import shell_word

__all__ = [
    "REQUIRED",
    "Kind",
    "convert",
    "describe",
    "explain",
    "kind_of",
    "plain",
    "stands_for",
    "typed",
]


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""In place of a default: the parameter must be given."""

_COLLECTIONS: tuple[Any, ...] = (list, tuple, set, frozenset)
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NAMES: dict[Any, str] = {
    bool: "true or false (yes or no, 1 or 0)",
    int: "a whole number",
    float: "a number",
    str: "text",
    date: "a date such as 2024-01-31",
    datetime: "a time such as 2024-01-31T23:59",
    dict: 'a JSON object such as {"a": 1}',
}


class Kind(NamedTuple):
    """The type of a parameter; of a collection, also that of its elements, if they have one.

    That of a tuple may be a type for each element, and that of a dict is that of its values.
    """

    type: Any
    element: Any = None


def kind_of(given: Any, default: Any) -> Kind:
    """Return the type of a parameter: the given one, else that of its default, else text.

    >>> kind_of(None, [1, 2])
    Kind(type=<class 'list'>, element=<class 'int'>)
    """
    origin, args = get_origin(given), get_args(given)
    if origin in _COLLECTIONS:
        mixed = origin is tuple and len(args) > 1 and args[1] is not Ellipsis
        return Kind(origin, args if mixed else args[0])
    if origin is dict:
        return Kind(dict, args[1])
    if given is None:
        given = str if default is None or default is REQUIRED else type(default)
    if not callable(given):
        raise InputError(
            f"The type of a parameter is a class, or a function that takes its text, not {short_repr(given)}."
        )
    inner = {type(each) for each in default} if isinstance(default, _COLLECTIONS) else set()
    if inner == {int, float}:
        return Kind(given, _number)
    return Kind(given, inner.pop() if given in _COLLECTIONS and len(inner) == 1 else None)


def _number(given: Any) -> Any:
    """Convert an element of a collection that has integers as well as floats."""
    try:
        return convert(given, Kind(int))
    except ValueError:
        return convert(given, Kind(float))


def describe(kind: Kind) -> str:
    """Describe the values of a type.

    >>> describe(Kind(int)), describe(Kind(list, int))
    ('a whole number', 'a list such as a,b or ["a", "b"], each a whole number')
    """
    target, element = kind
    if target in _COLLECTIONS:
        if isinstance(element, tuple):
            each = "".join(f", {describe(kind_of(kind, REQUIRED))}" for kind in element)
            return f'a list such as a,b or ["a", "b"], of {len(element)}: {each[2:]}'
        each = (
            f", each {describe(kind_of(element, REQUIRED))}" if element not in (None, str) else ""
        )
        return f'a list such as a,b or ["a", "b"]{each}'
    if target is _number:
        return _NAMES[float]
    if isinstance(target, type) and issubclass(target, enum.Enum):
        return f"one of {', '.join(each.name for each in target)}"
    return _NAMES.get(target) or f"text that {getattr(target, '__name__', 'its type')} accepts"


def convert(given: Any, kind: Kind) -> Any:
    """Convert text, or the plain data of a file, to the type of a parameter.

    Raises `ValueError`, or what the user's type raises, if that is impossible.

    >>> convert("10", Kind(int)), convert("No", Kind(bool)), convert("1,2", Kind(list, int))
    (10, False, [1, 2])
    """
    target, element = kind
    if target in _COLLECTIONS:
        items = _items(given)
        kinds = element if isinstance(element, tuple) else [element] * len(items)
        return target([_inner(each, kind) for each, kind in zip(items, kinds, strict=True)])
    if type(given) is target:
        return given if element is None else {n: _inner(v, element) for n, v in given.items()}
    is_text = isinstance(given, str)
    if target is bool:
        return _TRUTH[given.strip().lower()]
    if target is int or target is float:
        if not is_text and (target is int or type(given) is not int):
            raise ValueError
        return target(given)
    if target is str:
        raise ValueError
    if target is dict:
        if not isinstance(given := json.loads(given), dict):
            raise ValueError
        return given if element is None else convert(given, kind)
    if target is date or target is datetime:
        return target.fromisoformat(given if is_text else _day(given))
    return _by_type(given, target)


def typed(name: str, default: Any, kind: Kind) -> Any:
    """Return a default in the type of its parameter, unless it is for a function of text."""
    is_left = default is None or default is REQUIRED
    if is_left or (not isinstance(kind.type, type) and not isinstance(default, str)):
        return default
    try:
        return convert(default, kind)
    except Exception as error:
        text = explain(name, default, kind, error)
    raise InputError(f"{text} This is its default in the script.")


def _inner(given: Any, kind: Any) -> Any:
    """Convert an element of a collection, if these have a type, which may be a collection itself."""
    return given if kind is None else convert(given, kind_of(kind, REQUIRED))


def _items(given: Any) -> list[Any]:
    items: list[Any]
    if not isinstance(given, str):
        if not isinstance(given, _COLLECTIONS):
            raise ValueError
        items = [*given]
        return items
    if given.lstrip().startswith("["):
        items = json.loads(given)
        return items
    return [each.strip() for each in given.split(",")] if given.strip() else []


def _day(given: Any) -> str:
    if type(given) is not date:  # a file may hold a date in place of a time, but not the reverse
        raise ValueError
    return given.isoformat()


def _by_type(given: Any, target: Any) -> Any:
    """Call the user's own type, which may be a function."""
    if not isinstance(target, type):
        return target(given)
    if isinstance(given, target):
        return given
    if issubclass(target, enum.Enum):
        for member in target:
            if given in (member.name, member.value) or given == str(member.value):
                return member
        raise ValueError
    make: Any = target
    return make(given)


def plain(value: Any) -> Any:
    """Return plain data that stands for a value: what JSON holds, other values as their text.

    >>> plain((date(2024, 1, 31), 1.5))
    ['2024-01-31', 1.5]
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(each) for each in value), key=repr)
    if isinstance(value, dict) and all(type(name) is str for name in value):
        return {name: plain(each) for name, each in value.items()}
    return str(value)


def stands_for(text: Any, value: Any, kind: Kind) -> bool:
    """Check whether a value is what its plain form is converted to."""
    try:
        again = convert(text, kind)
        return type(again) is type(value) and bool(again == value or repr(again) == repr(value))
    except Exception:
        return False


def explain(name: str, given: Any, kind: Kind, error: Exception) -> str:
    """Explain why a parameter cannot have a value."""
    own = kind.type not in _NAMES and kind.type not in _COLLECTIONS
    reason = f" ({describe_exception(error)})" if own and str(error) else ""
    text = f"The parameter {name} cannot be {short_repr(given)}: it takes {describe(kind)}{reason}."
    if kind.type is str and not isinstance(given, dict | list | None):
        text += f" Quote it, or give it as --param {shell_word(f'{name}={given}')}"
    return text
