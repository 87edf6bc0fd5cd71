"""The layout: the dimensions that directories and file names encode."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from typing import Any

from daskmr.data.dimensions.dates import fill, has_form, may_be_relative, parse_date
from daskmr.data.dimensions.template import (
    Field,
    Level,
    TemplateError,
    hive_level,
    level_of,
    parse_template,
)
from daskmr.data.dimensions.value_tests import ANYTHING, AllOf, ValueTest, typed
from daskmr.data.dimensions.where import parse_where, where_texts
from daskmr.data.filters import Dimension, parse_dimension
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.data.strict_json import fail, field_name, path_name, read_dimensions, refuse_unknown
from daskmr.errors import InputError

__all__ = ["Layout", "Schema", "is_layout_file", "load_layout", "load_schema", "recorded_layout"]

HIVE, FLAT = "hive", "flat"

_ANY = Field("_")
_FILTER_EXAMPLE = '{"version": 1, "dimensions": [{"field_name": "reason", "allowed_values": "*"}]}'
_LAYOUT_EXAMPLE = (
    '{"version": 1, "dimensions": [{"field_name": "buildID"}, {"field_name": "submission_date"}]}'
)


@dataclass(frozen=True)
class Layout:
    """The levels of the paths of the data, outermost first.

    - `levels`: one for each part of a path; empty for `hive` before its names are known.
    - `spec`: the text of ``--layout``; ``None`` for a layout of a JSON schema.
    - `example`: a path that has the names of a `hive` layout, for messages.

    >>> layout = load_layout("{reason}/{buildID}.{submission_date:date}.{_}")
    >>> layout.field_names, layout.directories
    (('reason', 'buildID', 'submission_date'), 1)
    >>> layout.dims_of("idle/20131029.20131102.4f2e.log.gz")
    ('idle', '20131029', '20131102')
    >>> layout.why_not("idle/20131029.noon.log.gz")
    "submission_date 'noon' is not a date"
    """

    levels: tuple[Level, ...]
    spec: str | None = None
    example: str = field(default="", compare=False)

    @classmethod
    def of_names(cls, names: Sequence[str]) -> Layout:
        """Return the layout of a JSON schema: the last two dimensions begin the file names.

        >>> Layout.of_names(("reason", "buildID", "submission_date")).template
        '{reason}/{buildID}.{submission_date}.{_}'
        """
        *directories, first, second = map(Field, names)
        return cls((*map(level_of, directories), level_of(first, ".", second, ".", _ANY)))

    @classmethod
    def of_hive(cls, names: Sequence[str], example: str = "") -> Layout:
        """Return the layout of Hive's directories ``name=value``.

        >>> Layout.of_hive(("dt", "hour")).template
        'dt={dt}/hour={hour}/{_}'
        """
        directories = [*map(hive_level, names)] or [level_of(_ANY, "=", _ANY)]
        return cls((*directories, level_of(_ANY)), HIVE, example)

    @property
    def is_undiscovered(self) -> bool:
        """True for `hive` before its names are known."""
        return not self.levels

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The dimensions."""
        return tuple(field for level in self.levels for field in level.dimensions)

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.fields)

    @property
    def directories(self) -> int:
        """The number of levels of directories."""
        return len(self.levels) - 1

    @property
    def template(self) -> str:
        """A path in this layout, for messages."""
        if self.spec == FLAT:
            return "flat (files at any depth, without dimensions)"
        if self.spec == HIVE and not self.fields:
            return "hive (directories name=value)"
        return "/".join(level.text for level in self.levels)

    def dims_of(self, path: str) -> tuple[str, ...] | None:
        """Return the dimensions of a relative path; ``None`` if it is not in the layout."""
        values: tuple[str, ...] = ()
        names = self._split(path)
        if len(names) != len(self.levels):
            return None
        for level, name in zip(self.levels, names, strict=True):
            found = level.match(name)
            if found is None or level.mistake(found):
                return None
            values += found
        return values

    def why_not(self, path: str) -> str:
        """Return the reason that a relative path is not in the layout; ``""`` if it is."""
        names = self._split(path)
        for level, name in zip(self.levels, names, strict=False):
            if reason := level.why_not(name):
                return reason
        if len(names) < len(self.levels):
            return self.too_short(len(names) - 1)
        return "" if len(names) == len(self.levels) else self.too_deep()

    def too_short(self, position: int) -> str:
        """Explain a file where the layout has a directory."""
        return f"it is a file, where the layout has a directory {self.levels[position].text}"

    def too_deep(self) -> str:
        """Explain a directory where the layout has files."""
        return f"it is a directory, where the layout has files {self.levels[-1].text}"

    def _split(self, path: str) -> list[str]:
        spans = bool(self.levels) and self.levels[-1].spans
        return path.split("/", len(self.levels) - 1 if spans else -1)


@dataclass(frozen=True, slots=True)
class _Given:
    """The filters of a run, as they were given."""

    dimensions: tuple[Any, ...] = ()  # of the filter file
    source: str = "The filter"  # its name, for messages
    where: tuple[str, ...] = ()
    today: datetime.date = datetime.date.min
    layout_file: str | None = None
    extensions: frozenset[str] = EXTENSIONS  # of the files that are listed, without the dot

    def of(self, layout: Layout) -> Schema:
        """Apply the filters to the dimensions of a layout."""
        own = self._in_layout(layout)
        narrowed = list(own)
        where = fill(self.where, self.today, "--where")
        found = parse_where(where, layout.fields, self.today, layout.template)
        for position, tests in found.items():
            dimension = own[position]
            if dimension.test != ANYTHING:
                tests = (dimension.test, *tests)
            test = tests[0] if len(tests) == 1 else AllOf(tests)
            narrowed[position] = Dimension(dimension.field_name, test)
        return Schema(layout, tuple(narrowed), own, self)

    @property
    def unfilled(self) -> dict[str, Any] | None:
        """The filter as it was given, if it has a date to fill in; otherwise ``None``."""
        dimensions = list(self.dimensions)
        return {"version": 1, "dimensions": dimensions} if has_form(dimensions) else None

    @property
    def refers_to_date(self) -> bool:
        """Whether the filters may have dates that are relative to `today`."""
        texts = json.dumps([self.dimensions, self.where], default=str)
        return has_form(texts) or may_be_relative(texts)

    def _in_layout(self, layout: Layout) -> tuple[Dimension, ...]:
        """Read the dimensions of the filter, in the order of the layout."""
        where = self.source
        dimensions = fill(self.dimensions, self.today, where)
        names, labels = layout.field_names, [_label(dimension) for dimension in dimensions]
        by_name = _names_count(labels, names, where)
        if not by_name and len(dimensions) > len(names):
            label = labels[len(names)]
            fail(
                f"{where}, dimension {len(names) + 1}{f' ({label})' if label is not None else ''}",
                f"the filter has {len(dimensions)} dimensions, the layout only {len(names)} "
                f"({', '.join(names)}); remove the extra dimensions, or give the layout with --layout",
            )
        found = [Dimension(name) for name in names]
        for number, (dimension, label) in enumerate(zip(dimensions, labels, strict=True)):
            position = names.index(label) if by_name and label is not None else number
            place, of = f"{where}, dimension {number + 1}", layout.fields[position]
            read = parse_dimension(dimension, place, is_typed=bool(of.type))
            place += f" ({read.field_name})"
            found[position] = Dimension(read.field_name, _typed(read.test, of, place, self.today))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Schema:
    """A layout, and one `Dimension` for each of its field names.

    - `own`: the dimensions without ``--where``.
    """

    layout: Layout
    dimensions: tuple[Dimension, ...]
    own: tuple[Dimension, ...] = field(default=(), repr=False, compare=False)
    given: _Given = field(default=_Given(), repr=False, compare=False)

    @property
    def file(self) -> str | None:
        """The path of the JSON file of the layout, if it has one."""
        return self.given.layout_file

    @property
    def has_layout(self) -> bool:
        """True if a layout was given, rather than the packaged one."""
        return self.layout.spec is not None or self.file is not None

    @property
    def extensions(self) -> frozenset[str]:
        """The extensions of the files that are listed, in small letters and without the dot."""
        return self.given.extensions

    def with_extensions(self, extensions: Iterable[str]) -> Schema:
        """List files with these extensions, where the layout leaves them open."""
        return replace(self, given=replace(self.given, extensions=frozenset(extensions)))

    def without_dimensions(self) -> Schema:
        """Return the schema of files that are named, which have no dimensions."""
        return Schema(load_layout(FLAT), (), (), self.given)

    def as_filter(self) -> dict[str, Any]:
        """Return the filter as a dict for JSON, with every dimension of the layout.

        >>> load_schema(load_schema().as_filter()) == load_schema()
        True
        """
        dimensions = [
            {"field_name": name, "allowed_values": dimension.test.as_json()}
            for name, dimension in zip(self.layout.field_names, self.own, strict=True)
        ]
        return {"version": 1, "dimensions": dimensions}

    def discovered(self, names: Sequence[str] | None, example: str = "") -> Schema:
        """Return the schema of a `hive` layout with these names, which filters may use.

        - `names`: ``None`` if there are no directories ``name=value``; then nothing can be filtered.
        - `example`: a path with these names.
        Raises `InputError` if a filter has a name that is not one of them.
        """
        if names is None:
            return Schema(Layout.of_hive(()), (), (), self.given)
        return self.given.of(Layout.of_hive(names, example))

    def discovered_in(self, paths: Iterable[str]) -> Schema:
        """Discover the names of a `hive` layout in the first of some paths; else return this one.

        >>> schema = load_schema(layout="hive").discovered_in(["x.log", "dt=1/hour=2/x.log"])
        >>> schema.layout.field_names
        ('dt', 'hour')
        """
        if not self.layout.is_undiscovered:
            return self
        for path in paths:
            *directories, _ = path.split("/")
            if directories and all(part.find("=") > 0 for part in directories):
                return self.discovered([part.partition("=")[0] for part in directories], path)
        return self.discovered(None)


def is_layout_file(layout: str) -> bool:
    """Check whether the text of ``--layout`` is the path of a file.

    >>> is_layout_file("hive"), is_layout_file("{day}/{host}.log"), is_layout_file("mine.json")
    (False, False, True)
    """
    return layout not in (HIVE, FLAT) and "{" not in layout and "}" not in layout


def load_layout(layout: str | os.PathLike[str] | None = None) -> Layout:
    """Load a layout: a template, ``hive``, ``flat`` or a JSON file; by default the packaged one.

    Raises `InputError` that names the file or the template, and the mistake.

    >>> load_layout().field_names
    ('reason', 'appName', 'appUpdateChannel', 'appVersion', 'appBuildID', 'submission_date')
    >>> load_layout("flat").dims_of("any/depth.txt")
    ()
    """
    if isinstance(layout, str) and not is_layout_file(layout):
        if layout == HIVE:
            return Layout((), HIVE)
        if layout == FLAT:
            return Layout((level_of(Field("_", spans=True)),), FLAT)
        try:
            return Layout(parse_template(layout), layout)
        except TemplateError as error:
            raise InputError(f"The layout {layout!r} is not valid: {error}.") from None
    if isinstance(layout, str) and (
        os.path.isdir(layout) or not (os.path.exists(layout) or layout.endswith(".json"))
    ):
        raise InputError(
            f"The layout {layout!r} is neither hive, flat, a template with names in braces, nor an "
            "existing file. Write a template such as --layout '{day:date}/{host}.log'; for files at "
            "any depth, --layout flat."
        )
    return _load_file(layout)


def _load_file(path: str | os.PathLike[str] | None) -> Layout:
    if path is None:
        where = "The packaged schema"
        source: Any = json.loads(resources.files("daskmr").joinpath("schema.json").read_bytes())
    else:
        where, source = f"Schema {path_name(path)}", path
    names: list[str] = []
    for position, dimension in enumerate(read_dimensions(source, where, _LAYOUT_EXAMPLE), 1):
        names.append(field_name(dimension, f"{where}, dimension {position}"))
        refuse_unknown(dimension, f"{where}, dimension {position} ({names[-1]})")
    if len(names) < 2:
        fail(
            where,
            f"a layout needs at least two dimensions, but has {len(names)}; the last two are "
            f"the first two parts of the file names, as in {_LAYOUT_EXAMPLE}. For any other layout, "
            "give a template with --layout, such as '{day}/{host}.log'",
        )
    return Layout.of_names(names)


def recorded_layout(spec: str | None, names: Sequence[str]) -> Layout:
    """Return the layout of an earlier run, from its `Layout.spec` and the names of its dimensions."""
    if spec is None:
        return Layout.of_names(names)
    return Layout.of_hive(names) if spec == HIVE else load_layout(spec)


def load_schema(
    filter_source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    layout: str | os.PathLike[str] | None = None,
    where: Any = (),
    today: datetime.date | None = None,
) -> Schema:
    """Load a layout and the filters of its dimensions.

    - `filter_source`: a JSON file, its content, or ``None`` to allow everything. If all its names
      are those of the layout, names count; if none is, the order.
    - `layout`: see `load_layout`.
    - `where`: texts ``NAME=SPEC``, or a mapping of names to specs, which narrow the filter.
    - `today`: the date that relative dates refer to; by default today, in UTC.
    Raises `InputError` that names the file, the dimension and the mistake.

    >>> june = {"min": 20130601, "max": 20130630}
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": june}]})
    >>> [dimension.describe() for dimension in schema.dimensions[:2]]
    ["'20130601' to '20130630', compared as text", 'anything']
    >>> load_schema(None, "{hour:int}.log", ("hour=7..",)).dimensions[0].describe()
    "'7' and above, compared as numbers"
    """
    loaded = load_layout(layout)
    source, dimensions = "The filter", ()
    if filter_source is not None:
        if not isinstance(filter_source, Mapping):
            source = f"Filter {path_name(filter_source)}"
        dimensions = tuple(read_dimensions(filter_source, source, _FILTER_EXAMPLE))
    file = layout if isinstance(layout, str) and is_layout_file(layout) else None
    given = _Given(dimensions, source, where_texts(where), today or parse_date(None), file)
    return Schema(loaded, (), (), given) if loaded.is_undiscovered else given.of(loaded)


def _typed(test: ValueTest, field: Field, where: str, today: datetime.date) -> ValueTest:
    try:
        return typed(test, field, today)
    except ValueError as error:
        fail(where, str(error))


def _label(dimension: Any) -> str | None:
    label = dimension.get("field_name") if isinstance(dimension, Mapping) else None
    return label if isinstance(label, str) else None


def _names_count(labels: Sequence[str | None], names: Sequence[str], where: str) -> bool:
    """Check whether the names in a filter are those of the layout, or only its order counts."""
    known = [label for label in labels if label in names]
    if not known or len(set(names)) < len(names):
        return False
    others = [label for label in labels if label is not None and label not in names]
    if others:
        fail(
            where,
            f"{', '.join(map(repr, others))} {'is not a name' if len(others) == 1 else 'are not names'} "
            f"of the layout ({', '.join(names)}), but {', '.join(map(repr, known))} "
            f"{'is' if len(known) == 1 else 'are'}; use only its names, in any order, or none of them, "
            "so that the order counts",
        )
    for label in known:
        if known.count(label) > 1:
            fail(where, f"{label!r} occurs {known.count(label)} times; remove all but one")
    return True
