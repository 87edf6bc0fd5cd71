"""List a sample of the input, spread evenly over its directories."""

from __future__ import annotations

import io
import os
import random
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from daskmr.data.inspection.names import spread
from daskmr.data.layout import load_schema
from daskmr.data.listing import check_root
from daskmr.data.sources.given import STDIN, Sources, read_stdin
from daskmr.data.sources.globs import expand, is_glob, split_glob
from daskmr.data.sources.named_files import list_sources
from daskmr.data.sources.own_files import META, output_of, outputs_from, why_own
from daskmr.errors import InputError
from daskmr.text import inspect_line

if TYPE_CHECKING:
    from daskmr.store.source import Source
    from daskmr.store.store import Store

__all__ = ["Found", "Survey", "surveyed"]

_MOST_FILES = 10_000
_MOST_DIRECTORIES = 500  # of one level, locally
_MOST_REQUESTS = 32  # of one level, in a store
_FEWEST = 8  # directories of a level that are listed even if the time is used up
_SECONDS = 4.0
_DEEPEST = 30  # levels
_PROGRESS_SECONDS = 0.25
_STDIN_BYTES = 1 << 20
_RANGE_BYTES = 1 << 18


class Found(NamedTuple):
    """A file of the sample."""

    path: str  # relative to the folder, bucket or glob that it was found in
    place: str  # the path that it is opened by
    size: int  # in bytes, as stored
    etag: str | None = None
    remote: bool = False


class _Entry(NamedTuple):
    name: str
    is_dir: bool
    size: int = 0
    etag: str | None = None


_Listed = tuple[list[_Entry], bool]
"""Entries of a directory, and whether these are all."""


@dataclass(slots=True)
class Survey:
    """A sample of the input.

    - `files`: sorted by their paths.
    - `complete`: they are all files of the input.
    - `named`: the files are named, by paths or lists, so they need no layout.
    - `ignored`: the number of hidden files, and of those that daskmr wrote.
    - `unreadable`: directories that cannot be read, with the reason.
    """

    files: list[Found] = field(default_factory=list)
    complete: bool = True
    named: bool = True
    ignored: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    stdin: bytes | None = None
    store: Store | None = None

    def open(self, file: Found) -> str | BinaryIO:
        """Return the path of a file, or a stream of it, with random access."""
        if self.stdin is not None:
            stream = io.BytesIO(self.stdin)
            stream.name = STDIN
            return stream
        if not file.remote or self.store is None:
            return file.place
        return cast(BinaryIO, io.BufferedReader(_Ranges(self.store, file), _RANGE_BYTES))


@contextmanager
def surveyed(
    sources: Sources,
    source: Source | None = None,
    retries: int = 3,
    on_progress: Callable[[int, int], object] | None = None,
) -> Iterator[Survey]:
    """List a sample of the input, whose files can be opened in the block.

    - `source`: the store to list, if any.
    - `on_progress`: called with the numbers of directories listed and files found so far.
    Raises `InputError` if an input does not exist, or cannot be read.
    """
    survey = Survey()
    walk = _Walk(survey, on_progress)
    with ExitStack() as stack:
        for value in sources.local:
            _add_local(walk, value)
        if source is not None:
            from daskmr.store.store import Store

            survey.store = stack.enter_context(Store(source, retries))
            survey.store.check()
            survey.named = False
            walk.add_store(survey.store)
            if not survey.files:
                _refuse_object(source)
        survey.files.sort()
        yield survey


def _add_local(walk: _Walk, value: str) -> None:
    survey = walk.survey
    if value == "-":
        survey.stdin = _start_of_stdin()
        survey.files.append(Found(STDIN, STDIN, len(survey.stdin)))
        survey.complete = len(survey.stdin) < _STDIN_BYTES
    elif is_glob(value):
        fixed, parts = split_glob(value)
        folder = os.path.abspath(fixed or ".")
        matches = expand(folder, parts, most=_MOST_FILES)
        survey.complete = survey.complete and len(matches) < _MOST_FILES
        survey.named = False
        walk.add_files(folder, [path for path in matches if not path.endswith("/")])
        if not survey.files:
            list_sources(Sources((value,)), load_schema(None, "flat"), has_layout=False)  # raises
    elif os.path.isdir(value):
        survey.named = False
        root = check_root(value)
        walk.add_folder(root)
    else:
        listing, _ = list_sources(Sources((value,)), load_schema(None, "flat"), has_layout=False)
        survey.files += [
            Found(file.path, os.path.join(listing.root, file.path), file.size)
            for file in listing.files
        ]


def _refuse_object(source: Source) -> None:
    """Raise InputError if a URL is that of an object, rather than a folder."""
    from daskmr.store.store import Store

    folder, slash, name = source.root.rpartition("/")
    if not slash or source.given:
        return
    above = replace(source, root=folder)
    with Store(above) as store:
        if any(entry.name == name for page in store.list("", name) for entry in page):
            raise InputError(
                f"{source.url} is an object, not a folder. Give the folder that holds it:"
                f"{inspect_line(above.url)}"
            )


def _start_of_stdin() -> bytes:
    data = bytearray()
    for piece in read_stdin():
        data += piece
        if len(data) >= _STDIN_BYTES:
            break
    if not data:
        raise InputError("Standard input was empty. Check the command before the pipe.")
    return bytes(data)


class _Walk:
    """Adds files to a survey, level by level."""

    def __init__(
        self, survey: Survey, on_progress: Callable[[int, int], object] | None = None
    ) -> None:
        self.survey = survey
        self._on_progress = on_progress or (lambda directories, files: None)
        self._deadline = time.monotonic() + _SECONDS
        self._listed = 0
        self._metas: list[str] = []  # files that may describe an output
        self._next_report = time.monotonic() + _PROGRESS_SECONDS

    def add_folder(self, root: str) -> None:
        """Add the files below a local folder."""

        def list_many(paths: Sequence[str], most: int) -> Iterator[_Listed]:
            for path in paths:
                yield self._scan(root, path, most)

        def place(path: str) -> str:
            return os.path.join(root, path)

        survey, before, self._metas = self.survey, len(self.survey.files), []
        self._add(list_many, place, _MOST_DIRECTORIES, remote=False)
        outputs, found = outputs_from(root, self._metas), survey.files[before:]
        survey.files[before:] = [file for file in found if not output_of(file.path, outputs)]
        survey.ignored += before + len(found) - len(survey.files)

    def add_store(self, store: Store) -> None:
        """Add the objects of a store."""

        async def pages(paths: Sequence[str]) -> list[_Listed]:
            import asyncio

            found = await asyncio.gather(*(store.page_async(path) for path in paths))
            return [
                ([_Entry(e.name, e.is_dir, e.size, e.etag) for e in page.entries], not page.token)
                for page in found
            ]

        def list_many(paths: Sequence[str], most: int) -> Iterator[_Listed]:
            yield from store.run(pages(paths))

        self._add(list_many, lambda path: path, _MOST_REQUESTS, remote=True)

    def _add(
        self,
        list_many: Callable[[Sequence[str], int], Iterator[_Listed]],
        place: Callable[[str], str],
        most: int,
        *,
        remote: bool,
    ) -> None:
        survey, level = self.survey, [""]
        for _ in range(_DEEPEST):
            if not level:
                return
            chosen = spread(level, most)
            random.Random(0).shuffle(chosen)  # so that the first ones are spread, too
            survey.complete = survey.complete and len(chosen) == len(level)
            below: list[str] = []
            found = list_many(chosen, max(50, _MOST_FILES // len(chosen)))
            for number, (path, (entries, whole)) in enumerate(zip(chosen, found, strict=False)):
                if number >= _FEWEST and time.monotonic() > self._deadline:
                    survey.complete = False
                    break
                survey.complete = survey.complete and whole
                for entry in entries:
                    if entry.name[:1] in (".", "") or why_own(entry.name):
                        survey.ignored += entry.name != "" and not entry.is_dir
                        self._metas += [path + entry.name] if entry.name.endswith(META) else []
                    elif entry.is_dir:
                        below.append(f"{path}{entry.name}/")
                    else:
                        own = path + entry.name
                        file = Found(own, place(own), entry.size, entry.etag, remote)
                        survey.files.append(file)
                self._listed += 1
                self._report()
            level = sorted(below)
        survey.complete = False

    def _report(self) -> None:
        now = time.monotonic()
        if now > self._next_report:
            self._next_report = now + _PROGRESS_SECONDS
            self._on_progress(self._listed, len(self.survey.files))

    def _scan(self, root: str, path: str, most: int) -> _Listed:
        found: list[_Entry] = []
        try:
            with os.scandir(os.path.join(root, path)) as entries:
                for entry in islice(entries, most):
                    try:
                        is_dir = entry.is_dir()
                        if is_dir or entry.is_file():
                            size = 0 if is_dir else entry.stat().st_size
                            found.append(_Entry(entry.name, is_dir, size))
                    except OSError:  # a link to nothing
                        continue
                whole = next(entries, None) is None
        except OSError as error:
            self.survey.unreadable[os.path.join(root, path)] = error.strerror or str(error)
            return [], False
        return found, whole

    def add_files(self, folder: str, paths: Sequence[str]) -> None:
        """Add the files that a glob matches."""
        for path in paths:
            own = os.path.relpath(path, folder)
            if why_own(os.path.basename(path)):
                self.survey.ignored += 1
                continue
            try:
                found = os.stat(path)
            except OSError as error:
                self.survey.unreadable[path] = error.strerror or str(error)
                continue
            if stat.S_ISREG(found.st_mode):
                self.survey.files.append(Found(own, path, found.st_size))


class _Ranges(io.RawIOBase):
    """An object in a store as a file with random access, which reads only what is asked for."""

    def __init__(self, store: Store, file: Found) -> None:
        super().__init__()
        self._store, self._file, self._position = store, file, 0
        self.name = store.source.url_of(file.place)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._file.size}[whence]
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        length = min(len(buffer), self._file.size - self._position)
        if length <= 0:
            return 0
        data = self._store.read(self._file.place, self._position, length)
        buffer[:length] = data
        self._position += length
        return length
