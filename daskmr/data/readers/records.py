"""What every reader of records provides: batches of records, in one small protocol.

A format is one module here that subclasses `Reader`, and is listed in `registry`. Formats of other
packages are registered through the entry point group ``daskmr.records``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import repeat
from operator import contains, itemgetter
from typing import Any, BinaryIO, NamedTuple

from daskmr.errors import InputError
from daskmr.text import did_you_mean, shell_word, some

__all__ = [
    "KEYED", "MISSING", "SEPARATORS", "TOO_LONG", "BadRecord", "OversizedLine", "Reader", "Reading",
    "RecordFormat", "Records", "as_text", "dicts_of", "explain_columns", "field_of", "raw_bytes",
    "take_keys", "with_keys",
]  # fmt: skip

TOO_LONG = "longer than max-record-bytes"
_COLUMNS_SHOWN, _NAME_SHOWN = 40, 200
SEPARATORS = {
    ";": ("semicolons", "csv:;"),
    "\t": ("tabs", "tsv"),
    "|": ("|", "csv:|"),
    ",": ("commas", "csv"),
}
"""How each is called, and the format whose columns it separates."""


class _Missing:
    """The type of `MISSING`; like other values that cannot be keys, it has no hash."""

    __hash__ = None  # type: ignore[assignment]


MISSING: Any = _Missing()
"""Replaces a field that a record lacks."""


class OversizedLine(str):
    """A placeholder in a batch for a line of `length` bytes that was too long to keep.

    It is an empty string, so the usual test for a tab detects it, and lines that have a tab need no
    further test. `text_bytes` is the memory that the text would have taken, if that was the reason;
    otherwise, it is `length`. `quotes` is the number of its double quotes, `start` what it begins with.

    >>> line = OversizedLine(5000)
    >>> line, line.length
    ('', 5000)
    """

    __slots__ = ("length", "quotes", "start", "text_bytes")
    length: int
    text_bytes: int
    quotes: int
    start: bytes

    def __new__(
        cls, length: int, text_bytes: int | None = None, quotes: int = 0, start: bytes = b""
    ) -> OversizedLine:
        line = super().__new__(cls)
        line.length = length
        line.text_bytes = length if text_bytes is None else text_bytes
        line.quotes, line.start = quotes, start
        return line

    def __getnewargs__(self) -> tuple[int, int, int, bytes]:  # type: ignore[override]
        return (self.length, self.text_bytes, self.quotes, self.start)


def raw_bytes(line: str) -> bytes:
    r"""Return the bytes from which `line` was decoded.

    >>> raw_bytes("caf\xe9 \udcff")
    b'caf\xc3\xa9 \xff'
    """
    return line.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class RecordFormat:
    """The format of the records of a run.

    - `name`: a format in `registry`, of a plug-in, or ``"read"`` for the script's own `read`.
    - `key`: the field whose value is the key, its names joined by dots.
    - `columns`: the columns of CSV without a header.
    - `fields`: the paths of the fields that replace the value by a tuple of their values.
    - `maybe_columns`: names that may be those of the output. Then the first row of CSV is its header,
      unless it has as many fields with other names, which is an error.
    """

    name: str = "keyed"
    key: str | None = None
    columns: tuple[str, ...] | None = None
    fields: tuple[tuple[str, ...], ...] | None = None
    maybe_columns: tuple[str, ...] | None = None

    @property
    def is_keyed(self) -> bool:
        """Check for lines of key, tab and value."""
        return self.name == "keyed"

    def as_dict(self) -> dict[str, Any]:
        """Return the format for JSON."""
        return {
            "name": self.name,
            "key": self.key,
            "columns": self.columns and list(self.columns),
            "fields": self.fields and list(map(list, self.fields)),
        }


KEYED = RecordFormat()


class BadRecord(ValueError):
    r"""A record that cannot be used: `map` raises it, and a script's `read` yields it.

    In `map` it is ``BadRecord(reason, detail="")``. In `read` it is ``BadRecord(raw, reason,
    detail="")``, in place of ``(key, value)``.

    - `raw`: the bytes of the record, which are saved; ``None`` in `map`, which need not give them.
    - `reason`: a few words by which bad records are counted; by default the name of the class.
    - `detail`: more about this record.

    >>> BadRecord(b"\x00\x01", "no magic number")
    BadRecord(raw=b'\x00\x01', reason='no magic number', detail='')
    >>> BadRecord("no user", "the fields are id, time")
    BadRecord(raw=None, reason='no user', detail='the fields are id, time')
    """

    # Also of a subclass that does not call `__init__`
    raw: Any = None
    reason: str = ""
    detail: str = ""

    def __init__(self, *about: Any, **named: Any) -> None:
        super().__init__(*about)
        has_raw = bool(about) and isinstance(about[0], bytes | OversizedLine)
        names = ("raw", "reason", "detail")[not has_raw :]
        if len(about) > len(names) or not {*names[len(about) :]}.issuperset(named.keys() - {"raw"}):
            raise TypeError(
                'BadRecord takes a reason and a detail: BadRecord("no user", "version 3"). In read, the bytes '
                'of the record come first: BadRecord(raw, "truncated").'
            )
        given = dict(zip(names, about, strict=False)) | named
        self.raw = given.get("raw")
        self.reason = given.get("reason", type(self).__name__)
        self.detail = given.get("detail", "")

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"{name}(raw={self.raw!r}, reason={self.reason!r}, detail={self.detail!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    __hash__ = ValueError.__hash__


class Records(NamedTuple):
    """A batch of records of a file.

    - `numbers`: the number of each in its file, from 1: that of its first line, or of its row.
    - `keys`: their keys, at least as many.
    - `values`: their values, with a `BadRecord` in place of each bad one.
    - `raw`: returns the bytes of a record, given its index.
    - `size`: bytes of the batch.
    - `header`: the names of the columns, if any, needed to read its `raw` again.
    """

    numbers: Sequence[int]
    keys: Iterable[Any]
    values: list[Any]
    raw: Callable[[int], bytes | OversizedLine]
    size: int = 0
    header: tuple[str, ...] = ()

    def singly(self) -> Iterator[Records]:
        """Yield each record as a batch."""
        for index, (key, value) in enumerate(zip(self.keys, self.values, strict=False)):
            raw = partial(self._raw_of, index)
            size = self.size // len(self.values)
            yield Records((self.numbers[index],), (key,), [value], raw, size, self.header)

    def _raw_of(self, index: int, _: int) -> bytes | OversizedLine:
        return self.raw(index)

    def text(self, index: int) -> str:
        """Return the bytes of a record as text, or the `OversizedLine` that replaces it."""
        return as_text(self.raw(index))


def as_text(raw: bytes | OversizedLine) -> str:
    """Decode the bytes of a record, so that `lines.raw_bytes` returns them."""
    return raw if isinstance(raw, OversizedLine) else raw.decode("utf-8", "surrogateescape")


@dataclass(frozen=True, slots=True)
class Reading:
    """A file to read, and the limits of its records.

    - `path`: its path in the data dir.
    - `dims`: its dimensions.
    - `max_record_bytes`: longer records are bad.
    - `max_text_bytes`: the most memory that the text of a record may take; ``None``: any.
    - `opened`: called with the open file, to observe the progress.
    """

    path: str
    dims: Sequence[str] = ()
    max_record_bytes: int = 1 << 30
    max_text_bytes: int | None = None
    opened: Callable[[BinaryIO], object] | None = None


class Reader:
    """The reader of one format.

    - `name`: the name of the format, as ``--records`` takes it.
    - `extensions`: extensions of its files, without the dot.
    - `unit`: what its numbers count: ``"line"``, ``"row"`` or ``"record"``.
    - `options`: the fields of a `RecordFormat` that it heeds.
    - `splits`: where large files are cut, so that several tasks read them: ``"lines"``, at any line
      end of the data that `read_lines` reads; ``"unquoted lines"``, the same for plain files, unless
      there is a double quote before; ``"row groups"`` of Parquet; ``""``: nowhere. A reader of
      lines numbers those of each part from 1.
    """

    name = ""
    extensions: tuple[str, ...] = ()
    unit = "line"
    options: frozenset[str] = frozenset()
    splits = ""

    def check(self, form: RecordFormat) -> None:
        """Raise InputError if the format cannot be read with these options, or on this machine."""
        for option in ("key", "columns", "fields"):
            if getattr(form, option) is not None and option not in self.options:
                raise InputError(
                    f"{option!r} does not apply to records of the format {form.name!r}. Omit it, or name "
                    "another format with --records."
                )

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        """Read a file in batches whose memory is bounded.

        - `source`: its path, or an open file.
        Raises `CorruptFileError` for a damaged file, `TaskFailed` for one that cannot be read.
        """
        raise NotImplementedError

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        """Read the raw bytes of one record again."""
        raise NotImplementedError


def explain_columns(names: Sequence[str], asked: object = None, *, is_text: bool = False) -> str:
    """Return the columns of a file for messages, and which of them is like the one that was asked for.

    - `is_text`: they were separated by a character, which may be another one.

    >>> explain_columns(["zone", "n"], "zon")
    "The columns are 'zone', 'n'. Did you mean 'zone'?"
    >>> explain_columns(["zone;n"], "zone", is_text=True)
    "The columns are 'zone;n'. To separate them by semicolons: --records 'csv:;'"
    """
    text = f"The columns are {some([*map(repr, names)], _COLUMNS_SHOWN)}."
    if is_text and names[0].startswith("#"):
        return f"{text} To skip lines that begin with #: --records 'csv:#'"
    if is_text and len(names) == 1:
        for separator, (described, form) in SEPARATORS.items():
            if separator in names[0]:
                return f"{text} To separate them by {described}: --records {shell_word(form)}"
    if like := did_you_mean(str(asked)[:_NAME_SHOWN], tuple(names)):
        return text + like
    advice = " If the file has no header, name them in the script: input_columns = (...)"
    return text + (advice if is_text else "")


@lru_cache
def dicts_of(names: tuple[str, ...]) -> Callable[[Iterable[Sequence[Any]]], list[dict[str, Any]]]:
    """Return a function from rows to dicts with these names.

    Like a named tuple, it is compiled for its names, since ``dict(zip(names, row))`` takes twice as long.

    >>> dicts_of(("a", "b"))([(1, 2), (3, 4)])
    [{'a': 1, 'b': 2}, {'a': 3, 'b': 4}]
    """
    places = range(len(names))
    items = ", ".join(f"{names[place]!r}: v{place}" for place in places)
    row = ", ".join(f"v{place}" for place in places)
    made: Any = eval(f"lambda rows: [{{{items}}} for [{row}] in rows]", {})
    return made  # type: ignore[no-any-return]


def field_of(value: Any, name: str) -> Any:
    """Return the field of a record by its dotted name, or `MISSING`.

    >>> field_of({"user": {"id": 7}}, "user.id"), field_of({"a.b": "x"}, "a.b")
    (7, 'x')
    >>> field_of({"user": None}, "user.id") is MISSING
    True
    """
    found = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    if found is MISSING and "." in name:
        found = value
        for each in name.split("."):
            found = found.get(each, MISSING) if isinstance(found, dict) else MISSING
    return found


def with_keys(records: Records, key: str | None, path: str) -> Records:
    """Take the keys of a batch from a field of its values, or from the path of its file."""
    if key is None:
        return records._replace(keys=repeat(path))
    try:
        found = _fields(records.values, key)
    except (KeyError, TypeError):  # a value that is bad, or lacks the field
        found = [field_of(value, key) for value in records.values]
    return take_keys(records, found, key)


def _fields(values: Sequence[Any], name: str) -> Sequence[Any]:
    """Return the field of each value; raise KeyError or TypeError if it may be missing in one."""
    if "." in name and not any(map(contains, values, repeat(name))):
        for each in name.split("."):
            values = [*map(itemgetter(each), values)]
        return values
    return [*map(itemgetter(name), values)]


def take_keys(records: Records, keys: Sequence[Any], name: str) -> Records:
    """Take `keys`, the fields of this name; a record is bad if its own is `MISSING`, or not a scalar."""
    if None in {kind.__hash__ for kind in {*map(type, keys)}}:
        values, details = records.values, dict[str, str]()
        for index, key in enumerate(keys):
            if type(key).__hash__ is None and type(values[index]) is not BadRecord:
                reason = (
                    f"no field {name}" if key is MISSING else f"the field {name} is not a scalar"
                )
                if reason not in details:  # once a batch, since similar names take long to find
                    hint = _hint(key, name, values[index])
                    details[reason] = hint and f"{reason}{hint}"
                values[index] = BadRecord(records.raw(index), reason, details[reason])
    return records._replace(keys=keys)


def _hint(key: Any, name: str, value: Any) -> str:
    """Return the names that are similar to that of a key, or those below it, if there are any."""
    if isinstance(key, dict) and key:
        return (
            f": it is an object, so name one of its fields, as with --key {name}.{next(iter(key))}"
        )
    outer = name.rpartition(".")[0]
    fields = field_of(value, outer) if outer else value
    if key is not MISSING or not isinstance(fields, dict):
        return ""
    names = (f"{outer}.{each}" if outer else str(each) for each in fields)
    like = did_you_mean(name, tuple(names))
    return like and f".{like}"
