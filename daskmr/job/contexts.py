"""The contexts that the user's functions write to, except that of `map` with `reduce` (`map_context`).

A value is recorded as it is at the time of writing, and as a tree: `snapshot` copies mutable objects,
so that written values never share one. The script's functions receive a `UserContext`, which has the
functions to write with and the attributes that the script sets. A context is closed when its task
ends, and later writes raise.
"""

from __future__ import annotations

import csv
import os
import re
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from daskmr.job.json_text import to_json
from daskmr.job.keys import canonical, name_key
from daskmr.job.pickling import ATOMS, measured, snapshot

__all__ = [
    "COUNTED",
    "EACH",
    "HUGE",
    "NAMED",
    "Closed",
    "CombineContext",
    "CombineError",
    "CounterError",
    "Counting",
    "ItemContext",
    "MisuseError",
    "NamedOutputError",
    "NoAttributeError",
    "OutputContext",
    "PairContext",
    "StaleContextError",
    "TextContext",
    "UserContext",
    "UserTextContext",
    "all_digits",
    "as_keys",
    "is_output_name",
    "late_writes",
    "refuse_address",
]  # fmt: skip

_T = TypeVar("_T")

# Entries of `hurry` that request work at the end of the record: counts, keys of `write_each`, and
# output of `write_to`.
COUNTED = "counted"
EACH = "each"
NAMED = "named"

HUGE = 1 << 18  # bytes from which on a value or line must not wait for others

_LARGEST = 1 << 64  # bound of a number to add to a counter
_MOST_COUNTERS = 1000  # in one task, because their names travel with every result
_LONGEST_NAME = 200


class MisuseError(TypeError):
    """A call of a context that fails the job; no record is bad because of it."""


class NoAttributeError(MisuseError, AttributeError):
    """An attribute that a context does not have; an AttributeError, so that ``hasattr`` works."""


class CounterError(MisuseError):
    """Wrong arguments of `context.counter`; not a ValueError, as this makes no record bad."""


class Counting:
    """Base of contexts with ``counter``; the caller keeps or drops counts before the next record.

    `COUNTED` in `hurry` means that the current record has counts.
    """

    __slots__ = ()

    counted: dict[tuple[str, str], int]
    counters: dict[tuple[str, str], int]
    hurry: list[Any]

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Add `n` to the counter `name` of `group`, for the summary.

        The sum over the job is exact: a retried task counts once, a bad record not at all.
        """
        counted = self.counted
        plain = type(group) is str and type(name) is str and type(n) is int
        if not (plain and -_LARGEST < n < _LARGEST):
            check_counter(group, name, n)
            group, name, n = str(group), str(name), int(n)
        known = counted.get((group, name))
        if known is None:
            check_counter(group, name, n)
            self._check_room(group, name)
            if not counted:
                self.hurry.append(COUNTED)
            known = 0
        counted[group, name] = known + n

    def _check_room(self, group: str, name: str) -> None:
        counters, counted = self.counters, self.counted
        if len(counters) + len(counted) < _MOST_COUNTERS or (group, name) in counters:
            return
        if len(counters.keys() | counted.keys()) >= _MOST_COUNTERS:
            raise CounterError(
                f"There are more than {_MOST_COUNTERS:,} counters, the last one being {group!r}, "
                f"{name!r}. Counters are meant for a few figures to read; write many to "
                "the output: context.write(key, 1)."
            )

    def keep_counts(self) -> None:
        """Add the counts of the current record to those of the task."""
        counters = self.counters
        for name, n in self.counted.items():
            counters[name] = counters.get(name, 0) + n
        self.counted.clear()


def check_counter(group: Any, name: Any, n: Any) -> None:
    """Raise CounterError for arguments that ``context.counter`` does not support."""
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
            f"context.counter adds whole numbers, but was given {n!r:.80} for {group!r}, {name!r}: "
            'write context.counter("group", "name", 2).'
        )
    if not -_LARGEST < n < _LARGEST:  # it must fit in JSON
        raise CounterError(
            f"context.counter was given a number of {n.bit_length():,} bits for {group!r}, {name!r}; "
            "at most 64 are possible."
        )


# Attributes of the context, and those of a call
_PLACE = {"path": "file", "line": "line", "source": "source"}


class UserContext:
    """The context that the script's functions receive.

    Attributes that the script sets (``context.seen = {}``) last as long as the task.
    """

    __slots__ = ("__dict__", "_call", "counter", "write", "write_each")

    def __init__(self, writer: Any) -> None:
        self._call: Any = None
        self.write, self.write_each = writer.write, writer.write_each
        self.counter = writer.counter

    def at(self, call: Any) -> None:
        """Take ``path``, ``line`` and ``source`` from a call of `map`; ``None``: from nowhere."""
        self._call = call

    def __getattr__(self, name: str) -> Any:
        # Not properties, so that a script may set attributes of these names.
        if name in _PLACE and self._call is not None:
            return getattr(self._call, _PLACE[name])
        if name in _PLACE:
            raise NoAttributeError(
                f"context.{name} is the place of a record, so it exists only in map. Write what "
                "reduce needs of it as part of the key or the value, and set an attribute of the context for "
                "finish_map."
            )
        if name in ("writeline", "writecsv", "writejson", "write_to"):
            raise NoAttributeError(
                f"context.{name} writes to the output, so it belongs in reduce (or in the map of a "
                "job without reduce). In this map use context.write(key, value)."
            )
        functions = [f"{name}()" for name in UserTextContext.FUNCTIONS if hasattr(type(self), name)]
        raise NoAttributeError(
            f"the context has no attribute {name!r}: it has {', '.join(functions)}, and attributes that the "
            f"script itself sets, as in `context.{name} = {{}}`, which last for one partition, or in "
            "reduce for one reducer."
        )


class UserTextContext(UserContext):
    """A `UserContext` that writes to the output, with the separators for ``write``."""

    FUNCTIONS = ("write", "write_each", "write_to", "writeline", "writecsv", "writejson", "counter")

    field_separator = "\t"
    record_separator = "\n"

    __slots__ = ("write_to", "writecsv", "writejson", "writeline")

    def __init__(self, writer: Any) -> None:
        super().__init__(writer)
        self.writeline, self.writecsv = writer.writeline, writer.writecsv
        self.writejson, self.write_to = writer.writejson, writer.write_to


class StaleContextError(RuntimeError):
    """A write to a context whose task, or call, has ended, so the output would be lost."""


_LATE_KEPT = 100  # maximum number of late writes to remember
_late_writes: list[tuple[str, str]] = []  # run and place in the script


def late_writes(run: str) -> list[str]:
    """Return the places where this process has written to closed contexts of `run`, each once.

    The exception alone is not enough: a script may swallow it, or raise it in a thread of its own.
    """
    return list(dict.fromkeys(place for of, place in _late_writes if of == run))


class Closed:
    """Replacement for the containers of a closed context, which refuses writes."""

    def __init__(self, run: str) -> None:
        self._run = run

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
            frame = frame.f_back
        place = f"{os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
        thread = threading.current_thread()
        if thread is not threading.main_thread():
            place += f", in the thread {thread.name}"
        if len(_late_writes) < _LATE_KEPT:
            _late_writes.append((self._run, place))
        raise StaleContextError(
            "context.write was called on the context of a task, or of a call of combine, that has "
            "ended, so its output cannot count. Use the context that each call receives: do not "
            "keep one in a global, in an object, or in a thread that keeps running after the call has "
            "returned."
        )

    __bool__ = __call__ = __getitem__ = __len__ = get = append = _refuse


def as_keys(keys: Iterable[Any]) -> list[Any]:
    """Return the keys for ``write_each`` as a list, so that an iterator fails before any write."""
    if isinstance(keys, str | bytes):
        raise TypeError(
            f"context.write_each takes several keys, such as a list, but was given {keys!r:.80}: "
            "for one key write context.write(key, value)."
        )
    return [*keys]


class CombineContext:
    """The context of `combine`, which may write one value under the key that it received."""

    __slots__ = ("__dict__", "_key", "_written")

    def __init__(self, key: Any) -> None:
        self._key = key
        self._written: list[Any] = []

    def close(self) -> list[Any]:
        """Return the written values and refuse later writes."""
        written = self._written
        closed: Any = Closed("")
        self._written = closed
        return written

    def write(self, key: Any, value: Any) -> None:
        """Replace the combined values by `value`."""
        if type(key) is not str:
            key = canonical(key)
        if self._written:
            raise CombineError(
                f"combine wrote twice under the key {name_key(key)}; it may write one value, which "
                "replaces all those that it received."
            )
        if key is not self._key and key != self._key:
            raise CombineError(
                f"combine was given the key {name_key(self._key)} and wrote under another, "
                f"{name_key(key)}; it may write one value under its own key only."
            )
        self._written.append(value if type(value) in ATOMS else snapshot(value))

    def counter(self, group: str, name: str, n: int = 1) -> None:
        """Only check the arguments, because the number of calls of combine does not follow the data."""
        check_counter(group, name, n)

    def __getattr__(self, name: str) -> Any:
        raise NoAttributeError(
            f"the context of combine has no attribute {name!r}: combine may call context.write(key, value) "
            "with the key that it was given, to replace its values. Outputs belong in reduce."
        )


class CombineError(TypeError):
    """`combine` wrote twice, or under another key, which would lose or misplace data."""


_OUTPUT_NAME = re.compile(r"(?!part-)[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
# What names other files beside an output, or a compression
_TAKEN = frozenset(("pstats", "gz", "bz2", "xz", "zst"))
_MOST_NAMED = 100  # because each is a file that is open while it is written


class NamedOutputError(MisuseError):
    """An output that `context.write_to` cannot write; not a ValueError, as this makes no record bad."""


def is_output_name(name: str) -> bool:
    """Check whether ``context.write_to`` takes a name.

    >>> is_output_name("errors"), is_output_name("../errors"), is_output_name("pstats")
    (True, False, False)
    """
    return _OUTPUT_NAME.fullmatch(name) is not None and name.lower() not in _TAKEN


class OutputContext(Counting):
    """Base of the contexts of `reduce`, and of `map` in a job without `reduce`.

    - `user`: the script's context, with tab and newline as separators unless `setup_reduce` sets others.
    - `written`: lines or items, until the caller clears it.
    - `hurry`: not empty after large writes, or after counts, until the caller clears it.
    - `counted`, `counters`: counts of the current record, and of earlier ones.
    - `named`: the contexts of ``write_to`` by name; `header`: what `setup_reduce` wrote to one of them.
    - `create`: makes such a context; or text that explains why there are none.
    - `on_named`: called as ``on_named(name, context)`` before each write to one.
    """

    is_text = False  # whether the entries are text that only has to be joined

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.named: dict[str, OutputContext] = {}
        self.header: tuple[Any, ...] = ()
        self.create: Callable[[], OutputContext] | str = type(self)
        self.on_named: Callable[[str, OutputContext], object] | None = None
        self._marks: dict[str, int] | None = None
        self._lock = threading.RLock()  # for threads of the script that call `write_to`
        self.hurry = []
        self.counted, self.counters = {}, {}
        self._append: Any = self.written.append
        self._csv = csv.writer(types.SimpleNamespace(write=self._add_row))
        self.user = UserTextContext(self)

    def close(self, run: str) -> None:
        """Refuse later writes, and record them for `run`."""
        closed: Any = Closed(run)
        self._append = self.counted = self.named = closed

    def write(self, key: Any, value: Any) -> None:
        raise NotImplementedError

    def write_to(self, name: str, key: Any, value: Any) -> None:
        """Write to the output `name` beside the main one, as ``write`` writes to that."""
        with self._lock:
            other = self.named.get(name) if type(name) is str else None
            if other is None:
                other = self._named(name)
            if self.on_named is not None:
                self.on_named(name, other)
            mine, user = other.user, self.user
            mine.field_separator = user.field_separator
            mine.record_separator = user.record_separator
            other.write(key, value)

    def mark_named(self) -> bool:
        """Note where the named outputs end before the current record; return False if this is known."""
        if self._marks is not None:
            return False
        self._marks = {name: len(other.written) for name, other in self.named.items()}
        return True

    def keep_named(self) -> None:
        """Keep what the current record has written to named outputs."""
        self._marks = None

    def undo_named(self) -> None:
        """Undo what the current record has written to named outputs."""
        if self._marks is not None:
            for name, other in self.named.items():
                del other.written[self._marks.get(name, 0) :]

    def _named(self, name: Any) -> OutputContext:
        if not isinstance(name, str) or not is_output_name(name):
            raise NamedOutputError(
                f"context.write_to cannot name an output {name!r:.80}. A name has up to 64 letters, digits, - "
                "and _; it begins with a letter or digit, but not with part-; and it is none of "
                f'{", ".join(sorted(_TAKEN))}. For example: context.write_to("errors", key, value)'
            )
        if isinstance(self.create, str):
            raise NamedOutputError(
                f"context.write_to({name!r}, ...) is not possible: {self.create}"
            )
        if len(self.named) >= _MOST_NAMED:
            raise NamedOutputError(
                f"context.write_to was given more than {_MOST_NAMED} names; the last one is {name!r}. Each "
                "is a file of its own. Write a name that varies as part of the key: "
                "context.write((name, key), value)."
            )
        self.named[name] = other = self.create()
        return other

    def _add_row(self, line: str) -> None:
        raise NotImplementedError

    def write_each(self, keys: Iterable[Any], value: Any) -> None:
        """Write `value` under each of `keys`, like a loop of ``write``."""
        for key in as_keys(keys):
            self.write(key, value)

    def writecsv(self, values: Any) -> None:
        """Write a row in the default dialect of Python's ``csv``: commas and ``\\r\\n``."""
        try:
            self._csv.writerow(values)
        except ValueError:
            if not isinstance(values, list | tuple):  # an iterator is exhausted
                raise
            all_digits(self._csv.writerow, values)

    def writeline(self, text: Any) -> None:
        raise NotImplementedError

    def writejson(self, value: Any) -> None:
        raise NotImplementedError

    def check_separators(self) -> None:
        """Raise TypeError if `setup_reduce` set a separator that is not text."""
        for name in ("field_separator", "record_separator"):
            value = getattr(self.user, name)
            if not isinstance(value, str):
                raise TypeError(f"context.{name} was set to {value!r}; it must be a str.")


def all_digits(function: Callable[[Any], _T], value: Any) -> _T:
    """Call `function` without Python's limit on the digits of an integer."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return function(value)
    finally:
        sys.set_int_max_str_digits(limit)


def refuse_address(value: Any) -> None:
    """Raise TypeError for a value whose text is its memory address, which differs between runs."""
    kind: Any = type(value)
    if kind.__str__ is not object.__str__:
        return
    if isinstance(value, Iterator):
        advice = "list(...) of it"
    elif isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        advice = "what it returns: call it, with ()"
    elif kind.__repr__ is object.__repr__:
        advice = f"its fields, or give the class {kind.__name__} a __str__"
    else:
        return
    raise TypeError(
        f"A {kind.__name__} cannot be written to the output: its text is its address in memory, "
        f"which differs from run to run. Write {advice}."
    )


class TextContext(OutputContext):
    """Collector of the lines of the output."""

    is_text = True

    def write(self, key: Any, value: Any) -> None:
        """Write `key`, the field separator, `value` and the record separator."""
        user = self.user
        if type(value) not in ATOMS:
            refuse_address(value)
        if type(key) is not str:
            refuse_address(key)
        try:
            text = f"{key!s}{user.field_separator}{value!s}{user.record_separator}"
        except ValueError:
            key, value = all_digits(str, key), all_digits(str, value)
            text = f"{key}{user.field_separator}{value}{user.record_separator}"
        self._append(text)
        if len(text) > HUGE:
            self.hurry.append(None)

    def writeline(self, text: Any) -> None:
        """Write `text` and the record separator."""
        if type(text) is not str:
            refuse_address(text)
        try:
            text = str(text)
        except ValueError:
            text = all_digits(str, text)
        self._add_row(f"{text}{self.user.record_separator}")

    def writejson(self, value: Any) -> None:
        """Write `value` as JSON, and the record separator."""
        self._add_row(f"{to_json(value)}{self.user.record_separator}")

    def _add_row(self, line: str) -> None:
        self._append(line)
        if len(line) > HUGE:
            self.hurry.append(None)


class ItemContext(OutputContext):
    """Collector of pairs, and of lines as ``str``, for a job without an output file.

    - `size`: bytes of text and containers in `written`, until the caller resets it.
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
        """Write the pair `key`, `value` as it is now."""
        key, key_size = measured(key)
        value, value_size = measured(value)
        self._add((key, value), key_size + value_size)

    def writeline(self, text: Any) -> None:
        """Write `text` as a line."""
        text = str(text)
        self._add(text, len(text))

    def writejson(self, value: Any) -> None:
        """Write an object, which is data that JSON has a form for, as it is now."""
        size = len(to_json(value))
        kept = measured(value)[0]
        self._add(list(kept) if isinstance(kept, tuple) else kept, size)


class PairContext(ItemContext):
    """Collector of the pairs of a step before the last one.

    - `step`: such as ``"step 1 of 2"``.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        super().__init__()

    def check_separators(self) -> None:
        """Raise TypeError if `setup_reduce` wrote anything: there is no output to have a header."""
        if self.written:
            self._refuse("a header in setup_reduce")
        super().check_separators()

    def writecsv(self, values: Any) -> None:
        self._refuse("context.writecsv")

    def writeline(self, text: Any) -> None:
        self._refuse("context.writeline")

    def writejson(self, value: Any) -> None:
        self._refuse("context.writejson")

    def write_to(self, name: str, key: Any, value: Any) -> None:
        self._refuse("context.write_to")

    def _refuse(self, what: str) -> None:
        raise MisuseError(
            f"{what} belongs to the output, but {self._step} writes the input of the next step. Write "
            "pairs: context.write(key, value)."
        )
