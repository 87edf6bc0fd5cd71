"""End a command with its exit code, and format text for a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from typing import IO, Any, NoReturn

import click

from daskmr.errors import DaskMRError, Interrupted, JobError
from daskmr.stdio import Ticker, standard_output
from daskmr.text import printable

__all__ = [
    "EPILOG",
    "SAVED_INPUT",
    "Paint",
    "announced",
    "ends_process",
    "exit_codes",
    "leave",
    "listing_line",
    "painter",
    "progress_line",
    "write_failure",
]  # fmt: skip

EPILOG = (
    "Exit codes: 0 done, 1 the job failed, 2 bad usage or input, or nothing fits the layout, "
    "3 the filter matched nothing, 4 another run holds the lock, 130, 143, 129 interrupted."
)

SAVED_INPUT = "input.saved"  # names standard input in the command line that runs its data again

Paint = Callable[[str, str], str]
"""A function that colours a text in the style ``"title"``, ``"faint"`` or ``"warning"``, or not."""

_STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "faint": {"fg": "blue"},
    "warning": {"fg": "yellow"},
}
_in_place = ""  # the text of the progress line
_LINES = 24  # lines of a traceback, so that a failure fits on a screen


# --- the end --------------------------------------------------------------------------------------


def ends_process(work: Callable[..., None]) -> Callable[..., None]:
    """Decorate the callback of a command: pass it standard output, and end the process after it.

    Text that scripts print does not reach standard output, and their threads and processes do not
    delay the end.
    """

    @wraps(work)
    def guarded(*args: Any, **options: Any) -> None:
        from daskmr.signals import kill_children, signals

        with standard_output() as stdout, exit_codes(options.pop("verbose", False)), signals():
            work(stdout, *args, **options)
            kill_children()
            leave(0)

    return guarded


@contextmanager
def exit_codes(
    verbose: bool = False, rerun: Callable[[str], str] | None = None, as_json: bool = False
) -> Iterator[None]:
    """End the process with the documented code and one clear paragraph.

    - `verbose`: show complete tracebacks.
    - `rerun`: returns the command that runs one input file again; for ``""``, the entire job
      without workers.
    - `as_json`: write one JSON object instead of text.
    """
    try:
        yield
    except DaskMRError as error:
        details = error.details
        if verbose:
            import traceback

            details = traceback.format_exc()
        elif not as_json:
            details = _shortened(details)
        hints = _hints(error, rerun) if isinstance(error, JobError) and rerun is not None else ""
        _fail(f"{error}{hints}", details, error.exit_code, as_json)
    except (Interrupted, KeyboardInterrupt) as error:
        code = error.exit_code if isinstance(error, Interrupted) else 130
        written = " but ".join(["nothing was written", *getattr(error, "__notes__", [])[:1]])
        _fail(f"Interrupted; {written}.", "", code, as_json)
    except RuntimeError as error:  # Python 3.11 wraps exceptions raised while a class is created
        if not isinstance(error.__cause__, Interrupted):
            raise
        _fail("Interrupted; nothing was written.", "", error.__cause__.exit_code, as_json)
    except BrokenPipeError:
        _fail("Standard output was closed before the result was complete.", "", 1, as_json)


def _hints(error: JobError, rerun: Callable[[str], str]) -> str:
    """Return the record at which a job failed, and the command that runs its file alone."""
    lines = [f"The record: {error.record}"] if error.record else []
    # The file of any other failure would only fail again, with the same message.
    if error.details or error.record or error.is_death:
        command = rerun(error.file)
        scope = "only that file" if error.file else "it without workers"
        if SAVED_INPUT in command.split():
            scope = f"it without workers, with the input first saved as {SAVED_INPUT}"
        lines += [f"To run {scope}, so that breakpoint() works:", f"  {command}"]
    return "".join(f"\n{line}" for line in lines)


def _shortened(details: str) -> str:
    """Omit lines from the middle of a long traceback."""
    lines = details.splitlines()
    if len(lines) <= _LINES:
        return details
    left_out = f"  ... ({len(lines) - _LINES:,} lines omitted; --verbose shows them)"
    return "\n".join([*lines[: _LINES // 3], left_out, *lines[-2 * _LINES // 3 :]])


def _fail(message: str, details: str, code: int, as_json: bool = False) -> NoReturn:
    from daskmr.signals import kill_children

    kill_children()  # including those that a script started in this process
    write_failure(message, details, code, as_json)
    leave(code)


def write_failure(message: str, details: str, code: int, as_json: bool = False) -> None:
    """Write the message of a failure to standard error, after its details, or as one JSON object."""
    text = f"daskmr: {message}\n" if not details else f"{details.rstrip()}\n\ndaskmr: {message}\n"
    if as_json:
        from daskmr.diagnostics.log import json_error

        text = f"{json_error(message, details, code)}\n"
    with suppress(OSError):
        sys.stderr.write(re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text))


def leave(code: int) -> NoReturn:
    """Exit immediately: threads that a script started must not delay the exit."""
    from daskmr.signals import clean_up

    clean_up()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


# --- a terminal -----------------------------------------------------------------------------------


def painter(stdout: IO[bytes]) -> Paint:
    """Return a function that colours text on a terminal unless NO_COLOR is set (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not stdout.isatty():
        return lambda text, style: text
    return lambda text, style: click.style(text, **_STYLES[style])


@contextmanager
def announced(text: str) -> Iterator[Ticker]:
    """Write a line to a terminal, with what the command does, if the block takes a second, then its time.

    Without a terminal nothing is written. What the block writes must be in `Ticker.cleared`.
    """
    ticker = Ticker(_write_line, f"daskmr: {text}", lambda: None if _in_place else "")
    if sys.stderr.isatty():
        ticker.start()
    try:
        yield ticker
    finally:
        ticker.stop()


@contextmanager
def progress_line() -> Iterator[Callable[[str], None] | None]:
    """Yield a function that shows a text on a line that is cleared at the end.

    Yields ``None`` without a terminal.
    """

    def show(text: str) -> None:
        global _in_place
        _in_place = text
        _write_line(f"\r{text}\x1b[K")

    try:
        yield show if sys.stderr.isatty() else None
    finally:
        if _in_place:
            show("")


@contextmanager
def listing_line() -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function that shows the progress of a listing on a line that is cleared at the end.

    Its arguments are the numbers of prefixes and files so far. Yields ``None`` without a terminal.
    """
    with progress_line() as show:
        if show is None:
            yield None
        else:
            yield lambda prefixes, files: show(f"listing: {files:,} files in {prefixes:,} prefixes")


def _write_line(text: str) -> None:
    with suppress(OSError):  # the terminal may be gone
        sys.stderr.write(text)
        sys.stderr.flush()
