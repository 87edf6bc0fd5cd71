"""What a person sees of a job: the summary, on standard error."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import TYPE_CHECKING

from daskmr.units import format_bytes

if TYPE_CHECKING:
    from daskmr.pipeline import Result

__all__ = ["format_bytes", "summarise"]

_NAMED = 10  # files that are named before "and N more"


def summarise(result: Result) -> str:
    """Return the summary of a job: what was read, what was left out, where the result is.

    What was left out stands last, where it is seen.
    """
    lines = [
        f"read     {result.records:,} records in {result.files:,} files, "
        f"{format_bytes(result.bytes)} as stored",
        f"wrote    {_describe_output(result)}",
        f"time     {_describe_timings(result.timings)}",
    ]
    if result.fetched or result.cached:
        lines.append(
            f"fetched  {result.fetched:,} objects, {format_bytes(result.fetched_bytes)}; in the "
            f"cache before: {result.cached:,}, {format_bytes(result.cached_bytes)}"
        )
    if result.spilled:
        lines.append(f"spilled  {format_bytes(result.spilled)} to the work dir, since removed")
    if result.deleted:
        lines.append(f"deleted  {result.deleted:,} input files")
    lines += _left_out(result)
    text = "\n".join(lines)  # with names of files in any encoding
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _describe_output(result: Result) -> str:
    where = "standard output" if result.output == "-" else result.output
    size = f", {format_bytes(result.output_bytes)}" if result.output_bytes else ""
    keys = f" for {result.key_count:,} keys" if result.key_count else ""
    return f"{result.lines:,} lines{keys} to {where}{size}"


def _describe_timings(timings: dict[str, float]) -> str:
    phases = ", ".join(
        f"{name} {seconds:.1f}" for name, seconds in timings.items() if name != "total"
    )
    return f"{timings['total']:.1f} s ({phases})"


def _left_out(result: Result) -> list[str]:
    lines = []
    if result.skipped_count:
        lines.append(f"not in the layout, skipped: {result.skipped_count:,} files or directories")
        lines += _named(result.skipped, result.skipped_count)
    if result.corrupt:
        lines.append(f"corrupt, left out whole: {len(result.corrupt):,} files")
        lines += _named((reason for _, reason in result.corrupt), len(result.corrupt))
    if result.poisoned:
        lines.append(f"killed their worker, left out whole: {len(result.poisoned):,} files")
        lines += _named((reason for _, reason in result.poisoned), len(result.poisoned))
    if result.missing:
        lines.append(f"could not be fetched, left out: {len(result.missing):,} objects")
        lines += _named((reason for _, reason in result.missing), len(result.missing))
    if result.notes:
        lines += [f"note: {note}" for note in result.notes]
    share = f"{100 * result.bad_records / max(1, result.records):.3g}%"
    lines.append(
        f"bad records: {result.bad_records:,}" + (f" ({share})" if result.bad_records else "")
    )
    for reason, count in result.bad_reasons.items():
        lines.append(f"  {count:,} x {reason}")
    if result.bad_records:
        files = result.bad_files.items()
        worst = heapq.nsmallest(_NAMED, files, key=lambda item: (-item[1], item[0]))
        lines += _named((f"{count:,} in {path}" for path, count in worst), len(files))
        lines.append(_saved(result))
    return lines


def _saved(result: Result) -> str:
    saved = len(result.saved_bad_records)
    if result.bad_records_path is None:
        return "  none of them was saved: they are larger than bad-records-saved allows"
    some = "all" if saved == result.bad_records else f"the first {saved:,}"
    return f"  {some} saved in {result.bad_records_path}"


def _named(texts: Iterable[str], count: int) -> list[str]:
    shown = [f"  {text}" for text, _ in zip(texts, range(_NAMED), strict=False)]
    if count > len(shown):
        shown.append(f"  and {count - len(shown):,} more")
    return [line.encode("utf-8", "backslashreplace").decode("utf-8") for line in shown]
