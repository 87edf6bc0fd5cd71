"""List the files that a job reads: walk the data dir level by level, pruned by the filter."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from operator import attrgetter, itemgetter
from time import monotonic
from typing import Any, NoReturn

from daskmr.data.filters import DimensionFilter, Seen
from daskmr.data.input_file import InputFile
from daskmr.data.layout import Layout, Schema
from daskmr.data.sources.own_files import (
    META,
    OWN_SUFFIXES,
    is_working,
    output_of,
    outputs_from,
    why_own,
)
from daskmr.errors import InputError, NothingMatchedError
from daskmr.normal_forms import hint

__all__ = ["InputFile", "Listing", "Selection", "check_root", "list_files", "refuse_names", "unite"]

_SKIPPED_NAMED = 1000
_PROGRESS_SECONDS = 0.25


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
    schema: Schema  # the layout, with its names if they were discovered, and the filter
    repeated: int = 0  # number of entries that a store listed more than once
    nothing: str = ""  # the explanation of an empty listing, if it is another one
    reasons: tuple[str, ...] = ()  # the reason for each of `skipped`

    @property
    def layout(self) -> Layout:
        return self.schema.layout

    def explain_nothing(self) -> str:
        """Explain an empty listing, and say what to do."""
        from daskmr.data.explanations import explain_nothing

        return explain_nothing(self)

    def refuse_nothing(self) -> NoReturn:
        """Raise the error of an empty listing.

        `NothingMatchedError` if the filter, or the names of the files, excluded all; `InputError` if
        nothing fits the layout.
        """
        is_filtered = any(seen.allowed < seen.candidates for seen in self.seen)
        error = NothingMatchedError if is_filtered or self.nothing else InputError
        raise error(self.explain_nothing())

    def explain_variants(self) -> tuple[str, ...]:
        """Describe values that the filter probably means, but which it excludes."""
        from daskmr.data.explanations import explain_variants

        return explain_variants(self) if any(s.variants or s.globs for s in self.seen) else ()


def list_files(
    data_dir: str | os.PathLike[str],
    schema: Schema,
    own_folder: str | None = None,
    on_progress: Callable[[int, int], object] | None = None,
) -> Listing:
    """List the files below a local directory that a filter allows.

    Directories that the filter excludes are never opened. Symbolic links are followed, but no
    file is listed twice. What daskmr wrote itself is skipped, outputs only if their input was in the
    same directory. `own_folder`, the work dir, is ignored.
    `on_progress` is called a few times a second with the numbers of directories and files so far.

    Raises InputError if the data directory, or a path below it that the filter allows, cannot be
    read.

    >>> from daskmr.data.layout import load_schema
    >>> list_files("/no/such/place", load_schema())
    Traceback (most recent call last):
        ...
    daskmr.errors.InputError: The data directory /no/such/place does not exist; check the path.
    """
    root = check_root(data_dir)
    if schema.layout.is_undiscovered:
        schema = _discover(root, schema)
    selection = Selection(schema)
    if own_folder is not None:
        selection.own_folder = os.path.realpath(own_folder)
    real = os.path.realpath(root)
    level = [_Directory("", (), (real,), False)]
    report = _Report(on_progress, selection)
    for position in range(schema.layout.directories):
        above, level = level, []
        for directory in above:
            level += _descend(root, directory, position, selection)
            report.add()
    links: dict[str, str] = {}
    for directory in level:  # grows while the files are at any depth
        report.add()
        level += _collect(root, directory, selection, links)
    if links or len({directory.real for directory in level}) < len(level):
        selection.files = _drop_duplicates(selection.files, links, level)
    selection.skip_outputs(outputs_from(root, selection.metas))
    return selection.listing(root)


@dataclass(slots=True)
class _Report:
    """Reports the progress of a walk."""

    on_progress: Callable[[int, int], object] | None
    selection: Selection
    directories: int = 0
    time: float = field(default_factory=monotonic)

    def add(self) -> None:
        """Count a directory."""
        self.directories += 1
        if self.on_progress is not None and monotonic() - self.time > _PROGRESS_SECONDS:
            self.time = monotonic()
            self.on_progress(self.directories, len(self.selection.files))


def _discover(root: str, schema: Schema) -> Schema:
    """Discover the names of a `hive` layout in the first directories that contain a file."""

    def names_below(path: str) -> tuple[list[str], str] | None:
        with os.scandir(os.path.join(root, path)) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries if entry.name[0] not in "._"]
        below = sorted(name for name, is_dir in found if is_dir and name.find("=") > 0)
        for name in below:
            deeper = names_below(f"{path}{name}/")
            if deeper is not None:
                return [name.partition("=")[0], *deeper[0]], deeper[1]
        files = sorted(name for name, is_dir in found if not is_dir)
        return ([], path + files[0]) if files and not below else None

    try:
        found = names_below("")
    except OSError as error:
        _fail("directory", os.fspath(error.filename or root), error)
    return schema.discovered(*(found if found is not None and found[0] else (None,)))


def unite(local: Listing, remote: Listing) -> Listing:
    """Merge the listings of a data dir and a store; a path in both is read from the data dir.

    If both are empty, the store's listing provides the explanation.
    Raises InputError if their directories have different names, in a `hive` layout.
    """
    if local.layout != remote.layout:  # of a hive layout; one of them may be empty
        if not local.layout.fields:
            return _with_skipped(remote, local)
        if not remote.layout.fields:
            return _with_skipped(local, remote)
        refuse_names(
            os.path.join(local.root, os.path.dirname(local.layout.example)),
            f"{remote.root}/{os.path.dirname(remote.layout.example)}",
        )
    known = {file.path for file in local.files}
    return replace(
        _with_skipped(remote, local),
        files=tuple(_in_order([*local.files, *(f for f in remote.files if f.path not in known)])),
        seen=tuple(
            replace(there, variants=tuple(sorted({*here.variants, *there.variants})))
            for here, there in zip(local.seen, remote.seen, strict=True)
        ),
    )


def _with_skipped(listing: Listing, other: Listing) -> Listing:
    """Add the paths that another listing has skipped."""
    reasons = dict(zip(other.skipped, other.reasons, strict=True))
    reasons.update(zip(listing.skipped, listing.reasons, strict=True))
    skipped = sorted(reasons, key=os.fsencode)
    both = len(listing.skipped) + len(other.skipped) - len(skipped)
    return replace(
        listing,
        skipped=tuple(skipped[:_SKIPPED_NAMED]),
        reasons=tuple(reasons[path] for path in skipped[:_SKIPPED_NAMED]),
        skipped_count=listing.skipped_count + other.skipped_count - both,
    )


def refuse_names(one: str, other: str) -> NoReturn:
    """Raise InputError for two places that are not partitions of one data set."""
    raise InputError(
        f"The directories {one} and {other} do not have the same names in the same order, so they are "
        "not partitions of one data set. Read them one at a time, or all files without dimensions: "
        "--layout flat"
    )


@dataclass(slots=True)
class _Picked:
    """The files in a directory whose names have the same values: their dimensions, if selected."""

    values: tuple[str, ...]
    dims: tuple[str, ...] | None = None
    count: int = 0


class Selection:
    """The files that a walk has selected so far, in any order, and the paths that it has skipped.

    >>> from daskmr.data.layout import load_schema
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]})
    >>> selection = Selection(schema)
    >>> selection.pick(0, "saved_session") is None
    True
    >>> selection.pick_directory(0, "idle", "idle")
    ('idle',)
    >>> selection.pick_file(("idle", "Firefox", "beta", "24.0"), "1.2.gz", "idle/.../1.2.gz")
    ('idle', 'Firefox', 'beta', '24.0', '1', '2')
    """

    def __init__(self, schema: Schema) -> None:
        self.files: list[InputFile] = []
        self.skipped_count = 0
        self.own_folder = ""  # the real path of the work dir, which is never opened
        self.metas: list[str] = []  # files that may describe an output
        self.schema = schema
        self.levels = schema.layout.levels
        self._filters = tuple(DimensionFilter(dimension) for dimension in schema.dimensions)
        ends = [*accumulate(len(level.dimensions) for level in self.levels)]
        self._filters_at = [self._filters[a:b] for a, b in pairwise([0, *ends])]
        self._last = self.levels[-1]
        self._fullmatch, self._spans = self._last.fullmatch, self._last.spans
        self._is_open, self._extensions = self._last.is_open, schema.extensions
        self._above: tuple[str, ...] | None = None  # the dimensions of the current directory
        self._known: dict[Any, _Picked] = {}  # by the groups of a file's name there
        self._skipped: list[tuple[str, str]] = []

    def pick(self, position: int, value: str) -> str | None:
        """Return the interned `value` of a dimension if the filter allows it, else ``None``."""
        return self._filters[position].pick(value)

    def pick_directory(self, position: int, name: str, path: str) -> tuple[str, ...] | None:
        """Return the dimensions in the name of a directory at a level; ``None`` if it isn't selected.

        One that is not in the layout is recorded as skipped, by its `path`.
        """
        level = self.levels[position]
        values = level.match(name)
        if values is None or level.mistake(values) or why_own(name):
            self.skip_directory(path, name, position)
            return None
        return self._picked((), position, values)

    def pick_file(self, dims: tuple[str, ...], name: str, path: str) -> tuple[str, ...] | None:
        """Return all dimensions of a file in a directory of `dims`; ``None`` if it isn't selected.

        A file that is not in the layout is recorded as skipped, by its `path`. If the last level
        spans several, `name` is the path below the first of them.
        """
        last = name.rpartition("/")[2] if self._spans else name
        if (last[:1] == "_" or last.endswith(OWN_SUFFIXES)) and (why := why_own(last)):
            if last.endswith(META):
                self.metas.append(path)
            self.skip(path, why)
            return None
        if dims is not self._above:
            self._begin(dims)
        match = self._fullmatch(name)
        groups = match and match.groups()
        known = self._known.get(groups)
        if known is None:
            values = self._last.match(name)
            if values is None or self._last.mistake(values):
                self.skip(path, self._last.why_not(name))
                return None
            known = _Picked(values)
        if self._is_open and name.rpartition(".")[2].lower() not in self._extensions:
            self.skip(path, _extension_reason(name))
            return None
        if not known.count:
            known.dims = self._picked(dims, -1, known.values)
            self._known[groups] = known
        known.count += 1
        return known.dims

    def _begin(self, dims: tuple[str, ...] | None) -> None:
        """Begin a directory, and count the files of the one before."""
        for known in self._known.values():
            for each, value in zip(self._filters_at[-1], known.values, strict=True):
                if not each.count(value, known.count - 1):
                    break
        self._above, self._known = dims, {}

    def _picked(
        self, dims: tuple[str, ...], position: int, values: tuple[str, ...]
    ) -> tuple[str, ...] | None:
        """Return `dims` and the interned `values` of a level if the filter allows all of them."""
        for each, value in zip(self._filters_at[position], values, strict=True):
            kept = each.pick(value)
            if kept is None:
                return None
            dims += (kept,)
        return dims

    def skip_directory(self, path: str, name: str, position: int) -> None:
        """Record a directory that is not in the layout, or was written by daskmr.

        Raises InputError if it is a partition with another name, in a `hive` layout.
        """
        layout = self.schema.layout
        if why := why_own(name):
            self.skip(path + "/", why)
            return
        level, is_last = self.levels[position], position == len(self.levels) - 1
        is_hive = layout.spec == "hive" and layout.fields and name[:1] != "." and name.find("=") > 0
        if is_hive and (is_last or not name.startswith(level.start)):
            refuse_names(os.path.dirname(layout.example) or layout.template, path)
        reason = layout.too_deep() if is_last and not level.hides(name) else level.why_not(name)
        self.skip(path + "/", reason)

    def enters(self, name: str, below: str) -> bool:
        """Check whether the last level spans a directory, by its name and its path `below` that level."""
        last = self._last
        fits = last.spans and not last.hides(below) and below.startswith(last.start)
        return fits and not why_own(name)

    def skip_file(self, path: str, position: int) -> None:
        """Record a file at a level of directories."""
        self.skip(path, self.schema.layout.too_short(position))

    def skip_outputs(self, outputs: set[str]) -> None:
        """Remove the files that are, or are in, an output of an earlier run."""
        if not outputs:
            return
        own = {file.path: output_of(file.path, outputs) for file in self.files}
        self.files = [file for file in self.files if not own[file.path]]
        for output in {*own.values()} - {""}:
            self.skip(output, "daskmr wrote it, from the same input")

    def skip(self, path: str, reason: str) -> None:
        """Record a path that is not in the layout; the path of a directory ends in "/".

        What daskmr only works with is ignored, and so are marks such as ``_SUCCESS``.
        """
        name = path.rpartition("/")[2]
        is_mark = name[:1] == "_" and "." not in name
        if is_mark or is_working(name or path.rstrip("/").rpartition("/")[2]):
            return
        self.skipped_count += 1
        self._skipped.append((path, reason))
        if len(self._skipped) >= 10 * _SKIPPED_NAMED:
            self._skipped = self._first_skipped()

    def _first_skipped(self) -> list[tuple[str, str]]:
        return sorted(self._skipped, key=lambda one: os.fsencode(one[0]))[:_SKIPPED_NAMED]

    def listing(self, root: str) -> Listing:
        self._begin(None)
        skipped = self._first_skipped()
        return Listing(
            root=root,
            files=tuple(_in_order(self.files)),
            skipped=tuple(path for path, _ in skipped),
            reasons=tuple(reason for _, reason in skipped),
            skipped_count=self.skipped_count,
            seen=tuple(each.seen() for each in self._filters),
            schema=self.schema,
        )


def _extension_reason(name: str) -> str:
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return f"its extension {extension!r} is not known" if dot else "it has no extension"


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
    below: str = ""  # path below the directory of the last level, if that spans several

    @property
    def real(self) -> str:
        return self.reals[-1]


def check_root(data_dir: str | os.PathLike[str]) -> str:
    """Return the absolute path of a data dir; raise InputError if it is no directory."""
    given = os.fsdecode(data_dir)
    if not given:
        raise InputError("The path of the data directory is empty; give a directory.")
    root = os.path.abspath(given)
    try:
        if stat.S_ISDIR(os.stat(root).st_mode):
            return root
    except FileNotFoundError:
        advice = hint(given)
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
            selection.skip_file(path, position)
        elif (values := selection.pick_directory(position, entry.name, path)) is not None:
            child = _enter(directory, entry, (*directory.dims, *values), selection)
            if child is not None:
                yield child


def _enter(
    directory: _Directory,
    entry: os.DirEntry[str],
    dims: tuple[str, ...],
    selection: Selection,
    below: str = "",
) -> _Directory | None:
    """Return a directory in another one, except for the work dir, and a link to one of its parents."""
    path = f"{directory.path}{entry.name}/"
    real, linked = _real_path(directory, entry)
    if real == selection.own_folder:
        return None
    if linked and real in directory.reals:
        selection.skip(path, "it is a link to a directory above it")
        return None
    return _Directory(path, dims, (*directory.reals, real), linked, below)


def _collect(
    root: str, directory: _Directory, selection: Selection, links: dict[str, str]
) -> list[_Directory]:
    """Select the files in `directory`, and add the real paths of symbolic links to `links`.

    Returns its directories if the last level spans several.
    """
    position = len(selection.levels) - 1
    deeper: list[_Directory] = []
    for entry in _entries(root, directory, selection):
        path, name = directory.path + entry.name, directory.below + entry.name
        is_plain = entry.is_file(follow_symlinks=False)
        form = stat.S_IFREG if is_plain else _format_of(entry, stat.S_IFREG)
        if form == stat.S_IFDIR:
            if selection.enters(entry.name, name):
                child = _enter(directory, entry, directory.dims, selection, f"{name}/")
                if child is not None:
                    deeper.append(child)
            else:
                selection.skip_directory(path, entry.name, position)
            continue
        if form != stat.S_IFREG:
            selection.skip(path, "it is not a regular file")
            continue
        dims = selection.pick_file(directory.dims, name, path)
        if dims is None:
            continue
        try:
            found = entry.stat()
        except OSError as error:
            _fail("file", entry.path, error)
        selection.files.append(
            InputFile(path, found.st_size, dims, None, None, found.st_mtime_ns, found.st_ino)
        )
        if not is_plain:
            links[path] = _real_path(directory, entry)[0]
    return deeper


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
        selection.skip(directory.path, "it is empty")


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
