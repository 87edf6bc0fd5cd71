"""The allowed values of one dimension: tests that compare them as text, numbers or dates.

To add a form, write a subclass of `ValueTest`, and a parser in `daskmr.data.filters`.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any, NoReturn

from daskmr.data.dimensions.template import Field
from daskmr.errors import InputError
from daskmr.normal_forms import forms_of, variant_of
from daskmr.text import shell_word

__all__ = [
    "ANYTHING", "AllOf", "Between", "Matching", "Not", "OneOf", "TypedOneOf", "TypedRange",
    "Untyped", "ValueTest", "is_date", "join_values", "relative_day", "sanitise", "typed",
]  # fmt: skip

_SHOWN = 10
_NOT_STORED = re.compile(r"[^a-zA-Z0-9_/.]")
_SAFE = re.compile(r"[\w-]*")
_RELATIVE = re.compile(r"([+-][0-9]{1,6})d")
_DAY = datetime.timedelta(days=1)
_ANY_DAY = datetime.datetime(2001, 12, 31)
_DATE = Field("_", "date")
_DIGIT, _SHORT = re.compile(r"[0-9]"), re.compile(r"[0-9]{1,4}")
# Starts of dates of each length, which compare as text with complete ones as a lower bound
_STARTS = {8: re.compile(r"[0-9]{4}([0-9]{2})?"), 10: re.compile(r"[0-9]{4}(-[0-9]{2})?")}
# Forms of times, to advise one of them as a type
_TIMES = (
    "%Y_%m_%d", "%Y.%m.%d", "%Y-%m-%dT%H", "%Y-%m-%d-%H", "%Y-%m-%d_%H", "%Y%m%d%H", "%Y%m%d%H%M",
    "%Y%m%d%H%M%S", "%Y%m%dT%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S",
)  # fmt: skip


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

    @property
    def texts(self) -> tuple[str, ...]:
        """The values that it compares with, also those that it excludes."""
        return self.given

    def allows(self, value: str) -> bool:
        return True

    def may_allow(self, value: str) -> bool:
        """Check whether `allows` returns true, or refuses the value with an `InputError`."""
        with suppress(InputError):
            return self.allows(value)
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
        return next(filter(self.may_allow, forms_of(value)), None)

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


def relative_day(text: str, today: datetime.date) -> datetime.date | None:
    """Return the date of ``today``, ``yesterday`` or ``-7d``; ``None`` for any other text.

    Raises ValueError if the date is out of range.

    >>> relative_day("-7d", datetime.date(2024, 1, 31))
    datetime.date(2024, 1, 24)
    """
    days = {"today": 0, "yesterday": -1}.get(text)
    if days is None:
        match = _RELATIVE.fullmatch(text)
        if match is None:
            return None
        days = int(match[1])
    try:
        return today + days * _DAY
    except OverflowError:
        raise ValueError(f"{text} is out of range") from None


def typed(test: ValueTest, field: Field, today: datetime.date | None = None) -> ValueTest:
    """Return a test that compares the values of a typed `field` as its type does.

    - `today`: the date that relative dates refer to; ``None``: there are none.
    Raises ValueError if a value or bound of `test` does not fit the type.

    >>> typed(Between("7", "12"), Field("hour", "int")).allows("09")
    True
    """
    if not field.type:
        return test
    if isinstance(test, OneOf):
        return TypedOneOf(field, test.given, today)
    if isinstance(test, Between):
        return TypedRange(field, test.low, test.high, today)
    return test


@dataclass(frozen=True)
class TypedOneOf(ValueTest):
    """Allows the given values of a type, however they are written."""

    field: Field
    given: tuple[str, ...]
    today: datetime.date | None = None  # relative dates are allowed if it is given

    def __post_init__(self) -> None:
        days = [day for day, _ in self._spans]  # also checks them
        if self.field.type == "date":
            forms = {day.isoformat() for day in days} | {
                day.isoformat().replace("-", "") for day in days
            }
            object.__setattr__(self, "accepted", frozenset(forms))

    @cached_property
    def _spans(self) -> tuple[tuple[Any, Any], ...]:
        return tuple(_span(self.field, value, self.today) for value in self.given)

    def allows(self, value: str) -> bool:
        return any(_within(self.field, value, low, high) for low, high in self._spans)

    def describe(self) -> str:
        return join_values(self.given, lambda text: _shown(text, self.today))

    def as_json(self) -> Any:
        return list(self.given)


@dataclass(frozen=True)
class TypedRange(ValueTest):
    """Allows values between two of a type, both included; ``None``: no bound."""

    field: Field
    low: str | None
    high: str | None
    today: datetime.date | None = None

    def __post_init__(self) -> None:
        low, high = self._span
        if low is not None and high is not None and low > high:
            raise ValueError(
                f"{self.low!r} is above {self.high!r}, which allows nothing; swap them"
            )

    @cached_property
    def _span(self) -> tuple[Any, Any]:
        low = None if self.low is None else _span(self.field, self.low, self.today)[0]
        high = None if self.high is None else _span(self.field, self.high, self.today)[1]
        return low, high

    def allows(self, value: str) -> bool:
        return _within(self.field, value, *self._span)

    def describe(self) -> str:
        kind = "numbers" if self.field.type == "int" else "dates"
        low, high = (_shown(text or "", self.today) for text in (self.low, self.high))
        if self.high is None:
            return f"{low} and above, compared as {kind}"
        if self.low is None:
            return f"up to {high}, compared as {kind}"
        return f"{low} to {high}, compared as {kind}"

    def as_json(self) -> Any:
        return Between(self.low, self.high).as_json()

    def common_start(self) -> str:
        """Return the common year of all dates: both forms of a date begin with it."""
        low, high = self._span
        if self.field.type != "date" or low is None or high is None or low.year != high.year:
            return ""
        return f"{low.year:04}"


@dataclass(frozen=True)
class Untyped(ValueTest):
    """Compares values of a `field` without a type, and refuses those that text would place wrongly.

    - `bounds`: the texts that `test` compares with; empty: it compares dates of both forms.
    - `where`, `template`: the filter and the layout, for messages.
    """

    test: ValueTest
    field: Field
    bounds: tuple[str, ...]
    where: str
    template: str

    def __post_init__(self) -> None:
        for name in ("given", "accepted", "is_range"):
            object.__setattr__(self, name, getattr(self.test, name))

    def allows(self, value: str) -> bool:
        """Raises `InputError` for a date or number whose form differs from that of a bound."""
        starts = _STARTS[len(value)] if is_date(value) else None
        if not (self.bounds or starts) and any(map(str.isdigit, value)):
            form = next((form for form in _TIMES if _is_written(value, form)), "")
            self._refuse(value, "not a date such as 20240131 or 2024-01-31", form)
        for position, bound in enumerate(self.bounds):
            if _DIGIT.sub("0", bound) == _DIGIT.sub("0", value):
                continue
            if starts and is_date(bound):
                self._refuse(value, "a date in another form", "date")
            if self.is_range and _SHORT.fullmatch(value) and _SHORT.fullmatch(bound):
                self._refuse(value, f"a number, and compares as text with {bound!r}", "int")
            is_start = starts and not position and starts.fullmatch(bound)
            if self.is_range and starts and bound[:1].isdigit() and not is_start:
                self._refuse(value, f"a date, but {bound!r} is not a complete one")
        return self.test.allows(value)

    def _refuse(self, value: str, what: str, kind: str = "") -> NoReturn:
        if kind and not self.field.spans:
            of_type = str(replace(self.field, type=kind))
            layout = shell_word(self.template.replace(str(self.field), of_type))
            advice = f"Give its form in the layout: --layout {layout}"
        else:
            spec = shell_word(f"{self.field.name}={value}..")
            advice = f"Compare it with texts of its form, as in --where {spec}"
        raise InputError(f"{self.where}: {self.field.name} {value!r} is {what}. {advice}")

    def describe(self) -> str:
        return self.test.describe()

    def common_start(self) -> str:
        return self.test.common_start()


@dataclass(frozen=True)
class Not(ValueTest):
    """Allows the values that another test excludes."""

    test: ValueTest

    @property
    def texts(self) -> tuple[str, ...]:
        return self.test.texts

    def allows(self, value: str) -> bool:
        return not self.test.allows(value)

    def describe(self) -> str:
        if isinstance(self.test, Not):
            return self.test.test.describe()
        if isinstance(self.test, AllOf):
            return "; or ".join(Not(test).describe() for test in self.test.tests)
        return f"anything except {self.test.describe()}"

    def variant_of(self, value: str) -> str | None:
        return None


@dataclass(frozen=True)
class AllOf(ValueTest):
    """Allows the values that all of some tests allow."""

    tests: tuple[ValueTest, ...]

    def __post_init__(self) -> None:
        known = [test.accepted for test in self.tests if test.accepted is not None]
        if known:
            least = min(known, key=len)
            with suppress(InputError):  # listing shows whether there is a value that is refused
                object.__setattr__(self, "accepted", frozenset(filter(self.allows, least)))

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(text for test in self.tests for text in test.texts)

    def allows(self, value: str) -> bool:
        """Raises `InputError` for a value that a test refuses, and no other test excludes."""
        may_be = all(test.may_allow(value) for test in self.tests)
        return may_be and all(test.allows(value) for test in self.tests)

    def describe(self) -> str:
        return " and ".join(test.describe() for test in self.tests)

    def common_start(self) -> str:
        return max((test.common_start() for test in self.tests), key=len)


def _span(field: Field, text: str, today: datetime.date | None) -> tuple[Any, Any]:
    """Return the first and the last value that a text means: a day has many moments."""
    day = relative_day(text, today) if today is not None and field.type != "int" else None
    if field.type in ("int", "date"):
        try:
            value = day or field.parse(text)
        except ValueError:
            raise ValueError(_misfit(field, text)) from None
        return value, value
    if day is None:
        moment, day = _parsed(field, text), _parsed(_DATE, text)
        if moment is not None:
            return moment, moment
        if day is None:
            raise ValueError(_misfit(field, text))
    start = datetime.datetime.combine(day, datetime.time())
    if _parsed(field, f"{_ANY_DAY:{field.type}}") != _ANY_DAY:
        raise ValueError(
            f"{field} has no complete date to compare with {text!r}; write its own form, such as "
            f"{start:{field.type}}"
        )
    return start, datetime.datetime.combine(day, datetime.time.max)


def _shown(text: str, today: datetime.date | None) -> str:
    """Format a value for messages; a relative date also with its date."""
    day = None if today is None else relative_day(text, today)
    return repr(text) if day is None else f"{text!r} ({day})"


def is_date(text: str) -> bool:
    """Check whether a text is a complete date, in one of the two forms of the type ``date``."""
    return _parsed(_DATE, text) is not None


def _is_written(value: str, kind: str) -> bool:
    """Check whether a type writes a time as `value`."""
    found = _parsed(Field("_", kind), value)
    return found is not None and f"{found:{kind}}" == value


def _parsed(field: Field, text: str) -> Any:
    try:
        return field.parse(text)
    except ValueError:
        return None


def _misfit(field: Field, text: str) -> str:
    example = {"int": "7", "date": "2024-01-31"}.get(field.type)
    example = example or datetime.datetime(2024, 1, 31).strftime(field.type)
    return f"{field.mistake(text)}; write one such as {example}"


def _within(field: Field, value: str, low: Any, high: Any) -> bool:
    found = _parsed(field, value)
    return found is not None and (low is None or low <= found) and (high is None or found <= high)
