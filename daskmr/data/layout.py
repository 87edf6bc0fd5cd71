"""The layout of the data, and the filter: JSON made into one test for each dimension."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from importlib import resources
from typing import Any, NoReturn

from daskmr.errors import InputError
from daskmr.normal_forms import forms_of, hint, twin_of

__all__ = ["Dimension", "Layout", "Schema", "load_layout", "load_schema", "sanitise"]

_SHOWN = 10
_EXAMPLE = '{"version": 1, "dimensions": [{"field_name": "reason", "allowed_values": "*"}]}'
_LAYOUT_EXAMPLE = (
    '{"version": 1, "dimensions": [{"field_name": "buildID"}, {"field_name": "submission_date"}]}'
)
_FORMS = (
    'write "*" for anything, a text, a list of texts, {"min": ..., "max": ...} or {"regex": ...}'
)
_OUTER_KEYS = ("version", "dimensions")
_DIMENSION_KEYS = ("field_name", "allowed_values")  # a filter may serve as the schema of its layout
_COMMENT = ("_", "//")  # what the key of a comment begins with: JSON has none of its own
_NOT_STORED = re.compile(r"[^a-zA-Z0-9_/.]")
_DIGITS = 400  # more of them in a bound are a slip, and would be written out in full


def sanitise(value: str) -> str:
    """Write `value` the way the storage does in the name of a directory or a file.

    >>> sanitise("saved-session")
    'saved_session'
    """
    return _NOT_STORED.sub("_", value)


@dataclass(frozen=True, slots=True)
class Anything:
    """Allows every value."""

    def allows(self, value: str) -> bool:
        return True

    def describe(self) -> str:
        return "anything"

    def as_json(self) -> Any:
        return "*"


@dataclass(frozen=True, slots=True)
class OneOf:
    """Allows the values given, as they stand and sanitised."""

    given: tuple[str, ...]
    accepted: frozenset[str]

    def allows(self, value: str) -> bool:
        return value in self.accepted

    def twin_of(self, value: str) -> str | None:
        """The value given of which `value` is another normal form, as it stands or sanitised."""
        for given in self.given:
            forms = list(forms_of(given))
            if value in forms or value in map(sanitise, forms):
                return given
        return twin_of(value, self.given)

    def describe(self) -> str:
        shown = [repr(value) for value in self.given[:_SHOWN]]
        if len(self.given) > _SHOWN:
            shown.append(f"... ({len(self.given)} values)")
        return " or ".join(shown) if len(shown) < 3 else ", ".join(shown)

    def as_json(self) -> Any:
        return list(self.given)


@dataclass(frozen=True, slots=True)
class Between:
    """Allows what lies between two texts, both included; ``None`` is no bound."""

    low: str | None
    high: str | None

    def allows(self, value: str) -> bool:
        return (self.low is None or self.low <= value) and (self.high is None or value <= self.high)

    def describe(self) -> str:
        if self.high is None:
            return f"{self.low!r} and above, compared as text"
        if self.low is None:
            return f"up to {self.high!r}, compared as text"
        return f"{self.low!r} to {self.high!r}, compared as text"

    def as_json(self) -> Any:
        bounds = {"min": self.low, "max": self.high}
        return {name: bound for name, bound in bounds.items() if bound is not None}


@dataclass(frozen=True, slots=True)
class Matching:
    """Allows what the whole of a regular expression matches."""

    pattern: re.Pattern[str]

    def allows(self, value: str) -> bool:
        return self.pattern.fullmatch(value) is not None

    def describe(self) -> str:
        return f"full matches of the regex {self.pattern.pattern!r}"

    def as_json(self) -> Any:
        return {"regex": self.pattern.pattern}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of the layout and the values of it that a filter allows.

    Parameters
    ----------
    field_name : str
        The label that the filter, or else the layout, gives to it.
    test : Anything, OneOf, Between or Matching
        Which values are allowed.

    Examples
    --------
    >>> channel = load_schema(
    ...     {"dimensions": [{"field_name": "channel", "allowed_values": ["nightly", "pre-beta"]}]}
    ... ).dimensions[0]
    >>> channel.allows("pre_beta")
    True
    >>> channel.describe()
    "'nightly' or 'pre-beta'"
    >>> channel.known_values
    ('nightly', 'pre-beta', 'pre_beta')
    """

    field_name: str
    test: Anything | OneOf | Between | Matching

    def allows(self, value: str) -> bool:
        """Whether a directory, or part of a file name, called `value` is allowed."""
        return self.test.allows(value)

    def describe(self) -> str:
        """What is allowed, in a few words for a message."""
        return self.test.describe()

    def twin_of(self, value: str) -> str | None:
        r"""What is allowed and differs from `value`, which is not, only in its Unicode normal form.

        >>> cafe = Dimension("place", OneOf(("caf\xe9",), frozenset({"caf\xe9", "caf_"})))
        >>> cafe.twin_of("cafe\u0301") == "caf\xe9"
        True
        >>> cafe.twin_of("caf\xe9") is None
        True
        """
        if self.allows(value):
            return None
        if isinstance(self.test, OneOf):
            return self.test.twin_of(value)
        return next(filter(self.allows, forms_of(value)), None)

    @property
    def known_values(self) -> tuple[str, ...] | None:
        """The only names that can match, in order; ``None`` when they can't be told beforehand.

        No name in it is empty, hidden or holds a slash, so each is safe to put in a path.
        """
        if not isinstance(self.test, OneOf):
            return None
        return tuple(sorted(v for v in self.test.accepted if v and v[0] != "." and "/" not in v))


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions by which the data is laid out, outermost first.

    Examples
    --------
    >>> layout = Layout(("reason", "buildID", "submission_date"))
    >>> layout.directories
    1
    >>> layout.template
    '<reason>/<buildID>.<submission_date>.<rest>'
    """

    field_names: tuple[str, ...]

    @property
    def directories(self) -> int:
        """How many directory levels there are: all dimensions but the two in the file name."""
        return len(self.field_names) - 2

    @property
    def template(self) -> str:
        """A path in this layout, for messages."""
        *directories, first, second = (f"<{name}>" for name in self.field_names)
        return "/".join([*directories, f"{first}.{second}.<rest>"])


@dataclass(frozen=True, slots=True)
class Schema:
    """A layout, with one `Dimension` for each of its field names.

    Examples
    --------
    >>> schema = load_schema()
    >>> schema.parse_name("20131029.20131102.4f2e.log.gz")
    ('20131029', '20131102')
    >>> schema.parse_name("README.md") is None
    True
    """

    layout: Layout
    dimensions: tuple[Dimension, ...]

    def parse_name(self, file_name: str) -> tuple[str, str] | None:
        """The two dimensions at the start of a file name, or ``None`` if it has no such form."""
        parts = file_name.split(".", 2)
        if len(parts) < 3 or not parts[0] or not parts[1]:
            return None
        return parts[0], parts[1]

    def as_filter(self) -> dict[str, Any]:
        """Return the filter as JSON holds it, with every dimension of the layout.

        >>> load_schema(load_schema().as_filter()) == load_schema()
        True
        """
        dimensions = [
            {"field_name": dimension.field_name, "allowed_values": dimension.test.as_json()}
            for dimension in self.dimensions
        ]
        return {"version": 1, "dimensions": dimensions}


def load_layout(path: str | os.PathLike[str] | None = None) -> Layout:
    """Read the layout from JSON; the packaged one when there is no `path`.

    Raises
    ------
    InputError
        Naming the file, the dimension and the mistake.

    Examples
    --------
    >>> load_layout().field_names
    ('reason', 'appName', 'appUpdateChannel', 'appVersion', 'appBuildID', 'submission_date')
    """
    where = "The packaged schema" if path is None else f"Schema {_name(path)}"
    raw = _packaged_layout() if path is None else _read(path, where)
    dimensions = _dimensions_of(_parse(raw, where), where, _LAYOUT_EXAMPLE)
    names = tuple(
        _layout_name(dimension, f"{where}, dimension {position}")
        for position, dimension in enumerate(dimensions, 1)
    )
    if len(names) < 2:
        _fail(
            where,
            f"a layout has at least two dimensions, here there are {len(names)}; the last two are "
            f"the first two parts of the file names, as in {_LAYOUT_EXAMPLE}",
        )
    return Layout(names)


def _layout_name(dimension: Any, where: str) -> str:
    name = _field_name(dimension, where)
    _refuse_unknown(dimension, _DIMENSION_KEYS, f"{where} ({name})")
    return name


def _packaged_layout() -> bytes:
    return resources.files("daskmr").joinpath("schema.json").read_bytes()


def load_schema(
    filter_source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    layout_path: str | os.PathLike[str] | None = None,
) -> Schema:
    """Read a filter and the layout that it filters.

    Parameters
    ----------
    filter_source : path, dict or None
        A JSON file, what such a file holds, or ``None`` to allow everything.
    layout_path : path or None
        See `load_layout`.

    Raises
    ------
    InputError
        Naming the file, the dimension and the mistake.

    Examples
    --------
    >>> june = {"min": 20130601, "max": 20130630}
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": june}]})
    >>> [dimension.describe() for dimension in schema.dimensions[:2]]
    ["'20130601' to '20130630', compared as text", 'anything']
    """
    layout = load_layout(layout_path)
    given = () if filter_source is None else _load_filter(filter_source, layout)
    rest = layout.field_names[len(given) :]
    return Schema(layout, (*given, *(Dimension(name, Anything()) for name in rest)))


def _load_filter(source: Any, layout: Layout) -> tuple[Dimension, ...]:
    if isinstance(source, Mapping):
        where, content = "The filter", source
    else:
        where = f"Filter {_name(source)}"
        content = _parse(_read(source, where), where)
    dimensions = _dimensions_of(content, where, _EXAMPLE)
    names = layout.field_names
    if len(dimensions) > len(names):
        extra = len(names) + 1
        label = _label(dimensions[extra - 1])
        _fail(
            f"{where}, dimension {extra}{label}",
            f"the filter has {len(dimensions)} dimensions, the layout only {len(names)} "
            f"({', '.join(names)}); remove what is too much, or give the schema of the layout",
        )
    return tuple(
        _load_dimension(dimension, f"{where}, dimension {position}")
        for position, dimension in enumerate(dimensions, 1)
    )


def _load_dimension(dimension: Any, where: str) -> Dimension:
    name = _field_name(dimension, where)
    where = f"{where} ({name})"
    misplaced = sorted(dimension.keys() & {"min", "max", "regex"})
    if misplaced:
        _fail(
            where,
            f'"{misplaced[0]}" stands beside "allowed_values"; write it inside, '
            f'as in "allowed_values": {{"{misplaced[0]}": ...}}',
        )
    _refuse_unknown(dimension, _DIMENSION_KEYS, where)
    if "allowed_values" not in dimension:
        _fail(where, f'"allowed_values" is missing; {_FORMS}')
    return Dimension(name, _load_test(dimension["allowed_values"], where))


def _load_test(allowed: Any, where: str) -> Anything | OneOf | Between | Matching:
    if isinstance(allowed, str):
        return Anything() if allowed == "*" else _one_of((allowed,))
    if isinstance(allowed, (list, tuple)):
        return _load_list(allowed, where)
    if not isinstance(allowed, Mapping):
        _fail(where, f'"allowed_values" is {_kind(allowed)}; {_FORMS}')
    allowed = {key: allowed[key] for key in allowed if not str(key).startswith(_COMMENT)}
    return _load_matching(allowed, where) if "regex" in allowed else _load_range(allowed, where)


def _one_of(values: tuple[str, ...]) -> OneOf:
    return OneOf(values, frozenset(values) | frozenset(map(sanitise, values)))


def _load_list(values: list[Any] | tuple[Any, ...], where: str) -> OneOf:
    if not values:
        _fail(where, 'the list is empty, which allows nothing; name values, or write "*"')
    for position, value in enumerate(values, 1):
        if not isinstance(value, str):
            _fail(
                where,
                f"value {position} of the list is {_kind(value)}, not a text; "
                "write each value in quotes",
            )
        if value == "*":
            _fail(
                where,
                f'value {position} of the list is "*", which means anything only by itself; '
                'write "allowed_values": "*", or leave it out of the list',
            )
    return _one_of(tuple(values))


def _load_range(bounds: Mapping[str, Any], where: str) -> Anything | Between:
    unknown = [key for key in bounds if key not in ("min", "max")]
    if unknown:
        _fail(where, f'{unknown[0]!r} is not known in "allowed_values"; {_FORMS}')
    if not bounds:  # a range that is open at both ends
        return Anything()
    low, high = (_load_bound(bounds, key, where) for key in ("min", "max"))
    if low is not None and high is not None and low > high:
        _fail(
            where,
            f"min {low!r} is above max {high!r}, which allows nothing; exchange them, or mind that "
            "they are compared as text, character by character",
        )
    return Between(low, high)


def _load_bound(bounds: Mapping[str, Any], key: str, where: str) -> str | None:
    if key not in bounds:
        return None
    bound = bounds[key]
    if isinstance(bound, str):
        return bound
    if isinstance(bound, bool) or not isinstance(bound, (int, float, Decimal)):
        _fail(where, f'"{key}" is {_kind(bound)}; write a text or a number, or leave it out')
    number = Decimal(repr(bound)) if isinstance(bound, float) else Decimal(bound)
    if not number.is_finite() or abs(number.adjusted()) > _DIGITS:
        _fail(where, f'"{key}" is a number that cannot be written out; write it as a text')
    return format(number, "f")


def _load_matching(allowed: Mapping[str, Any], where: str) -> Matching:
    unknown = [key for key in allowed if key != "regex"]
    if unknown:
        _fail(where, f'{unknown[0]!r} stands beside "regex"; use one or the other')
    pattern = allowed["regex"]
    if not isinstance(pattern, str):
        _fail(where, f'"regex" is {_kind(pattern)}; write a regular expression in quotes')
    try:
        return Matching(re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        _fail(
            where,
            f"the regex {pattern!r} is not valid: {error}; write a Python regular expression, "
            "which must match the whole value",
        )


def _dimensions_of(content: Any, where: str, example: str) -> list[Any]:
    """The dimensions of a filter or a layout, once its outer form has been checked."""
    if not isinstance(content, Mapping):
        _fail(where, f"the JSON is {_kind(content)}, not an object; write one such as {example}")
    _refuse_unknown(content, _OUTER_KEYS, where)
    version = content.get("version", 1)
    if isinstance(version, bool) or version != 1:
        _fail(where, 'only version 1 is known; write "version": 1')
    if "dimensions" not in content:
        _fail(where, f'"dimensions" is missing; write an object such as {example}')
    dimensions = content["dimensions"]
    if not isinstance(dimensions, (list, tuple)):
        _fail(where, f'"dimensions" is {_kind(dimensions)}, not a list; write {example}')
    return list(dimensions)


def _refuse_unknown(content: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Fail for a key that would be passed over, though somebody meant something by it."""
    for key in content:
        if key in known or str(key).startswith(_COMMENT):
            continue
        like = difflib.get_close_matches(str(key), known, 1, 0.5)
        advice = f'write "{like[0]}"' if like else f"there are {' and '.join(known)}"
        _fail(where, f'"{key}" is not known; {advice}, or begin a comment with "_"')


def _field_name(dimension: Any, where: str) -> str:
    if not isinstance(dimension, Mapping):
        _fail(
            where,
            f"it is {_kind(dimension)}, not an object; "
            'write one such as {"field_name": "reason", "allowed_values": "*"}',
        )
    if "field_name" not in dimension:
        _refuse_unknown(dimension, (*_DIMENSION_KEYS, "min", "max", "regex"), where)
        _fail(where, '"field_name" is missing; write one such as "field_name": "reason"')
    name = dimension["field_name"]
    if not isinstance(name, str):
        _fail(where, f'"field_name" is {_kind(name)}, not a text; write the name in quotes')
    return name


def _label(dimension: Any) -> str:
    name = dimension.get("field_name") if isinstance(dimension, Mapping) else None
    return f" ({name})" if isinstance(name, str) else ""


def _name(path: Any) -> str:
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else repr(path)


def _read(path: str | os.PathLike[str], where: str) -> bytes:
    try:
        with open(os.fspath(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        _fail(where, f"there is no such file; check the path.{hint(_name(path))}".rstrip("."))
    except IsADirectoryError:
        _fail(where, "this is a directory; give the path of a JSON file")
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        _fail(where, f"it cannot be read ({reason}); give the path of a readable JSON file")


def _parse(raw: bytes, where: str) -> Any:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        _fail(where, f"it is not UTF-8 text (byte {error.start + 1}); save it as UTF-8")
    if not text.strip():
        _fail(where, "the file is empty; leave the option out, or write an object of JSON")
    try:
        # Decimal keeps 24.10 apart from 24.1
        return json.loads(
            text, parse_float=Decimal, parse_constant=_no_constant, object_pairs_hook=_without_twins
        )
    except json.JSONDecodeError as error:
        _fail(
            where,
            f"it is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            "look there for a missing or superfluous comma, quote or bracket",
        )
    except _Twins as error:
        _fail(where, f"{error}, and only one can count; leave one of them")
    except (ValueError, ArithmeticError, RecursionError) as error:
        _fail(where, f"it is not valid JSON: {error}; correct it")


class _Twins(ValueError):
    """A key that stands twice in one object."""


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of its pairs; JSON leaves open what a key means that stands there twice."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content and not key.startswith(_COMMENT):
            name = next((v for k, v in pairs if k == "field_name"), None)
            of = f" of dimension {name!r}" if isinstance(name, str) and key != "field_name" else ""
            raise _Twins(f'"{key}" stands twice in one object{of}')
        content[key] = value
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    for types, kind in _KINDS:
        if isinstance(value, types):
            return kind
    return f"a Python {type(value).__name__}"


_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str,), "a text"),
    ((int, float, Decimal), "a number"),
    ((list, tuple), "a list"),
    ((Mapping,), "an object"),
)


def _fail(where: str, mistake: str) -> NoReturn:
    raise InputError(f"{where}: {mistake}.") from None
