"""``--where NAME=SPEC``: filter one dimension from the command line."""

from __future__ import annotations

import datetime
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from daskmr.data.dimensions.template import Field
from daskmr.data.dimensions.value_tests import (
    ANYTHING,
    AllOf,
    Between,
    Matching,
    Not,
    OneOf,
    Untyped,
    ValueTest,
    is_date,
    relative_day,
    typed,
)
from daskmr.errors import InputError

__all__ = ["named", "parse_where", "where_texts"]

_FORMS = (
    "write NAME=a, NAME=a,b, NAME=lo..hi, NAME=lo.., NAME=..hi or NAME=/regex/, with ! after the = to "
    "exclude; dates may be today, yesterday or -7d"
)


def where_texts(where: Any) -> tuple[str, ...]:
    """Return filters as texts ``NAME=SPEC``, from texts or from a mapping of names to specs.

    Raises `InputError` for anything else.

    >>> where_texts({"day": "-7d..", "host": ["web1", "web2"]})
    ('day=-7d..', 'host=web1,web2')
    """
    if isinstance(where, str):
        return (where,)
    if isinstance(where, Mapping):
        return tuple(f"{name}={_spec_text(name, spec)}" for name, spec in where.items())
    if not isinstance(where, Sequence) or not all(isinstance(text, str) for text in where):
        raise InputError(
            'where must be a mapping such as {"day": "-7d.."}, or a list of texts such as '
            f'["day=-7d.."], not {where!r}.'
        )
    return tuple(where)


def _spec_text(name: Any, spec: Any) -> str:
    if isinstance(spec, list | tuple | set | frozenset):
        values = [_spec_text(name, value) for value in spec]
        if any("," in value for value in values):
            raise InputError(
                f"where: a value of {name!r} contains a comma; match it with a regex, as in /a,b/."
            )
        return ",".join(values)
    if isinstance(spec, bool) or not isinstance(spec, str | int | datetime.date):
        raise InputError(f"where: {name!r} must be a text such as '-7d..', not {spec!r}.")
    return str(spec)


def parse_where(
    texts: Iterable[str], fields: Sequence[Field], today: datetime.date, template: str = ""
) -> dict[int, tuple[ValueTest, ...]]:
    """Parse ``NAME=SPEC`` texts to tests, by the position of their field.

    - `fields`: the dimensions of the layout.
    - `today`: the date that ``today``, ``yesterday`` and ``-7d`` refer to.
    - `template`: the layout, for messages.
    Raises `InputError` that names the text and the correction.

    >>> parse_where(["host=a,b"], [Field("host")], datetime.date(2024, 1, 31))
    {0: (OneOf(given=('a', 'b')),)}
    """
    found: dict[int, tuple[ValueTest, ...]] = {}
    for text in texts:
        name, equals, spec = text.partition("=")
        where = f"--where {text!r}"
        if not equals or not name:
            raise InputError(f"{where} has no {'name' if equals else '='}; {_FORMS}.")
        position = named(name, [field.name for field in fields], where)
        try:
            test = _Parser(fields[position], today, where, template).parse(spec)
        except ValueError as error:
            raise InputError(f"{where}: {error}.") from None
        found[position] = (*found.get(position, ()), test)
    return found


def named(name: str, names: Sequence[str], where: str) -> int:
    """Return the position of the dimension called `name`; raise InputError if there is not one."""
    if names.count(name) > 1:
        raise InputError(
            f"{where}: {name!r} is the name of several dimensions; rename all but one."
        )
    if name in names:
        return names.index(name)
    if not names:
        raise InputError(
            f"{where}: the layout has no dimensions. Name them with --layout, as in "
            "--layout '{day}/{host}.log', or use --layout hive."
        )
    by_case = {each.casefold(): each for each in names}
    similar = difflib.get_close_matches(name.casefold(), by_case, 1)
    advice = f" Did you mean {by_case[similar[0]]!r}?" if similar else ""
    raise InputError(
        f"{where}: the layout has no dimension {name!r}, only {', '.join(names)}.{advice}"
    )


@dataclass(frozen=True)
class _Parser:
    """Parses the filters of one dimension."""

    field: Field
    today: datetime.date
    where: str  # the filter, for messages
    template: str

    def parse(self, spec: str, excluded: bool = False) -> ValueTest:
        spec = spec.strip()
        if spec[:1] == "!":
            return Not(self.parse(spec[1:], not excluded))
        if spec == "*":
            return ANYTHING
        if len(spec) > 1 and spec[0] == spec[-1] == "/":
            try:
                return Matching(re.compile(spec[1:-1]))
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"the regex is not valid: {error}") from None
        values = [value.strip() for value in spec.split(",")]
        if not all(values):
            raise ValueError(f"a value is empty; {_FORMS} (// matches the empty value)")
        if len(values) > 1 and any(len(v) > 1 and v[0] == v[-1] == "/" for v in values):
            either = "|".join(value.strip("/") for value in values)
            raise ValueError(
                f"a regex cannot be one of several values; write {self.field.name}=/{either}/"
            )
        if any(value[0] == "!" for value in values):
            raise ValueError("! comes first, and excludes all values after it; repeat --where")
        tests = [self._range(value) for value in values if ".." in value]
        if plain := [value for value in values if ".." not in value]:
            checks = excluded or bool(tests)
            tests.append(self._compared(OneOf(tuple(plain)), plain, checks))
        return tests[0] if len(tests) == 1 else Not(AllOf(tuple(map(Not, tests))))  # any of them

    def _range(self, text: str) -> ValueTest:
        low, _, high = map(str.strip, text.partition(".."))
        if ".." in high or not (low or high):
            raise ValueError(f"it is not a range; {_FORMS}")
        return self._compared(Between(low or None, high or None), [low, high], True)

    def _compared(self, test: ValueTest, texts: list[str], checks: bool) -> ValueTest:
        """Return a test that compares as the type does; without a type, as text or as dates.

        - `texts`: the values or bounds of `test`.
        - `checks`: a date or number in another form would be compared wrongly.
        """
        field, lengths = self.field, {len(text) for text in texts if is_date(text)}
        if field.type:
            return typed(test, field, self.today)
        if any(relative_day(text, self.today) for text in texts) or (checks and len(lengths) > 1):
            test, texts, checks = typed(test, replace(field, type="date"), self.today), [], True
        elif isinstance(test, Between) and test.low and test.high and test.low > test.high:
            raise ValueError(
                f"{test.low!r} is above {test.high!r}, which allows nothing; swap them, or give the "
                f"dimension a type in the layout, such as {{{field.name}:{'date' if lengths else 'int'}}}: "
                "they are compared as text"
            )
        return Untyped(test, field, tuple(texts), self.where, self.template) if checks else test
