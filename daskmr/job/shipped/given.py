"""The names and paths of the files that are sent with a job, as they are given."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from daskmr.errors import InputError
from daskmr.job.tracebacks import short_repr
from daskmr.normal_forms import hint

__all__ = ["FileError", "declared_files", "given_files", "names_files"]


class FileError(InputError):
    """A file that a script asks for is not among those that are sent."""


def given_files(
    given: Any, folders: Sequence[str] = (), others: Collection[str] = ()
) -> dict[str, str]:
    """Return the paths of files and directories to send, by name.

    - `given`: paths, ``"NAME=PATH"``, or a mapping from names to paths.
    - `folders`: where relative paths begin; the first one that has the file counts. By default, the
      working directory.
    - `others`: names to leave out.
    Raises `InputError` if one does not exist, or two have the same name.

    >>> given_files({"zones.tsv": "/"})
    {'zones.tsv': '/'}
    """
    found: dict[str, str] = {}
    folders = folders or [os.getcwd()]
    for name, text in _pairs(given, folders):
        name = name or os.path.basename(os.path.abspath(os.path.join(folders[0], text)))
        if name in others:
            continue
        path = _locate(text, folders)
        if "/" in name or name in ("", ".", "..") or "\0" in name:
            raise InputError(
                f"{name!r} cannot be the name of the file {text}: a name has no slash. In the script, it is "
                "daskmr.file(NAME)."
            )
        if found.setdefault(name, path) != path:
            raise InputError(
                f"Two files have the name {name}: {found[name]} and {path}. Rename one of them: "
                f"--file NAME={text}, or {{NAME: {text!r}}} in Python."
            )
    return found


def _pairs(given: Any, folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield a name, or "", and a path for each file."""
    if given is None:
        return
    if isinstance(given, Mapping):
        for name, path in given.items():
            if not isinstance(name, str) or not isinstance(path, str | os.PathLike):
                raise InputError(_explain(given))
            yield name, os.fspath(path)
        return
    if not names_files(given):
        raise InputError(_explain(given))
    for each in [given] if isinstance(given, str | os.PathLike) else given:
        text = os.fspath(each)
        name, equals, path = text.partition("=")
        is_path = any(os.path.lexists(os.path.join(folder, text)) for folder in folders)
        if equals and "/" not in name and not is_path:
            if not name.strip() or not path:
                raise InputError(f"--file {text!r} is neither PATH nor NAME=PATH.")
            yield name.strip(), path
        else:
            yield "", text


def names_files(value: Any) -> bool:
    """Check whether a value of a script may name files.

    >>> names_files(["lookup.tsv"]), names_files([1]), names_files([])
    (True, False, True)
    """
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, str | os.PathLike):
        return True
    return isinstance(value, _COLLECTIONS) and all(isinstance(v, str | os.PathLike) for v in value)


_COLLECTIONS = (list, tuple, set, frozenset)


def _locate(text: str, folders: Sequence[str]) -> str:
    if "://" in text:
        raise InputError(
            f"{text} is a URL. --file sends files of this machine: fetch it first, or read it in the script."
        )
    places = [os.path.join(folder, text) for folder in folders]
    for place in places:
        if text and os.path.exists(place):
            return os.path.abspath(place)
    if any(map(os.path.islink, places)):
        raise InputError(f"The file {text}, which is to be sent, is a link that leads nowhere.")
    where = "" if os.path.isabs(text) else f" (looked for in {' and '.join(folders)})"
    raise InputError(f"There is no file {text!r} to send{where}.{hint(places[0])}")


def _explain(given: Any) -> str:
    return (
        f"Files are a list of paths, such as ['lookup.tsv', 'geo/'], or a dict of names and paths, not "
        f"{short_repr(given)}."
    )


def declared_files(value: Any, folders: Sequence[str], given: Collection[str]) -> dict[str, str]:
    """Return the paths of the `files` of a script, by name, without those in `given`.

    Anything but paths is for something else.
    """
    return given_files(value, folders, given) if names_files(value) else {}
