"""Which files a job reads: a walk of the data level by level, pruned by the filter."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NoReturn

from daskmr.data.filters import Dimension
from daskmr.data.layout import Layout, Schema
from daskmr.errors import InputError
from daskmr.normal_forms import hint

__all__ = ["EXTENSIONS", "Gathering", "InputFile", "Listing", "Seen", "list_files", "unite"]

EXTENSIONS = frozenset({"gz", "lzma", "xz", "bz2", "zst", "log", "txt", "json", "jsonl", "tsv"})
"""What a file's name may end in, in any case, without the dot."""

_SKIPPED_NAMED = 1000
_VALUES_NAMED = 20


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file to read.

    Parameters
    ----------
    path : str
        Relative to the data dir, with "/" between its parts; odd bytes are surrogate escapes.
    size : int
        In bytes, as it lies there.
    dims : tuple of str
        The values of its dimensions, in layout order.
    etag : str, optional
        What a store calls this state of the object, without quotes; ``None`` for a local file.
    mtime : float, optional
        When a store says the object was written, in seconds of Unix time.
    mtime_ns, inode : int, optional
        Of a local file: when it was last written, in nanoseconds of Unix time, and the number that
        its file system knows it by. With the size, they tell whether it has changed since.
    """

    path: str
    size: int
    dims: tuple[str, ...]
    etag: str | None = None
    mtime: float | None = None
    mtime_ns: int | None = None
    inode: int | None = None

    @property
    def is_remote(self) -> bool:
        """Whether a store has listed it."""
        return self.etag is not None or self.mtime is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """What a walk met of one dimension, below what the dimensions before it allow.

    Parameters
    ----------
    dimension : Dimension
    candidates, allowed : int
        Directories, or files, met at this level, and those of them that the filter allows.
    values : tuple of str
        Existing values in order: all of them, or the first and last few.
    distinct : int
        How many values there are.
    twins : tuple of str
        Excluded values that differ from an allowed one only in their Unicode normal form.
    """

    dimension: Dimension
    candidates: int
    allowed: int
    values: tuple[str, ...]
    distinct: int
    twins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """The input of a job.

    Parameters
    ----------
    root : str
        Where the data is: a path, or the URL of a bucket; the paths are relative to it.
    files : tuple of InputFile
        What the filter allows, in the order of the paths as bytes.
    skipped : tuple of str
        What is not in the layout: the first thousand, in the order of the paths as bytes.
        Directories end in "/"; nothing below them is named.
    skipped_count : int
        How many of those there are in all.
    seen : tuple of Seen
        One for each dimension, to explain an empty listing.
    layout : Layout
        The layout that the files follow.
    repeated : int
        How often a store listed something that it had listed before.
    """

    root: str
    files: tuple[InputFile, ...]
    skipped: tuple[str, ...]
    skipped_count: int
    seen: tuple[Seen, ...]
    layout: Layout
    repeated: int = 0

    def explain_nothing(self) -> str:
        """Say why there is no file: the dimension that excluded the last candidates.

        Examples
        --------
        >>> from daskmr.data.layout import load_schema
        >>> Listing("/data", (), (), 0, (), load_schema().layout).explain_nothing()[:44]
        'The data directory /data holds no file in th'
        """
        # A deeper dimension meets only what all before it allow, so the deepest that excluded
        # something is the one without which there might have been a file.
        for position in reversed(range(len(self.seen))):
            seen = self.seen[position]
            if seen.allowed < seen.candidates:
                return self._explain_excluded(position, seen)
        skipped = f" {self._describe_skipped()}" if self.skipped_count else ""
        return (
            f"The {self._what} {self.root} holds no file in the layout {self.layout.template} "
            f"with a known extension ({', '.join(sorted(EXTENSIONS))}).{skipped} "
            f"Check the {self._what} and the schema of the layout."
        )

    def explain_twins(self) -> tuple[str, ...]:
        """Name what was left out only as its Unicode normal form is not that of the filter."""
        return tuple(
            f"dimension {position} ({seen.dimension.field_name}) leaves out {_describe_twins(seen)}"
            for position, seen in enumerate(self.seen, 1)
            if seen.twins
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
            + (f" It leaves out {_describe_twins(seen)}." if seen.twins else "")
        )

    def _describe_skipped(self) -> str:
        shown = ", ".join(map(repr, self.skipped[:3]))
        more = ", ..." if self.skipped_count > 3 else ""
        return f"Not in the layout: {self.skipped_count} ({shown}{more})."


def _describe_twins(seen: Seen) -> str:
    found = seen.twins[0]
    allowed = str(seen.dimension.variant_of(found))
    more = f" and {len(seen.twins) - 1:,} more" if len(seen.twins) > 1 else ""
    return (
        f"{found!r}{more}, which differs from {allowed!r} only in its Unicode normal form "
        f"({found!a} is there, the filter allows {allowed!a}); to read both, allow "
        f"{json.dumps([found, allowed])}"
    )


def _describe_values(seen: Seen) -> str:
    shown = [repr(value) for value in seen.values]
    if len(seen.values) < seen.distinct:
        shown.insert((len(shown) + 1) // 2, "...")
    count = f" ({seen.distinct} values)" if len(seen.values) < seen.distinct else ""
    return f"existing there: {', '.join(shown)}{count}"


def list_files(data_dir: str | os.PathLike[str], schema: Schema) -> Listing:
    """List the files below a local directory that a filter allows.

    Directories that the filter excludes are never opened. Symbolic links are followed, yet no
    file is listed twice.

    Parameters
    ----------
    data_dir : path
        The data directory; it may be relative, or a link itself.
    schema : Schema
        The layout and the filter.

    Raises
    ------
    InputError
        If the data directory, or what the filter allows below it, can't be read.

    Examples
    --------
    >>> from daskmr.data.layout import load_schema
    >>> list_files("/no/such/place", load_schema())
    Traceback (most recent call last):
        ...
    daskmr.errors.InputError: The data directory /no/such/place does not exist; check the path.
    """
    root = _check_root(data_dir)
    gathering = Gathering(schema)
    real = os.path.realpath(root)
    level = [_Directory("", (), (real,), False)]
    for position in range(schema.layout.directories):
        level = [child for above in level for child in _descend(root, above, position, gathering)]
    names = Counter(directory.real for directory in level)
    aliases: list[_Alias] = []
    for directory in level:
        _collect(root, directory, names[directory.real] > 1, gathering, aliases)
    if aliases:
        gathering.files = _without_doubles(gathering.files, aliases, level)
    return gathering.listing(root)


def unite(local: Listing, remote: Listing) -> Listing:
    """Join what a data dir and a store hold: a path that both have is read from the data dir.

    Where there is no file in either, the store's listing explains it.
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
            replace(there, twins=tuple(sorted({*here.twins, *there.twins})))
            for here, there in zip(local.seen, remote.seen, strict=True)
        ),
    )


class _Sieve:
    """One dimension at work: it judges each value once, and keeps one string for it."""

    __slots__ = ("allowed", "candidates", "dimension", "verdicts")

    def __init__(self, dimension: Dimension) -> None:
        self.dimension = dimension
        self.verdicts: dict[str, str | None] = {}
        self.candidates = 0
        self.allowed = 0

    def pick(self, value: str) -> str | None:
        """The one string for `value`, or ``None`` when it is excluded."""
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
        return Seen(
            self.dimension, self.candidates, self.allowed, tuple(named), len(values), self._twins()
        )

    def _twins(self) -> tuple[str, ...]:
        known = self.dimension.known_values or ()
        if all(map(str.isascii, known)) and all(map(str.isascii, self.verdicts)):
            return ()
        excluded = sorted(value for value, kept in self.verdicts.items() if kept is None)
        return tuple(v for v in excluded if self.dimension.variant_of(v) is not None)


class Gathering:
    """What a walk has met so far, wherever the data is.

    Parameters
    ----------
    schema : Schema
        The layout and the filter that decide.

    Attributes
    ----------
    files : list of InputFile
        What the walk has selected, in any order.
    skipped_count : int
        How much of what it met is not in the layout.

    Examples
    --------
    >>> from daskmr.data.layout import load_schema
    >>> schema = load_schema({"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]})
    >>> gathering = Gathering(schema)
    >>> gathering.pick(0, "saved_session") is None
    True
    >>> gathering.pick_file(("idle", "Firefox", "beta", "24.0"), "1.2.gz", "idle/.../1.2.gz")
    ('idle', 'Firefox', 'beta', '24.0', '1', '2')
    """

    def __init__(self, schema: Schema) -> None:
        self.files: list[InputFile] = []
        self.skipped_count = 0
        self._schema = schema
        self._sieves = tuple(_Sieve(dimension) for dimension in schema.dimensions)
        self._skipped: list[str] = []

    def pick(self, position: int, value: str) -> str | None:
        """The string to keep for a `value` that the filter allows, else ``None``."""
        return self._sieves[position].pick(value)

    def pick_file(self, dims: tuple[str, ...], name: str, path: str) -> tuple[str, ...] | None:
        """All dimensions of a file in a directory of `dims`; ``None`` if it isn't selected.

        A file that is not in the layout is skipped under its `path`.
        """
        parts = self._schema.layout.parse_name(
            name
        )  # none for a hidden file: nothing is before its dot
        if parts is None or name.rpartition(".")[2].lower() not in EXTENSIONS:
            self.skip(path)
            return None
        first = self._sieves[-2].pick(parts[0])
        if first is None:
            return None
        second = self._sieves[-1].pick(parts[1])
        return None if second is None else (*dims, first, second)

    def skip(self, path: str) -> None:
        """Note what is not in the layout; a directory's path ends in "/"."""
        self.skipped_count += 1
        self._skipped.append(path)
        if len(self._skipped) >= 10 * _SKIPPED_NAMED:
            self._skipped = self._first_skipped()

    def _first_skipped(self) -> list[str]:
        return sorted(self._skipped, key=os.fsencode)[:_SKIPPED_NAMED]

    def listing(self, root: str) -> Listing:
        """All of it, in order."""
        return Listing(
            root=root,
            files=tuple(_in_order(self.files)),
            skipped=tuple(self._first_skipped()),
            skipped_count=self.skipped_count,
            seen=tuple(sieve.seen() for sieve in self._sieves),
            layout=self._schema.layout,
        )


def _in_order(files: list[InputFile]) -> list[InputFile]:
    """Sort by the paths as bytes; ASCII is in that order as it is, without a copy of each path."""
    if all(file.path.isascii() for file in files):
        return sorted(files, key=attrgetter("path"))
    return sorted(files, key=lambda file: os.fsencode(file.path))


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory to open: its path below the root, with "/" at the end, or ""."""

    path: str
    dims: tuple[str, ...]
    reals: tuple[str, ...]  # real paths from the root down to it
    linked: bool  # a link leads to it

    @property
    def real(self) -> str:
        return self.reals[-1]


@dataclass(frozen=True, slots=True)
class _Alias:
    """A file that a link leads to, and that may have another name."""

    file: InputFile
    real: str


def _hidden(name: str) -> bool:
    return name.startswith(".")


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
            advice = f" What is in a store is given as --bucket {given}"
        raise InputError(
            f"The data directory {root} does not exist; check the path.{advice}"
        ) from None
    except (OSError, ValueError) as error:
        _fail("data directory", root, error)
    raise InputError(f"The data directory {root} is not a directory; give the one above the files.")


def _descend(
    root: str, directory: _Directory, position: int, gathering: Gathering
) -> Iterator[_Directory]:
    """The directories in `directory` that the filter allows."""
    for entry in _entries(root, directory, gathering):
        path = directory.path + entry.name
        if _format_of(entry, stat.S_IFDIR) != stat.S_IFDIR:
            gathering.skip(path)
        elif _hidden(entry.name):
            gathering.skip(path + "/")
        elif (value := gathering.pick(position, entry.name)) is not None:
            child = _open(directory, entry, value)
            if child is None:
                gathering.skip(path + "/")
            else:
                yield child


def _open(directory: _Directory, entry: os.DirEntry[str], value: str) -> _Directory | None:
    """The directory at `entry`, or ``None`` if it leads back to one above it."""
    real, linked = _real_path(directory, entry)
    if linked and real in directory.reals:
        return None
    return _Directory(
        f"{directory.path}{entry.name}/", (*directory.dims, value), (*directory.reals, real), linked
    )


def _collect(
    root: str, directory: _Directory, shared: bool, gathering: Gathering, aliases: list[_Alias]
) -> None:
    """Select the files in `directory`, which other paths lead to as well where it is `shared`.

    What a link leads to and may be met by another name goes to `aliases`.
    """
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for entry in _entries(root, directory, gathering):
        path = directory.path + entry.name
        form = _format_of(entry, stat.S_IFREG)
        if form != stat.S_IFREG:
            gathering.skip(path + "/" if form == stat.S_IFDIR else path)
            continue
        dims = gathering.pick_file(directory.dims, entry.name, path)
        if dims is None:
            continue
        found = _stat(entry)
        shared_dims = known.setdefault(dims, dims)
        file = InputFile(
            path, found.st_size, shared_dims, None, None, found.st_mtime_ns, found.st_ino
        )
        if entry.is_symlink() or (shared and directory.linked):
            aliases.append(_Alias(file, _real_path(directory, entry)[0]))
        else:
            gathering.files.append(file)


def _without_doubles(
    files: list[InputFile], aliases: list[_Alias], level: list[_Directory]
) -> list[InputFile]:
    """Leave one name of each file: the plain path if there is one, else the smallest as bytes."""
    directories = {directory.path: directory for directory in level}
    reals = {alias.real for alias in aliases}
    known: set[str] = set()
    kept: list[InputFile] = []
    for file in files:
        folder, _, name = file.path.rpartition("/")
        directory = directories[folder and folder + "/"]
        real = os.path.join(directory.real, name)
        if real in reals and directory.linked:
            aliases.append(_Alias(file, real))
            continue
        kept.append(file)
        if real in reals:
            known.add(real)
    chosen: dict[str, InputFile] = {}
    for alias in sorted(aliases, key=lambda alias: os.fsencode(alias.file.path)):
        if alias.real not in known:
            chosen.setdefault(alias.real, alias.file)
    kept.extend(chosen.values())
    return kept


def _entries(root: str, directory: _Directory, gathering: Gathering) -> Iterator[os.DirEntry[str]]:
    """What `directory` holds; an empty one is skipped, unless it is the root."""
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
        gathering.skip(directory.path)


def _format_of(entry: os.DirEntry[str], expected: int) -> int:
    """Directory, regular file, or 0 for anything else (a dangling link, a device).

    A link whose target can't be looked at counts as what is `expected` there, so that it is an
    error where the filter allows it, and only there.
    """
    try:
        if entry.is_dir():
            return stat.S_IFDIR
        return stat.S_IFREG if entry.is_file() else 0
    except OSError as error:
        return 0 if error.errno in (errno.ELOOP, errno.ENOTDIR) else expected


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError as error:
        _fail("file", entry.path, error)


def _real_path(directory: _Directory, entry: os.DirEntry[str]) -> tuple[str, bool]:
    """The path of `entry` without links, and whether there was one."""
    if entry.is_symlink():
        try:
            return os.path.realpath(entry.path), True
        except OSError as error:  # a link that may not be resolved, as in /proc
            _fail("link", entry.path, error)
    return os.path.join(directory.real, entry.name), directory.linked


def _fail(what: str, path: str, error: OSError | ValueError) -> NoReturn:
    reason = getattr(error, "strerror", None) or error
    remedy = "give another" if what == "data directory" else "exclude it by the filter"
    raise InputError(
        f"The {what} {path} cannot be read: {reason}; correct it, or {remedy}."
    ) from None
