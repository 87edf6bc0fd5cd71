"""Show a result in a notebook or an interactive session: its figures and first rows."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from daskmr.tasks.guard import shortened
from daskmr.text import counted, format_bytes, format_seconds

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["as_html", "as_text"]

_ROWS = 10  # rows of the result shown
_REASONS = 5
_LONGEST = 80  # characters of a key or a value
_CELL = "text-align: left; vertical-align: top"


def as_text(result: Result) -> str:
    """Format a result as one line."""
    where = "in memory" if result.output is None else f"to {result.output}"
    return (
        f"<Result: {counted(result.records, 'record')} in {counted(result.files, 'file')}, "
        f"{counted(result.bad_records, 'bad record')}; {counted(result.lines, 'line')} {where}; "
        f"{format_seconds(result.timings.get('total', 0.0))}>"
    )


def as_html(result: Result, rows: Iterable[Any] | None) -> str:
    """Format a result as a table of figures and a table of its first rows.

    - `rows`: the rows of the result; ``None`` if it has an output file.
    """
    body = "".join(_row(title, text) for title, text in _figures(result))
    table = f"<table><caption><b>daskmr result</b></caption><tbody>{body}</tbody></table>"
    return table if rows is None else table + _first_rows(list(islice(rows, _ROWS)), result.lines)


def _row(title: str, text: str) -> str:
    return f'<tr><th style="{_CELL}">{_escape(title)}</th><td style="{_CELL}">{_escape(text)}</td></tr>'


def _escape(text: str) -> str:
    return html.escape(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _figures(result: Result) -> Iterator[tuple[str, str]]:
    yield (
        "read",
        f"{counted(result.records, 'record')} in {counted(result.files, 'file')}, "
        f"{format_bytes(result.bytes)} as stored",
    )
    keys = f" for {counted(result.key_count, 'key')}" if result.key_count else ""
    size = f", {format_bytes(result.output_bytes)}" if result.output_bytes else ""
    parts = f" in {counted(result.output_parts, 'part')}" if result.output_parts else ""
    where = ", to iterate over" if result.output is None else f" to {result.output}{parts}{size}"
    yield "wrote", f"{counted(result.lines, 'line')}{keys}{where}"
    for name, other in result.outputs.items():
        yield f"output {name}", counted(other.lines, "line")
    phases = (f"{name} {t:.1f}" for name, t in result.timings.items() if name != "total")
    total = format_seconds(result.timings.get("total", 0.0))
    yield "time", f"{total} ({', '.join(phases)})"
    if result.fetched or result.cached:
        yield (
            "fetched",
            f"{counted(result.fetched, 'object')}, {format_bytes(result.fetched_bytes)}",
        )
        yield "cached", f"{counted(result.cached, 'object')}, {format_bytes(result.cached_bytes)}"
    if result.spilled:
        yield "spilled", format_bytes(result.spilled)
    if result.skipped_count:
        yield "not in the layout", counted(result.skipped_count, "path")
    for title, files in (
        ("corrupt, skipped", result.corrupt),
        ("crashed their worker, skipped", result.poisoned),
        ("missing, skipped", result.missing),
    ):
        if files:
            yield title, counted(len(files), "file")
    for note in result.notes:
        yield "note", note
    yield "bad records", f"{result.bad_records:,}"
    for reason, count in islice(result.bad_reasons.items(), _REASONS):
        yield "", f"{count:,} x {reason}"
    if result.bad_records_path is not None:
        yield "", f"saved in {result.bad_records_path}"


def _first_rows(rows: Sequence[Any], lines: int) -> str:
    if not rows:
        return ""
    pairs = all(isinstance(row, tuple) and len(row) == 2 for row in rows)
    head = "<thead><tr><th>key</th><th>value</th></tr></thead>" if pairs else ""
    body = ""
    for row in rows:
        texts = (_escape(_show(value)) for value in (row if pairs else (row,)))
        cells = "".join(f'<td style="{_CELL}">{text}</td>' for text in texts)
        body += f"<tr>{cells}</tr>"
    more = f"<caption>the first {len(rows):,} of {lines:,}</caption>" if lines > len(rows) else ""
    return f"<table>{more}{head}<tbody>{body}</tbody></table>"


def _show(value: Any) -> str:
    """Format text unchanged, and any other value by its ``repr``; shorten both."""
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[: _LONGEST - 3]}..."
    return shortened(value, _LONGEST)
