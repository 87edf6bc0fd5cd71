"""The layout: the dimensions that directories and file names encode."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from daskmr.data.filters import Dimension, parse_dimension
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.data.strict_json import fail, field_name, path_name, read_dimensions, refuse_unknown

__all__ = ["Layout", "Schema", "load_layout", "load_schema"]

_FILTER_EXAMPLE = '{"version": 1, "dimensions": [{"field_name": "reason", "allowed_values": "*"}]}'
_LAYOUT_EXAMPLE = (
    '{"version": 1, "dimensions": [{"field_name": "buildID"}, {"field_name": "submission_date"}]}'
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The dimensions of the data, outermost first.

    >>> layout = Layout(("reason", "buildID", "submission_date"))
    >>> layout.directories, layout.template
    (1, '<reason>/<buildID>.<submission_date>.<rest>')
    >>> layout.dims_of("idle/20131029.20131102.4f2e.log.gz")
    ('idle', '20131029', '20131102')
    >>> layout.dims_of("README.md") is None
    True
    """

    field_names: tuple[str, ...]

    @property
    def directories(self) -> int:
        """The number of directory levels: all dimensions except the two in the file name."""
        return len(self.field_names) - 2

    @property
    def template(self) -> str:
        """A path in this layout, for messages."""
        if not self.field_names:
            return "<any path>"
        *directories, first, second = (f"<{name}>" for name in self.field_names)
        return "/".join([*directories, f"{first}.{second}.<rest>"])

    def parse_name(self, file_name: str) -> tuple[str, str] | None:
        """Return the two dimensions at the start of a file name; ``None`` if it has another form."""
        parts = file_name.split(".", 2)
        if len(parts) < 3 or not parts[0] or not parts[1]:
            return None
        return parts[0], parts[1]

    def dims_of(self, path: str) -> tuple[str, ...] | None:
        """Return the dimensions of a relative path; ``None`` if it is not in the layout."""
        if not self.field_names:
            return ()
        *directories, name = path.split("/")
        parts = self.parse_name(name)
        if parts is None or len(directories) != self.directories:
            return None
        return (*directories, *parts)


@dataclass(frozen=True, slots=True)
class Schema:
    """A layout, and one `Dimension` for each of its field names.

    `extensions` are those of the files that are listed, without the dot.
    """

    layout: Layout
    dimensions: tuple[Dimension, ...]
    extensions: frozenset[str] = EXTENSIONS

    def with_extensions(self, extensions: Iterable[str]) -> Schema:
        """Also list files with these extensions."""
        return replace(self, extensions=self.extensions | {each.lower() for each in extensions})

    def as_filter(self) -> dict[str, Any]:
        """Return the filter as a dict for JSON, with every dimension of the layout.

        >>> load_schema(load_schema().as_filter()) == load_schema()
        True
        """
        dimensions = [
            {"field_name": dimension.field_name, "allowed_values": dimension.test.as_json()}
            for dimension in self.dimensions
        ]
        return {"version": 1, "dimensions": dimensions}


def load_layout(path: str | os.PathLike[str] | None = None) -> Layout:
    """Read the layout from a JSON file, by default the packaged one.

    Raises `InputError` that names the file, the dimension and the mistake.

    >>> load_layout().field_names
    ('reason', 'appName', 'appUpdateChannel', 'appVersion', 'appBuildID', 'submission_date')
    """
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
            f"the first two parts of the file names, as in {_LAYOUT_EXAMPLE}",
        )
    return Layout(tuple(names))


def load_schema(
    filter_source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    layout_path: str | os.PathLike[str] | None = None,
) -> Schema:
    """Read a filter and its layout.

    - `filter_source`: a JSON file, its content, or ``None`` to allow everything.
    - `layout_path`: see `load_layout`.
    Raises `InputError` that names the file, the dimension and the mistake.

    >>> june = {"min": 20130601, "max": 20130630}
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": june}]})
    >>> [dimension.describe() for dimension in schema.dimensions[:2]]
    ["'20130601' to '20130630', compared as text", 'anything']
    """
    layout = load_layout(layout_path)
    given = () if filter_source is None else _load_filter(filter_source, layout.field_names)
    rest = layout.field_names[len(given) :]
    return Schema(layout, (*given, *map(Dimension, rest)))


def _load_filter(source: Any, names: tuple[str, ...]) -> tuple[Dimension, ...]:
    where = "The filter" if isinstance(source, Mapping) else f"Filter {path_name(source)}"
    dimensions = read_dimensions(source, where, _FILTER_EXAMPLE)
    if len(dimensions) > len(names):
        extra = dimensions[len(names)]
        label = extra.get("field_name") if isinstance(extra, Mapping) else None
        fail(
            f"{where}, dimension {len(names) + 1}{f' ({label})' if isinstance(label, str) else ''}",
            f"the filter has {len(dimensions)} dimensions, the layout only {len(names)} "
            f"({', '.join(names)}); remove the extra dimensions, or give the schema of the layout",
        )
    return tuple(
        parse_dimension(dimension, f"{where}, dimension {position}")
        for position, dimension in enumerate(dimensions, 1)
    )
