"""What the user's functions write to.

``write`` is called once a pair, so the map's context makes it a closure over what it fills: no
attribute is looked up on the way. What it is given is taken as it is then; values that can change are copied.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import fractions
import pickle
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from daskmr import by_value
from daskmr.keys import canonical

__all__ = [
    "COUNTED",
    "HUGE",
    "LARGE",
    "CombineContext",
    "ItemContext",
    "MapContext",
    "TextContext",
    "UnpicklableValueError",
    "dumps",
    "measured",
    "snapshot",
]

_ATOMS = frozenset(
    (
        str,
        int,
        float,
        bool,
        type(None),
        bytes,
        complex,
        datetime.date,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        uuid.UUID,
    )
)


_MANY = 64  # values below `HUGE`
_CLOCKS = frozenset((datetime.datetime, datetime.time))  # atoms, unless their zone is none
_STANDARD = ("builtins", "datetime", "zoneinfo")


COUNTED = "counted"  # stands in `hurry` for counts, which wait for the end of the record

_LARGEST = 1 << 64  # that is added to a counter at a time
_MOST_COUNTERS = 1000  # in one task: names are for people to read, and travel with every result
_LONGEST_NAME = 200

HUGE = 1 << 18  # bytes of one value, or line, that is not to wait for others
LARGE = 4096  # bytes from which on the size of a value counts by itself, not by that of a sample


class UnpicklableValueError(TypeError):
    """A value that cannot travel between processes."""


def snapshot(value: Any) -> Any:
    """Return `value` as it is now: itself when it cannot change, a copy otherwise.

    Raises
    ------
    UnpicklableValueError
        When the value can neither be kept nor be copied by pickle.

    Examples
    --------
    >>> row = ["a", 1]
    >>> kept = snapshot(row)
    >>> row.clear(); kept
    ['a', 1]
    """
    return measured(value)[0]


def measured(value: Any) -> tuple[Any, int]:
    """Return the `snapshot` of a value, and the bytes that it takes, counting only what can be many."""
    kind = type(value)
    if kind is tuple or kind is list:
        size = 8 * len(value)
        for item in value:
            if type(item) is str or type(item) is bytes:
                size += len(item)
            elif type(item) not in _ATOMS:
                break
        else:
            return (value if kind is tuple else value[:]), size
    if kind is str or kind is bytes:
        return value, len(value)
    if kind in _ATOMS:
        return value, 0
    if kind in _CLOCKS and type(value.tzinfo).__module__ in _STANDARD:
        return value, 0
    try:
        blob = dumps(value)
        return pickle.loads(blob), 2 * len(blob)
    except MemoryError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
    raise UnpicklableValueError(
        f"A value of type {kind.__name__} cannot be written, as it cannot be pickled ({reason}). "
        "Write plain data instead: numbers, text, lists, dicts."
    )


def dumps(value: Any) -> bytes:
    """Pickle `value`; objects of classes that a notebook or ``__main__`` defines by value."""
    try:
        return pickle.dumps(value, 5)
    except (AttributeError, TypeError, pickle.PicklingError):
        blob = by_value.dumps(value)
        if b"__main__" not in blob:
            raise  # what pickle refuses for another reason
        return blob


class CounterError(TypeError):
    """`context.counter` was called with what it cannot count; no ValueError, as no record is bad."""


class _Counting:
    """``context.counter``, and taking back what a record has counted that turns out to be bad.

    Whoever calls the user's function keeps or drops what has been counted before the next record;
    `COUNTED` in `hurry` says that there is something.
    """

    __slots__ = ()

    counted: dict[tuple[str, str], int]
    counters: dict[tuple[str, str], int]
    hurry: list[Any]

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Add `n` to the counter `name` of `group`, which the summary shows.

        The sum over the whole job is exact: a task that is tried again counts once, and a record
        that turns out to be bad does not count.
        """
        counted = self.counted
        plain = type(group) is str and type(name) is str and type(n) is int
        if not (plain and -_LARGEST < n < _LARGEST):
            check_counter(group, name, n)
            group, name, n = str(group), str(name), int(n)
        known = counted.get((group, name))
        if known is None:
            check_counter(group, name, n)
            self._check_number(group, name)
            if not counted:
                self.hurry.append(COUNTED)
            known = 0
        counted[group, name] = known + n

    def _check_number(self, group: str, name: str) -> None:
        counters, counted = self.counters, self.counted
        if len(counters) + len(counted) < _MOST_COUNTERS or (group, name) in counters:
            return
        if len(counters.keys() | counted.keys()) >= _MOST_COUNTERS:
            raise CounterError(
                f"There are more than {_MOST_COUNTERS:,} counters, the last one being {group!r}, "
                f"{name!r}. Counters are a few figures for people to read; what there are many of "
                "belongs in the output: context.write(key, 1)."
            )

    def keep_counts(self) -> None:
        """Take what has been counted for certain."""
        counters = self.counters
        for name, n in self.counted.items():
            counters[name] = counters.get(name, 0) + n
        self.counted.clear()


def check_counter(group: Any, name: Any, n: Any) -> None:
    """Raise CounterError for arguments that ``context.counter`` does not take."""
    for what, text in (("group", group), ("name", name)):
        if not isinstance(text, str):
            raise CounterError(
                f"context.counter takes a group and a name as text, and the {what} is {text!r:.80}: "
                'write context.counter("group", "name"), or str() of what it is.'
            )
        if len(text) > _LONGEST_NAME:
            raise CounterError(
                f"The {what} of a counter has {len(text):,} characters, more than {_LONGEST_NAME}; it "
                f"begins with {text[:40]!r}."
            )
    if not isinstance(n, int):
        raise CounterError(
            f"context.counter adds whole numbers, and was given {n!r:.80} for {group!r}, {name!r}: "
            'write context.counter("group", "name", 2).'
        )
    if not -_LARGEST < n < _LARGEST:  # what has too many digits, no JSON can be written of
        raise CounterError(
            f"context.counter was given a number of {n.bit_length():,} bits for {group!r}, {name!r}; "
            "64 are the most."
        )


class MapContext(_Counting):
    """What `map` writes to when the job reduces: straight into the groups of the partition.

    Attributes
    ----------
    groups : defaultdict of list
        The values of each key, in the order in which they were written.
    keys : list
        The keys, in the order in which they were written, until somebody clears the list.
    large : list of (key, int)
        The keys of values that are larger than `LARGE`, with their sizes in bytes, until somebody
        clears the list; those of a record that was taken back may be among them.
    hurry : list
        Not empty when much has been written, or something counted, until somebody clears it.
    counted, counters : dict
        What the record has counted so far, and what those before it have.

    Examples
    --------
    >>> context = MapContext()
    >>> context.write("a", 1)
    >>> context.write("b", 2)
    >>> context.write("a", 3)
    >>> dict(context.groups), context.keys
    ({'a': [1, 3], 'b': [2]}, ['a', 'b', 'a'])
    """

    __slots__ = ("counted", "counters", "groups", "hurry", "keys", "large", "write")

    groups: defaultdict[Any, list[Any]]
    keys: list[Any]
    large: list[tuple[Any, int]]
    write: Callable[[Any, Any], None]

    def __init__(self) -> None:
        groups: defaultdict[Any, list[Any]] = defaultdict(list)
        keys: list[Any] = []
        large: list[tuple[Any, int]] = []
        hurry: list[Any] = []
        atoms = _ATOMS

        def note(key: Any, size: int) -> None:
            large.append((key, size))
            if size > HUGE or len(large) > _MANY:
                hurry.append(None)

        def write(key: Any, value: Any) -> None:
            if type(key) is not str:
                key = canonical(key)
            if type(value) is not int:
                kind = type(value)
                if kind is str or kind is bytes:
                    if len(value) > LARGE:
                        note(key, len(value))
                elif kind not in atoms:
                    value, size = measured(value)
                    if size > LARGE:
                        note(key, size)
            groups[key].append(value)
            keys.append(key)  # looked up as a method, it costs half of what a bound one does

        self.groups = groups
        self.keys = keys
        self.large = large
        self.hurry = hurry
        self.write = write
        self.counted = {}
        self.counters = {}

    def take_back(self, mark: int) -> None:
        """Undo what was written since `keys` had the length `mark`, and what was counted."""
        self.counted.clear()
        groups, keys = self.groups, self.keys
        for key in reversed(keys[mark:]):
            values = groups[key]
            values.pop()
            if not values:
                del groups[key]  # the key that is printed is the first of a record that counts
        del keys[mark:]

    def __getattr__(self, name: str) -> Any:
        if name in ("writeline", "writecsv"):
            raise AttributeError(
                f"context.{name} writes to the output, so it belongs in reduce (or in the map of a "
                "job without reduce). In this map use context.write(key, value)."
            )
        raise AttributeError(
            f"the map context has no attribute {name!r}; it has write(key, value) "
            "and counter(group, name)"
        )


class CombineContext:
    """What `combine` writes to: one value under the key that it was given, or nothing.

    Examples
    --------
    >>> context = CombineContext("k")
    >>> context.write("k", 3)
    >>> context.written
    [3]
    """

    __slots__ = ("key", "written")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.written: list[Any] = []

    def write(self, key: Any, value: Any) -> None:
        """Replace the values that were combined by `value`."""
        if type(key) is not str:
            key = canonical(key)
        if key is not self.key and key != self.key:
            raise CombineError(
                f"combine was given the key {self.key!r} and wrote under another, {key!r}; "
                "it may write one value under its own key only."
            )
        if self.written:
            raise CombineError(
                f"combine wrote twice under the key {key!r}; it may write one value, which stands "
                "for all that it was given."
            )
        self.written.append(value if type(value) in _ATOMS else snapshot(value))

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Count nothing: how often combine runs is no property of the data."""
        check_counter(group, name, n)


class CombineError(TypeError):
    """`combine` wrote what would lose or misplace data."""


class _Separated(_Counting):
    """Separators that `setup_reduce` may set, and checking them; counting."""

    field_separator = "\t"
    record_separator = "\n"

    def check_separators(self) -> None:
        """Raise TypeError where `setup_reduce` set a separator that is not text."""
        for name in ("field_separator", "record_separator"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(
                    f"context.{name} was set to {getattr(self, name)!r}; it must be a str."
                )


class TextContext(_Separated):
    """What `reduce` writes to, and `map` in a job without reduce: the lines of the output.

    Attributes
    ----------
    field_separator, record_separator : str
        A tab and a newline, until `setup_reduce` sets others.
    written : list of str
        What was written, until somebody clears it.
    hurry : list
        Not empty when much has been written, or something counted, until somebody clears it.
    counted, counters : dict
        As those of a `MapContext`.

    Examples
    --------
    >>> context = TextContext()
    >>> context.write("a", 1)
    >>> context.writeline("b")
    >>> context.writecsv([1, "x,y"])
    >>> context.written
    ['a\\t1\\n', 'b\\n', '1,"x,y"\\r\\n']
    """

    def __init__(self) -> None:
        self.written: list[str] = []
        self.hurry = []
        self.counted = {}
        self.counters = {}
        self._append = self.written.append
        self._csv = csv.writer(_Sink(self._add))

    def write(self, key: Any, value: Any) -> None:
        """Write `key`, the field separator, `value` and the record separator."""
        text = f"{key!s}{self.field_separator}{value!s}{self.record_separator}"
        self._append(text)
        if len(text) > HUGE:
            self.hurry.append(None)

    def writeline(self, text: Any) -> None:
        """Write `text` and the record separator."""
        self._add(f"{text!s}{self.record_separator}")

    def writecsv(self, values: Any) -> None:
        """Write a row in the default dialect of Python's ``csv``: commas and ``\\r\\n``."""
        self._csv.writerow(values)

    def _add(self, text: str) -> None:
        self._append(text)
        if len(text) > HUGE:
            self.hurry.append(None)


class ItemContext(_Separated):
    """What `reduce` writes to when there is no output file: pairs, and lines as ``str``.

    Attributes
    ----------
    written, hurry, counted, counters
        As those of a `TextContext`.
    size : int
        Bytes of what is large in `written`, until somebody sets it back.

    Examples
    --------
    >>> context = ItemContext()
    >>> context.write("a", 1)
    >>> context.writecsv([1, 2])
    >>> context.written
    [('a', 1), '1,2']
    """

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.hurry = []
        self.counted = {}
        self.counters = {}
        self.size = 0
        self._csv = csv.writer(_Sink(self._add_row))

    def _add_row(self, line: str) -> None:
        self._add(line.removesuffix("\r\n"), len(line))

    def _add(self, item: Any, size: int) -> None:
        self.written.append(item)
        self.size += size
        if size > HUGE:
            self.hurry.append(None)

    def write(self, key: Any, value: Any) -> None:
        """Yield the pair `key`, `value` as it is now."""
        key, key_size = measured(key)
        value, value_size = measured(value)
        self._add((key, value), key_size + value_size)

    def writeline(self, text: Any) -> None:
        """Yield `text` as a line."""
        text = str(text)
        self._add(text, len(text))

    def writecsv(self, values: Any) -> None:
        """Yield a row in the default dialect of Python's ``csv``, without its line end."""
        self._csv.writerow(values)


class _Sink:
    """The file that ``csv.writer`` believes it writes to."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self.write = write
