"""``daskmr run --for-each-day``: one run a day, oldest first."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from daskmr.cli.console import write_failure
from daskmr.data.dimensions.dates import days_of, has_form, may_be_relative, parse_date
from daskmr.errors import DaskMRError, InputError, Interrupted
from daskmr.text import counted, format_seconds, printable

if TYPE_CHECKING:
    from daskmr.diagnostics.log import View
    from daskmr.run.result import Result

__all__ = ["run_each_day"]


def run_each_day(
    run_one: Callable[..., object],
    days: str,
    options: dict[str, Any],
    *,
    verbose: bool = False,
    as_json: bool = False,
) -> int:
    """Run a job for each day, and return the exit code of the first day that failed, or 0.

    - `run_one`: runs a job with these options, and calls ``ended(view, result, profile)``.
    - `days`: the range of days.
    Raises `InputError` if the days would replace each other's outputs.
    """
    dates = days_of(days, parse_date(options["date"]))
    _check(options)
    say = _quietly if options["quiet"] or as_json else _say
    if note := _explain_same(options):
        say(f"note: {note}")
    failed: list[tuple[Any, str, int]] = []
    outcomes: Counter[str] = Counter()
    began, shown = time.monotonic(), ""
    for date in dates:
        lines: list[str] = []
        started = time.monotonic()
        try:
            day = {"date": date, "if_changed": True}
            run_one(**{**options, **day, "ended": partial(_collect, lines, as_json)})
            outcome = lines[0].partition(":")[0]
        except DaskMRError as error:
            outcome = "nothing matched" if error.exit_code == 3 else "failed"
            failed.append((date, str(error), error.exit_code))
            if str(error) != shown:  # a mistake in the script is the same every day
                _show(error, f"{date}: {error}", verbose, as_json)
            shown, lines = str(error), [f"{outcome}: exit code {error.exit_code}"]
        except (Interrupted, KeyboardInterrupt) as interrupted:
            interrupted.add_note(
                f"the outputs of {counted(sum(outcomes.values()), 'day')} before {date}"
            )
            raise
        outcomes[outcome] += 1
        say(f"{date}  {'; '.join(lines)}; {format_seconds(time.monotonic() - started)}")
    parts = ", ".join(f"{count:,} {outcome}" for outcome, count in outcomes.items())
    say(f"{counted(len(dates), 'day')}: {parts}; {format_seconds(time.monotonic() - began)}")
    for date, message, code in failed:
        say(f"  {date} (exit code {code}): {message.splitlines()[0]}")
    return failed[0][2] if failed else 0


def _check(options: dict[str, Any]) -> None:
    for name in ("output", "report"):
        if options[name] is not None and not has_form(options[name]):
            raise InputError(
                f"--for-each-day writes one --{name} a day, but {options[name]!r} is the same for all of "
                f"them. Put the date in it, as in --{name} 'result-{{date}}.{_suffix(name)}'"
            )


def _suffix(name: str) -> str:
    return "txt" if name == "output" else "html"


def _explain_same(options: dict[str, Any]) -> str:
    """Return a note if nothing but the output depends on the day."""
    path, where = options["input_filter"], " ".join(options["where"] or ())
    text = where if path is None else f"{where} {path}"
    if isinstance(path, str):
        try:
            with open(path, encoding="utf-8") as file:
                text += file.read()
        except (OSError, ValueError):
            return ""  # the run explains it
    given = [options["data_dir"], options["params"], text]
    if has_form(given) or may_be_relative(text):
        return ""
    return (
        "neither the input nor a parameter depends on the day. Use {date} in --data-dir, --where or "
        "--param, or a relative date in --where"
    )


def _collect(
    lines: list[str], as_json: bool, show: View, result: Result, profile: str | None
) -> None:
    """Show the result of a day, for a program; and say what became of the day, first in a few words."""
    if as_json:
        show.summary(result, profile)
    lines += ["up to date"] if result.up_to_date else _outcome(result)


def _outcome(result: Result) -> Iterator[str]:
    figures = f"{counted(result.records, 'record')}, {counted(result.lines, 'line')}"
    yield f"done: {figures} to {result.output}"
    if result.bad_records:
        yield counted(result.bad_records, "bad record")
    for note in result.notes:
        if not note.startswith("--if-changed"):
            yield f"note: {note}"


def _say(text: str) -> None:
    click.echo(printable(text), err=True)


def _quietly(text: str) -> None:
    """Write nothing."""


def _show(error: DaskMRError, message: str, verbose: bool, as_json: bool) -> None:
    details = error.details
    if verbose:
        import traceback

        details = "".join(traceback.format_exception(error))
    write_failure(message, details, error.exit_code, as_json)
