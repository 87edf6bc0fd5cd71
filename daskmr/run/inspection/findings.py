"""Find out the layout, the format and the fields of the input, and the command line that reads it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from daskmr.data.inspection.contents import Content, look
from daskmr.data.inspection.fields import FieldFigures, best_field, fields_of
from daskmr.data.inspection.names import Guess, guess_layout, layout_of, misfits, spread
from daskmr.data.inspection.survey import Found, Survey, surveyed
from daskmr.data.readers.registry import text_extensions
from daskmr.data.readers.suffixes import EXTENSIONS, compression_of
from daskmr.data.sources.globs import is_glob
from daskmr.errors import InputError
from daskmr.files import free_name
from daskmr.text import counted, shell_path, shell_word, some

if TYPE_CHECKING:
    from daskmr.data.sources.given import Sources
    from daskmr.store.source import Source

__all__ = ["DimensionFound", "Findings", "find_out", "sample_line"]

_GROUPS = 8  # kinds of files that are looked at
_LOOKED_AT = 3  # files of each
_STORE_BYTES = 1 << 16  # of the data of an object
_WORDS = 4  # first words of names that distinguish kinds of files
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
    - `read`: the number of files with such content.
    - `category`: the field whose values are worth counting, if there is one.
    - `is_damaged`: some of the files are, which a run must skip.
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
    read: int
    dimensions: tuple[DimensionFound, ...] = ()
    fields: tuple[FieldFigures, ...] = ()
    category: FieldFigures | None = None
    is_damaged: bool = False
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
        return self.lines_to_try(script)[-1]

    def lines_to_try(self, script: str, *more: str) -> list[str]:
        """Return the command lines that check and run a script, with more words; damage fails a check."""
        words = map(shell_word, (*self.input_words, *more))
        line = f"{shell_path(script)} {' '.join(words)}"
        if self.is_damaged:
            return [self._piped(f"daskmr run {line} --skip-corrupt-files")]
        return [self._piped(f"daskmr {command} {line}") for command in ("check", "run")]

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
            "skipped": [*self.skipped],
            "compressions": {name or "none": n for name, n in self.compressions.items()},
            "records": content.records or None,
            "read": self.read,
            "looks": content.looks,
            "problem": content.problem or None,
            "columns": [*content.columns] or None,
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
        for group in groups[:_GROUPS]:
            _look_at(survey, group)
        groups = [part for group in groups for part in _by_name(survey, group)]
    return _put_together(survey, sources, store_words, groups)


def _explain_none(survey: Survey, sources: Sources, source: Source | None) -> str:
    where = " and ".join([*sources.local, *([source.url] if source is not None else [])])
    if survey.unreadable:
        path, reason = next(iter(survey.unreadable.items()))
        return f"{path} cannot be read: {reason}. Correct it, or give another path."
    ignored = counted(survey.ignored, "file")
    but = f", except for {ignored}, hidden or written by daskmr" if survey.ignored else ""
    return f"There is no file in {where}{but}. Check the path. To try daskmr, use {sample_line()}"


def sample_line() -> str:
    """Return the command line that makes sample data and looks at it, on a line of its own."""
    folder = free_name("data")
    return f"sample data:\ndaskmr sample-data {folder} && daskmr inspect {folder}"


# --- contents -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Group:
    """Files with the same extension, apart from that of a compression.

    - `word`: the first word of their names, if other files of this extension have other content.
    - `content`: that of most of the files that were looked at, with the values of all of these.
    - `problems`: of each file that was looked at and has one, by its path.
    """

    files: list[Found] = field(default_factory=list)
    content: Content | None = None
    problems: dict[str, str] = field(default_factory=dict)
    is_damaged: bool = False
    word: str = ""

    @property
    def worth(self) -> tuple[int, int]:
        """The rank among the groups: how useful its content is, and the number of its files."""
        if self.content is None or not self.content.records:
            return 0, len(self.files)
        name = self.files[0].path.rpartition("/")[2].lower()
        is_odd = name.startswith(_NOT_DATA) or self.content.looks in ("no data", "empty lines")
        return 1 if is_odd else 2, len(self.files)


def _groups(files: Sequence[Found]) -> list[_Group]:
    """Group the files, the largest group first."""
    groups: dict[str, _Group] = {}
    for file in files:
        groups.setdefault(_extensions_of(file.path)[0], _Group()).files.append(file)
    return sorted(groups.values(), key=lambda group: len(group.files), reverse=True)


def _extensions_of(path: str) -> tuple[str, str]:
    """Return the extension of a file, and that of its compression; each may be empty.

    >>> _extensions_of("a/b.x.json.gz"), _extensions_of("a/b")
    (('json', 'gz'), ('', ''))
    """
    name, packed = path.rpartition("/")[2], ""
    if compression_of(name) is not None:
        name, _, packed = name.rpartition(".")
    extension = name.rpartition(".")[2].lower() if "." in name else ""
    return extension if re.fullmatch(r"[a-z][a-z0-9]{0,9}", extension) else "", packed


def _near(file: Found) -> str:
    """Return the path of a file from here, for a command line."""
    near = file.path if file.remote else os.path.relpath(file.place)
    return file.place if near.startswith("..") else near


def _look_at(survey: Survey, group: _Group) -> None:
    """Look at some files of a group."""
    files = spread([file for file in group.files if file.size] or group.files, _LOOKED_AT)
    found: list[Content] = []
    for file in files:
        limit = {"limit": _STORE_BYTES} if file.remote else {}
        try:
            one = look(survey.open(file), _near(file), **limit)
        except InputError as error:
            one = Content(looks="data that cannot be read", problem=str(error))
        found.append(one)
        if one.problem:
            group.problems[file.path] = one.problem
        group.is_damaged = group.is_damaged or one.is_damaged
    kinds = Counter((*each.kind, each.columns) for each in found)
    most = max(kinds, key=lambda kind: (bool(kind[0]), kinds[kind]))
    same = [each for each in found if (*each.kind, each.columns) == most]
    for each, file in zip(found, files, strict=True):
        if each not in same and not each.problem:
            is_alike = each.kind == most[:2]
            group.problems[file.path] = "its columns differ" if is_alike else f"it is {each.looks}"
    values = tuple(value for each in same for value in each.values)
    problem = next(iter(group.problems.values()), "")
    group.content = replace(same[0], values=values, problem=problem)


def _by_name(survey: Survey, group: _Group) -> list[_Group]:
    """Return a group, divided by the first words of the names if these tell its contents apart."""
    words: dict[str, _Group] = {}
    for file in group.files if group.content is not None else ():
        found = re.match("[A-Za-z]*", file.path.rpartition("/")[2])
        word = found[0] if found else ""
        words.setdefault(word, _Group(word=word)).files.append(file)
        if len(words) > _WORDS:
            return [group]
    if len(words) < 2 or "" in words:
        return [group]
    for each in words.values():
        _look_at(survey, each)
    contents = [each.content for each in words.values()]
    kinds = {each.kind for each in contents if each and each.records}  # not of damaged files
    return [*words.values()] if len(kinds) > 1 else [group]


# --- all together ---------------------------------------------------------------------------------


def _put_together(
    survey: Survey, sources: Sources, store_words: Sequence[str], groups: list[_Group]
) -> Findings:
    files = survey.files
    chosen = max(groups, key=lambda group: group.worth)
    assert chosen.content is not None
    content = chosen.content
    extensions = _extensions(content)
    # Groups of the same format are read together, such as .log and .txt.
    alike = [each for each in groups if each.content and each.content.kind == content.kind]
    if any(each.word for each in alike):
        alike = [chosen]
    main = [file for group in alike for file in group.files]
    partly = len(main) < len(files) or survey.store is not None
    if partly and _guess(main, extensions) is None:
        alike = [next((each for each in alike if _guess(each.files, extensions)), chosen)]
        main = alike[0].files
    given, guess, skipped = sources.given, None, []
    if content.records:
        own, others = ({os.path.abspath(file.place) for file in each} for each in (main, files))
        given = tuple(each for each in given if os.path.abspath(each) not in others - own)
    if content.records and not survey.named:
        guess = _guess(main, extensions)
        if guess and guess.spec is not None and _mixed(guess, files, main, extensions):
            guess = _only(main, guess, chosen.word) or (guess if survey.store is not None else None)
        if guess is None and survey.store is not None:
            content = replace(content, records="", problem=_NO_LAYOUT)
        elif guess is None:
            ends = _ends(main) if len(main) < len(files) else {""}
            given = (*_as_globs(given, ends, chosen.word),)
        elif all(map(is_glob, sources.given)) and not guess.layout.fields:
            guess = None  # its matches need none
        else:
            layout = layout_of(guess, [file.path for file in main])
            skipped = misfits(layout, [file.path for file in files], extensions)
    values = [value for each in alike if each.content for value in each.content.values]
    is_table = bool(content.header)
    fields = fields_of(values, as_text=is_table and content.records != "parquet")
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
        read=len(main),
        dimensions=() if guess is None else _dimensions(guess, main),
        fields=tuple(fields),
        category=best_field(fields, len(values), is_table),
        is_damaged=any(each.is_damaged for each in alike),
        notes=tuple(_notes(survey, content, groups, alike)),
    )


def _guess(files: Sequence[Found], extensions: frozenset[str]) -> Guess | None:
    return guess_layout([file.path for file in files], extensions)


def _extensions(content: Content) -> frozenset[str]:
    """Return the extensions of files that a run over such records reads."""
    if content.records == "parquet":
        return frozenset({"parquet"})
    return EXTENSIONS if content.records == "keyed" else EXTENSIONS | text_extensions()


def _mixed(
    guess: Guess, files: Sequence[Found], main: Sequence[Found], extensions: frozenset[str]
) -> bool:
    """Check whether a layout also lists files of another format."""
    own = {file.path for file in main}
    others = [file.path for file in files if file.path not in own]
    return len(misfits(layout_of(guess, own), others, extensions)) < len(others)


def _only(main: Sequence[Found], guess: Guess, word: str) -> Guess | None:
    """Return the layout of files with one extension, or first word; ``None`` if there is none."""
    ends = _ends(main)
    end = ends.pop() if len(ends) == 1 and not word else ""
    spec = guess.spec or ""
    if spec == "hive":
        names = layout_of(guess, [file.path for file in main]).field_names
        untyped = "/".join([*(f"{name}={{{name}}}" for name in names), "{_}"])
        spec = guess.typed or (untyped if all(map(str.isidentifier, names)) else "")
    elif spec == "flat" and not any("/" in file.path for file in main):
        spec = "{_}"
    if not (word or end) or spec.rpartition("/")[2] != "{_}":
        return None
    return Guess(f"{spec.removesuffix('{_}')}{word}{{_}}{end}")


def _as_globs(given: Sequence[str], ends: Collection[str], word: str) -> Iterator[str]:
    """Yield globs of the files in folders whose names end so, whatever extensions a layout lists."""
    for value in given:
        if os.path.isdir(value) and not is_glob(value):
            yield from (
                os.path.join(value, f"**/{word}*{end}" if word or end else "**")
                for end in sorted(ends)
            )
        else:
            yield value


def _ends(files: Sequence[Found]) -> set[str]:
    """Return the ends of the names; only ``""`` if some have no extension."""
    pairs = {_extensions_of(file.path) for file in files}
    has_all = all(extension for extension, _ in pairs)
    return {"".join(f".{each}" for each in pair if each) for pair in pairs} if has_all else {""}


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
    survey: Survey, content: Content, groups: Sequence[_Group], alike: Sequence[_Group]
) -> Iterator[str]:
    if survey.unreadable:
        unreadable = [f"{path} ({why})" for path, why in survey.unreadable.items()]
        yield f"cannot be read: {some(unreadable, _NAMED)}"
    if content.problem == _NO_LAYOUT:
        yield _NO_LAYOUT
    for group in alike:
        yield from (f"{path}: {problem}" for path, problem in group.problems.items())
    if content.columns:
        names = ", ".join(f'"{name}"' for name in content.columns)
        yield f"a script names the columns, since {content.why}: input_columns = ({names},)"
    if content.records == "read":
        yield "no format reads this, so the script defines `read(stream, dims)`"
    for other in groups:
        if not any(other is each for each in alike):
            names = some([file.path for file in other.files], _NAMED)
            looks = "not looked at" if other.content is None else other.content.looks
            share = f"{len(other.files):,} of {counted(len(survey.files), 'file')}"
            yield f"{share} ({names}): {next(iter(other.problems.values()), looks)}"
