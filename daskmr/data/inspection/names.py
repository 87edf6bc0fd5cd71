"""Infer the layout from a sample of paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from os.path import commonprefix
from typing import TypeVar
from urllib.parse import unquote

from daskmr.data.dimensions.template import Field, parse_value
from daskmr.data.layout import FLAT, HIVE, Layout, load_layout
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.errors import InputError

__all__ = ["Guess", "guess_layout", "layout_of", "misfits", "spread"]

T = TypeVar("T")

_MOST = 2000  # paths that are looked at, which is enough
_ENOUGH = 0.9  # share of the paths that a layout must fit
_YEARS = range(1990, 2101)

# Times in names: the name of the dimension, its type, and the form of its values
_TIMES = (
    ("day", "date", r"\d{4}-\d\d-\d\d|\d{8}"),
    ("day", "%Y_%m_%d", r"\d{4}_\d\d_\d\d"),
    ("day", "%Y.%m.%d", r"\d{4}\.\d\d\.\d\d"),
    ("hour", "%Y-%m-%dT%H", r"\d{4}-\d\d-\d\dT\d\d"),
    ("hour", "%Y-%m-%d-%H", r"\d{4}-\d\d-\d\d-\d\d"),
    ("hour", "%Y-%m-%d_%H", r"\d{4}-\d\d-\d\d_\d\d"),
    ("hour", "%Y%m%d%H", r"\d{10}"),
    ("minute", "%Y%m%d%H%M", r"\d{12}"),
    ("time", "%Y%m%d%H%M%S", r"\d{14}"),
    ("time", "%Y%m%dT%H%M%S", r"\d{8}T\d{6}"),
    ("month", "%Y-%m", r"\d{4}-\d\d"),
    ("month", "%Y%m", r"\d{6}"),
)
# Parts of a time in a level each: they follow each other
_PARTS = {
    "year": _YEARS,
    "month": range(1, 13),
    "day": range(1, 32),
    "hour": range(24),
    "minute": range(60),
}
_HOST = re.compile(
    r"""(?:ip[-.])?\d{1,3}(?:[.-]\d{1,3}){3}
    | (?:api|app|back|box|cache|cdn|db|edge|front|host|lb|mail|mx|nginx|node|proxy|server|srv|vm|web
        |worker|www)[a-z]*[-_]?\d+(?:\.[\w.-]+)?
    | [a-z][\w-]*(?:\.[\w-]+)*\.(?:com|example|internal|io|lan|local|net|org|test)""",
    re.VERBOSE | re.IGNORECASE,
)
_longest_first = sorted((form for *_, form in _TIMES), key=len, reverse=True)
_TOKEN = re.compile(rf"(?<!\d)(?:{'|'.join(_longest_first)})(?!\d)|[._-]|[^._-]+")
_NAME = re.compile(r"[^\W\d][\w-]*")


@dataclass(frozen=True, slots=True)
class Guess:
    """A layout that fits some paths.

    - `spec`: the text of ``--layout``; ``None`` for the packaged layout.
    - `typed`: of `hive`, the template that compares dates and numbers as such; ``""`` if all is text.
    """

    spec: str | None = FLAT
    typed: str = ""

    @property
    def layout(self) -> Layout:
        return load_layout(self.spec)


def guess_layout(paths: Sequence[str], extensions: Collection[str] = EXTENSIONS) -> Guess | None:
    """Return the layout of some relative paths; ``None`` if no layout lists them all.

    - `extensions`: those that are listed where a layout ends in an open name.

    >>> guess_layout(["2024-01-30/web1/access.log.gz", "2024-01-31/web2/access.log.gz"]).spec
    '{day:date}/{host}/access.log.gz'
    >>> guess_layout(["dt=2024-01-30/a.jsonl", "dt=2024-01-31/b.jsonl"])
    Guess(spec='hive', typed='dt={dt:date}/{_}')
    >>> guess_layout(["2024/01/30/0.log", "2024/01/31/0.log"]).spec
    '{year:int}/{month:int}/{day:int}/0.log'
    >>> guess_layout(["a/x.txt", "b/c/y.txt"]).spec
    'flat'
    """
    paths = spread(paths, _MOST)
    known = sum(_is_known(path, extensions) for path in paths) == len(paths)
    if not paths or _share(paths, _is_packaged) >= _ENOUGH:
        return Guess(None) if paths else Guess()
    if known and (keys := _hive_keys(paths)):
        return Guess(HIVE, _typed_hive(paths, keys))
    for template in _templates(paths, extensions):
        try:
            layout = load_layout(template)
        except InputError:
            continue
        if not layout.fields and known and layout.directories == 0:
            continue  # a folder of files
        if _share(paths, partial(_lists, layout, extensions)) >= _ENOUGH:
            return Guess(template)
    return Guess() if known else None


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` >= 2 items, spread evenly.

    >>> spread("abcdefg", 3)
    ['a', 'd', 'g']
    """
    if len(items) <= most:
        return [*items]
    return [items[n * (len(items) - 1) // (most - 1)] for n in range(most)]


def layout_of(guess: Guess, paths: Iterable[str]) -> Layout:
    """Return the layout of a guess, with the names of `hive`."""
    if guess.spec != HIVE:
        return guess.layout
    return Layout.of_hive(_hive_keys([*paths]))


def misfits(
    layout: Layout, paths: Iterable[str], extensions: Collection[str] = EXTENSIONS
) -> list[str]:
    """Return the paths that a layout does not list."""
    return [path for path in paths if not _lists(layout, extensions, path)]


def _lists(layout: Layout, extensions: Collection[str], path: str) -> bool:
    open_end = layout.levels[-1].is_open
    return layout.dims_of(path) is not None and (not open_end or _is_known(path, extensions))


def _is_known(path: str, extensions: Collection[str]) -> bool:
    return path.rpartition(".")[2].lower() in extensions


def _share(paths: Sequence[str], test: Callable[[str], object]) -> float:
    return sum(map(bool, map(test, paths))) / len(paths)


_PACKAGED = load_layout()


def _is_packaged(path: str) -> bool:
    dims = _PACKAGED.dims_of(path)
    return (
        dims is not None and re.fullmatch(r"\d{8,14}", dims[-2]) is not None and _is_day(dims[-1])
    )


def _is_day(value: str) -> bool:
    return _time_of([value]) == ("day", "date")


# --- hive -----------------------------------------------------------------------------------------


def _hive_keys(paths: Sequence[str]) -> list[str]:
    """Return the names of directories ``name=value``, the same for all paths; empty if there are none."""
    found: set[tuple[str, ...]] = set()
    for path in paths:
        directories = path.split("/")[:-1]
        if not directories or not all(name.find("=") > 0 for name in directories):
            return []
        found.add(tuple(name.partition("=")[0] for name in directories))
    return list(found.pop()) if len(found) == 1 else []


def _typed_hive(paths: Sequence[str], keys: Sequence[str]) -> str:
    """Return the template of hive directories with types; ``""`` if no value has one."""
    if not all(map(_NAME.fullmatch, keys)):
        return ""
    levels, has_type = [], False
    for position, key in enumerate(keys):
        values = {unquote(path.split("/")[position].partition("=")[2]) for path in paths}
        time = _time_of(values)
        kind = time[1] if time else "int" if _are_ints(values) else ""
        has_type = has_type or bool(kind)
        levels.append(f"{key}={Field(key, kind)}")
    return "/".join([*levels, "{_}"]) if has_type else ""


# --- templates ------------------------------------------------------------------------------------


def _templates(paths: Sequence[str], extensions: Collection[str]) -> Iterator[str]:
    """Yield templates that may fit, the most specific ones first."""
    split = [path.split("/") for path in paths]
    depth, count = Counter(map(len, split)).most_common(1)[0]
    if count / len(paths) >= _ENOUGH:
        kept = [parts for parts in split if len(parts) == depth]
        names = _Names()
        folders = [names.folder({parts[n] for parts in kept}) for n in range(depth - 1)]
        files = {parts[-1] for parts in kept}
        known = all(_is_known(name, extensions) for name in files)
        for last in names.file(files, known, len(kept) == 1):
            yield "/".join([*folders, last])
    names, shared = _Names(), min(map(len, split)) - 1
    folders = [names.folder({parts[n] for parts in split}) for n in range(shared)]
    while any(re.search(r"\{(?!name\d)", folder) for folder in folders):
        yield "/".join([*folders, "{_...}"])
        folders.pop()


@dataclass(slots=True)
class _Names:
    """Names the parts of the levels of a template, outermost first."""

    used: Counter[str] = field(default_factory=Counter)
    unit: str = ""  # the last part of a time that has a level of its own

    def folder(self, values: set[str]) -> str:
        """Return the text of a level of directories."""
        keys = {value.partition("=")[0] for value in values if value.find("=") > 0}
        key = keys.pop() if len(keys) == 1 and all("=" in value for value in values) else ""
        if _NAME.fullmatch(key):
            plain = {unquote(value.partition("=")[2]) for value in values}
            time = _time_of(plain)
            return f"{key}={self._field(key, time[1] if time else self._int(plain))}"
        if (known := self._whole(values)) or len(values) > 1:
            return known or "".join(self._mixed(values)) or self._field("", self._int(values))
        return _literal(*values)

    def file(self, values: set[str], known: bool, alone: bool) -> Iterator[str]:
        """Yield texts of the level of files.

        - `known`: all have an extension that is listed.
        - `alone`: there is only one file, which may have a number.
        """
        saved, end = self.used.copy(), _common_end(values)
        numbers = {value.removesuffix(end) for value in values}
        is_time = self.unit and end and (alone or len(numbers) > 1)
        if is_time and all(re.fullmatch(r"\d\d", number) for number in numbers):
            if unit := self._next_unit(numbers):
                yield self._field(unit, "int") + _literal(end)
            self.used = saved.copy()
        mixed = [*self._mixed(values, of_files=True)]
        text = "".join(mixed)
        has_field = "{" in text.replace("{_}", "")
        is_numbered = alone and known and re.search(r"\d", text) is not None
        if has_field or (len(values) == 1 and not is_numbered):
            yield text
        self.used = saved
        if known or end:
            yield "{_}" if known else "{_}" + _literal(end)

    def _whole(self, values: set[str]) -> str:
        """Return the field of values that are recognised as a whole; ``""`` if they are not."""
        time = _time_of(values)
        if time is not None:
            self.unit = time[0]
            return self._field(*time)
        if _are_ints(values) and (unit := self._next_unit(values)):
            self.unit = unit
            return self._field(unit, "int")
        return self._field("host") if _are_hosts(values) else ""

    def _next_unit(self, values: set[str]) -> str:
        """Return the part of a time that numbers in a level may be, after those of the levels above."""
        units = list(_PARTS)
        after = units.index(self.unit) + 1 if self.unit in units else 0
        width = 4 if not after else 2
        for unit in units[after : after + 1]:
            if all(len(v) <= width and int(v) in _PARTS[unit] for v in values):
                return unit
        return ""

    def _mixed(self, values: set[str], of_files: bool = False) -> Iterator[str]:
        """Yield the parts of names that have constant texts; nothing if they have no common form."""
        tokens = [_TOKEN.findall(value) for value in sorted(values)]
        columns = [*zip(*tokens, strict=False)]
        same = len({len(each) for each in tokens}) == 1 and all(map(_is_aligned, columns))
        if not same and not of_files:
            return
        kept = columns if same else columns[: _shared(columns)]
        variable = False
        parts: list[str] = []
        for position, column in enumerate(kept):
            distinct = set(column)
            time = _time_of(distinct)
            if time is not None:
                parts, variable = [*parts, self._field(*time)], False
            elif len(distinct) == 1 and column[0] not in "._-" and _HOST.fullmatch(column[0]):
                parts, variable = [*parts, self._field("host")], False
            elif len(distinct) == 1:
                if not (variable and column[0] in "._-" and _varies(kept, position + 1)):
                    parts, variable = [*parts, _literal(column[0])], False
            elif not variable:
                parts, variable = [*parts, self._variable(distinct, kept, position, of_files)], True
        if not same:
            end = _common_end(values)
            parts += [] if variable else ["{_}"]
            parts += [_literal(end)] if end else []
        yield from parts

    def _variable(
        self, values: set[str], columns: Sequence[tuple[str, ...]], position: int, of_file: bool
    ) -> str:
        """Return the field of a part that varies: named by the text before it, if there is one."""
        if _are_hosts(values):
            return self._field("host")
        last = position == len(columns) - 1
        before = columns[position - 2][0] if position > 1 else ""
        named = (
            bool(_NAME.fullmatch(before)) and len(set(columns[position - 2 : position - 1])) == 1
        )
        if of_file:
            if last and named and _are_ints(values):  # the name has no extension
                return self._field(before, "int")
            few = 2 * len(values) <= len(columns[0]) and all(map(str.isalpha, values))
            return self._field("") if few else "{_}"
        alone = last or not _varies(columns, position + 2)
        return self._field(before if named else "", self._int(values) if alone else "")

    def _int(self, values: set[str]) -> str:
        return "int" if _are_ints(values) else ""

    def _field(self, name: str, kind: str = "") -> str:
        if not name:
            self.used["name"] += 1
            return str(Field(f"name{self.used['name']}", kind))
        self.used[name] += 1
        count = self.used[name]
        return str(Field(name if count == 1 else f"{name}{count}", kind))


def _time_of(values: Iterable[str]) -> tuple[str, str] | None:
    """Return the name and the type of values that are all times of one form, or ``None``.

    >>> _time_of(["20240131", "2024-01-31"]), _time_of(["2024013107"]), _time_of(["20241350"])
    (('day', 'date'), ('hour', '%Y%m%d%H'), None)
    """
    values = [*values]
    for name, kind, form in _TIMES:
        if all(re.fullmatch(form, value) for value in values):
            try:
                years = {parse_value(kind, value).year for value in values}
            except ValueError:
                continue
            if all(year in _YEARS for year in years):
                return name, kind
    return None


def _are_hosts(values: set[str]) -> bool:
    """Check for names of hosts: known ones, or several words with a number each.

    >>> _are_hosts({"web1"}), _are_hosts({"static1", "admin1"}), _are_hosts({"v1", "v2"})
    (True, True, False)
    """
    if all(map(_HOST.fullmatch, values)):
        return True
    words = {re.fullmatch(r"([a-zA-Z]+)\d+", value) for value in values}
    return None not in words and len({word[1] for word in words if word}) > 1


def _are_ints(values: Iterable[str]) -> bool:
    return all(re.fullmatch(r"[0-9]{1,18}", value) for value in values)


def _is_aligned(column: tuple[str, ...]) -> bool:
    """Check that one token of all names is the same separator, or is none in all of them."""
    separators = [token for token in column if token in "._-"]
    return not separators or (len(separators) == len(column) and len(set(column)) == 1)


def _shared(columns: Sequence[tuple[str, ...]]) -> int:
    """Return the number of first tokens that are the same or times in all names, up to a separator."""
    count = 0
    for position, column in enumerate(columns):
        if len(set(column)) > 1 and _time_of(column) is None:
            break
        if column[0] in "._-":
            count = position + 1
    return count


def _varies(columns: Sequence[tuple[str, ...]], position: int) -> bool:
    """Check for a token that is neither constant nor recognised."""
    if position >= len(columns):
        return False
    distinct = set(columns[position])
    return len(distinct) > 1 and _time_of(distinct) is None and not _are_hosts(distinct)


def _common_end(values: Iterable[str]) -> str:
    """Return the end that all names have in common, from a dot on.

    >>> _common_end(["a.out.gz", "b.c.out.gz"]), _common_end(["a.out", "b.err"])
    ('.out.gz', '')
    """
    end = commonprefix([value[::-1] for value in values])[::-1]  # noqa: RUF071 (of characters)
    return end[end.index(".") :] if "." in end else ""


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
