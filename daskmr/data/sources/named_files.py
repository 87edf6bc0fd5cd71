"""List several folders, files, globs and lists of files as one input."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from daskmr.data.filters import Seen
from daskmr.data.layout import Layout, Schema, load_layout
from daskmr.data.listing import InputFile, Listing, Selection, list_files, refuse_names
from daskmr.data.sources.given import Sources, read_stdin, source_name
from daskmr.data.sources.globs import expand, is_glob, split_glob
from daskmr.data.sources.own_files import outputs_from, why_own
from daskmr.errors import InputError, NothingMatchedError
from daskmr.normal_forms import hint
from daskmr.text import counted, shell_word, some

__all__ = ["NO_DIMENSIONS", "dims_by_end", "list_sources"]

NO_DIMENSIONS = load_layout("flat")
"""The layout of files that are named, unless one is given."""


def list_sources(
    sources: Sources,
    schema: Schema,
    *,
    has_layout: bool,
    own_folder: str | None = None,
    allow_empty: bool = False,
    stdin: str | None = None,
) -> tuple[Listing, tuple[str, ...]]:
    """List the files of local sources, relative to their deepest common folder, and return notes.

    Folders are matched against the layout. So are files, by the end of their paths, and the matches
    of globs, relative to the part without wildcards, if `has_layout`; else they have no dimensions.
    A file that is reached more than once is listed once.

    - `own_folder`: the work dir, which is never input.
    - `allow_empty`: whether a glob may match nothing.
    - `stdin`: the file that holds the data from standard input.
    Raises `InputError` if something cannot be read, or a list names a file that does not exist;
    `NothingMatchedError` if a glob matches nothing.
    """
    reader = _Reader(schema if has_layout else None, own_folder, allow_empty)
    groups = [reader.read(value, schema, stdin) for value in sources.local]
    named = [group for group in groups if group.listing is None]
    if named and not has_layout and any(d.test.as_json() != "*" for d in schema.dimensions):
        raise InputError(
            f"The filter has dimensions, but files that are named one by one ({named[0].given}) have "
            "none. Give their layout with --layout, or the folder: -d "
            f"{shell_word(os.path.relpath(named[0].bases[0] if named[0].bases else '.'))}"
        )
    bases = [base for group in groups for base in group.bases]
    root = os.path.commonpath(bases) if bases else os.getcwd()
    if named and not has_layout and len(named) == len(groups):
        schema = schema.without_dimensions()
    elif schema.layout.is_undiscovered:
        schema = reader.schema = _discover(groups, schema)
    selection = Selection(schema)
    found: dict[str, tuple[tuple[bool, bool, bytes, tuple[str, ...]], InputFile]] = {}
    repeats: set[str] = set()
    for group in groups:
        for path, real, file in group.select(root, selection, reader):
            linked = path != real
            rank = (linked, not file.dims, os.fsencode(file.path), file.dims)
            if real in found:
                repeats.add(file.path)
            if real not in found or rank < found[real][0]:
                found[real] = rank, file
    selection.files = [file for _, file in found.values()]
    globbed = [_below(root, path) for group in groups if group.is_glob for path in group.paths]
    # An output of `context.write_to` is described beside the main one.
    outputs = {*globbed, *(os.path.splitext(path)[0] for path in globbed)}
    selection.skip_outputs(outputs_from(root, map("{}.meta.json".format, outputs)))
    folders = {os.path.dirname(path) for path in globbed}
    folders |= {os.path.dirname(folder) for folder in folders if folder}
    selection.skip_outputs(outputs_from(root, map("{}/_meta.json".format, folders)))
    listing = selection.listing(root)
    listings = [group.listing for group in groups if group.listing is not None]
    if not has_layout and named:
        listing = replace(listing, nothing=_nothing(sources, listing))
    walks = [one.seen for one in listings if one.layout == listing.layout]
    seen = [_merged(each) for each in zip(listing.seen, *walks, strict=True)]
    notes = [*reader.notes]
    if repeats:
        notes.append(
            f"{counted(len(repeats), 'file')} reached more than once by --data-dir, and read once: "
            f"{some(sorted(repeats))}"
        )
    return replace(listing, seen=tuple(seen)), tuple(notes)


def _discover(groups: Sequence[_Group], schema: Schema) -> Schema:
    """Discover the names of a `hive` layout, in folders or in the paths of files.

    Raises `InputError` if the inputs do not have the same names.
    """
    found: dict[tuple[str, ...], tuple[str, Schema]] = {}
    for group in groups:
        if group.listing is not None:
            one = group.listing.schema
        else:
            one = schema.discovered_in(filter(None, map(_partition_of, group.paths)))
        if one.layout.fields:
            found.setdefault(one.layout.field_names, (group.given, one))
    if len(found) > 1:
        (first, _), (second, _) = [*found.values()][:2]
        refuse_names(first, second)
    return next((one for _, one in found.values()), schema.discovered(None))


def _partition_of(path: str) -> str:
    """Return the end of a path whose directories are name=value; ``""`` if it has none.

    >>> _partition_of("/data/dt=1/hour=2/x.log")
    'dt=1/hour=2/x.log'
    """
    *directories, name = path.split("/")
    own = [*takewhile(lambda part: part.find("=") > 0, reversed(directories))]
    return "/".join([*reversed(own), name]) if own else ""


def dims_by_end(layout: Layout, path: str) -> tuple[str, ...] | None:
    """Return the dimensions of the shortest end of a path that is in a layout; ``None`` if none is.

    >>> layout = load_layout("{reason}/{buildID}.{date}.{_}")
    >>> dims_by_end(layout, "/data/logs/idle/20131029.20131102.4f2e.log.gz")
    ('idle', '20131029', '20131102')
    """
    parts = path.strip("/").split("/")
    ends = ("/".join(parts[start:]) for start in reversed(range(len(parts))))
    return next((dims for end in ends if (dims := layout.dims_of(end)) is not None), None)


def _nothing(sources: Sources, listing: Listing) -> str:
    skipped = ""
    if listing.skipped:
        named = [*map("{}: {}".format, listing.skipped, listing.reasons)]
        skipped = f" Skipped: {listing.skipped_count:,} ({some(named)})."
    return (
        f"There is no file to read in {', '.join(map(repr, sources.local))}.{skipped} "
        "Check the paths given as --data-dir."
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """What one value of ``--data-dir`` names: a folder with its listing, or paths of files."""

    given: str
    bases: tuple[str, ...]  # absolute folders, for the root of the input
    paths: tuple[str, ...] = ()  # absolute; those of directories end in "/"
    listing: Listing | None = None
    is_glob: bool = False

    def select(
        self, root: str, selection: Selection, reader: _Reader
    ) -> Iterator[tuple[str, str, InputFile]]:
        """Yield the absolute path, the real path and the entry of each file; record the others."""
        start = _below(root, f"{self.bases[0]}/") if self.bases else ""
        source = source_name(self.given)
        if self.listing is not None:
            for path, reason in zip(self.listing.skipped, self.listing.reasons, strict=True):
                selection.skip(start + path, reason)
            selection.skipped_count += self.listing.skipped_count - len(self.listing.skipped)
            for file in self.listing.files:
                absolute = os.path.join(self.listing.root, file.path)
                found = replace(file, path=start + file.path, source=source)
                yield absolute, reader.real(absolute), found
            return
        for absolute in self.paths:
            path = _below(root, absolute)
            if (why := why_own(os.path.basename(absolute.rstrip("/")))) and self.is_glob:
                selection.skip(path, why)
                continue
            if why:
                reader.notes.append(f"{path} was not read: {why}")
                selection.skip(path, why)
                continue
            if (entry := reader.entry(absolute, path, self, selection)) is not None:
                yield absolute, reader.real(absolute), entry


class _Reader:
    """Reads the values of ``--data-dir``, and examines files.

    - `schema`: the schema of files that are named; ``None``: they have no dimensions.
    """

    def __init__(self, schema: Schema | None, own_folder: str | None, allow_empty: bool) -> None:
        self.notes: list[str] = []
        self.schema = schema
        self._own = None if own_folder is None else os.path.realpath(own_folder)
        self._allow_empty = allow_empty
        self._reals: dict[str, str] = {}

    def read(self, value: str, schema: Schema, stdin: str | None) -> _Group:
        """Find what a value names; `schema` is that of folders."""
        if value == "-":
            if stdin is None:
                raise InputError("Standard input cannot be read here; give a file.")
            if not os.path.getsize(stdin) and not self._allow_empty:
                raise NothingMatchedError(
                    "Standard input was empty. Check the command before the pipe, or use "
                    "--allow-empty to write an empty output."
                )
            return _Group(value, (os.path.dirname(stdin),), (stdin,))
        if value.startswith("@"):
            paths = tuple(_read_list(value[1:]))
            return _Group(value, tuple(map(os.path.dirname, paths)), paths)
        if is_glob(value):
            return self._match(value)
        path = _place(value)
        if os.path.exists(path) and not os.path.isdir(path):
            return _Group(value, (os.path.dirname(path),), (path,))
        listing = list_files(value, schema, self._own)
        return _Group(value, (listing.root,), listing=listing)

    def _match(self, pattern: str) -> _Group:
        fixed, parts = split_glob(pattern)
        folder = _place(fixed or ".")
        paths = expand(folder, parts, self._enters)
        if not any(not path.endswith("/") for path in paths) and not self._allow_empty:
            below = ""
            if paths:
                below = (
                    f"; it matches directories. For the files below them: -d "
                    f"{shell_word(pattern.rstrip('/') + '/**')}"
                )
            missing = "" if os.path.isdir(folder) else f": {folder} is not a directory"
            raise NothingMatchedError(
                f"The glob {pattern!r} matches no file{missing}{below}."
                + ("" if below else f" Check it with: ls {fixed or '.'}{hint(folder)}")
            )
        return _Group(pattern, (folder,), tuple(map(_place, paths)), is_glob=True)

    def _enters(self, folder: str) -> bool:
        """Check whether `**` enters a directory: not what daskmr made for itself."""
        return not why_own(os.path.basename(folder)) and os.path.realpath(folder) != self._own

    def entry(
        self, absolute: str, path: str, group: _Group, selection: Selection
    ) -> InputFile | None:
        """Examine a file; ``None``, and recorded as skipped, if it is not input."""
        try:
            found = os.stat(absolute)
        except OSError as error:
            if group.is_glob and os.path.islink(absolute):
                selection.skip(path, "it is a dangling link")
                return None
            raise InputError(f"The file {absolute} cannot be read: {error.strerror}.") from None
        if not stat.S_ISREG(found.st_mode):
            selection.skip(path, "it is not a regular file")
            return None
        dims: tuple[str, ...] | None = ()
        if self.schema is not None:
            dims = self._dims(absolute, group, selection, path)
        if dims is None:
            return None
        times = (None, None, found.st_mtime_ns, found.st_ino, None)
        return InputFile(path, found.st_size, dims, *times, source_name(group.given))

    def _dims(
        self, absolute: str, group: _Group, selection: Selection, path: str
    ) -> tuple[str, ...] | None:
        assert self.schema is not None
        layout = self.schema.layout
        below = _below(group.bases[0], absolute)
        if group.is_glob and layout.spec != "hive":
            dims = layout.dims_of(below)
        else:
            dims = dims_by_end(layout, absolute)
        if dims is None:
            reason = f"it does not end in the layout {layout.template}"
            selection.skip(path, layout.why_not(below) if group.is_glob else reason)
            return None
        for position, value in enumerate(dims):
            if selection.pick(position, value) is None:
                return None
        return dims

    def real(self, path: str) -> str:
        """Return the real path of a file; each directory is resolved once."""
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(path)
        if folder not in self._reals:
            self._reals[folder] = os.path.realpath(folder)
        return os.path.join(self._reals[folder], name)


def _place(path: str) -> str:
    """Return the absolute path; ".." is that of the file system, which may follow a link first.

    The "/" at the end of a directory is kept.
    """
    end = "/" if path.endswith("/") and path.strip("/") else ""
    if ".." in path.split("/"):
        folder, name = os.path.split(path.rstrip("/"))
        place = os.path.join(os.path.realpath(folder), name)
        return (os.path.realpath(place) if name == ".." else place) + end
    return os.path.abspath(path) + end


def _below(root: str, path: str) -> str:
    """Return an absolute path relative to a folder above it.

    >>> _below("/data", "/data/a.log"), _below("/", "/a.log"), _below("/data", "/data/")
    ('a.log', 'a.log', '')
    """
    return path.removeprefix(root).lstrip("/") if root != "/" else path.lstrip("/")


def _merged(seen: Sequence[Seen]) -> Seen:
    """Merge what several walks saw of one dimension."""
    first, most = seen[0], max(seen, key=lambda each: each.distinct)
    values = sorted({value for each in seen for value in each.values})
    return Seen(
        first.dimension,
        sum(each.candidates for each in seen),
        sum(each.allowed for each in seen),
        tuple(values),
        max(most.distinct, len(values)),
        tuple(sorted({variant for each in seen for variant in each.variants})),
        tuple(sorted({glob for each in seen for glob in each.globs})),
    )


def _read_list(path: str) -> Iterator[str]:
    """Yield the absolute paths of the files in a list; ``-`` is a list on standard input.

    Raises `InputError` that names the line if one is not a file that exists.
    """
    if path == "-":
        where, folder, content = "Standard input", "", b"".join(read_stdin())
    else:
        where, folder = f"The list {path}", os.path.dirname(path)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"{where} of input files cannot be read: {reason}. Give a text file with one path a "
                f"line; a file whose name begins with @ is ./@NAME.{hint(path)}"
            ) from None
    for number, name in _lines(content):
        place = _place(os.path.join(folder, name))
        if problem := _problem(place, name):
            raise InputError(f"{where}, line {number:,}: {name!r} {problem}")
        yield place


def _lines(content: bytes) -> Iterable[tuple[int, str]]:
    for number, line in enumerate(content.split(b"\n"), 1):
        if name := line.removesuffix(b"\r"):
            yield number, os.fsdecode(name)


def _problem(place: str, name: str) -> str:
    """Return what is wrong with a path in a list, and what to do; ``""`` if it is a file."""
    if "://" in name:
        return "is a URL, but a list names local files. Give the URL itself as -d."
    try:
        form = stat.S_IFMT(os.stat(place).st_mode)
    except FileNotFoundError:
        return f"does not exist ({place}). Correct the list; its paths are relative to its folder."
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}. Correct the list."
    if form == stat.S_IFDIR:
        return "is a directory, but a list names files. Give the directory itself as -d."
    return "" if form == stat.S_IFREG else "is not a regular file. Remove it from the list."
