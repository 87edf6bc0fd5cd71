"""The rule for records: how `map` is called for them, and when they are bad.

A line is split at its first tab; without one it is a bad record. A record is also bad if `map` raises
a ``ValueError`` that is not caused by the process, and with ``on-error: skip`` one of a few other
exceptions; the output of that call is then undone. Any other exception of `map` fails the job.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskmr.counts import MOST_REASONS, OTHER_REASONS
from daskmr.data.bad_records import SavedRecord
from daskmr.data.readers.parquet import readable
from daskmr.data.readers.records import (
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Records,
    as_text,
    explain_columns,
    raw_bytes,
)
from daskmr.data.sampling import KeyFilter
from daskmr.errors import TaskFailed, foreign
from daskmr.job.contexts import MisuseError
from daskmr.job.process_errors import explain_process_error
from daskmr.job.tracebacks import describe_exception, elide, message_of
from daskmr.memory import describe_size, limit, limit_for_line
from daskmr.tasks.guard import Returned, shortened
from daskmr.tasks.tally import EXAMPLES, OPENING_LINES, SAVED_AT_MOST, Opening, explain_untabbed
from daskmr.tasks.user_calls import Call, current_call

if TYPE_CHECKING:
    from daskmr.tasks.map_output import MapOutput

__all__ = [
    "NO_TAB", "BadRecords", "RecordMapper", "SampledMap", "Why", "advice_to_skip", "detail_of",
    "is_skippable", "skipped_errors",
]  # fmt: skip

NO_TAB = "no tab in the line"

# Exceptions of `map`, besides ``ValueError``, that make a record bad with ``on-error: skip``
_SKIPPABLE = (KeyError, TypeError, IndexError, AttributeError)
_REASON = 200  # characters

Errors = tuple[type[Exception], ...]
Why = Exception | str | None
OnBad = Callable[[int, str, str, Why], object]


def skipped_errors(on_error: str) -> Errors:
    """Return the exceptions of `map` that make a record bad.

    - `on_error`: the setting of this name.
    """
    return (ValueError, *_SKIPPABLE) if on_error == "skip" else (ValueError,)


def is_skippable(error: BaseException) -> bool:
    """Check whether an exception may be due to the record, rather than to the process or the script."""
    return not (isinstance(error, Returned | MisuseError) or explain_process_error(error))


def advice_to_skip(error: BaseException) -> str:
    """Return how to go on after an exception of `map` that fails the job, if it may be the record's."""
    if not isinstance(error, _SKIPPABLE) or not is_skippable(error):
        return ""
    return " To count such records as bad, and go on: --on-error skip"


def _reason_for(error: Exception) -> str:
    """Return the words by which a bad record is counted, given the exception of `map`.

    >>> [_reason_for(error) for error in (BadRecord("no\\nuser"), UnicodeError("x"), KeyError("id"))]
    ['no user', 'UnicodeError', "KeyError: 'id'"]
    """
    if isinstance(error, BadRecord):
        return (
            elide(" ".join(message_of(error.reason).split()), _REASON, " ... ")
            or type(error).__name__
        )
    if isinstance(error, ValueError):
        return type(error).__name__
    return elide(describe_exception(error), _REASON, " ... ")


def detail_of(error: BaseException) -> str:
    """Describe why a record is bad, given the exception of `map`."""
    text, name = describe_exception(error), type(error).__name__
    # The default reason of a subclass of BadRecord is its name.
    return name if text == f"{name}: {name}" else text.removeprefix("BadRecord: ")


class RecordMapper:
    """Calls `map` for each line.

    - `user_map`: the user's ``map(key, dims, value, context)``.
    - `output`: the destination of its output.
    - `on_bad`: called as ``on_bad(number, line, reason, error)`` for a bad record; `error` is the
      exception of `map`, if it was called; or text about a record that its reader refused.
    - `skipped`: the exceptions of `map` that make a record bad.
    - `line`: the line that `map` was last called for, or the dict of a row.
    """

    def __init__(
        self,
        user_map: Callable[..., Any],
        output: MapOutput,
        on_bad: OnBad,
        skipped: Errors = (ValueError,),
    ) -> None:
        self._skipped = skipped
        self._map = user_map
        self._output = output
        self._on_bad = on_bad
        self.begin("")

    def begin(
        self,
        file: str,
        number: int = 0,
        before: Callable[[], int] | None = None,
        source: str = "",
    ) -> None:
        """Begin a file, or go on after its line `number`.

        - `source`: the value of ``--data-dir`` that the file is from.
        - `before`: counts the lines before the part of the file that is read, if it is only a part.
        """
        self._call = Call("map", file, source, number, before=before)
        self.line: Any = ""
        self._output.context.user.at(self._call)

    @property
    def number(self) -> int:
        """The line number of `line` in its file."""
        return self._call.line

    @property
    def count(self) -> int:
        """The number of lines of the file, or of the part of it, so far."""
        return self._call.count

    def map(self, lines: list[str], has_cr: bool, dims: list[str]) -> None:
        """Map lines; pass on an exception of `map` that is no bad record, with `line` at its place.

        - `lines`: the next lines of the file.
        - `has_cr`: they may end with a carriage return, which is not part of the value.
        - `dims`: dimensions of the file.
        """
        # To be fast, call only `map` itself for each record.
        user_map, output, call = self._map, self._output, self._call
        user, pending, hurry = output.context.user, output.pending, output.hurry
        skipped = self._skipped
        call.last_line += len(lines)
        call.rest, line = iter(lines), ""
        try:
            with current_call().making(call):
                for line in call.rest:
                    key, tab, value = line.partition("\t")
                    if not tab:
                        reason = TOO_LONG if isinstance(line, OversizedLine) else NO_TAB
                        self._on_bad(call.line, line, reason, None)
                        continue
                    if has_cr:
                        value = value.rstrip("\r")
                    mark = len(pending)
                    try:
                        returned = user_map(key, dims, value, user)
                        if returned is not None:
                            raise Returned(returned)
                    except skipped as error:
                        if not is_skippable(error):
                            raise
                        output.take_back(mark)
                        self._on_bad(call.line, line, _reason_for(error), error)
                    if mark >= output.batch:
                        output.flush()
                    elif hurry:
                        output.hasten()
        finally:
            self.line = line

    def map_records(self, records: Records, dims: list[str]) -> None:
        """Map the records of a reader, otherwise like `map`.

        A record is bad if the reader says so, or `map` raises one of `skipped`.
        """
        user_map, output, call = self._map, self._output, self._call
        user, pending, hurry = output.context.user, output.pending, output.hurry
        skipped = self._skipped
        call.numbers, call.rest = records.numbers, iter(records.values)
        self.line = ""
        try:
            with current_call().making(call):
                for key, value in zip(records.keys, call.rest, strict=False):
                    if type(value) is BadRecord:
                        text = as_text(value.raw)
                        self._on_bad(call.line, text, value.reason, value.detail)
                        continue
                    mark = len(pending)
                    try:
                        returned = user_map(key, dims, value, user)
                        if returned is not None:
                            raise Returned(returned)
                    except skipped as error:
                        if not is_skippable(error):
                            raise
                        output.take_back(mark)
                        text = records.text(call.index)
                        self._on_bad(call.line, text, _reason_for(error), error)
                    if mark >= output.batch:
                        output.flush()
                    elif hurry:
                        output.hasten()
        except BaseException as error:
            self.line = readable(records.text(max(0, call.index)))
            if isinstance(error, KeyError) and records.header:
                is_text = isinstance(self.line, str)
                error.add_note(explain_columns(records.header, *error.args[:1], is_text=is_text))
            raise


@dataclass
class BadRecords:
    """The bad records of a partition: count and save them, and fail if there are too many."""

    save_limit: int  # maximum raw bytes of bad records to save; a larger one is not saved
    most: int | None  # maximum number before the job fails
    max_record_bytes: int  # longer lines are bad records
    may_be_corrupt: bool  # check a file at its end, because it is skipped if it is corrupt
    needs_tabs: bool  # fail if the partition begins with many lines without a tab
    sampled: SampledMap | None  # the sample of the records, if not all are read
    reasons: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    saved: list[SavedRecord] = field(default_factory=list)
    unsaved: set[str] = field(default_factory=set)  # files with records that are not in `saved`
    truncated: bool = False  # a limit was reached, so later bad records are not saved
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)
    opening: Opening = field(default_factory=Opening)
    unit: str = "line"  # what the numbers of records count
    header: tuple[str, ...] = ()  # the columns of the current batch, to read its records again
    _saved_bytes: int = 0
    _last: str = ""
    _path: str = ""
    _source: str = ""
    _place: str = ""
    _lines: int = 0
    _before: Callable[[], int] | None = None

    def begin(
        self,
        path: str,
        place: str,
        lines: int,
        before: Callable[[], int] | None = None,
        source: str = "",
    ) -> None:
        """Begin a file, given its path in the data dir, its location, the lines before it, and its source.

        - `before`: counts the lines before the part of the file that is read, if it is only a part.
        """
        self._path, self._place, self._lines, self._before = path, place, lines, before
        self._source = source

    def add(self, number: int, line: str, reason: str, error: Why) -> None:
        """Take a bad record from a `RecordMapper`."""
        is_raised = isinstance(error, Exception)
        detail = detail_of(error) if isinstance(error, Exception) else error or ""
        if isinstance(line, OversizedLine):
            if line.length <= self.max_record_bytes:
                raise TaskFailed(self._explain_length(number, line))
            detail = f"the line has {line.length:,} bytes"
        elif error is None and self.opening.untabbed == self._lines_before(number):
            self.opening = self.opening.with_line(self._place, line)
        if is_raised or self._is_sampled(number, line):
            self._count(number, line, reason, detail)
        if not self.may_be_corrupt:
            self.check()

    def _lines_before(self, number: int) -> int:
        """Return how many lines of the partition are before a line of the current file."""
        return self._lines + number - 1 - (self._before() if self._before is not None else 0)

    def _count(self, number: int, line: str, reason: str, detail: str) -> None:
        path, group = self._path, reason
        if reason not in self.reasons and len(self.reasons) >= MOST_REASONS:
            group = OTHER_REASONS
        self.reasons[group] += 1
        self.files[path] += 1
        raw = raw_bytes(line)
        is_large = isinstance(line, OversizedLine) or len(raw) > self.save_limit
        if not is_large:
            self._saved_bytes += len(raw)
            if self._saved_bytes > self.save_limit or len(self.saved) >= SAVED_AT_MOST:
                self.truncated = True
        if is_large or self.truncated:
            self.unsaved.add(path)
        else:
            saved = SavedRecord(path, number, reason, detail, raw, self.header, self._source)
            self.saved.append(saved)
        begins = shortened(readable(line), 80)
        self._last = f"{path}, {self.unit} {number}: {detail or reason}; it begins with {begins}"
        if len(self.examples.setdefault(group, ())) < EXAMPLES:
            self.examples[group] += (self._last,)

    def _is_sampled(self, number: int, line: str) -> bool:
        """Check whether a bad record is in the sample; one that `map` was called for certainly is."""
        if self.sampled is None:
            return True
        if isinstance(line, OversizedLine):
            return self.sampled.takes(f"{self._path} {number}")
        return self.sampled.takes(line)

    def _explain_length(self, number: int, line: OversizedLine) -> str:
        as_text = ""
        if line.text_bytes > line.length:
            as_text = f" ({describe_size(line.text_bytes)} as text, for its wide characters)"
        return (
            f"map failed at {self._place}, line {number}: the line has {line.length:,} bytes{as_text}, "
            f"more than fit in the memory of a worker, whose limit is {describe_size(limit() or 0)}. "
            f"Raise --memory-limit to {describe_size(limit_for_line(line.text_bytes))} or more, with fewer "
            "--num-mappers if the machine has no more; or lower daskmr.max-record-bytes, beyond "
            "which a line is a bad record."
        )

    def check(self) -> None:
        """Fail if the input begins with lines that are not records, or too many records are bad."""
        if self.needs_tabs and self.opening.untabbed >= OPENING_LINES:
            raise foreign(TaskFailed(explain_untabbed(self.opening)))
        if self.most is not None and self.reasons.total() > self.most:
            raise TaskFailed(
                f"There are more bad records than --max-bad-records allows ({self.most:,}). "
                f"The last one: {self._last}. Nothing was written."
            )


class SampledMap:
    """The user's `map`, called only for records whose key is in the sample."""

    def __init__(self, user_map: Callable[..., Any], keys: KeyFilter) -> None:
        self._map = user_map
        self._keys = keys
        self._taken = 0

    def map(self, key: Any, dims: list[str], value: Any, context: Any) -> Any:
        """Call `map` if the record is in the sample."""
        return self._map(key, dims, value, context) if self.takes(key) else None

    def takes(self, key: Any) -> bool:
        """Check whether a record of this key is in the sample, and count it."""
        taken = self._keys.takes(key if type(key) is str else repr(key))
        self._taken += taken
        return taken

    def count(self) -> int:
        """Return how many records were taken since the last call."""
        taken, self._taken = self._taken, 0
        return taken
