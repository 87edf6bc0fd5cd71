"""The files that are sent with a script: `file` returns the local path of one."""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from daskmr.errors import JobError, TaskFailed
from daskmr.job.params.calls import uses_of
from daskmr.job.shipped.contents import Sent, check_unchanged, describe
from daskmr.job.shipped.given import FileError, declared_files, names_files
from daskmr.job.tracebacks import short_repr

__all__ = ["Files", "activate", "file"]


def file(name: str) -> str:
    r"""Return the local path of a file or directory that is sent with the script.

    A script lists its files at its top level, ``files = ["lookup.tsv"]``; a run may add others with
    ``--file PATH`` or ``mapreduce(files=[...])``. The path differs from process to process, and is
    for reading only. Outside of a run, it is that of the file beside the script.

    Parameters
    ----------
    name : str
        The name of a file, or of a directory; also a path in a directory, such as ``"geo/cities.tsv"``.

    Raises
    ------
    InputError
        If no file of this name is sent.

    Examples
    --------
    A script with a lookup table::

        files = ["lookup.tsv"]

        with open(daskmr.file("lookup.tsv")) as lines:
            NAMES = dict(line.rstrip().split("\t") for line in lines)
    """
    if not isinstance(name, str | os.PathLike):
        raise FileError(f"daskmr.file takes the name of a file, not {short_repr(name)}.")
    if _active is not None:
        return _active.path_of(os.fspath(name))
    caller = sys._getframe(1).f_globals
    folder = os.path.dirname(os.path.abspath(caller.get("__file__") or "_"))
    listed = caller.get("files")
    return _find(os.fspath(name), declared_files(listed, [folder], ()), listed=listed)


class Files:
    """The files of a script, or of functions, in one process.

    - `given`: paths of files by name, which go before those that the script lists.
    - `folders`: where relative paths in the script begin.
    - `sent`: the files that are sent, by name.
    - `namespace`: the names of the script's module while it is loaded.
    """

    def __init__(
        self,
        given: Mapping[str, str] | None = None,
        folders: Sequence[str] = (),
        sent: Mapping[str, Sent] | None = None,
    ) -> None:
        self.given = given or {}
        self.sent = dict(sent or {})
        self.namespace: Callable[[], Mapping[str, Any]] = dict
        self._folders = folders
        self._is_settled = sent is not None
        self._is_called = False
        self._paths: dict[str, str] | None = None  # where this process has the files

    def __reduce__(self) -> tuple[Any, ...]:
        small = {name: sent._replace(entries=()) for name, sent in self.sent.items()}
        return Files, ({}, (), small)

    @property
    def digests(self) -> dict[str, str]:
        """The digests of all files, by name."""
        return {name: sent.digest for name, sent in sorted(self.sent.items())}

    def path_of(self, name: str) -> str:
        """Return the local path of a file.

        Raises `FileError` if there is none of this name.
        """
        self._is_called = True
        if self._is_settled and self._paths is not None:
            return _find(name, self._paths, self._origins())
        named = self._named()
        path = _find(name, named, listed=self.namespace().get("files"))
        for each in named:
            # Described now, so that what the script reads now is what is sent.
            if os.path.join(path, "").startswith(os.path.join(named[each], "")):
                self._describe(each, named[each])
        return path

    def settle(self, texts: Mapping[str, str]) -> Iterator[str]:
        """Find and read all files, now that the script is loaded; yield notes on those without effect.

        - `texts`: source text by file name.
        Raises `InputError` if one is missing.
        """
        uses = [*uses_of(texts, "file")]
        self._is_called = self._is_called or bool(uses) or not texts
        named = self._named() if self._is_called else dict(self.given)
        for name, path in named.items():
            self._describe(name, path)
        self._is_settled, self._paths = True, self._origins()
        for name in () if self._is_called else self.given:
            yield f"--file {name} has no effect: the script never calls daskmr.file({name!r})"
        if not self._is_called and self._names_existing(self.namespace().get("files")):
            yield (
                "`files` in the script has no effect: they are sent if the script opens them as "
                "daskmr.file(NAME)"
            )
        for name in dict.fromkeys(_literals(uses)):
            try:
                self.path_of(name)
            except FileError as error:
                yield f"{error}".removesuffix(".")

    @property
    def is_expected(self) -> bool:
        """Check whether this process does not have its files yet."""
        return self._paths is None and self._is_settled

    def arrive(self, folder: str) -> None:
        """Note the folder that a run has sent the files to; without one, check them in place.

        Raises `TaskFailed` if they have changed.
        """
        if not folder:
            try:
                self.check()
            except JobError as error:
                raise TaskFailed(str(error)) from None
        self._paths = {
            name: os.path.join(folder, sent.place) if folder else sent.path
            for name, sent in self.sent.items()
        }

    def check(self) -> None:
        """Raise JobError if a file in place has changed."""
        for sent in self.sent.values():
            check_unchanged(sent)

    def _named(self) -> dict[str, str]:
        listed = declared_files(self.namespace().get("files"), self._folders, self.given)
        return {**listed, **self.given}

    def _names_existing(self, value: Any) -> bool:
        if not value or not isinstance(value, list | tuple) or not names_files(value):
            return False
        return all(os.path.exists(os.path.join(self._folders[0], each)) for each in value)

    def _origins(self) -> dict[str, str]:
        return {name: sent.path for name, sent in self.sent.items()}

    def _describe(self, name: str, path: str) -> None:
        if name not in self.sent:
            self.sent[name] = describe(name, path)


def _literals(uses: Iterable[ast.expr]) -> Iterator[str]:
    for use in uses:
        first = use.args[0] if isinstance(use, ast.Call) and use.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value


def _find(
    name: str,
    paths: Mapping[str, str],
    origins: Mapping[str, str] | None = None,
    listed: Any = None,
) -> str:
    """Return the path of a file by its name, by the path that it was given as, or in a directory.

    - `paths`: the paths in this process, by name.
    - `origins`: those of the client.
    - `listed`: the `files` of the script, for messages.
    """
    plain = os.path.normpath(name)
    if plain in paths:
        return paths[plain]
    last = os.path.basename(plain)
    if os.path.join("/", (origins or paths).get(last, "")).endswith(f"/{plain.lstrip('/')}"):
        return paths[last]
    top, _, rest = plain.partition("/")
    if rest and top in paths and not rest.startswith(".."):
        path = os.path.join(paths[top], rest)
        if os.path.exists(path):
            return path
        raise FileError(f"daskmr.file({name!r}): there is no {rest} in the directory {top}.")
    raise FileError(_explain(name, paths, listed))


def _explain(name: str, paths: Mapping[str, str], listed: Any) -> str:
    text = f"daskmr.file({name!r}): no file of this name is sent with the script."
    if like := difflib.get_close_matches(name, paths, 1):
        return f"{text} Did you mean {like[0]!r}?"
    if listed is not None and not names_files(listed):
        return f"{text} `files` in the script is {short_repr(listed)}: write files = [{name!r}]"
    others = f" It has {', '.join(paths)}." if paths else ""
    return f"{text}{others} To send it, add files = [{name!r}] at the top of the script, or give --file {name}"


_active: Files | None = None


def activate(files: Files | None) -> Files | None:
    """Have `file` look among these files until the next call; return those before."""
    global _active
    before, _active = _active, files
    return before
