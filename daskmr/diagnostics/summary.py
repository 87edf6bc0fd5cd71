"""The summary of a run, as text for people, and the facts that it shares with the report."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from daskmr.text import counted, format_bytes, printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["Skipped", "bad_share", "skipped_input", "summarise", "worst_files"]

_NAMED = 10  # files that are listed before "and N more"
_MANY_VALUES = 10_000  # below which skew does not matter
_HOT_SHARE, _HOT_TIMES = 0.1, 10.0  # of all values, and times what a key has on average
_HOT_NAMED = 3
_COUNTERS = 40
_FUNCTIONS = 6


def summarise(result: Result, profile: str = "") -> str:
    """Return the summary of a run; `profile` is where its profile was written, if it was.

    What was skipped stands last, where people see it.
    """
    lines = [
        f"read     {counted(result.records, 'record')} in {counted(result.files, 'file')}, "
        f"{format_bytes(result.bytes)} as stored",
        f"wrote    {_describe_output(result)}",
        f"time     {_describe_timings(result.timings)}",
    ]
    if result.sample:
        lines.insert(1, f"sample   {result.sample}: the output is that of a part of the input")
    if result.fetched or result.cached:
        lines.append(
            f"fetched  {result.fetched:,} objects, {format_bytes(result.fetched_bytes)}; in the "
            f"cache before: {result.cached:,}, {format_bytes(result.cached_bytes)}"
        )
    if result.spilled:
        lines.append(f"spilled  {format_bytes(result.spilled)} to disk, since removed")
    if result.deleted:
        lines.append(f"deleted  {result.deleted:,} input files")
    lines += _describe_skew(result)
    lines += _describe_counters(result)
    lines += _describe_profile(result, profile)
    lines += _describe_skipped(result)
    lines += _describe_bad_records(result)
    return "\n".join(map(printable, lines))


def _describe_output(result: Result) -> str:
    where = "standard output" if result.output == "-" else result.output
    size = f", {format_bytes(result.output_bytes)}" if result.output_bytes else ""
    keys = f" for {counted(result.key_count, 'key')}" if result.key_count else ""
    return f"{counted(result.lines, 'line')}{keys} to {where}{size}"


def _describe_timings(timings: dict[str, float]) -> str:
    phases = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in timings.items() if name != "total"
    )
    return f"{timings['total']:.1f} s ({phases})"


def _describe_skew(result: Result) -> list[str]:
    """List the hottest keys, if they have far more than their share of many values."""
    if result.values < _MANY_VALUES or not result.key_count:
        return []
    least = max(_HOT_SHARE, _HOT_TIMES / result.key_count) * result.values
    hot = [key for key in result.history.hot_keys if key.values >= least][:_HOT_NAMED]
    if not hot:
        return []
    about = "" if all(key.exact for key in hot) else "about "
    shares = (f"{min(100.0, 100 * key.values / result.values):.0f}% {key.key}" for key in hot)
    return [f"hottest  keys by share of the {result.values:,} values: {about}{', '.join(shares)}"]


def _describe_counters(result: Result) -> list[str]:
    rows = [
        (printable(group), printable(name), f"{count:,}")
        for group, names in result.counters.items()
        for name, count in names.items()
    ]
    if not rows:
        return []
    shown = rows[:_COUNTERS]
    groups, names, counts = (max(map(len, column)) for column in zip(*shown, strict=True))
    lines = ["counters"]
    last = None
    for group, name, count in shown:
        label = group if group != last else ""
        lines.append(f"  {label:{groups}}  {name:{names}}  {count:>{counts}}")
        last = group
    if len(rows) > len(shown):
        where = f" in {result.meta_path}" if result.meta_path else ""
        lines.append(f"  and {len(rows) - len(shown):,} more{where}")
    return lines


def _describe_profile(result: Result, path: str) -> list[str]:
    """Show what took longest: the script's functions by total time, then others by own time."""
    if not path:
        return []
    rows = [_ProfileRow.of(key, figures) for key, figures in (result.profile or {}).items()]
    script = [row for row in rows if result.is_own_file(row.file)]
    others = [row for row in rows if not result.is_own_file(row.file)]
    shown = [
        *heapq.nlargest(_FUNCTIONS, script, key=lambda row: row.total),
        *heapq.nlargest(_FUNCTIONS, others, key=lambda row: row.own),
    ]
    lines = [f"profile  {path}"]
    if rows:
        lines.append("    own s   total s       calls")
    lines += [row.shown() for row in shown]
    if os.path.isfile(path):
        quoted = shell_path(path)
        lines.append(f"  open it with python -m pstats {quoted}, or snakeviz {quoted}")
    return lines


class _ProfileRow(NamedTuple):
    """A function in a profile: its seconds without and with the functions that it calls."""

    file: str
    line: int
    name: str
    calls: int
    own: float
    total: float

    @classmethod
    def of(cls, key: tuple[str, int, str], figures: tuple[Any, ...]) -> _ProfileRow:
        return cls(*key, figures[1], figures[2], figures[3])

    def shown(self) -> str:
        where = f" ({os.path.basename(self.file)}, line {self.line})" if self.line else ""
        return f"  {self.own:7.2f}  {self.total:8.2f}  {self.calls:10,}  {self.name}{where}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """Input of one kind that a run skipped: how many there are, and some of them."""

    title: str
    count: int
    noun: str
    items: Sequence[str]

    def heading(self) -> str:
        return f"{self.title}: {self.count:,} {self.noun}"


def skipped_input(result: Result) -> list[Skipped]:
    """Return what a run skipped, kind by kind; nothing of a kind that it has none of."""
    outside = "not in the layout, skipped"
    kinds = [Skipped(outside, result.skipped_count, "files or directories", result.skipped)]
    for title, noun, items in (
        ("corrupt, skipped", "files", result.corrupt),
        ("crashed their worker, skipped", "files", result.poisoned),
        ("could not be fetched, skipped", "objects", result.missing),
    ):
        kinds.append(Skipped(title, len(items), noun, [reason for _, reason in items]))
    return [kind for kind in kinds if kind.count]


def worst_files(result: Result, count: int) -> list[tuple[str, int]]:
    """Return the files with most bad records, and how many each has."""
    return heapq.nsmallest(count, result.bad_files.items(), key=lambda item: (-item[1], item[0]))


def bad_share(result: Result) -> str:
    """Return how many records were bad as a percentage, or ``""`` where none was."""
    share = f"{100 * result.bad_records / max(1, result.records):.3g}%"
    return share if result.bad_records else ""


def _describe_skipped(result: Result) -> list[str]:
    lines = []
    for kind in skipped_input(result):
        lines += [kind.heading(), *_named(kind.items, kind.count)]
    return lines + [f"note: {note}" for note in result.notes]


def _describe_bad_records(result: Result) -> list[str]:
    share = bad_share(result)
    lines = [f"bad records: {result.bad_records:,}{f' ({share})' if share else ''}"]
    lines += [f"  {count:,} x {reason}" for reason, count in result.bad_reasons.items()]
    if result.bad_records:
        worst = (f"{count:,} in {path}" for path, count in worst_files(result, _NAMED))
        lines += _named(worst, len(result.bad_files))
        lines += _saved(result)
    return lines


def _saved(result: Result) -> list[str]:
    saved = len(result.saved_bad_records)
    if result.bad_records_path is None:
        return ["  none was saved: they are larger than bad-records-saved allows"]
    path = result.bad_records_path
    some = "all" if saved == result.bad_records else f"the first {saved:,}"
    cap = "" if some == "all" else ", as many as daskmr.bad-records-saved allows"
    lines = [f"  {some} saved in {path}{cap}"]
    if result.script is not None:
        again = f"daskmr replay {shell_path(path)}"
        if result.meta_path is None:  # which holds the rest
            again += f" --script {shell_word(result.script)}"
            schema = result.settings.get("schema")
            again += f" --schema {shell_word(schema)}" if schema else ""
        lines.append(f"  to map them again: {again}")
    return lines


def _named(texts: Iterable[str], count: int) -> list[str]:
    shown = [f"  {text}" for text, _ in zip(texts, range(_NAMED), strict=False)]
    if count > len(shown):
        shown.append(f"  and {count - len(shown):,} more")
    return shown
