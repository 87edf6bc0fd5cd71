"""Find out the layout, the format and the fields of the input, and the command line that reads it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from daskmr.data.inspection.contents import Content, look
from daskmr.data.inspection.fields import FieldFigures, best_field, fields_of, key_field
from daskmr.data.inspection.names import Guess, guess_layout, layout_of, misfits, spread
from daskmr.data.inspection.survey import Found, Survey, surveyed
from daskmr.data.readers.registry import text_extensions
from daskmr.data.readers.suffixes import EXTENSIONS, compression_of
from daskmr.data.sources.globs import is_glob
from daskmr.errors import InputError
from daskmr.text import counted, shell_path, shell_word, some

if TYPE_CHECKING:
    from daskmr.data.sources.given import Sources
    from daskmr.store.source import Source

__all__ = ["DimensionFound", "Findings", "find_out"]

_GROUPS = 4  # kinds of files that are looked at
_LOOKED_AT = 3  # files of each
_STORE_BYTES = 1 << 16  # of the data of an object
_NAMED = 3
_SHOWN = 3  # records
_LONGEST = 2000  # characters of a record in JSON
_NO_LAYOUT = (
    "no layout lists these files, since their names end in different ways, without an extension that "
    "is known. Rename them, or read a local copy of them"
)
_NOT_DATA = ("readme", "license", "changelog", "makefile", "manifest")


@dataclass(frozen=True, slots=True)
class DimensionFound:
    """A dimension of the layout: the number of files with each value."""

    name: str
    type: str
    values: dict[str, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """The findings about the input.

    - `given`: the values of ``-d``.
    - `store`: options for the store, as they are given on a command line.
    - `files`, `bytes`: the sample; all files if `complete`.
    - `guess`: the layout; ``None`` if the files need none.
    - `skipped`: files that the command line does not read.
    - `compressions`: the number of files of each, by name; ``""`` for none.
    - `content`: that of the files, joined from several.
    - `key`: the field that identifies records, if there is one.
    - `category`: the field whose values are worth counting, if there is one.
    - `notes`: further remarks.
    """

    given: tuple[str, ...]
    store: tuple[str, ...]
    files: int
    bytes: int
    complete: bool
    guess: Guess | None
    skipped: tuple[str, ...]
    compressions: dict[str, int]
    content: Content
    dimensions: tuple[DimensionFound, ...] = ()
    fields: tuple[FieldFigures, ...] = ()
    key: str | None = None
    category: FieldFigures | None = None
    notes: tuple[str, ...] = ()

    @property
    def layout(self) -> str | None:
        """The text of ``--layout``; ``None`` if it is not needed."""
        return self.guess.spec if self.guess is not None else None

    @property
    def records(self) -> str:
        """The value of ``--records``; ``""`` if it is not needed."""
        return "" if self.content.records == "keyed" else self.content.records

    @property
    def is_readable(self) -> bool:
        """Whether there is a command line that reads the input."""
        return bool(self.content.records)

    @property
    def input_words(self) -> tuple[str, ...]:
        """The words of a command line that name the input."""
        named = (word for value in self.given for word in ("-d", value))
        return (*named, *self.store)

    @property
    def option_words(self) -> tuple[str, ...]:
        """The words of a command line that say how it is read."""
        layout = () if self.layout is None else ("--layout", self.layout)
        named = self.records and self.records != "read"
        return (*layout, *(("--records", self.records) if named else ()))

    def inspect_line(self, script: str) -> str:
        """Return the command line that writes a script."""
        words = map(shell_word, (*map(_as_argument, self.given), *self.store))
        return self._piped(f"daskmr inspect {' '.join(words)} --write {shell_path(script)}")

    def run_line(self, script: str) -> str:
        """Return the command line that runs a script which says how the input is read."""
        words = " ".join(map(shell_word, self.input_words))
        return self._piped(f"daskmr run {shell_path(script)} {words}")

    def _piped(self, line: str) -> str:
        return f"COMMAND | {line}" if self.given == ("-",) else line

    def as_dict(self) -> dict[str, Any]:
        """Return the findings for JSON."""
        content = self.content
        return {
            "input": [*self.given],
            "files": self.files,
            "bytes": self.bytes,
            "complete": self.complete,
            "layout": self.layout,
            "typed_layout": self.guess.typed or None if self.guess is not None else None,
            "needs_layout": self.guess is not None and self.guess.spec is not None,
            "skipped": [*self.skipped],
            "compressions": {name or "none": n for name, n in self.compressions.items()},
            "records": content.records or None,
            "looks": content.looks,
            "problem": content.problem or None,
            "columns": [*content.columns] or None,
            "key": self.key,
            "dimensions": [asdict(each) for each in self.dimensions],
            "fields": [
                {
                    "name": each.name,
                    "path": [*each.path],
                    "types": dict(each.types),
                    "share": round(each.share, 4),
                    "values": dict(each.values.most_common(10)),
                }
                for each in self.fields
            ],
            "first": [line[:_LONGEST] for line in content.lines[:_SHOWN]],
            "options": [*self.input_words, *self.option_words],
            "notes": [*self.notes],
        }


def _as_argument(value: str) -> str:
    return f"./{value}" if value.startswith("-") and value != "-" else value


def find_out(
    sources: Sources,
    source: Source | None = None,
    store_words: Sequence[str] = (),
    on_progress: Callable[[int, int], object] | None = None,
) -> Findings:
    """Look at a sample of the input.

    - `source`: the store, if one is given.
    - `store_words`: the words of a command line that name it, besides a URL among the `sources`.
    - `on_progress`: called with the numbers of directories listed and files found so far.
    Raises `InputError` if an input does not exist, cannot be listed, or holds no file.
    """
    with surveyed(sources, source, on_progress=on_progress) as survey:
        if not survey.files:
            raise InputError(_explain_none(survey, sources, source))
        groups = _groups(survey.files)
        looked = [_look_at(survey, files) for files in groups[:_GROUPS]]
        chosen = max(
            range(len(looked)), key=lambda n: (_worth(looked[n], groups[n][0]), len(groups[n]), -n)
        )
    return _put_together(survey, sources, store_words, groups, looked, chosen)


def _explain_none(survey: Survey, sources: Sources, source: Source | None) -> str:
    where = " and ".join([*sources.local, *([source.url] if source is not None else [])])
    if survey.unreadable:
        path, reason = next(iter(survey.unreadable.items()))
        return f"{path} cannot be read: {reason}. Correct it, or give another path."
    ignored = counted(survey.ignored, "file")
    but = f", except for {ignored}, hidden or written by daskmr" if survey.ignored else ""
    return (
        f"There is no file in {where}{but}. Check the path. To try daskmr with sample data:\n"
        "daskmr sample-data data && daskmr inspect data"
    )


# --- contents -------------------------------------------------------------------------------------


def _groups(files: Sequence[Found]) -> list[list[Found]]:
    """Group the files by their extension, without that of a compression; the largest group first."""
    groups: dict[str, list[Found]] = {}
    for file in files:
        groups.setdefault(_extension(file.path), []).append(file)
    return sorted(groups.values(), key=len, reverse=True)


def _extension(path: str) -> str:
    name = path.rpartition("/")[2]
    if compression_of(name) is not None:
        name = name.rpartition(".")[0]
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    return extension if re.fullmatch(r"[a-z][a-z0-9]{0,9}", extension) else ""


def _near(file: Found) -> str:
    """Return the path of a file from here, for a command line."""
    near = file.path if file.remote else os.path.relpath(file.place)
    return file.place if near.startswith("..") else near


def _worth(content: Content, file: Found) -> int:
    if not content.records:
        return 0
    name = file.path.rpartition("/")[2].lower()
    return 1 if name.startswith(_NOT_DATA) or content.looks in ("no data", "empty lines") else 2


def _look_at(survey: Survey, files: Sequence[Found]) -> Content:
    """Look at some files of a group, and return the content of most of them, with all their values."""
    filled = [file for file in files if file.size] or [*files]
    found: list[Content] = []
    for file in spread(filled, _LOOKED_AT):
        limit = {"limit": _STORE_BYTES} if file.remote else {}
        try:
            found.append(look(survey.open(file), _near(file), **limit))
        except InputError as error:
            found.append(Content(looks="data that cannot be read", problem=str(error)))
    kinds = Counter(each.records for each in found)
    most = max(kinds, key=lambda kind: (bool(kind), kinds[kind]))
    same = [each for each in found if each.records == most]
    others = [each for each in found if each.records != most]
    problem = same[0].problem or next((each.problem for each in found if each.problem), "")
    if not problem and others:
        problem = f"some of these files are {others[0].looks}"
    values = tuple(value for each in same for value in each.values)
    return replace(same[0], values=values, problem=problem)


# --- all together ---------------------------------------------------------------------------------


def _put_together(
    survey: Survey,
    sources: Sources,
    store_words: Sequence[str],
    groups: list[list[Found]],
    looked: list[Content],
    chosen: int,
) -> Findings:
    content, files = looked[chosen], survey.files
    extensions = _extensions(content)
    # Groups of the same format are read together, such as .log and .txt.
    alike = [n for n, each in enumerate(looked) if each.records == content.records] or [chosen]
    main = [file for n in alike for file in groups[n]]
    partly = len(main) < len(files) or survey.store is not None
    if partly and _guess(main, extensions) is None:
        choices = [groups[chosen], *(groups[n] for n in alike)]
        main = next((each for each in choices if _guess(each, extensions)), groups[chosen])
    given, notes = sources.given, []
    guess: Guess | None = None
    skipped: list[str] = []
    if not survey.named:
        guess = _guess(main, extensions)
        if guess is not None and guess.spec == "flat" and _mixed(files, main, extensions):
            guess = _only(main, guess)
        if guess is None and survey.store is not None:
            content = replace(content, records="", problem=_NO_LAYOUT)
        elif guess is None:
            given = _as_globs(sources.given)
        elif all(map(is_glob, sources.given)) and not guess.layout.fields:
            guess = None  # its matches need none
        else:
            layout = layout_of(guess, [file.path for file in main])
            skipped = misfits(layout, [file.path for file in files], extensions)
    dimensions = () if guess is None else _dimensions(guess, main)
    fields = fields_of(
        content.values,
        as_text=bool(content.header or content.columns) and content.records != "parquet",
    )
    if survey.unreadable:
        unreadable = [f"{path} ({why})" for path, why in survey.unreadable.items()]
        notes.append(f"cannot be read: {some(unreadable, _NAMED)}")
    notes += _notes(content, looked, groups, chosen)
    return Findings(
        given=given,
        store=tuple(store_words),
        files=len(files),
        bytes=sum(file.size for file in files),
        complete=survey.complete and not survey.unreadable,
        guess=guess,
        skipped=tuple(skipped),
        compressions=_compressions(main, content),
        content=content,
        dimensions=dimensions,
        fields=tuple(fields),
        key=key_field(fields) if content.records == "jsonl" else None,
        category=best_field(fields, len(content.values)),
        notes=tuple(notes),
    )


def _guess(files: Sequence[Found], extensions: frozenset[str]) -> Guess | None:
    return guess_layout([file.path for file in files], extensions)


def _extensions(content: Content) -> frozenset[str]:
    """Return the extensions of files that a run over such records reads."""
    if content.records == "keyed":
        return EXTENSIONS
    return EXTENSIONS | ({"parquet"} if content.records == "parquet" else text_extensions())


def _mixed(files: Sequence[Found], main: Sequence[Found], extensions: frozenset[str]) -> bool:
    """Check whether `flat` would also read files of another format."""
    own = {file.path for file in main}
    return any(
        file.path not in own and file.path.rpartition(".")[2].lower() in extensions
        for file in files
    )


def _only(main: Sequence[Found], guess: Guess) -> Guess:
    """Return the layout of the files with one extension in a folder, if that is all there is."""
    ends = {file.path.partition(".")[2] for file in main}
    if len(ends) == 1 and ends != {""} and not any("/" in file.path for file in main):
        return Guess(f"{{_}}.{ends.pop()}")
    return guess


def _as_globs(given: Sequence[str]) -> tuple[str, ...]:
    """Return globs of all files in folders, which are read whatever their extension."""
    return tuple(
        os.path.join(value, "**") if os.path.isdir(value) and not is_glob(value) else value
        for value in given
    )


def _dimensions(guess: Guess, files: Sequence[Found]) -> tuple[DimensionFound, ...]:
    layout = layout_of(guess, [file.path for file in files])
    counters: list[Counter[str]] = [Counter() for _ in layout.fields]
    for file in files:
        for counter, value in zip(counters, layout.dims_of(file.path) or (), strict=False):
            counter[value] += 1
    return tuple(
        DimensionFound(each.name, each.type, dict(sorted(counter.items())))
        for each, counter in zip(layout.fields, counters, strict=True)
    )


def _compressions(files: Sequence[Found], content: Content) -> dict[str, int]:
    by_name = Counter(
        "" if (found := compression_of(file.path)) is None else found.name for file in files
    )
    if content.compression and set(by_name) == {""}:  # the names do not say it
        return {content.compression: len(files)}
    return dict(by_name.most_common())


def _notes(
    content: Content, looked: Sequence[Content], groups: Sequence[Sequence[Found]], chosen: int
) -> list[str]:
    notes = []
    if content.problem:
        notes.append(f"{groups[chosen][0].path}: {content.problem}")
    if content.columns:
        names = ", ".join(f'"{name}"' for name in content.columns)
        notes.append(
            f"there is no header, so a script names the columns: input_columns = ({names},)"
        )
    if content.records == "read":
        notes.append("no format reads this, so the script defines `read(stream, dims)`")
    for number, other in enumerate(looked):
        if number != chosen and other.records != content.records:
            names = some([file.path for file in groups[number]], _NAMED)
            notes.append(f"other files are {other.looks}: {names}")
    return notes
