"""List the files that a job reads: walk the data dir level by level, pruned by the filter."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import NoReturn

from daskmr.data.filters import Dimension
from daskmr.data.layout import Layout, Schema
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.data.sources.own_files import why_own
from daskmr.errors import InputError
from daskmr.normal_forms import hint

__all__ = ["InputFile", "Listing", "Seen", "Selection", "list_files", "unite"]

_SKIPPED_NAMED = 1000
_VALUES_NAMED = 20


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file or an object, as it was listed."""

    path: str  # relative to the data dir, separated by "/"; invalid UTF-8 is surrogate-escaped
    size: int  # in bytes, as stored
    dims: tuple[str, ...]  # the values of its dimensions, in layout order
    etag: str | None = None  # of an object in a store, without quotes
    mtime: float | None = None  # of an object in a store, in Unix seconds
    mtime_ns: int | None = None  # of a local file, to detect changes
    inode: int | None = None  # of a local file, to detect changes

    @property
    def is_remote(self) -> bool:
        return self.etag is not None or self.mtime is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """The values of one dimension that a walk found, below values allowed for earlier dimensions.

    `candidates` counts the directories or files at this level, and `allowed` those that the filter
    allows. `distinct` counts the existing values, and `values` holds the first and last few, or all.
    `variants` are excluded values that differ from an allowed one only in their normal form.
    """

    dimension: Dimension
    candidates: int
    allowed: int
    values: tuple[str, ...]
    distinct: int
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """The input of a job."""

    root: str  # a path, or the URL of a bucket; the paths are relative to it
    files: tuple[
        InputFile, ...
    ]  # all files that the filter allows, sorted by the bytes of the path
    # The first thousand paths outside of the layout, in the same order. Directories end in "/";
    # paths below them are not included.
    skipped: tuple[str, ...]
    skipped_count: int  # number of all paths outside of the layout
    seen: tuple[Seen, ...]  # one for each dimension, to explain an empty listing
    layout: Layout
    repeated: int = 0  # number of entries that a store listed more than once
    nothing: str = ""  # the explanation of an empty listing, if it is another one

    def explain_nothing(self) -> str:
        """Explain an empty listing: name the dimension that excluded the last candidates."""
        if self.nothing:
            return self.nothing
        # A dimension only sees values below what all earlier ones allow, so without the deepest
        # dimension that excluded something, there might have been a file.
        for position in reversed(range(len(self.seen))):
            seen = self.seen[position]
            if seen.allowed < seen.candidates:
                return self._explain_excluded(position, seen)
        skipped = ", ".join(map(repr, self.skipped[:3])) + ", ..." * (self.skipped_count > 3)
        if skipped:
            skipped = f" Not in the layout: {self.skipped_count} ({skipped})."
        return (
            f"The {self._what} {self.root} holds no file in the layout {self.layout.template} "
            f"with a known extension ({', '.join(sorted(EXTENSIONS))}).{skipped} "
            f"Check the {self._what} and the schema of the layout."
        )

    def explain_variants(self) -> tuple[str, ...]:
        """Describe the values that are excluded only because of their Unicode normal form."""
        return tuple(
            f"dimension {position} ({seen.dimension.field_name}) excludes {_describe_variants(seen)}"
            for position, seen in enumerate(self.seen, 1)
            if seen.variants
        )

    @property
    def _what(self) -> str:
        return "bucket" if "://" in self.root else "data directory"  # no "//" in a local root

    def _explain_excluded(self, position: int, seen: Seen) -> str:
        label, name = seen.dimension.field_name, self.layout.field_names[position]
        label = label if label == name else f"{label}, in the layout {name}"
        barren = ", where no file in the layout was found" if seen.allowed else ""
        return (
            f"No file below {self.root} matches the filter: dimension {position + 1} ({label}) "
            f"allows {seen.dimension.describe()}{barren}; {_describe_values(seen)}. "
            f"Correct the filter, or the {self._what}."
            + (f" It excludes {_describe_variants(seen)}." if seen.variants else "")
        )


def _describe_variants(seen: Seen) -> str:
    found = seen.variants[0]
    allowed = str(seen.dimension.variant_of(found))
    more = f" and {len(seen.variants) - 1:,} more" if len(seen.variants) > 1 else ""
    return (
        f"{found!r}{more}, which differs from {allowed!r} only in its Unicode normal form "
        f"({found!a} exists, the filter allows {allowed!a}); to read both, allow "
        f"{json.dumps([found, allowed])}"
    )


def _describe_values(seen: Seen) -> str:
    shown = [repr(value) for value in seen.values]
    if len(seen.values) < seen.distinct:
        shown.insert((len(shown) + 1) // 2, "...")
    count = f" ({seen.distinct} values)" if len(seen.values) < seen.distinct else ""
    return f"existing there: {', '.join(shown)}{count}"


def list_files(
    data_dir: str | os.PathLike[str], schema: Schema, own_folder: str | None = None
) -> Listing:
    """List the files below a local directory that a filter allows.

    Directories that the filter excludes are never opened. Symbolic links are followed, but no
    file is listed twice. What daskmr wrote itself is skipped, as is `own_folder`, the work dir.

    Raises InputError if the data directory, or a path below it that the filter allows, cannot be
    read.

    >>> from daskmr.data.layout import load_schema
    >>> list_files("/no/such/place", load_schema())
    Traceback (most recent call last):
        ...
    daskmr.errors.InputError: The data directory /no/such/place does not exist; check the path.
    """
    root = _check_root(data_dir)
    selection = Selection(schema)
    if own_folder is not None:
        selection.own_folder = os.path.realpath(own_folder)
    real = os.path.realpath(root)
    level = [_Directory("", (), (real,), False)]
    for position in range(schema.layout.directories):
        level = [child for above in level for child in _descend(root, above, position, selection)]
    links: dict[str, str] = {}
    for directory in level:
        _collect(root, directory, selection, links)
    if links or len({directory.real for directory in level}) < len(level):
        selection.files = _drop_duplicates(selection.files, links, level)
    return selection.listing(root)


def unite(local: Listing, remote: Listing) -> Listing:
    """Merge the listings of a data dir and a store; a path in both is read from the data dir.

    If both are empty, the store's listing provides the explanation.
    """
    known = {file.path for file in local.files}
    skipped = sorted({*local.skipped, *remote.skipped}, key=os.fsencode)
    both = len(local.skipped) + len(remote.skipped) - len(skipped)
    return replace(
        remote,
        files=tuple(_in_order([*local.files, *(f for f in remote.files if f.path not in known)])),
        skipped=tuple(skipped[:_SKIPPED_NAMED]),
        skipped_count=local.skipped_count + remote.skipped_count - both,
        seen=tuple(
            replace(there, variants=tuple(sorted({*here.variants, *there.variants})))
            for here, there in zip(local.seen, remote.seen, strict=True)
        ),
    )


@dataclass(slots=True)
class _DimensionFilter:
    """Tests the values of one dimension, each only once, and interns them."""

    dimension: Dimension
    verdicts: dict[str, str | None] = field(default_factory=dict)
    candidates: int = 0
    allowed: int = 0

    def pick(self, value: str) -> str | None:
        """Return the interned `value`, or ``None`` if it is excluded."""
        self.candidates += 1
        try:
            kept = self.verdicts[value]
        except KeyError:
            kept = self.verdicts[value] = value if self.dimension.allows(value) else None
        self.allowed += kept is not None
        return kept

    def seen(self) -> Seen:
        values = sorted(self.verdicts)
        half = _VALUES_NAMED // 2
        named = values if len(values) <= _VALUES_NAMED else [*values[:half], *values[-half:]]
        counts = self.candidates, self.allowed
        return Seen(self.dimension, *counts, tuple(named), len(values), self._variants())

    def _variants(self) -> tuple[str, ...]:
        known = self.dimension.known_values or ()
        if all(map(str.isascii, known)) and all(map(str.isascii, self.verdicts)):
            return ()
        excluded = sorted(value for value, kept in self.verdicts.items() if kept is None)
        return tuple(v for v in excluded if self.dimension.variant_of(v) is not None)


class Selection:
    """The files that a walk has selected so far, in any order, and the paths that it has skipped.

    >>> from daskmr.data.layout import load_schema
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]})
    >>> selection = Selection(schema)
    >>> selection.pick(0, "saved_session") is None
    True
    >>> selection.pick_file(("idle", "Firefox", "beta", "24.0"), "1.2.gz", "idle/.../1.2.gz")
    ('idle', 'Firefox', 'beta', '24.0', '1', '2')
    """

    def __init__(self, schema: Schema) -> None:
        self.files: list[InputFile] = []
        self.skipped_count = 0
        self.own_folder = ""  # the real path of the work dir, which is never opened
        self._schema = schema
        self._filters = tuple(_DimensionFilter(dimension) for dimension in schema.dimensions)
        self._skipped: list[str] = []

    def pick(self, position: int, value: str) -> str | None:
        """Return the interned `value` of a dimension if the filter allows it, else ``None``."""
        return self._filters[position].pick(value)

    def pick_file(self, dims: tuple[str, ...], name: str, path: str) -> tuple[str, ...] | None:
        """Return all dimensions of a file in a directory of `dims`; ``None`` if it isn't selected.

        A file that is not in the layout is recorded as skipped, by its `path`.
        """
        if why := why_own(name):
            self.skip(f"{path} ({why})")
            return None
        parts = self._schema.layout.parse_name(name)  # None for a hidden file
        if parts is None or name.rpartition(".")[2].lower() not in self._schema.extensions:
            self.skip(path)
            return None
        first = self._filters[-2].pick(parts[0])
        if first is None:
            return None
        second = self._filters[-1].pick(parts[1])
        return None if second is None else (*dims, first, second)

    def skip(self, path: str) -> None:
        """Record a path that is not in the layout; the path of a directory ends in "/"."""
        self.skipped_count += 1
        self._skipped.append(path)
        if len(self._skipped) >= 10 * _SKIPPED_NAMED:
            self._skipped = self._first_skipped()

    def _first_skipped(self) -> list[str]:
        return sorted(self._skipped, key=os.fsencode)[:_SKIPPED_NAMED]

    def listing(self, root: str) -> Listing:
        return Listing(
            root=root,
            files=tuple(_in_order(self.files)),
            skipped=tuple(self._first_skipped()),
            skipped_count=self.skipped_count,
            seen=tuple(each.seen() for each in self._filters),
            layout=self._schema.layout,
        )


def _in_order(files: list[InputFile]) -> list[InputFile]:
    """Sort by the bytes of the paths; ASCII paths are compared as text, without encoding them."""
    if all(file.path.isascii() for file in files):
        return sorted(files, key=attrgetter("path"))
    return sorted(files, key=lambda file: os.fsencode(file.path))


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory to open: its path below the root, with "/" at the end, or ""."""

    path: str
    dims: tuple[str, ...]
    reals: tuple[str, ...]  # real paths from the root down to it
    linked: bool  # reached through a link

    @property
    def real(self) -> str:
        return self.reals[-1]


def _check_root(data_dir: str | os.PathLike[str]) -> str:
    given = os.fsdecode(data_dir)
    if not given:
        raise InputError("The path of the data directory is empty; give a directory.")
    root = os.path.abspath(given)
    try:
        if stat.S_ISDIR(os.stat(root).st_mode):
            return root
    except FileNotFoundError:
        advice = hint(root)
        if "://" in given:
            advice = f" For data in a store, use --bucket {given}"
        raise InputError(
            f"The data directory {root} does not exist; check the path.{advice}"
        ) from None
    except (OSError, ValueError) as error:
        _fail("data directory", root, error)
    raise InputError(f"The data directory {root} is not a directory; give its parent directory.")


def _descend(
    root: str, directory: _Directory, position: int, selection: Selection
) -> Iterator[_Directory]:
    for entry in _entries(root, directory, selection):
        path = directory.path + entry.name
        if _format_of(entry, stat.S_IFDIR) != stat.S_IFDIR:
            selection.skip(path)
        elif entry.name.startswith("."):
            selection.skip(path + "/")
        elif why := why_own(entry.name):
            selection.skip(f"{path}/ ({why})")
        elif (value := selection.pick(position, entry.name)) is not None:
            real, linked = _real_path(directory, entry)
            if real == selection.own_folder:
                selection.skip(f"{path}/ (the work dir)")
            elif linked and real in directory.reals:  # a link to a parent directory
                selection.skip(path + "/")
            else:
                dims, reals = (*directory.dims, value), (*directory.reals, real)
                yield _Directory(path + "/", dims, reals, linked)


def _collect(root: str, directory: _Directory, selection: Selection, links: dict[str, str]) -> None:
    """Select the files in `directory`, and add the real paths of symbolic links to `links`."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for entry in _entries(root, directory, selection):
        path = directory.path + entry.name
        form = _format_of(entry, stat.S_IFREG)
        if form != stat.S_IFREG:
            selection.skip(path + "/" if form == stat.S_IFDIR else path)
            continue
        dims = selection.pick_file(directory.dims, entry.name, path)
        if dims is None:
            continue
        try:
            found = entry.stat()
        except OSError as error:
            _fail("file", entry.path, error)
        dims = known.setdefault(dims, dims)
        selection.files.append(
            InputFile(path, found.st_size, dims, None, None, found.st_mtime_ns, found.st_ino)
        )
        if entry.is_symlink():
            links[path] = _real_path(directory, entry)[0]


def _drop_duplicates(
    files: list[InputFile], links: dict[str, str], level: list[_Directory]
) -> list[InputFile]:
    """Keep one path of each file: the one without links if any, else the first in byte order."""
    directories = {directory.path: directory for directory in level}
    ranked: list[tuple[bool, bytes, str, InputFile]] = []
    for file in files:
        start = file.path.rfind("/") + 1
        directory = directories[file.path[:start]]
        real = links.get(file.path) or os.path.join(directory.real, file.path[start:])
        linked = directory.linked or file.path in links
        ranked.append((linked, os.fsencode(file.path), real, file))
    chosen: dict[str, InputFile] = {}
    for _, _, real, file in sorted(ranked, key=itemgetter(0, 1)):
        chosen.setdefault(real, file)
    return list(chosen.values())


def _entries(root: str, directory: _Directory, selection: Selection) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of `directory`; record it as skipped if it is empty, except for the root."""
    path = os.path.join(root, directory.path)
    empty = True
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                empty = False
                yield entry
    except OSError as error:
        _fail("directory" if directory.path else "data directory", path, error)
    if empty and directory.path:
        selection.skip(directory.path)


def _format_of(entry: os.DirEntry[str], expected: int) -> int:
    """Return the type: directory, regular file, or 0 for anything else (a dangling link, a device).

    A link whose target cannot be examined counts as the `expected` type, so that it is an error
    only if the filter allows it.
    """
    try:
        if entry.is_dir():
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else 0
    except OSError as error:
        return 0 if error.errno in (errno.ELOOP, errno.ENOTDIR) else expected


def _real_path(directory: _Directory, entry: os.DirEntry[str]) -> tuple[str, bool]:
    """Return the real path of `entry`, and whether it contained a link."""
    if entry.is_symlink():
        try:
            return os.path.realpath(entry.path), True
        except OSError as error:  # a link that cannot be resolved, as in /proc
            _fail("link", entry.path, error)
    return os.path.join(directory.real, entry.name), directory.linked


def _fail(what: str, path: str, error: OSError | ValueError) -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    remedy = "give another" if what == "data directory" else "exclude it with the filter"
    raise InputError(
        f"The {what} {path} cannot be read: {reason}; correct it, or {remedy}."
    ) from None
