"""What goes to standard error: to a terminal, to a log, or to a program.

`choose` gives the `Show` that fits. It is a watcher of the run, and is told of the summary or the
failure in the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from daskmr.diagnostics.collector import Watcher
from daskmr.diagnostics.looks import Plan
from daskmr.diagnostics.pace import Pace, format_seconds
from daskmr.diagnostics.summary import format_bytes, summarise
from daskmr.history import Look
from daskmr.stdio import outlasting
from daskmr.tasks.prints import Rate
from daskmr.tasks.progress import Printed

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = [
    "InlineTerminal",
    "JsonLog",
    "Show",
    "Terminal",
    "TextLog",
    "choose",
    "describe_look",
    "json_error",
]

_FIRST_SECONDS = 5.0  # of a run, before a log says how far it is
_PAUSES = (5.0, 5.0, 10.0, 10.0, 20.0)  # seconds to the next time; then always
_LAST_PAUSE = 30.0
_JSON_SECONDS = 5.0
_BURST = 200  # printed lines that are shown at once
_A_SECOND = 20.0  # and on the whole
_LONG_NAME = 40  # characters of a file's name in front of what was printed, on a terminal
_CONTROLS = {code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) != "\t"}
# What ends a line, or turns the direction of what follows.
_CONTROLS |= {code: f"\\u{code:04x}" for code in [*range(0x2028, 0x202F), *range(0x2066, 0x206A)]}


class Show(Watcher):
    """Shows a run in lines of text, of which only those that the script prints come by themselves.

    Parameters
    ----------
    stream : text file
        Where to.
    quiet : bool
        Nothing but what the script prints, and failures.
    """

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._rate = Rate(_BURST, _A_SECOND)
        self._left_out = 0
        self._loading: set[tuple[str, int, str]] = set()

    def printed(self, line: Printed) -> None:
        """Show a line that the script has printed, unless there are too many."""
        self._left_out += line.left_out
        if not line.text and not line.script and line.left_out:
            return
        if not line.function:  # as the script is loaded: by each worker anew
            said = line.script, line.script_line, line.text
            if said in self._loading:
                return
            self._loading.add(said)
        if self._rate.allows():
            self.show_printed(line)
        else:
            self._left_out += 1

    def show_printed(self, line: Printed) -> None:
        """Show it."""
        place = _describe_place(line)
        self.write(f"[{place}] {_printable(line.text)}" if place else _printable(line.text))

    def end(self, result: Any) -> None:
        """Say how much was left out."""
        if self._left_out:
            self.tell_left_out(self._left_out)
            self._left_out = 0

    def tell_left_out(self, count: int) -> None:
        """Say that so many printed lines were not shown."""
        self.write(
            f"daskmr: {count:,} more lines that the script printed were left out: they came too fast."
        )

    def summary(self, result: Result, profile: str | None) -> None:
        """Show the summary, and where the profile is, if there is one."""
        if not self._quiet:
            self.write(summarise(result, profile or ""))
        elif profile is not None:
            self.write(f"profile  {profile}")

    def write(self, text: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError):  # nobody may be there to be told
            self._stream.write(f"{text}\n")
            self._stream.flush()


class TextLog(Show):
    """Shows how far a run is in a line now and then."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._pace = Pace()
        self._started = time.monotonic()
        self._next = _FIRST_SECONDS
        self._address = ""
        self._pauses = iter(_PAUSES)

    def look(self, look: Look) -> None:
        """Say how far it is, if it is time."""
        self._pace.add(look)
        elapsed = time.monotonic() - self._started
        if elapsed >= self._next and (look.phase != "list" or _has_listed(look)):
            self._next = elapsed + next(self._pauses, _LAST_PAUSE)
            self._tell_address()
            self.write(f"daskmr: {format_seconds(elapsed)} {describe_look(look, self._pace)}")

    def dashboard(self, address: str) -> None:
        """Say where the dashboard is, the next time that anything is said."""
        self._address = address

    def _tell_address(self) -> None:
        if self._address:
            self.write(f"daskmr: the dashboard is at {self._address}")
            self._address = ""


class InlineTerminal(TextLog):
    """Shows how far the listing is in place, and the rest in lines: there may be a debugger then."""

    def __init__(self, stream: TextIO) -> None:
        from daskmr.diagnostics.terminal import Display

        super().__init__(stream)
        self._display = Display(stream)
        self._begun = False

    def begin(self, plan: Plan) -> None:
        """Make way for what comes."""
        self._begun = True
        self._display.end()

    def look(self, look: Look) -> None:
        """Show how far the listing is, or say how far the rest is."""
        if self._begun:
            super().look(look)
        else:
            self._display.look(look)

    def end(self, result: Any) -> None:
        """Remove what is shown."""
        self._display.end()
        super().end(result)

    def write(self, text: str) -> None:
        """Write a line above what is shown."""
        with contextlib.suppress(OSError):
            self._display.write(f"{text}\n")


class Terminal(Show):
    """Shows a run in a few lines that change in place.

    Parameters
    ----------
    stream : text file
        The terminal.
    shared : bool
        The output goes to the terminal too, so there is nothing to be shown beside it.
    """

    def __init__(self, stream: TextIO, shared: bool = False) -> None:
        from daskmr.diagnostics.terminal import Display

        super().__init__(stream)
        self._shared = shared
        self._display = Display(stream)

    def begin(self, plan: Plan) -> None:
        """Show what will be done."""
        self._display.begin(plan)

    def phase(self, name: str) -> None:
        """Make way for the output, if need be."""
        if name == "write" and self._shared:
            self._display.end()

    def look(self, look: Look) -> None:
        """Show how far it is."""
        self._display.look(look)

    def dashboard(self, address: str) -> None:
        """Show where the dashboard is."""
        self._display.dashboard(address)

    def show_printed(self, line: Printed) -> None:
        """Show it above the rest, with its place set back."""
        place = _describe_place(line, _LONG_NAME)
        dim, plain = ("", "") if "NO_COLOR" in os.environ else ("\x1b[2m", "\x1b[22m")
        marked = f"{dim}[{place}]{plain} " if place else ""
        self.write(f"{marked}{_printable(line.text)}")

    def end(self, result: Any) -> None:
        """Remove what is shown."""
        self._display.end()
        super().end(result)

    def write(self, text: str) -> None:
        """Write a line above what is shown."""
        with contextlib.suppress(OSError):
            self._display.write(f"{text}\n")


class JsonLog(Show):
    """Tells a program of a run: one JSON object a line."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        super().__init__(stream, quiet)
        self._pace = Pace()
        self._next = time.monotonic() + _JSON_SECONDS

    def phase(self, name: str) -> None:
        """Tell of a phase."""
        self._tell("phase", phase=name)

    def begin(self, plan: Plan) -> None:
        """Tell what will be done."""
        self._tell("plan", **dataclasses.asdict(plan))

    def look(self, look: Look) -> None:
        """Tell how far it is, if it is time."""
        self._pace.add(look)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _JSON_SECONDS
            pace = self._pace
            fields = dataclasses.asdict(look)
            del fields["counts"]
            self._tell(
                "progress",
                **fields,
                **look.counts.as_dict(),
                records_per_second=pace.records,
                bytes_per_second=pace.bytes,
                seconds_left=pace.left,
            )

    def dashboard(self, address: str) -> None:
        """Tell where the dashboard is."""
        self._tell("dashboard", address=address)

    def show_printed(self, line: Printed) -> None:
        """Tell of a line that the script has printed."""
        told = line._asdict()
        del told["left_out"]
        self._put({"event": "print", "time": told.pop("at"), **told})

    def tell_left_out(self, count: int) -> None:
        """Tell how many of those were left out."""
        self._put({"event": "left out", "time": time.time(), "lines": count})

    def note(self, text: str) -> None:
        """Tell what anybody else has written to standard error."""
        for line in text.splitlines():
            self._put({"event": "note", "time": time.time(), "text": line})

    def summary(self, result: Result, profile: str | None) -> None:
        """Tell what the run has done."""
        self._tell("summary", **_counts(result), profile=profile)

    def _tell(self, event: str, **fields: Any) -> None:
        if not self._quiet:
            self._put({"event": event, "time": time.time(), **fields})

    def _put(self, content: Mapping[str, Any]) -> None:
        self.write(json.dumps(content, default=str))


def choose(
    stream: TextIO, *, quiet: bool, as_json: bool, inline: bool, output: TextIO | Any
) -> Show:
    """Choose how a run is shown.

    Parameters
    ----------
    stream : text file
        Standard error.
    quiet, as_json, inline : bool
        What the options say.
    output : binary file or None
        Standard output, if the result goes there.
    """
    if as_json:
        return JsonLog(stream, quiet)
    if quiet:
        return Show(stream, quiet)
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return TextLog(stream)
    if inline:
        return InlineTerminal(stream)
    return Terminal(stream, shared=output is not None and output.isatty())


@contextlib.contextmanager
def notes_to(show: Show) -> Iterator[None]:
    """Have what this process writes to standard error told as notes, where a program reads it."""
    if not isinstance(show, JsonLog):
        yield
        return
    before = sys.stdout, sys.stderr
    from daskmr.diagnostics.terminal import Above

    above = outlasting(Above(sys.stderr, show.note))
    sys.stdout = sys.stderr = above
    try:
        yield
    finally:
        above.end()
        sys.stdout, sys.stderr = before


def json_error(message: str, details: str, code: int) -> str:
    """Tell a program why the command has failed."""
    content = {
        "event": "error",
        "time": time.time(),
        "message": message,
        "details": details,
        "exit_code": code,
    }
    return json.dumps(content)


def describe_look(look: Look, pace: Pace) -> str:
    """Say in a line how far a run is.

    >>> from daskmr.counts import Counts
    >>> from daskmr.history import Progress
    >>> done = Progress(files=3, files_total=12, bytes=1_500_000, bytes_total=6_000_000)
    >>> describe_look(Look(0.0, "map", {"map": done}, Counts(records=900)), Pace())
    'map 25 %, 3 of 12 files, 1.5 MB of 6.0 MB, 900 records'
    """
    told = [look.phase]
    progress = look.progress.get(look.phase)
    if progress is not None and progress.bytes_total:
        told[0] += f" {100 * progress.bytes / progress.bytes_total:.0f} %"
        told.append(f"{progress.files:,} of {progress.files_total:,} files")
        told.append(f"{format_bytes(progress.bytes)} of {format_bytes(progress.bytes_total)}")
    elif progress is not None and progress.tasks_total:
        told[0] += f" {100 * progress.tasks / progress.tasks_total:.0f} %"
    elif progress is not None:
        told.append(f"{progress.files:,} files")
    if look.records:
        told.append(f"{look.records:,} records")
    if pace.records:
        told.append(f"{pace.records:,.0f} records/s")
    if pace.bytes:
        told.append(f"{format_bytes(pace.bytes)}/s")
    if pace.left is not None:
        told.append(f"ETA {format_seconds(pace.left)}")
    if look.bad_records:
        told.append(f"{look.bad_records:,} bad records")
    if look.spilled:
        told.append(f"{format_bytes(look.spilled)} spilled")
    return ", ".join(told)


def _has_listed(look: Look) -> bool:
    """Whether a listing has begun: what comes before has nothing to tell."""
    listed = look.progress.get("list")
    return listed is not None and (listed.files > 0 or listed.tasks > 0)


def _describe_place(line: Printed, longest: int | None = None) -> str:
    """Say where a printed line comes from: the record or key, and the line of the script."""
    file = line.file
    if longest is not None and len(file) > longest:
        file = f"…{file[-longest:]}"
    about = f"{file}:{line.line}" if file else f"{line.function} {line.key}".strip()
    script = f"{line.script}:{line.script_line}" if line.script else ""
    return _printable(" ".join(part for part in (about, script) if part))


def _printable(text: str) -> str:
    """Show what would move the cursor, or is no character, as escapes."""
    return text.translate(_CONTROLS).encode("utf-8", "backslashreplace").decode("utf-8")


_UNTOLD = ("counts", "saved_bad_records", "profile", "history")


def _counts(result: Result) -> dict[str, Any]:
    """All of a result but what is large, or nobody else's business."""
    names = [field.name for field in dataclasses.fields(result)]
    told = {
        name: getattr(result, name)
        for name in names
        if name not in _UNTOLD and not name.startswith("_")
    }
    return told | result.counts.as_dict()
