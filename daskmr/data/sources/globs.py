"""Expand globs as bash does with ``globstar``: ``**`` spans directories, and follows no links."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from daskmr.errors import InputError

__all__ = ["expand", "is_glob", "split_glob"]

_ESCAPED = re.compile(r"\[([*?[])\]")

Enters = Callable[[str], bool]
"""Decides whether ``**`` enters a directory."""


def is_glob(path: str) -> bool:
    """Check whether a path has wildcards; a file or directory of exactly this name goes first.

    >>> is_glob("data/2024-*/[ab].log"), is_glob("data/a.log")
    (True, False)
    """
    return glob.has_magic(path) and not os.path.lexists(path)


def split_glob(pattern: str) -> tuple[str, tuple[str, ...]]:
    """Split a glob into its part without wildcards and the names and wildcards below it.

    >>> split_glob("data/2024-*/**/*.gz")
    ('data', ('2024-*', '**', '*.gz'))
    >>> split_glob("/*.log"), split_glob("*.log")
    (('/', ('*.log',)), ('', ('*.log',)))
    >>> split_glob("a[[]1]/*.log")  # as `glob.escape` writes a path
    ('a[1]', ('*.log',))
    """
    parts = pattern.split("/")
    magic = [glob.has_magic(_ESCAPED.sub("", part)) for part in parts[:-1]]
    first = [*magic, True].index(True)
    fixed = _ESCAPED.sub(r"\1", "/".join(parts[:first]))
    below = [part for part in parts[first:-1] if part] + parts[-1:]  # "" matches a directory
    kept = [part for n, part in enumerate(below) if part != "**" or below[n - 1 : n] != ["**"]]
    return fixed or ("/" if first else ""), tuple(kept)


def expand(
    folder: str,
    parts: Sequence[str],
    enters: Enters = lambda path: True,
    most: int | None = None,
) -> tuple[str, ...]:
    """Return the paths that `parts` match below `folder`, each once; those of directories end in "/".

    Wildcards match no hidden names unless they begin with a dot. A final ``**`` matches all files.
    At most `most` matches are looked for.

    Raises `InputError` if a directory cannot be read.
    """
    return tuple(dict.fromkeys(islice(_expand(folder, tuple(parts), enters), most)))


def _expand(path: str, parts: tuple[str, ...], enters: Enters) -> Iterator[str]:
    if not parts:
        yield f"{path}/" if os.path.isdir(path) else path
        return
    part, rest = parts[0], parts[1:]
    if part == "":
        if os.path.isdir(path):
            yield f"{path}/"
    elif part == "**":
        yield from _descend(path, rest, enters)
    elif not glob.has_magic(part):
        below = os.path.join(path, part)
        if os.path.lexists(below) and (not rest or os.path.isdir(below)):
            yield from _expand(below, rest, enters)
    else:
        matches = re.compile(fnmatch.translate(part)).match
        for entry in _entries(path):
            if _is_hidden(entry.name, part) or not matches(entry.name):
                continue
            if not rest or entry.is_dir():
                yield from _expand(os.path.join(path, entry.name), rest, enters)


def _descend(path: str, rest: tuple[str, ...], enters: Enters) -> Iterator[str]:
    """Match `rest` in a directory and in all directories below it."""
    if rest:
        yield from _expand(path, rest, enters)
    for entry in _entries(path):
        below = os.path.join(path, entry.name)
        if _is_hidden(entry.name, "**"):
            continue
        if entry.is_dir(follow_symlinks=False):
            if enters(below):
                yield from _descend(below, rest, enters)
        elif not rest and not entry.is_dir():
            yield below


def _entries(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path or ".") as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(
            f"The directory {path} cannot be read: {error.strerror}; correct it, or narrow the glob."
        ) from None


def _is_hidden(name: str, part: str) -> bool:
    return name.startswith(".") and not part.startswith(".")
