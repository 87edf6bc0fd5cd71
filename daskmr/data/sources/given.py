"""The values of ``--data-dir``: folders, files, globs, ``@lists``, standard input and one URL."""

from __future__ import annotations

import datetime
import glob
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any

from daskmr.data.dimensions.dates import fill
from daskmr.data.sources.globs import is_glob
from daskmr.errors import InputError
from daskmr.store.source import parse_source
from daskmr.text import holds_credentials, mask_credentials, masked, shell_word
from daskmr.workdir import disk_error

if TYPE_CHECKING:
    from daskmr.config import Config

__all__ = [
    "STDIN", "Recorded", "Sources", "parse_sources", "read_stdin", "source_name", "spool", "spooled",
]  # fmt: skip

STDIN = "stdin"
"""The path of the data from standard input, relative to the root of the input."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Sources:
    """The values of ``--data-dir``, in the order given.

    >>> sources = Sources(("logs", "s3://bucket/data"))
    >>> sources.local, sources.url, sources.plain
    (('logs',), 's3://bucket/data', ('logs', 's3://bucket/data'))
    >>> Sources(("-",)).reads_stdin, Sources(("logs",)).plain
    (True, 'logs')
    """

    given: tuple[str, ...] = ()

    @property
    def local(self) -> tuple[str, ...]:
        """All values except URLs."""
        return tuple(value for value in self.given if not _URL.match(value))

    @property
    def url(self) -> str | None:
        """The URL of a store, if one is given."""
        return next((value for value in self.given if _URL.match(value)), None)

    @property
    def folder(self) -> str | None:
        """The only local source if it is a folder, or nothing that exists; else ``None``."""
        if len(self.local) != 1 or self.local[0].startswith("@") or self.reads_stdin:
            return None
        path = self.local[0]
        return None if is_glob(path) or (os.path.exists(path) and not os.path.isdir(path)) else path

    @property
    def reads_stdin(self) -> bool:
        """Whether the data comes from standard input."""
        return "-" in self.given

    @property
    def lists(self) -> tuple[str, ...]:
        """The paths of the lists of files."""
        return tuple(v[1:] for v in self.given if v.startswith("@") and v != "@-")

    @property
    def plain(self) -> str | tuple[str, ...] | None:
        """The only value as a text, several as a tuple, and none as ``None``."""
        return self.given[0] if len(self.given) == 1 else self.given or None

    def named(self, bucket: str | None = None) -> str:
        """Return the only local source, or that of a store, as scripts see it.

        - `bucket`: the URL or the name of the store.

        >>> Sources(("logs/",)).named(), Sources(("logs", "s3://b/data/")).named("s3://b/data/")
        ('logs', 's3://b/data')
        """
        return source_name(bucket or (self.local[0] if len(self.local) == 1 else ""))

    def recorded(self) -> str | list[str] | None:
        """Return what to record for a run that repeats this one: absolute paths, and no secret."""
        values = [_absolute(value) for value in self.given]
        return values[0] if len(values) == 1 else values or None

    def filled(self, day: datetime.date) -> Sources:
        """Return the sources of a day.

        >>> Sources(("logs/{date}",)).filled(datetime.date(2024, 1, 31)).plain
        'logs/2024-01-31'
        """
        return Sources(tuple(_filled(value, day) for value in self.given))

    def settled(self, config: Config) -> Config:
        """Return the settings with the URL as the bucket.

        Raises `InputError` if they name another bucket.
        """
        url = self.url
        if url is None or config.bucket == url:
            return config
        if config.bucket is not None:
            raise InputError(
                f"Two stores are given, {masked(url)} and {masked(config.bucket)}, but a run reads "
                "one. Give their common prefix, and choose below it with --input-filter."
            )
        return replace(config, bucket=url)


class Recorded(str):
    """A value of ``--data-dir`` of an earlier run, with the name that scripts saw then."""

    name = ""

    @classmethod
    def of(cls, value: str, name: str) -> Recorded:
        recorded = cls(value)
        recorded.name = name
        return recorded


def _filled(value: str, day: datetime.date) -> str:
    text: str = fill(value, day, "--data-dir")
    if isinstance(value, Recorded):
        return Recorded.of(text, fill(value.name, day, "--data-dir"))
    return text


def source_name(given: str) -> str:
    """Return a value of ``--data-dir`` as scripts see it, without a "/" at its end."""
    return given.name if isinstance(given, Recorded) else given.rstrip("/") or given[:1]


def parse_sources(data_dir: Any, day: datetime.date | None = None) -> Sources:
    """Check the value of ``data_dir``: ``None``, a path, or a list of paths.

    - `day`: the date to fill in, if there is one.
    Nothing is read. Raises `InputError` for values that are no input, that hold credentials, or
    that contradict each other, and if standard input is a terminal.
    """
    paths = (data_dir,) if isinstance(data_dir, str | os.PathLike) else data_dir
    if paths is None:
        return Sources()
    if not isinstance(paths, list | tuple):
        raise InputError(f"data_dir must be a path or a list of paths, not {data_dir!r}.")
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            raise InputError(f"data_dir must be a list of paths, but holds {path!r}.")
    sources = Sources(tuple(path if isinstance(path, str) else os.fsdecode(path) for path in paths))
    if day is not None:
        sources = sources.filled(day)
    _check_urls(list(dict.fromkeys(value for value in sources.given if _URL.match(value))))
    for value in sources.local:
        _check_local(value)
    _check_stdin(sources)
    return sources


def _check_urls(urls: list[str]) -> None:
    for url in urls:
        if holds_credentials(url) or url.lower().startswith("s3"):
            parse_source(url)  # raises an error that hides the credentials
        if re.search(r"[*\[]", url):
            raise InputError(
                f"{mask_credentials(url)} has wildcards, which are for local files. Give the prefix "
                f"before them, {mask_credentials(_before_wildcards(url))}, and choose below it with "
                "--input-filter."
            )
    if len(urls) > 1:
        raise InputError(
            f"{len(urls)} stores are given ({', '.join(map(mask_credentials, urls))}), but a run "
            "reads one. Give their common prefix, and choose below it with --input-filter."
        )


def _before_wildcards(url: str) -> str:
    return re.split(r"[^/]*[*\[]", url, maxsplit=1)[0]


def _check_local(value: str) -> None:
    if not value:
        raise InputError("The path of the data directory is empty; give a directory or a file.")
    if value == "@":
        raise InputError(
            "@ names no list of files. Give @FILE with one path a line, or @- for standard input."
        )
    if value == "-" or value.startswith("@"):
        return
    try:
        form = stat.S_IFMT(os.stat(value).st_mode)
    except (OSError, ValueError):  # a glob; or what reads it explains why it cannot be read
        return
    if form not in (stat.S_IFDIR, stat.S_IFREG):
        raise InputError(
            f"{value} is neither a file nor a directory. Pipe the data of a pipe or a device, with "
            f"-d - < {shell_word(value)} in place of it."
        )


def _check_stdin(sources: Sources) -> None:
    values = [value for value in sources.given if value in ("-", "@-")]
    if not values:
        return
    if len(values) > 1:
        raise InputError(
            "Standard input is either the data (-d -) or a list of files (-d @-): give one of them."
        )
    if sources.reads_stdin and len(sources.given) > 1:
        raise InputError(
            "Standard input is read alone. Pipe the other inputs through it, too, or save its data in a "
            "file."
        )
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        what = "the data" if sources.reads_stdin else "a list of files"
        example = "zcat FILE.gz" if sources.reads_stdin else "find DIR -name '*.log'"
        raise InputError(
            f"-d {values[0]} reads {what} from standard input, which is a terminal or closed. Pipe "
            f"it, with {example} | before the command."
        )


def _absolute(value: str) -> str:
    """Return a value that means the same in every working directory."""
    if value in ("-", "@-"):
        return value
    if _URL.match(value):
        return masked(value)
    if value.startswith("@"):
        return f"@{os.path.abspath(value[1:])}"
    if is_glob(value):  # its ".." may follow a link, so it is not normalized
        return os.path.join(glob.escape(os.getcwd()), value)
    return os.path.abspath(value)


# --- standard input -------------------------------------------------------------------------------


def read_stdin() -> Iterator[bytes]:
    """Yield the bytes of standard input in pieces; raise `InputError` if it cannot be read."""
    stream: IO[bytes] | None = getattr(sys.stdin, "buffer", None)
    if stream is None:
        raise InputError("Standard input cannot be read as bytes here; save the data in a file.")
    try:
        while piece := stream.read(_CHUNK):
            yield piece
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"Standard input cannot be read: {reason}.") from None


def spool(folder: str) -> str:
    """Copy standard input into a file in `folder`, which is created, and return its path.

    Raises `JobError` if the disk is full, `InputError` if standard input cannot be read.
    """
    path = os.path.join(folder, STDIN)
    pieces = read_stdin()
    try:
        os.makedirs(folder, exist_ok=True)
        with open(path, "wb") as file:
            for piece in pieces:
                file.write(piece)
    except OSError as error:
        raise disk_error(error, path, "the data from standard input") from None
    return path


@contextmanager
def spooled(sources: Sources) -> Iterator[str | None]:
    """Copy standard input, if it is the data, into a temporary file, and yield its path."""
    if not sources.reads_stdin:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="daskmr-") as folder:
        yield spool(folder)
