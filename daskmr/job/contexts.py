"""What the user's functions write to.

``write`` is called once a pair, so the map's context makes it a closure over what it fills: no
attribute is looked up on the way. A value is taken as it is then, and as a tree: `snapshot` copies what
can change, so that no two places in what was written are one object.

The script's functions see a `UserContext`, which holds the functions to write with and whatever
attributes the script sets. A context is closed when its task ends; a write to it then raises.
"""

from __future__ import annotations

import csv
import datetime
import decimal
import fractions
import io
import os
import pickle
import sys
import threading
import types
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from operator import countOf
from typing import Any, TypeVar

from daskmr.job import pickling
from daskmr.job.keys import canonical, name_key

__all__ = [
    "COUNTED",
    "EACH",
    "HUGE",
    "LARGE",
    "MOST_LATER",
    "CombineContext",
    "ItemContext",
    "MapContext",
    "StaleContextError",
    "TextContext",
    "UnpicklableValueError",
    "UserContext",
    "dumps",
    "late_writes",
    "measured",
    "snapshot",
]

_T = TypeVar("_T")

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
_TEXTS = frozenset((str, bytes))
_SMALL = frozenset((int, float, bool, type(None)))
_COUNTED_AT = 1024  # keys, so that they are still in the cache of the core
_PAIRS_EACH = 16  # as many pairs may wait as there may be different keys
_MOST_TEXT = 1 << 23  # characters of keys that may wait, equal ones counted each time
MOST_LATER = 1 << 15  # different keys: a hash table of as many still fits the cache of a core
_STANDARD = ("builtins", "datetime", "zoneinfo")


# Stand in `hurry` for what waits for the end of the record: counts, and what `write_each` was given.
COUNTED = "counted"
EACH = "each"

_LARGEST = 1 << 64  # that is added to a counter at a time
_MOST_COUNTERS = 1000  # in one task: names are for people to read, and travel with every result
_LONGEST_NAME = 200
_DEEPER = 1000  # calls: some 100 would do, as tasks begin at about the same depth

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
    if kind is tuple or kind is list or kind is dict:
        size = 8 * len(value)
        for item in value:
            if type(item) is str or type(item) is bytes:
                size += len(item)
            elif type(item) not in _ATOMS:
                break
        else:
            if kind is tuple:
                return value, size
            if kind is list:
                return value[:], size
            for item in value.values():
                if type(item) is str or type(item) is bytes:
                    size += len(item)
                elif type(item) not in _ATOMS:
                    break
            else:
                return value.copy(), 2 * size
    if kind is str or kind is bytes:
        return value, len(value)
    if kind in _ATOMS:
        return value, 0
    if kind in _CLOCKS and type(value.tzinfo).__module__ in _STANDARD:
        return value, 0
    try:
        return _copy_as_tree(value)
    except MemoryError:
        raise
    except RecursionError:
        reason = ""
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
    if not reason:
        raise UnpicklableValueError(
            f"A value of type {kind.__name__} cannot be written, as it is nested too deeply to be "
            "pickled. Write it as text, or as a list of its parts."
        )
    if _can_be_pickled(value):  # with a memo, which a tree does without
        raise UnpicklableValueError(
            f"A value of type {kind.__name__} cannot be written, as it holds itself: what is written is "
            "a tree. Write the data without references back to what contains it."
        )
    raise UnpicklableValueError(
        f"A value of type {kind.__name__} cannot be written, as it cannot be pickled ({reason}). "
        "Write plain data instead: numbers, text, lists, dicts."
    )


class _Pickler:
    """Pickles without a memo, so that an object that stands in two places is copied twice."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        pickler = pickle.Pickler(types.SimpleNamespace(write=self.pieces.append), 5)
        pickler.fast = True
        self.dump = pickler.dump


# Each is used by one call at a time: pickling may run code of the script, which may write as well.
_picklers: list[_Pickler] = []


def _copy_as_tree(value: Any) -> tuple[Any, int]:
    """Return a copy of `value` without shared objects, and the bytes that it takes."""
    try:
        pickler = _picklers.pop()
    except IndexError:
        pickler = _Pickler()
    try:
        pickler.dump(value)
    except (AttributeError, TypeError, pickle.PicklingError):
        size = 2 * len(dumps(value))  # raises for a value that can never travel
        return _copy_by_identity(value), size
    pieces = pickler.pieces
    blob = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    pieces.clear()
    _picklers.append(pickler)
    return pickle.loads(blob), 2 * len(blob)


def _copy_by_identity(value: Any) -> Any:
    """Copy a value whose classes cannot be imported, as those of ``__main__``: the copy keeps them."""
    kept: dict[int, Any] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> int | None:
            if not isinstance(value, type | types.FunctionType):
                return None
            kept[id(value)] = value
            return id(value)

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, number: int) -> Any:
            return kept[number]

    with io.BytesIO() as file:
        pickler = Pickler(file, 5)
        pickler.fast = True
        pickler.dump(value)
        file.seek(0)
        return Unpickler(file).load()


def _can_be_pickled(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


def dumps(value: Any) -> bytes:
    """Pickle `value`; objects of classes that a notebook or ``__main__`` defines by value."""
    try:
        return pickle.dumps(value, 5)
    except RecursionError:
        return _dumps_deeper(value)
    except (AttributeError, TypeError, pickle.PicklingError):
        blob = pickling.dumps(value)
        if b"__main__" not in blob:
            raise  # what pickle refuses for another reason
        return blob


def _dumps_deeper(value: Any) -> bytes:
    """Pickle what could be pickled when it was written, where fewer calls were under way."""
    most = sys.getrecursionlimit()
    sys.setrecursionlimit(most + _DEEPER)
    try:
        return pickle.dumps(value, 5)
    finally:
        sys.setrecursionlimit(most)


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


class UserContext:
    """The context as the script's functions see it: what writes, and attributes of the script's own.

    Attributes that the script sets (``context.seen = {}``) last as long as the task.

    Examples
    --------
    >>> context = MapContext().user
    >>> context.seen = {}
    >>> context.write("a", 1)
    """

    __slots__ = ("__dict__", "counter", "write", "write_each")

    write: Callable[[Any, Any], None]
    write_each: Callable[[Iterable[Any], Any], None]
    counter: Callable[..., None]

    def __init__(self, writer: Any) -> None:
        self.write, self.write_each = writer.write, writer.write_each
        self.counter = writer.counter

    def __getattr__(self, name: str) -> Any:
        if name in ("writeline", "writecsv"):
            raise AttributeError(
                f"context.{name} writes to the output, so it belongs in reduce (or in the map of a "
                "job without reduce). In this map use context.write(key, value)."
            )
        functions = [f"{name}()" for name in UserTextContext.FUNCTIONS if hasattr(type(self), name)]
        raise AttributeError(
            f"the context has no attribute {name!r}: it has {', '.join(functions)}, and what the "
            f"script itself sets, as in `context.{name} = {{}}`. That lasts for one partition, or in "
            "reduce for one reducer."
        )


class UserTextContext(UserContext):
    """A `UserContext` that writes to the output, with the separators that ``write`` puts there."""

    FUNCTIONS = ("write", "write_each", "writeline", "writecsv", "counter")

    field_separator = "\t"
    record_separator = "\n"

    __slots__ = ("writecsv", "writeline")

    writeline: Callable[[Any], None]
    writecsv: Callable[[Any], None]

    def __init__(self, writer: Any) -> None:
        super().__init__(writer)
        self.writeline, self.writecsv = writer.writeline, writer.writecsv


class StaleContextError(RuntimeError):
    """A write to a context whose task, or call, has ended: it cannot count."""


_STALE = (
    "context.write was called on the context of a task, or of a call of combine, that has ended, so "
    "what it writes cannot count. Use the context that each call is given: do not keep one in a global, "
    "in an object, or in a thread that goes on after the call has returned."
)
_LATE_KEPT = 100
_late_writes: list[tuple[str, str]] = []  # the run, and where the write stands


def late_writes(run: str) -> list[str]:
    """Return where this process has written to closed contexts of `run`, each place once.

    A script may swallow the `StaleContextError`, and one in a thread of its own ends that thread only.
    """
    return list(dict.fromkeys(place for of, place in _late_writes if of == run))


class _Closed:
    """Takes the place of what a context wrote to, once the context is closed."""

    def __init__(self, run: str) -> None:
        self._run = run

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename == __file__:
            frame = frame.f_back
        place = f"{os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            place += f", in the thread {thread.name}"
        if len(_late_writes) < _LATE_KEPT:
            _late_writes.append((self._run, place))
        raise StaleContextError(_STALE)

    __bool__ = __call__ = __getitem__ = __len__ = get = append = _refuse


class MapContext(_Counting):
    """What `map` writes to when the job reduces: straight into the groups of the partition.

    Attributes
    ----------
    user : UserContext
        What `map` is given.
    groups : defaultdict of list
        The values of each key, in the order in which they were written; complete after `place`.
    keys : list
        The keys, until somebody clears the list; complete after `place`. Those of `write_each` may
        have another place than they were written at.
    large : list of (key, int)
        The keys of values that are larger than `LARGE`, with their sizes in bytes, until somebody
        clears the list; those of a record that was taken back may be among them.
    hurry : list
        Not empty when much has been written, or something counted, until somebody clears it.
    counted, counters : dict
        What the record has counted so far, and what those before it have.
    most_later : int
        Different keys that `write_each` leaves for later before somebody is to hurry.

    Examples
    --------
    >>> context = MapContext()
    >>> context.write("a", 1)
    >>> context.write("b", 2)
    >>> context.write("a", 3)
    >>> dict(context.groups), context.keys
    ({'a': [1, 3], 'b': [2]}, ['a', 'b', 'a'])
    >>> context.write_each(["b", "c"], 1)
    >>> context.place()
    >>> dict(context.groups)
    {'a': [1, 3], 'b': [2, 1], 'c': [1]}
    """

    __slots__ = (
        "_later",
        "_lots",
        "_pairs",
        "_since",
        "_text",
        "_value",
        "_written",
        "close",
        "counted",
        "counters",
        "groups",
        "hurry",
        "keys",
        "large",
        "most_later",
        "user",
        "write",
    )

    # Of this record: how long `keys` and `_written` were at each call.
    _lots: list[tuple[int, int]]
    close: Callable[[str], None]
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

        def close(run: str) -> None:
            """Refuse what is written from now on, as `write` may have been kept by the script."""
            nonlocal groups
            closed: Any = _Closed(run)
            groups = closed
            self.counted = closed
            self._lots = closed

        self.groups = groups
        self.keys = keys
        self.large = large
        self.hurry = hurry
        self.write = write
        self.close = close
        self.counted = {}
        self.counters = {}
        self.most_later = MOST_LATER
        self._value: Any = None  # what was written under all of these:
        self._later: Counter[str] = Counter()
        self._pairs = 0  # as many
        self._text = 0  # and as many characters of keys, those to be counted among them
        self._written: list[str] = []  # and of these, which are still to be counted
        self._lots = []
        self._since = 0  # the place of the first key that was written by itself after all of them
        self.user = UserContext(self)

    def write_each(self, keys: Iterable[Any], value: Any) -> None:
        """Write `value` under each of `keys`: the same as a loop of ``write``, and faster.

        Parameters
        ----------
        keys : iterable
            As ``write`` takes them; one that is there twice is written twice. Text is fastest.
        value
            As it is now.

        Raises
        ------
        TypeError
            For a key or value that ``write`` refuses; for `keys` that are one text.

        Examples
        --------
        >>> context = MapContext()
        >>> context.write_each("to be or not to be".split(), 1)
        """
        if type(keys) is not list:
            keys = _several(keys)
        kind, lots = type(value), self._lots
        # One object that cannot change, and is small, stands for all until they have been counted.
        later = kind in _SMALL or (kind in _TEXTS and len(value) <= LARGE)
        if later and value is not self._value:
            if self._later or self._written or lots:
                later = False
            else:
                self._value = value
        # A subclass of str is equal to a text, and would be counted as one.
        if not later or countOf(map(type, keys), str) != len(keys):
            write = self.write
            for key in keys:
                write(key, value)
            return
        if not lots:
            self.hurry.append(EACH)
        lots.append((len(self.keys), len(self._written)))
        self._written += keys
        self._text += len("".join(keys))  # quicker than a sum of lengths
        if len(keys) > self.most_later or self._text > _MOST_TEXT:
            self.hurry.append(None)

    def commit(self) -> None:
        """Take what `write_each` was given for certain: the record is done."""
        lots, written = self._lots, self._written
        if not lots:
            return
        if len(self.keys) > self._since and self._meet():
            self._place_in_order()
        lots.clear()
        self._since = len(self.keys)
        if len(written) >= _COUNTED_AT:
            self._count()
            if self.is_full:
                self.hurry.append(None)

    @property
    def is_full(self) -> bool:
        """Whether `write_each` has left so much for later that it is time to `place` it."""
        most = self.most_later
        return len(self._later) > most or self._pairs > _PAIRS_EACH * most

    def place_in_order(self) -> None:
        """Do as `place`, after each record, and keep the order of `keys`: people are to see it."""
        if self._lots:
            self._place_in_order()
            self._lots.clear()
        self._since = len(self.keys)

    def place(self) -> None:
        """Put into `groups` and `keys` what `write_each` was given."""
        self.commit()
        if self._later or self._written:
            if self._meet():
                self._place_in_order()
            else:
                self._pour()
        self._since = len(self.keys)

    def _count(self) -> None:
        self._later.update(self._written)
        self._pairs += len(self._written)
        self._written.clear()

    def _meet(self) -> bool:
        """Whether a key was written both ways, so that the order of its values has to be kept."""
        keys = {*self.keys[self._since :]}
        return not (keys.isdisjoint(self._written) and self._later.keys().isdisjoint(keys))

    def _pour(self) -> None:
        self._count()
        groups, later, value = self.groups, self._later, self._value
        for key, count in later.items():
            groups[key].extend([value] * count)
        self.keys.extend(later.elements())
        later.clear()
        self._pairs = self._text = 0

    def _place_in_order(self) -> None:
        """Put all into `groups` that has come since the last time, in the order in which it came."""
        groups, keys, value, since = self.groups, self.keys, self._value, self._since
        single = keys[since:]
        values = [groups[key].pop() for key in reversed(single)]
        del keys[since:]
        starts = [start for _, start in self._lots] + [len(self._written)]
        together = self._written[starts[0] :]
        del self._written[starts[0] :]
        self._pour()  # what other records have written, before any of `single`
        done = 0
        lots = [together[a - starts[0] : b - starts[0]] for a, b in pairwise(starts)]
        places = [place - since for place, _ in self._lots]
        lots.append([])
        places.append(len(single))
        for place, lot in zip(places, lots, strict=True):
            for key in single[done:place]:
                groups[key].append(values.pop())
            keys += single[done:place]
            done = place
            for key in lot:
                groups[key].append(value)
            keys += lot

    def clear(self) -> None:
        """Forget `keys` and `large`: somebody has seen them, after `place`."""
        self.keys.clear()
        self.large.clear()
        self._since = 0

    def take_back(self, mark: int) -> None:
        """Undo what was written since `keys` had the length `mark`, and what was counted."""
        self.counted.clear()
        if self._lots:
            del self._written[self._lots[0][1] :]
            self._lots.clear()
        groups, keys = self.groups, self.keys
        for key in reversed(keys[mark:]):
            values = groups[key]
            values.pop()
            if not values:
                del groups[key]  # the key that is printed is the first of a record that counts
        del keys[mark:]


def _several(keys: Iterable[Any]) -> list[Any]:
    """The keys of ``write_each`` as they are now, all of them before the first one is written."""
    if isinstance(keys, str | bytes):
        raise TypeError(
            f"context.write_each takes several keys, such as a list, and was given {keys!r:.80}: "
            "for one key write context.write(key, value)."
        )
    return [*keys]


class CombineContext:
    """What `combine` writes to: one value under the key that it was given, or nothing.

    Examples
    --------
    >>> context = CombineContext("k")
    >>> context.write("k", 3)
    >>> context.close()
    [3]
    """

    __slots__ = ("__dict__", "_key", "_written")

    def __init__(self, key: Any) -> None:
        self._key = key
        self._written: list[Any] = []

    def close(self) -> list[Any]:
        """Return what was written, and refuse what is written from now on."""
        written = self._written
        closed: Any = _Closed("")
        self._written = closed
        return written

    def write(self, key: Any, value: Any) -> None:
        """Replace the values that were combined by `value`."""
        if type(key) is not str:
            key = canonical(key)
        if self._written:
            raise CombineError(
                f"combine wrote twice under the key {name_key(key)}; it may write one value, which "
                "stands for all that it was given."
            )
        if key is not self._key and key != self._key:
            raise CombineError(
                f"combine was given the key {name_key(self._key)} and wrote under another, "
                f"{name_key(key)}; it may write one value under its own key only."
            )
        self._written.append(value if type(value) in _ATOMS else snapshot(value))

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Count nothing: how often combine runs is no property of the data."""
        check_counter(group, name, n)


class CombineError(TypeError):
    """`combine` wrote what would lose or misplace data."""


class _OutputContext(_Counting):
    """What writes to the output; `user` is what `reduce`, and `map` in a job without it, are given."""

    user: UserTextContext
    written: list[Any]
    hurry: list[Any]

    def __init__(self) -> None:
        self.written = []
        self.hurry = []
        self.counted = {}
        self.counters = {}
        self._append: Any = self.written.append
        self._csv = csv.writer(_Sink(self._add_row))
        self.user = UserTextContext(self)

    def close(self, run: str) -> None:
        """Refuse what is written from now on; `run` tells late writes of one run from others'."""
        closed: Any = _Closed(run)
        self._append = self.counted = closed

    def write(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def _add_row(self, line: str) -> None:
        raise NotImplementedError

    def write_each(self, keys: Iterable[Any], value: Any) -> None:
        """Write for each of `keys`, as a loop of ``write`` does."""
        for key in _several(keys):
            self.write(key, value)

    def writecsv(self, values: Any) -> None:
        """Write a row in the default dialect of Python's ``csv``: commas and ``\\r\\n``."""
        try:
            self._csv.writerow(values)
        except ValueError:
            if not isinstance(values, list | tuple):  # which can be read once only
                raise
            _all_digits(self._csv.writerow, values)

    def check_separators(self) -> None:
        """Raise TypeError where `setup_reduce` set a separator that is not text."""
        for name in ("field_separator", "record_separator"):
            if not isinstance(getattr(self.user, name), str):
                raise TypeError(
                    f"context.{name} was set to {getattr(self.user, name)!r}; it must be a str."
                )


def _all_digits(function: Callable[[Any], _T], value: Any) -> _T:
    """Call `function`, and let it write integers of any size, of which Python limits the digits."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return function(value)
    finally:
        sys.set_int_max_str_digits(limit)


_CALLABLE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType)


def _refuse_address(value: Any) -> None:
    """Raise TypeError for what Python prints as its address in memory, another one in each run."""
    kind: Any = type(value)
    if kind.__str__ is not object.__str__:
        return
    advice = ""
    if isinstance(value, Iterator):
        advice = "list(...) of it"
    elif isinstance(value, _CALLABLE):
        advice = "what it returns: call it, with ()"
    elif kind.__repr__ is object.__repr__:
        advice = f"its fields, or give the class {kind.__name__} a __str__"
    if advice:
        raise TypeError(
            f"A {kind.__name__} cannot be written to the output: as text it is its address in memory, "
            f"which differs from run to run. Write {advice}."
        )


class TextContext(_OutputContext):
    """What `reduce` writes to, and `map` in a job without reduce: the lines of the output.

    Attributes
    ----------
    user : UserTextContext
        With the separators, a tab and a newline until `setup_reduce` sets others.
    written : list of str
        What was written, until the caller clears it.
    hurry : list
        Not empty when much has been written, or something counted, until the caller clears it.
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

    def write(self, key: Any, value: Any) -> None:
        """Write `key`, the field separator, `value` and the record separator."""
        user = self.user
        if type(value) not in _ATOMS:
            _refuse_address(value)
        if type(key) is not str:
            _refuse_address(key)
        try:
            text = f"{key!s}{user.field_separator}{value!s}{user.record_separator}"
        except ValueError:
            key, value = _all_digits(str, key), _all_digits(str, value)
            text = f"{key}{user.field_separator}{value}{user.record_separator}"
        self._append(text)
        if len(text) > HUGE:
            self.hurry.append(None)

    def writeline(self, text: Any) -> None:
        """Write `text` and the record separator."""
        if type(text) is not str:
            _refuse_address(text)
        try:
            text = str(text)
        except ValueError:
            text = _all_digits(str, text)
        self._add_row(f"{text}{self.user.record_separator}")

    def _add_row(self, line: str) -> None:
        self._append(line)
        if len(line) > HUGE:
            self.hurry.append(None)


class ItemContext(_OutputContext):
    """What `reduce` writes to when there is no output file: pairs, and lines as ``str``.

    Attributes
    ----------
    user, written, hurry, counted, counters
        As those of a `TextContext`.
    size : int
        Bytes of what is large in `written`, until the caller sets it back.

    Examples
    --------
    >>> context = ItemContext()
    >>> context.write("a", 1)
    >>> context.writecsv([1, 2])
    >>> context.written
    [('a', 1), '1,2']
    """

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def _add(self, item: Any, size: int) -> None:
        self._append(item)
        self.size += size
        if size > HUGE:
            self.hurry.append(None)

    def _add_row(self, line: str) -> None:
        self._add(line.removesuffix("\r\n"), len(line))

    def write(self, key: Any, value: Any) -> None:
        """Yield the pair `key`, `value` as it is now."""
        key, key_size = measured(key)
        value, value_size = measured(value)
        self._add((key, value), key_size + value_size)

    def writeline(self, text: Any) -> None:
        """Yield `text` as a line."""
        text = str(text)
        self._add(text, len(text))


class _Sink:
    """The file that ``csv.writer`` believes it writes to."""

    def __init__(self, write: Callable[[str], Any]) -> None:
        self.write = write
