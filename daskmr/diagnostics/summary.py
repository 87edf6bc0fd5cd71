"""Summarize a run as text for people, and compute the figures shared with the report."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from daskmr.text import counted, format_bytes, printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = [
    "bad_groups",
    "bad_share",
    "counter_rows",
    "describe_steps",
    "skipped_input",
    "summarise",
    "worst_files",
]

_NAMED = 10  # files listed before "and N more"
_MANY_VALUES = 10_000  # with fewer values, skew does not matter
_HOT_SHARE, _HOT_TIMES = 0.1, 10.0  # share of all values, and multiple of a key's average
_HOT_NAMED = 3
_COUNTERS = 40
_FUNCTIONS = 6


def summarise(result: Result, profile: str = "") -> str:
    """Return the summary of a run; `profile` is the path of its profile, if there is one.

    Skipped input comes last, where people see it.
    """
    if result.up_to_date:
        size = f"{counted(result.files, 'file')}, {format_bytes(result.bytes)}"
        return f"up to date: {printable(result.output or '')} (the same job over the same {size})"
    timings = result.timings
    phases = ", ".join(f"{name} {took:.1f}" for name, took in timings.items() if name != "total")
    lines = [
        f"read     {counted(result.records, 'record')} in {counted(result.files, 'file')}, "
        f"{format_bytes(result.bytes)} as stored",
        f"wrote    {_describe_output(result)}",
        f"time     {timings['total']:.1f} s ({phases})",
    ]
    lines[2:2] = [f"         {_describe_output(each)}" for each in result.outputs.values()]
    lines[1:1] = describe_steps(result)
    if result.sample:
        lines.insert(1, f"sample   {result.sample}: the output covers only a part of the input")
    if result.fetched or result.cached:
        lines.append(
            f"fetched  {counted(result.fetched, 'object')}, {format_bytes(result.fetched_bytes)}; in the "
            f"cache before: {result.cached:,}, {format_bytes(result.cached_bytes)}"
        )
    if result.spilled:
        lines.append(f"spilled  {format_bytes(result.spilled)} to disk, since removed")
    if result.deleted:
        lines.append(f"deleted  {counted(result.deleted, 'input file')}")
    lines += _describe_skew(result)
    lines += _describe_counters(result)
    lines += _describe_profile(result, profile)
    lines += _describe_skipped(result)
    lines += _describe_bad_records(result)
    return "\n".join(map(printable, lines))


def describe_steps(result: Result) -> list[str]:
    """Describe what each step of a job with several did."""
    lines = []
    for number, step in enumerate(result.steps, 1):
        unit = "line" if number == len(result.steps) else "pair"
        title = f"step {number} {step.name}".rstrip()
        text = f"{counted(step.records, 'record' if number == 1 else 'pair')} gave "
        text += counted(step.written, unit)
        text += f" for {counted(step.keys, 'key')}" if step.keys else ""
        text += f"; {step.bad_records:,} bad" if step.bad_records else ""
        text += f"; {step.seconds:.1f} s" + (f"; kept in {step.kept}" if step.kept else "")
        lines.append((title, text))
    width = max((len(title) for title, _ in lines), default=0)
    return [f"{title:{max(8, width)}} {text}" for title, text in lines]


def _describe_output(result: Result) -> str:
    where = "standard output" if result.output == "-" else result.output
    size = f", {format_bytes(result.output_bytes)}" if result.output_bytes else ""
    parts = f" in {counted(result.output_parts, 'part')}" if result.output_parts else ""
    keys = f" for {counted(result.key_count, 'key')}" if result.key_count else ""
    return f"{counted(result.lines, 'line')}{keys} to {where}{parts}{size}"


def _describe_skew(result: Result) -> list[str]:
    """List the hottest keys if they have much more than their share of many values."""
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
    rows = [(printable(g), printable(n), f"{count:,}") for g, n, count in counter_rows(result)]
    if not rows:
        return []
    shown = rows[:_COUNTERS]
    groups, names, counts = (max(map(len, column)) for column in zip(*shown, strict=True))
    lines = ["counters"]
    last = None
    for group, name, count in shown:
        lines.append(
            f"  {group if group != last else '':{groups}}  {name:{names}}  {count:>{counts}}"
        )
        last = group
    if len(rows) > len(shown):
        where = f" in {result.meta_path}" if result.meta_path else ""
        lines.append(f"  and {len(rows) - len(shown):,} more{where}")
    return lines


def _describe_profile(result: Result, path: str) -> list[str]:
    """List the slowest functions: the script's by total time, then others by own time."""
    if not path:
        return []
    # A function (file, line, name), its number of calls, its own seconds, and its total seconds.
    rows = [(key, figures[1:4]) for key, figures in (result.profile or {}).items()]
    script = [row for row in rows if result.is_own_file(row[0][0])]
    others = [row for row in rows if not result.is_own_file(row[0][0])]
    lines = [f"profile  {path}"]
    if rows:
        lines.append("    own s   total s       calls")
    for (file, line, name), (calls, own, total) in (
        *heapq.nlargest(_FUNCTIONS, script, key=lambda row: row[1][2]),
        *heapq.nlargest(_FUNCTIONS, others, key=lambda row: row[1][1]),
    ):
        where = f" ({os.path.basename(file)}, line {line})" if line else ""
        lines.append(f"  {own:7.2f}  {total:8.2f}  {calls:10,}  {name}{where}")
    if os.path.isfile(path):
        quoted = shell_path(path)
        lines.append(f"  open it with python -m pstats {quoted}, or snakeviz {quoted}")
    return lines


def counter_rows(result: Result) -> list[tuple[str, str, int]]:
    """Return the counters of the script: group, name, count."""
    groups = result.counters.items()
    return [(group, name, count) for group, names in groups for name, count in names.items()]


def skipped_input(result: Result) -> list[tuple[str, Sequence[str], int]]:
    """Return the skipped input: a heading for each kind, some of its items, and their number."""
    reasons = result.skipped_reasons or [""] * len(result.skipped)
    skipped = [
        f"{path}{f': {reason}' if reason else ''}"
        for path, reason in zip(result.skipped, reasons, strict=True)
    ]
    kinds = [
        ("not in the layout", "path", skipped, result.skipped_count),
        *(
            (title, noun, [reason for _, reason in items], len(items))
            for title, noun, items in (
                ("corrupt", "file", result.corrupt),
                ("crashed their worker", "file", result.poisoned),
                ("could not be fetched", "object", result.missing),
            )
        ),
    ]
    return [
        (f"{title}, skipped: {counted(count, noun)}", items, count)
        for title, noun, items, count in kinds
        if count
    ]


def worst_files(result: Result, count: int) -> list[tuple[str, int]]:
    """Return the files with the most bad records, and how many each has."""
    return heapq.nsmallest(count, result.bad_files.items(), key=lambda item: (-item[1], item[0]))


def bad_share(result: Result) -> str:
    """Return the percentage of bad records, or ``""`` if there are none, or some in later steps."""
    share = f"{100 * result.bad_records / max(1, result.records):.3g}%"
    return share if result.bad_records and not _bad_pairs(result) else ""


def _bad_pairs(result: Result) -> int:
    return sum(step.bad_records for step in result.steps[1:])


def bad_groups(result: Result) -> list[tuple[str, Sequence[str], int]]:
    """Return the most frequent reasons for bad records, each with some of them, and their number."""
    groups: list[tuple[str, Sequence[str], int]] = [
        (f"{count:,} x {reason}", result.bad_examples.get(reason, ()), count)
        for reason, count in result.bad_reasons.items()
    ]
    others = groups[_NAMED:]
    if others:
        count = sum(count for *_, count in others)
        groups[_NAMED:] = [(f"{count:,} for {len(others):,} other reasons", (), count)]
    return groups


def _describe_skipped(result: Result) -> list[str]:
    lines = []
    for heading, items, count in skipped_input(result):
        lines += [heading, *_named(items, count)]
    return lines + [f"note: {note}" for note in result.notes]


def _describe_bad_records(result: Result) -> list[str]:
    share = bad_share(result)
    lines = [f"bad records: {result.bad_records:,}{f' ({share})' if share else ''}"]
    for heading, examples, _ in bad_groups(result):
        lines += [f"  {heading}", *(f"    {example}" for example in examples)]
    if result.bad_records:
        worst = (f"{count:,} in {path}" for path, count in worst_files(result, _NAMED))
        lines += _named(worst, len(result.bad_files)) + _saved(result)
    return lines


def _saved(result: Result) -> list[str]:
    path, saved = result.bad_records_path, len(result.saved_bad_records)
    if path is None:
        why = "they are larger than bad-records-saved allows"
        if result.steps and not result.steps[0].bad_records:
            why = "they are pairs of a step, not records of the input"
        return [f"  none were saved: {why}"]
    if saved == result.bad_records:
        lines = [f"  all saved in {path}"]
    elif saved == result.bad_records - _bad_pairs(result):
        lines = [f"  {saved:,} of them saved in {path}; the others are pairs of later steps"]
    else:
        lines = [f"  {saved:,} of them saved in {path} (limit: daskmr.bad-records-saved)"]
    if result.script is not None:
        again = f"daskmr replay {shell_path(path)}"
        if result.meta_path is None:  # otherwise replay reads script and schema from it
            again += f" --script {shell_word(result.script)}"
            names = [name for name in ("layout", "schema") if result.settings.get(name)]
            for name in names[:1]:
                again += f" --{name} {shell_word(result.settings[name])}"
        lines.append(f"  to map them again: {again}")
    return lines


def _named(texts: Iterable[str], count: int) -> list[str]:
    shown = [f"  {text}" for text, _ in zip(texts, range(_NAMED), strict=False)]
    if count > len(shown):
        shown.append(f"  and {count - len(shown):,} more")
    return shown
