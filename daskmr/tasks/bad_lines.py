"""The bad records of a partition: counted, saved, and refused where they are too many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from daskmr.data.bad_records import BadRecord
from daskmr.data.readers.lines import OversizedLine, raw_bytes
from daskmr.data.sampling import KeyFilter
from daskmr.errors import TaskFailed
from daskmr.job.tracebacks import describe_exception
from daskmr.memory import describe_size, limit, limit_for_line
from daskmr.tasks.guard import shortened
from daskmr.tasks.tally import EXAMPLES, OPENING_LINES, Opening, explain_untabbed

__all__ = ["BadRecords", "SampledMap"]

_SAVED_AT_MOST = 10_000  # bad records that one partition saves


class BadRecords:
    """The bad records of a partition.

    - `save_limit`: raw bytes of them that are saved.
    - `most`: number beyond which the job fails.
    - `max_record_bytes`: length beyond which a line is a bad record.
    - `may_be_corrupt`: judge a file at its end: it may turn out to be corrupt, and is then skipped.
    - `needs_tabs`: fail where the partition begins with many lines without a tab.
    - `sampled`: which records are read, if not all.
    """

    def __init__(
        self,
        *,
        save_limit: int,
        most: int | None,
        max_record_bytes: int,
        may_be_corrupt: bool,
        needs_tabs: bool,
        sampled: SampledMap | None,
    ) -> None:
        self.reasons: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self.saved: list[BadRecord] = []
        self.unsaved: set[str] = set()
        self.truncated = False
        self.examples: dict[str, tuple[str, ...]] = {}
        self.opening = Opening()
        self._save_limit = save_limit
        self._most = most
        self._max_record_bytes = max_record_bytes
        self._may_be_corrupt = may_be_corrupt
        self._needs_tabs = needs_tabs
        self._sampled = sampled
        self._saved_bytes = 0
        self._last = ""
        self.begin("", "", 0)

    def begin(self, path: str, place: str, lines: int) -> None:
        """Begin with a file: its path in the data dir, where it is read, and the lines before it."""
        self._path, self._place, self._lines = path, place, lines

    def add(self, number: int, line: str, reason: str, error: ValueError | None) -> None:
        """Take a bad record, as `RecordMapper` gives it."""
        detail = "" if error is None else describe_exception(error)
        if isinstance(line, OversizedLine):
            if line.length <= self._max_record_bytes:
                raise TaskFailed(self._explain_length(number, line))
            detail = f"the line has {line.length:,} bytes"
        elif error is None and self.opening.untabbed == self._lines + number - 1:
            self.opening = self.opening.with_line(self._place, line)
            if not self._may_be_corrupt:
                self.check_opening()
        if self._sampled is not None and not self._is_sampled(self._sampled, number, line):
            return
        self._count(number, line, reason, detail)
        if not self._may_be_corrupt:
            self.check_limit()

    def _count(self, number: int, line: str, reason: str, detail: str) -> None:
        path = self._path
        self.reasons[reason] += 1
        self.files[path] += 1
        raw = raw_bytes(line)
        self._saved_bytes += len(raw)
        if self._saved_bytes > self._save_limit or len(self.saved) >= _SAVED_AT_MOST:
            self.truncated = True
        if self.truncated or isinstance(line, OversizedLine):
            self.unsaved.add(path)
        else:
            self.saved.append(BadRecord(path, number, reason, detail, raw))
        begins = shortened(line, 80)
        self._last = f"{path}, line {number}: {detail or reason}; it begins with {begins}"
        if len(self.examples.setdefault(reason, ())) < EXAMPLES:
            self.examples[reason] += (self._last,)

    def _is_sampled(self, sampled: SampledMap, number: int, line: str) -> bool:
        """Tell whether a bad record is in the sample; one that `map` was given certainly is."""
        if isinstance(line, OversizedLine):
            return sampled.takes(f"{self._path} {number}")
        return "\t" in line or sampled.takes(line)

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

    def check_opening(self) -> None:
        """Fail where the input begins with lines that are no records.

        Only the first partition can tell: how others begin says nothing of the whole.
        """
        if self._needs_tabs and self.opening.untabbed >= OPENING_LINES:
            raise TaskFailed(explain_untabbed(self.opening))

    def check_limit(self) -> None:
        """Fail where there are more bad records than the job allows."""
        if self._most is not None and self.reasons.total() > self._most:
            raise TaskFailed(
                f"There are more bad records than --max-bad-records allows ({self._most:,}). "
                f"The last one: {self._last}. Nothing was written."
            )


class SampledMap:
    """The user's `map`, called for a sample of the records by their key."""

    def __init__(self, user_map: Callable[..., Any], keys: KeyFilter) -> None:
        self._map = user_map
        self._keys = keys
        self._taken = 0

    def map(self, key: str, dims: list[str], value: str, context: Any) -> Any:
        """Call `map` for a record of the sample."""
        return self._map(key, dims, value, context) if self.takes(key) else None

    def takes(self, key: str) -> bool:
        """Tell whether a record of this key is in the sample, and count it."""
        taken = self._keys.takes(key)
        self._taken += taken
        return taken

    def count(self) -> int:
        """How many records were taken since the last time."""
        taken, self._taken = self._taken, 0
        return taken
