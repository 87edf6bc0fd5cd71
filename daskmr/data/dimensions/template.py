"""Templates of paths: the meaning of each part of a path below the data dir.

A template such as ``{year:int}/{host}/access.log.gz`` has a level for each part between ``/``. Each
level is matched by itself, so a walk never opens the directories that a filter excludes.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import unquote

__all__ = ["Field", "Level", "TemplateError", "hive_level", "level_of", "parse_template"]

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value in the name of a directory that Hive and Spark write for an empty one."""

_TOKEN = re.compile(r"\{\{|\}\}|\{[^{}]*\}|[{}]|[^{}]+")
_FIELD = re.compile(r"\{(?P<name>[^\W\d][\w-]*)(?P<spans>\.\.\.)?(?::(?P<type>.+))?\}")
_INT = re.compile(r"[+-]?[0-9]{1,400}")
_ADJACENT = re.compile(r"%[YymdHMj]%[mdHMSj]")
_DATE = re.compile(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ADVICE = "write {name}, {name:int}, {name:date}, {name:%Y%m%d} (strptime, without a zone), {_} or {name...}"

# Names of the types in other systems
_TYPES = {
    "str": "", "string": "", "text": "", "integer": "int", "number": "int", "long": "int",
    "bigint": "int", "d": "int", "datetime": "%Y%m%d%H%M%S", "timestamp": "%Y%m%d%H%M%S",
    "day": "date", "dates": "date",
}  # fmt: skip


class TemplateError(ValueError):
    """A mistake in a template; the message names it, and the correction."""


@dataclass(frozen=True, slots=True)
class Field:
    """One ``{name}`` of a template.

    - `name`: ``"_"`` is not a dimension.
    - `type`: ``""``, ``"int"``, ``"date"`` or a strptime format.
    - `spans`: its value may contain ``/``.
    """

    name: str
    type: str = ""
    spans: bool = False

    def __str__(self) -> str:
        return f"{{{self.name}{'...' * self.spans}{':' * bool(self.type)}{self.type}}}"

    @property
    def is_dimension(self) -> bool:
        return self.name != "_"

    def parse(self, value: str) -> Any:
        """Return `value` in the form in which it is compared; raise ValueError if it does not fit.

        >>> Field("hour", "int").parse("07"), Field("day", "date").parse("20240131")
        (7, datetime.date(2024, 1, 31))
        """
        return parse_value(self.type, value) if self.type else value

    def mistake(self, value: str) -> str | None:
        """Return the reason that `value` does not fit the type, or ``None``.

        >>> Field("hour", "int").mistake("noon")
        "hour 'noon' is not an integer"
        """
        try:
            self.parse(value)
        except ValueError:
            form = {"int": "an integer", "date": "a date"}.get(
                self.type, f"of the form {self.type}"
            )
            return f"{self.name} {value!r} is not {form}"
        return None


@lru_cache(1 << 16)
def parse_value(kind: str, value: str) -> Any:
    """Parse a value of a type; raise ValueError if it does not fit."""
    if kind == "int":
        if not _INT.fullmatch(value):
            raise ValueError(value)
        return int(value)
    if kind == "date":
        if not _DATE.fullmatch(value):
            raise ValueError(value)
        return datetime.date.fromisoformat(value)
    moment = datetime.datetime.strptime(value, kind)
    # It accepts a day of one digit, so it would read "20240131" by "%Y%m%d%H" as the third.
    if _ADJACENT.search(kind) and moment.strftime(kind) != value:
        raise ValueError(value)
    return moment


@dataclass(frozen=True)
class Level:
    """One part of a template between ``/``.

    - `text`: its text in the template, for messages.
    - `parts`: its literal texts and fields, in order.
    - `decodes`: values are percent-decoded, as in the directories of Hive.
    """

    text: str
    parts: tuple[str | Field, ...]
    decodes: bool = False

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        return tuple(part for part in self.parts if isinstance(part, Field))

    @cached_property
    def dimensions(self) -> tuple[Field, ...]:
        return tuple(field for field in self.fields if field.is_dimension)

    @cached_property
    def start(self) -> str:
        """The text that all names begin with."""
        return self.parts[0] if isinstance(self.parts[0], str) else ""

    @cached_property
    def literal(self) -> str | None:
        """The only name, if there is no field."""
        return None if self.fields else self.start

    @property
    def spans(self) -> bool:
        """True if it matches the complete rest of a path."""
        return bool(self.fields) and self.fields[-1].spans

    @property
    def is_open(self) -> bool:
        """True if names may end in anything, so that their extensions need to be checked."""
        last = self.parts[-1]
        return isinstance(last, Field) and not last.type

    @cached_property
    def _typed(self) -> tuple[tuple[int, Field], ...]:
        return tuple((n, field) for n, field in enumerate(self.dimensions) if field.type)

    @cached_property
    def fullmatch(self) -> Callable[[str], re.Match[str] | None]:
        """Match a name, regardless of types; the groups are the dimensions, not yet decoded."""
        shown = "" if self.start[:1] == "." else r"(?!\.)"
        shown += r"(?!.*/\.)" if self.spans else ""
        return re.compile(shown + _pattern_of(self.parts), re.DOTALL).fullmatch

    def __getstate__(self) -> tuple[Any, ...]:
        return self.text, self.parts, self.decodes  # without what is computed from them

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        for name, value in zip(("text", "parts", "decodes"), state, strict=True):
            object.__setattr__(self, name, value)

    def match(self, name: str) -> tuple[str, ...] | None:
        """Return the dimensions in a name, whatever their types; ``None`` if it has another form.

        >>> [level] = parse_template("{host}.{_}")
        >>> level.match("web1.log.gz"), level.match("web1")
        (('web1',), None)
        """
        match = self.fullmatch(name)
        if match is None:
            return None
        values: tuple[str, ...] = match.groups()
        if self.decodes:
            return tuple(
                "" if v == HIVE_NULL else unquote(v, errors="surrogateescape") for v in values
            )
        return values

    def hides(self, name: str) -> bool:
        """Check whether a name is that of a hidden file or directory, which a template must name."""
        if self.spans and "/" in name:
            return "/." in name or (name[0] == "." and self.start[:1] != ".")
        return name[:1] == "." and self.start[:1] != "."

    def mistake(self, values: Sequence[str]) -> str | None:
        """Return the reason that one of the dimensions does not fit its type, or ``None``."""
        if not self._typed:
            return None
        return next(filter(None, (field.mistake(values[n]) for n, field in self._typed)), None)

    def why_not(self, name: str) -> str:
        """Return the reason that a name is not in the layout; ``""`` if it is.

        >>> [level] = parse_template("{day:date}.log")
        >>> level.why_not("today.log"), level.why_not("x"), level.why_not("20240131.log")
        ("day 'today' is not a date", "'x' is not of the form {day:date}.log", '')
        """
        if self.hides(name):
            return "its name begins with a dot"
        values = self.match(name)
        if values is None:
            return f"{name!r} is not of the form {self.text}"
        return self.mistake(values) or ""


def parse_template(template: str) -> tuple[Level, ...]:
    """Parse a template.

    Raises `TemplateError`: a name occurs twice, two fields without text between them, an unknown
    type, ``..``.

    >>> [level.text for level in parse_template("{year:int}/{host}/access.log")]
    ['{year:int}', '{host}', 'access.log']
    >>> parse_template("{a}{b}")
    Traceback (most recent call last):
        ...
    daskmr.data.dimensions.template.TemplateError: {a} and {b} are adjacent; put text between them, \
as in {a}-{b} or {a}/{b}
    """
    levels = tuple(_parse_level(text) for text in _split(template))
    seen: set[str] = set()
    for level in levels:
        for field in level.dimensions:
            if field.name in seen:
                raise TemplateError(f"the name {field.name!r} occurs twice; rename one of them")
            seen.add(field.name)
    for level in levels[:-1]:
        if level.spans:
            raise TemplateError(f"{level.text} spans levels, so it must come last")
    return levels


def level_of(*parts: str | Field) -> Level:
    """Return the level of some parts.

    >>> level_of("log-", Field("host")).text
    'log-{host}'
    """
    return Level("".join(map(str, parts)), parts)


def hive_level(name: str) -> Level:
    """Return the level of Hive's directories ``name=value``.

    >>> hive_level("city").match("city=S%C3%A3o%20Paulo")
    ('São Paulo',)
    """
    return Level(f"{name}={{{name}}}", (f"{name}=", Field(name)), True)


def _split(template: str) -> list[str]:
    """Split at ``/`` outside of braces, since a type such as ``{day:%Y/%m}`` has its own error."""
    if not template:
        raise TemplateError("it is empty; write one such as {day:date}/{host}.log")
    return re.split(r"/(?![^{}]*\})", template)


def _parse_level(text: str) -> Level:
    if text in ("", ".", ".."):
        where = (
            f"{text!r} is one of its parts" if text else 'it begins or ends with "/", or has "//"'
        )
        raise TemplateError(
            f"{where}; write the path below the data dir, as in {{day}}/{{host}}.log"
        )
    if "\0" in text:
        raise TemplateError("it contains a NUL; remove it")
    parts: list[str | Field] = []
    for token in _TOKEN.findall(text):
        if token in ("{{", "}}") or token[0] not in "{}":
            literal = token[0] if token in ("{{", "}}") else token
            if parts and isinstance(parts[-1], str):
                parts[-1] += literal
            else:
                parts.append(literal)
            continue
        field = _parse_field(token)
        if parts and isinstance(before := parts[-1], Field):
            raise TemplateError(
                f"{before} and {token} are adjacent; put text between them, "
                f"as in {before}-{token} or {before}/{token}"
            )
        parts.append(field)
    fields = [part for part in parts if isinstance(part, Field)]
    if any(field.spans for field in fields) and not (
        isinstance(last := parts[-1], Field) and last.spans
    ):
        raise TemplateError(
            f"{text} has text after a field that spans levels, which must come last"
        )
    if sum(field.spans for field in fields) > 1:
        raise TemplateError(f"{text} has two fields that span levels; only the last one may")
    hive = len(fields) == 1 and parts == [f"{fields[0].name}=", fields[0]] and not fields[0].spans
    return Level(text, tuple(parts), hive)


def _parse_field(token: str) -> Field:
    match = _FIELD.fullmatch(token)
    if match is None:
        raise TemplateError(f"{token!r} is not a field; {_ADVICE}, and {{{{ or }}}} for a brace")
    field = Field(match["name"], match["type"] or "", match["spans"] is not None)
    if field.type and (field.spans or not field.is_dimension):
        raise TemplateError(f"{token} cannot have a type; {_ADVICE}")
    if "/" in field.type:
        raise TemplateError(f"the type of {token} contains /, which no name does; {_ADVICE}")
    if field.type not in ("", "int", "date") and not _is_format(field.type):
        like = _TYPES.get(field.type.lower())
        meant = "" if like is None else f"{Field(field.name, like)} is meant, perhaps; "
        raise TemplateError(f"the type of {token} is not known; {meant}{_ADVICE}")
    return field


def _is_format(text: str) -> bool:
    moment = datetime.datetime(2001, 2, 3, 4, 5, 6)
    try:
        return "%" in text and bool(datetime.datetime.strptime(moment.strftime(text), text))
    except (ValueError, re.error):
        return False


def _pattern_of(parts: Sequence[str | Field]) -> str:
    """Return the regex of a level: a value contains neither ``/`` nor the literal after it."""
    pattern = ""
    for position, part in enumerate(parts):
        if isinstance(part, str):
            pattern += re.escape(part)
            continue
        after = parts[position + 1] if position + 1 < len(parts) else ""
        assert isinstance(after, str)
        if part.spans:
            one = "."
        elif len(after) < 2:
            one = f"[^/{re.escape(after)}]"
        else:
            one = f"(?:(?!{re.escape(after)})[^/])"
        pattern += f"({one}+)" if part.is_dimension else f"(?:{one}+)"
    return pattern
