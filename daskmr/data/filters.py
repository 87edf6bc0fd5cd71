"""The forms of ``allowed_values`` in a filter: tests for the values of one dimension.

To add a form, write a subclass of `ValueTest` and a parser, and register it in `_FORM_OF_KEY`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import takewhile
from typing import Any

from daskmr.data.strict_json import COMMENT, fail, field_name, kind, refuse_unknown
from daskmr.normal_forms import forms_of, variant_of

__all__ = [
    "ANYTHING", "Between", "Dimension", "Matching", "OneOf", "ValueTest", "join_values",
    "parse_dimension", "refuse_reversed", "sanitise",
]  # fmt: skip

_SHOWN = 10
_ADVICE = (
    'write "*" for anything, a text, a list of texts, {"min": ..., "max": ...} or {"regex": ...}'
)
_NOT_STORED = re.compile(r"[^a-zA-Z0-9_/.]")
_SAFE = re.compile(r"[\w-]*")
_MAX_DIGITS = 400  # a bound with more digits is a mistake, and would be written out in full


def sanitise(value: str) -> str:
    """Convert `value` to the form that the storage uses in directory and file names.

    >>> sanitise("saved-session")
    'saved_session'
    """
    return _NOT_STORED.sub("_", value)


def join_values(values: Sequence[str], shown: Callable[[str], str] = repr) -> str:
    """Format values for a message; show only the first ten."""
    parts = [shown(value) for value in values[:_SHOWN]]
    if len(values) > _SHOWN:
        parts.append(f"... ({len(values):,} values)")
    return " or ".join(parts) if len(parts) < 3 else ", ".join(parts)


class ValueTest:
    """A test for the allowed values of a dimension; the base class allows all values.

    `given` holds the values that the filter names; `accepted`, all values that can match (``None``
    if they are not known in advance); `is_range` marks a contiguous range in text order.
    """

    __slots__ = ()
    given: tuple[str, ...] = ()
    accepted: frozenset[str] | None = None
    is_range = False

    def allows(self, value: str) -> bool:
        return True

    def describe(self) -> str:
        """Return a short description of the allowed values, for messages."""
        return "anything"

    def as_json(self) -> Any:
        """Return the JSON value that `parse_dimension` reads as this test."""
        return "*"

    def common_start(self) -> str:
        """Return the common prefix of all allowed values, as far as it is safe in a path."""
        return ""

    def variant_of(self, value: str) -> str | None:
        """Return an allowed value that differs from `value` only in its Unicode normal form."""
        return next(filter(self.allows, forms_of(value)), None)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


ANYTHING = ValueTest()  # allows all values


@dataclass(frozen=True)
class OneOf(ValueTest):
    """Allows the given values, and their sanitised forms."""

    given: tuple[str, ...]

    def __post_init__(self) -> None:
        accepted = frozenset(self.given) | frozenset(map(sanitise, self.given))
        object.__setattr__(self, "accepted", accepted)

    def allows(self, value: str) -> bool:
        assert self.accepted is not None
        return value in self.accepted

    def describe(self) -> str:
        return join_values(self.given)

    def as_json(self) -> Any:
        return list(self.given)

    def variant_of(self, value: str) -> str | None:
        for given in self.given:
            forms = list(forms_of(given))
            if value in forms or value in map(sanitise, forms):
                return given
        return variant_of(value, self.given)


@dataclass(frozen=True)
class Between(ValueTest):
    """Allows values between two texts, both included; ``None``: no bound."""

    low: str | None
    high: str | None
    is_range = True

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

    def common_start(self) -> str:
        pairs = zip(self.low or "", self.high or "", strict=False)
        same = "".join(low for low, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        safe = _SAFE.match(same)
        return safe.group() if safe else ""


@dataclass(frozen=True)
class Matching(ValueTest):
    """Allows full matches of a regular expression."""

    pattern: re.Pattern[str]

    def allows(self, value: str) -> bool:
        return self.pattern.fullmatch(value) is not None

    def describe(self) -> str:
        return f"full matches of the regex {self.pattern.pattern!r}"

    def as_json(self) -> Any:
        return {"regex": self.pattern.pattern}


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension: its name in the filter (by default, in the layout), and its allowed values.

    >>> allowed = {"field_name": "channel", "allowed_values": ["nightly", "pre-beta"]}
    >>> channel = parse_dimension(allowed, "The filter, dimension 1")
    >>> channel.allows("pre_beta"), channel.known_values
    (True, ('nightly', 'pre-beta', 'pre_beta'))
    >>> channel.describe()
    "'nightly' or 'pre-beta'"
    """

    field_name: str
    test: ValueTest = ANYTHING

    def allows(self, value: str) -> bool:
        return self.test.allows(value)

    def describe(self) -> str:
        return self.test.describe()

    def variant_of(self, value: str) -> str | None:
        r"""Return an allowed value that differs from an excluded `value` only in its normal form.

        >>> cafe = Dimension("place", OneOf(("caf\xe9",)))
        >>> cafe.variant_of("cafe\u0301") == "caf\xe9", cafe.variant_of("caf\xe9")
        (True, None)
        """
        return None if self.allows(value) else self.test.variant_of(value)

    @property
    def known_values(self) -> tuple[str, ...] | None:
        """All names that can match, sorted; ``None`` if they are not known in advance.

        None of them is empty, starts with a dot or contains a slash, so they are safe in a path.
        """
        accepted = self.test.accepted
        if accepted is None:
            return None
        return tuple(sorted(v for v in accepted if v and v[0] != "." and "/" not in v))


def parse_dimension(dimension: Any, where: str, *, is_typed: bool = False) -> Dimension:
    """Read one dimension of a filter.

    - `where`: the file and dimension, for messages.
    - `is_typed`: its bounds do not compare as text, so the caller compares them.
    Raises `InputError` that names the mistake.
    """
    keys = tuple(_FORM_OF_KEY)
    name = field_name(dimension, where, keys)
    where = f"{where} ({name})"
    misplaced = sorted(dimension.keys() & set(keys))
    if misplaced:
        fail(
            where,
            f'"{misplaced[0]}" is outside of "allowed_values"; write it inside, '
            f'as in "allowed_values": {{"{misplaced[0]}": ...}}',
        )
    refuse_unknown(dimension, where)
    if "allowed_values" not in dimension:
        fail(where, f'"allowed_values" is missing; {_ADVICE}')
    test = _parse_test(dimension["allowed_values"], where)
    if isinstance(test, Between) and not is_typed:
        refuse_reversed(test, where)
    return Dimension(name, test)


def refuse_reversed(test: Between, where: str) -> None:
    """Raise InputError if the lower bound is above the upper one."""
    if test.low is not None and test.high is not None and test.low > test.high:
        fail(
            where,
            f"min {test.low!r} is above max {test.high!r}, which allows nothing; swap them, or note "
            "that they are compared as text, character by character",
        )


def _parse_test(allowed: Any, where: str) -> ValueTest:
    if isinstance(allowed, str):
        return ANYTHING if allowed == "*" else OneOf((allowed,))
    if isinstance(allowed, (list, tuple)):
        return _parse_list(allowed, where)
    if not isinstance(allowed, Mapping):
        fail(where, f'"allowed_values" is {kind(allowed)}; {_ADVICE}')
    allowed = {key: allowed[key] for key in allowed if not str(key).startswith(COMMENT)}
    if not allowed:  # a range that is open at both ends
        return ANYTHING
    parsers = (parse for key, parse in _FORM_OF_KEY.items() if key in allowed)
    return next(parsers, _parse_range)(allowed, where)


def _parse_list(values: Sequence[Any], where: str) -> OneOf:
    if not values:
        fail(where, 'the list is empty, which allows nothing; name values, or write "*"')
    for position, value in enumerate(values, 1):
        if not isinstance(value, str):
            fail(
                where,
                f"value {position} of the list is {kind(value)}, not a text; "
                "write each value in quotes",
            )
        if value == "*":
            fail(
                where,
                f'value {position} of the list is "*", which means anything only outside of a list; '
                'write "allowed_values": "*", or leave it out of the list',
            )
    return OneOf(tuple(values))


def _parse_range(bounds: Mapping[str, Any], where: str) -> Between:
    unknown = [key for key in bounds if key not in ("min", "max")]
    if unknown:
        fail(where, f'{unknown[0]!r} is not known in "allowed_values"; {_ADVICE}')
    low, high = (_parse_bound(bounds, key, where) for key in ("min", "max"))
    return Between(low, high)


def _parse_bound(bounds: Mapping[str, Any], key: str, where: str) -> str | None:
    if key not in bounds:
        return None
    bound = bounds[key]
    if isinstance(bound, str):
        return bound
    if isinstance(bound, bool) or not isinstance(bound, (int, float, Decimal)):
        fail(where, f'"{key}" is {kind(bound)}; write a text or a number, or leave it out')
    number = Decimal(repr(bound)) if isinstance(bound, float) else Decimal(bound)
    if not number.is_finite() or abs(number.adjusted()) > _MAX_DIGITS:
        fail(where, f'"{key}" is a number that cannot be written out; write it as a text')
    return format(number, "f")


def _parse_regex(allowed: Mapping[str, Any], where: str) -> Matching:
    unknown = [key for key in allowed if key != "regex"]
    if unknown:
        fail(where, f'{unknown[0]!r} cannot be combined with "regex"; use one or the other')
    pattern = allowed["regex"]
    if not isinstance(pattern, str):
        fail(where, f'"regex" is {kind(pattern)}; write a regular expression in quotes')
    try:
        return Matching(re.compile(pattern))
    except (re.error, OverflowError, RecursionError) as error:
        fail(
            where,
            f"the regex {pattern!r} is not valid: {error}; write a Python regular expression, "
            "which must match the whole value",
        )


_FORM_OF_KEY: dict[str, Callable[[Mapping[str, Any], str], ValueTest]] = {
    "regex": _parse_regex,
    "min": _parse_range,
    "max": _parse_range,
}
"""Parsers of ``allowed_values`` that are objects, by their keys; the first match is used."""
