"""The forms of ``allowed_values`` in a filter.

To add a form, write a subclass of `ValueTest` in `value_tests` and a parser, and register it in
`_FORM_OF_KEY`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from daskmr.data.dimensions.value_tests import (
    ANYTHING,
    Between,
    Matching,
    OneOf,
    ValueTest,
    join_values,
    sanitise,
)
from daskmr.data.strict_json import COMMENT, fail, field_name, kind, refuse_unknown

__all__ = [
    "ANYTHING", "Between", "Dimension", "DimensionFilter", "Matching", "OneOf", "Seen", "ValueTest",
    "join_values", "parse_dimension", "sanitise",
]  # fmt: skip

_ADVICE = (
    'write "*" for anything, a text, a list of texts, {"min": ..., "max": ...} or {"regex": ...}'
)
_VALUES_NAMED = 20
_DAYS = re.compile(r"[+-][0-9]{1,6}d")
_MAX_DIGITS = 400  # a bound with more digits is a mistake, and would be written out in full


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
        _refuse_text(test, name, where)
    return Dimension(name, test)


def _refuse_text(test: Between, name: str, where: str) -> None:
    """Raise InputError for bounds that are not meant as text, or of which the lower is above the upper."""
    for bound in (test.low, test.high):
        if bound is not None and _DAYS.fullmatch(bound):
            fail(
                where,
                f"{bound!r} is a relative date, but the dimension has no type, so that its values are "
                f"compared as text; give the type in the layout, as {{{name}:date}}, or the bounds as "
                f"--where {name}=-7d..-1d",
            )
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


@dataclass(frozen=True, slots=True)
class Seen:
    """The values of one dimension that a walk found, below values allowed for earlier dimensions.

    `candidates` counts the directories or files at this level, and `allowed` those that the filter
    allows. `distinct` counts the existing values, and `values` holds the first and last few, or all.
    `variants` are excluded values that differ from an allowed one only in their normal form, and
    `globs` texts of the filter that match a value as a glob, but equal none.
    """

    dimension: Dimension
    candidates: int
    allowed: int
    values: tuple[str, ...]
    distinct: int
    variants: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()


@dataclass(slots=True)
class DimensionFilter:
    """Tests the values of one dimension, each only once, and interns them."""

    dimension: Dimension
    verdicts: dict[str, str | None] = field(default_factory=dict)
    candidates: int = 0
    allowed: int = 0

    def pick(self, value: str) -> str | None:
        """Return the interned `value`, or ``None`` if it is excluded."""
        if value not in self.verdicts:
            self.verdicts[value] = value if self.dimension.allows(value) else None
        self.count(value, 1)
        return self.verdicts[value]

    def count(self, value: str, number: int) -> bool:
        """Count a value that was tested; return whether it is allowed."""
        is_allowed = self.verdicts[value] is not None
        self.candidates += number
        self.allowed += number * is_allowed
        return is_allowed

    def seen(self) -> Seen:
        values = sorted(self.verdicts)
        half = _VALUES_NAMED // 2
        named = values if len(values) <= _VALUES_NAMED else [*values[:half], *values[-half:]]
        counts = self.candidates, self.allowed
        globs = tuple(
            text
            for text in self.dimension.test.texts
            if not self.verdicts.keys() & {text, sanitise(text)}
            and ("*" in text or "?" in text)
            and fnmatch.filter(values, text)
        )
        return Seen(self.dimension, *counts, tuple(named), len(values), self._variants(), globs)

    def _variants(self) -> tuple[str, ...]:
        known = self.dimension.known_values or ()
        if all(map(str.isascii, known)) and all(map(str.isascii, self.verdicts)):
            return ()
        excluded = sorted(value for value, kept in self.verdicts.items() if kept is None)
        return tuple(v for v in excluded if self.dimension.variant_of(v) is not None)
