"""Dates of a run: relative ones such as ``-7d``, and forms such as ``{date-1d:%Y%m%d}`` in its options."""

from __future__ import annotations

import copy
import datetime
import os
import re
from collections.abc import Mapping
from typing import Any

from daskmr.data.dimensions.template import Field
from daskmr.data.dimensions.value_tests import relative_day
from daskmr.errors import InputError

__all__ = ["days_of", "fill", "has_form", "may_be_relative", "parse_date"]

_DAY = datetime.timedelta(days=1)
_MAYBE_RELATIVE = re.compile(r"\b(?:today|yesterday)\b|(?<!\w)[+-][0-9]{1,6}d\b")
# A form; the same text in double braces, which is not one; or a mistake
_FORM = re.compile(r"\{(?P<literal>\{date[^{}]*\})\}|\{date(?P<rest>[^{}]*)(?P<end>\}?)")
_REST = re.compile(r"(?P<shift>[+-][0-9]{1,6}d)?(?::(?P<format>.+))?", re.DOTALL)
_FORMAT = re.compile(r"(?:[^%]|%[aAbBdFGjmuUVwWyY%])*", re.DOTALL)
_ADVICE = "Write {date}, {date-1d}, {date:%Y%m%d} or {date-1d:%Y%m%d}"


def may_be_relative(text: str) -> bool:
    """Check whether a text contains what may be a relative date.

    >>> may_be_relative("day=-7d.."), may_be_relative("day=2024-01-31")
    (True, False)
    """
    return _MAYBE_RELATIVE.search(text) is not None


def parse_date(date: Any) -> datetime.date:
    """Return the date of a run, which others are relative to; by default today, in UTC.

    Raises `InputError` if it is not a date.

    >>> parse_date("20240131")
    datetime.date(2024, 1, 31)
    """
    today = datetime.datetime.now(datetime.UTC).date()
    if date is None:
        return today
    text = str(date.date() if isinstance(date, datetime.datetime) else date)
    try:
        return _day_of(text, today)
    except ValueError:
        raise InputError(
            f"--date {date!r} is not a date; write one such as 2024-01-31, or yesterday."
        ) from None


def _day_of(text: str, today: datetime.date) -> datetime.date:
    day: datetime.date = relative_day(text, today) or Field("date", "date").parse(text)
    return day


def days_of(text: str, today: datetime.date) -> list[datetime.date]:
    """Return the days of a range ``LO..HI``, both included; each may be relative to `today`.

    Raises `InputError` if it is no such range.

    >>> [str(day) for day in days_of("2024-02-28..-1d", datetime.date(2024, 3, 1))]
    ['2024-02-28', '2024-02-29']
    """
    bounds = [bound.strip() for bound in text.split("..")]
    try:
        low, high = (_day_of(bound, today) for bound in bounds)
    except ValueError:
        raise InputError(
            f"--for-each-day {text!r} is not a range of days; write one such as "
            "2024-01-01..2024-01-31, or -7d..yesterday."
        ) from None
    if low > high:
        raise InputError(
            f"--for-each-day {text!r} has no day, because {low} is after {high}. Swap them: "
            f"--for-each-day {high}..{low}"
        )
    return [low + number * _DAY for number in range((high - low).days + 1)]


# --- forms ----------------------------------------------------------------------------------------


def has_form(value: Any) -> bool:
    """Check whether a text, or one in a list or mapping, contains a form.

    >>> has_form({"day": "{date}"}), has_form(["{day}"])
    (True, False)
    """
    if isinstance(value, Mapping):
        return any(map(has_form, value.values()))
    if type(value) in (list, tuple):
        return any(map(has_form, value))
    return isinstance(value, str | os.PathLike) and "{date" in str(value)


def fill(value: Any, day: datetime.date, where: str) -> Any:
    """Replace the forms in a text, or in those in a list or mapping; return other values as they are.

    ``{{date}}`` stands for the text ``{date}``.

    - `where`: the option, for messages.
    Raises `InputError` for what begins like a form, but is not valid.

    >>> fill("out-{date}-{date-1d:%Y%m%d}.txt", datetime.date(2024, 3, 1), "--output")
    'out-2024-03-01-20240229.txt'
    """
    if not has_form(value):
        return value
    if isinstance(value, Mapping):
        changed = {name: fill(each, day, f"{where} {name}") for name, each in value.items()}
        if not isinstance(value, dict):
            return changed
        filled = copy.copy(value)  # of its own type
        filled.update(changed)
        return filled
    if type(value) in (list, tuple):
        return type(value)(fill(each, day, where) for each in value)

    def replaced(found: re.Match[str]) -> str:
        return found["literal"] or _date_in(found, day, where)

    return _FORM.sub(replaced, os.fspath(value))


def _date_in(found: re.Match[str], day: datetime.date, where: str) -> str:
    """Return the date of a form; raise `InputError` if the form is not valid."""
    rest = _REST.fullmatch(found["rest"])
    if not found["end"]:
        problem = "has no }"
    elif rest is None:
        problem = "is not a date"
    elif rest["format"] and not ("%" in rest["format"] and _FORMAT.fullmatch(rest["format"])):
        problem = f"has the format {rest['format']!r}, but that of a date is one such as %Y%m%d"
    else:
        try:
            shifted = relative_day(rest["shift"] or "today", day) or day
            return shifted.strftime(rest["format"]) if rest["format"] else shifted.isoformat()
        except ValueError:
            problem = "is out of range"
    literal = "{" + found[0].removesuffix("}") + "}}"
    raise InputError(f"{where}: {found[0]} {problem}. {_ADVICE}; for the text itself, {literal}")
